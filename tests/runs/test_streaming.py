"""Sweeps on a training part that is read in blocks: equal to in memory, read once, ended cleanly."""

import contextlib
import functools
import threading

import chex
import jax
import numpy as np
import pytest

import jbn
from jbn.engine import feed
from jbn.engine.engine import Engine
from jbn.engine.plan import plan
from jbn.engine.workers import Workers
from jbn.task.data.file_blocks import FileBlocks

ROWS = 500
KEY = jax.random.key(1)
SPACE = jbn.Space(
    learning_rate=jbn.log_uniform(1e-3, 1e-1),
    batch_size=jbn.choice(20, 32),
    hidden_units=jbn.integers(8, 12),
    layers=jbn.integers(1, 2),
    dropout=jbn.uniform(0.0, 0.3),
)
CONFIGS = jbn.search.random(SPACE, 9, key=0)


def made(rows=ROWS, seed=0):
    draws = np.random.default_rng(seed)
    y = np.arange(rows) % 3
    return (draws.normal(size=(rows, 6)) * 20 + 7 * y[:, None] + 100).astype(np.uint8), y


X, Y = made()
HELD = dict(
    zip(("x_validation", "y_validation", "x_test", "y_test"), [*made(60, 1), *made(60, 2)], strict=True)
)
IN_MEMORY = jbn.data.arrays(X, Y, **HELD)


def batches(epoch=0, seed=0, size=64, x=X, y=Y):
    return ((x[start : start + size], y[start : start + size]) for start in range(0, len(y), size))


def mapped(block_rows):
    return jbn.data.memory_map(X, Y, **HELD, block_rows=block_rows)


def streamed(block_rows, **options):
    return jbn.data.stream(batches, **HELD, block_rows=block_rows, **options)


def sweep(data, configs=CONFIGS, **options):
    task = jbn.Task(model=jbn.mlp(), data=data)
    return jbn.sweep(task, configs, **{"epochs": 3, "key": KEY, **options})


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("jbn")] == []


def assert_same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one.history[:-1], other.history[:-1])
    if one.winner is not None:
        chex.assert_trees_all_equal(
            (one.best().params, one.best().stats), (other.best().params, other.best().stats)
        )
    assert one.test_accuracy == other.test_accuracy


@pytest.fixture(scope="module")
def expected():
    return sweep(IN_MEMORY)


class TestOneBlock:
    """Bit by bit what it is in memory."""

    @pytest.mark.parametrize("make", [mapped, streamed])
    def test_it_equals_arrays_in_memory(self, expected, make):
        assert_same(sweep(make(ROWS)), expected)

    def test_also_where_parts_are_split_off(self):
        own = [
            make(X, Y, seed=4)
            for make in (jbn.data.arrays, functools.partial(jbn.data.memory_map, block_rows=ROWS))
        ]
        assert_same(*map(sweep, own))

    def test_also_in_float64_with_several_seeds(self):
        with jax.enable_x64(True):
            assert_same(*[sweep(data, seeds=2, epochs=2) for data in (mapped(ROWS), IN_MEMORY)])

    def test_also_with_tiles(self):
        losses = []
        for data in (mapped(ROWS), IN_MEMORY):
            with contextlib.closing(Workers()) as workers:
                task = jbn.Task(model=jbn.mlp(layers=1, hidden_units=8), data=data)
                rates = jbn.search.Configs({"learning_rate": np.geomspace(1e-3, 0.1, 5)})
                layout = plan(task, rates, platform="cpu")._replace(tile=3, slots=4)
                engine = Engine(task, rates, layout, key=KEY, workers=workers)
                losses.append([own.metrics for own in engine.segments(0, 2, np.ones(5, bool))])
        jax.tree.map(np.testing.assert_array_equal, *losses)


class TestSeveralBlocks:
    @pytest.mark.parametrize("block_rows", [ROWS // 2, 90, 7])
    def test_batches_cross_the_borders_of_blocks(self, block_rows):
        """In the order of an iterator, one block is the oracle of many; also with blocks smaller than a batch."""
        with jax.enable_x64(True):
            one, many = (sweep(streamed(own, shuffle=False)) for own in (ROWS, block_rows))
        np.testing.assert_allclose(many.history.train_loss, one.history.train_loss, rtol=1e-9)
        np.testing.assert_allclose(many.history.validation_loss, one.history.validation_loss, rtol=1e-9)
        np.testing.assert_array_equal(many.history.steps, one.history.steps)
        sizes = np.asarray(CONFIGS["batch_size"])
        assert (
            many.history.steps[-1].tolist() == (3 * (ROWS // sizes)).tolist()
        )  # an incomplete last one is dropped

    @pytest.mark.parametrize("make", [mapped, streamed])
    def test_the_same_arguments_give_the_same_result_whoever_works(self, make):
        one = sweep(make(90))
        assert_same(sweep(make(90), workers=1), one)
        assert_same(sweep(make(90), policy=lambda history, key: jbn.Edits()), one)  # segment by segment
        assert not np.array_equal(
            sweep(make(90), key=jax.random.key(2)).history.train_loss, one.history.train_loss
        )

    def test_a_configuration_alone_is_the_same_experiment(self):
        """Its blocks do not depend on the batch sizes of the others."""
        with jax.enable_x64(True):
            together = sweep(mapped(90)).history
            for row in (0, 5):
                alone = sweep(mapped(90), {name: values[[row]] for name, values in CONFIGS.items()}).history
                np.testing.assert_allclose(alone.train_loss[:, 0], together.train_loss[:, row], rtol=1e-8)

    def test_seeds_have_orders_of_their_own_and_the_first_is_the_plain_sweep(self):
        one, three = sweep(mapped(90)).history, sweep(mapped(90), seeds=3).history
        np.testing.assert_array_equal(three.train_loss[:, ::3], one.train_loss)
        assert len(set(three.train_loss[0, :3])) == 3

    def test_it_learns_as_well_as_in_memory(self):
        in_memory, blocks = sweep(IN_MEMORY, epochs=5), sweep(mapped(90), epochs=5)
        np.testing.assert_allclose(blocks.scores.mean(), in_memory.scores.mean(), atol=0.03)

    def test_a_block_is_read_once_an_epoch_however_many_chunks_there_are(self, monkeypatch):
        data, read, stretch = mapped(90), [], FileBlocks._stretch
        monkeypatch.setattr(
            FileBlocks, "_stretch", lambda self, block: read.append(block) or stretch(self, block)
        )
        result = sweep(data, seeds=2, workers=4)
        assert sorted(read) == sorted([*range(6)] * 3 * 2)
        assert len(result.history.steps) == 3

    def test_another_sweep_compiles_nothing_and_no_block_does(self):
        sweep(mapped(90), epochs=1)
        again = sweep(mapped(90), jbn.search.random(SPACE, 12, key=3), epochs=2)
        assert again.timings.programs == 0

    def test_what_diverges_disturbs_nobody_and_where_all_do_the_sweep_ends(self):
        def run(bad):
            scale = np.where(np.isin(np.arange(9), bad), 1e38, 1.0)
            task = jbn.Task(model=jbn.mlp(batch_norm="none"), data=mapped(90))
            return jbn.sweep(task, CONFIGS | {"initial_scale": scale}, epochs=3, key=KEY).history

        good, one, all_of_them = run([]), run([4]), run(range(9))
        others = np.arange(9) != 4
        np.testing.assert_array_equal(one.train_loss[:, others], good.train_loss[:, others])
        assert np.isnan(one.train_loss[1:, 4]).all()
        assert len(all_of_them.steps) == 1

    def test_a_policy_may_stop_members(self):
        def stop_odd(history, key):
            return jbn.Edits(stop=np.arange(1, 9, 2))

        plain, stopped = sweep(mapped(90)).history, sweep(mapped(90), policy=stop_odd).history
        np.testing.assert_array_equal(stopped.train_loss[:, ::2], plain.train_loss[:, ::2])
        assert np.isnan(stopped.train_loss[1:, 1::2]).all()

    def test_it_may_be_timed_first(self):
        few = {"learning_rate": [0.01, 0.1], "layers": [1, 1], "hidden_units": [8, 8], "batch_size": [20, 20]}
        result = sweep(mapped(7), few, tuned=True, epochs=1)
        assert np.isfinite(result.scores).all()

    def test_the_winner_predicts_with_the_statistics_of_the_stream(self):
        result = sweep(mapped(90))
        accuracy = result.best().accuracy(HELD["x_validation"], HELD["y_validation"])
        assert accuracy == pytest.approx(result.table().validation_accuracy[0], abs=1e-6)


class TestSingleIterators:
    @pytest.fixture
    def data(self):
        endless = (batch for _ in range(4) for batch in batches())
        with pytest.warns(UserWarning, match="cannot resume"):
            return jbn.data.stream(endless, **HELD, rows=ROWS, classes=3, block_rows=90, shuffle=False)

    def test_they_train_as_what_can_be_read_again(self, data):
        own = jbn.data.stream(batches, **HELD, block_rows=90, shuffle=False, normalizer=data.train.normalizer)
        assert_same(sweep(data), sweep(own))
        more = sweep(data, epochs=1)  # there were four epochs in it: none has been lost
        assert np.isfinite(more.scores).all()
        with pytest.raises(
            jbn.InputError, match=r"the iterator of 'stream' must give 500 rows, but ended after 0"
        ):
            sweep(data, epochs=1)

    def test_they_cannot_serve_several_seeds(self, data):
        with pytest.raises(
            jbn.InputError, match=r"several seeds need data .* single iterator and seeds is 2; give"
        ):
            sweep(data, seeds=2)


def bad_in(epoch, block, kind):
    """A factory whose iterator ends early, breaks or gives a NaN somewhere."""

    def factory(now, seed):
        for number, (x, y) in enumerate(batches(x=X.astype(np.float32), size=50)):
            if (now, number) == (epoch, block):
                if kind == "end":
                    return
                if kind == "error":
                    raise OSError("connection lost")
                yield np.where(np.arange(len(y))[:, None] == 7, np.nan, x), y
            yield x, y

    return factory


class TestErrors:
    @pytest.mark.parametrize("workers", [1, 3])
    @pytest.mark.parametrize(
        ("kind", "error", "message"),
        [
            (
                "nan",
                jbn.InputError,
                "the features of batch 7 of epoch 1 of 'stream' has a nan in row 7, column 0",
            ),
            ("end", jbn.InputError, r"must give 500 rows, but ended after 350 \(epoch 1, block 3 of 5\)"),
            ("error", OSError, "connection lost"),
        ],
    )
    def test_an_error_in_a_later_epoch_ends_the_sweep(self, kind, error, message, workers):
        data, seen = jbn.data.stream(bad_in(1, 7, kind), **HELD, block_rows=100), []
        with pytest.raises(error, match=message):
            sweep(data, workers=workers, on_segment=lambda state: seen.append(state.segment))
        assert seen == [1]

    def test_ctrl_c_ends_it_also_where_a_source_hangs(self, monkeypatch):
        monkeypatch.setattr(feed, "_JOIN_SECONDS", 0.2)
        release = threading.Event()

        def factory(epoch, seed):
            for batch in batches():
                if epoch == 1:
                    release.wait()
                yield batch

        def interrupt(state):
            raise KeyboardInterrupt

        data = jbn.data.stream(factory, **HELD, block_rows=90)
        with pytest.raises(KeyboardInterrupt):
            sweep(data, on_segment=interrupt)
        release.set()
        for thread in threading.enumerate():
            if thread.name == "jbn-reader":
                thread.join(10)

    def test_ending_after_a_segment_keeps_what_there_is(self):
        result = sweep(mapped(90), epochs=50, on_segment=lambda state: state.segment == 2)
        assert result.interrupted
        assert 2 <= len(result.history.steps) <= 4
        assert np.isfinite(result.scores).all()

    def test_a_pure_function_needs_its_data_in_memory(self):
        task = jbn.Task(model=jbn.mlp(), data=mapped(90))
        message = "must have its data in memory, but the training part is 500 rows in 6 blocks; give"
        with pytest.raises(jbn.InputError, match=message):
            jbn.train_function(task, epochs=1)

    def test_folds_need_data_in_memory(self):
        with pytest.raises(jbn.InputError, match="folds need data in memory"):
            sweep(mapped(90), folds=3)

    def test_a_batch_may_not_be_larger_than_all_rows(self):
        with pytest.raises(jbn.InputError, match="at most the 500 rows"):
            sweep(mapped(90), {"batch_size": [501]})


class TestNumbers:
    """Regression: targets are standardised with the statistics of all rows, whatever block they come in."""

    @staticmethod
    def data(make, columns=0, **options):
        draws = np.random.default_rng(3)
        weights = draws.normal(size=(6, *([columns] if columns else [])))
        held = {f"y_{part}": HELD[f"x_{part}"] @ weights * 40 + 1e4 for part in ("validation", "test")}
        xs = {f"x_{part}": HELD[f"x_{part}"] for part in ("validation", "test")}
        return make(X, X @ weights * 40 + 1e4, **xs, **held, targets="numbers", **options)

    @staticmethod
    def streamed(x, y, once=False, **options):
        def factory(epoch, seed):
            return batches(x=x, y=y)

        return jbn.data.stream(factory(0, 0) if once else factory, **options)

    @pytest.mark.parametrize("columns", [0, 2])
    @pytest.mark.parametrize("make", [jbn.data.memory_map, streamed.__func__])
    def test_one_block_equals_arrays_in_memory(self, make, columns):
        own = self.data(make, columns, block_rows=ROWS)
        assert own.classes is None
        assert own.numbers == (columns or 1)
        one, other = sweep(own), sweep(self.data(jbn.data.arrays, columns))
        jax.tree.map(np.testing.assert_array_equal, one.history[:-1], other.history[:-1])
        assert one.test == other.test
        assert set(one.test) >= {"mean_absolute_error", "loss"}

    def test_many_blocks_learn_and_measure_in_the_unit_of_the_data(self):
        own = self.data(jbn.data.memory_map, block_rows=70)
        result = sweep(own, epochs=12)
        predicted = np.asarray(result.best().predict(own.test.x))
        error = np.mean(np.abs(predicted - own.test.y))
        np.testing.assert_allclose(result.test["mean_absolute_error"], error, rtol=1e-4)
        assert error < 0.5 * own.test.y.std()

    def test_a_single_iterator_needs_its_rows_alone(self):
        with pytest.warns(UserWarning, match="single iterator"):
            own = self.data(self.streamed, once=True, rows=ROWS // 2)
        sweep(own, epochs=2)
