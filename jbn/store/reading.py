"""Rows of a sweep's database, each held against its seal."""

import json
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jbn.errors import InputError
from jbn.store import columns, seals
from jbn.store.seals import Row

if TYPE_CHECKING:
    import pandas as pd


class Reading:
    """Reads a database, either whole or what of it is intact.

    Args:
        path: The file, for messages.
        connection: To it, in a transaction.
        intact: Leave out what was altered or cannot be read, instead of an error.

    Attributes:
        damage: What was left out, one sentence each.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, *, intact: bool):
        self._path, self._connection, self._intact = path, connection, intact
        self.damage: list[str] = []
        self._seals = self._read_seals()

    def settings(self) -> dict[str, Any]:
        """All settings by name."""
        rows = [
            row
            for row in self.rows("settings", "rowid")
            if self._whole([row], seals.of_setting(row[0]), lambda one: f"the setting {one[0]!r}")
        ]
        return {name: json.loads(value) for name, value in rows}

    def configurations(self) -> "pd.DataFrame":
        """The table of configurations."""
        rows = self.rows("configurations", "config_id")
        whole = self._whole(rows, seals.CONFIGURATIONS, lambda row: f"configuration {row[0]}")
        return self._frame("configurations", whole)

    def curves(self) -> "pd.DataFrame":
        """All curves, in the order of configuration, seed and segment."""
        rows = []
        for segment, own in seals.grouped(self._curve_rows(), lambda row: row[2]).items():
            rows += self._whole(
                own,
                seals.of_segment(segment),
                lambda row: f"segment {row[2]} of configuration {row[0]}, seed {row[1]}",
            )
        self._told([f"segment {segment} is missing" for segment in self._sealed() - {row[2] for row in rows}])
        return self._frame("curves", sorted(rows, key=lambda row: row[:3]))

    def events(self) -> list[Row]:
        """What a policy did, details as plain values."""
        rows = []
        everything = self.rows("events", "rowid") if self.has("events") else []
        for segment, own in seals.grouped(everything, lambda row: row[0]).items():
            rows += self._whole(own, seals.of_events(segment), lambda row: f"an event after segment {row[0]}")
        return [(*row[:4], json.loads(row[4])) for row in rows]

    def spreads(self) -> list[Row]:
        """Segments with spreads of running statistics: number, names and cells of each."""
        rows = self.rows("spreads", "segment") if self.has("spreads") else []
        return [row for row in rows if self._whole([row], seals.of_spreads(row[0]), _spreads_called)]

    def members(self, segments: Sequence[int]) -> dict[int, list[tuple[int, int]]]:
        """Who took part in each of some segments: `config_id` and `seed`, in this order."""
        found: dict[int, list[tuple[int, int]]] = {segment: [] for segment in segments}
        for row in self._curve_rows() if found else ():
            if row[2] in found:
                found[row[2]].append((row[0], row[1]))
        return found

    def checkpoints(self) -> list[Row]:
        """All checkpoints, the oldest first."""
        return self.rows("checkpoints", "segment") if self.has("checkpoints") else []

    @property
    def version(self) -> int:
        """Of the file's format."""
        return int(self._connection.execute("PRAGMA user_version").fetchone()[0])

    def has(self, table: str) -> bool:
        """Whether there is such a table; older formats lack some."""
        query = "SELECT 1 FROM sqlite_master WHERE name = ?"
        return self._connection.execute(query, (table,)).fetchone() is not None

    def rows(self, table: str, order: str) -> list[Row]:
        """All rows of a table; where only what is intact is asked for, those before and behind what is not."""
        cursor = self._connection.execute(f"SELECT * FROM {table} ORDER BY {order}")
        if not self._intact:
            return cursor.fetchall()
        try:
            first = _until_damaged(cursor)
            if first.whole:
                return first.rows
            behind = ", ".join(f"{name} DESC" for name in order.split(", "))
            last = _until_damaged(self._connection.execute(f"SELECT * FROM {table} ORDER BY {behind}"))
        except sqlite3.DatabaseError as error:
            self.damage.append(f"the table of {table} ({error})")
            return []
        self.damage.append(f"rows of the table of {table} ({first.reason})")
        return first.rows + last.rows[::-1]

    def _sealed(self) -> set[int]:
        """Segments that rows were written for."""
        names = [
            name for name, own in (self._seals or {}).items() if len(own) and name.startswith("segment ")
        ]
        return {number for name in names if (number := seals.segment_of(name)) is not None}

    def _curve_rows(self) -> list[Row]:
        return self.rows("curves", "config_id, seed, segment")

    def _read_seals(self) -> dict[str, np.ndarray] | None:
        """None in an older format."""
        try:
            return seals.read(self._connection) if self.has("seals") else None
        except sqlite3.DatabaseError as error:
            if not self._intact:
                raise
            self.damage.append(f"the seals ({error}): what follows was not held against them")
            return None

    def _whole(self, rows: Sequence[Row], name: str, called: Callable[[Row], str]) -> list[Row]:
        """Rows that agree with their seals."""
        if self._seals is None:
            return list(rows)
        sealed = self._seals.get(name)
        if sealed is not None and len(sealed) != len(rows):
            return self._of_those_left(rows, name, sealed)
        broken = seals.broken(rows, sealed)
        self._told([f"{called(row)} was altered" for row, bad in zip(rows, broken, strict=True) if bad])
        return [row for row, bad in zip(rows, broken, strict=True) if not bad]

    def _of_those_left(self, rows: Sequence[Row], name: str, sealed: np.ndarray) -> list[Row]:
        """Rows of which others are lost: those whose seals are there."""
        self._told([f"{len(sealed)} rows of {name} were written, but {len(rows)} are there"])
        there = set(sealed.tolist())
        return [row for row, own in zip(rows, seals.checksums(rows).tolist(), strict=True) if own in there]

    def _told(self, found: Sequence[str]) -> None:
        """Damage is an error, or noted."""
        if found and not self._intact:
            raise InputError(
                f"{str(self._path)!r} is damaged ({found[0]}); copy the run's folder again, or read what is intact: "
                "`jbn export --intact`"
            )
        self.damage += found

    def _frame(self, table: str, rows: Sequence[Row]) -> "pd.DataFrame":
        import pandas as pd

        declared = {row[1]: row[2] for row in self._connection.execute(f"PRAGMA table_info({table})")}
        cells = zip(*rows, strict=True) if rows else [()] * len(declared)
        arrays = {
            name: columns.decode(declared[name], column) for name, column in zip(declared, cells, strict=True)
        }
        # The dtype is said, or pandas 3 would make strings of its own of the objects, and NaN of None.
        return pd.DataFrame({name: pd.Series(array, dtype=array.dtype) for name, array in arrays.items()})


def _spreads_called(row: Row) -> str:
    return f"the spread of running statistics in segment {row[0]}"


class _Read:
    """Rows up to the first that cannot be read, and why that is."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.whole, self.reason = True, ""


def _until_damaged(cursor: sqlite3.Cursor) -> _Read:
    found = _Read()
    try:
        for row in cursor:
            found.rows.append(row)
    except sqlite3.DatabaseError as error:
        found.whole, found.reason = False, str(error)
    return found
