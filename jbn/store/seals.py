"""Seals: a checksum of every row, kept beside the tables, by which altered rows are found and named."""

import sqlite3
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

CONFIGURATIONS = "configurations"
Row = tuple[Any, ...]


def of_setting(name: str) -> str:
    """The name of a setting's seal."""
    return f"setting {name}"


def of_segment(segment: int) -> str:
    """The name of a segment's seals."""
    return f"segment {segment}"


def of_spreads(segment: int) -> str:
    """The name of the seal of a segment's spreads of running statistics."""
    return f"spreads {segment}"


def of_events(segment: int) -> str:
    """The name of the seals of what a policy did after a segment."""
    return f"events {segment}"


def segment_of(name: str) -> int | None:
    """The segment that seals are of; None for others.

    >>> segment_of("segment 7"), segment_of("setting 7")
    (7, None)
    """
    kind, _, number = name.partition(" ")
    return int(number) if kind in ("segment", "spreads", "events") else None


def checksums(rows: Iterable[Row]) -> np.ndarray:
    """The CRC-32 of each row as SQLite gives it back.

    >>> checksums([(0, 0.5, "done"), (1, None, "done")]).tolist()
    [1291480526, 1686483376]
    """
    texts = (_stored(row) for row in rows)
    return np.array([zlib.crc32(text.encode("utf-8", "surrogatepass")) for text in texts], "<u4")


def _stored(row: Row) -> str:
    text = repr(row)
    if "-0.0" not in text:
        return text
    # SQLite stores -0.0 as 0.0
    return repr(tuple(cell + 0.0 if isinstance(cell, float) else cell for cell in row))


def write(connection: sqlite3.Connection, name: str, rows: Iterable[Row]) -> None:
    """Seal rows, in this order, within the transaction that writes them."""
    connection.execute("INSERT OR REPLACE INTO seals VALUES (?, ?)", (name, checksums(rows).tobytes()))


def again(connection: sqlite3.Connection, ids: Sequence[int]) -> None:
    """Seal anew these rows of the table of configurations, which were changed in this transaction."""
    if not ids:
        return
    select = "SELECT * FROM configurations WHERE config_id BETWEEN ? AND ?"  # one query: each takes its time
    rows, changed = connection.execute(select, (min(ids), max(ids))), set(ids)
    found = {row[0]: row for row in rows if row[0] in changed}
    ((before,),) = connection.execute("SELECT checksums FROM seals WHERE name = ?", (CONFIGURATIONS,))
    own = np.frombuffer(before, "<u4").copy()
    own[list(found)] = checksums(found.values())
    connection.execute("UPDATE seals SET checksums = ? WHERE name = ?", (own.tobytes(), CONFIGURATIONS))


def read(connection: sqlite3.Connection) -> dict[str, np.ndarray]:
    """All seals by their names."""
    return {name: np.frombuffer(own, "<u4") for name, own in connection.execute("SELECT * FROM seals")}


def broken(rows: Sequence[Row], sealed: np.ndarray | None) -> np.ndarray:
    """Which rows do not agree with their seals, `[rows]`; all where rows were lost or added."""
    if sealed is None or len(sealed) != len(rows):
        return np.ones(len(rows), bool)
    return checksums(rows) != sealed


def grouped(rows: Sequence[Row], key: Callable[[Row], int]) -> dict[int, list[Row]]:
    """Rows by a number, in their order."""
    found: dict[int, list[Row]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return found
