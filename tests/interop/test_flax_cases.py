"""What flax documents of its batch norm and dropout, asked of flax's layers and of those in their place alike."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import errors, nnx
from flax import linen as nn

import jbn

KEY = jax.random.key(0)
LINEN = [nn.BatchNorm, jbn.linen.BatchNorm]
NNX = [nnx.BatchNorm, jbn.nnx.BatchNorm]
linen_norms = pytest.mark.parametrize("kind", LINEN, ids=["flax", "jbn"])
nnx_norms = pytest.mark.parametrize("kind", NNX, ids=["flax", "jbn"])


def draw(*shape, seed=0, mean=0.0, deviation=1.0):
    return jnp.asarray(np.random.default_rng(seed).normal(mean, deviation, shape), jnp.float32)


def mask_of(*shape):
    return jnp.asarray(np.random.default_rng(7).random(shape) < 0.6)


@linen_norms
@pytest.mark.parametrize("masked", [False, True])
def test_a_batch_becomes_standard_and_moves_the_averages_by_a_tenth(kind, masked):
    """Masked entries are no numbers, and every channel has a mask of its own."""
    x = draw(4, 3, 2, mean=3.0, deviation=2.0)
    mask = mask_of(4, 3, 2) if masked else None
    counts = np.asarray(mask) if masked else np.ones(x.shape, bool)
    given = jnp.where(counts, x, jnp.nan)
    layer = kind(momentum=0.9, use_running_average=False)
    variables = layer.init(KEY, given, mask=mask)
    y, updated = layer.apply(variables, given, mask=mask, mutable=["batch_stats"])
    np.testing.assert_allclose(np.mean(y, (0, 1), where=counts), 0, atol=1e-4)
    np.testing.assert_allclose(np.var(y, (0, 1), where=counts), 1, rtol=1e-4)
    mean, var = np.mean(x, (0, 1), where=counts), np.var(x, (0, 1), where=counts)
    np.testing.assert_allclose(updated["batch_stats"]["mean"], 0.1 * mean, rtol=1e-4)
    np.testing.assert_allclose(updated["batch_stats"]["var"], 0.9 + 0.1 * var, rtol=1e-4)


@linen_norms
@pytest.mark.parametrize("masked", [False, True])
def test_complex_numbers_have_a_complex_mean_and_a_real_variance(kind, masked):
    x = jax.lax.complex(draw(4, 3, 2, mean=1.0), draw(4, 3, 2, seed=1, mean=-2.0, deviation=3.0))
    mask = mask_of(4, 3, 1) if masked else None
    counts = np.broadcast_to(np.asarray(mask) if masked else True, x.shape)
    layer = kind(momentum=0.9, use_running_average=False, dtype=jnp.complex64)
    variables = layer.init(KEY, x, mask=mask)
    y, updated = layer.apply(variables, x, mask=mask, mutable=["batch_stats"])
    assert y.dtype == jnp.complex64
    np.testing.assert_allclose(np.mean(y, (0, 1), where=counts), 0, atol=1e-4)
    np.testing.assert_allclose(np.var(y, (0, 1), where=counts), 1, rtol=1e-4)
    mean, var = np.mean(x, (0, 1), where=counts), np.var(x, (0, 1), where=counts)
    stats = updated["batch_stats"]
    assert stats["mean"].dtype == jnp.complex64
    assert stats["var"].dtype == jnp.float32
    np.testing.assert_allclose(stats["mean"], 0.1 * mean, rtol=1e-4)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * var, rtol=1e-4)
    # and these normalise, in a layer that infers
    params = {"scale": jnp.array([2.0, 3.0]), "bias": jnp.array([1.0, -1.0])}
    z = kind(use_running_average=True).apply({"params": params, "batch_stats": stats}, x)
    deviation = np.asarray(x) - np.asarray(stats["mean"])
    expected = deviation / np.sqrt(stats["var"] + 1e-5) * [2.0, 3.0] + [1.0, -1.0]
    np.testing.assert_allclose(z, expected, rtol=1e-4, atol=1e-4)


def test_complex_numbers_in_nnx():
    x = jax.lax.complex(draw(6, 2, mean=1.0), draw(6, 2, seed=1, deviation=3.0))
    layer = jbn.nnx.BatchNorm(2, momentum=0.5, use_running_average=False, rngs=nnx.Rngs(0))
    y = layer(x)
    np.testing.assert_allclose(np.mean(y, 0), 0, atol=1e-5)
    np.testing.assert_allclose(np.var(y, 0), 1, rtol=1e-4)
    np.testing.assert_allclose(
        layer.mean[...], 0.5 * np.mean(x, 0), rtol=1e-5
    )  # flax drops the imaginary part
    np.testing.assert_allclose(layer.var[...], 0.5 + 0.5 * np.var(x, 0), rtol=1e-5)


def test_gradients_of_complex_numbers_are_those_of_flax():
    x = jax.lax.complex(draw(5, 2, mean=1.0), draw(5, 2, seed=1, deviation=3.0))
    weights = jax.lax.complex(draw(5, 2, seed=2), draw(5, 2, seed=3))

    def loss(kind, x):
        layer = kind(use_running_average=False, use_fast_variance=False)
        y, _ = layer.apply(layer.init(KEY, x), x, mutable=["batch_stats"])
        return jnp.sum(jnp.real(y * weights) ** 2)

    theirs, own = (jax.grad(loss, 1)(kind, x) for kind in LINEN)
    np.testing.assert_allclose(own, theirs, rtol=1e-4, atol=1e-5)


@linen_norms
def test_initialisation_needs_no_mapped_axis_and_may_call_a_layer_twice(kind):
    class Twice(nn.Module):
        @nn.compact
        def __call__(self, x):
            norm = kind(name="norm", use_running_average=False, axis_name="members")
            once = norm(x)
            return once, norm(once)

    (once, twice), variables = Twice().init_with_output(KEY, draw(2, 4))
    np.testing.assert_allclose(once, twice, rtol=1e-4)
    np.testing.assert_array_equal(variables["batch_stats"]["norm"]["mean"], np.zeros(4))


@linen_norms
def test_members_of_a_mapped_axis_share_statistics(kind):
    x = jnp.stack([draw(8, 3, seed=member, mean=member) for member in range(4)])
    layer = kind(use_running_average=False, momentum=0.5, axis_name="members")
    variables = layer.init(KEY, x[0])
    y, updated = jax.vmap(lambda x: layer.apply(variables, x, mutable=["batch_stats"]), axis_name="members")(
        x
    )
    mean, var = np.mean(x, (0, 1)), np.var(x, (0, 1))
    for member in range(4):
        np.testing.assert_allclose(updated["batch_stats"]["mean"][member], 0.5 * mean, rtol=1e-4)
        np.testing.assert_allclose(updated["batch_stats"]["var"][member], 0.5 + 0.5 * var, rtol=1e-4)
    np.testing.assert_allclose(y, (np.asarray(x) - np.asarray(mean)) / np.sqrt(var + 1e-5), atol=1e-3)


@linen_norms
def test_which_statistics_are_used_is_said_in_exactly_one_place(kind):
    x = draw(4, 3)
    with pytest.raises(ValueError, match="use_running_average"):
        kind().init(KEY, x)
    with pytest.raises(ValueError, match="use_running_average"):
        kind(use_running_average=False).init(KEY, x, use_running_average=True)


@linen_norms
def test_training_moves_statistics_only_where_they_are_mutable(kind):
    x, layer = draw(4, 3, mean=2.0), kind()
    variables = layer.init(KEY, x, use_running_average=True)
    with pytest.raises(errors.ModifyScopeVariableError):
        layer.apply(variables, x, use_running_average=False)
    _, kept = layer.apply(variables, x, use_running_average=True, mutable=["batch_stats"])
    np.testing.assert_array_equal(kept["batch_stats"]["mean"], variables["batch_stats"]["mean"])


@linen_norms
@pytest.mark.parametrize("axis", [1, -1, (1, -1), (-1, 1), (0, 2)])
def test_any_axes_may_be_the_features(kind, axis):
    x = draw(4, 3, 2, mean=1.0)
    layer = kind(use_running_average=False, axis=axis, momentum=0.0)
    variables = layer.init(KEY, x)
    y, updated = layer.apply(variables, x, mutable=["batch_stats"])
    features = sorted(own % 3 for own in np.atleast_1d(axis))
    reduced = tuple(own for own in range(3) if own not in features)
    assert variables["params"]["scale"].shape == tuple(x.shape[own] for own in features)
    np.testing.assert_allclose(updated["batch_stats"]["mean"], x.mean(reduced), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(y.mean(reduced), 0, atol=1e-5)
    np.testing.assert_allclose(y.var(reduced), 1, rtol=1e-2)  # few values: epsilon shows


@linen_norms
@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("param_dtype", [jnp.float32, jnp.bfloat16])
def test_dtypes_of_parameters_and_statistics(kind, param_dtype, wide):
    x = draw(8, 3).astype(jnp.bfloat16)
    layer = kind(use_running_average=False, param_dtype=param_dtype, force_float32_reductions=wide)
    variables = layer.init(KEY, x)
    assert {own.dtype for own in variables["params"].values()} == {jnp.dtype(param_dtype)}
    expected = jnp.dtype(jnp.float32 if wide else param_dtype)
    assert {own.dtype for own in variables["batch_stats"].values()} == {expected}
    y, _ = layer.apply(variables, x, mutable=["batch_stats"])
    assert y.dtype == jnp.result_type(x.dtype, param_dtype)


@linen_norms
def test_initialisers_give_scale_and_bias(kind):
    layer = kind(
        use_running_average=True,
        scale_init=nn.initializers.constant(2),
        bias_init=nn.initializers.constant(3),
    )
    y, variables = layer.init_with_output(KEY, jnp.ones((4, 2)))
    np.testing.assert_array_equal(variables["params"]["scale"], [2, 2])
    np.testing.assert_allclose(y, 5, rtol=1e-4)


@linen_norms
def test_a_constant_channel_of_large_numbers_has_no_negative_variance(kind):
    x = jnp.full((64, 2), 4097.3)
    layer = kind(use_running_average=False, momentum=0.0)
    y, updated = layer.apply(layer.init(KEY, x), x, mutable=["batch_stats"])
    assert float(updated["batch_stats"]["var"].min()) >= 0
    assert bool(jnp.isfinite(y).all())


@nnx_norms
@pytest.mark.parametrize("dtype", [None, jnp.float32, jnp.float16])
@pytest.mark.parametrize("param_dtype", [jnp.float32, jnp.float16])
@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("masked", [False, True])
def test_nnx_is_as_linen(kind, dtype, param_dtype, fast, masked):
    x, mask = (
        draw(10, 5),
        jnp.array([True, False, True, False, True])[:, None].repeat(2, 0) if masked else None,
    )
    settings = {"dtype": dtype, "param_dtype": param_dtype, "use_fast_variance": fast}
    layer = LINEN[NNX.index(kind)](use_running_average=False, **settings)
    expected, updated = layer.apply(layer.init(KEY, x), x, mask=mask, mutable=["batch_stats"])
    own = kind(5, use_running_average=False, rngs=nnx.Rngs(0), **settings)
    y = own(x, mask=mask)
    assert y.dtype == expected.dtype
    half = jnp.float16 in (dtype, param_dtype)
    np.testing.assert_allclose(y, expected, rtol=2e-3 if half else 1e-6, atol=2e-3 if half else 1e-6)
    np.testing.assert_allclose(own.mean[...], updated["batch_stats"]["mean"], rtol=2e-3, atol=1e-6)
    np.testing.assert_allclose(own.var[...], updated["batch_stats"]["var"], rtol=2e-3)


@nnx_norms
def test_nnx_trains_and_infers_by_its_mode_or_by_the_call(kind):
    x, layer = draw(16, 3, mean=4.0), kind(3, momentum=0.0, rngs=nnx.Rngs(0))
    layer.train()
    standard = layer(x)
    np.testing.assert_allclose(standard.mean(0), 0, atol=1e-5)
    layer.eval()
    np.testing.assert_allclose(layer(x), standard, atol=1e-4)  # the statistics are those of this batch
    np.testing.assert_allclose(layer(x + 1).mean(0), 1 / np.asarray(x.std(0)), rtol=1e-3)
    moved = layer(x + 1, use_running_average=False)  # the call has the last word, and moves them
    np.testing.assert_allclose(moved.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(layer.mean[...], (x + 1).mean(0), rtol=1e-5)


@nnx_norms
def test_nnx_state_has_the_types_of_flax(kind):
    layer = kind(3, use_bias=False, rngs=nnx.Rngs(0))
    assert isinstance(layer.mean, nnx.BatchStat)
    assert isinstance(layer.scale, nnx.Param)
    assert layer.bias is None
    assert set(nnx.to_pure_dict(nnx.state(layer, nnx.BatchStat))) == {"mean", "var"}


@nnx_norms
def test_nnx_transforms_carry_the_statistics(kind):
    """Under jit, and as an ensemble of layers under vmap, also at a second call."""
    x = draw(3, 8, 2, mean=5.0)

    @nnx.vmap
    def make(rngs):
        return kind(2, momentum=0.5, use_running_average=False, rngs=rngs)

    layers = make(nnx.Rngs(0).split(3))
    step = nnx.jit(nnx.vmap(lambda layer, x: layer(x)))
    for _ in range(2):
        y = step(layers, x)
    np.testing.assert_allclose(y.mean(1), 0, atol=1e-4)
    np.testing.assert_allclose(layers.mean[...], 0.75 * x.mean(1), rtol=1e-4)


@pytest.mark.parametrize("kind", [nn.Dropout, jbn.linen.Dropout], ids=["flax", "jbn"])
def test_dropout_of_linen(kind):
    x, layer = jnp.ones((20, 20)), kind(rate=0.5)
    keys = jax.random.split(KEY)
    one, other = (layer.apply({}, x, deterministic=False, rngs={"dropout": key}) for key in keys)
    assert not np.array_equal(one, other)
    again = layer.apply({}, x, deterministic=False, rngs={"dropout": keys[0]})
    np.testing.assert_array_equal(one, again)
    np.testing.assert_array_equal(layer.apply({}, x, deterministic=True), x)
    own = [layer.apply({}, x, deterministic=False, rng=key) for key in (keys[0], keys[0], keys[1])]
    np.testing.assert_array_equal(own[0], own[1])
    assert not np.array_equal(own[1], own[2])
    np.testing.assert_array_equal(kind(0.0, deterministic=False).apply({}, x), x)  # no stream is needed
    all_gone = kind(1.0, deterministic=False).apply({}, x, rngs={"dropout": KEY})
    np.testing.assert_array_equal(all_gone, 0 * x)


@pytest.mark.parametrize("kind", [nn.Dropout, jbn.linen.Dropout], ids=["flax", "jbn"])
def test_dropout_keeps_the_share_for_every_rate(kind):
    """Within five standard errors."""
    for place, rate in enumerate(np.arange(0.1, 1.0, 0.2)):
        layer = kind(rate=float(rate), deterministic=False)
        y = layer.apply({}, jnp.ones((400, 250)), rngs={"dropout": jax.random.fold_in(KEY, place)})
        error = 5 * np.sqrt(rate * (1 - rate) / y.size)
        assert abs(float(jnp.mean(y > 0)) - (1 - rate)) < error


@pytest.mark.parametrize("kind", [nnx.Dropout, jbn.nnx.Dropout], ids=["flax", "jbn"])
def test_dropout_of_nnx(kind):
    x, layer = jnp.ones((20, 20)), kind(0.5, rngs=nnx.Rngs(0))
    assert not np.array_equal(layer(x), layer(x))  # its stream goes on
    same = [layer(x, rngs=nnx.Rngs(dropout=3)) for _ in range(2)]
    np.testing.assert_array_equal(*same)
    layer.eval()
    np.testing.assert_array_equal(layer(x), x)
    assert not np.array_equal(layer(x, deterministic=False), x)
