"""The database of one run: made once, written segment by segment by one process, read by anyone meanwhile."""

import os
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from jbn.errors import InputError, did_you_mean
from jbn.store import checkpoints, columns, schema, seals
from jbn.store.checkpoints import Checkpoint
from jbn.store.lock import Lock
from jbn.store.record import read
from jbn.store.rows import EventRow, JsonValue, SegmentRows
from jbn.store.sqlite import input_errors, transaction


def exists(folder: str | os.PathLike[str]) -> bool:
    """Whether there is a sweep in a folder, or something in its place."""
    return os.path.lexists(Path(folder) / schema.FILE_NAME)


def reopen(folder: str | os.PathLike[str], *, segments: int, lock: Lock | None = None) -> "Store":
    """Open the database of a sweep to go on with it, with what came after so many segments taken back.

    Args:
        folder: Where it is.
        segments: How many stay.
        lock: Of the folder, if the caller has it already; closing the store lets go of it.

    Raises:
        InputError: There is no sweep, another process writes to it, it is of another format, or the disk refuses.
    """
    record = read(folder, alone=True)
    path = Path(folder) / schema.FILE_NAME
    if record.version != schema.SCHEMA_VERSION:
        raise InputError(
            f"{str(path)!r} has format {record.version}, which can only be read now; begin a new run"
        )
    lock = lock or Lock(folder)
    try:
        connection = sqlite3.connect(path, isolation_level=None)
        store = Store(path, connection, record.measured, lock)
    except BaseException:
        lock.release()
        raise
    try:
        store.forget(segments)
    except BaseException:
        store.close()
        raise
    return store


def check_free(folder: str | os.PathLike[str]) -> None:
    """Check that a new sweep can be kept in a folder; makes nothing.

    Args:
        folder: Where the sweep shall go. It and its parents need not exist; other files in it are left alone.

    Raises:
        InputError: The folder holds a sweep, is (or lies below) a file, or cannot be written to.

    >>> check_free("runs/that/does/not/exist")
    """
    folder = Path(folder)
    if os.path.lexists(folder / schema.FILE_NAME):
        raise _taken(folder)
    nearest = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not nearest.is_dir():
        raise InputError(
            f"a sweep is kept in a folder, but {str(nearest)!r} is none; pick another with --out"
        )
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise InputError(
            f"a sweep needs a writable folder, but {str(nearest)!r} is not writable; pick another with --out"
        )


def create(
    folder: str | os.PathLike[str],
    *,
    settings: Mapping[str, JsonValue],
    configs: Mapping[str, np.ndarray],
    seeds: int,
    measured: Sequence[str] = ("accuracy", "loss"),
) -> "Store":
    """Make the folder (with its parents) and the database of a new sweep.

    Args:
        folder: Where the sweep is kept; must be free, see `check_free`.
        settings: What the run was started with (specification, plan, versions, ...), as JSON values by name.
        configs: The hyper-parameters by name: arrays [configurations] of float64, int64 or objects;
            NaN and None mean that a row does not have that hyper-parameter. Strings come back as strings,
            other objects as their JSON form (a tuple as a list).
        seeds: Number of seeds of every configuration; kept as the setting `seeds`.
        measured: Names of what is measured on the validation part, "loss" among them, and maybe on the test part,
            "test/loss"; the setting `measured`.

    Returns:
        The open store: every configuration is 'running' with 0 steps and no metrics.

    Raises:
        InputError: The folder is not free, a hyper-parameter's name cannot be a column (it is one of the
            fixed columns, differs from another only by case, or is not printable), there is no
            configuration, the arrays differ in length, a value has no JSON form, or the disk refuses.

    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> configs = {"beta1": np.array([0.9, 0.99])}
    >>> with create(folder, settings={"epochs": 2}, configs=configs, seeds=1) as store:
    ...     store.write_settings(winner=1)
    >>> check_free(folder)
    Traceback (most recent call last):
    ...
    jbn.errors.InputError: the folder '...' already holds a sweep ...
    """
    rows = _equal_length("hyper-parameters", configs)
    if rows == 0:
        raise InputError("a sweep needs at least one configuration, got none; sample some from a space")
    schema.check_names(configs, measured)
    hypers = {name: columns.encode(name, np.asarray(values)) for name, values in configs.items()}
    texts = _settings_cells({**settings, "seeds": seeds, "measured": list(measured)})
    check_free(folder)
    path = _claim(Path(folder))
    lock = Lock(folder)
    try:
        return Store(path, _new_database(path, rows, hypers, texts, measured), measured, lock)
    except BaseException:
        path.unlink(missing_ok=True)  # half a sweep would block the folder
        lock.remove()
        raise


class Store:
    """The open database of a sweep; close it, or use it in a `with` statement. One thread writes.

    Every method is one transaction, or several `together`: a reader, or a run that is killed, sees all of it or
    nothing.

    >>> import tempfile
    >>> rates = np.array([0.1, 1.0])
    >>> metrics = {"accuracy": rates, "loss": rates}
    >>> rows = SegmentRows(np.arange(2), np.zeros(2, int), np.full(2, 100), rates, metrics)
    >>> with create(tempfile.mkdtemp(), settings={}, configs={"learning_rate": rates}, seeds=1) as store:
    ...     store.write_segment(0, rows)
    ...     store.write_table(rows.config_id, np.array(["done", "diverged"]), rows.steps,
    ...                       {"validation_loss": rates})
    """

    def __init__(
        self, path: Path, connection: sqlite3.Connection, measured: Sequence[str], lock: Lock
    ) -> None:
        self.path, self._measured = path, tuple(measured)
        self._connection, self._lock = connection, lock

    def together(self) -> AbstractContextManager[None]:
        """All that is written within it is one transaction: after an error nothing of it is there.

        >>> import tempfile
        >>> configs = {"learning_rate": np.array([0.1])}
        >>> with create(tempfile.mkdtemp(), settings={}, configs=configs, seeds=1) as store:
        ...     with store.together():
        ...         store.write_settings(winner=0)
        ...         store.write_settings(test_accuracy=0.5)
        """
        return transaction(self.path, self._connection)

    def write_segment(self, segment: int, rows: SegmentRows, *, seconds: float = 0.0) -> None:
        """Add one segment of every curve; numbers that are not finite become NULL.

        Args:
            segment: The segment's number, from 0.
            rows: Arrays [rows] of ids, seeds, steps done so far, losses and metrics.
            seconds: Since the run began.

        Raises:
            InputError: Arrays of different lengths, a segment that is there already, or the disk refuses.
        """
        metrics = [rows.train_loss, *(rows.validation[name] for name in self._measured)]
        names = ("config_id", "seed", "steps", *schema.in_curves(self._measured))
        count = _equal_length("columns of a segment", dict(zip(names, [*rows[:3], *metrics], strict=True)))
        cells = sorted(
            zip(
                *_integers(rows.config_id, rows.seed, np.full(count, segment), rows.steps),
                *map(columns.finite, metrics),
                strict=True,
            ),
            key=lambda row: row[:2],
        )
        places = ", ".join("?" * (4 + len(metrics)))
        with transaction(self.path, self._connection):
            self._connection.executemany(f"INSERT INTO curves VALUES ({places})", cells)
            self._connection.execute("INSERT INTO segments VALUES (?, ?)", (segment, seconds))
            seals.write(self._connection, seals.of_segment(segment), cells)
            if rows.spreads:
                own = (segment, *columns.spread_cells(rows.config_id, rows.seed, rows.spreads))
                self._connection.execute("INSERT INTO spreads VALUES (?, ?, ?)", own)
                seals.write(self._connection, seals.of_spreads(segment), [own])

    def write_events(self, events: Sequence[EventRow]) -> None:
        """Add events, in their order, all of their segments.

        Raises:
            InputError: A detail has no JSON form, or the disk refuses.
        """
        cells: list[Any] = [(*event[:4], columns.to_json(event.event, event.detail)) for event in events]
        with transaction(self.path, self._connection):
            self._connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?)", cells)
            for segment, own in seals.grouped(cells, lambda row: row[0]).items():
                seals.write(self._connection, seals.of_events(segment), own)

    def write_table(
        self,
        config_id: npt.NDArray[np.integer],
        status: npt.NDArray[Any],
        steps: npt.NDArray[np.integer],
        metrics: Mapping[str, npt.NDArray[np.floating]],
    ) -> None:
        """Replace what the table says of some configurations; numbers that are not finite become NULL.

        Args:
            config_id: Ids [rows] of the configurations to change.
            status: Strings [rows]: running, done, stopped or diverged.
            steps: Optimiser steps [rows] done so far.
            metrics: By the names of the columns ("validation_loss", "validation_loss_standard_error",
                "objective", ...), [rows]; a column that is not given is emptied.

        Raises:
            InputError: Arrays of different lengths, an unknown id or column, or the disk refuses.
        """
        names = schema.in_table(self._measured)
        for name in metrics:
            if name not in names:
                raise InputError(f"the table has no column {name!r}: {did_you_mean(name, names)}")
        none = np.full(np.shape(config_id), np.nan)
        given = {"config_id": config_id, "status": status, "steps": steps}
        given |= {name: metrics.get(name, none) for name in names}
        count = _equal_length("columns of the table", given)
        ids, done = _integers(config_id, steps)
        texts = [str(one) for one in status]
        cells = zip(texts, done, *(columns.finite(given[name]) for name in names), ids, strict=True)
        assignments = ", ".join(f"{name} = ?" for name in ("status", "steps", *names))
        with transaction(self.path, self._connection):
            cursor = self._connection.executemany(
                f"UPDATE configurations SET {assignments} WHERE config_id = ?", cells
            )
            if cursor.rowcount != count:
                raise InputError(
                    f"every config_id must be in the sweep, but only {cursor.rowcount} of {count} are; "
                    "use the ids of the table of configurations"
                )
            seals.again(self._connection, ids)

    def write_settings(self, **more: JsonValue) -> None:
        """Add settings, or replace those of the same name (finish time, winner, test accuracy, ...).

        Raises:
            InputError: A value has no JSON form, or the disk refuses.
        """
        cells = _settings_cells(more)
        with transaction(self.path, self._connection):
            _write_settings(self._connection, cells)

    def write_checkpoint(self, own: Checkpoint) -> None:
        """Add a checkpoint that is on the disk; all but the last two are removed.

        Raises:
            InputError: The disk refuses.
        """
        with transaction(self.path, self._connection):
            self._connection.execute(
                "INSERT OR REPLACE INTO checkpoints VALUES (?, ?, ?, ?)", checkpoints.to_cells(own)
            )
            self._connection.execute(
                "DELETE FROM checkpoints WHERE segment NOT IN "
                "(SELECT segment FROM checkpoints ORDER BY segment DESC LIMIT ?)",
                (checkpoints.KEPT,),
            )
        self._clean()

    def forget(self, segments: int) -> None:
        """Take back all that came after so many segments.

        Raises:
            InputError: The disk refuses.
        """
        gone = [
            name
            for (name,) in self._connection.execute("SELECT name FROM seals")
            if (number := seals.segment_of(name)) is not None and number >= segments
        ]
        with transaction(self.path, self._connection):
            for table in ("curves", "segments", "spreads", "events"):
                self._connection.execute(f"DELETE FROM {table} WHERE segment >= ?", (segments,))
            self._connection.execute("DELETE FROM checkpoints WHERE segment > ?", (segments,))
            self._connection.executemany("DELETE FROM seals WHERE name = ?", [(name,) for name in gone])
        self._clean()

    def _clean(self) -> None:
        rows = self._connection.execute("SELECT file FROM checkpoints").fetchall()
        checkpoints.clean(self.path.parent, [name for (name,) in rows])

    def close(self) -> None:
        """Close the database and let go of the folder; a second time does nothing."""
        self._connection.close()
        self._lock.release()

    def __enter__(self) -> "Store":
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _claim(folder: Path) -> Path:
    path = folder / schema.FILE_NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.open("x").close()  # of two runs that start at once only one gets the folder
    except (OSError, ValueError) as error:  # a name with a NUL is a ValueError
        if isinstance(error, FileExistsError) and folder.is_dir():
            raise _taken(folder) from error
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot make {str(path)!r} ({reason}); pick another folder with --out") from error
    return path


def _new_database(
    path: Path,
    rows: int,
    hypers: Mapping[str, tuple[str, list[Any]]],
    settings: list[tuple[str, str]],
    measured: Sequence[str],
) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        with input_errors(path):
            connection.execute("PRAGMA journal_mode = WAL")
            # With WAL this never corrupts the file; a power cut may lose the last segments, a crash none.
            connection.execute("PRAGMA synchronous = NORMAL")
        with transaction(path, connection):
            declared = {name: kind for name, (kind, _) in hypers.items()}
            for statement in schema.statements(declared, measured):
                connection.execute(statement)
            _write_settings(connection, settings)
            cells = zip(range(rows), *(cells for _, cells in hypers.values()), strict=True)
            places = ", ".join("?" * (1 + len(hypers)))
            empty = ", NULL" * len(schema.in_table(measured))
            connection.executemany(
                f"INSERT INTO configurations VALUES ({places}, 'running', 0{empty})", cells
            )
            table = connection.execute("SELECT * FROM configurations ORDER BY config_id")
            seals.write(connection, seals.CONFIGURATIONS, table)
    except BaseException:
        connection.close()
        raise
    return connection


def _write_settings(connection: sqlite3.Connection, cells: Sequence[tuple[str, str]]) -> None:
    connection.executemany("INSERT OR REPLACE INTO settings VALUES (?, ?)", cells)
    for cell in cells:
        seals.write(connection, seals.of_setting(cell[0]), [cell])


def _equal_length(what: str, arrays: Mapping[str, npt.ArrayLike]) -> int:
    shapes = {name: np.shape(values) for name, values in arrays.items()}
    first = next(iter(shapes.values()), (0,))
    if len(first) != 1 or any(shape != first for shape in shapes.values()):
        given = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise InputError(f"the {what} must be 1-D arrays of equal length, got {given}; make them agree")
    return first[0]


def _integers(*arrays: np.ndarray) -> list[list[int]]:
    return [np.asarray(values, np.int64).tolist() for values in arrays]


def _settings_cells(settings: Mapping[str, JsonValue]) -> list[tuple[str, str]]:
    return [(name, columns.to_json(name, value)) for name, value in settings.items()]


def _taken(folder: Path) -> InputError:
    return InputError(
        f"the folder {str(folder)!r} already holds a sweep ({schema.FILE_NAME}); pick another with --out, "
        "or remove or rename this one"
    )
