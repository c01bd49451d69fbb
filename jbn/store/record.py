"""Reading a sweep back, also while it runs."""

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jbn.errors import InputError
from jbn.store import checkpoints, columns, schema
from jbn.store.checkpoints import Checkpoint
from jbn.store.reading import Reading
from jbn.store.sqlite import input_errors
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
            None in a column of objects. Metrics and steps of a run that goes on, or was killed, may be those of an
            earlier segment than the last of the curves: the table is written after every event of a policy, and
            in between so seldom that it takes 0.3 % of the time.
        curves: One row per configuration, seed and segment, in this order: `config_id`, `seed`, `segment`,
            `steps`, `train_loss`, a column `validation_NAME` for each of `measured`; NaN where it was not finite.
        events: What a policy did, in its order: `segment`, `config_id`, `seed`, `event`, `detail`.
        segments: When each segment had ended: `segment`, `seconds` since the run began; of a search in rounds also
            `round`, whose seconds they are.
        checkpoints: Those that there are, the oldest first.
        version: Of the file's format.
        damage: What was left out since it was altered or cannot be read; only where that was asked for.

    >>> Record.__dataclass_params__.frozen
    True
    """

    settings: dict[str, Any]
    configurations: "pd.DataFrame"
    curves: "pd.DataFrame"
    events: "pd.DataFrame" = field(default_factory=lambda: _event_table([]))
    segments: "pd.DataFrame" = field(default_factory=lambda: _segment_table([]))
    checkpoints: tuple[Checkpoint, ...] = ()
    version: int = schema.SCHEMA_VERSION
    damage: tuple[str, ...] = ()

    @property
    def measured(self) -> list[str]:
        """Names of what was measured on the validation part, "loss" among them, and maybe on the test part."""
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


def rounds(folder: str | os.PathLike[str]) -> list[Path]:
    """The folders of the runs that are read as one, in their order; the folder itself may be the first.

    >>> rounds("nowhere")
    []
    """
    own = [Path(folder)] if os.path.lexists(Path(folder) / schema.FILE_NAME) else []
    inside = Path(folder).glob("round-*/") if os.path.isdir(folder) else ()
    there = (path for path in inside if _round(path) and os.path.lexists(path / schema.FILE_NAME))
    return own + sorted(there, key=_round)


def read(folder: str | os.PathLike[str], *, intact: bool = False, alone: bool = False) -> Record:
    """Read the sweep in a folder without changing it; a run in progress may go on writing.

    Args:
        folder: The folder that was given to `create`; or one with the rounds of a search, which are read as one.
        alone: Without what was added to it, which else is read with it, see `rounds`.
        intact: Leave out what was altered or cannot be read, and say so in `damage`.

    Returns:
        Settings, configurations and curves as of one moment: segments are seen whole or not at all.

    Raises:
        InputError: There is no sweep in the folder, or its file is foreign, of a newer jbn, or damaged: then the
            first row that was altered is named, unless `intact` is given.

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
    runs = [] if alone else rounds(folder)
    if len(runs) > 1 or (runs and not os.path.isfile(path)):
        return _together([read(own, intact=intact, alone=True) for own in runs])
    if not os.path.isfile(path):
        raise InputError(f"there is no sweep in {str(folder)!r} (no {path.name}); name the folder of a run")
    with _reading(path, intact=intact) as own:
        return _record(own)


def read_spreads(
    folder: str | os.PathLike[str], member: Callable[[int], tuple[int, int]]
) -> dict[int, dict[str, np.ndarray]]:
    """The spreads of running statistics that one member after the other had: of the winner, say, and whom it copied.

    Args:
        folder: The folder of one sweep.
        member: `config_id` and `seed` of whom to look at, by the number of the segment.

    Returns:
        By segment and name: the lowest, mean and highest channel, float32 [3]. Segments without spreads are missing.

    Raises:
        InputError: As `read`.
    """
    with _reading(Path(folder) / schema.FILE_NAME, intact=False) as own:
        kept = own.spreads()
        members = own.members([segment for segment, _, _ in kept])
    found = {}
    for segment, names, cells in kept:
        if (wanted := member(segment)) in members[segment]:
            row = members[segment].index(wanted)
            spreads = columns.spread_arrays(names, cells).items()
            found[segment] = {
                name: values[row] for name, values in spreads if not np.isnan(values[row]).all()
            }
    return found


@contextmanager
def _reading(path: Path, *, intact: bool) -> Iterator[Reading]:
    with (
        _damage_told(path),
        input_errors(path),
        _padded(path, wanted=intact) as there,
        closing(_open(there, whole=not intact)) as connection,
        _snapshot(connection),
    ):
        yield Reading(path, connection, intact=intact)


def _record(own: Reading) -> Record:
    settings = own.settings()
    return Record(
        settings=settings,
        configurations=_as_now(own.configurations()),
        curves=own.curves(),
        events=_event_table(own.events()),
        segments=_segment_table(own.rows("segments", "segment") if own.has("segments") else []),
        checkpoints=tuple(checkpoints.of_cells(*row) for row in own.checkpoints()),
        version=own.version,
        damage=tuple(own.damage),
    )


def _segment_table(rows: list[tuple[Any, ...]]) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame(rows, columns=["segment", "seconds"])


def _event_table(rows: list[tuple[Any, ...]]) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame(rows, columns=["segment", "config_id", "seed", "event", "detail"])


def _round(folder: Path) -> int:
    number = folder.name.removeprefix("round-")
    return int(number) if number.isdecimal() else 0


def _together(runs: list[Record]) -> Record:
    """The rounds of a search as one record, with the number of each configuration's `round`, counted from 1."""
    import pandas as pd

    configurations, curves, events, before = [], [], [], 0
    for number, own in enumerate(runs, 1):
        table, curve, happened = own.configurations.copy(), own.curves.copy(), own.events.copy()
        for frame in (table, curve, happened):
            frame["config_id"] += before
        happened["detail"] = pd.Series(
            [
                detail if event != "copied" else {**detail, "config_id": detail["config_id"] + before}
                for event, detail in zip(happened["event"], happened["detail"], strict=True)
            ],
            dtype=object,
        )
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
        "run_seconds",
        "peak_bytes",
        "timings",
        "expected",
        "resumed",
        "segments",
        "round",
        "region",
        "started",
        "finished",
    )
    shared = {name: value for name, value in runs[0].settings.items() if name not in of_one}
    return Record(
        settings={
            **shared,
            "finished": runs[-1].settings.get("finished"),
            "rounds": len(runs),
            "regions": [own.settings.get("region") for own in runs],
            "of_rounds": [
                {name: own.settings[name] for name in of_one if name in own.settings} for own in runs
            ],
        },
        configurations=pd.concat(configurations, ignore_index=True),
        curves=pd.concat(curves, ignore_index=True),
        events=pd.concat(events, ignore_index=True),
        segments=pd.concat(
            [own.segments.assign(round=number) for number, own in enumerate(runs, 1)], ignore_index=True
        ),
        damage=tuple(f"round {n}: {one}" for n, own in enumerate(runs, 1) for one in own.damage),
    )


@contextmanager
def _padded(path: Path, *, wanted: bool) -> Iterator[Path]:
    """The file; or, where it was truncated, a copy with zeros for what is lost: else SQLite reads nothing of it."""
    size = _size(path)
    if not wanted or path.stat().st_size >= size or path.with_name(f"{path.name}-wal").exists():
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copied = Path(shutil.copy(path, folder))
        os.truncate(copied, size)
        yield copied


def _size(path: Path) -> int:
    """What the file's header says."""
    with path.open("rb") as stream:
        header = stream.read(32)
    page = int.from_bytes(header[16:18], "big")
    return (65536 if page == 1 else page) * int.from_bytes(header[28:32], "big")


def _open(path: Path, *, whole: bool) -> sqlite3.Connection:
    # Without a -wal file nobody writes. Saying so (immutable) lets a finished run be read in a folder that
    # cannot be written to, and leaves no -wal and -shm files behind in one that can.
    running = path.with_name(f"{path.name}-wal").exists()
    uri = f"{path.resolve().as_uri()}?mode=ro{'' if running else '&immutable=1'}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None)
    try:
        _check(path, connection, whole=whole and not running)
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
