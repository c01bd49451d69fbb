"""Batches too small, empty, constant or without a value that counts; and what callers get wrong."""

import functools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from jbn import batch_norm
from jbn.nn.batch_norm import BatchNormParams, BatchNormStats, Moments

CHANNELS = 3
PARAMS = BatchNormParams(np.array([0.5, 2.0, -1.0], np.float32), np.array([0.3, -0.7, 4.0], np.float32))
STATS = BatchNormStats(
    np.array([1.0, -2.0, 3.0], np.float32), np.array([0.5, 1.0, 2.0], np.float32), np.float32(3)
)
X = np.random.default_rng(0).normal([0.0, 5.0, -20.0], [1.0, 0.1, 9.0], (10, CHANNELS)).astype(np.float32)
WEIGHTS = np.random.default_rng(1).normal(size=X.shape).astype(np.float32)
epsilons = pytest.mark.parametrize("epsilon", [0.0, 1e-5])

train = jax.jit(batch_norm.train, static_argnames=("channel_axis", "ddof"))
moments = jax.jit(batch_norm.moments, static_argnames="channel_axis")
infer = jax.jit(batch_norm.infer)


@jax.jit
def gradients(params, x, weights, epsilon, mask=None):
    """Of the weighted outputs, by params and inputs."""

    def score(params, x):
        return jnp.sum(weights * batch_norm.train(params, STATS, x, epsilon=epsilon, mask=mask)[0])

    return jax.grad(score, argnums=(0, 1))(params, x)


def everything(params, stats, x, epsilon, mask):
    """Outputs, new statistics, and gradients through both."""

    def score(params, x):
        y, after = batch_norm.train(params, stats, x, epsilon=epsilon, mask=mask, ddof=1)
        return jnp.sum(y**2) + jnp.sum(jnp.sin(after.mean) + jnp.cos(after.var)), (y, after)

    return jax.value_and_grad(score, argnums=(0, 1), has_aux=True)(params, x)


everything = jax.jit(everything)


def constant(value=0.1):
    x = X.copy()
    x[:, 1] = value
    return x


# too few values


@pytest.mark.parametrize(
    ("shape", "channel_axis", "values"),
    [
        ((1, CHANNELS), -1, 1),
        ((0, CHANNELS), -1, 0),
        ((CHANNELS,), -1, 1),
        ((1, 1, 1, CHANNELS), -1, 1),
        ((0, 4, 4, CHANNELS), -1, 0),
        ((1, CHANNELS, 1, 1), 1, 1),
        ((CHANNELS, 1), 0, 1),
    ],
)
def test_training_needs_two_values_a_channel(shape, channel_axis, values):
    params, stats = batch_norm.init(CHANNELS)
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    message = (
        f"needs at least two values a channel, but x of shape {shape} has {values}; you might need a larger"
    )
    with pytest.raises(ValueError, match=re.escape(message)) as error:  # traced, not run
        jax.eval_shape(functools.partial(batch_norm.train, channel_axis=channel_axis), params, stats, x)
    assert str(error.value).endswith("a larger batch, or infer in place of train")


def test_for_moments_two_values_are_needed_as_well():
    with pytest.raises(ValueError, match=r"needs at least two values a channel"):
        train(None, Moments.empty(CHANNELS), X[:1])


def test_moments_must_fit_the_channels_too():
    wide = Moments.empty(CHANNELS)
    for wrong in (wide._replace(mean=jnp.zeros(CHANNELS + 1)), wide._replace(m2=jnp.zeros(CHANNELS + 1))):
        with pytest.raises(AssertionError, match=r"batch norm's (mean|m2) must fit channel axis 1"):
            batch_norm.train(None, wrong, jnp.asarray(X))


@pytest.mark.parametrize("shape", [(2, CHANNELS), (1, 2, 1, CHANNELS), (1, 1, 2, CHANNELS)])
def test_two_values_are_enough(shape):
    y, after = train(PARAMS, STATS, X[:2].reshape(shape), epsilon=0.0, ddof=1)
    sign = np.sign(X[:2] - X[:2].mean(0))
    assert_allclose(y.reshape(2, CHANNELS), PARAMS.scale * sign + PARAMS.bias, rtol=1e-4)
    assert_allclose(after.var, STATS.var + (X[:2].var(0, ddof=1) - STATS.var) / 3.7, rtol=1e-4)


def pooled_train(x):
    one = functools.partial(batch_norm.train, PARAMS, STATS, axis_name="device")
    return jax.vmap(one, axis_name="device")(x)


def test_one_row_a_member_is_enough_where_members_are_pooled():
    y, after = jax.jit(pooled_train)(X[:4, None])
    together, expected = train(PARAMS, STATS, X[:4])
    assert_allclose(y[:, 0], together, atol=1e-5)
    for member in range(4):
        chex.assert_trees_all_close(jax.tree.map(lambda a, i=member: a[i], after), expected, rtol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1, CHANNELS), (4, 0, CHANNELS)], ids=["one row in all", "no row"])
def test_pooled_members_need_two_values_together(shape):
    with pytest.raises(ValueError, match=r"at least two values a channel, but .* has [01]; you might"):
        jax.eval_shape(pooled_train, jax.ShapeDtypeStruct(shape, jnp.float32))


@pytest.mark.parametrize("shape", [(0, CHANNELS), (0, 5, 2, CHANNELS), (4, 0, CHANNELS)])
def test_moments_of_an_empty_batch_are_0(shape):
    zeros = jnp.zeros(CHANNELS)
    chex.assert_trees_all_equal(moments(jnp.zeros(shape)), Moments(jnp.zeros(()), zeros, zeros, zeros))


def test_inference_knows_no_least_batch():
    assert infer(PARAMS, STATS, X[:0]).shape == (0, CHANNELS)
    assert_allclose(infer(PARAMS, STATS, X[:1])[0], infer(PARAMS, STATS, X[0]), rtol=1e-6)


# no variance


@epsilons
def test_the_only_value_that_counts_comes_out_as_the_bias(epsilon):
    mask = np.arange(10) == 6
    y, after = train(PARAMS, STATS, np.where(mask[:, None], X, np.nan), epsilon=epsilon, mask=mask, ddof=1)
    assert_allclose(y, np.where(mask[:, None], PARAMS.bias[None], 0), atol=1e-6)
    assert_allclose(after.mean, STATS.mean + (X[6] - STATS.mean) / 3.7, rtol=1e-5)
    assert_allclose(after.var, STATS.var - STATS.var / 3.7, rtol=1e-5)
    assert_allclose(after.count, 3.7, rtol=1e-6)


@epsilons
def test_gradients_of_the_only_value_that_counts_are_those_of_a_constant(epsilon):
    mask = np.arange(10) == 6
    dparams, dx = gradients(PARAMS, X, WEIGHTS, epsilon, mask)
    assert_allclose(dx, np.zeros_like(X), atol=1e-5)
    assert_allclose(dparams.scale, np.zeros(CHANNELS), atol=1e-6)
    assert_allclose(dparams.bias, WEIGHTS[6], rtol=1e-6)


@pytest.mark.parametrize("garbage", [0.0, np.nan, np.inf])
@pytest.mark.parametrize("count", [0.0, 3.0, np.inf])
def test_a_fully_masked_batch_comes_out_as_0_and_moves_nothing(count, garbage):
    stats = STATS._replace(count=np.float32(count))
    nothing, x = np.zeros(10, bool), np.full_like(X, garbage)
    y, after = train(PARAMS, stats, x, mask=nothing)
    chex.assert_trees_all_equal(after, stats)
    assert_array_equal(y, np.zeros_like(X))
    for gradient in jax.tree.leaves(gradients(PARAMS, x, WEIGHTS, 1e-5, nothing)):
        assert_array_equal(gradient, np.zeros_like(gradient))


@epsilons
@pytest.mark.parametrize("value", [0.0, 0.1, -1e4, 3.3e7])
@pytest.mark.parametrize("copies", [1, 100])
def test_a_constant_channel_comes_out_as_its_bias_with_variance_0(value, copies, epsilon):
    x = np.tile(constant(value), (copies, 1))
    y, after = train(PARAMS, STATS, x, momentum=0.0, epsilon=epsilon)
    assert_allclose(y[:, 1], np.full(len(x), PARAMS.bias[1]), atol=2e-4)
    assert_allclose(after.mean[1], value, rtol=1e-7, atol=2e-7)
    assert 0 <= float(after.var[1]) <= (1e-7 * value) ** 2
    others = x[:, ::2].astype(np.float64)
    deviation = np.sqrt(others.var(0) + epsilon)
    expected = PARAMS.scale[::2] * (others - others.mean(0)) / deviation + PARAMS.bias[::2]
    assert_allclose(y[:, ::2], expected, atol=3e-5)


@pytest.mark.parametrize("value", [0.0, 0.1, -1e4])
def test_gradients_of_a_constant_channel(value):
    """`dx = (dy - mean(dy)) * scale / sqrt(epsilon)`: of any size, but finite; with epsilon 0 there is none."""
    dparams, dx = gradients(PARAMS, constant(value), WEIGHTS, 1e-4)
    dy = WEIGHTS[:, 1].astype(np.float64)
    assert_allclose(dx[:, 1], (dy - dy.mean()) * PARAMS.scale[1] / 1e-2, rtol=1e-5, atol=1e-4)
    assert_allclose(dparams.scale[1], 0, atol=1e-4)
    assert_allclose(dparams.bias[1], dy.sum(), rtol=1e-5)
    dparams, dx = gradients(PARAMS, constant(value), WEIGHTS, 0.0)
    assert_array_equal(dx[:, 1], np.zeros(10))
    assert float(dparams.scale[1]) == 0
    chex.assert_tree_all_finite((dparams, dx))


def test_inference_with_variance_0_gives_the_bias_where_there_is_no_epsilon():
    y = infer(PARAMS, STATS._replace(var=np.zeros(CHANNELS, np.float32)), X, epsilon=0.0)
    assert_array_equal(y, np.tile(PARAMS.bias, (10, 1)))


# one spatial element


def test_one_spatial_element_is_a_dense_batch():
    y, after = train(PARAMS, STATS, X)
    for shape, axis in (((10, 1, 1, CHANNELS), -1), ((10, CHANNELS, 1, 1), 1), ((1, 10, CHANNELS), -1)):
        other, moved = train(PARAMS, STATS, X.reshape(shape), channel_axis=axis)
        assert other.shape == shape
        assert_allclose(other.reshape(X.shape), y, atol=2e-6)
        chex.assert_trees_all_close(moved, after, rtol=1e-5)


# nothing of all that makes a NaN


BATCHES = {
    "constant": (constant(), None),
    "zeros": (np.zeros_like(X), None),
    "nothing counts": (np.full_like(X, np.nan), np.zeros(10, bool)),
    "one counts": (np.where(np.arange(10)[:, None] == 3, X, np.inf), np.arange(10) == 3),
    "two equal ones count": (np.full_like(X, 0.1), np.arange(10) < 2),
    "constant far away": (np.full_like(X, 1e6), None),
    "tiny": (1e-30 * X, None),
    "far and wide": (1e15 * X, None),
}


@epsilons
@pytest.mark.parametrize("count", [0.0, 3.0, np.inf])
@pytest.mark.parametrize("batch", BATCHES)
def test_neither_nan_nor_inf_in_outputs_statistics_and_gradients(batch, count, epsilon):
    x, mask = BATCHES[batch]
    stats = STATS._replace(count=np.float32(1.0 if np.isinf(count) else count))
    results = everything(PARAMS, stats, x, epsilon, np.ones(10, bool) if mask is None else mask)
    chex.assert_tree_all_finite(results)
    frozen = STATS._replace(count=np.float32(np.inf))
    y, after = train(PARAMS, frozen, x, epsilon=epsilon, mask=mask)
    chex.assert_tree_all_finite(y)
    chex.assert_trees_all_equal(after, frozen)


# what callers get wrong


@pytest.mark.parametrize("channel_axis", [2, -3, (0, 2), (0, 0), (1, -1), ()])
@pytest.mark.parametrize("verb", ["train", "infer", "moments"])
def test_a_channel_axis_names_different_axes_of_x(verb, channel_axis):
    message = (
        f"channel_axis must name different axes of x, but got channel_axis={channel_axis} for x of shape "
    )
    arguments = () if verb == "moments" else batch_norm.init(CHANNELS)
    with pytest.raises(ValueError, match=re.escape(message + "(10, 3)")):
        getattr(batch_norm, verb)(*arguments, jnp.asarray(X), channel_axis=channel_axis)


@pytest.mark.parametrize("momentum", [1.7, -0.1, 2, float("nan")])
def test_a_momentum_is_in_the_unit_interval(momentum):
    params, stats = batch_norm.init(CHANNELS)
    message = re.escape(f"momentum must be in [0, 1], but got momentum={momentum}")
    with pytest.raises(ValueError, match=message):
        batch_norm.train(params, stats, jnp.asarray(X), momentum=momentum)
    with pytest.raises(ValueError, match=message):
        batch_norm.update(stats, batch_norm.moments(jnp.asarray(X)), momentum=momentum)


@pytest.mark.parametrize("epsilon", [-1, -1e-9, float("nan")])
@pytest.mark.parametrize("verb", ["train", "infer"])
def test_an_epsilon_is_not_negative(verb, epsilon):
    params, stats = batch_norm.init(CHANNELS)
    with pytest.raises(ValueError, match=f"epsilon must be at least 0, but got epsilon={epsilon}"):
        getattr(batch_norm, verb)(params, stats, jnp.asarray(X), epsilon=epsilon)


@pytest.mark.parametrize("features", [0, -2, (), (3, 0)])
def test_there_is_at_least_one_feature(features):
    message = re.escape(f"at least one feature, got features={features}")
    with pytest.raises(ValueError, match=message):
        batch_norm.init(features)


@pytest.mark.parametrize("count", [-1, -0.5, float("nan")])
def test_a_count_is_not_negative(count):
    with pytest.raises(ValueError, match=f"count must be at least 0, but got count={count}"):
        batch_norm.init(CHANNELS, count=count)


def test_numbers_at_the_ends_of_their_ranges_are_fine():
    params, stats = batch_norm.init(CHANNELS, count=np.inf)
    for momentum in (0, 1):
        chex.assert_tree_all_finite(
            batch_norm.train(params, stats, jnp.asarray(X), momentum=momentum, epsilon=0)[0]
        )


@pytest.mark.parametrize("name", ["scale", "bias", "mean", "var"])
@pytest.mark.parametrize(
    ("shape", "channel_axis", "axes"), [((10, 3), -1, "1"), ((2, 3, 4), 1, "1"), ((5, 3, 2), (0, 1), "0, 1")]
)
def test_parameters_and_statistics_of_training_fit_the_channels(name, shape, channel_axis, axes):
    channels = tuple(shape[axis] for axis in (channel_axis if channel_axis == (0, 1) else (channel_axis,)))
    params, stats = batch_norm.init(channels)
    wrong = {name: jnp.ones(channels[-1] + 1)}
    params = params._replace(**wrong) if name in params._fields else params
    stats = stats._replace(**wrong) if name in stats._fields else stats
    message = re.escape(f"batch norm's {name} must fit channel axis {axes} of {shape}")
    with pytest.raises(AssertionError, match=message):
        jax.eval_shape(
            functools.partial(batch_norm.train, channel_axis=channel_axis), params, stats, jnp.zeros(shape)
        )


def test_parameters_and_statistics_of_inference_fit_the_channels():
    params, stats = batch_norm.init(CHANNELS)
    wrong, wrong_stats = batch_norm.init(CHANNELS + 1)
    with pytest.raises(AssertionError, match=r"batch norm's scale must fit channel axis 1 of \(10, 3\)"):
        infer(wrong, stats, X)
    with pytest.raises(AssertionError, match=r"batch norm's mean must fit channel axis 1 of \(10, 3\)"):
        infer(params, wrong_stats, X)


def test_a_scalar_mask_switches_a_whole_batch_of_ghosts_on_or_off():
    params, stats = batch_norm.init(2)
    x = jnp.arange(8.0).reshape(4, 2)
    on = batch_norm.train_ghost(params, stats, x, group_size=2, mask=jnp.array(True))
    chex.assert_trees_all_close(on, batch_norm.train_ghost(params, stats, x, group_size=2), rtol=1e-6)
    off, after = batch_norm.train_ghost(params, stats, x, group_size=2, mask=jnp.array(False))
    assert not np.any(off)
    chex.assert_trees_all_equal(after, stats)
