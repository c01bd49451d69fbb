"""Checkpoints of a run: a folder of safetensors files each, there whole or not at all, the last two of them kept."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jbn.errors import InputError

FOLDER = "checkpoints"
KEPT = 2
_FILE_BYTES = 64_000_000  # about; a file is put together in memory
_PARTIAL = ".partial"


class Checkpoint(NamedTuple):
    """A checkpoint as the database knows it.

    Args:
        segment: how many segments were trained.
        name: of its folder, below that of all checkpoints.
        digests: BLAKE2b of every file, by its name.
        bytes: of all files.
    """

    segment: int
    name: str
    digests: Mapping[str, str]
    bytes: int


def write(run: str | os.PathLike[str], segment: int, parts: Iterable[Mapping[str, np.ndarray]]) -> Checkpoint:
    """Write a checkpoint, which is there only once all of it is on the disk.

    Args:
        run: The folder of the run.
        segment: How many segments were trained.
        parts: Arrays by name; no part is split between two files.

    Raises:
        InputError: The disk refuses; nothing is left of it then.
    """
    name = f"segment-{segment:06d}"
    folder, partial = Path(run, FOLDER, name), Path(run, FOLDER, name + _PARTIAL)
    try:
        for old in (folder, partial):
            shutil.rmtree(old, ignore_errors=True)
        partial.mkdir(parents=True)
        written = [_write_file(partial / f"{place}.safetensors", own) for place, own in _files(parts)]
        os.replace(partial, folder)
        _sync(folder.parent)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, OSError) or type(error).__name__ == "SafetensorError":
            reason = getattr(error, "strerror", None) or error
            raise InputError(
                f"cannot write the checkpoint {str(folder)!r} ({reason}); free some disk space"
            ) from error
        raise
    digests = {name: digest for name, digest, _ in written}
    return Checkpoint(segment, name, digests, sum(size for *_, size in written))


def read(run: str | os.PathLike[str], checkpoint: Checkpoint) -> Iterator[dict[str, np.ndarray]]:
    """The arrays of a checkpoint, file by file.

    Raises:
        InputError: a file is missing or was altered; it is named.
    """
    from safetensors.numpy import load

    for name, digest in checkpoint.digests.items():
        path = Path(run, FOLDER, checkpoint.name, name)
        content = _content(path, digest)
        yield load(content)


def check(run: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Every file must be as it was written.

    Raises:
        InputError: a file is missing or was altered; it is named.
    """
    for name, digest in checkpoint.digests.items():
        _content(Path(run, FOLDER, checkpoint.name, name), digest)


def clean(run: str | os.PathLike[str], keep: Iterable[str]) -> None:
    """Remove all checkpoints but those of these names, half written ones among them."""
    kept = set(keep)
    if (folder := Path(run, FOLDER)).is_dir():
        for own in folder.iterdir():
            if own.name not in kept:
                shutil.rmtree(own, ignore_errors=True)


def to_cells(own: Checkpoint) -> tuple[int, str, str, int]:
    """As a row of the database."""
    return own.segment, own.name, json.dumps(dict(own.digests)), own.bytes


def of_cells(segment: int, name: str, digests: str, size: int) -> Checkpoint:
    """From a row of the database."""
    return Checkpoint(segment, name, json.loads(digests), size)


def _content(path: Path, digest: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"cannot read the checkpoint's file {str(path)!r} ({error.strerror or error})"
        ) from error
    if _digest(content) != digest:
        raise InputError(f"the checkpoint's file {str(path)!r} was altered or truncated")
    return content


def _files(parts: Iterable[Mapping[str, np.ndarray]]) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Parts put together to files of a fair size, with their numbers."""
    number, size = 0, 0
    own: dict[str, np.ndarray] = {}
    for part in parts:
        own |= part
        size += sum(array.nbytes for array in part.values())
        if size >= _FILE_BYTES:
            yield number, own
            number, own, size = number + 1, {}, 0
    if own:
        yield number, own


def _write_file(path: Path, arrays: Mapping[str, np.ndarray]) -> tuple[str, str, int]:
    from safetensors.numpy import save

    content = save({name: np.ascontiguousarray(values) for name, values in arrays.items()})
    with path.open("xb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    return path.name, _digest(content), len(content)


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _sync(folder: Path) -> None:
    """What was renamed in a folder stays so after a power cut, where the system can promise it."""
    if os.name != "posix":
        return
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
