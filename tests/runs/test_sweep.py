"""The loop of a sweep: determinism, divergence, policies, programs shared between sweeps, the winner."""

import gc
import io
import time

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

import jbn
from jbn.cli.progress import display
from jbn.engine import executables
from jbn.engine.engine import Engine
from jbn.engine.plan import plan
from jbn.engine.schedule import Schedule
from jbn.engine.trainer import Trainer
from jbn.engine.workers import Workers
from jbn.nn.model import Model
from jbn.policies import Edits, History, rank
from jbn.runs.loop import Progress

DATA = jbn.data.digits()
SPACE = jbn.Space(
    learning_rate=jbn.log_uniform(1e-4, 1e-1),
    layers=jbn.integers(1, 2),
    hidden_units=jbn.integers(8, 16),
    batch_size=jbn.choice(128, 256),
)
KEY = jax.random.key(1)


def task(**model):
    return jbn.Task(model=jbn.mlp(**model), data=DATA)


def draw(count=12, key=0):
    return jbn.search.random(SPACE, count, key=key)


def test_the_same_arguments_give_the_same_table_bit_for_bit():
    first = jbn.sweep(task(), draw(), epochs=3, key=KEY)
    second = jbn.sweep(task(), draw(), epochs=3, key=KEY, workers=1)
    assert first.table().equals(second.table())
    chex.assert_trees_all_equal(first.best().params, second.best().params)
    chex.assert_trees_all_equal(first.history.validation, second.history.validation)
    for name in ("train_loss", "steps", "status"):
        np.testing.assert_array_equal(getattr(first.history, name), getattr(second.history, name))


def test_another_key_gives_another_result():
    first, second = (jbn.sweep(task(), draw(), epochs=1, key=jax.random.key(k)) for k in (1, 2))
    assert not np.array_equal(first.history.train_loss, second.history.train_loss)


def test_the_winner_is_the_first_row_of_the_table_and_its_weights_give_its_accuracy():
    result = jbn.sweep(task(), draw(), epochs=3, key=KEY)
    table, best = result.table(), result.best()
    assert best.config_id == table.config_id[0]
    assert best.config["hidden_units"] == table.hidden_units[0]
    for layer in range(1, table.layers[0] + 1):
        assert best.params[f"layer_{layer}"]["kernel"].shape[1] == table.hidden_units[0]
        assert best.stats[f"layer_{layer}"].mean.shape == (table.hidden_units[0],)
        assert "bias" not in best.params[f"layer_{layer}"]
    validation = DATA.validation
    assert best.accuracy(validation.x, validation.y) == pytest.approx(table.validation_accuracy[0], abs=1e-6)
    assert result.test_accuracy == pytest.approx(best.accuracy(DATA.test.x, DATA.test.y), abs=1e-6)


def test_the_table_is_ordered_by_accuracy_then_loss_then_id():
    table = jbn.sweep(task(), draw(20), epochs=2, key=KEY).table()
    keys = list(zip(-table.validation_accuracy, table.validation_loss, table.config_id, strict=True))
    assert keys == sorted(keys)
    expected = ["config_id", *SPACE, "status", "validation_accuracy", "validation_loss", "steps"]
    assert list(table.columns) == expected
    assert (table.steps == 2 * (1078 // table.batch_size)).all()  # an incomplete last batch is dropped


def test_nothing_selects_on_the_test_part():
    """Other test labels change the test accuracy and nothing else."""
    wrong = jbn.data.arrays(
        DATA.train.x,
        DATA.train.y,
        x_validation=DATA.validation.x,
        y_validation=DATA.validation.y,
        x_test=DATA.test.x,
        y_test=(DATA.test.y + 1) % 10,
    )
    honest = jbn.sweep(task(), draw(), epochs=2, key=KEY)
    fooled = jbn.sweep(jbn.Task(model=jbn.mlp(), data=wrong), draw(), epochs=2, key=KEY)
    assert honest.table().equals(fooled.table())
    assert honest.test_accuracy > 0.5 > fooled.test_accuracy


def test_one_trace_a_cohort_and_another_sweep_compiles_nothing():
    base = jbn.mlp()
    traces = {"train": 0, "infer": 0}

    def train(*arguments, **options):
        traces["train"] += 1
        return base.train(*arguments, **options)

    def infer(*arguments, **options):
        traces["infer"] += 1
        return base.infer(*arguments, **options)

    counted = Model(base.init, train, infer, base.hyperparameters)
    own = jbn.Task(model=counted, data=DATA)
    result = jbn.sweep(own, draw(16), epochs=2, key=KEY)
    assert traces["train"] == 4  # two depths x two batch sizes
    assert traces["infer"] <= 2 + 2 + 1  # two depths evaluated and looked at by the plan, and the winner
    assert result.timings.programs == 2 + 1 + 1  # training per batch size, initial states, evaluation
    compiled = set(map(id, executables._known.values()))
    again = jbn.sweep(own, draw(41, key=5), epochs=1, key=jax.random.key(9))
    assert traces["train"] == 4
    assert again.timings == (0.0, 0.0, 0)
    assert set(map(id, executables._known.values())) == compiled


def test_numbers_never_recompile():
    own = task(layers=1, hidden_units=8)
    first = {"learning_rate": [0.1], "beta1": [0.9], "beta2": [0.999], "epsilon": [1e-8], "decay_rate": [0.0]}
    other = {"learning_rate": [0.2], "beta1": [0.5], "beta2": [0.99], "epsilon": [1e-4], "decay_rate": [1.0]}
    jbn.sweep(own, first, epochs=1, key=KEY)
    assert jbn.sweep(own, other, epochs=1, key=KEY).timings.programs == 0


def nan_where(configs, column):
    """A task in which one configuration diverges: its initial weights are infinite."""
    return configs | {
        "initial_scale": np.where(np.arange(len(configs["learning_rate"])) == column, 1e38, 1.0)
    }


def test_a_diverging_configuration_is_marked_and_costs_the_others_nothing():
    own, configs = task(batch_norm="none"), draw(6)
    with_bad = jbn.sweep(own, nan_where(configs, 2), epochs=3, key=KEY)
    without = jbn.sweep(own, nan_where(configs, -1), epochs=3, key=KEY)
    assert (without.standing.status == "done").all()
    assert with_bad.standing.status.tolist() == ["done", "done", "diverged", "done", "done", "done"]
    others = np.arange(6) != 2
    np.testing.assert_array_equal(
        with_bad.history.train_loss[:, others], without.history.train_loss[:, others]
    )
    table = with_bad.table()
    assert table.config_id.iloc[-1] == 2
    assert np.isnan(table.validation_accuracy.iloc[-1])
    assert np.isnan(with_bad.scores[2])
    # It stopped costing time at the next segment.
    assert np.isnan(with_bad.history.train_loss[1:, 2]).all()
    assert len(set(with_bad.history.steps[:, 2])) == 1


def test_where_all_diverge_there_is_no_winner_and_it_says_so():
    own, configs = task(batch_norm="none"), draw(2)
    result = jbn.sweep(own, configs | {"initial_scale": np.full(2, 1e38)}, epochs=2, key=KEY)
    assert result.winner is None
    assert len(result.history.steps) == 1
    with pytest.raises(jbn.InputError, match="all 2 did; lower the learning rates"):
        result.best()


def test_a_policy_may_stop_members_and_the_others_go_on_unchanged():
    def stop_odd(history: History, key):
        return Edits(stop=np.arange(1, history.status.size, 2)) if len(history.steps) == 2 else Edits()

    own, configs = task(), draw(7)
    plain = jbn.sweep(own, configs, epochs=4, key=KEY)
    stopped = jbn.sweep(own, configs, epochs=4, key=KEY, policy=stop_odd)
    assert stopped.standing.status.tolist() == ["done", "stopped"] * 3 + ["done"]
    np.testing.assert_array_equal(stopped.history.train_loss[:, ::2], plain.history.train_loss[:, ::2])
    np.testing.assert_array_equal(stopped.history.train_loss[:2, 1::2], plain.history.train_loss[:2, 1::2])
    assert np.isnan(stopped.history.train_loss[2:, 1::2]).all()
    last = stopped.standing.validation["accuracy"][1::2]
    np.testing.assert_array_equal(last, plain.history.validation_accuracy[1, 1::2])
    assert stopped.timings.programs == 0


def test_a_policy_cannot_revive_what_diverged():
    own, configs = task(batch_norm="none"), draw(3)

    def stop_all_bad(history, key):
        return Edits(stop=np.array([1]))

    result = jbn.sweep(own, nan_where(configs, 1), epochs=2, key=KEY, policy=stop_all_bad)
    assert result.standing.status[1] == "diverged"


def test_several_seeds_are_averaged_and_the_first_is_the_plain_sweep():
    own, configs = task(), draw(4)
    one = jbn.sweep(own, configs, epochs=2, key=KEY)
    three = jbn.sweep(own, configs, epochs=2, key=KEY, seeds=3)
    np.testing.assert_array_equal(three.history.train_loss[:, ::3], one.history.train_loss)
    expected = three.history.validation_accuracy[-1].reshape(4, 3).mean(axis=1)
    np.testing.assert_allclose(three.scores, expected)
    assert len(set(three.history.train_loss[-1, :3])) == 3
    assert len(three.table()) == 4


def test_the_table_of_several_seeds_ends_in_standard_errors():
    own, configs = task(), draw(4)
    table = jbn.sweep(own, configs, epochs=1, key=KEY, seeds=3).table()
    one = list(jbn.sweep(own, configs, epochs=1, key=KEY).table().columns)
    errors = ["validation_accuracy_standard_error", "validation_loss_standard_error"]
    assert list(table.columns) == [*one, *errors]
    assert one[-1] == "steps"
    assert (table[errors] > 0).all(axis=None)


def test_several_seeds_trace_and_compile_nothing_new():
    base = jbn.mlp()
    traces = []

    def train(*arguments, **options):
        traces.append("train")
        return base.train(*arguments, **options)

    own = jbn.Task(model=Model(base.init, train, base.infer, base.hyperparameters), data=DATA)
    first = jbn.sweep(own, draw(5), epochs=1, key=KEY)
    assert first.timings.programs > 0
    compiled = set(map(id, executables._known.values()))
    traced = len(traces)
    more = jbn.sweep(own, draw(5), epochs=1, key=KEY, seeds=3)
    assert (more.timings.trace, more.timings.compile, more.timings.programs) == (0.0, 0.0, 0)
    assert len(traces) == traced > 0
    assert set(map(id, executables._known.values())) == compiled


def test_configurations_with_the_same_seed_index_start_alike():
    """At a learning rate of 0 nothing is learned: what the metrics show is the initial draws."""
    configs = {
        "learning_rate": np.zeros(4),
        "beta1": np.array([0.9, 0.5, 0.9, 0.9]),
        "decay_rate": np.array([0.0, 0.0, 1.0, 0.0]),
        "batch_size": np.array([256, 256, 256, 128]),  # another program
    }
    own = task(layers=1, hidden_units=8, batch_norm="none")
    history = jbn.sweep(own, configs, epochs=1, key=KEY, seeds=3).history
    loss = history.validation_loss[0].reshape(4, 3)
    np.testing.assert_allclose(loss, np.broadcast_to(loss[0], loss.shape), rtol=1e-6)
    assert len(set(loss[0])) == 3
    order = history.train_loss[0].reshape(4, 3)[:3]  # of the rows: which of them the last batch leaves out
    np.testing.assert_allclose(order, np.broadcast_to(order[0], order.shape), rtol=1e-6)


def test_it_may_be_ended_after_a_segment():
    seen = []

    def after(state: Progress):
        seen.append(state)
        return state.segment == 2

    result = jbn.sweep(task(), draw(4), epochs=1000, key=KEY, on_segment=after)
    segments = [state.segment for state in seen]
    assert segments == list(range(1, len(seen) + 1))
    assert 2 <= len(seen) < 100  # what has begun is finished
    assert len(result.history.steps) == len(seen)
    assert seen[0].segments == 1000
    assert (seen[1].alive, seen[1].members) == (4, 4)
    assert result.interrupted
    assert set(result.standing.status) == {"stopped"}
    best = result.best()
    assert best.config_id == result.table().config_id[0]
    validation = result.task.data.validation
    assert best.accuracy(validation.x, validation.y) == pytest.approx(result.table().validation_accuracy[0])


def test_it_ends_soon_after_a_slow_answer():
    """Nothing runs more than 16 segments ahead of who is asked, also with a single program of tiny networks."""

    def after(state: Progress):
        time.sleep(1.0)  # time for hundreds of segments
        return True

    result = jbn.sweep(task(), draw(4), epochs=100, key=KEY, on_segment=after)
    assert result.interrupted
    assert 1 <= len(result.history.steps) <= 17


def test_a_policy_sees_every_segment_before_the_next_begins():
    def stop_half(history, key):
        return jbn.Edits(stop=np.array([1, 3]) if len(history.steps) == 2 else np.zeros(0, int))

    steps = jbn.sweep(task(), draw(4), epochs=5, key=KEY, policy=stop_half).history.steps
    assert (steps[-1] == steps[[4, 1, 4, 1], range(4)]).all()
    assert (steps[4, [0, 2]] > steps[1, [0, 2]]).all()


def test_chunks_that_run_ahead_give_what_chunks_that_wait_give():
    """Also where members diverge on the way."""
    space = jbn.Space(
        learning_rate=jbn.log_uniform(1e-3, 1e30), hidden_units=jbn.integers(8, 20), layers=jbn.integers(1, 2)
    )
    configs = jbn.search.random(space, 40, key=2)
    ahead = jbn.sweep(task(), configs, epochs=4, key=KEY)
    waiting = jbn.sweep(task(), configs, epochs=4, key=KEY, policy=lambda history, key: jbn.Edits())
    assert "diverged" in set(ahead.standing.status)
    assert "done" in set(ahead.standing.status)
    for name in ("train_loss", "validation", "steps", "status"):
        pair = [getattr(result.history, name) for result in (ahead, waiting)]
        jax.tree.map(np.testing.assert_array_equal, *pair)


def test_donated_buffers_stay_in_place():
    """The population is updated where it lies: a segment allocates no second one."""
    own, configs, workers = task(), draw(8), Workers()
    engine = Engine(own, configs, plan(own, configs, platform="cpu"), key=KEY, workers=workers)
    alive = np.ones(8, bool)
    engine.advance(0, alive)

    def places():
        leaves = jax.tree.leaves([chunk.populations for chunk in engine._chunks])
        return {leaf.unsafe_buffer_pointer() for leaf in leaves if leaf.nbytes > 1000}

    before = places()
    for epoch in range(1, 4):
        gc.collect()
        engine.advance(epoch, alive)
    assert places() == before
    workers.close()


def test_they_stay_in_place_with_a_record_and_a_progress_bar_on(tmp_path, monkeypatch):
    train, seen, shown_segments = Trainer.train, {}, []

    def watched(self, chunk, *arguments):
        results = train(self, chunk, *arguments)
        leaves = jax.tree.leaves(chunk.populations)
        large = [leaf for leaf in leaves if leaf.nbytes > 1000]
        assert sum(leaf.nbytes for leaf in large) > 0.99 * sum(leaf.nbytes for leaf in leaves)
        places = {leaf.unsafe_buffer_pointer() for leaf in large}
        seen.setdefault(id(chunk), []).append(places)
        return results

    monkeypatch.setattr(Trainer, "train", watched)
    with display(Console(force_terminal=True, file=io.StringIO())) as shown:

        def after(state: Progress):
            shown.show(state)
            shown_segments.append(state.segment)
            gc.collect()

        jbn.sweep(task(), draw(8), epochs=4, key=KEY, out=tmp_path / "run", on_segment=after)
    assert shown_segments == [1, 2, 3, 4]
    for own in seen.values():
        assert len(own) == 4
        assert own[0]
        assert all(places == own[0] for places in own)


def test_halving_traces_one_program_a_cohort():
    base, traces = jbn.mlp(), []

    def train(*arguments, **options):
        traces.append(1)
        return base.train(*arguments, **options)

    def halve(history, key):
        running = np.flatnonzero(history.status == 0)
        losses = history.validation_loss[-1][running]
        return jbn.Edits(stop=running[np.argsort(losses)[len(running) // 2 :]])

    own = jbn.Task(model=base._replace(train=train), data=DATA)
    result = jbn.sweep(own, draw(32), epochs=5, key=KEY, policy=halve)
    assert [int(took) for took in (~np.isnan(result.history.train_loss)).sum(axis=1)] == [32, 16, 8, 4, 2]
    assert len(traces) == 4  # two depths x two batch sizes


@pytest.mark.parametrize(
    ("configs", "options", "message"),
    [
        ({"learning_rate": [0.1]}, {"epochs": 0}, "epochs must be at least 1, but got 0"),
        ({"learning_rate": [0.1]}, {"seeds": 0}, "seeds must be at least 1, but got 0"),
        ({"learning_rate": []}, {}, "at least 1 configuration, but got 0"),
        ({}, {}, "at least 1 configuration, but got 0"),
        ({"learning_rat": [0.1]}, {}, "did you mean 'learning_rate'"),
        ({"batch_size": [2000]}, {}, "at most the 1078 rows of the training part, but got 2000"),
        ({"batch_size": [1]}, {}, "batch_size must be a whole number of at least 2 .* got 1"),
        (
            {"batch_size": ["big"]},
            {},
            "batch_size must be a whole number of at least 2 and at most 1078, but got",
        ),
        ({"batch_size": [32, "64"]}, {}, "batch_size must be a whole number of at least 2 .*, but got 64"),
        ({"layers": [2.5]}, {}, "layers must be a whole number of at least 1 and at most 64, but got 2.5"),
        ({"beta1": [1.0]}, {}, "beta1 must be a number of at least 0 and below 1, but got 1.0"),
        ({"epsilon": [0.0]}, {}, "epsilon must be a number above 0, but got 0.0"),
        ({"learning_rate": [np.nan]}, {}, "learning_rate must be a number of at least 0, but got nan"),
        ({"activation": ["rleu"]}, {}, "activation must be one of relu, sigmoid, tanh, but got rleu"),
        ({"learning_rate": ["fast"]}, {}, "learning_rate must be a number of at least 0, but got"),
        ({"learning_rate": [0.1], "beta1": [0.9, 0.8]}, {}, "of one length"),
    ],
)
def test_what_is_wrong_is_said_at_once(configs, options, message, tmp_path):
    with pytest.raises(jbn.InputError, match=message):
        jbn.sweep(task(), configs, **({"epochs": 1, "key": KEY, "out": tmp_path / "run"} | options))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["optimizer", "loss"])
def test_an_unknown_optimiser_or_loss(name):
    with pytest.raises(jbn.InputError, match=f"unknown {name} 'adm'"):
        jbn.Task(model=jbn.mlp(), data=DATA, **{name: "adm"})


def test_the_sweep_of_a_plain_dict_and_of_float64():
    with jax.enable_x64(True):
        result = jbn.sweep(task(layers=1), {"learning_rate": [0.01, 0.1]}, epochs=1, key=KEY)
        assert result.best().params["output"]["kernel"].dtype == np.float64
    assert jnp.zeros(()).dtype == jnp.float32


def test_an_error_in_a_worker_comes_out():
    def broken(*arguments, **options):
        raise RuntimeError("a broken model")

    model = jbn.mlp()._replace(train=broken)
    with pytest.raises(RuntimeError, match="a broken model"):
        jbn.sweep(jbn.Task(model=model, data=DATA), draw(3), epochs=1, key=KEY)


def test_a_worker_that_finds_no_turn_for_an_error_ends_the_sweep(monkeypatch):
    """Nobody waits for segments that no worker will bring."""
    monkeypatch.setattr(Schedule, "_next", lambda self, device: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        jbn.sweep(task(), draw(4), epochs=2, key=KEY)


def test_rank_puts_the_unusable_last_and_breaks_ties():
    accuracy = np.array([0.9, np.nan, 0.9, 0.95, 0.9])
    loss = np.array([0.3, np.nan, 0.2, 0.5, 0.2])
    assert rank(accuracy, loss, np.array([True, False, True, True, True])).tolist() == [3, 2, 4, 0, 1]


def test_sgd_and_dropout_can_be_swept():
    own = jbn.Task(model=jbn.mlp(layers=1, hidden_units=16), data=DATA, optimizer="sgd")
    configs = {"learning_rate": [0.1, 0.1], "optimizer_momentum": [0.9, 0.0], "dropout": [0.0, 0.5]}
    result = jbn.sweep(own, configs, epochs=3, key=KEY)
    assert (result.scores > 0.5).all()
    plain = jbn.sweep(own, {"learning_rate": [0.1], "optimizer_momentum": [0.9]}, epochs=3, key=KEY)
    np.testing.assert_allclose(result.history.train_loss[:, 0], plain.history.train_loss[:, 0], rtol=1e-4)
