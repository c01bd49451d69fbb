"""Whose turn it is."""

import threading

import numpy as np
import pytest

from jbn.engine.layout import Chunk
from jbn.engine.schedule import Schedule, Turn


class Compiled(Chunk):
    compiled = True


class Uncompiled(Chunk):
    compiled = False


def turns(count, *, kind=Compiled, device=0):
    chunks = [kind((), seed=number, device=device, slots=2) for number in range(count)]
    return [Turn(chunk, [np.arange(2)], 0, ready=True) for chunk in chunks]


def run(schedule, turn, *, live=True, seconds=0.0):
    schedule.done(turn, ["result"], [np.arange(2 if live else 0)], seconds)


def take(schedule, device=0):
    """The turn that may go now, None where a worker would wait."""
    found = []
    worker = threading.Thread(target=lambda: found.append(schedule.take(device)), daemon=True)
    worker.start()
    worker.join(0.1)
    if worker.is_alive():
        schedule.close()  # for good: one question a schedule
        worker.join()
    return found[0] if found else None


def test_the_chunk_furthest_behind_goes_first_and_equals_in_their_order():
    own = turns(3)
    schedule = Schedule(own, 9)
    for expected in (0, 1, 2, 0, 1, 2):
        turn = schedule.take(0)
        assert turn.chunk.seed == expected
        run(schedule, turn)
    assert [turn.segment for turn in own] == [2, 2, 2]


def test_a_chunk_that_is_not_traced_yet_is_waited_for_by_nobody_but_those_far_ahead():
    own = turns(2)
    own[1].ready = False
    schedule = Schedule(own, 99)
    for _ in range(17):
        run(schedule, schedule.take(0))
    assert (own[0].segment, own[1].segment) == (17, 0)
    assert take(schedule) is None  # 17 ahead: no further


def test_nobody_runs_far_ahead_of_the_reader():
    """With a single chunk too, which is never ahead of others."""
    own = turns(1)
    schedule = Schedule(own, 99)
    for _ in range(17):
        run(schedule, schedule.take(0))
    schedule.read(3)
    for _ in range(3):
        run(schedule, schedule.take(0))
    assert own[0].segment == 20
    assert take(schedule) is None


@pytest.mark.parametrize(("seconds", "segments"), [(0.6, 2), (0.4, 3), (9.0, 2)])
def test_nobody_runs_a_second_ahead_of_the_reader(seconds, segments):
    schedule = Schedule(own := turns(1), 99)
    for _ in range(segments):
        run(schedule, schedule.take(0), seconds=seconds)
    assert own[0].segment == segments
    assert take(schedule) is None


@pytest.mark.parametrize(("seconds", "segments"), [(0.6, 2), (0.4, 3), (9.0, 2)])
def test_what_takes_long_runs_less_far_ahead(seconds, segments):
    own = turns(2)
    own[1].ready = False
    schedule = Schedule(own, 99)
    for _ in range(segments):
        run(schedule, schedule.take(0), seconds=seconds)
    assert take(schedule) is None


def test_one_chunk_is_compiled_at_a_time_and_compiled_ones_go_meanwhile():
    own = turns(2, kind=Uncompiled) + turns(1)
    schedule = Schedule(own, 9)
    assert schedule.take(0) is own[0]
    assert schedule.take(0) is own[2]
    schedule.compiled()
    assert schedule.take(0) is own[1]


def test_a_worker_takes_what_is_on_its_device():
    own = turns(1, device=1) + turns(1)
    schedule = Schedule(own, 9)
    assert schedule.take(0) is own[1]
    assert schedule.take(1) is own[0]


def test_after_a_stop_all_come_as_far_as_the_furthest():
    own = turns(2)
    own[1].ready = False
    schedule = Schedule(own, 99)
    for _ in range(4):
        run(schedule, schedule.take(0))
    begun = schedule.take(0)
    schedule.stop()
    assert schedule.until == 5
    schedule.ready(own[1])
    for _ in range(5):
        run(schedule, schedule.take(0))
    run(schedule, begun)
    assert [turn.segment for turn in own] == [5, 5]
    assert take(schedule) is None


def test_a_chunk_without_live_members_is_left_behind():
    own = turns(2)
    schedule = Schedule(own, 99)
    run(schedule, schedule.take(0), live=False)
    for segment in range(40):
        assert schedule.take(0) is own[1]
        run(schedule, own[1])
        schedule.read(segment)
    outcomes = [schedule.outcome() for _ in range(41)]
    assert [outcome.last for outcome in outcomes] == [True] + [False] * 40
    assert [outcome.segment for outcome in outcomes] == [0, *range(40)]


def test_an_error_is_an_outcome_and_others_stand_in_for_the_turn():
    own = turns(2)
    schedule = Schedule(own, 9)
    turn, error = schedule.take(0), ValueError("no")
    schedule.failed(turn, error)
    assert schedule.outcome().error is error
    halves = turns(2)
    schedule.replace(turn, halves)
    assert [schedule.take(0) for _ in range(3)] == [*halves, own[1]]


def test_it_ends_for_all_workers_when_it_is_closed():
    schedule = Schedule([], 9)
    found = []
    workers = [threading.Thread(target=lambda: found.append(schedule.take(0))) for _ in range(3)]
    for worker in workers:
        worker.start()
    schedule.close()
    for worker in workers:
        worker.join(10)
    assert found == [None] * 3


def test_where_a_segment_comes_in_blocks_none_is_more_than_one_block_ahead():
    own = turns(3)
    schedule = Schedule(own, 2, blocks=3)
    places = []
    while len(places) < 18:
        turn = schedule.take(0)
        places.append((turn.segment, turn.block))
        spread = [3 * other.segment + other.block for other in own if other.segment < 2]
        assert max(spread) - min(spread) <= 1
        if turn.block < 2:
            schedule.block_done(turn)
        else:
            run(schedule, turn)
    assert places == [divmod(number // 3, 3) for number in range(18)]
    assert take(schedule) is None


def test_a_chunk_one_block_ahead_waits_for_the_others():
    own = turns(2)
    own[1].ready = False
    schedule = Schedule(own, 9, blocks=1)
    run(schedule, schedule.take(0))
    run(schedule, schedule.take(0))
    assert (own[0].segment, own[1].segment) == (2, 0)
    assert take(schedule) is None


def test_after_a_stop_all_blocks_of_a_segment_are_still_done():
    own = turns(1)
    schedule = Schedule(own, 9, blocks=3)
    schedule.block_done(schedule.take(0))
    schedule.stop()
    assert schedule.until == 1
    schedule.block_done(schedule.take(0))
    run(schedule, schedule.take(0))
    assert take(schedule) is None
