"""How much memory a sweep takes, and how it goes on where that is not there."""

import json
import logging
import os
import subprocess
import sys

import jax
import numpy as np
import optax
import pytest

import jbn
from jbn.engine import memory
from jbn.engine.arithmetic import arithmetic
from jbn.engine.engine import Engine
from jbn.engine.executables import Executable
from jbn.engine.plan import plan
from jbn.engine.trainer import Trainer
from jbn.engine.workers import Workers
from jbn.errors import InputError

TASK = jbn.Task(model=jbn.mlp(), data=jbn.data.digits())
SPACE = jbn.Space(learning_rate=jbn.log_uniform(1e-3, 1e-1), layers=jbn.integers(1, 2), hidden_units=16)
CONFIGS = jbn.search.random(SPACE, 11, key=0)
LAYOUT = plan(TASK, CONFIGS, platform="cpu")._replace(slots=8)
ALIVE = np.arange(11) % 5 != 3


@pytest.fixture
def workers():
    crew = Workers(1)
    yield crew
    crew.close()


def engine(workers, **options):
    return Engine(TASK, CONFIGS, LAYOUT, key=jax.random.key(1), workers=workers, **options)


def losses(own, *, from_epoch=0):
    segments = [own.advance(epoch, ALIVE) for epoch in range(from_epoch, from_epoch + 2)]
    return np.array([[segment.metrics.train_loss, segment.metrics.validation_loss] for segment in segments])


@pytest.fixture(scope="module")
def expected():
    crew = Workers(1)
    yield losses(engine(crew))
    crew.close()


def test_population_bytes_are_those_of_the_real_population(workers):
    own = engine(workers)
    own.advance(0, np.ones(11, bool))
    real = sum(leaf.nbytes for chunk in own._chunks for leaf in jax.tree.leaves(chunk.populations))
    assert memory.population_bytes(TASK, LAYOUT, seeds=1, workers=1) == real
    assert memory.population_bytes(TASK, LAYOUT, seeds=3, workers=1) == 3 * real


def test_optimizers_side_by_side_have_states_of_their_own_size():
    """Adam keeps two numbers beside every parameter, lion one, gradient descent of one's own none."""
    plain = jbn.optimizer(optax.sgd, name="plain", elementwise=True)
    task = jbn.Task(
        model=jbn.mlp(layers=1, hidden_units=16), data=TASK.data, optimizer=("adam", "lion", plain)
    )
    names = ["adam", "lion", "plain"]
    configs = jbn.search.Configs({"optimizer": names * 4})
    layout, crew = plan(task, configs, platform="cpu")._replace(slots=4), Workers(1)
    own = Engine(task, configs, layout, key=jax.random.key(1), workers=crew)
    own.advance(0, np.ones(12, bool))
    crew.close()
    real = [sum(leaf.nbytes for leaf in jax.tree.leaves(chunk.populations)) for chunk in own._chunks]
    assert memory.population_bytes(task, layout, seeds=1, workers=1) == sum(real)
    found = {
        program[0].structure.optimizer: arithmetic(task, program[0].structure) for program in layout.programs
    }
    each = found["adam"].parameters * 4
    assert {one.parameters for one in found.values()} == {found["adam"].parameters}
    assert found["adam"].state_bytes - found["plain"].state_bytes == 2 * each + 4  # and it counts its steps
    assert found["lion"].state_bytes - found["plain"].state_bytes == each


def test_more_workers_than_chunks_make_more_chunks_and_they_are_counted():
    few, crew = CONFIGS.count, Workers(3)
    own = Engine(TASK, CONFIGS, LAYOUT._replace(slots=16), key=jax.random.key(1), workers=crew)
    own.advance(0, np.ones(few, bool))
    real = sum(leaf.nbytes for chunk in own._chunks for leaf in jax.tree.leaves(chunk.populations))
    crew.close()
    assert len(own._chunks) == 3
    assert memory.population_bytes(TASK, LAYOUT._replace(slots=16), seeds=1, workers=3) == real


def test_chunks_that_wait_on_the_host_train_the_same(workers, expected):
    own = engine(workers, waits=True)
    np.testing.assert_array_equal(losses(own), expected)
    leaves = [leaf for chunk in own._chunks for leaf in jax.tree.leaves(chunk.populations)]
    assert all(isinstance(leaf, np.ndarray) for leaf in leaves)


class Exhausted(Executable):
    """A program that has not enough memory for more than so many slots, as often as told."""

    def __init__(
        self, program, slots, message="RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes", first=None
    ):
        self.program, self.slots, self.message, self.first = program, slots, message, first or [0]

    def __call__(self, populations, *rest):
        if self.first[0] > 0:  # calls that go well
            self.first[0] -= 1
        elif jax.tree.leaves(populations)[0].shape[0] > self.slots:
            raise jax.errors.JaxRuntimeError(self.message)
        return self.program(populations, *rest)

    def compile(self):
        self.program.compile()

    @property
    def compiled(self):
        return self.program.compiled


def break_training(own, monkeypatch, slots, **options):
    before = Trainer.trace

    def trace(self, chunk):
        before(self, chunk)
        chunk.programs = chunk.programs._replace(train=Exhausted(chunk.programs.train, slots, **options))

    monkeypatch.setattr(Trainer, "trace", trace)
    for chunk in own._chunks:
        chunk.programs = None


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("waits", [True, False])
@pytest.mark.parametrize("slots", [4, 1])
def test_out_of_memory_halves_the_chunk_and_starts_the_segment_again(
    workers, expected, monkeypatch, caplog, first, waits, slots
):
    own = engine(workers, waits=waits)
    found = []
    if not first:
        segment = own.advance(0, ALIVE)
        found.append([segment.metrics.train_loss, segment.metrics.validation_loss])
    break_training(own, monkeypatch, slots)
    with caplog.at_level(logging.WARNING, "jbn"):
        for epoch in range(len(found), 2):
            segment = own.advance(epoch, ALIVE)
            found.append([segment.metrics.train_loss, segment.metrics.validation_loss])
    np.testing.assert_array_equal(np.array(found), expected)
    assert {chunk.slots for chunk in own._chunks} == {slots}
    assert "out of memory on" in caplog.text
    assert "halved and starts its segment again" in caplog.text
    assert own.member(4)[0]["output"]["kernel"].shape == (16, 10)


def test_a_single_member_that_does_not_fit_is_an_error(workers, monkeypatch):
    own = engine(workers)
    break_training(own, monkeypatch, 0)
    with pytest.raises(jax.errors.JaxRuntimeError, match="RESOURCE_EXHAUSTED"):
        own.advance(0, ALIVE)


def test_other_errors_of_the_device_are_not_taken_for_it(workers, monkeypatch):
    own = engine(workers)
    break_training(own, monkeypatch, 0, message="INTERNAL: something else")
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        own.advance(0, ALIVE)
    assert {chunk.slots for chunk in own._chunks} == {8}


def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr("jbn.runs.sweep.available_bytes", lambda: 1_000_000)
    with pytest.raises(InputError, match=r"11 configurations need about .* GB, but 0\.0 GB are available"):
        jbn.sweep(TASK, CONFIGS, epochs=1, key=jax.random.key(0), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_message_says_how_many_would_fit():
    with pytest.raises(
        InputError, match=r"1000 .* about 8\.0 GB, but 2\.0 GB are available: take 250 or fewer"
    ):
        memory.check_memory(8_000_000_000, 1000, 2_000_000_000)
    memory.check_memory(8_000_000_000, 1000, None)


def test_the_system_tells_how_much_there_is():
    assert memory.resident_bytes() > 50e6
    available = memory.available_bytes()
    assert available is None or available > 50e6


@pytest.mark.parametrize(("limit", "waits"), [(None, False), (10**12, False), (10**5, True)])
def test_chunks_wait_on_the_host_where_an_accelerator_is_too_small(limit, waits):
    class Device:
        platform = "gpu"

        def memory_stats(self):
            return None if limit is None else {"bytes_limit": limit}

    assert memory.must_wait(TASK, LAYOUT, 1, [Device()]) is waits
    assert not memory.must_wait(TASK, LAYOUT, 1, jax.devices("cpu"))


PEAK = """
import json, sys
import jax, numpy as np
import jbn
from jbn.engine.memory import peak_resident_bytes

kind = sys.argv[1]
draws = np.random.default_rng(0)
rows = 20_000
x = draws.normal(size=(rows, *{"mlp": (600,), "cnn": (20, 20)}[kind])).astype(np.float32)
y = np.arange(rows) % 3
model = {"mlp": jbn.mlp(layers=1), "cnn": jbn.cnn(layers=1, channels=8)}[kind]
task = jbn.Task(model=model, data=jbn.data.arrays(x, y))
count = {"mlp": 64, "cnn": 2}[kind]
configs = jbn.search.Configs({"learning_rate": np.logspace(-3, -1, count), "batch_size": [256] * count})
seen = []
jbn.sweep(task, configs, epochs=2, key=jax.random.key(0), workers=2, on_plan=seen.append)
print(json.dumps([seen[0].peak_bytes, peak_resident_bytes()]))
"""


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_the_expected_peak_is_that_of_the_process_within_15_percent(kind):
    """Data and populations weigh most in the one, what evaluation needs in the other."""
    environment = {**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "0"}  # compiling takes memory, too
    command = [sys.executable, "-c", PEAK, kind]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=300)
    expected, happened = json.loads(done.stdout.splitlines()[-1])
    assert happened > 400e6
    assert 0.85 < expected / happened < 1.15, (expected, happened)


def test_programs_are_compiled_to_know_what_they_need_only_where_memory_is_near(monkeypatch):
    """A rough guess from shapes is enough where it is far below what there is."""
    asked = []
    monkeypatch.setattr(Engine, "working_bytes", lambda self: asked.append(0) or 5_000_000)
    monkeypatch.setattr("jbn.runs.sweep.available_bytes", lambda: 10**12)
    jbn.sweep(TASK, CONFIGS, epochs=1, key=jax.random.key(0))
    assert not asked
    needed = memory.peak_bytes(TASK, LAYOUT, seeds=1, workers=1) - memory.resident_bytes()
    monkeypatch.setattr("jbn.runs.sweep.available_bytes", lambda: int(1.5 * needed))
    jbn.sweep(TASK, CONFIGS, epochs=1, key=jax.random.key(0), workers=1)
    assert asked
    monkeypatch.setattr(Engine, "working_bytes", lambda self: 10 * needed)
    with pytest.raises(InputError, match="11 configurations need about"):
        jbn.sweep(TASK, CONFIGS, epochs=1, key=jax.random.key(0), workers=1)


def test_what_programs_need_is_read_off_the_compiled_ones(workers):
    own = engine(workers)
    found = own.working_bytes()
    programs = [chunk.programs for chunk in own._chunks if chunk.programs is not None]
    assert len(programs) == 1
    assert found == max(programs[0].train.working_bytes, programs[0].evaluate.working_bytes) > 0
    rough = memory.rough_working_bytes(TASK, LAYOUT)
    rows, widest = len(TASK.data.validation.y), 16 + 16 + 10
    assert rough == 4 * rows * widest


def engine_of_blocks(workers, **options):
    own = TASK.data
    held = {
        f"{axis}_{part}": getattr(getattr(own, part), axis)
        for part in ("validation", "test")
        for axis in "xy"
    }
    data = jbn.data.memory_map(own.train.x, own.train.y, **held, block_rows=300)
    task = jbn.Task(model=jbn.mlp(), data=data)
    return Engine(task, CONFIGS, LAYOUT, key=jax.random.key(1), workers=workers, **options)


@pytest.fixture(scope="module")
def expected_of_blocks():
    crew = Workers(1)
    yield losses(engine_of_blocks(crew))
    crew.close()


class TestBlocks:
    """Where an epoch comes in blocks."""

    def test_chunks_wait_on_the_host_between_them(self, workers, expected_of_blocks):
        np.testing.assert_array_equal(losses(engine_of_blocks(workers, waits=True)), expected_of_blocks)

    @pytest.mark.parametrize(
        ("program", "calls"), [("train", 0), ("train", 2), ("train", 5), ("evaluate", 0), ("evaluate", 1)]
    )
    def test_out_of_memory_starts_the_block_again(
        self, workers, expected_of_blocks, monkeypatch, program, calls
    ):
        """Not the segment: what came before is not trained twice, and its losses count once."""
        own, left = engine_of_blocks(workers, waits=True), [calls]
        before = Trainer.trace

        def trace(trainer, chunk):
            before(trainer, chunk)
            broken = Exhausted(getattr(chunk.programs, program), 4, first=left)
            chunk.programs = chunk.programs._replace(**{program: broken})

        monkeypatch.setattr(Trainer, "trace", trace)
        np.testing.assert_array_equal(losses(own), expected_of_blocks)
        assert {chunk.slots for chunk in own._chunks} == {4}

    def test_their_bytes_are_expected(self):
        data = np.zeros((1000, 100), np.uint8)
        tasks = [
            jbn.Task(model=jbn.mlp(), data=jbn.data.memory_map(data, np.arange(1000) % 2, block_rows=rows))
            for rows in (50, 100)
        ]
        few, many = (memory._data_bytes(task, seeds=2, workers=1) for task in tasks)
        assert few == (3 * 2 + 1) * 50 * 100 * 4
        assert many == 2 * few
        rows, values = len(TASK.data.train.y), TASK.data.train.x[0].size + 1  # with the target
        assert (
            memory._data_bytes(TASK, seeds=2, workers=1) == 2 * rows * values * 4
        )  # the orders of two seeds
