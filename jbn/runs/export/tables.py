"""The table of a run as a file."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jbn import store
from jbn.runs.table import ranked

if TYPE_CHECKING:
    import pandas as pd


def exported_table(run: store.Record) -> "pd.DataFrame":
    """One row per configuration, best first, with the columns of the result's table."""
    table = ranked(run.configurations, maximize=bool(run.objective.maximize))
    metrics = [store.column(name) for name in run.measured]
    errors = [store.standard_error(name) for name in run.measured] if run.settings.get("seeds", 1) > 1 else []
    own = [] if run.objective.plain else ["objective"]
    return table[["config_id", *run.hypers, "status", *metrics, "steps", *errors, *own]]


def write_csv(run: store.Record, path: Path, name: str) -> None:
    """As CSV; what is missing is empty."""
    del name
    exported_table(run).to_csv(path, index=False)


def write_parquet(run: store.Record, path: Path, name: str) -> None:
    """As Parquet: the types of the table, missing values as null; hyper-parameters of mixed types are JSON."""
    del name
    exported_table(run).apply(_of_one_type).to_parquet(path, index=False, engine="pyarrow")


def _of_one_type(column: "pd.Series") -> "pd.Series":
    """Arrow's columns have one type: strings or booleans stay, any mixture becomes its JSON."""
    kinds = {type(value) for value in column if value is not None}
    if column.dtype != object or kinds <= {str} or kinds <= {bool}:
        return column
    return column.map(_as_json).astype(object)


def _as_json(value: Any) -> str | None:
    return None if value is None else json.dumps(value)
