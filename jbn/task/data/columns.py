"""Columns of a table as numbers: what is learned from the training part, and applied to any rows."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64

from jbn.errors import InputError
from jbn.task.data import frames, series
from jbn.task.data.series import NOTHING, NUMBERS, TEXT, Value

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Number:
    """A column of numbers: itself, and where it is missing if the training part taught that.

    Args:
        name: of the column.
        fill: the training part's mean, for missing values.
        missing: a second column is 1 where the value is missing, else 0.
    """

    name: str
    fill: float
    missing: bool

    @property
    def kind(self) -> str:
        """What its values are."""
        return NUMBERS

    @property
    def names(self) -> tuple[str, ...]:
        """The column's own, and `NAME is missing`."""
        return (self.name, *_missing(self))

    def encode(self, values: "pd.Series") -> Float64[np.ndarray, "rows columns"]:
        """`[value or fill, 1 where missing]`."""
        x = series.floats(values)
        absent = np.isnan(x)
        filled = np.where(absent, self.fill, x)
        return np.stack([filled, absent], axis=1) if self.missing else filled[:, None]


@dataclass(frozen=True)
class Category:
    """A column of categories: one column each, 1 in the category's rows, else 0.

    Args:
        name: of the column.
        kind: what its values are: text, numbers or booleans.
        values: the categories of the training part, sorted.
        missing: being missing is the last category.
    """

    name: str
    kind: str
    values: tuple[Value, ...]
    missing: bool

    @property
    def names(self) -> tuple[str, ...]:
        """`NAME=VALUE` for every category, and `NAME is missing`."""
        return (*(f"{self.name}={value}" for value in self.values), *_missing(self))

    def encode(self, values: "pd.Series") -> Float64[np.ndarray, "rows columns"]:
        """One-hot rows; those of unknown values are all zeros."""
        places = series.places(values, self.values)
        if self.missing:
            places[values.isna().to_numpy()] = len(self.values)
        return (places[:, None] == np.arange(len(self.names))).astype(np.float64)


@dataclass(frozen=True)
class Columns:
    """The learned encoding of a table's columns, for the rows it was made for and any others.

    Args:
        columns: one for each column of the table that is a feature, in the table's order.

    >>> import pandas as pd
    >>> columns = fit(pd.DataFrame({"age": [20, None, 40], "town": ["Ulm", "Rome", "Ulm"]}))
    >>> columns.names
    ('age', 'age is missing', 'town=Rome', 'town=Ulm')
    >>> columns.encode(pd.DataFrame({"town": ["Ulm", "Bari"], "age": [None, 25]})).tolist()
    [[30.0, 1.0, 0.0, 1.0], [25.0, 0.0, 0.0, 0.0]]
    """

    columns: tuple[Number | Category, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns that `encode` returns, `[columns]`."""
        return tuple(name for column in self.columns for name in column.names)

    def encode(self, frame: "pd.DataFrame") -> Float64[np.ndarray, "rows columns"]:
        """The features of these rows: what a model takes.

        Args:
            frame: a pandas data frame with the columns of the table, in any order; others are passed over.

        Returns:
            `[rows, len(names)]`, float64, finite.

        Raises:
            InputError: a column is not there or there twice, or does not hold what it held in the training part
                (text, numbers, booleans), or holds infinite numbers.
        """
        frames.check_frame(frame)
        frames.check_known([column.name for column in self.columns], frame)
        x = np.empty((len(frame), len(self.names)))
        start = 0
        for column in self.columns:
            stop = start + len(column.names)
            x[:, start:stop] = column.encode(_alike(frame[column.name], column.kind))
            start = stop
        return x


def fit(frame: "pd.DataFrame", *, categorical: Collection[str] = ()) -> Columns:
    """The encoding that a training part teaches; all its columns are features.

    Args:
        frame: the rows of the training part.
        categorical: columns whose numbers are categories; text and booleans always are.

    Raises:
        InputError: a column has nothing but missing values, or values that are no finite numbers, text or
            booleans, or text of which most occurs once; or two encoded columns would have the same name.
    """
    columns = Columns(tuple(_fitted(frame[name], categorical) for name in frame))
    name, count = Counter(columns.names).most_common(1)[0]
    if count > 1:
        raise InputError(f"encoded columns must differ, but two would be {name!r}; rename one of the columns")
    return columns


def _fitted(values: "pd.Series", categorical: Collection[str]) -> Number | Category:
    name, kind = str(values.name), series.kind(values)
    if kind == NOTHING:
        raise InputError(
            f"column {name!r} must have values, but all are missing in the training part; drop it (drop={name!r})"
        )
    missing = bool(values.isna().any())
    if kind == NUMBERS and name not in categorical:
        return Number(name, float(np.nanmean(series.floats(values))), missing)
    reason = series.tells_rows_apart(values)
    if kind == TEXT and reason and name not in categorical:
        raise InputError(
            f"column {name!r} must have values that come again, but {reason}, as names of rows do; "
            f"drop it (drop={name!r}), or name it in categorical"
        )
    return Category(name, kind, series.distinct(values), missing)


def _alike(values: "pd.Series", learned: str) -> "pd.Series":
    """The values, if they are what the training part held; else the known ones among them would look unknown."""
    kind = series.kind(values)
    if kind not in (learned, NOTHING):
        raise InputError(
            f"column {values.name!r} must hold {learned}, as in the training part, but holds {kind}; "
            "convert it with astype, or give dtype= where it is read"
        )
    return values


def _missing(column: Number | Category) -> tuple[str, ...]:
    return (f"{column.name} is missing",) if column.missing else ()
