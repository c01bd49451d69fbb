"""Training data in files: loaded where they are small, else mapped into memory and read in blocks."""

import os
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
from jaxtyping import Int

from jbn.errors import InputError
from jbn.task.data import checks, files
from jbn.task.data.assembly import PARTS, assemble, check_share, divided
from jbn.task.data.blocks import SMALL_BYTES, check_block_rows, row_bytes
from jbn.task.data.checks import Named, named
from jbn.task.data.file_blocks import FileBlocks, Joined, check_all_finite
from jbn.task.data.files import Shard
from jbn.task.data.parts import Data, Part
from jbn.task.data.splitting import split

ArrayOrPath = str | os.PathLike[str] | npt.NDArray


def memory_map(
    x_train: ArrayOrPath,
    y_train: ArrayOrPath | None = None,
    *,
    x_validation: ArrayOrPath | None = None,
    y_validation: ArrayOrPath | None = None,
    x_test: ArrayOrPath | None = None,
    y_test: ArrayOrPath | None = None,
    targets: str = "classes",
    share: float = 0.2,
    name: str | None = None,
    seed: int = 0,
    block_rows: int | None = None,
) -> Data:
    """Data from .npy files, which may be larger than the memory.

    A training part of up to 256 MB as float32 is loaded. A larger one stays where it is and is read in blocks while
    it trains, 64 MB as float32 each: every epoch takes the blocks in another order and shuffles the rows within
    each. The files are read once to begin with, for the statistics that features are normalised with. The
    validation and the test part are held in memory; one that is not given is split off as in `arrays`.

    Args:
        x_train: features, `[rows, ...features]`, of any real dtype: a path of an .npy file, or an array, as a rule a
            memory map of yours. Or a folder with x_train.npy and y_train.npy: see `shards`.
        y_train: labels `0 ... K - 1`, `[rows]`, likewise; or numbers, see `targets`. They are held in memory.
        x_validation: features of the validation part, if there is one.
        y_validation: its labels.
        x_test: features of the test part, if there is one.
        y_test: its labels.
        targets: "classes", or "numbers": any finite ones, `[rows]` or `[rows, numbers]`, for regression.
        share: of the rows, what each part gets that is not given: above 0, and 0.25 at most.
        name: what to call the data set; default: the name of the file.
        seed: fixes the split.
        block_rows: read blocks of at most so many rows, however small the data.

    Returns:
        The data set.

    Raises:
        InputError: a file is missing or damaged, or arrays are not as described; the message has file and row.

    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> from jbn.task import data
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     x, y = pathlib.Path(directory, "x.npy"), pathlib.Path(directory, "y.npy")
    ...     np.save(x, np.arange(40.0).reshape(20, 2)), np.save(y, np.arange(20) % 2)
    ...     data.memory_map(x, y, block_rows=5)
    (None, None)
    Data('x.npy': 12 training (in 3 blocks), 4 validation, 4 test rows of 2 features, 2 classes)
    """
    if y_train is None and isinstance(x_train, str | os.PathLike) and Path(x_train).expanduser().is_dir():
        return shards(x_train, targets=targets, share=share, name=name, seed=seed, block_rows=block_rows)
    given = (x_train, y_train, x_validation, y_validation, x_test, y_test)
    pairs = dict(zip(PARTS, zip(given[::2], given[1::2], strict=True), strict=True))
    for part, pair in pairs.items():
        _check_pair(part, *pair)
    found = {part: _shard(part, *pair) for part, pair in pairs.items() if pair[0] is not None}
    own = name or (Path(x_train).name if isinstance(x_train, str | os.PathLike) else "memory_map")
    whole = [found.pop("train")]
    return _data(whole, found, name=own, targets=targets, share=share, seed=seed, block_rows=block_rows)


def shards(
    folder: str | os.PathLike[str],
    *,
    targets: str = "classes",
    share: float = 0.2,
    name: str | None = None,
    seed: int = 0,
    block_rows: int | None = None,
) -> Data:
    """Data from a folder of files, which may be larger than the memory together; read as in `memory_map`.

    Shards are uncompressed .npz files with arrays `x` and `y`, or pairs of .npy files such as x_000.npy and
    y_000.npy, in order of name. Those called `validation` or `test` (x_validation.npy, test.npz) are these
    parts; one that is not there is split off all shards together.

    Args:
        folder: where the files are.
        targets: what y is, "classes" or "numbers".
        share: of the rows, what each part gets that is not there: above 0, and 0.25 at most.
        name: what to call the data set; default: the name of the folder.
        seed: fixes the split.
        block_rows: read blocks of at most so many rows, however small the data.

    Returns:
        The data set.

    Raises:
        InputError: a file is missing or damaged, or arrays are not as described; the message has file and row.

    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> from jbn.task import data
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     for number in range(4):
    ...         x = np.arange(10.0).reshape(5, 2)
    ...         np.savez(pathlib.Path(directory, f"{number}.npz"), x=x, y=np.arange(5) % 2)
    ...     data.shards(directory, name="four", block_rows=6)
    Data('four': 12 training (in 2 blocks), 4 validation, 4 test rows of 2 features, 2 classes)
    """
    path = Path(folder).expanduser()
    found = files.folder(path)
    own = name or path.name
    return _data(
        found.train, found.held, name=own, targets=targets, share=share, seed=seed, block_rows=block_rows
    )


def _check_pair(part: str, x: ArrayOrPath | None, y: ArrayOrPath | None) -> None:
    if (x is None) != (y is None):
        raise InputError(
            f"x_{part} and y_{part} must come together, but only one of them came; give both or none"
        )


def _shard(part: str, x: ArrayOrPath | None, y: ArrayOrPath | None) -> Shard:
    return Shard(_named(f"x_{part}", x), _named(f"y_{part}", y))


def _named(title: str, given: ArrayOrPath | None) -> Named:
    if isinstance(given, str | os.PathLike):
        return files.npy(Path(given).expanduser(), title)
    return Named(
        title, np.asarray(given)
    )  # not `checks.named`: a copy in another byte order may be too large


def _data(
    train: Sequence[Shard],
    held: Mapping[str, Shard],
    *,
    name: str,
    targets: str,
    share: float,
    seed: int,
    block_rows: int | None,
) -> Data:
    check_block_rows(block_rows)
    own = check_share(share)
    for shard in (*train, *held.values()):
        checks.check_targets(shard.y, targets)
        checks.check_real(shard.x)
        checks.check_same_rows(shard.x, shard.y)
        checks.check_same_features({"train": train[0].x, "own": shard.x})
        checks.check_same_numbers({"train": train[0].y, "own": shard.y})
    _check_same_type([shard.x for shard in train])
    rows, features = sum(len(shard.y.values) for shard in train), train[0].x.values.shape[1:]
    if block_rows is None and rows * row_bytes(features) <= SMALL_BYTES:
        return _loaded(train, held, name=name, targets=targets, seed=seed, share=own)
    return _read_in_blocks(
        train, held, name=name, targets=targets, seed=seed, share=own, block_rows=block_rows
    )


def _loaded(
    train: Sequence[Shard],
    held: Mapping[str, Shard],
    *,
    name: str,
    targets: str,
    seed: int,
    share: Fraction,
) -> Data:
    """All of it in memory."""
    check_all_finite(train)
    whole = {"train": _joined(train, name)} | dict(held)
    given = {
        f"{axis}_{part}": named(values.title, np.array(values.values))
        for part, shard in whole.items()
        for axis, values in zip("xy", shard, strict=True)
    }
    return assemble(given, name=name, targets=targets, seed=seed, share=share)


def _read_in_blocks(
    train: Sequence[Shard],
    held: Mapping[str, Shard],
    *,
    name: str,
    targets: str,
    seed: int,
    share: Fraction,
    block_rows: int | None,
) -> Data:
    """The training part where it is, the others in memory."""
    given = Named(_title("y", train, name), np.concatenate([shard.y.values for shard in train]))
    ys = {"train": given, **{part: shard.y for part, shard in held.items()}}
    classes = checks.count_classes(ys) if targets == "classes" else None
    dtype = checks.target_dtype(targets)
    whole = given.values.astype(dtype)
    missing = [part for part in PARTS[1:] if part not in held]
    chosen = split(checks.strata(whole), divided(missing, share), seed=seed) if missing else {}
    blocks = FileBlocks(train, whole, chosen.pop("train", None), block_rows=block_rows)
    parts = {part: _part(shard, dtype) for part, shard in held.items()}
    parts |= {part: Part(_split_off(train, own), whole[own]) for part, own in chosen.items()}
    return Data(name=name, train=blocks, validation=parts["validation"], test=parts["test"], classes=classes)


def _part(shard: Shard, dtype: npt.DTypeLike) -> Part:
    x = named(shard.x.title, np.array(shard.x.values))
    checks.check_finite(x)
    return Part(x.values, shard.y.values.astype(dtype))


def _split_off(train: Sequence[Shard], own: Int[np.ndarray, " rows"]) -> npt.NDArray:
    x = Joined(train).take(own)
    if not checks.is_finite(x):
        check_all_finite(train)
    return x


def _joined(train: Sequence[Shard], name: str) -> Shard:
    if len(train) == 1:
        return train[0]
    x, y = (
        Named(_title(axis, train, name), np.concatenate([one.values for one in every]))
        for axis, every in zip("xy", zip(*train, strict=True), strict=True)
    )
    return Shard(x, y)


def _title(axis: str, train: Sequence[Shard], name: str) -> str:
    """What messages about all shards call them."""
    return getattr(train[0], axis).title if len(train) == 1 else f"{axis} of all shards ({name})"


def _check_same_type(xs: Sequence[Named]) -> None:
    for x in xs:
        if x.values.dtype != xs[0].values.dtype:
            raise InputError(
                f"{x.title} must have the dtype of {xs[0].title}, but they have {x.values.dtype} and "
                f"{xs[0].values.dtype}; write all shards alike"
            )
