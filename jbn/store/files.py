"""Files that are there whole or not at all."""

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import IO

from jbn.errors import InputError


def write_whole(path: str | os.PathLike[str], write: Callable[[IO[bytes]], object]) -> None:
    """Write or replace a file in one step: until all of it is on the disk, the old one stays.

    Args:
        path: The file; its folder is made if need be. Nothing is added to the name.
        write: Called with a binary stream, to write the content to. What it raises passes on, after what it
            has written is removed.

    Raises:
        InputError: The path cannot be a file's, or the disk refuses.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "notes", "today.txt")
    >>> write_whole(path, lambda stream: stream.write(b"warm"))
    >>> path.read_text()
    'warm'
    """
    path = Path(path)
    if not path.name or "\0" in path.name:
        raise InputError(
            f"a file to write needs a name, but {str(path)!r} has none; give a path that ends in one"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, write)
    except OSError as error:
        raise InputError(
            f"cannot write {str(path)!r} ({error.strerror or error}); pick a writable place with space"
        ) from error


def _replace(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    partial = path.with_name(f".{secrets.token_hex(4)}.partial")
    try:
        with partial.open("xb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
