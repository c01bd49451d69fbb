"""Data in memory, on every device: the training part in the order of each epoch, and what is validated on."""

import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray

from jbn.engine.executables import Executable
from jbn.engine.layout import Chunk
from jbn.task.arrays import Arrays, Fold
from jbn.task.member import Rows
from jbn.task.streams import Streams, order, order_of_steps
from jbn.task.task import Task

_KEPT_BYTES = 4_000_000  # of rows in order, all seeds together; one epoch is kept whatever it takes
_EPOCH = jax.ShapeDtypeStruct((), np.int32)


class Resident:
    """What members train on and are judged by.

    Args:
        task: whose data.
        arrays: they, on the default device.
        streams: of every seed, on every device.
        folds: which fold every seed trains on.
        devices: where.
        rows: of an epoch in order, for the members of a seed.
    """

    def __init__(
        self,
        task: Task,
        arrays: Arrays,
        *,
        streams: Sequence[Sequence[Streams]],
        folds: Sequence[int],
        devices: Sequence[jax.Device],
        rows: int,
    ):
        self._steps, self._streams, self._folds = task.steps_per_epoch, streams, folds
        own = arrays.folds or (None,)
        self._rows = [jax.device_put((arrays.train, own), device) for device in devices]
        self._judged = [_judged(arrays, device) for device in devices]
        self._known: dict[
            tuple[int, int], dict[int, dict[Any, Rows]]
        ] = {}  # the last epochs of a device and seed
        self._kept = max(1, _KEPT_BYTES // (len(folds) * rows * arrays.train.x[:1].nbytes + 1))
        self._ordering = threading.Lock()

    def judged(self, chunk: Chunk) -> tuple[Rows, Rows | None]:
        """What a chunk is validated on, and the test part where that is measured on, too."""
        return self._judged[chunk.device][self._folds[chunk.seed]]

    def orders(self, chunk: Chunk) -> list[tuple[Callable[..., Any], tuple[Any, ...]]]:
        """Programs that put the training part into order, one for all cohorts or one for each; their arguments."""
        arguments = (*self._data(chunk), self._streams[chunk.device][chunk.seed].order, _EPOCH)
        return [(_program(size, self._steps), arguments) for size in self._sizes(chunk)]

    def like(self, orders: Sequence[Executable]) -> Any:
        """Shapes of what `epoch` returns."""
        return _all_or_each([program.result for program in orders])

    def epoch(self, chunk: Chunk, orders: Sequence[Executable], epoch: int) -> Any:
        """The training part in the order of an epoch: rows for all cohorts, or a tuple of each one's."""
        with self._ordering:
            known = self._known.setdefault((chunk.device, chunk.seed), {})
            while epoch not in known and len(known) >= self._kept:
                del known[next(iter(known))]
            made, key = known.setdefault(epoch, {}), self._streams[chunk.device][chunk.seed].order
            sizes = self._sizes(chunk)
            for size, program in zip(sizes, orders, strict=True):
                if size not in made:
                    made[size] = program(*self._data(chunk), key, np.int32(epoch))
            return _all_or_each([made[size] for size in sizes])

    def _sizes(self, chunk: Chunk) -> list[int | None]:
        """Batch sizes that decide what an epoch is."""
        if self._steps is None:
            return [None]
        return [dict(part.structure.values)["batch_size"] for part in chunk.parts]

    def _data(self, chunk: Chunk) -> tuple[Rows, Fold | None]:
        rows, folds = self._rows[chunk.device]
        return rows, folds[self._folds[chunk.seed]]


def _all_or_each(rows: Sequence[Rows]) -> Any:
    return rows[0] if len(rows) == 1 else tuple(rows)


@functools.lru_cache(maxsize=256)
def _program(batch_size: int | None, steps: int | None) -> Callable[..., Any]:
    """The training part in the order of an epoch; with a fold, its rows, normalised by its own statistics."""

    def in_order(rows: Rows, fold: Fold | None, key: PRNGKeyArray, epoch: Int[Array, ""]) -> Rows:
        count = rows.y.shape[0] if fold is None else fold.train.shape[0]
        if batch_size is None or steps is None:
            place = order(key, epoch, count)
        else:
            place = order_of_steps(key, epoch, count, batch_size=batch_size, steps=steps)
        if fold is None:
            return rows._replace(x=rows.x[place], y=rows.y[place])
        return fold.rows(rows, fold.train[place])

    return jax.jit(in_order)


_of_fold = jax.jit(lambda pool, fold: fold.rows(pool, fold.validation))
_whole_of_fold = jax.jit(lambda rows, fold: fold.rows(rows, jax.numpy.arange(len(rows.y))))


def _judged(arrays: Arrays, device: jax.Device) -> list[tuple[Rows, Rows | None]]:
    """What each fold is validated on, or without folds the validation part; and the test part, if it is wanted."""
    if not arrays.folds:
        return [jax.device_put((arrays.validation, arrays.test), device)]
    pool, folds, test = jax.device_put((arrays.train, arrays.folds, arrays.test), device)
    return [(_of_fold(pool, fold), None if test is None else _whole_of_fold(test, fold)) for fold in folds]
