import subprocess
import sys

import numpy as np
import pytest

from jbn.errors import InputError
from jbn.report import learning_curves
from jbn.store import SegmentRows, create

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


def draw_alone(folder, path):
    """Draws in a process of its own; heavy libraries wait until then, and pyplot is never used."""
    lines = [
        "import sys, jbn.report, jbn.store",
        "assert not {'pandas', 'matplotlib', 'scipy', 'PIL'} & set(sys.modules)",
        f"jbn.report.learning_curves({str(folder)!r}, {str(path)!r})",
        "assert 'matplotlib.pyplot' not in sys.modules",
    ]
    subprocess.run([sys.executable, "-W", "error", "-c", "\n".join(lines)], check=True)


def test_a_large_sweep(tmp_path):
    from PIL import Image

    folder, random = tmp_path / "run", np.random.default_rng(0)
    rates = 10 ** random.uniform(-4, 0, 256)
    curves = 1 - np.round(360 * random.random((256, 1)) ** 3 * np.exp(-random.random((256, 50)))) / 360
    sweep(folder, curves, ["done"] * 256, learning_rate=rates)
    path, before = tmp_path / "new" / "curves.png", (folder / "sweep.sqlite").read_bytes()
    draw_alone(folder, path)
    assert sorted(found.name for found in folder.iterdir()) == [".lock", "sweep.sqlite"]
    assert (folder / "sweep.sqlite").read_bytes() == before
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.width == pytest.approx(8 / 2.54 * 300, rel=0.01)  # a column
        assert image.info["dpi"] == pytest.approx((300, 300), rel=0.01)
        corners = [(0, 0), (image.width - 1, image.height - 1)]
        assert [image.convert("RGB").getpixel(corner) for corner in corners] == [(255, 255, 255)] * 2
    assert path.stat().st_size < 600_000  # curves of pure noise; real ones take less
    assert [found.name for found in path.parent.iterdir()] == ["curves.png"]


def test_errors(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="there is no sweep in"):
        learning_curves(tmp_path / "run", tmp_path / "curves.png")
    sweep(tmp_path / "run")
    with pytest.raises(InputError, match=r"cannot write '.*' .*; pick a writable place with space"):
        learning_curves(tmp_path / "run", tmp_path / "run" / "sweep.sqlite" / "curves.png")
    with pytest.raises(InputError, match=r"a file to write needs a name"):
        learning_curves(tmp_path / "run", "")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InputError, match=r"pictures need matplotlib; .* pip install 'jbn\[report\]'"):
        learning_curves(tmp_path / "run", tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()


def test_a_failure_leaves_the_old_picture(tmp_path, monkeypatch):
    def fail(image, stream, **more):
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    sweep(tmp_path / "run", learning_rate=np.full(4, 0.1))
    (tmp_path / "curves.png").write_bytes(b"old")
    monkeypatch.setattr("jbn.report.curves._DPI", 30)  # drawn faster
    monkeypatch.setattr("PIL.Image.Image.save", fail)
    with pytest.raises(InputError, match=r"cannot write '.*curves.png' \(No space left on device\); pick"):
        learning_curves(tmp_path / "run", tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes() == b"old"
    assert sorted(found.name for found in tmp_path.iterdir()) == ["curves.png", "run"]


def test_the_users_own_style_changes_nothing(tmp_path, monkeypatch):
    from matplotlib import style

    sweep(tmp_path / "run", learning_rate=np.full(4, 0.1))
    monkeypatch.setattr("jbn.report.curves._DPI", 30)  # drawn faster
    learning_curves(tmp_path / "run", tmp_path / "plain.png")
    with style.context("dark_background"):
        learning_curves(tmp_path / "run", tmp_path / "dark.png")
    assert (tmp_path / "plain.png").read_bytes() == (tmp_path / "dark.png").read_bytes()


def test_nothing_yet(tmp_path):
    sweep(tmp_path / "run", CURVES[:, :0])
    with pytest.raises(InputError, match="has none yet; ask again"):
        learning_curves(tmp_path / "run", tmp_path / "curves.png")
