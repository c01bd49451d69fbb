"""Cross-validation: each fold is what a sweep of that fold alone would be."""

import dataclasses

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose

import jbn
from jbn import store
from jbn.engine.memory import _data_bytes
from jbn.task.data.folding import folded

KEY = jax.random.key(3)
MODEL = jbn.mlp(layers=1, hidden_units=12)
CONFIGS = {"learning_rate": [0.001, 0.003, 0.01], "batch_size": [64] * 3}
FOLDS = 3


def numbers():
    x = np.random.default_rng(0).normal(5, [1.0, 100.0, 1e-3], (200, 3))
    return jbn.data.arrays(x, 1e4 + x @ [30.0, 1.0, 1e4], targets="numbers")


def alone(data, fold):
    """The fold's rows as a data set of their own."""
    own = folded(data, FOLDS).folds
    (x, y), train, validation = own.rows, own.train[fold], own.validation[fold]
    return jbn.data.arrays(
        x[train],
        y[train],
        x_validation=x[validation],
        y_validation=y[validation],
        x_test=data.test.x,
        y_test=data.test.y,
        targets="numbers" if data.classes is None else "classes",
    )


@pytest.mark.parametrize("make", [jbn.data.digits, numbers])
def test_every_fold_equals_a_sweep_of_it_alone(make, tmp_path):
    data = make()
    result = jbn.sweep(
        jbn.Task(MODEL, data), CONFIGS, epochs=2, key=KEY, seeds=2, folds=FOLDS, out=tmp_path / "run"
    )
    members = result.history.validation_loss[-1].reshape(3, FOLDS, 2)
    for fold in range(FOLDS):
        one = jbn.sweep(jbn.Task(MODEL, alone(data, fold)), CONFIGS, epochs=2, key=KEY, seeds=2)
        for name, curve in one.history.validation.items():
            own = result.history.validation[name][-1].reshape(3, FOLDS, 2)[:, fold]
            assert_allclose(own, curve[-1].reshape(3, 2), rtol=5e-3, atol=0.01 * (name == "accuracy"))
        train = result.history.train_loss.reshape(2, 3, FOLDS, 2)[:, :, fold]
        assert_allclose(train, one.history.train_loss.reshape(2, 3, 2), rtol=5e-3)
    assert result.timings.programs <= 5  # whatever the number of folds; and one for what they validate on
    check_table(result, members)
    check_winner(result, data)
    assert len(store.read(tmp_path / "run").curves) == 2 * members.size


def check_table(result, members):
    table = result.table().sort_values("config_id")
    assert_allclose(table.validation_loss, members.mean((1, 2)), rtol=1e-6)
    spread = members.mean(2).std(1, ddof=1) / np.sqrt(FOLDS)
    assert_allclose(table.validation_loss_standard_error, spread, rtol=1e-5)


def check_winner(result, data):
    """Its normaliser takes features as they are in the data: on its own fold it has its own loss."""
    best = result.best()
    own = folded(data, FOLDS).folds
    rows = own.validation[best.seed // 2]
    again = best.evaluate(own.rows.x[rows], own.rows.y[rows])
    member = best.config_id * FOLDS * 2 + best.seed
    for name, value in again.items():
        assert_allclose(value, result.history.validation[name][-1, member], rtol=1e-3)


def test_the_task_of_the_result_is_the_given_one():
    """Without its folds: it can be swept again."""
    task = jbn.Task(MODEL, jbn.data.digits())
    assert jbn.sweep(task, CONFIGS, epochs=1, key=KEY, folds=2).task is task


def test_the_rows_of_all_folds_are_in_memory_once():
    task = dataclasses.replace(jbn.Task(MODEL, jbn.data.digits()), data=folded(jbn.data.digits(), FOLDS))
    arrays = task.arrays()
    assert arrays.train.x.shape == (1078 + 359, 64)
    held = len(arrays.folds) * (1437 // 3)  # what each validates on; the pool is there already
    orders = FOLDS * (1437 - 479)
    assert _data_bytes(task, seeds=FOLDS, workers=1) == (held + orders) * 65 * 4


def test_folds_that_cannot_be():
    with pytest.raises(jbn.InputError, match=r"folds must be 1 .none., or at least 2"):
        jbn.sweep(jbn.Task(MODEL, jbn.data.digits()), CONFIGS, epochs=1, key=KEY, folds=0)
