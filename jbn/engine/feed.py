"""Blocks of rows on their way to the devices: while one is trained on, a thread prepares the next.

All chunks go through the blocks together, so each is read and normalised once an epoch and seed index, however many
members train on it.
"""

import contextlib
import threading
from collections.abc import Generator, Sequence
from typing import Any

import jax
import numpy as np

from jbn.nn.normalizer import Normalizer
from jbn.task.data.blocks import Blocks, Stretch
from jbn.task.member import Block, Course, Rows
from jbn.task.streams import Streams, block_order, number

HELD = 3  # blocks at a time: the last two that were asked for, and the one that is prepared
_JOIN_SECONDS = 5.0  # what an iterator that hangs gets; the thread does not keep the process alive


_HostRows = tuple[np.ndarray, np.ndarray]


class ClosedError(Exception):
    """The run has ended: nothing is read any more."""


class Feed:
    """The blocks of some epochs, for every seed index.

    Args:
        blocks: the training part.
        purposes: the streams of every seed index.
        devices: where every block is put.
        head: old rows that each block has in front: as many as the largest batch.
        normalizer: of the features; default: that of the blocks.
        unit: what targets are standardised with; None: they are taken as they are.

    Attributes:
        count: blocks of an epoch.
        course: of an epoch.
    """

    def __init__(
        self,
        blocks: Blocks,
        purposes: Sequence[Streams],
        devices: Sequence[Any],
        *,
        head: int,
        normalizer: Normalizer | None = None,
        unit: Normalizer | None = None,
    ):
        self.count, self.course = blocks.count, Course(blocks.rows, blocks.capacity)
        self._blocks, self._purposes, self._devices, self._head = blocks, purposes, devices, head
        self._normalizer, self._unit = normalizer or blocks.normalizer, unit
        self._dtype = jax.dtypes.canonicalize_dtype(float)  # a setting that other threads need not have
        self._readers: dict[int, _Reader] | None = None
        self._epochs = range(0)
        self._lock = threading.Lock()

    @property
    def like(self) -> Block:
        """Shapes and types of a block."""
        number: Any = jax.ShapeDtypeStruct((), np.int32)
        x, y = self._zeros(self._head + self.course.block_rows)
        rows: Any = [jax.ShapeDtypeStruct(own.shape, own.dtype) for own in (x, y)]
        return Block(Rows(rows[0], rows[1]), number, number, number)

    def open(self, first: int, until: int) -> None:
        """From now on, the blocks of these epochs can be had; nothing is read beyond."""
        self._epochs, self._readers = range(first, until), {}

    def close(self) -> None:
        """Whoever waits for a block gets a `ClosedError`; the threads end."""
        with self._lock:
            readers, self._readers = self._readers or {}, None
        for reader in readers.values():
            reader.close()

    def get(self, seed: int, device: int, epoch: int, block: int) -> Block:
        """A block, once it is there. No block before the last one that was asked for may be asked for any more.

        Raises:
            ClosedError: the run has ended.
            Exception: what reading raised, e.g. an `InputError`.
        """
        place = (epoch - self._epochs.start) * self.count + block
        return self._reader(seed).get(place)[device]

    def _reader(self, seed: int) -> "_Reader":
        with self._lock:
            if self._readers is None:
                raise ClosedError
            if seed not in self._readers:
                self._readers[seed] = _Reader(self._prepared(self._purposes[seed], self._epochs))
            return self._readers[seed]

    def _prepared(self, keys: Streams, epochs: range) -> Generator[list[Block], None, None]:
        """All blocks of these epochs, on every device."""
        seed = number(keys.order)
        for epoch in epochs:
            head, start = self._zeros(self._head), 0
            with contextlib.closing(self._blocks.read(epoch, seed)) as stretches:
                for index, stretch in enumerate(stretches):
                    place = self._place(stretch, keys, epoch, index)
                    rows, end = self._filled(head, stretch, place), start + len(place)
                    yield self._on_devices(rows, start, end)
                    head = rows[0][end - start :][: self._head], rows[1][end - start :][: self._head]
                    start = end

    def _place(self, stretch: Stretch, keys: Streams, epoch: int, index: int) -> np.ndarray:
        """Which rows of a stretch come when."""
        if not self._blocks.shuffle:
            return stretch.place
        return stretch.place[
            block_order(keys.order, epoch, index, len(stretch.place), blocks=self._blocks.count)
        ]

    def _filled(self, head: _HostRows, stretch: Stretch, place: np.ndarray) -> _HostRows:
        """Old rows, then new ones, normalised; in memory of its own, as a device may share it."""
        x, y = self._zeros(self._head + self.course.block_rows)
        old, new = slice(self._head), slice(self._head, self._head + len(place))
        x[old], y[old] = head
        self._normalizer.write(stretch.x, place, x[new])
        if self._unit is None:
            y[new] = stretch.y[place]
        else:
            self._unit.write(stretch.y, place, y[new])
        return x, y

    def _on_devices(self, rows: _HostRows, start: int, end: int) -> list[Block]:
        numbers = [np.asarray(number, np.int32) for number in (start - self._head, start, end)]
        with jax.enable_x64(self._dtype == np.float64):  # else this thread would round to float32
            placed = [jax.device_put((rows, numbers), device) for device in self._devices]
        return [Block(Rows(*own), *places) for own, places in placed]

    def _zeros(self, count: int) -> _HostRows:
        numbers, shape = self._blocks.numbers, (count, *self._blocks.features)
        y = np.zeros(count, np.int32) if numbers is None else np.zeros((count, *numbers), self._dtype)
        return np.zeros(shape, self._dtype), y


class _Reader:
    """A thread that takes what an iterator gives, as far ahead as it may."""

    def __init__(self, items: Generator[list[Block], None, None]):
        self._items = items
        self._ready: dict[int, list[Block]] = {}
        self._wanted, self._closed = 0, False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="jbn-reader", daemon=True)
        self._thread.start()

    def get(self, place: int) -> list[Block]:
        """The item of this number; those before the last one go."""
        with self._changed:
            self._wanted = max(self._wanted, place)
            for old in [own for own in self._ready if own < self._wanted - 1]:
                del self._ready[old]
            self._changed.notify_all()
            self._changed.wait_for(lambda: place in self._ready or self._error or self._closed)
            if place in self._ready:
                return self._ready[place]
            raise self._error or ClosedError

    def close(self) -> None:
        """Ends the thread; one that hangs in what it reads from is left behind."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(_JOIN_SECONDS)

    def _run(self) -> None:
        try:
            with contextlib.closing(self._items) as items:
                place = 0
                while self._may(place):
                    self._put(place, next(items))
                    place += 1
        except BaseException as error:  # raised where the block is asked for
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _may(self, place: int) -> bool:
        """Waits until this item may be prepared; False once all is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or place <= self._wanted + 1)
            return not self._closed

    def _put(self, place: int, item: list[Block]) -> None:
        with self._changed:
            self._ready[place] = item
            self._changed.notify_all()
