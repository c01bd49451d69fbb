"""The learning curves of a sweep as one picture."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jbn.errors import InputError
from jbn.report.measured import Measured, measured
from jbn.report.scale import AccuracyScale, FloatArray
from jbn.store import Record, read

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

_SIZE = (7.1, 3.7)  # inches: 18 cm, the text width of a page
_DPI = 150
_FONT = 8
_PLAIN, _LOST, _BEST = "#3b6ea5", "#6e6e6e", "black"


def learning_curves(folder: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Draw how every configuration of a sweep learned, and what its learning rate made of it, as a PNG.

    Left: validation accuracy (the mean over the seeds) against epoch, a line per configuration, coloured by
    learning rate, the best one bold, diverged ones grey and dashed up to where they ended. Right: the last
    validation accuracy against learning rate, if at least two were tried. Accuracies are placed by the
    logarithm of their error, so that good configurations are told apart and bad ones stay in view.

    Args:
        folder: The folder of a sweep; it may be running.
        path: The PNG file to write, 18 cm wide at 150 dots per inch; its folder is made if need be.

    Raises:
        InputError: matplotlib is not installed, there is no sweep in the folder or it has no segment yet, or
            the file cannot be written.

    >>> learning_curves("runs/none", "curves.png")
    Traceback (most recent call last):
    ...
    jbn.errors.InputError: there is no sweep in 'runs/none' ...
    """
    figure = _figure(read(folder))
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _image(figure).save(path, format="png", dpi=(_DPI, _DPI), optimize=True)
    except OSError as error:
        raise InputError(
            f"cannot write {str(path)!r} ({error.strerror or error}); pick a writable place with space"
        ) from error


def _image(figure: "Figure") -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    # 256 colours are enough for the map, and a third of the bytes where hundreds of lines cross.
    return image.quantize(256, Image.Quantize.MAXCOVERAGE)


def _figure(record: Record) -> "Figure":
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("pictures need matplotlib; install it with pip install 'jbn[report]'") from error
    sweep = measured(record)
    figure = Figure(figsize=_SIZE, dpi=_DPI, layout="constrained")
    rate = sweep.learning_rate
    panels: dict[str, Any] = (
        {"squeeze": False} if rate is None else {"ncols": 2, "sharey": True, "width_ratios": (3, 2)}
    )
    axes = np.ravel(figure.subplots(**panels))
    colours: Any = np.full(len(sweep.final), _PLAIN, object)
    if rate is not None:
        scale = _colour_scale(rate)
        colours = scale.to_rgba(np.ma.masked_invalid(rate))
        _draw_final(axes[1], sweep, rate, colours)
        bar = figure.colorbar(scale, ax=axes[1], pad=0.02)
        bar.set_label("learning rate", fontsize=_FONT)
        bar.ax.tick_params(labelsize=_FONT - 1)
    _draw_curves(axes[0], sweep, colours)
    _set_accuracy_axis(axes[0], sweep)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=_FONT)
    return figure


def _colour_scale(rate: FloatArray) -> "ScalarMappable":
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm

    norm = LogNorm(float(np.nanmin(rate)), float(np.nanmax(rate)))
    return ScalarMappable(norm, colormaps["viridis"].with_extremes(bad=_PLAIN))


def _set_accuracy_axis(axes: "Axes", sweep: Measured) -> None:
    accuracy = np.append(sweep.curves, sweep.final)
    scale = AccuracyScale.of(accuracy)
    low, high = scale.limits(accuracy)
    ticks = scale.ticks(low, high)
    axes.set_yscale("function", functions=(scale.forward, scale.inverse))
    axes.set_ylim(low, high)
    axes.set_yticks(ticks, [f"{tick:.6g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_ylabel("validation accuracy", fontsize=_FONT)


def _draw_curves(axes: "Axes", sweep: Measured, colours: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    last = sweep.curves.shape[1]
    epochs = np.arange(1, last + 1)
    lines = [np.column_stack([epochs, curve])[np.isfinite(curve)] for curve in sweep.curves]
    drawn = [row for row in np.argsort(sweep.final) if len(lines[row])]  # the best on top
    well = [row for row in drawn if not sweep.diverged[row]]
    lost = [row for row in drawn if sweep.diverged[row]]
    _add_lines(axes, [lines[row] for row in well], colours[well], dashes="-", width=0.6, end="o")
    _add_lines(axes, [lines[row] for row in lost], _LOST, dashes="--", width=0.9, end="x")
    _add_keys(axes, sweep, lines)
    axes.set_xlim(1 - 0.02 * last, 1.02 * last)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
    _finish(axes, x="epoch", title=_title(sweep))


def _add_lines(
    axes: "Axes", lines: list[FloatArray], colours: Any, *, dashes: str, width: float, end: str
) -> None:
    from matplotlib.collections import LineCollection

    if lines:
        curves = LineCollection(lines, colors=colours, linestyles=dashes, linewidths=width, alpha=0.8)
        axes.add_collection(curves)
        # The marks show where a curve ends, and a curve of one epoch at all.
        x, y = np.array([line[-1] for line in lines]).T
        axes.scatter(x, y, s=10 * width, c=colours, marker=end, linewidths=width, zorder=2)


def _add_keys(axes: "Axes", sweep: Measured, lines: list[FloatArray]) -> None:
    if sweep.best is not None:
        x, y = lines[sweep.best].T
        label = f"best: configuration {sweep.config_id[sweep.best]}, accuracy {sweep.final[sweep.best]:.4g}"
        axes.plot(x, y, color=_BEST, linewidth=2, label=label)
        axes.plot(x[-1:], y[-1:], "o", color=_BEST, markersize=4)
    if sweep.diverged.any():
        axes.plot([], [], "--x", color=_LOST, markersize=4, label=f"diverged ({sweep.diverged.sum()})")


def _draw_final(axes: "Axes", sweep: Measured, rate: FloatArray, colours: Any) -> None:
    well = [row for row in np.argsort(sweep.final) if not sweep.diverged[row]]
    axes.set_xscale("log")
    axes.scatter(rate[well], sweep.final[well], s=12, c=colours[well])
    # A diverged configuration need have no accuracy: its mark is at its learning rate, below all accuracies.
    lost = rate[sweep.diverged]
    foot: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "clip_on": False}
    axes.scatter(lost, np.zeros(len(lost)), s=16, c=_LOST, marker="x", linewidths=0.8, **foot)
    if sweep.best is not None:
        axes.scatter(rate[sweep.best], sweep.final[sweep.best], s=60, facecolors="none", edgecolors=_BEST)
    _finish(axes, x="learning rate", title="last epoch of each")


def _finish(axes: "Axes", *, x: str, title: str) -> None:
    axes.set_xlabel(x, fontsize=_FONT)
    axes.set_title(title, fontsize=_FONT)
    axes.tick_params(labelsize=_FONT - 1)
    axes.grid(color="#e5e5e5", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _title(sweep: Measured) -> str:
    counts = {word: int(np.sum(sweep.status == word)) for word in ("running", "done", "stopped", "diverged")}
    parts = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    return f"{len(sweep.status)} configurations: {parts}"
