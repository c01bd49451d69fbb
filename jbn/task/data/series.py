"""One column of a table as it comes: what it holds, whether that can be used, and its values as Python's own."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64, Int64

from jbn.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

Value = str | bool | int | float

TEXT, NUMBERS, BOOLEANS, NOTHING = "text", "numbers", "booleans", "nothing"
MANY = 50  # different values from which on it matters whether they come again

_KINDS = {  # pandas' words
    "string": TEXT,
    "boolean": BOOLEANS,
    "integer": NUMBERS,
    "floating": NUMBERS,
    "mixed-integer-float": NUMBERS,
}


def kind(values: "pd.Series") -> str:
    """What a column holds where it is not missing: text, numbers, booleans or nothing.

    Raises:
        InputError: something else, or infinite numbers.
    """
    from pandas.api.types import infer_dtype

    if values.isna().all():
        return NOTHING
    word = infer_dtype(_plain(values).dropna(), skipna=False)
    if word not in _KINDS:
        raise InputError(
            f"column {values.name!r} must hold numbers, text or booleans, but holds {word} values; "
            "make numbers or text of them, or drop it"
        )
    if _KINDS[word] == NUMBERS:
        _check_finite(values)
    return _KINDS[word]


def floats(values: "pd.Series") -> Float64[np.ndarray, " rows"]:
    """Numbers in float64, NaN where missing."""
    return _plain(values).to_numpy(dtype=np.float64, na_value=np.nan)


def distinct(values: "pd.Series") -> tuple[Value, ...]:
    """The different values, sorted, without missing ones; whole numbers are integers whatever their type."""
    convert = _PYTHON[kind(values)]
    return tuple(sorted({convert(value) for value in _plain(values).dropna().tolist()}))


def places(values: "pd.Series", known: Sequence[Value]) -> Int64[np.ndarray, " rows"]:
    """Where every value is among the known ones; -1 for others and for missing ones."""
    numbers = {value: place for place, value in enumerate(known)}
    found = (numbers.get(value, -1) for value in _plain(values).tolist())
    return np.fromiter(found, np.int64, len(values))


def tells_rows_apart(values: "pd.Series") -> str:
    """Why so many values occur once that they tell nothing about other rows, in words; else empty."""
    counts = _plain(values).value_counts()
    once = int((counts == 1).sum())
    if len(counts) <= MANY or 2 * once <= len(counts):
        return ""
    return f"{once} of its {len(counts)} different values occur only once"


def _plain(values: "pd.Series") -> "pd.Series":
    """The values themselves, also where pandas keeps places in a list of categories."""
    return values.astype(object) if values.dtype == "category" else values


def _check_finite(values: "pd.Series") -> None:
    infinite = np.isinf(floats(values))
    if infinite.any():
        row = int(infinite.argmax())
        raise InputError(
            f"column {values.name!r} must hold finite numbers, but has {values.iloc[row]} in row {row} "
            f"({infinite.sum()} in all); put numbers there, or nothing, which means missing"
        )


def _number(value: float) -> int | float:
    """Integers become floating where a column has missing values: 1.0 is 1."""
    return int(value) if value == int(value) else float(value)


_PYTHON: Mapping[str, Callable[..., Value]] = {TEXT: str, BOOLEANS: bool, NUMBERS: _number}
