"""Blocks of rows in files: stretches of memory maps, one after the other whatever shard they are in."""

from collections.abc import Generator, Sequence

import numpy as np
import numpy.typing as npt
from jaxtyping import Int, Shaped

from jbn.nn import normalizer
from jbn.task.data.blocks import Blocks, Stretch
from jbn.task.data.checks import check_finite
from jbn.task.data.files import Shard


class FileBlocks(Blocks):
    """Rows of memory maps; blocks are stretches of them, every epoch in another order.

    Args:
        shards: whose rows, one after the other.
        targets: of all these rows: classes, or numbers as floats.
        own: which rows are the training part, in its order; default: all.
        block_rows: as in `Blocks`.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        targets: Shaped[np.ndarray, " all *numbers"],
        own: Int[np.ndarray, " rows"] | None,
        *,
        block_rows: int | None,
    ):
        rows = len(targets) if own is None else len(own)
        numbers = None if targets.dtype == np.int32 else targets.shape[1:]
        super().__init__(rows, shards[0].x.values.shape[1:], block_rows=block_rows, numbers=numbers)
        self._joined, self._targets = Joined(shards), targets
        if numbers is not None:
            self.unit = normalizer.fit(targets if own is None else targets[own])
        self._own = None if own is None else _by_block(own, self.bounds)
        stretches = map(self._stretch, range(self.count))
        self.normalizer = normalizer.fit_stream(stretch.x[stretch.place] for stretch in stretches)
        if not np.isfinite([self.normalizer.mean, self.normalizer.factor]).all():
            check_all_finite(shards)

    def read(self, epoch: int, seed: int) -> Generator[Stretch, None, None]:
        """The blocks in the order of an epoch."""
        for block in np.random.default_rng([seed, epoch, 0]).permutation(self.count):
            yield self._stretch(block)

    def first(self, rows: int) -> tuple[npt.NDArray, npt.NDArray]:
        """Of the first block, which may have fewer."""
        x, y, place = self._stretch(0)
        return x[place[:rows]], y[place[:rows]]

    def _stretch(self, block: int) -> Stretch:
        start, end = self.bounds[block], self.bounds[block + 1]
        own = np.arange(start, end) if self._own is None else self._own[start:end]
        low, high = own.min(), own.max() + 1
        # one copy in the order of the file, as disks like it, before rows are taken here and there
        return Stretch(self._joined.stretch(low, high), self._targets[low:high], own - low)


class Joined:
    """The features of shards as one array."""

    def __init__(self, shards: Sequence[Shard]):
        self._xs = [shard.x.values for shard in shards]
        self._ends = np.cumsum([len(x) for x in self._xs])

    def stretch(self, low: int, high: int) -> npt.NDArray:
        """A copy of rows that follow each other."""
        first, last = np.searchsorted(self._ends, [low, high - 1], side="right")
        starts = np.concatenate([[0], self._ends])
        return np.concatenate(
            [self._xs[n][max(0, low - starts[n]) : high - starts[n]] for n in range(first, last + 1)]
        )

    def take(self, rows: Int[np.ndarray, " rows"]) -> npt.NDArray:
        """A copy of any rows; they are read in the order of the files."""
        dtype = self._xs[0].dtype.newbyteorder("=")
        taken = np.empty((len(rows), *self._xs[0].shape[1:]), dtype)
        ordered = np.argsort(rows)
        cuts = np.searchsorted(rows[ordered], self._ends)
        for x, place, end in zip(self._xs, np.split(ordered, cuts[:-1]), self._ends, strict=True):
            taken[place] = x[rows[place] - (end - len(x))]
        return taken


def _by_block(own: Int[np.ndarray, " rows"], bounds: Int[np.ndarray, " edges"]) -> Int[np.ndarray, " rows"]:
    """Rows so sorted that those of a block are neighbours in the files; within a block their order stays."""
    ranks = np.empty(len(own), np.int64)
    ranks[np.argsort(own)] = np.arange(len(own))
    return own[np.argsort(np.searchsorted(bounds, ranks, side="right"), kind="stable")]


def check_all_finite(shards: Sequence[Shard]) -> None:
    """The features of all shards are finite; the message says in which file and row they are not."""
    for shard in shards:
        check_finite(shard.x)
