"""Cross-validation: training and validation part together, and which of their rows each fold trains on."""

import dataclasses
import zlib

import numpy as np
from jaxtyping import Int

from jbn.errors import InputError
from jbn.task.data.blocks import Blocks
from jbn.task.data.parts import Data, Folds, Part

_PURPOSE = zlib.crc32(b"folds")


def folded(data: Data, folds: int, *, seed: int = 0) -> Data:
    """The data set in folds: each validates on its share of training and validation rows, and trains on the rest.

    Classes are in proportion in every fold. All folds have equally many rows; where the rows do not divide evenly,
    those that are left over are always trained on. The test part stays as it is.

    Args:
        data: training and validation part are thrown together.
        folds: how many, at least 2.
        seed: fixes the folds.

    Returns:
        A data set whose `train` and `validation` are those of the first fold, and whose `folds` are all of them.

    Raises:
        InputError: fewer than 2 folds, or more than rows.

    >>> from jbn.task.data import digits
    >>> folded(digits(), 5)
    Data('digits': 1150 training, 287 validation, 360 test rows of 64 features, 10 classes, 5 folds)
    """
    if isinstance(data.train, Blocks):
        raise InputError(
            "folds need data in memory, but the training part is read in blocks; leave folds out"
        )
    x, y = (np.concatenate([getattr(data.train, name), getattr(data.validation, name)]) for name in "xy")
    if not 2 <= folds <= len(y):
        raise InputError(
            f"folds must be 1 (none), or at least 2 and at most the {len(y)} rows of training and validation part, "
            f"but got {folds}"
        )
    groups = _groups(y if data.classes else np.zeros(len(y), np.int32), folds, seed)
    everything = np.arange(len(y))
    train = np.stack([np.setdiff1d(everything, own) for own in groups])
    parts = [Part(x[rows], y[rows]) for rows in (train[0], groups[0])]
    return dataclasses.replace(
        data, train=parts[0], validation=parts[1], folds=Folds(Part(x, y), train, groups)
    )


def _groups(strata: Int[np.ndarray, " rows"], folds: int, seed: int) -> Int[np.ndarray, "folds rows_each"]:
    """Row numbers that each fold validates on: shuffled, sorted by stratum, then dealt out in turn."""
    shuffled = np.random.default_rng([seed, _PURPOSE]).permutation(len(strata))[len(strata) % folds :]
    dealt = shuffled[np.argsort(strata[shuffled], kind="stable")]
    return dealt.reshape(-1, folds).T
