"""One writer a folder: a second process is told who has it."""

import os
from pathlib import Path
from typing import IO

from jbn.errors import InputError

NAME = ".lock"


class Lock:
    """A folder that this process writes to, until it ends or lets go; the system lets go of it with the process.

    Args:
        folder: which one; it must exist.

    Raises:
        InputError: another process has it, or the folder cannot be written to.

    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> lock = Lock(folder)
    >>> Lock(folder)
    Traceback (most recent call last):
    ...
    jbn.errors.InputError: '...' is written to by process ...: wait until it has ended, or end it
    >>> lock.release()
    """

    def __init__(self, folder: str | os.PathLike[str]):
        self._path = path = Path(folder) / NAME
        try:
            self._file: IO[str] | None = path.open("a+", encoding="ascii")
        except OSError as error:
            raise InputError(
                f"cannot write to {str(folder)!r} ({error.strerror or error}); make the folder writable"
            ) from error
        if not _locked(self._file):
            self._file.seek(0)
            owner = self._file.read().strip() or "unknown"
            self._file.close()
            raise InputError(
                f"{str(folder)!r} is written to by process {owner}: wait until it has ended, or end it"
            )
        self._file.seek(0)
        self._file.truncate()
        self._file.write(str(os.getpid()))
        self._file.flush()

    def remove(self) -> None:
        """Lets go and takes the lock's file away, where the folder has nothing else to guard."""
        self._path.unlink(missing_ok=True)
        self.release()

    def release(self) -> None:
        """Lets go; a second time does nothing."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _locked(file: IO[str]) -> bool:
    """Whether this process has got the lock."""
    try:
        import fcntl
    except ImportError:  # Windows: its own kind of lock, of the first byte beyond the number
        import msvcrt

        try:
            file.seek(64)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError:
            return False
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
