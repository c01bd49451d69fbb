"""How far statistics move: by hand, and against the networks' own training."""

import jax
import numpy as np
import pytest

import jbn
from jbn.nn.drift import hidden_drift, input_drift, layer_drift
from jbn.nn.normalizer import fit

KEY = jax.random.key(0)


def test_a_layer_by_hand():
    old = np.array([1.0, -2.0, 0.0]), np.array([2.0, 0.5, 1.0])
    new = np.array([2.0, -2.0, 3.0]), np.array([4.0, 0.25, 1.0])
    found = layer_drift("layer_1", *old, *new)
    assert found.layer == "layer_1"
    assert found.channels == 3
    assert found.shift == pytest.approx((0.5 + 0 + 3) / 3)
    assert found.log_ratio == pytest.approx(2 * np.log(2) / 3)


def test_it_does_not_depend_on_the_unit_of_a_channel():
    rng = np.random.default_rng(0)
    old, new = ((rng.normal(size=5), rng.uniform(1, 2, 5)) for _ in range(2))
    unit = 10.0 ** np.arange(5)
    once, again = layer_drift("a", *old, *new), layer_drift("a", *(v * unit for v in (*old, *new)))
    np.testing.assert_allclose(once[2:], again[2:], rtol=1e-12)
    assert layer_drift("a", *old, *old)[2:] == (0.0, 0.0)


def test_features_that_did_not_vary_or_do_not_any_more():
    x = np.random.default_rng(0).normal(size=(100, 3))
    before, after = x.copy(), 2 * x + 1
    before[:, 0], after[:, 1] = 5.0, 1.0  # the first begins to vary, the second is now constant
    found = input_drift(fit(before), fit(after))
    means, deviations = before.mean(axis=0), before.std(axis=0)
    shifts = np.abs(after.mean(axis=0) - means)[1:] / deviations[1:]
    assert found.channels == 2
    assert found.shift == pytest.approx(shifts.mean())
    assert found.log_ratio == pytest.approx(np.log(2))
    nothing = input_drift(fit(np.ones((4, 2))), fit(x[:, :2]))
    assert nothing.channels == 0
    assert np.isnan([nothing.shift, nothing.log_ratio]).all()


def trained_once(model, hyper, x, key):
    """Parameters, and statistics that are those of this batch."""
    spec = jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype)

    @jax.jit
    def run(x, key):
        params, stats = model.init(KEY, hyper, spec)
        return params, model.train(params, stats, x, key=key, hyper=hyper)[1]

    return run(x, key)


MODELS = {
    "before": jbn.mlp(layers=3, hidden_units=7),
    "after": jbn.mlp(layers=3, hidden_units=7, batch_norm="after", activation="tanh"),
    "dropout": jbn.mlp(layers=3, hidden_units=7, dropout=0.5),
    "images": jbn.cnn(layers=2, channels=3),
    "images, after": jbn.cnn(layers=2, channels=3, batch_norm="after"),
}


@pytest.mark.parametrize("name", MODELS)
def test_nothing_moves_on_the_batch_that_the_statistics_are_of(name):
    x = jax.random.normal(jax.random.key(1), (200, 16))
    hyper, noise = {"outputs": 3}, jax.random.key(2)
    model = MODELS[name]
    params, stats = trained_once(model, hyper, x, jax.random.fold_in(noise, 0))
    found = hidden_drift(model, params, stats, x, hyper=hyper, key=noise)
    assert [own.layer for own in found] == list(stats)
    np.testing.assert_allclose([own[2:] for own in found], 0, atol=2e-5)


def forward(params, stats, x):
    """Means and deviations of what two layers normalise; float64."""
    a, seen = x.astype(np.float64), []
    for name in ("layer_1", "layer_2"):
        layer, running = params[name], stats[name]
        z = a @ np.asarray(layer["kernel"], np.float64)
        seen.append((z.mean(axis=0), z.std(axis=0)))
        mean, var = (np.asarray(own, np.float64) for own in (running.mean, running.var))
        a = np.maximum(
            (z - mean) / np.sqrt(var + 1e-5) * np.asarray(layer["batch_norm"].scale)
            + np.asarray(layer["batch_norm"].bias),
            0,
        )
    return seen


def test_new_rows_go_through_the_old_network_as_it_is():
    """Against float64 by hand, on more rows than go through at a time, and not a multiple of them."""
    model, hyper = jbn.mlp(layers=2, hidden_units=6), {"outputs": 3}
    old = jax.random.normal(jax.random.key(1), (200, 5))
    params, stats = trained_once(model, hyper, old, KEY)
    x = np.random.default_rng(0).normal(1.0, 2.0, (777, 5)).astype(np.float32)
    found = hidden_drift(model, params, stats, jax.numpy.asarray(x), hyper=hyper, key=KEY)
    for own, running, (mean, deviation) in zip(found, stats.values(), forward(params, stats, x), strict=True):
        before = np.sqrt(np.asarray(running.var, np.float64))
        shift = np.mean(np.abs(mean - np.asarray(running.mean)) / before)
        assert own.channels == 6
        assert own.shift == pytest.approx(shift, rel=1e-4)
        assert own.log_ratio == pytest.approx(np.mean(np.abs(np.log(deviation / before))), rel=1e-4)
        assert own.shift > 0.2


def test_twice_as_large_inputs_are_twice_as_large_in_the_first_layer():
    model, hyper = MODELS["images"], {"outputs": 3}
    x = jax.random.normal(jax.random.key(1), (100, 8, 8))
    params, stats = trained_once(model, hyper, x, KEY)
    first, second = hidden_drift(model, params, stats, 2 * x, hyper=hyper, key=KEY)
    assert first.log_ratio == pytest.approx(np.log(2), rel=1e-4)
    assert second.log_ratio > 0.1


def test_a_network_without_batch_norm_or_of_one_s_own_has_no_layers_to_tell_of():
    x, hyper = jax.random.normal(KEY, (10, 4)), {"outputs": 2}
    model = jbn.mlp(batch_norm="none")
    params, stats = trained_once(model, hyper, x, KEY)
    assert hidden_drift(model, params, stats, x, hyper=hyper, key=KEY) == ()
    own = MODELS["before"]._replace(observe=None)
    params, stats = trained_once(own, hyper, x, KEY)
    assert hidden_drift(own, params, stats, x, hyper=hyper, key=KEY) == ()
