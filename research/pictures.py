"""What pictures of several scripts share."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from common import COLOURS, MARKERS, Interval


def error_bars(
    axis: Any, places: Sequence[float] | np.ndarray, intervals: Sequence[Interval], number: int, **more: Any
) -> None:
    """Means with their intervals over places, in the colour and with the marker of this number."""
    errors = [[one.mean - one.low for one in intervals], [one.high - one.mean for one in intervals]]
    style = {"color": COLOURS[number], "marker": MARKERS[number], "ms": 3, "capsize": 1.5, "lw": 1, **more}
    axis.errorbar(places, [one.mean for one in intervals], yerr=errors, **style)


def ticks(axis: Any, places: Sequence[float]) -> None:
    """Marks those of these places that are in view on a logarithmic axis, and no others."""
    low, high = sorted(axis.get_view_interval())
    places = [place for place in places if low <= place <= high]
    axis.set_ticks(places, [f"{place:g}" for place in places])
    axis.set_ticks([], minor=True)
