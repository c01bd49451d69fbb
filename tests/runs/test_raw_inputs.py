"""Inputs as they are: what a sweep with standardised features is, where somebody else has standardised them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jbn
from jbn.runs.judgement import drift_of
from jbn.runs.winner import winner_of
from jbn.store import load_weights
from jbn.task.arrays import arrays

KEY = jax.random.key(0)
MODEL = jbn.mlp(layers=1, hidden_units=4, batch_norm="none")
CONFIGS = jbn.search.Configs(
    {"learning_rate": np.array([0.01, 0.03]), "batch_size": np.array([32, 32])},
    space=jbn.Space(learning_rate=jbn.log_uniform(1e-3, 0.1), batch_size=32),
)


def made(rows, seed):
    rng = np.random.default_rng(seed)
    y = np.arange(rows) % 3
    return rng.normal(7.0 * y[:, None] + 100, [1.0, 10.0, 100.0, 20.0], (rows, 4)), y


(X, Y), (X_VALIDATION, Y_VALIDATION), (X_TEST, Y_TEST) = made(120, 0), made(40, 1), made(50, 2)
MEAN, DEVIATION = X.mean(axis=0), X.std(axis=0)


def standardized(x):
    return (x - MEAN) / DEVIATION


def task(change=lambda x: x, **options):
    parts = {"x_validation": change(X_VALIDATION), "x_test": change(X_TEST)}
    data = jbn.data.arrays(change(X), Y, y_validation=Y_VALIDATION, y_test=Y_TEST, **parts)
    return jbn.Task(model=MODEL, data=data, **options)


RAW = task(standardized, normalize=False)  # the network gets them as they are: standardised by hand


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("raw") / "run"


@pytest.fixture(scope="module")
def result(folder):
    return jbn.sweep(RAW, CONFIGS, epochs=2, key=KEY, out=folder)


def test_it_is_the_sweep_that_standardises(result):
    expected = jbn.sweep(task(), CONFIGS, epochs=2, key=KEY)
    for name in ("train_loss", "validation_loss"):
        np.testing.assert_allclose(getattr(result.history, name), getattr(expected.history, name), rtol=1e-4)
    own, other = result.best(), expected.best()
    np.testing.assert_allclose(own.outputs(standardized(X_TEST)), other.outputs(X_TEST), rtol=1e-3, atol=1e-4)
    assert own.evaluate(standardized(X_TEST), Y_TEST) == pytest.approx(
        other.evaluate(X_TEST, Y_TEST), rel=1e-3
    )


def test_the_network_gets_what_is_in_the_data():
    raw = task(normalize=False)
    np.testing.assert_array_equal(raw.arrays().train.x, X.astype(np.float32))
    np.testing.assert_array_equal(raw.arrays().validation.x, X_VALIDATION.astype(np.float32))
    same = dataclasses.replace(raw, optimizer="sgd")
    assert not same.normalize
    assert not same.settled({}, epochs=2).normalize


def test_a_fold_gets_what_is_in_the_data():
    from jbn.task.data.folding import folded

    own = arrays(folded(task().data, 4), standardized=False, normalize=False)
    whole = np.concatenate([X, X_VALIDATION]).astype(np.float32)
    for fold in range(4):
        places = own.folds[fold].train
        np.testing.assert_array_equal(own.folds[fold].rows(own.train, jnp.asarray(places)).x, whole[places])
        np.testing.assert_array_equal(own.fitted(fold)[0].apply(X), X.astype(np.float32))


def test_blocks_get_what_is_in_the_data(result):
    """In one block the sweep is the one in memory, bit for bit."""
    held = {"x_validation": RAW.data.validation.x, "y_validation": Y_VALIDATION, "x_test": X_TEST}
    data = jbn.data.memory_map(standardized(X), Y, **held, y_test=Y_TEST, block_rows=120)
    own = jbn.sweep(dataclasses.replace(RAW, data=data), CONFIGS, epochs=2, key=KEY)
    np.testing.assert_array_equal(own.history.train_loss, result.history.train_loss)
    np.testing.assert_array_equal(own.history.validation_loss, result.history.validation_loss)
    np.testing.assert_array_equal(own.best().outputs(X_TEST), result.best().outputs(X_TEST))


def test_the_pure_function_is_the_member_of_the_sweep(result):
    config = {name: values[0].item() for name, values in CONFIGS.items()}
    metrics, *_ = jax.jit(lambda key: jbn.train_function(RAW, epochs=2)(config, key))(KEY)
    np.testing.assert_allclose(metrics.validation_loss, result.history.validation_loss[:, 0], rtol=1e-5)


def test_a_saved_network_takes_them_as_they_are(result, tmp_path):
    result.best().save(tmp_path / "one.model")
    np.testing.assert_array_equal(
        jbn.load(tmp_path / "one.model").outputs(X_TEST), result.best().outputs(X_TEST)
    )


def test_a_run_goes_on_as_it_began(result, folder):
    with pytest.raises(jbn.InputError, match="but its normalize was False and is True now"):
        jbn.resume(folder, dataclasses.replace(RAW, normalize=True), epochs=3)
    more = jbn.resume(folder, RAW, epochs=3)
    np.testing.assert_array_equal(more.history.train_loss[:2], result.history.train_loss)


def test_a_panda_goes_on_as_it_began(result, tmp_path):
    config = {name: values[0].item() for name, values in CONFIGS.items()}
    with jbn.panda(RAW, config, key=KEY, out=tmp_path / "baby") as baby:
        baby.train(epochs=2)
        np.testing.assert_allclose(
            baby.curve()["validation_loss"], result.history.validation_loss[:, 0], rtol=1e-5
        )
        np.testing.assert_array_equal(baby.best().normalizer.factor, np.ones(4))
    with pytest.raises(jbn.InputError, match=r"began with other normalize \(False\) than there are now"):
        jbn.panda(dataclasses.replace(RAW, normalize=True), out=tmp_path / "baby")


def test_drift_is_told_by_the_statistics_of_the_inputs(result, folder):
    """All features move by three of their deviations and scatter twice as much."""
    later = task(lambda x: 2 * standardized(x) + 3, normalize=False)
    assert set(load_weights(folder / "best.npz")) >= {"inputs/mean", "inputs/factor"}
    for run in (result, folder):
        drift = drift_of(winner_of(run, later), later, key=KEY)[0]
        assert (drift.layer, drift.channels) == ("input", 4)
        assert drift.shift == pytest.approx(3)
        assert drift.log_ratio == pytest.approx(np.log(2))
