"""The axes of a search space: each maps the unit interval to its values, on its own scale, and back."""

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from jbn.errors import InputError
from jbn.search.values import Scalar, at_least_one, column, plain

FloatArray = npt.NDArray[np.float64]


class Dimension(ABC):
    """One axis of a search space: a monotone map between the unit interval and the axis's values.

    Frozen, equal by value, and printed as the call that builds it. All arrays are host arrays of any shape.
    """

    @abstractmethod
    def from_unit(self, u: npt.ArrayLike) -> npt.NDArray[Any]:
        """The values at the places u in [0, 1): float64, int64 or object, of u's shape."""

    @abstractmethod
    def to_unit(self, x: npt.ArrayLike) -> FloatArray:
        """The places of the values x, the inverse of `from_unit`: float64 in [0, 1], of x's shape.

        A whole number or an option stands for a cell of the unit interval, and its place is the cell's
        middle, as is that of an axis with a single value.

        Raises:
            InputError: if a value is not on the axis.
        """

    @abstractmethod
    def grid_size(self, n: int) -> int:
        """How many values `grid` returns at most, without making them."""

    @abstractmethod
    def grid(self, n: int, *, ends: bool = True) -> npt.NDArray[Any]:
        """Up to n distinct values, evenly spaced on the axis's scale, in order.

        With both ends; or with `ends=False` in the middles of n equal cells of the scale. n = 1 gives the middle.
        Options are not numbers to thin out: an axis of options gives them all.

        Raises:
            InputError: if n is no whole number of at least 1.
        """

    @abstractmethod
    def to_spec(self) -> Any:
        """The axis as a value of a specification's `[space]` table."""

    def narrowed(self, start: float, stop: float) -> "Dimension":
        """The axis between the values at two places of the unit interval, both included; never outside this one.

        Options that have no order stay as they are.
        """
        del start, stop
        return self

    @property
    def ordered(self) -> bool:
        """Whether nearby places are nearby values: of numbers always, of options where that was said."""
        return True


@dataclass(frozen=True, repr=False)
class Interval(Dimension):
    """The real numbers in [low, high], evenly spread after `warped`."""

    low: float
    high: float
    scale: ClassVar[str]

    @staticmethod
    def warped(x: FloatArray) -> FloatArray:
        """Values on the scale on which they are evenly spread."""
        return x

    @staticmethod
    def unwarped(t: FloatArray) -> FloatArray:
        """The inverse of `warped`."""
        return t

    def _warped_ends(self) -> tuple[np.float64, np.float64]:
        start, stop = self.warped(np.array([self.low, self.high]))
        return start, stop

    def __repr__(self) -> str:
        return f"{self.scale}({self.low!r}, {self.high!r})"

    def to_spec(self) -> dict[str, Any]:
        """The scale with its bounds, `{"log_uniform": [low, high]}`."""
        return {self.scale: [self.low, self.high]}

    def narrowed(self, start: float, stop: float) -> "Interval":
        """From the value at start to the value at stop."""
        low, high = self.from_unit([start, stop]).tolist()
        return type(self)(low, high)

    def from_unit(self, u: npt.ArrayLike) -> FloatArray:
        """The values at u, float64 and never outside [low, high]."""
        start, stop = self._warped_ends()
        values = self.unwarped(start + (stop - start) * np.asarray(u, dtype=np.float64))
        # exp(log(high)) may round to just above high.
        return np.clip(values, self.low, self.high)

    def to_unit(self, x: npt.ArrayLike) -> FloatArray:
        """The places of x; 0.5 if the axis does not vary."""
        values = np.asarray(x, dtype=np.float64)
        require(self, values, (values >= self.low) & (values <= self.high))
        start, stop = self._warped_ends()
        if start == stop:
            return np.full(values.shape, 0.5)
        return np.clip((self.warped(values) - start) / (stop - start), 0.0, 1.0)

    def grid_size(self, n: int) -> int:
        """The number n itself, or 1 if the axis does not vary."""
        points = at_least_one(n, what="points")
        return points if self.low < self.high else 1

    def grid(self, n: int, *, ends: bool = True) -> FloatArray:
        """Float64 values, the first and the last exactly low and high where both ends are wanted."""
        size = self.grid_size(n)
        if size == 1 or not ends:
            return np.unique(self.from_unit(middles(size)))
        values = self.from_unit(np.linspace(0.0, 1.0, size))
        values[[0, -1]] = self.low, self.high
        return np.unique(values)


class Uniform(Interval):
    """Real numbers, x = low + (high - low) u."""

    scale = "uniform"


class LogUniform(Interval):
    """Positive numbers, log x = log low + (log high - log low) u."""

    scale = "log_uniform"

    @staticmethod
    def warped(x: FloatArray) -> FloatArray:
        """Values on the scale."""
        return np.log(x)

    @staticmethod
    def unwarped(t: FloatArray) -> FloatArray:
        """The inverse of `warped`."""
        return np.exp(t)


class ReverseLogUniform(Interval):
    """Numbers below 1, x = 1 - w with log w = log(1 - low) + (log(1 - high) - log(1 - low)) u."""

    scale = "reverse_log_uniform"

    @staticmethod
    def warped(x: FloatArray) -> FloatArray:
        """Values on the scale."""
        return np.log1p(-x)

    @staticmethod
    def unwarped(t: FloatArray) -> FloatArray:
        """The inverse of `warped`."""
        # One rounding after w: near 1 the difference 1 - x gives w back to half a unit in x's last place.
        return 1.0 - np.exp(t)


@dataclass(frozen=True, repr=False)
class Integers(Dimension):
    """The whole numbers low, low + 1, ..., high, each with an equal cell of the unit interval."""

    low: int
    high: int
    scale: ClassVar[str] = "integers"

    @property
    def cells(self) -> int:
        """How many values there are."""
        return self.high - self.low + 1

    def __repr__(self) -> str:
        return f"{self.scale}({self.low!r}, {self.high!r})"

    def to_spec(self) -> dict[str, Any]:
        """The scale with its bounds, `{"integers": [low, high]}`."""
        return {self.scale: [self.low, self.high]}

    def narrowed(self, start: float, stop: float) -> "Integers":
        """From the number at start to the number at stop."""
        low, high = self.from_unit([start, stop]).tolist()
        return Integers(low, high)

    def from_unit(self, u: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """The whole numbers whose cells hold u, int64."""
        return self.low + _cell(u, self.cells)

    def to_unit(self, x: npt.ArrayLike) -> FloatArray:
        """The middles of the cells of x."""
        values = np.asarray(x, dtype=np.float64)
        require(self, values, (values >= self.low) & (values <= self.high) & (values == np.floor(values)))
        return (values - self.low + 0.5) / self.cells

    def grid_size(self, n: int) -> int:
        """The smaller of n and high - low + 1."""
        return min(at_least_one(n, what="points"), self.cells)

    def grid(self, n: int, *, ends: bool = True) -> npt.NDArray[np.int64]:
        """Evenly spaced int64 values, rounded to the nearest, halves up."""
        size = self.grid_size(n)
        if size == 1 or not ends:
            # multiplied first, which is exact: a half must not round down
            return self.low + np.floor((np.arange(size) + 0.5) * self.cells / size).astype(np.int64)
        # Halves go up: np.round would send them to the even neighbour, up on one axis and down on the next.
        steps = np.floor(np.linspace(0, self.high - self.low, size) + 0.5)
        return self.low + steps.astype(np.int64)


@dataclass(frozen=True, repr=False)
class Options(Dimension):
    """Finitely many values, each with an equal cell of the unit interval.

    `types` keeps options apart that Python calls equal, such as 1, 1.0 and True.
    """

    options: tuple[Scalar, ...]
    types: tuple[type, ...]

    def from_unit(self, u: npt.ArrayLike) -> npt.NDArray[Any]:
        """The options whose cells hold u."""
        return column(self.options)[_cell(u, len(self.options))]

    def to_unit(self, x: npt.ArrayLike) -> FloatArray:
        """The middles of the cells of x."""
        values = np.asarray(x, dtype=object)
        index = {option: place for place, option in enumerate(self.options)}
        cells = np.array([index.get(plain(value), -1) for value in values.flat], dtype=np.int64)
        require(self, values.ravel(), cells >= 0)
        return (cells.reshape(values.shape) + 0.5) / len(self.options)

    def grid_size(self, n: int) -> int:
        """The number of options, whatever n."""
        at_least_one(n, what="points")
        return len(self.options)

    def grid(self, n: int, *, ends: bool = True) -> npt.NDArray[Any]:
        """All options in order, whatever n."""
        at_least_one(n, what="points")
        return column(self.options)


@dataclass(frozen=True, repr=False)
class Choice(Options):
    """One of several options, in an order that means something or in none."""

    in_order: bool = False

    def __repr__(self) -> str:
        order = ", ordered=True" if self.in_order else ""
        return f"choice({', '.join(map(repr, self.options))}{order})"

    def to_spec(self) -> dict[str, Any]:
        """The options, `{"choice": [...]}`."""
        return {"choice": list(self.options)} | ({"ordered": True} if self.in_order else {})

    @property
    def ordered(self) -> bool:
        """Whether the order of the options means something."""
        return self.in_order

    def narrowed(self, start: float, stop: float) -> "Choice":
        """The options from start to stop, where they have an order."""
        if not self.in_order:
            return self
        first, last = _cell([start, stop], len(self.options)).tolist()
        return Choice(self.options[first : last + 1], self.types[first : last + 1], True)

    def only(self, kept: Collection[Scalar]) -> "Choice":
        """The options that are kept, in their order."""
        pairs = [(o, t) for o, t in zip(self.options, self.types, strict=True) if o in kept]
        return Choice(tuple(o for o, _ in pairs), tuple(t for _, t in pairs), self.in_order)


class Constant(Options):
    """The same value in every configuration; printed as the plain value that stands for it."""

    @property
    def value(self) -> Scalar:
        """The one value."""
        return self.options[0]

    def __repr__(self) -> str:
        return repr(self.value)

    def to_spec(self) -> Scalar:
        """The plain value."""
        return self.value


def middles(cells: int) -> FloatArray:
    """The middles of so many equal cells of the unit interval.

    >>> middles(2).tolist()
    [0.25, 0.75]
    """
    return (np.arange(cells) + 0.5) / cells


def _cell(u: npt.ArrayLike, cells: int) -> npt.NDArray[np.int64]:
    """The number of the cell that each u falls into, 0 <= number < cells."""
    return np.clip(np.floor(np.asarray(u, dtype=np.float64) * cells), 0, cells - 1).astype(np.int64)


def require(dimension: Dimension, values: npt.NDArray[Any], inside: npt.NDArray[np.bool_]) -> None:
    """All values must be on the axis."""
    if not np.all(inside):
        first = plain(values[~inside].flat[0])
        raise InputError(f"values must lie on the axis {dimension!r}, got {first!r}: leave it out or clip it")
