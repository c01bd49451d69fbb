"""The four equations of batch norm against NumPy in float64, and the parts that they are made of."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from jbn import batch_norm
from jbn.nn.batch_norm import BatchNormParams, BatchNormStats, Moments

EPSILON = 1e-3
LAYOUTS = {  # shape of x, channel axis
    "dense": ((10, 3), -1),
    "channels first": ((3, 10), 0),
    "sequences": ((4, 5, 3), -1),
    "NHWC": ((4, 5, 2, 3), -1),
    "NCHW": ((4, 3, 5, 2), 1),
    "a statistic per position": ((8, 3, 2, 4), (1, 2)),
    "named from the end": ((8, 3, 2, 4), (-3, -2)),
    "in any order": ((8, 3, 2, 4), (2, -3)),
    "only the batch is reduced": ((8, 3, 2), (-2, -1)),
}
layouts = pytest.mark.parametrize("layout", LAYOUTS)

train = jax.jit(batch_norm.train, static_argnames="channel_axis")
infer = jax.jit(batch_norm.infer, static_argnames="channel_axis")
moments = jax.jit(batch_norm.moments, static_argnames="channel_axis")
normalize = jax.jit(batch_norm.normalize, static_argnames="channel_axis")
update = jax.jit(batch_norm.update)


def axes_of(shape, channel_axis):
    named = channel_axis if isinstance(channel_axis, tuple) else (channel_axis,)
    return sorted(axis % len(shape) for axis in named)


def split(x, channel_axis):
    """`[*channels, values]` in float64."""
    axes = axes_of(x.shape, channel_axis)
    front = np.moveaxis(np.asarray(x, np.float64), axes, range(len(axes)))
    return front.reshape(*front.shape[: len(axes)], -1)


def join(rows, shape, channel_axis):
    """The inverse of `split`."""
    axes = axes_of(shape, channel_axis)
    front = np.moveaxis(np.empty(shape), axes, range(len(axes))).shape
    return np.moveaxis(rows.reshape(front), range(len(axes)), axes)


def example(layout, seed=0):
    """Every channel with its own mean, deviation, parameters and statistics."""
    shape, channel_axis = LAYOUTS[layout]
    rng = np.random.default_rng(seed)
    rows = split(rng.normal(size=shape), channel_axis)
    channels = rows.shape[:-1]
    rows = rng.uniform(-20, 20, (*channels, 1)) + rng.uniform(0.1, 9, (*channels, 1)) * rows
    params = BatchNormParams(rng.uniform(0.5, 2, channels), rng.normal(size=channels))
    stats = BatchNormStats(rng.normal(size=channels), rng.uniform(0.5, 2, channels), np.array(3.0))
    return jax.tree.map(np.float32, (params, stats, join(rows, shape, channel_axis))), channel_axis


def textbook(params, x, mean, var, epsilon, channel_axis=-1):
    rows, (mean, var) = split(x, channel_axis), (np.float64(mean)[..., None], np.float64(var)[..., None])
    scale, bias = (1.0, 0.0) if params is None else (np.float64(value)[..., None] for value in params)
    return join(scale * (rows - mean) / np.sqrt(var + epsilon) + bias, x.shape, channel_axis)


def mean_and_variance(x, channel_axis=-1):
    rows = split(x, channel_axis)
    return rows.mean(-1), rows.var(-1)


def moved(stats, mean, var, momentum):
    """The stated recurrence in float64."""
    old = [np.asarray(a, np.float64) for a in stats]
    count = momentum * old[2] + 1
    return BatchNormStats(old[0] + (mean - old[0]) / count, old[1] + (var - old[1]) / count, count)


# the equations, in every layout


@layouts
def test_moments_equal_numpy(layout):
    (_, _, x), axis = example(layout)
    batch = moments(x, channel_axis=axis)
    rows = split(x, axis)
    assert float(batch.count) == rows.shape[-1]
    assert batch.mean.shape == batch.m2.shape == batch.rest.shape == rows.shape[:-1]
    assert_allclose(batch.mean, rows.mean(-1), rtol=1e-6)
    assert_allclose(batch.m2, ((rows - rows.mean(-1, keepdims=True)) ** 2).sum(-1), rtol=1e-5)
    off = np.float64(batch.mean) + np.float64(batch.rest) - rows.mean(-1)
    assert np.all(np.abs(off) < 3e-7 * rows.std(-1))


@layouts
def test_training_equals_numpy(layout):
    (params, stats, x), axis = example(layout)
    y, after = train(params, stats, x, momentum=0.8, epsilon=EPSILON, channel_axis=axis)
    mean, var = mean_and_variance(x, axis)
    chex.assert_equal_shape([x, y])
    assert_allclose(y, textbook(params, x, mean, var, EPSILON, axis), atol=3e-6)
    chex.assert_trees_all_close(after, moved(stats, mean, var, 0.8), rtol=1e-5)


@layouts
def test_inference_equals_numpy_and_knows_no_batch(layout):
    (params, stats, x), axis = example(layout)
    y = infer(params, stats, x, epsilon=EPSILON, channel_axis=axis)
    chex.assert_equal_shape([x, y])
    assert_allclose(y, textbook(params, x, stats.mean, stats.var, EPSILON, axis), rtol=2e-6, atol=2e-5)
    other = 7 * x + 1
    first = split(x, axis)[..., :1], split(y, axis)[..., :1]
    rows = np.concatenate([first[0], split(other, axis)[..., 1:]], axis=-1)
    mixed = np.float32(join(rows, x.shape, axis))
    same = infer(params, stats, mixed, epsilon=EPSILON, channel_axis=axis)
    assert_allclose(split(same, axis)[..., :1], first[1], rtol=1e-6)


@layouts
def test_normalize_is_the_formula_with_or_without_params(layout):
    (params, stats, x), axis = example(layout)
    for given in (params, None):
        y = normalize(given, x, stats.mean, stats.var, epsilon=EPSILON, channel_axis=axis)
        expected = textbook(given, x, stats.mean, stats.var, EPSILON, axis)
        assert_allclose(y, expected, rtol=2e-6, atol=2e-5)


def test_normalize_takes_the_rest_of_a_mean_off_too():
    (params, stats, x), _ = example("dense")
    rest = np.array([0.25, -0.5, 0.0], np.float32)
    y = normalize(params, x, stats.mean, stats.var, rest=rest, epsilon=EPSILON)
    expected = textbook(params, x, np.float64(stats.mean) + rest, stats.var, EPSILON)
    assert_allclose(y, expected, rtol=2e-6, atol=2e-5)
    plain = normalize(None, x, stats.mean, stats.var, rest=rest, epsilon=EPSILON)
    assert_allclose(np.asarray(plain) * params.scale + params.bias, y, rtol=2e-6, atol=2e-5)


@layouts
def test_layouts_differ_in_nothing_but_the_layout(layout):
    (params, stats, x), axis = example(layout)
    y, after = train(params, stats, x, channel_axis=axis)
    rows = split(x, axis)
    channels = rows.shape[:-1]
    flat = np.float32(rows.reshape(-1, rows.shape[-1]).T)  # [values, channels]
    flat_y, flat_after = train(
        *jax.tree.map(lambda a: a.reshape(-1) if a.ndim else a, (params, stats)), flat, channel_axis=-1
    )
    assert_allclose(split(y, axis), np.float64(flat_y).T.reshape(rows.shape), atol=3e-6)
    assert_allclose(after.mean, flat_after.mean.reshape(channels), rtol=1e-5)
    assert_allclose(after.var, flat_after.var.reshape(channels), rtol=1e-5)


@pytest.mark.parametrize("shape", [(30, 3), (7, 16, 3)], ids=["dense", "sequences"])
def test_training_takes_the_rest_of_the_mean_off_too(shape):
    """At 1e4 deviations from 0 the mean rounds by up to 5e-4 of a deviation."""
    x = np.random.default_rng(0).normal(1e4, 1, shape).astype(np.float32)
    y, _ = train(None, Moments.empty(3), x)
    assert_allclose(y, textbook(None, x, *mean_and_variance(x), 1e-5), atol=5e-6)


# by hand


def test_training_by_hand():
    params = BatchNormParams(jnp.array([3.0]), jnp.array([10.0]))
    _, stats = batch_norm.init(1)
    y, stats = train(params, stats, jnp.array([[1.0], [5.0]]), epsilon=12.0)  # mean 3, variance 4, sqrt(16)
    assert y[:, 0].tolist() == [8.5, 11.5]
    assert jax.tree.map(float, (stats.mean[0], stats.var[0], stats.count)) == (3, 4, 1)


def test_two_steps_by_hand():
    """Counts 1 and 1.5; the second batch, with mean 6 and variance 9, has two thirds of the weight."""
    params, stats = batch_norm.init(1)
    _, stats = train(params, stats, jnp.array([[1.0], [5.0]]), momentum=0.5)
    y, stats = train(params, stats, jnp.array([[3.0], [9.0]]), momentum=0.5, epsilon=0.0)
    assert_allclose(y[:, 0], [-1, 1], rtol=1e-6)
    assert_allclose(stats.mean, [3 / 3 + 6 * 2 / 3], rtol=1e-6)
    assert_allclose(stats.var, [4 / 3 + 9 * 2 / 3], rtol=1e-6)
    assert float(stats.count) == 1.5


def test_inference_by_hand():
    params = BatchNormParams(jnp.array([2.0, 1.0]), jnp.array([1.0, 0.0]))
    stats = BatchNormStats(jnp.array([4.0, 0.0]), jnp.array([3.0, 15.0]), jnp.array(7.0))
    y = infer(params, stats, jnp.array([[6.0, 8.0], [4.0, -4.0]]), epsilon=1.0)  # deviations 2 and 4
    assert y.tolist() == [[3, 2], [1, -1]]


def test_statistics_per_position_by_hand():
    x = jnp.array([[[1.0, 0.0], [5.0, 6.0]], [[3.0, 4.0], [5.0, 2.0]]])  # [batch, 2, 2]
    y, batch = train(None, Moments.empty((2, 2)), x, epsilon=0.0, channel_axis=(1, 2))
    assert batch.mean.tolist() == [[2, 2], [5, 4]]
    assert batch.variance().tolist() == [[1, 4], [0, 4]]
    assert_allclose(y, [[[-1, -1], [0, 1]], [[1, 1], [0, -1]]], rtol=1e-6)


def test_defaults_are_momentum_09_and_epsilon_1e_5():
    (params, stats, x), _ = example("dense")
    small = 1e-3 * x  # epsilon shows beside variances like 1e-6
    named = train(params, stats, small, momentum=0.9, epsilon=1e-5)
    chex.assert_trees_all_close(train(params, stats, small), named, rtol=1e-6)
    assert np.abs(train(params, stats, small, epsilon=1e-6)[0] - named[0]).max() > 1e-2
    tiny = stats._replace(var=1e-6 * stats.var)
    chex.assert_trees_all_close(infer(params, tiny, x), infer(params, tiny, x, epsilon=1e-5), rtol=1e-6)
    assert np.abs(infer(params, tiny, x, epsilon=1e-6) / infer(params, tiny, x) - 1).max() > 0.1
    batch = moments(x)
    chex.assert_trees_all_close(update(stats, batch), update(stats, batch, momentum=0.9), rtol=1e-6)


# before the first step


def test_init():
    params, stats = batch_norm.init(4)
    assert_array_equal(params, [[1] * 4, [0] * 4])
    assert_array_equal([stats.mean, stats.var], [[0] * 4, [1] * 4])
    assert stats.count.shape == ()
    assert float(stats.count) == 0
    chex.assert_type([*params, *stats], jnp.float32)


def test_init_takes_a_shape_a_count_and_a_type():
    params, stats = batch_norm.init((3, 2), count=2.5, dtype=jnp.bfloat16)
    chex.assert_shape([*params, stats.mean, stats.var], (3, 2))
    chex.assert_type([*params, stats.mean, stats.var], jnp.bfloat16)
    chex.assert_type(stats.count, jnp.float32)  # in bfloat16 a count would stop at 256
    assert float(stats.count) == 2.5
    with jax.enable_x64(True):
        chex.assert_type(jax.tree.leaves(batch_norm.init(1)), jnp.float64)


def test_untrained_inference_is_the_identity_but_for_epsilon():
    (_, _, x), _ = example("NHWC")
    assert_allclose(infer(*batch_norm.init(3), x, epsilon=0.0), x, rtol=1e-6)
    assert_allclose(infer(*batch_norm.init(3), x, epsilon=3.0), x / 2, rtol=1e-6)


# what params can do, and what may be left out


@layouts
def test_scale_of_the_deviation_and_bias_of_the_mean_give_the_identity(layout):
    (_, stats, x), axis = example(layout)
    mean, var = mean_and_variance(x, axis)
    params = jax.tree.map(np.float32, BatchNormParams(np.sqrt(var + EPSILON), mean))
    y, _ = train(params, stats, x, epsilon=EPSILON, channel_axis=axis)
    assert_allclose(y, x, rtol=1e-6, atol=2e-5)
    params = jax.tree.map(np.float32, BatchNormParams(np.sqrt(stats.var + EPSILON), stats.mean))
    assert_allclose(infer(params, stats, x, epsilon=EPSILON, channel_axis=axis), x, rtol=1e-6, atol=2e-5)


@layouts
def test_without_params_outputs_have_mean_0_and_variance_1(layout):
    (_, stats, x), axis = example(layout)
    y, _ = train(None, stats, x, epsilon=0.0, channel_axis=axis)
    mean, var = mean_and_variance(y, axis)
    assert_allclose(mean, np.zeros_like(mean), atol=1e-6)
    assert_allclose(var, np.ones_like(var), rtol=1e-5)


@layouts
def test_with_moments_of_nothing_training_returns_the_moments_of_the_batch(layout):
    (params, stats, x), axis = example(layout)
    y, batch = train(params, Moments.empty(stats.mean.shape), x, channel_axis=axis)
    assert isinstance(batch, Moments)
    with_stats, after = train(params, stats, x, momentum=0.7, channel_axis=axis)
    assert_allclose(y, with_stats, atol=1e-6)
    chex.assert_trees_all_close(batch, moments(x, channel_axis=axis), rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_close(update(stats, batch, momentum=0.7), after, rtol=1e-6)


@layouts
def test_the_parts_compose_into_training(layout):
    (params, stats, x), axis = example(layout)
    y, after = train(params, stats, x, momentum=0.7, epsilon=EPSILON, channel_axis=axis)
    batch = moments(x, channel_axis=axis)
    statistics = {"mean": batch.mean, "var": batch.variance(), "rest": batch.rest}
    parts = normalize(params, x, **statistics, epsilon=EPSILON, channel_axis=axis)
    assert_allclose(parts, y, atol=1e-6)
    chex.assert_trees_all_close(update(stats, batch, momentum=0.7), after, rtol=1e-6)


CHOICES = list(itertools.product(["of the batch", "running"], ["move", "stay"], ["affine", "plain"]))


@pytest.mark.parametrize(("statistics", "running", "affine"), CHOICES)
def test_three_choices_are_independent(statistics, running, affine):
    """Which statistics normalise, whether the running ones move, with scale and bias or without."""
    (params, stats, x), axis = example("NCHW")
    given = params if affine == "affine" else None
    batch = moments(x, channel_axis=axis)
    if statistics == "of the batch":
        var = batch.variance()
        y = normalize(given, x, batch.mean, var, rest=batch.rest, epsilon=EPSILON, channel_axis=axis)
    else:
        y = infer(given, stats, x, epsilon=EPSILON, channel_axis=axis)
    after = update(stats, batch, momentum=0.8) if running == "move" else stats

    mean, var = mean_and_variance(x, axis)
    used = (mean, var) if statistics == "of the batch" else (stats.mean, stats.var)
    assert_allclose(y, textbook(given, x, *used, EPSILON, axis), rtol=2e-6, atol=2e-5)
    expected = moved(stats, mean, var, 0.8) if running == "move" else stats
    chex.assert_trees_all_close(after, expected, rtol=1e-5)


def test_training_with_frozen_statistics_normalises_with_the_batch_all_the_same():
    (params, stats, x), _ = example("NHWC")
    frozen = stats._replace(count=np.float32(np.inf))
    y, after = train(params, frozen, x, epsilon=EPSILON)
    assert_allclose(y, textbook(params, x, *mean_and_variance(x), EPSILON), atol=3e-6)
    chex.assert_trees_all_equal(after, frozen)


# a single sample


@pytest.mark.parametrize("layout", ["dense", "sequences", "NHWC", "NCHW", "a statistic per position"])
def test_a_batch_of_one_is_inferred_as_among_others(layout):
    (params, stats, x), axis = example(layout)
    y = infer(params, stats, x, channel_axis=axis)
    for row in (0, len(x) - 1):
        alone = infer(params, stats, x[row : row + 1], channel_axis=axis)
        assert_allclose(alone, y[row : row + 1], rtol=1e-6, atol=1e-6)


def test_a_sample_needs_no_batch_axis():
    (params, stats, x), _ = example("dense")
    assert_allclose(infer(params, stats, x[4]), infer(params, stats, x)[4], rtol=1e-6, atol=1e-6)
    (params, stats, x), _ = example("NCHW")
    alone = infer(params, stats, x[2], channel_axis=0)
    assert_allclose(alone, infer(params, stats, x, channel_axis=1)[2], rtol=1e-6, atol=1e-6)
