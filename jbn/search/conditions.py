"""Axes that exist only where other hyper-parameters have certain values."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jbn.errors import InputError, did_you_mean
from jbn.search.dimensions import Dimension, FloatArray, Options
from jbn.search.values import Scalar, column, plain

Requirement = tuple[str, tuple[Scalar, ...]]


@dataclass(frozen=True, repr=False)
class Conditional(Dimension):
    """An axis that a configuration has only where other hyper-parameters have one of some values.

    Args:
        axis: the axis itself.
        requires: names of others with the values that each must have one of.
    """

    axis: Dimension
    requires: tuple[Requirement, ...]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.axis, name)  # `low`, `high`, `options`, as far as the axis has them

    def __repr__(self) -> str:
        words = [
            f"{name}={values[0]!r}" if len(values) == 1 else f"{name}={values!r}"
            for name, values in self.requires
        ]
        return f"when({self.axis!r}, {', '.join(words)})"

    def to_spec(self) -> dict[str, Any]:
        """The axis with what it requires, `{"uniform": [0.0, 1.0], "when": {"optimizer": ["sgd"]}}`."""
        own = self.axis.to_spec()
        own = own if isinstance(own, dict) else {"constant": own}
        return {**own, "when": {name: list(values) for name, values in self.requires}}

    def from_unit(self, u: npt.ArrayLike) -> npt.NDArray[Any]:
        """The values at u, where there are any."""
        return self.axis.from_unit(u)

    def to_unit(self, x: npt.ArrayLike) -> FloatArray:
        """The places of x."""
        return self.axis.to_unit(x)

    def grid_size(self, n: int) -> int:
        """That of the axis."""
        return self.axis.grid_size(n)

    def grid(self, n: int, *, ends: bool = True) -> npt.NDArray[Any]:
        """That of the axis."""
        return self.axis.grid(n, ends=ends)

    def narrowed(self, start: float, stop: float) -> "Conditional":
        """The narrowed axis, under the same condition."""
        return Conditional(self.axis.narrowed(start, stop), self.requires)

    @property
    def ordered(self) -> bool:
        """Whether the axis is."""
        return self.axis.ordered


def base(axis: Dimension) -> Dimension:
    """The axis without its condition."""
    return axis.axis if isinstance(axis, Conditional) else axis


def check(space: Mapping[str, Dimension]) -> tuple[str, ...]:
    """The names of a space, each behind those that it requires.

    Raises:
        InputError: a requirement that no configuration can meet, or one that leads back to itself.
    """
    for name, axis in space.items():
        for other, values in _requires(axis):
            _check_requirement(space, name, other, values)
    order: list[str] = []
    while len(order) < len(space):
        ready = [
            name
            for name, axis in space.items()
            if name not in order and all(other in order for other, _ in _requires(axis))
        ]
        if not ready:
            left = [name for name in space if name not in order]
            raise InputError(
                f"conditions must not lead back to themselves, but those of {', '.join(left)} do: drop one of them"
            )
        order += ready
    return tuple(order)


def that_can_exist(space: Mapping[str, Dimension]) -> dict[str, Dimension]:
    """The axes whose conditions can still be met where options of others have gone, and what is left of these."""
    found: dict[str, Dimension] = {}
    for name, axis in space.items():
        own = tuple((other, _of_those(space, other, values)) for other, values in _requires(axis))
        if all(values for _, values in own):
            found[name] = Conditional(base(axis), own) if own else axis
    return found if len(found) == len(space) else that_can_exist(found)


def _of_those(space: Mapping[str, Dimension], other: str, values: tuple[Scalar, ...]) -> tuple[Scalar, ...]:
    axis = base(space[other]) if other in space else None
    return tuple(value for value in values if isinstance(axis, Options) and value in axis.options)


def active(space: Mapping[str, Dimension], columns: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray]:
    """Where each hyper-parameter exists: where all that it requires exists and has one of the values."""
    rows = len(next(iter(columns.values())))
    found: dict[str, npt.NDArray] = {}
    for name in check(space):
        here = np.ones(rows, bool)
        for other, values in _requires(space[name]):
            here &= found[other] & np.isin(columns[other].astype(object), np.array(values, object))
        found[name] = here
    return found


def exists(axis: Dimension, row: Mapping[str, Any]) -> bool:
    """Whether one configuration has a hyper-parameter, by the values of those that it requires; see `active`."""
    return all(row.get(other) is not None and row[other] in values for other, values in _requires(axis))


def switched_off(
    space: Mapping[str, Dimension], columns: Mapping[str, npt.NDArray[Any]]
) -> dict[str, npt.NDArray[Any]]:
    """The columns with NaN, or None in those of objects, where a hyper-parameter does not exist."""
    if not any(_requires(axis) for axis in space.values()):
        return dict(columns)
    exists = active(space, columns)
    return {name: only(values, exists[name]) for name, values in columns.items()}


def only(values: npt.NDArray[Any], kept: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The values of some rows (a mask or numbers); NaN, or None where they are objects, in all others."""
    kept = kept if kept.dtype == bool else np.isin(np.arange(len(values)), kept)
    if kept.all():
        return values
    names = values.dtype == object
    result = np.full(values.shape, None if names else np.nan, object if names else np.float64)
    result[kept] = values[kept]
    return result


def missing(values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Where a column has no value: NaN or None."""
    if values.dtype != object:
        return np.isnan(values)
    return np.array([v is None or (isinstance(v, float) and math.isnan(v)) for v in values], bool)


def requirements(parents: Mapping[str, Scalar | Sequence[Scalar]]) -> tuple[Requirement, ...]:
    """Names and the values that each must have one of, from a call's arguments.

    Raises:
        InputError: no name, or one without a value.
    """
    found = []
    for name, given in parents.items():
        values = tuple(given) if isinstance(given, list | tuple) else (given,)
        if not values:
            raise InputError(
                f"a condition must name values of {name}, got none: write when(axis, {name}=value)"
            )
        found.append((name, tuple(plain(value) for value in column(values).tolist())))
    if not found:
        raise InputError(
            "a condition must name another hyper-parameter, got none: write when(axis, name=value)"
        )
    return tuple(found)


def _requires(axis: Dimension) -> tuple[Requirement, ...]:
    return axis.requires if isinstance(axis, Conditional) else ()


def _check_requirement(
    space: Mapping[str, Dimension], name: str, other: str, values: tuple[Scalar, ...]
) -> None:
    if other not in space:
        raise InputError(
            f"{name}: a condition must be on a hyper-parameter of the space, got {other!r}; "
            f"{did_you_mean(other, space)}"
        )
    axis = base(space[other])
    if not isinstance(axis, Options):
        raise InputError(
            f"{name}: a condition must be on a choice or a constant, got {other} = {axis!r}: make it a choice"
        )
    for value in values:
        if value not in axis.options:
            raise InputError(
                f"{name}: a condition must be on values that {other} may have, got {value!r} for {axis!r}"
            )
