"""The scales by which a caller names an axis: each checks what came and builds the dimension."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from jbn.errors import InputError
from jbn.search.conditions import Conditional, requirements
from jbn.search.dimensions import (
    Choice,
    Constant,
    Dimension,
    Integers,
    Interval,
    LogUniform,
    ReverseLogUniform,
    Uniform,
)
from jbn.search.quantized import Quantized, steps_between
from jbn.search.values import Scalar, column, is_finite_number, plain

# The cells of an integer axis must stay far wider than the resolution of float64 in [0, 1).
_LARGEST_INTEGER = 2**48


def uniform(low: float, high: float) -> Uniform:
    """A real number, evenly spread: x = low + (high - low) u.

    Args:
        low: the least value.
        high: the greatest value; equal to low for an axis that does not vary.

    Returns:
        A dimension with float64 values in [low, high].

    Raises:
        InputError: if the bounds are no finite numbers, or low > high.

    >>> uniform(0, 0.5).grid(3)
    array([0.  , 0.25, 0.5 ])
    """
    low, high = _bounds("uniform", low, high)
    if not is_finite_number(high - low):
        raise InputError(
            f"high - low must fit into float64, got {_call('uniform', low, high)}: move the bounds"
        )
    return Uniform(low, high)


def log_uniform(low: float, high: float) -> LogUniform:
    """A positive number whose logarithm is evenly spread: log x = log low + (log high - log low) u.

    Args:
        low: the least value, above 0.
        high: the greatest value.

    Returns:
        A dimension with float64 values in [low, high].

    Raises:
        InputError: if the bounds are no finite numbers, low > high, or low <= 0.

    >>> log_uniform(1, 100).grid(3).round(12)
    array([  1.,  10., 100.])
    """
    low, high = _bounds("log_uniform", low, high)
    if low <= 0:
        got = _call("log_uniform", low, high)
        raise InputError(f"low > 0 must hold on a log axis, got {got}: raise low above 0, or use uniform")
    return LogUniform(low, high)


def reverse_log_uniform(low: float, high: float) -> ReverseLogUniform:
    """A number below 1 whose distance to 1 is log-uniform: a momentum, say.

    With u in [0, 1): log w = log(1 - low) + (log(1 - high) - log(1 - low)) u, and x = 1 - w.

    Args:
        low: the least value, above 0.
        high: the greatest value, below 1.

    Returns:
        A dimension with float64 values in [low, high].

    Raises:
        InputError: if the bounds are no finite numbers, low > high, or one is not inside (0, 1).

    >>> reverse_log_uniform(0.9, 0.999).grid(3).round(12)
    array([0.9  , 0.99 , 0.999])
    """
    low, high = _bounds("reverse_log_uniform", low, high)
    if low <= 0 or high >= 1:
        got = _call("reverse_log_uniform", low, high)
        raise InputError(
            f"0 < low and high < 1 must hold on a reverse log axis, got {got}: "
            "move the bounds inside (0, 1), or use uniform"
        )
    return ReverseLogUniform(low, high)


def integers(low: int, high: int, *, log: bool = False) -> Integers | Quantized:
    """A whole number, all equally likely: x = low + floor((high - low + 1) u); or log-uniform.

    Args:
        low: the least value; at least 1 where it is log-uniform.
        high: the greatest value, included.
        log: make x as likely as the distance of the geometric means with its neighbours, on a log axis.

    Returns:
        A dimension with int64 values in [low, high].

    Raises:
        InputError: if the bounds are not finite, not whole, beyond 2**48 in size, low > high, or low < 1 on a log
            axis.

    >>> integers(2, 4).grid(5)
    array([2, 3, 4])
    >>> integers(1, 256, log=True).grid(5)
    array([  1,   4,  16,  64, 256])
    """
    ends = _bounds("integers", low, high)
    got = _call("integers", plain(low), plain(high))
    if any(end != int(end) for end in ends):
        raise InputError(f"bounds of integers must be whole, got {got}: round them, or use uniform")
    if any(abs(end) > _LARGEST_INTEGER for end in ends):
        raise InputError(
            f"bounds of integers must be within 2**48 of 0, got {got}: use log_uniform and round"
        )
    if not log:
        return Integers(int(ends[0]), int(ends[1]))
    if ends[0] < 1:
        raise InputError(
            f"low >= 1 must hold for whole numbers on a log axis, got {got}: raise low, or drop log"
        )
    return Quantized(LogUniform(*ends), 1.0, whole=True)


def quantized(axis: Dimension, step: float) -> Quantized | Integers:
    """A number in steps: low, low + step, low + 2 step, ..., as likely as its share of the axis's scale.

    Args:
        axis: uniform, log_uniform, reverse_log_uniform or integers; the last value is the last step that it holds.
        step: the distance of two values, above 0; whole for integers.

    Returns:
        A dimension with float64 values, or int64 where the axis has these.

    Raises:
        InputError: if the axis is another, or the step is not above 0, not finite, not whole, or so small that there
            were more than 2**48 values.

    >>> quantized(uniform(0, 1), 0.25).grid(9)
    array([0.  , 0.25, 0.5 , 0.75, 1.  ])
    >>> quantized(integers(16, 128, log=True), 16).from_unit([0.1, 0.5, 0.9])
    array([ 16,  48, 112])
    """
    inner, whole = _interval(axis)
    by = plain(step)
    got = f"quantized({axis!r}, {by!r})"
    if not is_finite_number(by) or by <= 0:
        raise InputError(
            f"a step must be a finite number above 0, got {got}: give the distance of two values"
        )
    if whole and by != int(by):
        raise InputError(f"a step of whole numbers must be whole, got {got}: round it, or use uniform")
    if (inner.high - inner.low) / by > _LARGEST_INTEGER:
        raise InputError(f"steps must be at most 2**48, got {got}: take a larger one, or none")
    own = Quantized(inner, float(by), whole)
    if whole and by == 1 and isinstance(axis, Integers):
        return axis
    last = own.value_at(steps_between(inner.low, inner.high, by))
    return Quantized(type(inner)(inner.low, min(last, inner.high)), float(by), whole)


def when(axis: Dimension | Scalar, /, **parents: Scalar | Sequence[Scalar]) -> Conditional:
    """An axis that a configuration has only where other hyper-parameters have certain values.

    Where it does not exist, configurations have NaN, or None among strings and bools. A hyper-parameter that is
    required and does not exist itself counts as not met.

    Args:
        axis: the axis, or a constant.
        **parents: names of choices of the same space, each with a value or a list of values.

    Returns:
        A dimension; the space that it stands in checks the names.

    Raises:
        InputError: if no other hyper-parameter is named, or one without a value.

    >>> when(uniform(0, 1), optimizer=["sgd", "rmsprop"])
    when(uniform(0.0, 1.0), optimizer=('sgd', 'rmsprop'))
    """
    own = axis if isinstance(axis, Dimension) else constant(axis)
    if isinstance(own, Conditional):
        raise InputError(
            f"conditions must stand in one when(), got two of them around {own.axis!r}: join them"
        )
    return Conditional(own, requirements(parents))


def choice(*options: Scalar, ordered: bool = False) -> Choice:
    """One of the options, all equally likely.

    Args:
        *options: numbers, strings and bools, all different.
        ordered: whether neighbours are alike, so that a search may narrow to a stretch of them. The numbers of a
            choice are no axis unless it is said so.

    Returns:
        A dimension whose values are int64 if all options are ints, float64 if all are numbers, otherwise
        object.

    Raises:
        InputError: if there is no option, one comes twice, or one is no number, string or bool.

    >>> choice("relu", "tanh").from_unit([0.2, 0.7])
    array(['relu', 'tanh'], dtype=object)
    """
    if not options:
        raise InputError("a choice must have at least one option, got choice(): name the options")
    scalars = [_scalar(option) for option in options]
    values, types = _options(scalars)
    for place, value in enumerate(values):
        first = values.index(value)
        if first < place:
            twins = f"{scalars[first]!r} and {scalars[place]!r}"
            call = _call("choice", *scalars)
            raise InputError(f"the options of a choice must differ, got {twins} in {call}: leave one out")
    return Choice(values, types, bool(ordered))


def constant(value: Scalar) -> Constant:
    """The axis that a plain value in a space stands for.

    Args:
        value: a number, string or bool.

    Returns:
        A dimension whose one value is int64, float64 or object.

    Raises:
        InputError: if the value is no number, string or bool.

    >>> constant(0.999)
    0.999
    """
    return Constant(*_options([_scalar(value)]))


BUILDERS: Mapping[str, Callable[..., Dimension]] = MappingProxyType(
    {build.__name__: build for build in (uniform, log_uniform, reverse_log_uniform, integers, choice)}
)
"""The public scales by name: what a specification's table may name."""


def _interval(axis: Dimension) -> tuple[Interval, bool]:
    """The interval whose steps are taken, and whether they are whole numbers."""
    if isinstance(axis, Integers):
        return Uniform(float(axis.low), float(axis.high)), True
    if isinstance(axis, Quantized) and axis.whole and axis.step == 1:
        return axis.inner, True
    if isinstance(axis, Interval):
        return axis, False
    raise InputError(
        f"steps must be those of uniform, log_uniform, reverse_log_uniform or integers, got quantized({axis!r}, ...)"
    )


def _call(scale: str, *arguments: object) -> str:
    return f"{scale}({', '.join(map(repr, arguments))})"


def _bounds(scale: str, low: Any, high: Any) -> tuple[float, float]:
    low, high = plain(low), plain(high)
    got = _call(scale, low, high)
    if not (is_finite_number(low) and is_finite_number(high)):
        raise InputError(f"bounds must be finite numbers, got {got}: give a low and a high number")
    if low > high:
        raise InputError(f"low <= high must hold, got {got}: swap the bounds")
    return float(low), float(high)


def _scalar(value: Any) -> Scalar:
    scalar = plain(value)
    if type(scalar) not in (bool, int, float, str) or scalar != scalar:  # noqa: PLR0124 (only NaN differs)
        raise InputError(f"a value must be a number (not NaN), a string or a bool, got {scalar!r}")
    if type(scalar) is int and not -(2**63) <= scalar < 2**63:
        raise InputError(f"a whole number must fit into 64 bits, got {scalar}: write it as a float")
    return scalar


def _options(scalars: list[Scalar]) -> tuple[tuple[Scalar, ...], tuple[type, ...]]:
    """The options as their column will hold them (1 beside 0.5 is 1.0), and their types."""
    options = tuple(column(scalars).tolist())
    return options, tuple(map(type, options))
