"""What does not count: masked entries of a batch, and channels that are padding."""

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
EPSILON = 1e-3
LAYOUTS = {  # shape of x, channel axis, shapes of masks that fit
    "dense": ((10, 3), -1, [(10,)]),
    "sequences": ((6, 5, 3), -1, [(6,), (6, 5)]),
    "NHWC": ((4, 5, 2, 3), -1, [(4,), (4, 5), (4, 5, 2)]),
    "NCHW": ((4, 3, 5, 2), 1, [(4,), (4, 5), (4, 5, 2)]),
    "channels first": ((3, 10), 0, [(10,)]),
}
MASKS = [(layout, shape) for layout, (_, _, shapes) in LAYOUTS.items() for shape in shapes]
masks = pytest.mark.parametrize(("layout", "shape"), MASKS)
layouts = pytest.mark.parametrize("layout", LAYOUTS)

train = jax.jit(batch_norm.train, static_argnames="channel_axis")
moments = jax.jit(batch_norm.moments, static_argnames="channel_axis")


@functools.partial(jax.jit, static_argnames="channel_axis")
def gradients(params, stats, x, weights, mask=None, channel_mask=None, channel_axis=-1):
    """Of a score of everything that training returns, by params and inputs."""

    def score(params, x):
        y, after = batch_norm.train(
            params, stats, x, mask=mask, channel_mask=channel_mask, channel_axis=channel_axis, epsilon=EPSILON
        )
        return jnp.sum(weights * y) + jnp.sum(jnp.sin(after.mean)) + jnp.sum(jnp.cos(after.var))

    return jax.grad(score, argnums=(0, 1))(params, x)


def example(layout, seed=0):
    shape, channel_axis, _ = LAYOUTS[layout]
    rng = np.random.default_rng(seed)
    params = BatchNormParams(rng.uniform(0.5, 2, CHANNELS), rng.normal(size=CHANNELS))
    stats = BatchNormStats(rng.normal(size=CHANNELS), rng.uniform(0.5, 2, CHANNELS), np.array(3.0))
    last = (*np.delete(shape, channel_axis), CHANNELS)
    x = np.moveaxis(rng.normal([0.0, 5.0, -20.0], [1.0, 0.1, 9.0], last), -1, channel_axis)
    return jax.tree.map(np.float32, (params, stats, x)), channel_axis


def some_mask(shape, seed=2):
    mask = np.random.default_rng(seed).random(shape) < 0.6
    mask.flat[:4] = True, False, True, True
    return mask


def rows_that_count(x, mask, channel_axis):
    """`[rows, channels]` in float64."""
    return np.moveaxis(np.asarray(x, np.float64), channel_axis, -1)[mask].reshape(-1, CHANNELS)


def with_garbage(x, mask, channel_axis, *garbage):
    """Something else in place of what does not count."""
    dirty = np.moveaxis(x, channel_axis, -1).copy()
    dirty[~mask] = np.resize(np.array(garbage, x.dtype), dirty[~mask].shape)
    return np.moveaxis(dirty, -1, channel_axis)


def expected_outputs(params, x, mask, channel_axis):
    rows = rows_that_count(x, mask, channel_axis)
    y = np.zeros_like(np.moveaxis(np.asarray(x, np.float64), channel_axis, -1))
    normalized = (rows - rows.mean(0)) / np.sqrt(rows.var(0) + EPSILON)
    y[mask] = (normalized * np.float64(params.scale) + np.float64(params.bias)).reshape(y[mask].shape)
    return np.moveaxis(y, -1, channel_axis)


def moved(stats, mean, var, momentum=0.9):
    count = momentum * float(stats.count) + 1
    return BatchNormStats(
        stats.mean + (mean - stats.mean) / count, stats.var + (var - stats.var) / count, count
    )


# entries that do not count


@masks
def test_masked_entries_have_no_influence_and_come_out_as_0(layout, shape):
    (params, stats, x), axis = example(layout)
    mask = some_mask(shape)
    dirty = with_garbage(x, mask, axis, np.nan, np.inf, -np.inf, 1e30)
    y, after = train(params, stats, dirty, epsilon=EPSILON, mask=mask, channel_axis=axis)
    assert_allclose(y, expected_outputs(params, x, mask, axis), atol=3e-6)
    assert np.all(np.moveaxis(np.asarray(y), axis, -1)[~mask] == 0)
    rows = rows_that_count(x, mask, axis)
    chex.assert_trees_all_close(after, moved(stats, rows.mean(0), rows.var(0)), rtol=1e-5)


@masks
def test_moments_are_those_of_what_counts(layout, shape):
    (_, _, x), axis = example(layout)
    mask = some_mask(shape)
    batch = moments(with_garbage(x, mask, axis, np.nan, np.inf), mask=mask, channel_axis=axis)
    rows = rows_that_count(x, mask, axis)
    assert float(batch.count) == len(rows)
    assert_allclose(batch.mean, rows.mean(0), rtol=1e-6, atol=1e-6)
    assert_allclose(batch.m2, ((rows - rows.mean(0)) ** 2).sum(0), rtol=1e-5)


@pytest.mark.parametrize("shape", [(30, 3), (61, 3), (7, 16, 3)], ids=str)
def test_masked_outputs_are_exact_far_from_zero(shape):
    x = np.random.default_rng(0).normal(1e4, 1, shape).astype(np.float32)
    params = BatchNormParams(np.ones(CHANNELS, np.float32), np.zeros(CHANNELS, np.float32))
    for seed in range(5):
        mask = np.random.default_rng(seed).random(shape[:-1]) < 0.6
        y, _ = train(params, Moments.empty(CHANNELS), x, epsilon=EPSILON, mask=mask)
        assert_allclose(y, expected_outputs(params, x, mask, -1), atol=5e-6)


@layouts
def test_gradients_know_nothing_of_masked_entries(layout):
    """They are those of a batch of the other rows alone, and 0 at masked entries."""
    (params, stats, x), axis = example(layout)
    mask = some_mask(LAYOUTS[layout][2][-1])
    weights = np.random.default_rng(3).normal(size=x.shape).astype(np.float32)
    dirty = with_garbage(x, mask, axis, np.nan, np.inf)
    dparams, dx = gradients(params, stats, dirty, weights, mask=mask, channel_axis=axis)
    rows, row_weights = (np.float32(rows_that_count(a, mask, axis)) for a in (x, weights))
    expected_dparams, expected_dx = gradients(params, stats, rows, row_weights)
    chex.assert_trees_all_close(dparams, expected_dparams, rtol=1e-5, atol=1e-5)
    assert_allclose(rows_that_count(dx, mask, axis), expected_dx, rtol=1e-4, atol=1e-5)
    assert np.all(np.moveaxis(np.asarray(dx), axis, -1)[~mask] == 0)


def test_several_channel_axes_take_a_mask_of_the_others():
    rng = np.random.default_rng(4)
    x = rng.normal(3, 2, (6, 2, 3, 5)).astype(np.float32)  # channels at 1 and 2
    for shape in ((6,), (6, 5)):
        mask = some_mask(shape)
        batch = moments(
            np.where(mask.reshape(6, 1, 1, -1), x, np.nan), mask=jnp.array(mask), channel_axis=(1, 2)
        )
        full = np.broadcast_to(mask.reshape(6, -1), (6, 5))
        rows = np.moveaxis(np.float64(x), 3, 1)[full]  # [rows, 2, 3]
        assert float(batch.count) == full.sum()
        assert_allclose(batch.mean, rows.mean(0), rtol=1e-5)
        assert_allclose(batch.variance(), rows.var(0), rtol=1e-5)


@layouts
def test_a_mask_of_ones_is_no_mask(layout):
    (params, stats, x), axis = example(layout)
    whole = train(params, stats, x, channel_axis=axis)
    for shape in LAYOUTS[layout][2]:
        masked = train(params, stats, x, mask=np.ones(shape, bool), channel_axis=axis)
        chex.assert_trees_all_close(masked, whole, rtol=1e-5, atol=3e-6)


def test_a_square_batch_takes_its_mask_from_the_left():
    x = jnp.arange(9.0).reshape(3, 3)
    mask = jnp.array([True, False, True])
    assert moments(x, mask=mask).mean.tolist() == [3, 4, 5]
    assert moments(x, mask=mask, channel_axis=0).mean.tolist() == [1, 4, 7]
    cube = jnp.arange(27.0).reshape(3, 3, 3)  # [batch, channels, time]
    assert moments(cube, mask=mask, channel_axis=1).mean.tolist() == [10, 13, 16]


@pytest.mark.parametrize("shape", [(3,), (4, 3), (1,), (4, 1), (4, 5, 1), (4, 5, 3), (5,), (5, 4)])
def test_a_mask_never_broadcasts_from_the_right(shape):
    params, stats = batch_norm.init(CHANNELS)
    with pytest.raises(ValueError, match="a mask has the shape of x without the channel axis, or a leading"):
        batch_norm.train(params, stats, jnp.zeros((4, 5, CHANNELS)), mask=jnp.ones(shape, bool))


@pytest.mark.parametrize(
    "shape", [(4, 3), (4, 3, 5, 2), (5, 2), (4, 2), (4, 1, 5, 2), (4, 5, 2, 1), (4, 5, 3)]
)
def test_a_mask_of_nchw_arrays_has_no_channel_axis(shape):
    with pytest.raises(ValueError, match="a mask has the shape of x without") as error:
        batch_norm.moments(jnp.zeros((4, 3, 5, 2)), mask=jnp.ones(shape, bool), channel_axis=1)
    assert f"x has shape (4, 3, 5, 2), the mask {shape}; you might need to reshape" in str(error.value)
    assert str(error.value).endswith("the mask to (4, 5, 2)")


# channels that are padding


def padded_example(layout):
    """Two of five channels hold garbage: parameters, statistics and inputs, and the same without them."""
    (params, stats, x), axis = example(layout)
    places = np.array([1, 2, 4])

    def pad(values, axis, garbage):
        wide = np.full((*np.delete(values.shape, axis), 5), garbage, np.float32)
        wide[..., places] = np.moveaxis(values, axis, -1)
        return np.moveaxis(wide, -1, axis)

    wide_params = BatchNormParams(*(pad(value, 0, 7.0) for value in params))
    wide_stats = BatchNormStats(pad(stats.mean, 0, 11.0), pad(stats.var, 0, 13.0), stats.count)
    return (
        (wide_params, wide_stats, pad(x, axis, np.nan)),
        (params, stats, x),
        np.isin(range(5), places),
        axis,
    )


@layouts
@pytest.mark.parametrize("masked", [False, True])
def test_padded_channels_come_out_as_0_and_keep_their_statistics(layout, masked):
    wide, narrow, real, axis = padded_example(layout)
    mask = some_mask(LAYOUTS[layout][2][0]) if masked else None
    y, after = train(*wide, channel_mask=real, mask=mask, channel_axis=axis)
    expected, expected_after = train(*narrow, mask=mask, channel_axis=axis)
    y = np.moveaxis(np.asarray(y), axis, -1)
    assert_array_equal(y[..., ~real], np.zeros_like(y[..., ~real]))
    assert_allclose(y[..., real], np.moveaxis(expected, axis, -1), atol=3e-6)
    assert_array_equal(after.mean[~real], [11, 11])
    assert_array_equal(after.var[~real], [13, 13])
    assert_allclose(after.mean[real], expected_after.mean, rtol=1e-5)
    assert_allclose(after.var[real], expected_after.var, rtol=1e-5)
    assert float(after.count) == float(expected_after.count)


@layouts
def test_gradients_of_padded_channels_are_0(layout):
    wide, narrow, real, axis = padded_example(layout)
    weights = np.random.default_rng(6).normal(size=wide[2].shape).astype(np.float32)
    dparams, dx = gradients(*wide, weights, channel_mask=real, channel_axis=axis)
    places = [slice(None)] * weights.ndim
    places[axis] = real
    expected_dparams, expected_dx = gradients(*narrow, weights[tuple(places)], channel_axis=axis)
    for own, expected in zip(dparams, expected_dparams, strict=True):
        assert_array_equal(own[~real], [0, 0])
        assert_allclose(own[real], expected, rtol=1e-5, atol=1e-5)
    dx = np.moveaxis(np.asarray(dx), axis, -1)
    assert_array_equal(dx[..., ~real], np.zeros_like(dx[..., ~real]))
    assert_allclose(dx[..., real], np.moveaxis(expected_dx, axis, -1), rtol=1e-4, atol=1e-5)


def test_channels_on_several_axes_are_padded_in_their_shape():
    x = np.random.default_rng(7).normal(5, 2, (8, 2, 2)).astype(np.float32)
    x[:, 1, 0] = np.nan
    params, stats = batch_norm.init((2, 2))
    real = np.array([[True, True], [False, True]])
    y, after = train(params, stats, x, channel_mask=real, channel_axis=(1, 2))
    assert_array_equal(y[:, 1, 0], np.zeros(8))
    assert (float(after.mean[1, 0]), float(after.var[1, 0])) == (0, 1)
    assert_allclose(np.asarray(after.mean)[real], x[:, real].mean(0, np.float64), rtol=1e-5)


def test_moments_of_padded_channels_are_finite():
    wide, narrow, real, _ = padded_example("dense")
    _, batch = train(wide[0], Moments.empty(5), wide[2], channel_mask=real)
    chex.assert_tree_all_finite(batch)
    assert_allclose(batch.mean[real], narrow[2].mean(0, np.float64), rtol=1e-5, atol=1e-6)


def test_which_channels_are_padding_can_be_traced():
    """As where members of a vmap differ in width."""
    wide, narrow, real, _ = padded_example("dense")
    wide = jax.tree.map(jnp.asarray, wide)
    members = np.stack([real, real & (np.arange(5) != 4)])
    y, _ = jax.jit(jax.vmap(lambda mask: batch_norm.train(*wide, channel_mask=mask)))(members)
    expected, _ = train(*narrow)
    assert_allclose(y[0][:, real], expected, atol=3e-6)
    assert_allclose(y[1][:, [1, 2]], expected[:, :2], atol=3e-6)
    assert_array_equal(y[1][:, 4], np.zeros(10))


@pytest.mark.parametrize("shape", [(1,), (10,), (4,), (10, 3)])
def test_a_channel_mask_has_the_shape_of_the_channels(shape):
    params, stats = batch_norm.init(CHANNELS)
    message = re.escape("batch norm's channel_mask must fit channel axis 1 of (10, 3)")
    with pytest.raises(AssertionError, match=message):
        batch_norm.train(params, stats, jnp.ones((10, CHANNELS)), channel_mask=jnp.ones(shape, bool))
