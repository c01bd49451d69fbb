"""A training part that is larger than what one wants in memory: it is read in blocks, again every epoch.

An epoch has `rows` rows in `count` blocks of nearly equal size. How large they are follows from the data alone,
never from what is trained on them: the order of the data must not depend on the other configurations of a sweep.
"""

import abc
import math
from collections.abc import Generator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Int, Shaped

from jbn.errors import InputError
from jbn.nn.normalizer import Normalizer

_BLOCK_BYTES = 64e6  # as float32: its copies in flight do not count, and a member's state is loaded seldom
_LEAST_ROWS, _MOST_BYTES = 50 * 256, 512e6  # 50 steps of the largest usual batch, unless rows are very large
SMALL_BYTES = 256e6  # as float32: what a device holds without further ado


class Stretch(NamedTuple):
    """Rows in memory, of which some are a block.

    Args:
        x: features as they are in the source, `[held, ...features]`.
        y: their labels, `[held]`, or numbers, `[held]` or `[held, numbers]`.
        place: the rows of the block, in their order, `[rows]`.
    """

    x: Shaped[np.ndarray, " held *features"]
    y: Shaped[np.ndarray, " held *numbers"]
    place: Int[np.ndarray, " rows"]


class Blocks(abc.ABC):
    """What all training parts that are read in blocks have.

    Args:
        rows: of an epoch.
        features: shape of a row.
        block_rows: how many rows a block may have; default: what `default_rows` says.
        shuffle: whether rows are shuffled within their block.
        once: whether it can be read only once.
        numbers: shape of a row's target where that is numbers; None: targets are classes.

    Attributes:
        normalizer: statistics of all rows, or of what was read of them beforehand.
        unit: the same of the targets, where they are numbers.
    """

    normalizer: Normalizer
    unit: Normalizer | None = None

    def __init__(
        self,
        rows: int,
        features: tuple[int, ...],
        *,
        block_rows: int | None,
        shuffle: bool = True,
        once: bool = False,
        numbers: tuple[int, ...] | None = None,
    ):
        self.rows, self.features, self.shuffle, self.once = rows, features, shuffle, once
        self.numbers = numbers
        self.count = -(-rows // (block_rows or default_rows(features)))
        self.bounds = np.arange(self.count + 1) * rows // self.count

    @property
    def capacity(self) -> int:
        """Rows of the largest block."""
        return int(np.diff(self.bounds).max())

    @abc.abstractmethod
    def read(self, epoch: int, seed: int) -> Generator[Stretch, None, None]:
        """The blocks of an epoch in their order, one at a time.

        Args:
            epoch: counted from 0.
            seed: a whole number from which the order follows.

        Raises:
            InputError: the source does not have what it had or was said to have.
        """

    @abc.abstractmethod
    def first(self, rows: int) -> tuple[npt.NDArray, npt.NDArray]:
        """Features and targets of the first rows, or of as many as can be had cheaply; nothing is used up."""

    def __repr__(self) -> str:
        return f"{self.rows:,} rows in {self.count} blocks"


def row_bytes(features: tuple[int, ...]) -> int:
    """Bytes of a row as float32."""
    return 4 * math.prod(features)


def default_rows(features: tuple[int, ...]) -> int:
    """Rows of a block: 64 MB as float32, at least 50 steps of 256 where these are not more than 512 MB.

    >>> default_rows((28, 28)), default_rows((64,)), default_rows((224, 224, 3))
    (20408, 250000, 850)
    """
    own = row_bytes(features)
    return max(1, int(max(_BLOCK_BYTES / own, min(_LEAST_ROWS, _MOST_BYTES / own))))


def check_block_rows(block_rows: int | None) -> None:
    """It is a whole number of at least 1, or None."""
    if block_rows is not None and not (isinstance(block_rows, int | np.integer) and block_rows >= 1):
        raise InputError(f"block_rows must be a whole number of at least 1, but got {block_rows!r}")
