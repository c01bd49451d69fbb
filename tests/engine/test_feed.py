"""Blocks on their way to the devices: how far ahead they are read, and how reading ends."""

import threading
import time

import jax
import numpy as np
import pytest

from jbn.engine.feed import Feed
from jbn.nn import normalizer
from jbn.task.data.blocks import Blocks, Stretch
from jbn.task.streams import order, streams

ROWS, FEATURES = 23, (2, 3)
X = np.random.default_rng(0).normal(5, 2, (ROWS, *FEATURES)).astype(np.float32)
Y = np.arange(ROWS, dtype=np.int32)
KEYS = [streams(jax.random.key(0), seed) for seed in range(2)]


class Numbered(Blocks):
    """Rows in memory; remembers what was read, and may fail or hang."""

    def __init__(self, block_rows=6, *, shuffle=True, fail_at=None, hang=None):
        super().__init__(ROWS, FEATURES, block_rows=block_rows, shuffle=shuffle)
        self.normalizer = normalizer.fit(X)
        self.begun, self.ended, self.fail_at, self.hang = [], [], fail_at, hang

    def read(self, epoch, seed):
        try:
            for block in range(self.count):
                self.begun.append((seed, epoch, block))
                if (epoch, block) == self.fail_at:
                    raise RuntimeError("a broken disk")
                if self.hang is not None:
                    self.hang.wait()
                place = np.arange(*self.bounds[block : block + 2])
                yield Stretch(X, Y, place)
        finally:
            self.ended.append((seed, epoch))

    def first(self, rows):
        raise AssertionError("nobody asks for it")


def opened(blocks, epochs=3, head=4):
    feed = Feed(blocks, KEYS, jax.devices()[:1], head=head)
    feed.open(0, epochs)
    return feed


def settle(seen, seconds=0.3):
    """What has been seen once nothing more comes."""
    before, end = -1, time.monotonic() + 20
    while len(seen) != before and time.monotonic() < end:
        before = len(seen)
        time.sleep(seconds)
    return list(seen)


def readers():
    return [thread for thread in threading.enumerate() if thread.name == "jbn-reader"]


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    yield
    assert not readers()


@pytest.mark.parametrize("block_rows", [23, 6, 1])
@pytest.mark.parametrize("head", [1, 4, 20])
def test_an_epoch_is_one_row_of_rows_with_old_ones_in_front(block_rows, head):
    """As programs read it: rows `start` to `end` of the epoch lie at `start - first`."""
    blocks = Numbered(block_rows)
    feed = opened(blocks, head=head)
    expected = X.astype(np.float64) - blocks.normalizer.mean.reshape(FEATURES)
    expected *= blocks.normalizer.factor.reshape(FEATURES)
    for epoch in range(3):
        seen = np.full(head, -1, np.int32)  # before the beginning of an epoch there is nothing
        for number in range(feed.count):
            block = feed.get(0, 0, epoch, number)
            first, start, end = int(block.first), int(block.start), int(block.end)
            assert (start, start - first) == (len(seen) - head, head)
            assert block.rows.y.shape == (head + feed.course.block_rows,)
            assert jax.tree.map(lambda a: (a.shape, a.dtype), block) == jax.tree.map(
                lambda a: (a.shape, a.dtype), feed.like
            )
            new = np.asarray(block.rows.y)[start - first : end - first]
            np.testing.assert_allclose(
                block.rows.x[start - first : end - first], expected[new], rtol=1e-6, atol=1e-6
            )
            seen = np.concatenate([seen, new])
            old = (
                np.asarray(block.rows.y)[: min(start, head)]
                if start >= head
                else np.asarray(block.rows.y)[head - start : head]
            )
            np.testing.assert_array_equal(
                old[-min(start, head) :] if start else [],
                seen[head:][:start][-min(start, head) :] if start else [],
            )
        assert sorted(seen[head:]) == Y.tolist()
        if feed.count == 1:
            np.testing.assert_array_equal(seen[head:], order(KEYS[0].order, epoch, ROWS))
    feed.close()
