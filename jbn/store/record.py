"""Reading a sweep back, also while it runs."""

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jbn.errors import InputError
from jbn.store import columns, schema
from jbn.store.database import input_errors
from jbn.task.objectives import Objective

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Record:
    """What a sweep's database says at one moment.

    Attributes:
        settings: The settings by name, as plain Python values.
        configurations: One row per configuration, in the order of `config_id`: `config_id`, the
            hyper-parameters, `status`, `steps`, a column `validation_NAME` for each of `measured`, a column
            `validation_NAME_standard_error` for each, `objective`. What is missing is NaN in a column of floats,
            None in a column of objects.
        curves: One row per configuration, seed and segment, in this order: `config_id`, `seed`, `segment`,
            `steps`, `train_loss`, a column `validation_NAME` for each of `measured`; NaN where it was not finite.
        events: What a policy did, in its order: `segment`, `config_id`, `seed`, `event`, `detail`.

    >>> Record.__dataclass_params__.frozen
    True
    """

    settings: dict[str, Any]
    configurations: "pd.DataFrame"
    curves: "pd.DataFrame"
    events: "pd.DataFrame" = field(default_factory=lambda: _event_table([]))

    @property
    def measured(self) -> list[str]:
        """Names of what was measured on the validation part, "loss" among them."""
        return list(self.settings.get("measured", ("accuracy", "loss")))

    @property
    def objective(self) -> Objective:
        """What configurations are ranked by."""
        return Objective(**self.settings.get("objective", _BEFORE_OBJECTIVES))

    @property
    def hypers(self) -> list[str]:
        """Names of the hyper-parameters."""
        fixed = {"config_id", "status", "steps", *schema.in_table(self.measured)}
        return [name for name in self.configurations.columns if name not in fixed]


_BEFORE_OBJECTIVES = {"metric": "accuracy", "maximize": True}


def read(folder: str | os.PathLike[str]) -> Record:
    """Read the sweep in a folder without changing it; a run in progress may go on writing.

    Args:
        folder: The folder that was given to `create`; or one with the rounds of a search, which are read as one.

    Returns:
        Settings, configurations and curves as of one moment: segments are seen whole or not at all.

    Raises:
        InputError: There is no sweep in the folder, or its file is foreign, damaged, or of a newer jbn.

    >>> import tempfile
    >>> import numpy as np
    >>> from jbn.store import create
    >>> folder = tempfile.mkdtemp()
    >>> create(folder, settings={"epochs": 2}, configs={"beta1": np.array([0.9, np.nan])}, seeds=3).close()
    >>> record = read(folder)
    >>> record.settings
    {'epochs': 2, 'seeds': 3, 'measured': ['accuracy', 'loss']}
    >>> record.configurations[["config_id", "beta1", "status"]]
       config_id  beta1   status
    0          0    0.9  running
    1          1    NaN  running
    """
    path = Path(folder) / schema.FILE_NAME
    if not os.path.isfile(path):
        inside = path.parent.glob("round-*/") if os.path.isdir(path.parent) else ()
        if rounds := sorted((own for own in inside if _round(own)), key=_round):
            return _together([read(own) for own in rounds])
        raise InputError(f"there is no sweep in {str(folder)!r} (no {path.name}); name the folder of a run")
    with _damage_told(path), input_errors(path), closing(_open(path)) as connection, _snapshot(connection):
        rows = connection.execute("SELECT name, value FROM settings ORDER BY rowid").fetchall()
        return Record(
            settings={name: json.loads(value) for name, value in rows},
            configurations=_as_now(_frame(connection, "configurations", "config_id")),
            curves=_frame(connection, "curves", "config_id, seed, segment"),
            events=_events(connection),
        )


def _events(connection: sqlite3.Connection) -> "pd.DataFrame":
    there = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'events'").fetchone()
    rows = connection.execute("SELECT * FROM events ORDER BY rowid").fetchall() if there else []
    return _event_table([(*row[:4], json.loads(row[4])) for row in rows])


def _event_table(rows: list[tuple[Any, ...]]) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame(rows, columns=["segment", "config_id", "seed", "event", "detail"])


def _round(folder: Path) -> int:
    number = folder.name.removeprefix("round-")
    return int(number) if number.isdecimal() else 0


def _together(rounds: list[Record]) -> Record:
    """The rounds of a search as one record, with the number of each configuration's `round`, counted from 1."""
    import pandas as pd

    configurations, curves, events, before = [], [], [], 0
    for number, own in enumerate(rounds, 1):
        table, curve, happened = own.configurations.copy(), own.curves.copy(), own.events.copy()
        for frame in (table, curve, happened):
            frame["config_id"] += before
        table.insert(1, "round", number)
        configurations.append(table)
        curves.append(curve)
        events.append(happened)
        before += len(table)
    of_one = (
        "winner",
        "test",
        "test_accuracy",
        "seconds",
        "timings",
        "segments",
        "round",
        "region",
        "finished",
    )
    shared = {name: value for name, value in rounds[0].settings.items() if name not in of_one}
    return Record(
        settings={
            **shared,
            "rounds": len(rounds),
            "regions": [own.settings.get("region") for own in rounds],
        },
        configurations=pd.concat(configurations, ignore_index=True),
        curves=pd.concat(curves, ignore_index=True),
        events=pd.concat(events, ignore_index=True),
    )


def _open(path: Path) -> sqlite3.Connection:
    # Without a -wal file nobody writes. Saying so (immutable) lets a finished run be read in a folder that
    # cannot be written to, and leaves no -wal and -shm files behind in one that can.
    running = path.with_name(f"{path.name}-wal").exists()
    uri = f"{path.resolve().as_uri()}?mode=ro{'' if running else '&immutable=1'}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None)
    try:
        _check(path, connection, whole=not running)
    except BaseException:
        connection.close()
        raise
    return connection


def _check(path: Path, connection: sqlite3.Connection, *, whole: bool) -> None:
    application, version, page_size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("application_id", "user_version", "page_size")
    )
    if application != schema.APPLICATION_ID:
        raise InputError(f"{str(path)!r} is not the database of a sweep; name the folder of a run")
    if not schema.OLDEST_VERSION <= version <= schema.SCHEMA_VERSION:
        raise InputError(
            f"{str(path)!r} has format {version}, this jbn reads formats {schema.OLDEST_VERSION} to "
            f"{schema.SCHEMA_VERSION}; use the jbn that wrote it"
        )
    if whole and path.stat().st_size % page_size:  # SQLite itself would read zeros for the missing bytes
        raise InputError(f"{str(path)!r} is truncated; copy the run's folder again")


@contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    # SQLite keeps no checksums: bytes that went wrong may first be noticed where a cell is decoded.
    try:
        yield
    except InputError:
        raise
    except (TypeError, ValueError) as error:
        raise InputError(f"{str(path)!r} is damaged ({error}); copy the run's folder again") from error


@contextmanager
def _snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN")  # all tables as of the first look at one of them
    yield


def _as_now(table: "pd.DataFrame") -> "pd.DataFrame":
    """The table of an older format with the columns that it lacks."""
    if "objective" in table:
        return table
    errors = [schema.standard_error(name) for name in ("accuracy", "loss")]
    missing: dict[str, Any] = {name: np.nan for name in errors if name not in table}
    return table.assign(**missing, objective=table["validation_accuracy"])


def _frame(connection: sqlite3.Connection, table: str, order: str) -> "pd.DataFrame":
    import pandas as pd

    declared = {row[1]: row[2] for row in connection.execute(f"PRAGMA table_info({table})")}
    rows = connection.execute(f"SELECT * FROM {table} ORDER BY {order}").fetchall()
    cells = zip(*rows, strict=True) if rows else [()] * len(declared)
    arrays = {
        name: columns.decode(declared[name], column) for name, column in zip(declared, cells, strict=True)
    }
    # The dtype is said, or pandas 3 would make strings of its own of the objects, and NaN of None.
    return pd.DataFrame({name: pd.Series(array, dtype=array.dtype) for name, array in arrays.items()})
