"""Tables as pandas data frames: read from CSV and Parquet files, and checked."""

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from jbn.errors import InputError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".csv", ".csv.gz", ".parquet")


def is_table(name: str) -> bool:
    """Whether a path ends like that of a table."""
    return name.lower().endswith(SUFFIXES)


def read(path: Path) -> "pd.DataFrame":
    """The table of a file, with the column names as they are in it, even if some are there twice."""
    if not is_table(path.name):
        raise InputError(
            f"{path} must end in {', '.join(SUFFIXES)}; read it with pandas and give the data frame"
        )
    if not path.is_file():
        raise InputError(f"{path} must be a table, but there is no such file; check the path")
    return _parquet(path) if path.suffix.lower() == ".parquet" else _csv(path)


def check_frame(frame: object) -> None:
    """Rows come as a data frame of pandas, with text for column names."""
    import pandas as pd

    if not isinstance(frame, pd.DataFrame):
        raise InputError(
            f"rows must be a pandas data frame, but got {type(frame).__name__}; pandas.DataFrame(rows) makes one"
        )
    for name in frame.columns:
        if not isinstance(name, str):
            raise InputError(
                f"column names must be text, but one is {name!r}; frame.set_axis(names, axis=1) names them"
            )


def check_known(names: Iterable[str], frame: "pd.DataFrame") -> None:
    """Each of the names is that of exactly one column."""
    counts = Counter(frame.columns)
    for name in names:
        if name not in counts:
            raise InputError(f"there is no column {name!r}; {did_you_mean(name, counts)}")
        if counts[name] > 1:
            raise InputError(
                f"column names must differ, but {counts[name]} are {name!r}; rename or remove one"
            )


def _csv(path: Path) -> "pd.DataFrame":
    import pandas as pd

    with _reading(path), warnings.catch_warnings():
        warnings.simplefilter(
            "error", pd.errors.ParserWarning
        )  # rows longer than the header: values would go
        header = pd.read_csv(path, header=None, nrows=1, dtype=str, keep_default_na=False)
        frame = pd.read_csv(path, index_col=False, low_memory=False)
    names = header.iloc[0].tolist()
    if len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
        raise InputError(
            f"{path} must have commas between its columns, but its header is one column, {names[0]!r}; "
            "give the data frame pandas.read_csv(path, sep=...)"
        )
    return frame.set_axis(names, axis=1)  # pandas renames what has no name or one that was there before


def _parquet(path: Path) -> "pd.DataFrame":
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"{path} needs pyarrow to be read, but it is not installed; install the extra jbn[parquet]"
        ) from error
    import pandas as pd

    with _reading(path):
        return pd.read_parquet(path, engine="pyarrow")


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # damage shows as whatever the code that stumbles over it raises
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path} cannot be read, as it is empty, damaged or no table in UTF-8 "
            f"({type(error).__name__}: {reason}); mend it, or give a pandas data frame"
        ) from error
