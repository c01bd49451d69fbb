"""The learning curves of a panda's branches: in the terminal, and as one picture."""

import itertools
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jbn.errors import InputError
from jbn.report.curves import picture, set_log_ticks
from jbn.runs.diary import Diary, Entry, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH, _HEIGHT = 64, 12
_MARKS = "*o+x#@%&"
_COLOURS = ("#000000", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito
_SIZE = (18 / 2.54, 3.4)

Curve = tuple[np.ndarray, np.ndarray]


def validation_curves(diary: Diary, metric: str = "loss") -> dict[str, Curve]:
    """Segments and what was measured after each, by branch; branches without a segment are left out.

    Args:
        diary: of a panda.
        metric: "loss" or a metric of its task.

    Raises:
        InputError: it was not measured, or nothing has been trained yet.
    """
    measured = diary.entries[0]["about"]["metrics"]
    if metric not in measured:
        raise InputError(f"a curve must be of one of {', '.join(measured)}, got {metric!r}")
    paths = {name: diary.path(name) for name in diary.branches()}
    found = {name: _curve(path, metric) for name, path in paths.items() if path}
    if not found:
        raise InputError(f"the panda in {str(diary.folder)!r} has not been trained yet: jbn panda train")
    return found


def chart(curves: Mapping[str, Curve]) -> list[str]:
    """Curves as lines of text, a sign a branch; losses on a logarithmic axis where all are above 0.

    >>> chart({"main": (np.arange(1, 5), np.array([1.0, 0.5, 0.25, 0.125]))})[0]
    '           1 |*'
    """
    every = np.concatenate([values for _, values in curves.values()])
    every = every[np.isfinite(every)]
    scale = np.log if len(every) and every.min() > 0 else np.asarray
    low, high = (scale(every).min(), scale(every).max()) if len(every) else (0.0, 1.0)
    last = max(int(segments.max()) for segments, _ in curves.values())
    rows = [[" "] * _WIDTH for _ in range(_HEIGHT)]
    for mark, (segments, values) in zip(_signs(curves), curves.values(), strict=True):
        for segment, value in zip(segments, values, strict=True):
            if np.isfinite(value):
                down = (high - scale(value)) / (high - low) if high > low else 0.5
                rows[round(float(down) * (_HEIGHT - 1))][_column(int(segment), last)] = mark
    lines = [f"{label:>12} |{''.join(row)}".rstrip() for label, row in zip(_labels(every), rows, strict=True)]
    ends = f"{1:<8}segment{last:>{_WIDTH - 15}}" if last > 1 else "1"
    key = [f"{mark} {name}" for mark, name in zip(_signs(curves), curves, strict=True)]
    return [
        *lines,
        f"{'':>12} +{'-' * _WIDTH}",
        f"{'':>14}{ends}",
        *(["   ".join(key)] if len(key) > 1 else []),
    ]


def draw_futures(folder: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Draw how the network of every branch learned, with a mark where a person changed something, as a PNG.

    Left the training loss, right the loss on the validation part, against segment; both on logarithmic axes where
    all are above 0.

    Args:
        folder: of a panda; it may be trained meanwhile.
        path: the PNG file to write or replace, 18 cm wide at 300 dots per inch.

    Raises:
        InputError: matplotlib is not installed, there is no panda in the folder or it has not been trained yet, or
            the file cannot be written.

    >>> draw_futures("runs/none", "curve.png")
    Traceback (most recent call last):
    ...
    jbn.errors.InputError: there is no journal in 'runs/none' ...
    """
    diary = Diary.reading(folder)
    validation_curves(diary)
    picture(lambda: _figure(diary), path)


def _figure(diary: Diary) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE, dpi=300, layout="constrained")
    left, right = figure.subplots(1, 2)
    paths = {name: diary.path(name) for name in diary.branches()}
    for place, (name, path) in enumerate(own for own in paths.items() if own[1]):
        _draw(left, path, "train_loss", place, name)
        _draw(right, path, "loss", place, name)
    for axes, words in ((left, "training loss"), (right, "validation loss")):
        _finish(axes, words)
    if len(paths) > 1:
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return figure


def _draw(axes: "Axes", path: Sequence[Entry], metric: str, place: int, name: str) -> None:
    colour = _COLOURS[place % len(_COLOURS)]
    segments, values = _curve(path, metric)
    look: dict[str, Any] = {"linewidth": 1.2, "marker": "o", "markersize": 2.5}
    axes.plot(
        segments, values, color=colour, label=name, zorder=3 - 0.1 * place, **look
    )  # what is shared is the first's
    for before, after in itertools.pairwise(path):
        words = _changes(before["config"], after["config"])
        if words:
            between = after["segment"] - 0.5
            axes.axvline(between, color=colour, linewidth=0.6, linestyle=":")
            turned: dict[str, Any] = {
                "rotation": 90,
                "va": "top",
                "ha": "right",
                "fontsize": 6,
                "color": colour,
            }
            axes.text(between, 0.98, words, transform=axes.get_xaxis_transform(), **turned)


def _finish(axes: "Axes", words: str) -> None:
    from matplotlib.ticker import MaxNLocator

    values = np.concatenate([line.get_ydata() for line in axes.get_lines() if line.get_marker() == "o"])
    values = values[np.isfinite(values)]
    if len(values) and values.min() > 0:
        axes.set_yscale("log")
        set_log_ticks(axes, values.min() / 1.1, values.max() * 1.1)
    axes.set_xlabel("segment (epoch)")
    axes.set_ylabel(words)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    changed = [name for name in after if name in before and after[name] != before[name]]
    if "optimizer" in changed:
        changed = ["optimizer"]
    return ", ".join(f"{name} = {short(after[name])}" for name in changed)


def _curve(path: Sequence[Entry], metric: str) -> Curve:
    seen = [entry["measured"] for entry in path]
    values = [one["train_loss"] if metric == "train_loss" else one["validation"][metric] for one in seen]
    return np.array([entry["segment"] for entry in path]), np.array(values, np.float64)


def _signs(curves: Mapping[str, Curve]) -> list[str]:
    return [_MARKS[place % len(_MARKS)] for place in range(len(curves))]


def _labels(values: np.ndarray) -> list[str]:
    labels = [""] * _HEIGHT
    if len(values):
        labels[0], labels[-1] = f"{values.max():.4g}", f"{values.min():.4g}"
    return labels


def _column(segment: int, last: int) -> int:
    return round((segment - 1) / max(1, last - 1) * (_WIDTH - 1))
