"""Layers in place of flax's own: the same results where flax's are exact, the same variables."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import jbn
from jbn.errors import InputError

KEY = jax.random.key(0)


def draw(*shape, seed=0, mean=0.0):
    return jnp.asarray(np.random.default_rng(seed).normal(mean, size=shape), jnp.float32)


def textbook(x, axes, where=True):
    """Mean and biased variance in float64."""
    x = np.asarray(x, np.float64)
    return x.mean(axes, where=where), x.var(axes, where=where)


def linen(layer, x, *, scale=None, bias=None, **call):
    """Output and statistics after one training step."""
    variables = layer.init(KEY, x)
    params = dict(variables.get("params", {}))
    params |= {name: value for name, value in (("scale", scale), ("bias", bias)) if value is not None}
    return layer.apply({**variables, "params": params}, x, mutable=["batch_stats"], **call)


SETTINGS = [
    {},
    {"momentum": 0.5, "epsilon": 1e-3},
    {"momentum": 1.0},
    {"use_bias": False},
    {"use_scale": False},
    {"use_bias": False, "use_scale": False},
    {"axis": 1},
]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("shape", [(16, 6), (4, 6, 5, 3)])
def test_linen_batch_norm_is_that_of_flax(settings, shape):
    x = draw(*shape, mean=2.0)
    channels = x.shape[settings.get("axis", -1)]
    values = {
        name: draw(channels, seed=place)
        for place, name in enumerate(("scale", "bias"))
        if settings.get(f"use_{name}", True)
    }

    def run(kind, x):
        layer = kind(use_running_average=False, use_fast_variance=False, **settings)
        y, updated = linen(layer, x, **values)
        return jnp.sum(jnp.sin(y)), (y, updated["batch_stats"])

    (_, own), gradient = jax.value_and_grad(run, 1, has_aux=True)(jbn.linen.BatchNorm, x)
    (_, theirs), expected = jax.value_and_grad(run, 1, has_aux=True)(nn.BatchNorm, x)
    assert jax.tree.structure(own) == jax.tree.structure(theirs)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), own, theirs)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-5)


def test_a_checkpoint_of_flax_is_one_of_ours():
    x = draw(8, 3)
    theirs, own = nn.BatchNorm(use_running_average=True), jbn.linen.BatchNorm(use_running_average=True)
    variables = theirs.init(KEY, x)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, own.init(KEY, x))
    variables = jax.tree.map(lambda a: a + draw(3, seed=3) ** 2, variables)
    np.testing.assert_allclose(own.apply(variables, x), theirs.apply(variables, x), rtol=1e-5, atol=1e-6)


def test_it_is_exact_where_the_mean_is_large():
    """Flax's default loses the variance there; in float64 the answer is known."""
    x = draw(64, 4, mean=1e4)
    _, updated = linen(jbn.linen.BatchNorm(use_running_average=False, momentum=0.0), x)
    mean, var = textbook(x, 0)
    np.testing.assert_allclose(updated["batch_stats"]["mean"], mean, rtol=1e-6)
    np.testing.assert_allclose(updated["batch_stats"]["var"], var, rtol=1e-5)


def test_initialisation_moves_no_statistics():
    variables = jbn.linen.BatchNorm(use_running_average=False).init(KEY, draw(8, 3, mean=5.0))
    np.testing.assert_array_equal(variables["batch_stats"]["mean"], np.zeros(3))
    np.testing.assert_array_equal(variables["batch_stats"]["var"], np.ones(3))


@pytest.mark.parametrize("shape", [(8, 5, 1), (8, 1, 1), (8, 5, 3)])
def test_masks_count_as_in_flax(shape):
    x, mask = draw(8, 5, 3, mean=1.0), np.random.default_rng(4).random(shape) < 0.6
    layer = jbn.linen.BatchNorm(use_running_average=False, momentum=0.0)
    y, updated = linen(layer, x, mask=jnp.asarray(mask))
    mean, var = textbook(x, (0, 1), np.broadcast_to(mask, x.shape))
    np.testing.assert_allclose(updated["batch_stats"]["mean"], mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(updated["batch_stats"]["var"], var, rtol=1e-5)
    expected = (np.asarray(x) - mean) / np.sqrt(var + 1e-5)
    counts = np.broadcast_to(mask, x.shape)
    np.testing.assert_allclose(np.asarray(y)[counts], expected[counts], rtol=1e-4, atol=1e-5)


def test_members_of_a_mapped_axis_are_pooled():
    x = draw(2, 8, 3, mean=1.0)
    layer = jbn.linen.BatchNorm(use_running_average=False, momentum=0.0, axis_name="members")
    variables = layer.init(KEY, x[0])
    _, updated = jax.vmap(lambda x: layer.apply(variables, x, mutable=["batch_stats"]), axis_name="members")(
        x
    )
    mean, var = textbook(x, (0, 1))
    for own in updated["batch_stats"]["mean"]:
        np.testing.assert_allclose(own, mean, rtol=1e-5)
    np.testing.assert_allclose(updated["batch_stats"]["var"][1], var, rtol=1e-5)


def test_a_batch_of_one_comes_out_as_in_flax():
    x = draw(1, 3)
    y, updated = linen(jbn.linen.BatchNorm(use_running_average=False, momentum=0.5), x)
    theirs, expected = linen(nn.BatchNorm(use_running_average=False, momentum=0.5), x)
    np.testing.assert_allclose(y, theirs, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), updated, expected)


@pytest.mark.parametrize("dtype", [None, jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize("given", [jnp.bfloat16, jnp.float32])
def test_types_are_those_of_flax(dtype, given):
    x = draw(8, 3).astype(given)
    for own, theirs in [(jbn.linen.BatchNorm, nn.BatchNorm)]:
        found, expected = (linen(kind(use_running_average=False, dtype=dtype), x) for kind in (own, theirs))
        assert jax.tree.map(jnp.result_type, found) == jax.tree.map(jnp.result_type, expected)


def test_whole_numbers_are_refused():
    with pytest.raises(InputError, match="floating-point numbers, but got int32; convert"):
        jbn.linen.BatchNorm(use_running_average=False).init(KEY, jnp.ones((4, 3), jnp.int32))


@pytest.mark.parametrize("settings", SETTINGS[:-1])
def test_nnx_batch_norm_is_that_of_flax(settings):
    x = draw(16, 6, mean=2.0)

    def run(kind):
        layer = kind(6, rngs=nnx.Rngs(0), use_fast_variance=False, **settings)
        y = layer(x)
        layer.eval()
        return y, layer(x), nnx.to_pure_dict(nnx.state(layer))

    own, theirs = run(jbn.nnx.BatchNorm), run(nnx.BatchNorm)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), own, theirs)


def test_nnx_batch_norm_asks_which_statistics_it_uses():
    with pytest.raises(InputError, match="must know which statistics it uses: pass use_running_average"):
        jbn.nnx.BatchNorm(3, use_running_average=None, rngs=nnx.Rngs(0))(draw(4, 3))


def test_dropout_keeps_the_mean_and_drops_the_share():
    x = jnp.ones((200, 300))
    layer = jbn.linen.Dropout(0.3, deterministic=False)
    y = layer.apply({}, x, rngs={"dropout": KEY})
    np.testing.assert_allclose(y[y > 0], 1 / 0.7, rtol=1e-6)
    share = float(jnp.mean(y == 0))
    assert abs(share - 0.3) < 5 * np.sqrt(0.21 / x.size)  # five standard errors


@pytest.mark.parametrize("make", ["linen", "nnx"])
def test_a_rate_may_be_traced_up_to_one(make):
    x = jnp.ones((8, 16))

    @jax.jit
    def run(rate, x):
        if make == "linen":
            return jbn.linen.Dropout(rate, deterministic=False).apply({}, x, rngs={"dropout": KEY})
        return jbn.nnx.Dropout(rate, rngs=nnx.Rngs(0))(x)

    assert float(run(0.0, x).min()) == 1.0
    assert 0 < int((run(0.5, x) == 0).sum()) < x.size
    assert float(jnp.abs(run(1.0, x)).max()) == 0.0
    gradient = jax.grad(lambda x: jnp.sum(run(1.0, x)))(x)
    np.testing.assert_array_equal(gradient, np.zeros(x.shape))


@pytest.mark.parametrize("make", ["linen", "nnx"])
def test_dropout_is_off_at_inference_and_shares_draws_where_it_is_told(make):
    x = jnp.ones((8, 16))
    if make == "linen":
        layer = jbn.linen.Dropout(0.5, broadcast_dims=(0,))
        off = layer.apply({}, x, deterministic=True)
        y = layer.apply({}, x, deterministic=False, rngs={"dropout": KEY})
    else:
        layer = jbn.nnx.Dropout(0.5, broadcast_dims=(0,), rngs=nnx.Rngs(0))
        off, y = layer(x, deterministic=True), layer(x)
    np.testing.assert_array_equal(off, x)
    np.testing.assert_array_equal(y, np.broadcast_to(y[0], y.shape))
    assert 0 < int((y[0] == 0).sum()) < 16


def test_a_rate_that_is_none_is_refused():
    with pytest.raises(InputError, match=r"lies in \[0, 1\], but got rate=1.5"):
        jbn.linen.Dropout(1.5, deterministic=False).apply({}, jnp.ones((2, 2)), rngs={"dropout": KEY})


def test_nnx_dropout_without_streams_says_what_it_needs():
    with pytest.raises(InputError, match="needs rngs: Dropout"):
        jbn.nnx.Dropout(0.5)(jnp.ones((2, 2)))
