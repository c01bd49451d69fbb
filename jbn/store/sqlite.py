"""What SQLite says as errors of this library, and transactions."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jbn.errors import InputError

_REMEDIES = {
    "SQLITE_FULL": "free some disk space; `jbn sweep --resume` with this folder then goes on",
    "SQLITE_READONLY": "make the file and its folder writable, or pick another folder",
    "SQLITE_CANTOPEN": "check that the file and its folder can be read and written",
    "SQLITE_BUSY": "another process holds it: end that one first",
    "SQLITE_CONSTRAINT": "every configuration, seed and segment is written once",
    "SQLITE_NOTADB": "it is no database of a sweep: name the folder of a run",
    "SQLITE_CORRUPT": "the file is damaged or truncated: copy the run's folder again",
    "SQLITE_IOERR": "check the disk it is on",
}


@contextmanager
def input_errors(path: Path) -> Iterator[None]:
    """Say what SQLite finds wrong with a file as one InputError; misuse of the interface passes unchanged.

    >>> with input_errors(Path("sweep.sqlite")):
    ...     raise sqlite3.OperationalError("no such table: curves")
    Traceback (most recent call last):
    ...
    jbn.errors.InputError: 'sweep.sqlite': no such table: curves; check the file
    """
    try:
        yield
    except sqlite3.ProgrammingError:
        raise
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "")
        remedy = next((text for code, text in _REMEDIES.items() if name.startswith(code)), "check the file")
        raise InputError(f"{str(path)!r}: {error}; {remedy}") from error


@contextmanager
def transaction(path: Path, connection: sqlite3.Connection) -> Iterator[None]:
    """All of what is written within it, or nothing; within another one it is part of that."""
    with input_errors(path):
        if connection.in_transaction:
            yield
            return
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # a full disk makes SQLite roll back by itself
                connection.execute("ROLLBACK")
            raise
