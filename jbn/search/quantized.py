"""Axes with steps: numbers at equal distances, each as likely as its share of the axis's scale."""

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt

from jbn.search.dimensions import Dimension, FloatArray, Interval, LogUniform, middles, require
from jbn.search.values import at_least_one

_HALVES_UP = 1e-9  # of the unit interval: half-way between two values rounding would decide


@dataclass(frozen=True, repr=False)
class Quantized(Dimension):
    """The numbers low, low + step, low + 2 step, ... up to high, on the scale of an interval.

    On that scale every number has a cell of the unit interval that ends half-way to its neighbours; the first and
    the last have a cell as if their missing neighbour were as far as the other. So all are equally likely
    on a linear scale, and log-uniform on a logarithmic one.

    Args:
        inner: the interval; its high end is the last number.
        step: the distance of two neighbours, above 0.
        whole: whether the values are int64.
    """

    inner: Interval
    step: float
    whole: bool = False

    @property
    def low(self) -> float:
        """The least value."""
        return int(self.inner.low) if self.whole else self.inner.low

    @property
    def high(self) -> float:
        """The greatest value."""
        return int(self.inner.high) if self.whole else self.inner.high

    @property
    def cells(self) -> int:
        """How many values there are."""
        return round((self.inner.high - self.inner.low) / self.step) + 1

    def values(self) -> npt.NDArray[Any]:
        """All of them, ascending."""
        return self._value(np.arange(self.cells))

    def value_at(self, number: int) -> float:
        """Value number so many, counted from 0."""
        return float(self._value(np.array(number, np.int64)))

    def __repr__(self) -> str:
        if not self.whole:
            return f"quantized({self.inner!r}, {self.step!r})"
        log = ", log=True" if isinstance(self.inner, LogUniform) else ""
        integers = f"integers({self.low}, {self.high}{log})"
        return integers if self.step == 1 else f"quantized({integers}, {int(self.step)})"

    def to_spec(self) -> dict[str, Any]:
        """The scale with its bounds and the step, `{"uniform": [low, high], "step": step}`."""
        if not self.whole:
            return {**self.inner.to_spec(), "step": self.step}
        log = {"log": True} if isinstance(self.inner, LogUniform) else {}
        step = {} if self.step == 1 else {"step": int(self.step)}
        return {"integers": [self.low, self.high], **log, **step}

    def from_unit(self, u: npt.ArrayLike) -> npt.NDArray[Any]:
        """The values whose cells hold u, int64 or float64."""
        start, stop = self._ends()
        places = start + (stop - start) * np.asarray(u, np.float64)
        x = self.inner.unwarped(np.clip(places, min(start, stop), max(start, stop)))
        below = np.clip(np.floor((x - self.inner.low) / self.step), 0, max(0, self.cells - 2)).astype(
            np.int64
        )
        above = np.minimum(below + 1, self.cells - 1)
        nearer = np.abs(self._warped(above) - places) < np.abs(places - self._warped(below))
        return self._value(np.where(nearer, above, below))

    def to_unit(self, x: npt.ArrayLike) -> FloatArray:
        """The middles of the cells of x."""
        given = np.asarray(x, np.float64)
        number = np.round((given - self.inner.low) / self.step)
        inside = (number >= 0) & (number < self.cells)
        inside &= (
            np.abs(self._value(np.where(inside, number, 0).astype(np.int64)) - given) <= 1e-9 * self.step
        )
        require(self, given, inside)
        if self.cells == 1:
            return np.full(given.shape, 0.5)
        start, stop = self._ends()
        left = np.where(number > 0, self._middle(number - 1), start)
        right = np.where(number < self.cells - 1, self._middle(number), stop)
        return ((left + right) / 2 - start) / (stop - start)

    def grid_size(self, n: int) -> int:
        """The smaller of n and the number of values."""
        return min(at_least_one(n, what="points"), self.cells)

    def grid(self, n: int, *, ends: bool = True) -> npt.NDArray[Any]:
        """Values nearest to even distances on the scale, without repetitions."""
        size = self.grid_size(n)
        if size == 1:
            return self.from_unit(np.array([0.5]))
        if not ends:
            return np.unique(self.from_unit(middles(size) + _HALVES_UP))
        first, last = self._warped(np.array([0, self.cells - 1]))
        start, stop = self._ends()
        found = self.from_unit((np.linspace(first, last, size) - start) / (stop - start))
        return np.unique(found)

    def narrowed(self, start: float, stop: float) -> "Quantized":
        """From the value at start to the value at stop."""
        low, high = self.from_unit([start, stop]).tolist()
        return Quantized(type(self.inner)(float(low), float(high)), self.step, self.whole)

    def _value(self, number: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """The low end and so many steps, rounded to the digits that both have: 0.1 * 3 is 0.3."""
        own = self.inner.low + number * self.step
        if self.whole:
            return np.round(own).astype(np.int64)
        digits = _digits(self.inner.low, self.step)
        return np.clip(own if digits > 15 else np.round(own, digits), self.inner.low, self.inner.high)

    def _warped(self, number: npt.NDArray[np.int64]) -> FloatArray:
        return self.inner.warped(self._value(number).astype(np.float64))

    def _middle(self, number: npt.NDArray[Any]) -> FloatArray:
        """Half-way between a number and the next, on the scale."""
        own = np.clip(number, 0, max(0, self.cells - 2))
        return (self._warped(own) + self._warped(np.minimum(own + 1, self.cells - 1))) / 2

    def _ends(self) -> tuple[float, float]:
        """Where the cells of the first and of the last number end, on the scale."""
        last = self.cells - 1
        if last == 0:
            own = float(self._warped(np.array([0]))[0])
            return own, own
        first, second, before, end = self._warped(np.array([0, 1, last - 1, last])).tolist()
        return first - (second - first) / 2, end + (end - before) / 2


def _digits(*numbers: float) -> int:
    """Digits behind the point that these numbers have."""
    exponents = [Decimal(repr(float(number))).normalize().as_tuple().exponent for number in numbers]
    return max(0, *(-int(exponent) for exponent in exponents))


def steps_between(low: float, high: float, step: float) -> int:
    """How many steps fit between two numbers, rounding aside."""
    if low == int(low) and step == int(step) and high == int(high):
        return (int(high) - int(low)) // int(step)
    return math.floor((high - low) / step + min(1e-9 * max(1.0, (high - low) / step * 1e-3), 1e-3))
