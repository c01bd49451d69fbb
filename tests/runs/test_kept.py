"""Kept models all at once, against the same models one by one; curves by configuration and seed."""

import dataclasses

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import jbn
from jbn.runs import kept

CONFIGS = {
    "optimizer": ["sgd", "sgd", "adam", "sgd"],
    "learning_rate": [0.01, 1e30, 0.003, 0.02],
    "batch_norm_epsilon": [1e-5, 1e-5, 1e-2, 1e-5],
    "hidden_units": [8, 8, 8, 12],
    "batch_size": [32, 32, 64, 32],
}
SEEDS, FOLDS = 2, 2
EACH = SEEDS * FOLDS


@pytest.fixture(scope="module")
def data():
    x = np.random.default_rng(0).normal(5, [1.0, 100.0, 1e-3], (200, 3))
    return jbn.data.arrays(x, 1e4 + x @ [30.0, 1.0, 1e4], targets="numbers")


@pytest.fixture(scope="module")
def result(data):
    model = jbn.mlp(layers=1)
    how = {"optimizer": ("sgd", "adam"), "metrics": ("r2", "mean_absolute_error"), "test_curves": True}
    task = jbn.Task(model=model, data=data, **how)
    configs = {name: np.array(own, object if name == "optimizer" else None) for name, own in CONFIGS.items()}
    key = jax.random.key(0)
    return jbn.sweep(task, configs, epochs=2, key=key, seeds=SEEDS, folds=FOLDS, keep_models=True)


def test_all_at_once_measure_what_each_does_alone(result, data, monkeypatch):
    """Folds have normalisers of their own, of features and targets; who diverged has none of it."""
    calls = []
    program = kept._evaluated
    monkeypatch.setattr(kept, "_evaluated", lambda *own: calls.append(own) or program(*own))
    found = result.evaluate(data.test.x, data.test.y)
    assert list(found) == ["r2", "mean_absolute_error", "loss"]
    assert [model is None for model in result.models] == [False] * 4 + [True] * 4 + [False] * 8
    for name, values in found.items():
        one_by_one = [
            np.nan if model is None else model.evaluate(data.test.x, data.test.y)[name]
            for model in result.models
        ]
        assert values.shape == (4, EACH)
        assert values.dtype == np.float64
        assert_allclose(values.ravel(), one_by_one, rtol=2e-5, atol=1e-6)
    first, other = result.models[0], result.models[SEEDS]
    assert not np.array_equal(first.normalizer.mean, other.normalizer.mean)
    assert not np.array_equal(first.unit.mean, other.unit.mean)
    # 8 units by two optimisers and two batch sizes together, 12 units alone: for each fold
    assert len(calls) == 2 * FOLDS


def test_on_the_test_part_they_measure_what_the_sweep_did(result, data):
    found = result.evaluate(data.test.x, data.test.y)
    for name, values in found.items():
        assert_allclose(values, result.last(f"test_{name}"), rtol=1e-4, atol=1e-5)


def test_a_configuration_s_models_are_stacked_in_the_order_of_their_seeds(result):
    own = result.stacked(config_id=2)
    assert own.config_id.tolist() == [2] * EACH
    assert own.seed.tolist() == list(range(EACH))
    for member, model in enumerate(result.models[2 * EACH : 3 * EACH]):
        one = jax.tree.map(lambda leaf, number=member: leaf[number], (own.params, own.stats))
        jax.tree.map(assert_array_equal, one, (model.params, model.stats))


def test_models_of_equal_shapes_are_stacked_without_those_that_diverged(result):
    few = dataclasses.replace(result, models=result.models[: 3 * EACH])
    own = few.stacked()
    assert own.config_id.tolist() == [0] * EACH + [2] * EACH
    assert own.seed.tolist() == [*range(EACH)] * 2
    one = result.models[2 * EACH]
    assert_array_equal(own.params["layer_1"]["kernel"][EACH], one.params["layer_1"]["kernel"])
    assert_array_equal(own.stats["layer_1"].mean[1], result.models[1].stats["layer_1"].mean)


@pytest.mark.parametrize(
    ("config_id", "message"),
    [
        (
            None,
            r"equal shapes, but params/layer_1/\S+ is float32\[.*8\] in configuration 0 and float32\[.*12\] in ",
        ),
        (1, "needs a model that did not diverge, but configuration 1 has none: take another"),
        (4, "must be one of 4, counted from 0, got config_id 4"),
        (-1, "must be one of 4, counted from 0, got config_id -1"),
    ],
)
def test_what_cannot_be_stacked_is_said(result, config_id, message):
    with pytest.raises(jbn.InputError, match=message):
        result.stacked(config_id)


def test_without_models_it_is_said_how_to_keep_them(result, data):
    without = dataclasses.replace(result, models=())
    message = "needs the models of all members, but the sweep has kept none: give it keep_models=True"
    with pytest.raises(jbn.InputError, match=message):
        without.evaluate(data.test.x, data.test.y)
    with pytest.raises(jbn.InputError, match=message):
        without.stacked()


def test_curves_are_those_of_the_members(result):
    """The history is flat: member = configuration * seeds + seed."""
    curve = result.curve("validation_r2")
    assert curve.shape == (2, 4, EACH)
    for member in (0, 3, 8, 15):
        own = result.history.validation["r2"][:, member]
        assert_array_equal(curve[:, member // EACH, member % EACH], own)
    assert_array_equal(result.curve("train_loss").reshape(2, -1), result.history.train_loss)


def test_the_last_of_a_curve_is_nan_where_a_member_diverged(result):
    found = result.last("validation_loss")
    assert np.isnan(found[1]).all()
    assert_array_equal(found[[0, 2, 3]], result.curve("validation_loss")[-1][[0, 2, 3]])
    assert_allclose(np.sort(result.scores)[:3], np.sort(-found[[0, 2, 3]].mean(axis=1)))


def test_stopped_members_keep_what_they_measured_last(result):
    """By hand: the second of three configurations stops after one segment, one seed of the third diverges."""
    nan = np.nan
    steps = np.array([[5, 5, 5, 5, 5, 5], [10, 10, 5, 5, 10, 10]])
    loss = np.array([[0.5, 0.4, 0.3, 0.2, 0.1, 0.6], [0.25, 0.2, nan, nan, 0.05, nan]])
    accuracy = np.array([[0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [0.7, 0.8, nan, nan, 0.9, 0.1]])
    status = np.array([1, 1, 2, 2, 1, 3])
    history = jbn.History(loss, {"accuracy": accuracy, "loss": loss}, steps, status)
    own = dataclasses.replace(result, history=history, seeds=2, folds=1)
    assert_array_equal(own.last("validation_accuracy"), [[0.7, 0.8], [0.3, 0.4], [0.9, nan]])
    assert_array_equal(own.last("validation_loss"), [[0.25, 0.2], [0.3, 0.2], [0.05, nan]])
    assert_array_equal(own.last("steps"), [[10, 10], [5, 5], [10, nan]])
    assert_array_equal(own.curve("steps")[1], [[10, 10], [nan, nan], [10, 10]])
    assert_array_equal(own.curve("validation_accuracy")[1], [[0.7, 0.8], [nan, nan], [0.9, 0.1]])


@pytest.mark.parametrize("ask", ["curve", "last"])
def test_an_unknown_curve_is_said(result, ask):
    message = r"unknown curve 'validation_r': did you mean 'validation_r2'\? Known are: steps"
    with pytest.raises(jbn.InputError, match=message):
        getattr(result, ask)("validation_r")


SPACE = jbn.Space(learning_rate=jbn.log_uniform(1e-3, 1e-1))
RATES = {"learning_rate": [0.001, 0.003, 0.01, 0.03], "batch_size": [256] * 4, "hidden_units": [8] * 4}
KEY = jax.random.key(2)
POLICIES = {"none": None, "halving": jbn.halving(eta=2), "pbt": jbn.pbt(SPACE)}


@pytest.fixture(scope="module")
def digits():
    return jbn.Task(model=jbn.mlp(layers=1), data=jbn.data.digits())


@pytest.mark.parametrize("policy", POLICIES)
def test_a_snapshot_is_the_sweep_that_ends_then(digits, policy):
    """Also where the policy decides then: what it stops, copies and sets comes after."""
    options = {"key": KEY, "policy": POLICIES[policy]}
    long = jbn.sweep(digits, RATES, epochs=3, snapshots=(1, 2), **options)
    assert list(long.snapshots) == [1, 2]
    assert long.models == ()
    for epochs in (1, 2):
        then = long.at(epochs)
        own = jbn.sweep(digits, RATES, epochs=epochs, keep_models=True, **options)
        assert_array_equal(then.history.train_loss, own.history.train_loss)
        assert_array_equal(then.history.validation_loss, own.history.validation_loss)
        for first, other in zip(then.models, own.models, strict=True):
            jax.tree.map(assert_array_equal, (first.params, first.stats), (other.params, other.stats))
        assert then.best().config_id == own.best().config_id
        assert then.test == own.test
        assert then.curve("steps").shape == (epochs, 4, 1)
        assert set(then.standing.status) <= {"running", "stopped"}
    plain = jbn.sweep(digits, RATES, epochs=3, **options)  # nothing else is changed by keeping them
    assert_array_equal(long.history.validation_loss, plain.history.validation_loss)


def test_there_are_no_other_snapshots(digits):
    result = jbn.sweep(digits, RATES, epochs=2, key=KEY, snapshots=(1,))
    message = r"this needs the models after 2 epochs, but the sweep has kept 1: give it snapshots=\(2,\)"
    with pytest.raises(jbn.InputError, match=message):
        result.at(2)
    with pytest.raises(jbn.InputError, match="but the sweep has kept none"):
        result.at(1).at(1)


@pytest.mark.parametrize("epochs", [0, 3, 1.5])
def test_a_snapshot_is_within_the_sweep(digits, epochs):
    message = f"a snapshot is kept after a whole number of epochs, from 1 to the 2 of the sweep, got {epochs}"
    with pytest.raises(jbn.InputError, match=message):
        jbn.sweep(digits, RATES, epochs=2, key=KEY, snapshots=(epochs,))
