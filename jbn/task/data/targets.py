"""The target column of a table: classes or numbers."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float64, Int32

from jbn.errors import InputError
from jbn.task.data import series
from jbn.task.data.checks import check_kind
from jbn.task.data.series import MANY, NUMBERS, TEXT, Value

if TYPE_CHECKING:
    import pandas as pd


class Target(NamedTuple):
    """What is to be predicted.

    Args:
        y: class numbers in int32, or numbers in float64, `[rows]`.
        class_names: the value that each class stands for, sorted; None for numbers.
    """

    y: Int32[np.ndarray, " rows"] | Float64[np.ndarray, " rows"]
    class_names: tuple[Value, ...] | None


def encode(values: "pd.Series", *, kind: str | None = None) -> Target:
    """Text, booleans and whole numbers of at most 50 different values are classes, other numbers numbers.

    Args:
        values: the target column.
        kind: "classes" or "numbers", whatever the values; None: by the rule above.

    Raises:
        InputError: values are missing, of another kind, infinite, all the same, or text of which most occurs once.
    """
    absent = values.isna().to_numpy()
    if absent.any():
        raise InputError(
            f"target {values.name!r} must have values, but misses {absent.sum()} of {len(absent)}, "
            f"first in row {absent.argmax()}; leave out such rows"
        )
    if _are_numbers(values, None if kind is None else check_kind(kind)):
        return Target(series.floats(values), None)
    names = _class_names(values, kind == "classes")
    return Target(series.places(values, names).astype(np.int32), names)


def _are_numbers(values: "pd.Series", kind: str | None) -> bool:
    numbers = series.kind(values) == NUMBERS
    if kind == "numbers" and not numbers:
        raise InputError(
            f"target {values.name!r} must hold numbers, but holds {series.kind(values)}; leave targets out, and it "
            f"has classes"
        )
    return kind == "numbers" or (kind is None and numbers and not _few_and_whole(series.floats(values)))


def _few_and_whole(y: Float64[np.ndarray, " rows"]) -> bool:
    return bool((y == np.floor(y)).all()) and len(np.unique(y)) <= MANY


def _class_names(values: "pd.Series", categorical: bool) -> tuple[Value, ...]:
    reason = series.tells_rows_apart(values)
    if series.kind(values) == TEXT and reason and not categorical:
        raise InputError(
            f"target {values.name!r} must have classes of several rows, but {reason}; "
            "take another column, or name it in categorical"
        )
    names = series.distinct(values)
    if len(names) < 2:
        raise InputError(
            f"target {values.name!r} must have at least two classes, but is {names[0]!r} in every row; "
            "take another column or more rows"
        )
    return names
