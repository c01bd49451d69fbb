"""What counts as a number, a whole number or a column of a table, wherever a caller hands one in."""

import sys
from typing import Any

import numpy as np
import numpy.typing as npt

from jbn.errors import InputError

Scalar = bool | int | float | str


def plain(value: Any) -> Any:
    """A NumPy scalar as the Python scalar it stands for; anything else as it came.

    >>> plain(np.float64(0.5))
    0.5
    """
    return value.item() if isinstance(value, np.generic) else value


def is_finite_number(value: object) -> bool:
    """Whether the value is an int or a float (no bool) that float64 can hold.

    >>> [is_finite_number(value) for value in (1, 0.5, True, float("nan"), 10**400, "1")]
    [True, True, False, False, False, False]
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= sys.float_info.max


def at_least_one(value: object, *, what: str) -> int:
    """The value as an int of at least 1.

    Args:
        value: a whole number; 5.0 and NumPy's integers will do.
        what: what is counted, the first words of the message.

    Raises:
        InputError: if the value is no whole number, or is below 1.

    >>> at_least_one(5.0, what="configs")
    5
    """
    number = plain(value)
    if not is_finite_number(number) or number != int(number):
        raise InputError(f"{what} must be a whole number, got {number!r}: give an int of at least 1")
    if number < 1:
        raise InputError(f"{what} must be at least 1, got {number!r}")
    return int(number)


def column(values: Any) -> npt.NDArray[Any]:
    """The values as a host array of one of three dtypes.

    Integers are int64, numbers float64, and all else (strings, bools, mixtures, None) object.

    Args:
        values: an array, or a sequence of scalars.

    >>> column([1, 2]).dtype, column([1, 2.5]).dtype, column([True, "relu"]).dtype
    (dtype('int64'), dtype('float64'), dtype('O'))
    """
    # A lone scalar keeps its shape (): a string is no sequence of letters here.
    if hasattr(values, "__array__") or isinstance(values, Scalar):
        array = np.asarray(values)
        return array.astype({"i": np.int64, "u": np.int64, "f": np.float64}.get(array.dtype.kind, object))
    scalars = [plain(value) for value in values]
    kinds = set(map(type, scalars))
    if kinds == {int}:
        return np.array(scalars, dtype=np.int64)
    return np.array(scalars, dtype=np.float64 if kinds in ({float}, {int, float}) else object)
