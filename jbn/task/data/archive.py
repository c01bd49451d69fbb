"""Arrays by name from an .npz file, which is a zip archive of .npy files; nothing is ever unpickled."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jbn.errors import InputError


def read(path: Path, names: tuple[str, ...]) -> tuple[dict[str, npt.NDArray], list[str]]:
    """Those of the named arrays that the file has, and the names of all that it has."""
    if not path.is_file():
        raise InputError(f"{path} must be an .npz file, but there is none; np.savez(path, ...) writes one")
    with _reading(str(path)), zipfile.ZipFile(path) as archive:
        members = {member.removesuffix(".npy"): member for member in archive.namelist()}
    return {name: _array(path, name, members[name]) for name in names if name in members}, list(members)


def _array(path: Path, name: str, member: str) -> npt.NDArray:
    with _reading(f"{name} ({path})"), zipfile.ZipFile(path) as archive, archive.open(member) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


@contextmanager
def _reading(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # damage shows as whatever the code that stumbles over it raises
        if "allow_pickle" in str(error):
            raise InputError(
                f"{what} must hold numbers, but holds pickled Python objects; save it as numbers"
            ) from error
        raise InputError(
            f"{what} cannot be read, as the file is damaged or no .npz "
            f"({type(error).__name__}: {error}); write it anew"
        ) from error
