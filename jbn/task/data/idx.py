"""IDX files, the format of MNIST: unsigned bytes, gzipped or not.

A file begins with the bytes 0, 0, 8 (unsigned bytes) and the number of dimensions; then come the sizes, four
bytes each, most significant first, then the values.
"""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from jbn.errors import InputError


def find(directory: Path, stem: str, *, dimensions: int) -> Path:
    """The file `STEM-idxN-ubyte` in the directory, under any of the names that copies have."""
    if not directory.is_dir():
        raise InputError(
            f"{directory} must be a directory with IDX files like {stem}-idx{dimensions}-ubyte, but is none"
        )
    names = [f"{stem}{dot}idx{dimensions}-ubyte{suffix}" for suffix in ("", ".gz") for dot in "-."]
    for name in names:
        if (directory / name).is_file():
            return directory / name
    raise InputError(f"{directory} must have one of the files {', '.join(names)}, but has none; put it there")


def read(path: Path, *, dimensions: int) -> UInt8[np.ndarray, "..."]:
    """The array of an IDX file of unsigned bytes; a read-only view of what was read."""
    content = _unzipped(path)
    magic, header = bytes([0, 0, 8, dimensions]), 4 + 4 * dimensions
    if content[:4] != magic:
        raise InputError(
            f"{path} must be an IDX file of unsigned bytes in {dimensions} dimensions, which begins with "
            f"{magic.hex()}, but begins with {content[:4].hex() or 'nothing'}; get the file anew"
        )
    shape = np.frombuffer(content[4:header].ljust(header - 4, b"\0"), ">u4").tolist()
    size = header + math.prod(shape)
    if len(content) != size:
        raise InputError(
            f"{path} must have {size} bytes when unzipped, as its header says, but has {len(content)}; "
            "get the file anew"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _unzipped(path: Path) -> bytes:
    """The content of the file; gzip is told by its first bytes, as names get lost on the way."""
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(
            f"{path} must be a whole file that can be read, but is not "
            f"({type(error).__name__}: {error}); get the file anew"
        ) from error
