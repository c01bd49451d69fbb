"""Weights as .npz: plain arrays under path-like names, never pickle."""

import io
import os
import zipfile
import zlib
from collections.abc import Mapping
from typing import IO, Any

import numpy as np

from jbn.errors import InputError
from jbn.store.files import write_whole

_FOREIGN = 2  # NumPy's np.dtype.isbuiltin of a dtype that another package has registered


def save_weights(path: str | os.PathLike[str], tree: Any) -> None:
    """Write a tree of arrays to one .npz file, whole or not at all; the same arrays give the same bytes.

    Args:
        path: The file to write or replace; its folder is made if need be. Nothing is added to the name.
        tree: Nested dicts, NamedTuples, tuples and lists of arrays of any shape and of NumPy's own dtypes.
            An array's key is its path: keys, field names and indices, joined by "/". None is left out.

    Raises:
        InputError: Two arrays have one path, a path is not printable, an array has a dtype that NumPy does
            not know (bfloat16, a JAX key) or holds objects, or the file cannot be written.

    >>> import tempfile
    >>> from pathlib import Path
    >>> path = Path(tempfile.mkdtemp(), "best.npz")
    >>> save_weights(path, {"params": {"layer_1": {"kernel": np.ones((2, 3)), "bias": None}}})
    >>> list(load_weights(path))
    ['params/layer_1/kernel']
    """
    arrays = _flat(tree)
    write_whole(path, lambda stream: _write(stream, arrays))


def load_weights(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read the arrays that `save_weights` wrote, bit for bit.

    Args:
        path: The .npz file.

    Returns:
        The arrays by their path in the tree, in the order they were written.

    Raises:
        InputError: The file is missing, is not an .npz file of plain arrays, or is damaged or truncated.

    >>> load_weights("missing.npz")
    Traceback (most recent call last):
    ...
    jbn.errors.InputError: there are no weights at 'missing.npz' (No such file or directory); name a file ...
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return {name.removesuffix(".npy"): _member(archive, name) for name in archive.namelist()}
    except OSError as error:
        raise InputError(
            f"there are no weights at {str(path)!r} ({error.strerror or error}); name a file that jbn wrote"
        ) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{str(path)!r} is not a whole .npz file of plain arrays ({error}); name a file that jbn wrote"
        ) from error


def _flat(tree: Any) -> dict[str, np.ndarray]:
    import jax

    arrays: dict[str, np.ndarray] = {}
    for keys, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        name = jax.tree_util.keystr(keys, simple=True, separator="/")
        if not name.isprintable():  # a zip file would cut a name at a NUL
            raise InputError(f"an array needs a printable path, not {name!r}; rename its key")
        if name in arrays:
            raise InputError(f"two arrays have the path {name!r}; use names without '/' that differ")
        arrays[name] = _plain(name, leaf)
    return arrays


def _plain(name: str, leaf: Any) -> np.ndarray:
    # The .npy format keeps the dtypes of other packages (bfloat16, float8) as raw bytes and forgets what they
    # were; some of them call themselves floats, so their kind alone does not tell.
    dtype = getattr(leaf, "dtype", None) or np.asarray(leaf).dtype
    if not isinstance(dtype, np.dtype) or dtype.kind not in "biufcSU" or dtype.isbuiltin == _FOREIGN:
        raise InputError(f"{name!r} has dtype {dtype}, which .npz cannot keep; save it as float32 or another")
    return np.asarray(leaf)


def _write(stream: IO[bytes], arrays: Mapping[str, np.ndarray]) -> None:
    # np.savez takes the names as keyword arguments, so an array could not be called "file".
    with zipfile.ZipFile(stream, "w") as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _member(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    content = io.BytesIO(archive.read(name))  # whole: its checksum is looked at before its header is believed
    array: np.ndarray = np.lib.format.read_array(content, allow_pickle=False)
    return array
