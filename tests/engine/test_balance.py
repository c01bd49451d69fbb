"""Whether the members that are left keep all workers busy, in few calls."""

import dataclasses

import jax
import numpy as np
import pytest

import jbn
from jbn.engine.balance import Costs, balanced
from jbn.engine.cost import rates
from jbn.engine.engine import Engine
from jbn.engine.layout import Chunk, Part
from jbn.engine.plan import plan
from jbn.engine.workers import Workers
from jbn.task.hyper import Structure

TASK = jbn.Task(model=jbn.mlp(), data=jbn.data.digits())
SPACE = jbn.Space(learning_rate=jbn.log_uniform(1e-3, 1e-1), layers=jbn.integers(1, 2), hidden_units=16)
CONFIGS = jbn.search.random(SPACE, 40, key=0)
EVERYONE = np.ones(40, bool)
NARROW, WIDE = Structure((("layers", 1),)), Structure((("layers", 2),))
SECONDS = {NARROW: 1.0, WIDE: 3.0}
COSTS = Costs(SECONDS.__getitem__, call=0.1, chunk=lambda chunk: 0.1)
FREE = COSTS._replace(call=0.0, chunk=lambda chunk: 0.0)  # calls and moves


@pytest.fixture
def workers():
    crew = Workers(2)
    yield crew
    crew.close()


def engine(workers):
    layout = plan(TASK, CONFIGS, platform="cpu", classes=1)._replace(slots=16)
    return Engine(TASK, CONFIGS, layout, key=jax.random.key(1), workers=workers)


def survivors(own):
    """All members of the chunk that comes first, but its first."""
    alive = np.zeros(own.members, bool)
    for part in own._chunks[0].parts:
        alive[part.members] = True
    alive[own._chunks[0].parts[0].members[0]] = False
    return alive


def numbers(segments):
    return np.array([[own.metrics.train_loss, own.metrics.validation_loss, own.steps] for own in segments])


def test_the_rest_of_one_chunk_is_spread_and_trains_as_before(workers, monkeypatch):
    free = rates("cpu")._replace(call=0.0, moved=0.0)  # else so small a chunk is divided into fewer
    monkeypatch.setattr("jbn.engine.engine.rates", lambda platform: free)
    own, one = engine(workers), engine(workers)
    begun = [each.advance(0, EVERYONE) for each in (own, one)]
    one._balance = lambda *_: None
    alive = survivors(own)
    before, states = len(own._chunks), {member: own.member(member) for member in range(own.members)}
    programs = own.timings.programs
    own._balance(alive, 1)
    assert len(own._chunks) > before
    assert placed(own._chunks) == list(range(40))
    for member, state in states.items():
        jax.tree.map(np.testing.assert_array_equal, own.member(member), state)
    live = [sum(len(part.live(alive)) for part in chunk.parts) for chunk in own._chunks]
    assert max(live) <= alive.sum() / 4  # of a worker's half, no more than a quarter is one call, here 7 or 8
    found = [list(each.segments(1, 3, alive)) for each in (own, one)]
    np.testing.assert_array_equal(numbers(found[0]), numbers(found[1]))
    np.testing.assert_array_equal(numbers(begun[:1]), numbers(begun[1:]))
    assert own.timings.programs == programs
    assert all(chunk.compiled for chunk in own._chunks)


def test_nothing_is_moved_where_all_take_part(workers):
    own = engine(workers)
    own.advance(0, EVERYONE)
    chunks = list(own._chunks)
    own._balance(EVERYONE, 1)
    assert own._chunks == chunks


def test_nothing_is_moved_where_memory_is_short(workers, monkeypatch):
    own = engine(workers)
    own.advance(0, EVERYONE)
    chunks, held = (
        list(own._chunks),
        sum(leaf.nbytes for chunk in own._chunks for leaf in jax.tree.leaves(chunk.populations)),
    )
    monkeypatch.setattr("jbn.engine.engine.available_bytes", lambda: 4 * held)
    own._balance(survivors(own), 1)
    assert own._chunks == chunks
    monkeypatch.setattr("jbn.engine.engine.available_bytes", lambda: 4 * held + 1)
    own._balance(survivors(own), 1)
    assert len(own._chunks) > len(chunks)


def chunk(first, narrow, wide, *, device=0):
    """Members from a number on: so many of each structure, in a chunk of eight slots."""
    members = np.split(first + np.arange(narrow + wide), [narrow])
    parts = tuple(Part(s, m, {"rate": np.zeros(8)}) for s, m in zip((NARROW, WIDE), members, strict=True))
    return Chunk(parts, seed=0, device=device, slots=8)


def loads(chunks, alive):
    """What there is to do in chunks that have something to do."""
    found = [sum(len(part.live(alive)) * SECONDS[part.structure] for part in one.parts) for one in chunks]
    return [own for own in found if own]


def placed(chunks):
    """All members, wherever they are."""
    return sorted(member for one in chunks for part in one.parts for member in part.members if member >= 0)


@pytest.mark.parametrize(
    ("costs", "segments", "workers", "expected"),
    [
        (FREE, 20, 2, [5, 4, 4]),  # by hand: 13 to do, 6.5 each; two calls would have 7 and 6
        (FREE, 5, 2, [3, 3, 3, 2, 2]),  # 3.25 each
        (FREE, 1, 2, [3, 3, *[1] * 7]),  # 1.6 each: every member apart, of which the wide ones take 3
        (FREE, 20, 1, [12, 1]),  # only one is sparse
        (COSTS, 5, 2, [5, 4, 4]),  # ends at 34.25, with 0.1 for a call; 3.25 each, in five calls, at 34.75
        (COSTS, 2, 2, [3, 3, *[1] * 7]),  # the same: at 14.3, and in nine calls at 13.9
    ],
)
def test_no_chunk_has_more_than_a_workers_share(costs, segments, workers, expected):
    chunks, alive = [chunk(0, 6, 2), chunk(8, 8, 0)], np.ones(16, bool)
    alive[9:] = False
    found = balanced(chunks, alive, costs, segments=segments, workers=workers)
    assert sorted(loads(found, alive)) == sorted(expected)
    assert placed(found) == list(range(16))


@pytest.mark.parametrize(("making", "expected"), [(9.0, [12, 1]), (7.0, [5, 4, 4])])
def test_nobody_moves_where_that_takes_longer_than_it_saves(making, expected):
    """By hand: a segment of 12.1 on one of two workers; 5.1, 4.1 and 4.1 end at 8.2, but take 3 new chunks."""
    chunks, alive = [chunk(0, 6, 2), chunk(8, 8, 0)], np.ones(16, bool)
    alive[9:] = False
    costs = COSTS._replace(chunk=lambda chunk: making / 3)
    found = balanced(chunks, alive, costs, segments=1, workers=2)
    assert loads(found, alive) == expected
    assert (found == chunks) == (expected == [12, 1])


def test_chunks_with_most_to_do_come_first():
    chunks, alive = [chunk(8 * place, 8, 0) for place in range(3)], np.ones(24, bool)
    alive[[0, 16, 17]] = False  # 7, 8 and 6 are left: all but full
    found = balanced(chunks, alive, COSTS, segments=20, workers=1)
    assert found == [chunks[1], chunks[0], chunks[2]]


@pytest.mark.parametrize(("left", "expected"), [(8, [8, 2]), (9, [5, 4, 2])])
def test_the_rest_of_sparse_chunks_comes_together(left, expected):
    """So many members of four chunks are in as few as have slots for them; those of another seed stay apart."""
    chunks = [chunk(8 * place, 8, 0) for place in range(4)]
    chunks.append(dataclasses.replace(chunk(32, 8, 0), seed=1))
    alive = np.arange(40) % 4 == 0
    alive[1] = left > 8
    found = balanced(chunks, alive, COSTS, segments=20, workers=1)
    assert loads(found, alive) == expected
    assert placed(found) == list(range(40))


def test_devices_keep_their_members():
    chunks = [chunk(0, 8, 0, device=0), chunk(8, 2, 0, device=1)]
    found = balanced(chunks, np.ones(10, bool), COSTS, segments=20, workers=2, devices=2)
    here = [[one for one in found if one.device == place] for place in range(2)]
    assert [loads(own, np.ones(10, bool)) for own in here] == [[4, 4], [1, 1]]
