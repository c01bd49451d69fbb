"""The whole run of one configuration as a pure function."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jbn

DIGITS = jbn.data.digits()
TASK = jbn.Task(model=jbn.mlp(), data=DIGITS)
SMALL = {"layers": 1, "hidden_units": 8, "batch_size": 256}
KEY = jax.random.key(3)


def test_it_is_the_same_experiment_as_a_member_of_a_sweep():
    with jax.enable_x64(True):
        configs = {"learning_rate": [0.01, 0.1], "hidden_units": [8, 11], "layers": [1, 2]}
        result = jbn.sweep(TASK, configs, epochs=2, key=KEY)
        train = jbn.train_function(TASK, epochs=2)
        for row in range(2):
            config = {name: values[row] for name, values in configs.items()}
            metrics, params, stats = train(config, KEY)
            np.testing.assert_allclose(metrics.train_loss, result.history.train_loss[:, row], rtol=1e-8)
            np.testing.assert_allclose(
                metrics.validation_loss, result.history.validation_loss[:, row], rtol=1e-8
            )
            best = result.best()
            if best.config_id == row:
                chex.assert_trees_all_close((params, stats), (best.params, best.stats), rtol=1e-6, atol=1e-9)


def test_jit_and_vmap_over_configurations_and_keys_agree_with_plain_calls():
    train = jbn.train_function(TASK, epochs=1)
    rates, keys = jnp.array([0.01, 0.1]), jax.random.split(KEY, 2)

    def run(rate, beta1, key):
        return train({**SMALL, "learning_rate": rate, "beta1": beta1}, key)[0]

    both = jax.jit(jax.vmap(jax.vmap(run, (None, None, 0)), (0, 0, None)))(
        rates, jnp.array([0.9, 0.95]), keys
    )
    assert both.validation_loss.shape == (2, 2, 1)
    compiled = jax.jit(run)
    for i, beta1 in enumerate((0.9, 0.95)):
        for j in range(2):
            one = (run if i == j else compiled)(float(rates[i]), beta1, keys[j])
            np.testing.assert_allclose(both.validation_loss[i, j], one.validation_loss, rtol=1e-3)


def test_widths_can_be_traced_within_a_capacity():
    with jax.enable_x64(True):
        train = jbn.train_function(TASK, epochs=1, capacity={"hidden_units": 16})
        config = {"layers": 2, "batch_size": 256, "learning_rate": 0.01}
        run = jax.jit(jax.vmap(lambda units: train({**config, "hidden_units": units}, KEY)[0]))
        padded = run(jnp.array([5, 16]))
        exact = jbn.train_function(TASK, epochs=1)
        for place, units in enumerate((5, 16)):
            alone = exact({**config, "hidden_units": units}, KEY)[0]
            np.testing.assert_allclose(padded.validation_loss[place], alone.validation_loss, rtol=1e-9)


def test_the_gradient_of_the_validation_loss_agrees_with_finite_differences():
    """With respect to the learning rate, through 20 steps, in float64."""
    with jax.enable_x64(True):
        train = jbn.train_function(TASK, epochs=5)  # 5 epochs of 4 batches of 256

        @jax.jit
        def loss(rate):
            return train({**SMALL, "learning_rate": rate, "decay_rate": 0.1}, KEY)[0].validation_loss[-1]

        rate, step = 0.003, 1e-7
        gradient = jax.grad(loss)(rate)
        finite = (loss(rate + step) - loss(rate - step)) / (2 * step)
        assert np.isfinite(gradient)
        assert abs(gradient) > 1
        np.testing.assert_allclose(gradient, finite, rtol=1e-5)


def test_it_writes_reads_and_prints_nothing(capsys, monkeypatch, tmp_path):
    train = jbn.train_function(TASK, epochs=1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("builtins.open", lambda *a, **k: pytest.fail("a file was opened"))
    jax.eval_shape(lambda rate: train({**SMALL, "learning_rate": rate}, KEY), 0.1)
    assert capsys.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


def test_the_same_call_twice_is_one_trace():
    train = jbn.train_function(TASK, epochs=1)
    run = jax.jit(chex.assert_max_traces(lambda r: train({**SMALL, "learning_rate": r}, KEY)[0], n=1))
    assert run(0.1).train_loss != run(0.2).train_loss


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"learning_rat": 0.1}, "did you mean 'learning_rate'"),
        ({"batch_size": 5000}, "at most the 1078 rows"),
        ({"layers": 0}, "layers must be a whole number of at least 1"),
    ],
)
def test_static_mistakes_are_said_at_trace_time(config, message):
    with pytest.raises(jbn.InputError, match=message):
        jbn.train_function(TASK, epochs=1)(config, KEY)


@pytest.mark.parametrize("name", ["layers", "hidden_units", "batch_size"])
def test_a_traced_value_where_a_shape_is_needed_says_what_to_do(name):
    train = jbn.train_function(TASK, epochs=1)
    with pytest.raises(jbn.InputError, match=f"{name} gives arrays their shapes .* close over it"):
        jax.jit(train)({name: 32}, KEY)


def test_epochs_must_be_positive():
    with pytest.raises(jbn.InputError, match="epochs must be at least 1, but got 0"):
        jbn.train_function(TASK, epochs=0)
