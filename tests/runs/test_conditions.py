"""Sweeps over spaces with conditions, steps and log-scaled whole numbers."""

import jax
import numpy as np
import pytest

import jbn
from jbn.errors import InputError

DATA = jbn.data.digits()
TASK = jbn.Task(model=jbn.mlp(), data=DATA)
KEY = jax.random.key(2)
SPACE = jbn.Space(
    learning_rate=jbn.log_uniform(1e-3, 1e-1),
    optimizer=jbn.choice("adam", "sgd"),
    beta2=jbn.search.when(jbn.reverse_log_uniform(0.9, 0.99), optimizer="adam"),
    dropout=jbn.search.when(jbn.uniform(0.1, 0.5), optimizer="sgd"),
    layers=jbn.search.when(jbn.choice(1, 3), optimizer="sgd"),
    hidden_units=jbn.search.quantized(jbn.integers(8, 32), 8),
    batch_size=256,
)


@pytest.fixture(scope="module")
def result():
    return jbn.sweep(TASK, jbn.search.random(SPACE, 12, key=4), epochs=2, key=KEY)


def test_what_a_condition_switches_off_is_empty_in_the_table(result):
    table = result.table()
    adam = (table.optimizer == "adam").to_numpy()
    assert adam.any()
    assert not adam.all()
    for name, where in (("beta2", adam), ("dropout", ~adam), ("layers", ~adam)):
        np.testing.assert_array_equal(table[name].notna(), where)
    assert set(table.hidden_units) <= {8, 16, 24, 32}


def test_it_is_trained_with_its_default(result):
    """As a sweep in which nothing has a condition, with the defaults written out."""
    columns = {name: values.copy() for name, values in result.configs.items()}
    adam = columns["optimizer"] == "adam"
    columns["dropout"][adam] = 0.0
    columns["layers"] = np.where(adam, 2, columns["layers"]).astype(int)
    plain = jbn.sweep(TASK, jbn.search.Configs(columns), epochs=2, key=KEY)
    np.testing.assert_allclose(plain.history.train_loss, result.history.train_loss, rtol=2e-3)
    best = result.best().config
    assert best["layers"] in (1, 2, 3)
    assert isinstance(best["layers"], int)


def test_what_has_no_default_must_always_be_there():
    def init(key, x, outputs, width):
        return {"w": jax.random.normal(key, (x.shape[1], outputs))}

    def apply(params, x, width):
        return width * (x @ params["w"])

    task = jbn.Task(model=jbn.model(init, apply), data=DATA)
    space = jbn.Space(
        optimizer=jbn.choice("adam", "sgd"), width=jbn.search.when(jbn.uniform(0.5, 1.0), optimizer="adam")
    )
    with pytest.raises(
        InputError, match="may switch a hyper-parameter off where it has a default, but width"
    ):
        jbn.sweep(task, jbn.search.random(space, 8, key=0), epochs=1, key=KEY)


def test_log_scaled_widths_are_padded_like_others():
    space = jbn.Space(
        hidden_units=jbn.integers(4, 32, log=True), learning_rate=0.01, batch_size=256, layers=1
    )
    configs = jbn.search.quasi_random(space, 8, key=1)
    result = jbn.sweep(TASK, configs, epochs=1, key=KEY)
    alone = jbn.sweep(TASK, {name: values[:1] for name, values in configs.items()}, epochs=1, key=KEY)
    np.testing.assert_allclose(alone.history.train_loss[0, 0], result.history.train_loss[0, 0], rtol=1e-3)


def test_a_search_by_optuna_on_networks():
    batches = jbn.search.optuna(SPACE, sampler="tpe", n=6, key=4)
    for _ in range(2):
        batches.tell(jbn.sweep(TASK, batches.ask(), epochs=1, key=KEY))
    assert batches.configs.count == 12
    assert np.isfinite(batches.scores).all()
