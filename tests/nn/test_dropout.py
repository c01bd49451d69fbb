import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

import jbn
from jbn.errors import InputError
from jbn.nn.dropout import dropout
from jbn.nn.mlp import mlp

STANDARD_ERRORS = 4.5  # a fair draw exceeds it once in 150,000


@functools.cache
def dropped(rate, seed, layers=1, units=128):
    """Outputs of a network that is the identity but for dropout, for inputs of 1."""
    hyper = {"outputs": units, "hidden_units": units, "batch_norm": "none", "layers": layers}
    model = mlp(bias=False)
    params = {name: {"kernel": jnp.eye(units)} for name in ("layer_1", "layer_2", "output")}
    x = jnp.ones((256, units))
    train = jax.jit(
        lambda rate, key: model.train(params, {}, x, key=key, hyper={**hyper, "dropout": rate})[0]
    )
    return np.asarray(train(rate, jax.random.key(seed)), np.float64)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_drops_its_share_and_keeps_the_mean(rate):
    a = dropped(rate, 0)
    kept = a != 0
    assert_allclose(a[kept], 1 / (1 - rate), rtol=1e-6)
    error = np.sqrt(rate * (1 - rate) / a.size)
    assert abs(kept.mean() - (1 - rate)) < STANDARD_ERRORS * error
    for axis in (0, 1):  # also of every row and of every unit
        share = kept.mean(axis)
        assert np.abs(share - (1 - rate)).max() < 1.2 * STANDARD_ERRORS * error * np.sqrt(share.size)


def test_dropout_0_drops_nothing():
    assert np.all(dropped(0.0, 0) == 1)


def test_dropout_is_drawn_anew_for_every_key_layer_row_and_unit():
    first = dropped(0.5, 0) != 0
    both = dropped(0.5, 0, layers=2) != 0  # kept by both layers: a quarter, if they are independent
    assert not np.any(both & ~first)
    standard_error = np.sqrt(3 / 16 / first.size)
    assert abs(both.mean() - 1 / 4) < STANDARD_ERRORS * standard_error
    assert abs((first & (dropped(0.5, 1) != 0)).mean() - 1 / 4) < STANDARD_ERRORS * standard_error
    rows = first[1:] & first[:-1]
    assert abs(rows.mean() - 1 / 4) < 1.5 * STANDARD_ERRORS * standard_error
    units = first[:, 1:] & first[:, :-1]
    assert abs(units.mean() - 1 / 4) < 1.5 * STANDARD_ERRORS * standard_error


STEPS, BATCH, UNITS = 60, 32, 48


@functools.cache
def masks():
    """What is kept at rate 0.3 in three layers over many steps, `[steps, layers, batch, units]`."""

    def step(number):
        key = jax.random.fold_in(jax.random.key(3), number)
        x = jnp.ones((BATCH, UNITS))
        return jnp.stack([dropout(key, x, rate=0.3, layer=layer) != 0 for layer in range(3)])

    return np.asarray(jax.jit(jax.vmap(step))(jnp.arange(STEPS)), np.float64)


@pytest.mark.parametrize("axis", [0, 1, 2, 3], ids=["steps", "layers", "rows", "units"])
@pytest.mark.parametrize("apart", [1, 2])
def test_masks_are_uncorrelated_along_every_axis(axis, apart):
    kept = np.moveaxis((masks() - 0.7) / np.sqrt(0.21), axis, 0)
    products = kept[apart:] * kept[:-apart]
    assert abs(products.mean()) < STANDARD_ERRORS / np.sqrt(products.size)


def test_every_unit_is_kept_as_often_as_the_rate_says():
    counts = masks().sum((0, 1, 2))  # of 5,760 draws a unit
    draws = STEPS * 3 * BATCH
    chi_square = ((counts - 0.7 * draws) ** 2).sum() / (draws * 0.21)
    assert abs(chi_square - UNITS) < STANDARD_ERRORS * np.sqrt(2 * UNITS)


def test_a_mask_does_not_depend_on_the_shape_around_it():
    key, x = jax.random.key(1), jnp.ones((20, 30))
    large = dropout(key, x, rate=0.4, layer=2)
    small = dropout(key, x[:7, :11], rate=0.4, layer=2)
    np.testing.assert_array_equal(large[:7, :11], small)


def test_gradient_and_type_are_those_of_the_mask():
    x = jnp.ones((8, 5), jnp.bfloat16)
    y, back = jax.vjp(lambda x: dropout(jax.random.key(0), x, rate=0.5), x)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(back(y)[0], 2 * y)


@pytest.mark.parametrize("rate", [-0.1, 1, 1.5, float("nan"), np.float32(1)])
def test_a_rate_outside_its_range_is_refused(rate):
    with pytest.raises(InputError, match=r"a dropout rate lies in \[0, 1\), but got rate="):
        dropout(jax.random.key(0), jnp.ones((2, 2)), rate=rate)


def test_without_a_key_nothing_is_dropped():
    x = jnp.ones((4, 3))
    assert dropout(None, x, 0.9) is x
    assert dropout(None, x, jnp.asarray(0.9)) is x


def test_members_with_traced_rates_are_what_each_is_alone():
    rates, shared = jnp.array([0.0, 0.3, 0.9]), jax.random.key(4)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(64, 96)), jnp.float32)

    def mean_and_gradient(rate, x):
        return jax.value_and_grad(lambda x: dropout(shared, x, rate, layer=1).mean())(x)

    _, gradients = jax.jit(jax.vmap(mean_and_gradient, (0, None)))(rates, x)
    for rate, gradient in zip(rates.tolist(), gradients, strict=True):
        alone = dropout(shared, x, rate, layer=1)
        kept = np.asarray(gradient) != 0
        np.testing.assert_array_equal(kept, np.asarray(alone) != 0)
        assert_allclose(alone[kept], x[kept] / (1 - rate), rtol=1e-6)
        assert_allclose(gradient[kept], 1 / (1 - rate) / x.size, rtol=1e-6)
    kept = np.asarray(gradients) != 0
    assert (kept[1] >= kept[2]).all()  # the same draws: what a high rate keeps, a low one keeps too


@pytest.mark.parametrize("shape", [(96,), (16, 4, 96), (4, 4, 4, 96)])
def test_all_axes_but_the_last_are_rows(shape):
    key, x = jax.random.key(2), jnp.ones(shape)
    flat = dropout(key, x.reshape(-1, 96), 0.4, layer=3)
    np.testing.assert_array_equal(dropout(key, x, 0.4, layer=3), flat.reshape(shape))


def identity_and_dropout(kernel, x, key, rate):
    """Outputs in which training sees what is dropped: a model of its own for a task."""
    return dropout(key, x @ kernel, rate)


def test_a_model_of_plain_functions_drops_in_training_alone():
    model = jbn.model(lambda key, x, outputs: jnp.eye(x.shape[1], outputs), identity_and_dropout)
    hyper, x = {"outputs": 32, "rate": jnp.float32(0.5)}, jnp.ones((64, 32))
    kernel, _ = model.init(jax.random.key(0), hyper, jax.ShapeDtypeStruct((1, 32), x.dtype))
    y, _ = model.train(kernel, {}, x, key=jax.random.key(1), hyper=hyper)
    assert abs((np.asarray(y) == 0).mean() - 0.5) < STANDARD_ERRORS * 0.5 / np.sqrt(y.size)
    assert set(np.unique(y)) == {0.0, 2.0}
    np.testing.assert_array_equal(model.infer(kernel, {}, x, hyper=hyper), x)
    whole, half = (
        model.train(kernel, {}, rows, key=jax.random.key(1), hyper=hyper)[0] for rows in (x, x[:9])
    )
    np.testing.assert_array_equal(whole[:9], half)
