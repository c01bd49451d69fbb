"""Blocks on their way to the devices: how far ahead they are read, and how reading ends."""

import threading
import time

import jax
import numpy as np
import pytest

from jbn.engine import feed as feeds
from jbn.engine.feed import HELD, ClosedError, Feed
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


def shapes(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)


@pytest.mark.parametrize("block_rows", [23, 6, 1])
@pytest.mark.parametrize("head", [1, 4, 20])
def test_blocks_hold_the_rows_of_an_epoch_and_old_ones_in_front(block_rows, head):
    """Row n of an epoch lies at `n - first`, for all rows from `first` to `end`."""
    blocks = Numbered(block_rows)
    feed = opened(blocks, head=head)
    normal = blocks.normalizer
    expected = (X.reshape(ROWS, -1).astype(np.float64) - normal.mean) * normal.factor
    for epoch in range(3):
        epoch_rows = np.zeros(0, np.int32)
        for number in range(feed.count):
            block = feed.get(0, 0, epoch, number)
            assert shapes(block) == shapes(feed.like)
            first, start, end = int(block.first), int(block.start), int(block.end)
            assert (start, first) == (len(epoch_rows), len(epoch_rows) - head)
            x, y = (np.asarray(a)[max(first, 0) - first : end - first] for a in block.rows[:2])
            epoch_rows = np.concatenate([epoch_rows, y[start - max(first, 0) :]])
            np.testing.assert_array_equal(y, epoch_rows[max(first, 0) :])
            np.testing.assert_allclose(x.reshape(len(y), -1), expected[y], rtol=1e-5, atol=1e-6)
        assert sorted(epoch_rows) == Y.tolist()
        if feed.count == 1:
            np.testing.assert_array_equal(epoch_rows, order(KEYS[0].order, epoch, ROWS))
    feed.close()


def rows_of(feed, seed, epoch):
    """The labels of every block; here they are row numbers."""
    own = [feed.get(seed, 0, epoch, number) for number in range(feed.count)]
    return [np.asarray(block.rows.y)[4 : 4 + int(block.end - block.start)].tolist() for block in own]


def test_rows_are_shuffled_within_their_block_by_seed_and_epoch_unless_told_otherwise():
    feed = opened(Numbered())
    found = [rows_of(feed, 0, 0), rows_of(feed, 0, 1), rows_of(feed, 1, 0)]
    feed.close()
    again = opened(Numbered())
    assert rows_of(again, 0, 0) == found[0]
    again.close()
    assert found[0] != found[1]
    assert found[0] != found[2]
    for own in found:
        assert [sorted(block) for block in own] == [
            list(range(*Numbered().bounds[n : n + 2])) for n in range(4)
        ]
        assert all(block != sorted(block) for block in own)
    plain = opened(Numbered(shuffle=False))
    assert [row for block in rows_of(plain, 0, 0) for row in block] == Y.tolist()
    plain.close()


def test_a_block_is_read_once_and_only_a_little_ahead():
    blocks = Numbered()
    feed = opened(blocks)
    for number in range(4):
        for _ in range(3):  # several chunks
            feed.get(0, 0, 0, number)
        begun = settle(blocks.begun)
        assert [own[1:] for own in begun] == [divmod(n, 4) for n in range(number + 2)]
    assert HELD == 3
    feed.get(0, 0, 0, 2)  # a chunk that is one block behind
    feed.close()


def test_every_seed_is_read_on_its_own_and_nothing_beyond_the_last_epoch():
    blocks = Numbered()
    feed = opened(blocks, epochs=1)
    for number in range(4):
        feed.get(1, 0, 0, number)
        feed.get(0, 0, 0, number)
    begun = settle(blocks.begun)
    assert len(begun) == 8
    assert {own[1] for own in begun} == {0}
    assert len({own[0] for own in begun}) == 2
    feed.close()


def test_an_error_comes_where_its_block_is_asked_for_and_ends_the_thread():
    feed = opened(Numbered(fail_at=(0, 2)))
    feed.get(0, 0, 0, 0)
    feed.get(0, 0, 0, 1)
    for _ in range(2):  # all workers get it
        with pytest.raises(RuntimeError, match="a broken disk"):
            feed.get(0, 0, 0, 2)
    assert not readers()
    feed.close()


def waiting(feed):
    """A thread that asks for the first block, and the errors it gets."""
    errors = []

    def ask():
        try:
            feed.get(0, 0, 0, 0)
        except ClosedError as error:
            errors.append(error)

    worker = threading.Thread(target=ask)
    worker.start()
    return errors, worker


def test_closing_wakes_whoever_waits_and_closes_the_source():
    blocks = Numbered(hang=threading.Event())
    feed = opened(blocks)
    asked = [waiting(feed) for _ in range(2)]
    settle(blocks.begun)
    threading.Timer(0.2, blocks.hang.set).start()
    feed.close()
    for errors, worker in asked:
        worker.join(10)
        assert len(errors) == 1
    assert blocks.ended == [(blocks.begun[0][0], 0)]
    with pytest.raises(ClosedError):
        feed.get(0, 0, 0, 0)
    feed.close()  # once more does nothing


def test_a_source_that_hangs_is_left_behind(monkeypatch):
    monkeypatch.setattr(feeds, "_JOIN_SECONDS", 0.1)
    blocks = Numbered(hang=threading.Event())
    feed = opened(blocks)
    errors, worker = waiting(feed)
    settle(blocks.begun)
    feed.close()
    worker.join(10)
    assert len(errors) == 1
    assert [thread.daemon for thread in readers()] == [True]  # it does not keep the process alive
    blocks.hang.set()
    for thread in readers():
        thread.join(10)


def test_it_can_be_opened_again():
    feed = opened(Numbered(), epochs=1)
    first = rows_of(feed, 0, 0)
    feed.close()
    feed.open(0, 1)
    assert rows_of(feed, 0, 0) == first
    feed.close()
    feed.open(1, 2)
    assert rows_of(feed, 0, 1) != first
    feed.close()


def test_blocks_are_in_the_type_that_holds_where_the_feed_is_made():
    with jax.enable_x64(True):
        feed = opened(Numbered())
        block = feed.get(0, 0, 0, 0)
        assert block.rows.x.dtype == feed.like.rows.x.dtype == np.float64
        feed.close()
