import numpy as np
import pytest
from matplotlib.collections import LineCollection, PathCollection, PolyCollection
from matplotlib.colors import to_rgba

from jbn.report.curves import _LOST, _PLAIN, _colour_scale, _figure, _style
from jbn.store import SegmentRows, create, read

NAN = float("nan")
RATES = np.array([0.01, 0.1, 1.0, 10.0])
CURVES = np.array([[0.5, 0.75, 1.0], [0.5, 0.625, 0.75], [0.25, 0.5, NAN], [0.125, NAN, NAN]])
STATUS = ["done", "done", "stopped", "diverged"]


def sweep(folder, curves=CURVES, status=STATUS, **hypers):
    ids = np.arange(len(curves))
    with create(folder, settings={}, configs=hypers or {"learning_rate": RATES}, seeds=1) as store:
        for segment, accuracy in enumerate(np.asarray(curves).T):
            store.write_segment(
                segment,
                SegmentRows(ids, 0 * ids, ids, accuracy, {"accuracy": accuracy, "loss": 1 - accuracy}),
            )
        store.write_table(ids, np.array(status), ids, {})
    return folder


@pytest.fixture(scope="module")
def figure(tmp_path_factory):
    drawn = _figure(read(sweep(tmp_path_factory.mktemp("run"))))
    drawn.draw_without_rendering()
    return drawn


def collections(axes, kind):
    return [found for found in axes.collections if type(found) is kind]


def test_every_configuration_is_a_line(figure):
    well, lost = collections(figure.axes[0], LineCollection)
    drawn = [line.tolist() for line in well.get_segments()]
    assert drawn == [  # the best last, on top
        [[1, 0.25], [2, 0.5]],
        [[1, 0.5], [2, 0.625], [3, 0.75]],
        [[1, 0.5], [2, 0.75], [3, 1.0]],
    ]
    assert [line.tolist() for line in lost.get_segments()] == [[[1, 0.125]]]


def test_every_line_ends_in_a_mark(figure):
    well, lost = collections(figure.axes[0], PathCollection)
    assert well.get_offsets().tolist() == [[2, 0.5], [3, 0.75], [3, 1.0]]
    assert lost.get_offsets().tolist() == [[1, 0.125]]


def test_better_ones_stand_out(figure):
    well = collections(figure.axes[0], LineCollection)[0]
    assert np.all(np.diff(well.get_linewidths()) > 0)
    assert np.all(np.diff(well.get_colors()[:, 3]) > 0)


def test_of_many_the_worst_are_still_seen(tmp_path):
    curves = np.linspace(0.1, 0.9, 256)[:, None]
    (well,) = collections(
        _figure(read(sweep(tmp_path, curves, ["done"] * 256, learning_rate=10 ** curves[:, 0]))).axes[0],
        LineCollection,
    )
    assert min(well.get_linewidths()) >= 0.4  # points
    assert well.get_colors()[:, 3].min() >= 0.4
    assert np.sum(well.get_colors()[:, 3] > 0.7) < 30


def test_diverged_ones_are_dashed_and_of_one_colour_up_to_where_they_ended(tmp_path):
    curves = np.array([[0.5, 0.5, 0.5], [0.25, 0.5, NAN]])
    folder = sweep(tmp_path, curves, ["done", "diverged"], learning_rate=RATES[:2])
    well, lost = collections(_figure(read(folder)).axes[0], LineCollection)
    assert [line.tolist() for line in lost.get_segments()] == [[[1, 0.25], [2, 0.5]]]
    assert tuple(lost.get_colors()[0][:3]) == to_rgba(_LOST)[:3]
    assert well.get_linestyles()[0][1] is None
    assert len(lost.get_linestyles()[0][1]) == 2
    assert lost.zorder > well.zorder


def test_colours_follow_the_logarithm_of_the_learning_rate(tmp_path):
    figure = _figure(read(sweep(tmp_path, status=["done"] * 4)))
    left, right = figure.axes
    (lines,) = collections(left, LineCollection)
    (strip,) = right.child_axes
    key = next(found for found in strip.collections if found.get_array() is not None)
    assert key.norm.vmin < RATES[0] < RATES[-1] < key.norm.vmax
    assert right.get_xlim() == pytest.approx((key.norm.vmin, key.norm.vmax))  # the strip is above its rates
    by_length = dict(zip(map(len, lines.get_segments()), lines.get_colors(), strict=True))
    assert by_length[1][:3] == pytest.approx(key.to_rgba(10.0)[:3])
    assert by_length[2][:3] == pytest.approx(key.to_rgba(1.0)[:3])
    margin = np.log10(key.norm.vmax / 10)
    middle = (np.log10(1.0 / 0.01) + margin) / (3 + 2 * margin)
    from matplotlib import colormaps

    assert key.to_rgba(1.0)[:3] == pytest.approx(colormaps["viridis"](0.9 * middle)[:3], abs=0.02)


def test_every_colour_is_seen_on_white_and_lightness_alone_tells_them_apart():
    scale = _colour_scale(np.array([1e-4, 1.0]))
    linear = scale.to_rgba(np.geomspace(1e-4, 1, 32))[:, :3] ** 2.2
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    assert np.all(np.diff(luminance) > 0)
    assert luminance.max() < 0.65


def test_the_best_is_bold_and_named(figure):
    (best,) = [line for line in figure.axes[0].lines if str(line.get_label()).startswith("best")]
    assert best.get_label() == "best: configuration 0, accuracy 1"
    assert best.get_xydata().tolist() == [[1, 0.5], [2, 0.75], [3, 1.0]]
    others = max(max(well.get_linewidths()) for well in collections(figure.axes[0], LineCollection))
    assert best.get_linewidth() > 1.5 * others
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words == ["best: configuration 0, accuracy 1", "diverged (1)"]


def test_the_best_of_several_seeds_has_a_band_of_one_standard_error(tmp_path, figure):
    assert not any(isinstance(found, PolyCollection) for found in figure.axes[0].collections)
    ids = np.arange(2)
    with create(tmp_path, settings={}, configs={"beta1": np.array([0.8, 0.9])}, seeds=2) as store:
        for segment, mean in enumerate((0.5, 0.75, 0.9375)):
            accuracy = np.array([0.25, mean - 0.125, 0.25, np.minimum(mean + 0.125, 1.0)])
            both, seed = np.tile(ids, 2), np.repeat(ids, 2)
            values = {"accuracy": accuracy, "loss": 1 - accuracy}
            store.write_segment(segment, SegmentRows(both, seed, both, accuracy, values))
    drawn = _figure(read(tmp_path))
    (band,) = (found for found in drawn.axes[0].collections if isinstance(found, PolyCollection))
    corners = {tuple(corner) for corner in band.get_paths()[0].vertices}
    last = {(3, 0.8125), (3, 1.0)}  # of 0.8125 and 1
    assert {(1, 0.375), (1, 0.625), (2, 0.625), (2, 0.875)} | last == corners
    words = [text.get_text() for text in drawn.legends[0].get_texts()]
    assert "± one standard error over the seeds" in words
    low, high = drawn.axes[0].get_ylim()
    assert low < 0.25
    assert high > 1


def test_words(figure):
    left, right = figure.axes
    assert (left.get_xlabel(), left.get_ylabel()) == ("epoch", "validation accuracy")
    assert right.get_xlabel() == "learning rate (strip: colour of the curves)"
    assert left.get_title() == "4 configurations: 2 done, 1 stopped, 1 diverged"
    assert right.get_title() == "after the last epoch of each"


def test_the_second_panel_has_the_last_accuracies(figure):
    right = figure.axes[1]
    assert right.get_xscale() == "log"
    well, lost, best = (found.get_offsets().tolist() for found in collections(right, PathCollection))
    assert well == [[1.0, 0.5], [0.1, 0.75], [0.01, 1.0]]
    ((rate, height),) = lost
    assert rate == 10.0
    assert best == [[0.01, 1.0]]
    top_of_strip = right.child_axes[0].get_position().y1
    bottom = right.transAxes.inverted().transform(right.transData.transform([[1, 0.125]]))[0, 1]
    assert top_of_strip < right.get_position().y0 + height * right.get_position().height
    assert height < bottom


def test_both_panels_show_all_accuracies_also_1(figure):
    left, right = figure.axes
    assert left.get_ylim() == right.get_ylim()
    low, high = left.get_ylim()
    assert low < 0.125
    assert high > 1
    height = left.transAxes.inverted().transform(left.transData.transform([[1, 0.75], [1, 1.0]]))[:, 1]
    assert 0 < height[0] < height[1] < 1
    assert "1" in [label.get_text() for label in left.get_yticklabels()]


@pytest.mark.parametrize("width", [8, 18])
def test_labels_do_not_overlap_and_nothing_is_cut_off(tmp_path, width):
    curves = 1 - np.geomspace(0.9, 1 / 360, 40)[:, None]
    rates = np.geomspace(1e-4, 1, 40)
    with _style():
        status = ["done"] * 20 + ["stopped"] * 18 + ["diverged"] * 2
        figure = _figure(read(sweep(tmp_path, curves, status, learning_rate=rates)), width)
        figure.draw_without_rendering()
        whole = figure.bbox
        for text in (*(axes.title for axes in figure.axes), *figure.legends[0].get_texts()):
            box = text.get_window_extent()
            assert whole.x0 <= box.x0
            assert box.x1 <= whole.x1, text.get_text()
        lowest = figure.axes[-1] if width == 8 else figure.axes[0]
        for labels in (lowest.get_yticklabels(), figure.axes[1].get_xticklabels()):
            boxes = sorted((box.x0, box.y0, box) for box in (text.get_window_extent() for text in labels))
            assert len(boxes) > 4
            pairs = [(a[2], b[2]) for i, a in enumerate(boxes) for b in boxes[i + 1 :]]
            assert not any(a.overlaps(b) for a, b in pairs if a.width and b.width)


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
        (CURVES[:, :1], ["running"] * 4),
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
