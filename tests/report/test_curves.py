import subprocess
import sys

import numpy as np
import pytest
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_rgba

from jbn.errors import InputError
from jbn.report import learning_curves
from jbn.report.curves import _LOST, _PLAIN, _figure
from jbn.store import SegmentRows, create, read

NAN = float("nan")
RATES = np.array([0.01, 0.1, 1.0, 10.0])
CURVES = np.array([[0.5, 0.75, 1.0], [0.5, 0.625, 0.75], [0.25, 0.5, NAN], [0.125, NAN, NAN]])
STATUS = ["done", "done", "stopped", "diverged"]


def sweep(folder, curves=CURVES, status=STATUS, **hypers):
    ids = np.arange(len(curves))
    with create(folder, settings={}, configs=hypers or {"learning_rate": RATES}, seeds=1) as store:
        for segment, accuracy in enumerate(np.asarray(curves).T):
            store.write_segment(segment, SegmentRows(ids, 0 * ids, ids, accuracy, 1 - accuracy, accuracy))
        store.write_table(ids, np.array(status), ids, np.full(len(ids), NAN), np.full(len(ids), NAN))
    return folder


def collections(axes, kind):
    return [found for found in axes.collections if type(found) is kind]


def test_every_configuration_is_a_line(tmp_path):
    left = _figure(read(sweep(tmp_path))).axes[0]
    well, lost = collections(left, LineCollection)
    drawn = sorted((line.tolist() for line in well.get_segments()), key=len)
    assert drawn == [
        [[1, 0.25], [2, 0.5]],
        *sorted([[[1, 0.5], [2, 0.625], [3, 0.75]], [[1, 0.5], [2, 0.75], [3, 1.0]]]),
    ]
    assert [line.tolist() for line in lost.get_segments()] == [[[1, 0.125]]]


def test_diverged_ones_are_grey_and_dashed_up_to_where_they_ended(tmp_path):
    curves = np.array([[0.5, 0.5, 0.5], [0.25, 0.5, NAN]])
    folder = sweep(tmp_path, curves, ["done", "diverged"], learning_rate=RATES[:2])
    well, lost = collections(_figure(read(folder)).axes[0], LineCollection)
    assert [line.tolist() for line in lost.get_segments()] == [[[1, 0.25], [2, 0.5]]]
    assert tuple(lost.get_colors()[0][:3]) == to_rgba(_LOST)[:3]
    assert len({round(part, 6) for part in to_rgba(_LOST)[:3]}) == 1
    assert well.get_linestyles()[0][1] is None
    assert len(lost.get_linestyles()[0][1]) == 2


def test_colours_follow_the_logarithm_of_the_learning_rate(tmp_path):
    figure = _figure(read(sweep(tmp_path, status=["done"] * 4)))
    left, _, bar = figure.axes
    assert bar.get_ylabel() == "learning rate"
    assert bar.get_yscale() == "log"
    assert bar.get_ylim() == pytest.approx((0.01, 10))
    (lines,) = collections(left, LineCollection)
    from matplotlib import colormaps

    by_start = dict(zip(map(len, lines.get_segments()), lines.get_colors(), strict=True))
    assert by_start[1][:3] == pytest.approx(colormaps["viridis"](1.0)[:3])  # 10
    assert by_start[2][:3] == pytest.approx(colormaps["viridis"](2 / 3)[:3], abs=0.01)  # 1


def test_the_best_is_bold_and_named(tmp_path):
    figure = _figure(read(sweep(tmp_path)))
    (best,) = [line for line in figure.axes[0].lines if str(line.get_label()).startswith("best")]
    assert best.get_label() == "best: configuration 0, accuracy 1"
    assert best.get_xydata().tolist() == [[1, 0.5], [2, 0.75], [3, 1.0]]
    assert best.get_linewidth() >= 2
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words == ["best: configuration 0, accuracy 1", "diverged (1)"]


def test_words(tmp_path):
    left, right, _ = _figure(read(sweep(tmp_path))).axes
    assert (left.get_xlabel(), left.get_ylabel()) == ("epoch", "validation accuracy")
    assert right.get_xlabel() == "learning rate"
    assert left.get_title() == "4 configurations: 2 done, 1 stopped, 1 diverged"


def test_the_second_panel_has_the_last_accuracies(tmp_path):
    right = _figure(read(sweep(tmp_path))).axes[1]
    assert right.get_xscale() == "log"
    well, lost, best = (
        np.sort(found.get_offsets(), axis=0).tolist() for found in collections(right, PathCollection)
    )
    assert well == [[0.01, 0.5], [0.1, 0.75], [1.0, 1.0]]  # each column sorted
    assert lost == [[10.0, 0.0]]
    assert best == [[0.01, 1.0]]


def test_both_panels_show_all_accuracies_also_1(tmp_path):
    left, right, _ = _figure(read(sweep(tmp_path))).axes
    assert left.get_ylim() == right.get_ylim()
    low, high = left.get_ylim()
    assert low < 0.125
    assert high > 1
    height = left.transAxes.inverted().transform(left.transData.transform([[1, 0.75], [1, 1.0]]))[:, 1]
    assert 0 < height[0] < height[1] < 1
    assert "1" in [label.get_text() for label in left.get_yticklabels()]


@pytest.mark.parametrize("hypers", [{"beta1": np.linspace(0.8, 0.9, 4)}, {"learning_rate": np.full(4, 0.1)}])
def test_one_panel_without_learning_rates_to_compare(tmp_path, hypers):
    (left,) = _figure(read(sweep(tmp_path, **hypers))).axes
    assert [len(found.get_segments()) for found in collections(left, LineCollection)] == [3, 1]


def test_a_configuration_without_a_learning_rate_is_still_seen(tmp_path):
    left = _figure(read(sweep(tmp_path, learning_rate=np.array([0.1, NAN, 1.0, 0.2])))).axes[0]
    (well, _) = collections(left, LineCollection)
    colours = {tuple(colour[:3]) for colour in well.get_colors()}
    assert to_rgba(_PLAIN)[:3] in colours
    assert len(colours) == 3


@pytest.mark.parametrize(
    ("curves", "status"),
    [
        (CURVES, ["diverged"] * 4),
        (CURVES, ["running"] * 4),
        (CURVES[:, :1], ["done"] * 4),
        (np.full((4, 2), 1.0), ["done"] * 4),
        (np.full((4, 2), 0.0), ["done"] * 4),
        (np.where(CURVES == 0.125, NAN, CURVES), STATUS),
    ],
)
def test_unusual_sweeps_can_be_drawn(tmp_path, curves, status):
    figure = _figure(read(sweep(tmp_path, curves, status)))
    figure.draw_without_rendering()
    assert len(figure.legends) == 1


def test_one_epoch_has_one_tick(tmp_path):
    left = _figure(read(sweep(tmp_path, CURVES[:, :1]))).axes[0]
    low, high = left.get_xlim()
    assert [tick for tick in left.get_xticks() if low <= tick <= high] == [1]


def test_the_file(tmp_path):
    from PIL import Image

    folder, random = tmp_path / "run", np.random.default_rng(0)
    rates = 10 ** random.uniform(-4, 0, 256)
    curves = 1 - np.round(360 * random.random((256, 1)) ** 3 * np.exp(-random.random((256, 50)))) / 360
    sweep(folder, curves, ["done"] * 256, learning_rate=rates)
    path = tmp_path / "new" / "curves.png"
    learning_curves(folder, path)
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.width == pytest.approx(18 / 2.54 * 150, rel=0.01)
        assert image.info["dpi"] == pytest.approx((150, 150), rel=0.01)
    assert path.stat().st_size < 400_000


def test_the_sweep_is_left_alone(tmp_path):
    sweep(tmp_path / "run")
    before = (tmp_path / "run" / "sweep.sqlite").read_bytes()
    learning_curves(tmp_path / "run", tmp_path / "curves.png")
    assert [(path.name, path.read_bytes()) for path in (tmp_path / "run").iterdir()] == [
        ("sweep.sqlite", before)
    ]


def test_errors(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="there is no sweep in"):
        learning_curves(tmp_path / "run", tmp_path / "curves.png")
    sweep(tmp_path / "run")
    with pytest.raises(InputError, match=r"cannot write '.*' .*; pick a writable place with space"):
        learning_curves(tmp_path / "run", tmp_path / "run" / "sweep.sqlite" / "curves.png")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(InputError, match=r"pictures need matplotlib; .* pip install 'jbn\[report\]'"):
        learning_curves(tmp_path / "run", tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()


def test_nothing_yet(tmp_path):
    sweep(tmp_path / "run", CURVES[:, :0])
    with pytest.raises(InputError, match="has none yet; ask again"):
        learning_curves(tmp_path / "run", tmp_path / "curves.png")


def test_heavy_libraries_wait_and_pyplot_is_never_used(tmp_path):
    sweep(tmp_path)
    lines = [
        "import sys, jbn.report, jbn.store",
        "assert not {'pandas', 'matplotlib', 'scipy', 'PIL'} & set(sys.modules)",
        f"jbn.report.learning_curves({str(tmp_path)!r}, {str(tmp_path / 'a.png')!r})",
        "assert 'matplotlib.pyplot' not in sys.modules",
    ]
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True)
