"""Tables with a target column, from CSV and Parquet files or pandas."""

import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64

from jbn.errors import InputError
from jbn.task.data import columns, frames, series
from jbn.task.data import targets as goals
from jbn.task.data.assembly import PARTS, assemble
from jbn.task.data.checks import Named
from jbn.task.data.parts import Data
from jbn.task.data.splitting import Indices, split
from jbn.task.data.targets import Target

if TYPE_CHECKING:
    import pandas as pd

SHARES = dict(zip(PARTS, (3, 1, 1), strict=True))


def table(
    path_or_dataframe: "str | os.PathLike[str] | pd.DataFrame",
    *,
    target: str,
    targets: str | None = None,
    categorical: str | Iterable[str] | None = None,
    drop: str | Iterable[str] = (),
    seed: int = 0,
    name: str | None = None,
) -> Data:
    """Data from a table with a target column: one row an example, the other columns features.

    Rows are split first: 60 % training, 20 % validation, 20 % test, in proportion within every class. All that is
    learned from values is learned from the training part:

    - A column of numbers stays one; a missing value becomes the training part's mean, which is 0 once features are
      normalised, and if the training part misses values too, a column `NAME is missing` is 1 there, else 0.
    - A column of text or booleans becomes one column `NAME=VALUE` for each value of the training part, 1 in its
      rows, else 0; being missing is a value too, `NAME is missing`. A value that the training part has not has zeros
      everywhere.
    - Text, booleans, and whole numbers of at most 50 different values are classes in a target, numbered in sorted
      order; `Data.class_names` has the values. Other numbers are numbers, for regression.

    Missing are empty fields of a file and what pandas takes for missing (`NA`, `NaN`, `None`, `null`, ...).
    `Data.columns.encode(rows)` makes features of new rows, for `best.predict`.

    Args:
        path_or_dataframe: a path that ends in `.csv` (UTF-8, commas, names in the first line), `.csv.gz` or
            `.parquet`, or a pandas data frame, whose index is not a feature.
        target: the column to predict.
        targets: what it is, "classes" or "numbers", where the rule above decides otherwise (a grade of 1 to 5).
        categorical: columns whose numbers name categories (a postcode); the target among them has classes.
        drop: columns that are no features, e.g. numbers of rows.
        seed: fixes the split.
        name: what to call the data set; the file's name if it is not given.

    Returns:
        The data set: features in float64, finite.

    Raises:
        InputError: the file cannot be read, a column is not there or cannot be encoded (dates, infinite numbers,
            nothing but missing values, text of which most occurs once), the target misses values, or there are too
            few rows to split.

    >>> import pandas as pd
    >>> from jbn.task import data
    >>> frame = pd.DataFrame({"age": [31, 45, None, 28, 60] * 2, "sex": list("fmffm") * 2, "ill": list("nynny") * 2})
    >>> ill = data.table(frame, target="ill")
    >>> ill
    Data('table': 6 training, 2 validation, 2 test rows of 4 features, 2 classes)
    >>> ill.columns.names, ill.class_names
    (('age', 'age is missing', 'sex=f', 'sex=m'), ('n', 'y'))
    """
    frame, title = _frame(path_or_dataframe)
    dropped, chosen = _listed(drop), _listed(categorical or ())
    frames.check_known([target], frame)
    features = _features(frame, target, dropped, chosen)
    goal = goals.encode(frame[target], kind="classes" if target in chosen else targets)
    rows = split(_strata(goal), SHARES, seed=seed)
    learned = columns.fit(features.iloc[rows["train"]], categorical=chosen)
    whole = _data(learned.encode(features), goal, rows, name=name or title, seed=seed)
    return dataclasses.replace(whole, class_names=goal.class_names, columns=learned)


def _frame(given: "str | os.PathLike[str] | pd.DataFrame") -> "tuple[pd.DataFrame, str]":
    """The table and what to call it."""
    if isinstance(given, str | os.PathLike):
        path = Path(given).expanduser()
        frame, title = frames.read(path), path.name
    else:
        frame, title = given, "table"
    frames.check_frame(frame)
    if not len(frame):
        raise InputError(f"{title} must have rows, but has none; give more than its column names")
    return frame, title


def _listed(names: str | Iterable[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


def _features(frame: "pd.DataFrame", target: str, drop: list[str], categorical: list[str]) -> "pd.DataFrame":
    """All columns but the target and those to drop, checked as they come, so that messages have the row's number."""
    frames.check_known([*drop, *categorical], frame)
    if target in drop:
        raise InputError(f"the target {target!r} must stay, but is in drop; it is no feature anyway")
    names = [name for name in frame.columns if name != target and name not in drop]
    if not names:
        raise InputError(
            f"there must be a column beside the target {target!r}, but there is none; drop fewer"
        )
    frames.check_known(names, frame)
    if "" in names:
        raise InputError(
            f"column {list(frame.columns).index('')} must have a name, but has none, as a row's number written by "
            "pandas; write the file with index=False, or drop it (drop='')"
        )
    for name in names:
        series.kind(frame[name])
    return frame[names]


def _strata(goal: Target) -> np.ndarray:
    """What the split keeps in proportion: classes; numbers are split without regard to them."""
    return goal.y if goal.class_names is not None else np.zeros(len(goal.y), np.int32)


def _data(
    x: Float64[np.ndarray, "rows columns"], goal: Target, rows: dict[str, Indices], *, name: str, seed: int
) -> Data:
    given = {f"x_{part}": Named(f"x_{part}", x[chosen]) for part, chosen in rows.items()}
    given |= {f"y_{part}": Named(f"y_{part}", goal.y[chosen]) for part, chosen in rows.items()}
    kind = "numbers" if goal.class_names is None else "classes"
    return assemble(given, name=name, seed=seed, targets=kind)
