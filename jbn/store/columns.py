"""How a column of Python or NumPy values becomes SQLite cells, and comes back as it was."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jbn.errors import InputError

# The declared type of a column says how its cells are read back. "JSON_TEXT" contains "TEXT", so that
# SQLite leaves such cells alone: a column declared "JSON" would turn the text 3.0 into the integer 3.
REAL, INTEGER, TEXT, JSON_TEXT = "REAL", "INTEGER", "TEXT", "JSON_TEXT"


def encode(name: str, values: np.ndarray) -> tuple[str, list[Any]]:
    """The declared type of a column and its cells; in the file NaN and None are NULL.

    Floats are REAL and integers INTEGER; printable strings are TEXT; a column of anything else holds JSON.

    Args:
        name: The column's name, for the error message.
        values: Array [rows] of floats, integers, or objects that JSON can say.

    Returns:
        The declared type, and a list [rows] of values that sqlite3 takes.

    Raises:
        InputError: JSON cannot say one of the values.

    >>> encode("activation", np.array(["relu", None], object))
    ('TEXT', ['relu', None])
    >>> encode("shared", np.array([True, "half"], object))
    ('JSON_TEXT', ['true', '"half"'])
    """
    if values.dtype.kind == "f":
        return REAL, values.astype(np.float64).tolist()  # SQLite itself stores NaN as NULL
    if values.dtype.kind == "i":
        return INTEGER, values.tolist()
    cells = [_present(value) for value in values.tolist()]
    # Lone surrogates cannot be stored as text, and are not printable; JSON escapes them.
    if all(cell is None or (isinstance(cell, str) and cell.isprintable()) for cell in cells):
        return TEXT, cells
    return JSON_TEXT, [None if cell is None else to_json(name, cell) for cell in cells]


def decode(declared: str, cells: Sequence[Any]) -> np.ndarray:
    """The array that `encode` was given; NULL is NaN in a REAL column and None in a column of objects.

    >>> decode("REAL", [0.5, None])
    array([0.5, nan])
    >>> decode("JSON_TEXT", ['true', None, '"half"'])
    array([True, None, 'half'], dtype=object)
    """
    if declared == REAL:
        return np.array(cells, np.float64)
    if declared == INTEGER:
        return np.array(cells, np.int64)
    values = np.empty(len(cells), object)  # filled one by one: np.array would make a matrix of equal lists
    for row, cell in enumerate(cells):
        values[row] = json.loads(cell) if declared == JSON_TEXT and cell is not None else cell
    return values


def spread_cells(
    config_id: np.ndarray, seed: np.ndarray, spreads: Mapping[str, np.ndarray]
) -> tuple[str | None, bytes | None]:
    """Names as JSON, and arrays [rows, 3] as float32 [names, rows, 3], rows by `config_id`, then `seed`.

    >>> spread_cells(np.array([1, 0]), np.array([0, 0]), {"layer_1/var": np.array([[3, 4, 5], [0, 1, 2]])})[0]
    '["layer_1/var"]'
    """
    if not spreads:
        return None, None
    order = np.lexsort((seed, config_id))
    values = np.stack([np.asarray(own)[order] for own in spreads.values()])
    return json.dumps(list(spreads)), values.astype("<f4").tobytes()


def spread_arrays(names: str, cell: bytes) -> dict[str, np.ndarray]:
    """The arrays that `spread_cells` was given, in the order of its rows.

    >>> cells = spread_cells(np.array([1, 0]), np.array([0, 0]), {"a": np.array([[3, 4, 5], [0, 1, 2]])})
    >>> spread_arrays(*cells)["a"].tolist()
    [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    """
    known = json.loads(names)
    return dict(zip(known, np.frombuffer(cell, "<f4").reshape(len(known), -1, 3), strict=True))


def finite(values: np.ndarray) -> list[float | None]:
    """The numbers of an array as Python floats, None where they are not finite.

    >>> finite(np.array([0.5, np.nan, np.inf]))
    [0.5, None, None]
    """
    numbers = np.asarray(values, np.float64)
    return [number if math.isfinite(number) else None for number in numbers.tolist()]


def to_json(name: str, value: Any) -> str:
    """A value as JSON; NumPy's scalars and arrays become plain numbers and lists.

    NaN and infinity are written as Python and JSON5 write them, so that no setting changes on the way.

    Raises:
        InputError: The value has no JSON form.

    >>> to_json("momentum", {"start": np.int64(1), "end": float("inf")})
    '{"start": 1, "end": Infinity}'
    """
    try:
        return json.dumps(value, default=_plain)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{name!r} must be numbers, strings, booleans, None, or lists and dicts of them, "
            f"not {value!r} ({error}); give its name instead"
        ) from error


def _present(value: Any) -> Any:
    plain = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(plain, float) and np.isnan(plain) else plain


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no JSON form")
