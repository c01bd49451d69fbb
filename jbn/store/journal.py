"""A journal: entries that are added one by one and never change, each sealed together with all before it."""

import hashlib
import json
import os
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from jbn.errors import InputError
from jbn.store import columns
from jbn.store.sqlite import input_errors

FILE_NAME = "journal.sqlite"
APPLICATION_ID = 0x006A626A  # "jbj"
_VERSION = 1


def exists(folder: str | os.PathLike[str]) -> bool:
    """Whether there is a journal in a folder."""
    return os.path.lexists(Path(folder) / FILE_NAME)


def append(folder: str | os.PathLike[str], entry: Mapping[str, Any]) -> int:
    """Add an entry, whole or not at all; it is on the disk when this returns.

    The seal of an entry is the SHA-256 of the seal before it and its content: an entry that was altered, lost or put
    elsewhere is found by `read`. One process writes at a time.

    Args:
        folder: Where the journal is; with the first entry it is made.
        entry: Values that JSON knows.

    Returns:
        The entry's number, from 0.

    Raises:
        InputError: A value has no JSON form, or the disk refuses.

    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> append(folder, {"action": "start"}), append(folder, {"action": "train"})
    (0, 1)
    >>> read(folder)
    [{'action': 'start'}, {'action': 'train'}]
    """
    content, path = columns.to_json("entry", dict(entry)), Path(folder) / FILE_NAME
    with input_errors(path), closing(_writable(path)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        last = connection.execute("SELECT entry, seal FROM journal ORDER BY entry DESC LIMIT 1").fetchone()
        number, before = (0, "") if last is None else (last[0] + 1, last[1])
        connection.execute("INSERT INTO journal VALUES (?, ?, ?)", (number, content, _seal(before, content)))
        connection.execute("COMMIT")
    return int(number)


def read(folder: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """All entries, in their order; every seal is looked at.

    Raises:
        InputError: There is no journal, it is foreign or damaged; the message names the first entry that is.
    """
    path = Path(folder) / FILE_NAME
    if not path.is_file():
        raise InputError(
            f"there is no journal in {str(folder)!r} (no {FILE_NAME}); name the folder of a panda"
        )
    with input_errors(path), closing(_readable(path)) as connection:
        _check(path, connection)
        rows = connection.execute("SELECT entry, content, seal FROM journal ORDER BY entry").fetchall()
    before, entries = "", []
    for place, (number, content, seal) in enumerate(rows):
        if number != place or not isinstance(content, str) or seal != _seal(before, content):
            raise InputError(
                f"entry {place} of {str(path)!r} was altered or is missing; those before it are whole: copy the "
                f"folder again"
            )
        before = seal
        entries.append(json.loads(content))
    return entries


def _seal(before: str, content: str) -> str:
    return hashlib.sha256(f"{before}\n{content}".encode()).hexdigest()


def _writable(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous = FULL")  # an entry is there also after a power cut
        if connection.execute("PRAGMA application_id").fetchone()[0] == 0:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {_VERSION}")
            connection.execute("CREATE TABLE journal(entry INTEGER PRIMARY KEY, content TEXT, seal TEXT)")
            connection.execute("COMMIT")
        _check(path, connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _readable(path: Path) -> sqlite3.Connection:
    # Where a writer was killed, the first reader takes back what is half done; for that it must be able to write.
    mode = "rw" if os.access(path, os.W_OK) else "ro"
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode={mode}", uri=True, isolation_level=None)


def _check(path: Path, connection: sqlite3.Connection) -> None:
    application, version = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
    )
    if application != APPLICATION_ID:
        raise InputError(f"{str(path)!r} is not the journal of a panda; name the folder of one")
    if version > _VERSION:
        raise InputError(
            f"{str(path)!r} has format {version}, this jbn reads formats up to {_VERSION}; use a newer one"
        )
