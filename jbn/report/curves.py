"""The learning curves of a sweep as one picture."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from jbn.errors import InputError
from jbn.report.measured import Measured, measured
from jbn.report.scale import AccuracyScale, FloatArray
from jbn.store import Record, read
from jbn.store.files import write_whole
from jbn.task.metrics import SHARES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

_CM = 1 / 2.54  # inches
_NARROW = 13.0  # cm, below which panels are above each other
_LEAST = 5.0  # cm, below which words do not fit
_DPI = 300
_PLAIN, _LOST, _BEST = "#3b6ea5", "#d55e00", "black"  # apart for every kind of colour vision
_STYLE = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "legend.fontsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e8e8e8",
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "path.simplify": False,
}


def learning_curves(
    folder: str | os.PathLike[str], path: str | os.PathLike[str], *, width: float = 8.0
) -> None:
    """Draw how every configuration of a sweep learned, and what its learning rate made of it, as a PNG.

    Left, or above in a narrow one: the metric that configurations are ranked by, by default validation accuracy
    (the mean over the seeds), against epoch. A line is a configuration, coloured by learning rate, the better the
    stronger, the best one black (with several seeds in a band of one standard error of its mean), diverged ones
    dashed up to a cross where they ended. Right, or below: what each ended at against learning rate, if at least
    two were tried. The strip at its foot is the key to the colours. Accuracies are placed by the logarithm of their
    error, losses by their own where all are above 0, so that good configurations are told apart and bad ones stay
    in view.

    Args:
        folder: The folder of a sweep; it may be running.
        path: The PNG file to write or replace, at 300 dots per inch; its folder is made if need be.
        width: In cm, at least 5, with letters of 7 and 8 points: that of a column of a paper, or 18 for a page.

    Raises:
        InputError: matplotlib is not installed, there is no sweep in the folder or it has no segment yet, the
            width is too small, or the file cannot be written.

    >>> learning_curves("runs/none", "curves.png")
    Traceback (most recent call last):
    ...
    jbn.errors.InputError: there is no sweep in 'runs/none' ...
    """
    if not _LEAST <= width < 1000:
        raise InputError(
            f"a picture must be at least {_LEAST:g} cm wide, got {width:g}; a column has 8, a page 18"
        )
    picture(lambda: _figure(read(folder), width), path)


def picture(draw: Callable[[], "Figure"], path: str | os.PathLike[str]) -> None:
    """Write what is drawn as a PNG, in the style of all pictures.

    Raises:
        InputError: matplotlib is not installed, or the file cannot be written.
    """
    with _style():
        figure = draw()
        write_whole(path, lambda stream: _save(figure, stream))


def _style() -> AbstractContextManager[None]:
    """The same looks whatever the user's own settings of matplotlib are."""
    try:
        from matplotlib import style
    except ImportError as error:
        raise InputError("pictures need matplotlib; install it with pip install 'jbn[report]'") from error
    return style.context(["default", _STYLE])


def _save(figure: "Figure", stream: IO[bytes]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    # 256 colours are enough here, and a quarter of the bytes where hundreds of lines cross.
    few = image.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    few.putpalette([255 if level >= 254 else level for level in few.getpalette() or ()])  # paper stays white
    few.save(stream, format="png", dpi=(_DPI, _DPI), optimize=True)


def _figure(record: Record, width: float = 18.0) -> "Figure":
    from matplotlib.figure import Figure

    sweep = measured(record)
    rate = sweep.learning_rate
    narrow, several = width < _NARROW, rate is not None
    height = 6 + 4.5 * several if narrow else 9.1
    figure = Figure(figsize=(width * _CM, height * _CM), dpi=_DPI, layout="constrained")
    shape = {"nrows": 2, "height_ratios": (3, 2)} if narrow else {"ncols": 2, "width_ratios": (3, 2)}
    panels: dict[str, Any] = {**shape, "sharey": True} if several else {}
    axes = figure.subplots(squeeze=False, **panels).ravel()
    colours: Any = np.full(len(sweep.final), _PLAIN, object)
    if rate is not None:
        scale = _colour_scale(rate)
        colours = scale.to_rgba(np.ma.masked_invalid(rate))
        _draw_final(axes[1], sweep, rate, colours)
        _draw_key(axes[1], scale)
    _draw_curves(axes[0], sweep, colours)
    for own in axes if narrow else axes[:1]:
        _set_metric_axis(own, sweep, apart=0.13 if narrow else 0.05)
    if narrow:
        axes[0].set_title(axes[0].get_title().replace(": ", ":\n"))
    figure.legend(loc="outside lower center", ncols=1 if narrow else 3, frameon=False)
    return figure


def _colour_scale(rate: FloatArray) -> "ScalarMappable":
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, LogNorm

    # Without its last tenth: light yellow lines vanish on white paper.
    colours = ListedColormap(colormaps["viridis"](np.linspace(0, 0.9, 256))).with_extremes(bad=_PLAIN)
    low, high = np.nanmin(rate), np.nanmax(rate)
    margin = (high / low) ** 0.04
    return ScalarMappable(LogNorm(low / margin, high * margin), colours)


def _set_metric_axis(axes: "Axes", sweep: Measured, *, apart: float) -> None:
    axes.set_ylabel(f"validation {sweep.objective.metric.replace('_', ' ')}")
    if sweep.objective.metric in SHARES:
        _set_accuracy_axis(axes, sweep, apart)
        return
    values = np.concatenate([sweep.curves.ravel(), sweep.final, _band(sweep).ravel()])
    values = values[np.isfinite(values)]
    if not sweep.objective.maximize and values.min() > 0:
        axes.set_yscale("log")
        # the few that began far worse than others leave through the top, or they would press all others flat
        high = max(np.nanquantile(values, 0.95), np.nanquantile(sweep.final, 0.95))
        margin = (high / values.min()) ** 0.05 * 1.01
        set_log_ticks(axes, values.min() / margin, high * margin)
    elif sweep.objective.maximize:  # what is as bad as nothing learned, or worse, is below the axis
        low = max(values.min(), min(0.0, float(np.nanmedian(sweep.final))))
        margin = 0.05 * (values.max() - low) or 0.5
        axes.set_ylim(low - margin, values.max() + margin)


def set_log_ticks(axes: "Axes", low: float, high: float) -> None:
    """Ticks at 1, 2 and 5 times powers of ten, or closer ones; without them an axis has only 10^k."""
    from matplotlib.ticker import LogLocator, MaxNLocator

    locator = LogLocator(subs=(1.0, 2.0, 5.0)) if high > 20 * low else MaxNLocator(6, steps=[1, 2, 5, 10])
    ticks = [tick for tick in locator.tick_values(low, high) if low <= tick <= high]
    axes.set_ylim(low, high)
    axes.set_yticks(ticks, [f"{tick:.6g}" for tick in ticks])
    axes.minorticks_off()


def _set_accuracy_axis(axes: "Axes", sweep: Measured, apart: float) -> None:
    accuracy = np.append(sweep.curves, sweep.final)
    scale = AccuracyScale.of(accuracy)
    low, high = scale.limits(np.append(accuracy, _band(sweep)))
    ticks = scale.ticks(low, high, apart=apart)
    axes.set_yscale("function", functions=(scale.forward, scale.inverse))
    axes.set_ylim(low, high)
    axes.set_yticks(ticks, [f"{tick:.6g}" for tick in ticks])
    axes.minorticks_off()


def _draw_curves(axes: "Axes", sweep: Measured, colours: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    last = sweep.curves.shape[1]
    epochs = np.arange(1, last + 1)
    lines = [np.column_stack([epochs, curve])[np.isfinite(curve)] for curve in sweep.curves]
    drawn = [row for row in sweep.worst_first if len(lines[row])]  # the best on top
    well = [row for row in drawn if not sweep.diverged[row]]
    lost = [row for row in drawn if sweep.diverged[row]]
    strength = np.exp(-np.arange(len(well))[::-1] / 24)  # the first two dozen stand out
    _add_lines(axes, [lines[row] for row in well], colours[well], strength)
    _add_lost(axes, [lines[row] for row in lost])
    _add_band(axes, sweep)
    _add_best(axes, sweep, lines)
    margin = max(0.015 * last, 0.5 if last == 1 else 0)
    axes.set_xlim(1 - margin, last + margin)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
    axes.set_xlabel("epoch")
    axes.set_title(_title(sweep))


def _add_lines(axes: "Axes", lines: list[FloatArray], colours: Any, strength: FloatArray) -> None:
    from matplotlib.collections import LineCollection
    from matplotlib.colors import to_rgba_array

    if lines:
        ink = to_rgba_array(colours)
        ink[:, 3] = 0.45 + 0.5 * strength
        axes.add_collection(LineCollection(lines, colors=ink, linewidths=0.4 + 0.4 * strength))
        # A dot shows where a curve ends, and a curve of one epoch at all.
        x, y = np.array([line[-1] for line in lines]).T
        axes.scatter(x, y, s=4 + 4 * strength, c=ink, linewidths=0, zorder=2)


def _add_lost(axes: "Axes", lines: list[FloatArray]) -> None:
    from matplotlib.collections import LineCollection

    if lines:
        axes.add_collection(LineCollection(lines, colors=_LOST, linestyles="--", linewidths=0.8, zorder=2.1))
        x, y = np.array([line[-1] for line in lines]).T
        axes.scatter(x, y, s=14, c=_LOST, marker="x", linewidths=1, zorder=2.2)


def _add_best(axes: "Axes", sweep: Measured, lines: list[FloatArray]) -> None:
    from matplotlib.patheffects import Normal, Stroke

    if sweep.best is not None:
        halo = [Stroke(linewidth=3, foreground="white"), Normal()]
        metric = sweep.objective.metric.replace("_", " ")
        label = f"best: configuration {sweep.config_id[sweep.best]}, {metric} {sweep.final[sweep.best]:.4g}"
        mark: dict[str, Any] = {"marker": "o", "markevery": [-1], "markersize": 3.5}
        axes.plot(*lines[sweep.best].T, color=_BEST, linewidth=1.4, path_effects=halo, label=label, **mark)
    if sweep.diverged.any():
        axes.plot(
            [],
            [],
            "--x",
            color=_LOST,
            linewidth=0.8,
            markersize=4,
            label=f"diverged ({sweep.diverged.sum()})",
        )


def _add_band(axes: "Axes", sweep: Measured) -> None:
    low, high = _band(sweep)
    epochs = np.arange(1, len(low) + 1)
    if np.isfinite(low).any():
        look: dict[str, Any] = {"color": _BEST, "alpha": 0.2, "linewidth": 0, "zorder": 1.9}
        axes.fill_between(epochs, low, high, label=f"± one standard error over the {sweep.over}", **look)


def _band(sweep: Measured) -> FloatArray:
    """The best curve's mean ± one standard error, [2, segments]; NaN where there is none."""
    if sweep.best is None:
        return np.full((2, sweep.curves.shape[1]), np.nan)
    mean, error = sweep.curves[sweep.best], sweep.standard_error[sweep.best]
    return np.array([mean - error, mean + error])  # of accuracies it never leaves 0 to 1


def _draw_final(axes: "Axes", sweep: Measured, rate: FloatArray, colours: Any) -> None:
    well = [row for row in sweep.worst_first if not sweep.diverged[row]]
    axes.set_xscale("log")
    axes.scatter(rate[well], sweep.final[well], s=9, c=colours[well], edgecolors="white", linewidths=0.25)
    # A diverged configuration need have no value: its mark is at its learning rate, below all others.
    lost = rate[sweep.diverged]
    foot: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "zorder": 3}
    axes.scatter(lost, np.full(len(lost), 0.045), s=12, c=_LOST, marker="x", linewidths=0.8, **foot)
    if sweep.best is not None:
        axes.scatter(rate[sweep.best], sweep.final[sweep.best], s=50, facecolors="none", edgecolors=_BEST)
    axes.set_xlabel("learning rate (strip: colour of the curves)")
    axes.set_title("after the last epoch of each" if sweep.objective.plain else "smoothed or best, as ranked")


def _draw_key(axes: "Axes", scale: "ScalarMappable") -> None:
    strip = axes.inset_axes((0, 0, 1, 0.022))
    axes.figure.colorbar(scale, cax=strip, orientation="horizontal", ticks=[]).outline.set_visible(False)
    ends: Any = (scale.norm.vmin, scale.norm.vmax)  # the strip's, so that a colour is above its rate
    axes.set_xlim(ends)


def _title(sweep: Measured) -> str:
    counts = {word: int(np.sum(sweep.status == word)) for word in ("running", "done", "stopped", "diverged")}
    parts = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    return f"{len(sweep.status)} configurations: {parts}"
