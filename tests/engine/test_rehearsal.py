"""A plan compiled and a few of its members trained, and what follows from the times."""

import contextlib

import jax
import numpy as np
import pytest

import jbn
from jbn.engine.plan import plan
from jbn.engine.rehearsal import Planned, built, rehearse
from jbn.engine.starting import Start, _cold, _Measured
from jbn.engine.workers import Workers

TASK = jbn.Task(model=jbn.mlp(), data=jbn.data.digits())
SPACE = jbn.Space(
    learning_rate=jbn.log_uniform(1e-3, 1e-1),
    layers=jbn.integers(1, 2),
    hidden_units=8,
    batch_size=jbn.choice(128, 256),
)


@pytest.fixture(scope="module")
def rehearsed():
    configs = jbn.search.random(SPACE, 24, key=0)
    task = TASK.settled(configs, epochs=3)
    layout = plan(task, configs, platform="cpu", epochs=3)
    with contextlib.closing(Workers(2)) as workers:
        return (
            rehearse(task, configs, layout, key=jax.random.key(0), workers=workers, seconds=2.0),
            layout,
            configs,
        )


def test_every_program_has_its_pace_and_every_cohort_its_sample(rehearsed):
    found, layout, configs = rehearsed
    assert set(found.paces) == {built(program) for program in layout.programs}
    assert all(pace.factor > 0 and pace.chunk >= 0 for pace in found.paces.values())
    for program in layout.programs:
        for cohort in program:
            members = found.members[cohort.structure]
            assert 0 < len(members) <= min(4, len(cohort.rows))
            rates = found.sample["learning_rate"][members]
            np.testing.assert_array_equal(rates, configs["learning_rate"][cohort.rows[: len(members)]])
    assert np.isfinite(found.first.metrics.validation["loss"]).all()


def test_the_engine_has_trained_nobody_else(rehearsed):
    found, _, _ = rehearsed
    assert found.engine.members == sum(len(own) for own in found.members.values()) <= 16
    assert found.engine.run_seconds == pytest.approx(sum(run.seconds for run in found.engine.runs))
    counts = [count for run in found.engine.runs for _, count in run.members]
    assert {0, 1} <= set(counts)  # one of a chunk alone, and all of them
    assert max(counts) == 4


def test_starts_are_ordered(rehearsed):
    found, _, _ = rehearsed
    assert 0 < found.starts.warm.seconds <= 1.5 * found.starts.cold.seconds
    assert found.starts.warm.spare >= 0


def test_a_tile_that_is_not_full_takes_as_long():
    structure = plan(TASK, jbn.search.random(SPACE, 4, key=0), platform="cpu").programs[0][0].structure
    one, four = Planned(TASK, 1, "cpu"), Planned(TASK, 4, "cpu")
    assert four.run([(structure, 5)]) == pytest.approx(8 * one.member(structure))
    assert one.run([(structure, 5), (structure, 2)]) == pytest.approx(7 * one.member(structure))


def test_a_cold_start_from_what_the_cache_says():
    """Found programs that once took 4 s and 6 s, read in 1 s; 2 programs traced in 3 s beside that, 5 s in all.

    Cold: 1.5 s until the first is traced, then 2 + 10 - 1 s of compiling. These are 7.5 s more, or
    15 of 2 workers, of which 9 compute.
    """
    first = _Measured(Start(5.0, 3.0), trace=3.0, compile=2.0, found=[4.0, 6.0], read=1.0)
    cold, warm, measured = _cold(first, workers=2, programs=2)
    assert (cold.seconds, measured) == (pytest.approx(1.5 + 11), False)
    assert cold.spare == pytest.approx(3.0 + 2 * 7.5 - 9)
    assert warm == first.start
    assert _cold(first._replace(found=[]), workers=2, programs=2) == (first.start, first.start, True)
