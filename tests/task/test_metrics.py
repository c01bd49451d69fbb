"""Metrics against scikit-learn's, and through whole sweeps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn import metrics as oracle

import jbn
from jbn.errors import InputError
from jbn.task.metrics import METRICS, chosen, metric

RNG = np.random.default_rng(0)
LABELS, OUTPUTS = RNG.integers(0, 3, 50), RNG.normal(size=(50, 3)).astype(np.float32)
TARGETS = RNG.normal(3, 5, (50, 2)).astype(np.float32)
GUESSES = (TARGETS + RNG.normal(size=(50, 2))).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "function"),
    [("accuracy", oracle.accuracy_score), ("balanced_accuracy", oracle.balanced_accuracy_score)],
)
def test_of_classes(name, function):
    value = METRICS[name].value(jnp.asarray(OUTPUTS), jnp.asarray(LABELS))
    assert_allclose(value, function(LABELS, OUTPUTS.argmax(1)), rtol=1e-6)
    two = METRICS[name].value(jnp.asarray(OUTPUTS[:, 0]), jnp.asarray(LABELS > 0, int))
    assert_allclose(two, function(LABELS > 0, OUTPUTS[:, 0] > 0), rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("mean_absolute_error", oracle.mean_absolute_error),
        ("mean_squared_error", oracle.mean_squared_error),
        ("root_mean_squared_error", lambda t, z: np.sqrt(oracle.mean_squared_error(t, z))),
        ("r2", oracle.r2_score),
    ],
)
@pytest.mark.parametrize("columns", [slice(None), 0])
def test_of_numbers(name, function, columns):
    own = METRICS[name].value(jnp.asarray(GUESSES[:, columns]), jnp.asarray(TARGETS[:, columns]))
    assert_allclose(own, function(TARGETS[:, columns], GUESSES[:, columns]), rtol=1e-5)


def regression(**more):
    x = RNG.normal(size=(300, 4))
    y = 1000 + 50 * (x @ [1.0, -2.0, 0.5, 0.0])
    data = jbn.data.arrays(x, y, targets="numbers")
    return jbn.Task(jbn.mlp(layers=1, hidden_units=16), data, **more)


CONFIGS = {"learning_rate": [0.003, 0.03, 0.0], "batch_size": [32] * 3}


def test_a_regression_is_judged_in_the_unit_of_the_data():
    close = jbn.metric(lambda z, t: jnp.abs(z - t) < 25, name="close", maximize=True)
    task = regression(metrics=("r2", "mean_absolute_error", close))
    result = jbn.sweep(task, CONFIGS, epochs=20, key=jax.random.key(0))
    x, y = task.data.validation
    guesses = np.asarray(result.winner.predict(x))
    assert guesses.shape == y.shape
    row = result.table().iloc[0]
    assert_allclose(row.validation_r2, oracle.r2_score(y, guesses), rtol=1e-3)
    assert_allclose(row.validation_mean_absolute_error, oracle.mean_absolute_error(y, guesses), rtol=1e-3)
    assert_allclose(row.validation_close, np.mean(np.abs(y - guesses) < 25), atol=0.02)
    deviation = task.data.train.y.std()
    assert_allclose(row.validation_loss, np.mean((y - guesses) ** 2) / deviation**2, rtol=1e-3)
    assert row.validation_r2 > 0.9
    assert result.table().config_id.tolist()[-1] == 2  # the lowest loss is best: what learned nothing is last
    x, y = task.data.test
    assert_allclose(result.test["r2"], oracle.r2_score(y, result.winner.predict(x)), rtol=1e-3)


def test_several_numbers_a_row():
    x = RNG.normal(size=(300, 4))
    data = jbn.data.arrays(x, np.stack([x[:, 0], 100 * x[:, 1] - 7], 1), targets="numbers")
    result = jbn.sweep(
        jbn.Task(jbn.mlp(layers=1, hidden_units=16), data, metrics="r2", loss="huber"),
        {**CONFIGS, "huber_delta": [0.5, 1.0, 2.0]},
        epochs=20,
        key=jax.random.key(0),
    )
    assert result.winner.predict(data.test.x).shape == data.test.y.shape
    assert result.test["r2"] > 0.8


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        (("accurracy",), "unknown metric 'accurracy': did you mean 'accuracy'"),
        (("r2",), "the metric 'r2' is not for targets that are classes; take accuracy or balanced_accuracy"),
        ((lambda z, t: z,), "letters, digits and _, but has '<lambda>'; pass name="),
        (("accuracy", "accuracy"), "metrics must differ by name, but 'accuracy' comes twice"),
    ],
)
def test_metrics_that_cannot_be(metrics, message):
    with pytest.raises(InputError, match=message):
        chosen(metrics, "classes", usual=True)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: metric(3), "a metric is a function of outputs and targets, but got int"),
        (lambda: metric(len, name="R2"), "the name 'R2' is that of a metric of jbn"),
        (lambda: metric(len, name="r2_standard_error"), "must not end in _standard_error"),
        (lambda: metric(len, name="loss"), "the name 'loss' is that of a metric of jbn"),
        (lambda: metric(len, name="two words"), "letters, digits and _, but has 'two words'"),
        (
            lambda: metric(lambda z, t: z, name="own").value(jnp.zeros((3, 2)), jnp.zeros(3)),
            r"\[\] or \[3\] for 3 rows, but 'own' returned float32\[3, 2\]",
        ),
    ],
)
def test_what_is_no_metric(make, message):
    with pytest.raises(InputError, match=message):
        make()
