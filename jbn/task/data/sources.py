"""The data sources: the digits, MNIST's files, .npz files, arrays in memory; tables are beside this."""

import importlib.util
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jbn.errors import InputError, did_you_mean
from jbn.task.data import archive, frames, idx
from jbn.task.data.assembly import ARRAYS, assemble
from jbn.task.data.checks import Named, named
from jbn.task.data.mapped import shards
from jbn.task.data.parts import Data
from jbn.task.data.table import table

NAMES = ("digits", "mnist")
# Names that other libraries use: taken for some array that does not matter, they would cost the user a part.
OTHER_NAMES = {f"{axis}_{other}": f"{axis}_validation" for axis in "xy" for other in ("val", "valid", "dev")}


def arrays(
    x_train: npt.ArrayLike,
    y_train: npt.ArrayLike,
    *,
    x_validation: npt.ArrayLike | None = None,
    y_validation: npt.ArrayLike | None = None,
    x_test: npt.ArrayLike | None = None,
    y_test: npt.ArrayLike | None = None,
    targets: str = "classes",
    name: str = "arrays",
    seed: int = 0,
) -> Data:
    """Data from arrays in memory.

    A part that is not given is split off the training part, in proportion within every class and in random
    order: 20 % of it where one part is missing, 20 % each where both are. Parts that need no split share
    memory with what was given and keep its order; do not change those arrays afterwards.

    Args:
        x_train: features, `[rows, ...features]`, of any real dtype; finite.
        y_train: class numbers `0 ... K - 1`, whole numbers of any dtype, `[rows]`; or numbers, see `targets`.
        x_validation: features of the validation part, if there is one; rows of the same shape.
        y_validation: its labels, among those of `y_train`.
        x_test: features of the test part, if there is one.
        y_test: its labels, among those of `y_train`.
        targets: "classes", or "numbers": any finite ones, `[rows]` or `[rows, numbers]`, for regression.
        name: what to call the data set.
        seed: fixes the split.

    Returns:
        The data set; its arrays are read-only.

    Raises:
        InputError: an array is not as described, arrays do not fit each other, or there are too few rows to
            split.

    >>> from jbn.task import data
    >>> data.arrays([[0.0], [1.0]] * 5, [0, 1] * 5, name="tiny")
    Data('tiny': 6 training, 2 validation, 2 test rows of 1 features, 2 classes)
    """
    values = (x_train, y_train, x_validation, y_validation, x_test, y_test)
    given = {key: named(key, value) for key, value in zip(ARRAYS, values, strict=True) if value is not None}
    return assemble(given, name=name, seed=seed, targets=targets)


def npz(path: str | os.PathLike[str], *, targets: str = "classes", seed: int = 0) -> Data:
    """Data from an .npz file with arrays named like the arguments of `arrays`.

    `x_train` and `y_train` must be there; of the others, a part that is missing is split off the training
    part as in `arrays`. Further arrays are not read.

    Args:
        path: the file.
        targets: what y is, "classes" or "numbers".
        seed: fixes the split.

    Returns:
        The data set, named like the file.

    Raises:
        InputError: the file is missing, damaged or holds Python objects, or its arrays are not as `arrays`
            needs them.

    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> from jbn.task import data
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     path = pathlib.Path(directory, "tiny.npz")
    ...     np.savez(path, x_train=np.arange(20.0).reshape(10, 2), y_train=np.arange(10) % 2)
    ...     data.npz(path)
    Data('tiny.npz': 6 training, 2 validation, 2 test rows of 2 features, 2 classes)
    """
    path = Path(path).expanduser()
    found, names = archive.read(path, ARRAYS)
    for name in names:
        if name in OTHER_NAMES:
            raise InputError(f"{path} has an array {name}, which is not read; call it {OTHER_NAMES[name]}")
    given = {key: named(f"{key} ({path})", value) for key, value in found.items()}
    origin = f"{path} has {', '.join(names) or 'no arrays'}"
    return assemble(given, name=path.name, seed=seed, targets=targets, origin=origin)


def mnist(directory: str | os.PathLike[str], *, seed: int = 0) -> Data:
    """MNIST, or another data set in the same four IDX files, gzipped or not.

    The test part is what the `t10k` files hold; the validation part is 20 % of the training files, in
    proportion within every class. Features are `[rows, 28, 28]` bytes, as they are in the files.

    Args:
        directory: where the files are: `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and the same with
            `t10k`; also with a dot before `idx`, and with `.gz` at the end.
        seed: fixes the split.

    Raises:
        InputError: the directory or a file is missing, damaged or foreign, or the arrays are not as `arrays`
            needs them.

    >>> from jbn.task import data
    >>> data.mnist("~/data/mnist")  # doctest: +SKIP
    Data('mnist': 48000 training, 12000 validation, 10000 test rows of 28x28 features, 10 classes)
    """
    stems = {
        "x_train": "train-images",
        "y_train": "train-labels",
        "x_test": "t10k-images",
        "y_test": "t10k-labels",
    }
    given = {key: _idx(Path(directory).expanduser(), key, stem) for key, stem in stems.items()}
    return assemble(given, name="mnist", seed=seed)


def _idx(directory: Path, key: str, stem: str) -> Named:
    dimensions = 3 if stem.endswith("images") else 1
    path = idx.find(directory, stem, dimensions=dimensions)
    return Named(f"{key} ({path})", idx.read(path, dimensions=dimensions))


def digits(*, seed: int = 0) -> Data:
    """scikit-learn's 1,797 scans of handwritten digits, 8x8 pixels flattened to 64 features of 0 to 16.

    60 % of every class are training, 20 % validation and 20 % test rows.

    Args:
        seed: fixes the split.

    >>> from jbn.task import data
    >>> data.digits().train.x.shape
    (1078, 64)
    """
    x, y = _digits()
    return arrays(x, y, name="digits", seed=seed)


def _digits() -> tuple[np.ndarray, np.ndarray]:
    """Pixels and labels from scikit-learn's own file; importing it takes most of a second."""
    package = importlib.util.find_spec("sklearn")
    for folder in (package.submodule_search_locations or []) if package else []:
        file = Path(folder, "datasets", "data", "digits.csv.gz")
        if file.is_file():
            table = np.loadtxt(file, delimiter=",")
            return table[:, :-1], table[:, -1].astype(int)
    from sklearn.datasets import load_digits

    return load_digits(return_X_y=True)


def load(
    name_or_path: str | os.PathLike[str],
    *,
    data_dir: str | os.PathLike[str] | None = None,
    targets: str | None = None,
    target: str | None = None,
    categorical: str | Iterable[str] | None = None,
    drop: str | Iterable[str] = (),
    seed: int = 0,
) -> Data:
    """The data set of this name, of this .npz, CSV or Parquet file, or of the shards in this folder.

    Args:
        name_or_path: `"digits"`, `"mnist"`, a path that ends in `.npz`, `.csv`, `.csv.gz` or `.parquet`, or a
            folder as in `shards`.
        data_dir: the directory with the files of `"mnist"`; the others need none.
        targets: of a file: what y is, "classes" or "numbers"; default: classes, in a table by what it holds.
        target: the column of a table to predict; `categorical` and `drop` are for tables too, see `table`.
        categorical: columns of a table whose numbers name categories.
        drop: columns of a table that are no features.
        seed: fixes the split.

    Raises:
        InputError: there is no such name, `"mnist"` comes without its directory or a table without its target,
            an option does not belong to the source, or the source itself cannot be used.

    >>> from jbn.task import data
    >>> data.load("digits").classes
    10
    """
    name = os.fspath(name_or_path)
    options: dict[str, Any] = {"target": target, "categorical": categorical, "drop": drop}
    if frames.is_table(name):
        return _table(name, **options, targets=targets, seed=seed)
    _check_no_table(name, options)
    if name == "digits":
        return digits(seed=seed)
    if name == "mnist":
        if data_dir is None:
            raise InputError(
                "mnist must have data_dir, but got none; give the directory with its four IDX files (--data-dir)"
            )
        return mnist(data_dir, seed=seed)
    if name.lower().endswith(".npz"):
        return npz(name, targets=targets or "classes", seed=seed)
    if (path := Path(name).expanduser()).is_dir():
        return shards(path, targets=targets or "classes", seed=seed)
    raise InputError(_unknown(name))


def _table(name: str, *, target: str | None, **options: Any) -> Data:
    if target is None:
        raise InputError(f"{name} must have target, but got none; name the column to predict (--target)")
    return table(name, target=target, **options)


def _check_no_table(name: str, options: Mapping[str, Any]) -> None:
    for option, value in options.items():
        if value:
            kinds = ", ".join(frames.SUFFIXES)
            raise InputError(f"{option} is for tables ({kinds}), but data is {name!r}; leave it out")


def _unknown(name: str) -> str:
    kind = (
        "exists, but is no .npz file, table or folder"
        if Path(name).exists()
        else "is neither a known name nor a file"
    )
    return (
        f"data {name!r} {kind}; {did_you_mean(name, NAMES)}; or give a path that ends in .npz, to a file with "
        f"x_train and y_train, or in {', '.join(frames.SUFFIXES)}, to a table, or to a folder of shards"
    )
