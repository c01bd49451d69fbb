"""Arrays in files as memory maps: nothing is read before it is needed, and nothing is ever unpickled."""

import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from jbn.errors import InputError
from jbn.task.data.checks import Named

_HELD = ("validation", "test")
_OTHERS = {"val": "validation", "valid": "validation", "dev": "validation"}
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class Shard(NamedTuple):
    """Features and labels of some rows, as a rule in files."""

    x: Named
    y: Named


class Folder(NamedTuple):
    """What a folder has.

    Args:
        train: shards of the training part, in order of name.
        held: the validation and the test part, by name, as far as they are there.
    """

    train: list[Shard]
    held: dict[str, Shard]


def npy(path: Path, axis: str) -> Named:
    """The array of an .npy file; `axis` is what messages call it."""
    if not path.is_file():
        raise InputError(f"{path} must be an .npy file, but there is none; np.save(path, ...) writes one")
    return _mapped(path, axis, 0)


def npz(path: Path) -> Shard:
    """The arrays `x` and `y` of an .npz file."""
    with _reading(f"{path}"), zipfile.ZipFile(path) as archive:
        members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
    if not {"x", "y"} <= members.keys():
        raise InputError(
            f"{path} must have arrays x and y, but has {', '.join(members) or 'none'}; name them so"
        )
    x, y = (_mapped(path, axis, _start(path, axis, members[axis])) for axis in "xy")
    return Shard(x, y)


def folder(path: Path) -> Folder:
    """The shards in a folder: .npz files, and pairs x*.npy and y*.npy whose names are otherwise the same."""
    if not path.is_dir():
        raise InputError(f"{path} must be a folder with .npz or x*.npy and y*.npy files, but there is none")
    found = {**_archives(path), **_pairs(path)}
    train: list[Shard] = []
    held: dict[str, Shard] = {}
    for name in sorted(found):
        part, shard = found[name]
        if part in _OTHERS:
            raise InputError(
                f"{path / name} has a name that is not of training data, and is not read; call the part "
                f"{_OTHERS[part]}"
            )
        if part in held:
            raise InputError(
                f"{path} must have only one {part} part, but {name} is a second one; take one away"
            )
        if part in _HELD:
            held[part] = shard
        else:
            train.append(shard)
    if not train:
        raise InputError(
            f"{path} must have training shards, .npz files with x and y or pairs like x_train.npy and "
            f"y_train.npy, but has none; put them there"
        )
    return Folder(train, held)


def _archives(path: Path) -> dict[str, tuple[str, Shard]]:
    """By name of the file: the name of the part, and its arrays."""
    return {file.name: (file.stem, npz(file)) for file in path.glob("*.npz")}


def _pairs(path: Path) -> dict[str, tuple[str, Shard]]:
    names = {file.name for file in path.glob("*.npy")}
    for name in sorted(names):
        other = {"x": "y", "y": "x"}.get(name[0], "?") + name[1:]
        if other not in names:
            missing = (
                f"have {other} beside it" if other[0] != "?" else "begin with x (features) or y (labels)"
            )
            raise InputError(f"{path / name} must {missing}, but does not; name pairs x*.npy and y*.npy")
    return {
        name: (
            name[1:].removesuffix(".npy").removeprefix("_"),
            Shard(npy(path / name, "x"), npy(path / f"y{name[1:]}", "y")),
        )
        for name in names
        if name[0] == "x"
    }


def _start(path: Path, axis: str, member: zipfile.ZipInfo) -> int:
    """Where a member's bytes begin: behind its local header, whose last two fields have lengths of their own."""
    if member.compress_type != zipfile.ZIP_STORED:
        raise InputError(
            f"{axis} ({path}) must be uncompressed, so that a row can be read without all before it, but is "
            f"compressed; write it with np.savez, or read it yourself with jbn.data.stream"
        )
    with path.open("rb") as file:
        file.seek(member.header_offset + 26)
        name, extra = struct.unpack("<HH", file.read(4))
    return member.header_offset + 30 + name + extra


def _mapped(path: Path, axis: str, start: int) -> Named:
    """The array whose .npy header begins there."""
    title = f"{axis} ({path})"
    with _reading(title), path.open("rb") as file:
        file.seek(start)
        shape, fortran, dtype = _header(file)
        if dtype.hasobject:
            raise InputError(f"{title} must hold numbers, but holds Python objects; save it as numbers")
        if 0 in shape:
            return Named(title, np.empty(shape, dtype))  # nothing cannot be mapped
        start = file.tell()
    with _reading(title):
        values = np.memmap(path, dtype, "r", start, shape, "F" if fortran else "C")
    return Named(title, np.asarray(values))


def _header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"version {version} of the .npy format")
    return _HEADERS[version](file)


@contextmanager
def _reading(what: str) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # damage shows as whatever the code that stumbles over it raises
        raise InputError(
            f"{what} cannot be read, as the file is damaged or not of its kind "
            f"({type(error).__name__}: {error}); write it anew"
        ) from error
