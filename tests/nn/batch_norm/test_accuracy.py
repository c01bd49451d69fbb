"""Results of training where the mean of a channel is many standard deviations away from zero."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jbn.nn import batch_norm
from jbn.nn.batch_norm import BatchNormParams
from jbn.nn.sums import sums

ROWS, CHANNELS, EPSILON = 4096, 3, 1e-5
DEVIATIONS = np.array([1.0, 0.1, 30.0])
RATIOS = [0, 1, 3, 3.9, 4.1, 30, 1e3, 1e4]  # |mean| / standard deviation; the method changes at 4
LAYOUTS = {"NHWC": ((16, 16, 16, CHANNELS), -1), "NCHW": ((16, CHANNELS, 16, 16), 1)}


def train(params, x, dy, mask=None, channel_axis=-1):
    """Everything that training computes; the running variance is that of the batch (momentum 0)."""
    stats = batch_norm.init(CHANNELS)[1]

    def forward(params, x):
        return batch_norm.train(
            params, stats, x, momentum=0.0, epsilon=EPSILON, mask=mask, channel_axis=channel_axis
        )

    y, back, after = jax.vjp(forward, params, x, has_aux=True)
    dparams, dx = back(dy)
    return {"y": y, "var": after.var, "dx": dx, "dscale": dparams.scale, "dbias": dparams.bias}


@jax.jit
def plain(params, x, dy):
    """Two passes in the type of `x`, with autodiff."""

    def forward(params, x):
        centred = x - jnp.mean(x, 0, keepdims=True)
        var = jnp.mean(centred**2, 0, keepdims=True)
        return centred * jax.lax.rsqrt(var + EPSILON) * params.scale[None] + params.bias[None], var[0]

    y, back, var = jax.vjp(forward, params, x, has_aux=True)
    dparams, dx = back(dy)
    return {"y": y, "var": var, "dx": dx, "dscale": dparams.scale, "dbias": dparams.bias}


own = jax.jit(train, static_argnames="channel_axis")
moments = jax.jit(batch_norm.moments)
members = jax.jit(jax.vmap(train, in_axes=(None, 0, 0)))


def textbook(params, x, dy):
    """Ioffe and Szegedy 2015, forward and backward, of `[rows, channels]` in float64."""
    scale, bias, x, dy = (np.asarray(a, np.float64) for a in (*params, x, dy))
    mean, var = x.mean(0), x.var(0)
    inverse = 1 / np.sqrt(var + EPSILON)
    xhat = (x - mean) * inverse
    dx = scale * inverse * (dy - dy.mean(0) - xhat * (dy * xhat).mean(0))
    dscale, dbias = (dy * xhat).sum(0), dy.sum(0)
    return {"y": scale * xhat + bias, "var": var, "dx": dx, "dscale": dscale, "dbias": dbias}


def errors(actual, exact):
    """The largest error of every result.

    Relative to a channel's standard deviation for y, or to y itself where that is larger (an outlier), to the
    variance, and to the largest value of a gradient.
    """
    size = {
        "y": np.maximum(exact["y"].std(0), np.abs(exact["y"])),
        "var": exact["var"],
        "dx": np.abs(exact["dx"]).max(0),
        "dscale": np.abs(exact["dscale"]).max(),
        "dbias": np.abs(exact["dbias"]).max(),
    }
    return {name: np.max(np.abs(wide(actual[name]) - exact[name]) / size[name]) for name in exact}


def wide(a):
    return np.asarray(a).astype(np.float64)


def rounded(tree, dtype=np.float32):
    return jax.tree.map(lambda a: np.asarray(a, dtype), tree)


def data(ratios, *, outlier=0.0, rows=ROWS, dtype=np.float32):
    """Parameters, inputs and a cotangent; the first row is the outlier, in deviations of the others."""
    rng = np.random.default_rng(0)
    params = BatchNormParams(rng.uniform(0.5, 2, CHANNELS), rng.normal(size=CHANNELS))
    z = rng.normal(size=(rows, CHANNELS)) + np.asarray(ratios)
    z[0] += outlier
    return rounded((params, DEVIATIONS * z, rng.normal(size=z.shape)), dtype)


def assert_exact(actual, exact, tolerance=1e-5):
    found = errors(actual, exact)
    assert max(found.values()) <= tolerance, found


# float32


@pytest.mark.parametrize("outlier", [0, 1e3, 1e4])
@pytest.mark.parametrize("ratio", RATIOS)
def test_float32_is_exact_at_any_ratio_with_and_without_an_outlier(ratio, outlier):
    inputs = data(ratio, outlier=outlier)
    assert_exact(own(*inputs), textbook(*inputs))


@pytest.mark.parametrize("outlier", [0, 1e3, 1e4])
def test_at_1e5_it_is_no_worse_than_two_passes_in_float32(outlier):
    inputs = data(1e5, outlier=outlier)
    exact = textbook(*inputs)
    found, usual = errors(own(*inputs), exact), errors(plain(*inputs), exact)
    assert all(found[name] <= max(usual[name], 1e-6) for name in exact), (found, usual)


def test_two_passes_in_float32_do_not_pass_these_tests():
    inputs = data(1e4)
    found = errors(plain(*inputs), textbook(*inputs))
    assert found["y"] > 1e-4
    assert found["dscale"] > 1e-5


@pytest.mark.parametrize("outlier", [0, 1e3])
@pytest.mark.parametrize("ratios", [(0, 3, 1e4), (1e4, 0, 3), (0, 1e5, -1e3)])
def test_channels_of_very_different_ratio_are_exact_side_by_side(ratios, outlier):
    inputs = data(ratios, outlier=outlier)
    assert_exact(own(*inputs), textbook(*inputs))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("ratios", [(0, 1, 3), (0, 3, 1e4)])
def test_images_are_exact_in_every_layout(layout, ratios):
    shape, axis = LAYOUTS[layout]
    params, x, dy = data(ratios, outlier=1e3)
    images = [np.moveaxis(a.reshape(16, 16, 16, CHANNELS), -1, axis) for a in (x, dy)]
    assert images[0].shape == shape
    actual = own(params, *images, channel_axis=axis)
    for name in ("y", "dx"):
        actual[name] = np.moveaxis(np.asarray(actual[name]), axis, -1).reshape(ROWS, CHANNELS)
    assert_exact(actual, textbook(params, x, dy))


@pytest.mark.parametrize("outlier", [0, 1e3, 1e4])
@pytest.mark.parametrize("ratios", [*RATIOS, 1e5, (0, 3, 1e4)])
def test_masked_batches_are_exact(ratios, outlier):
    params, x, dy = data(ratios, outlier=outlier)
    mask = np.arange(ROWS) % 3 != 1
    actual = own(params, np.where(mask[:, None], x, np.float32(3e38)), dy, mask)
    assert not np.any(actual["y"][~mask])
    assert not np.any(actual["dx"][~mask])
    actual |= {name: actual[name][mask] for name in ("y", "dx")}
    assert_exact(actual, textbook(params, x[mask], dy[mask]))


def test_members_of_different_ratio_are_exact_under_vmap():
    several = [
        data(ratio, outlier=outlier) for ratio, outlier in [(0, 0), (3, 1e3), (1e4, 0), ((0, 3, 1e3), 0)]
    ]
    params = several[0][0]
    actual = members(params, *(np.stack([inputs[i] for inputs in several]) for i in (1, 2)))
    for i, inputs in enumerate(several):
        assert_exact(jax.tree.map(lambda a, i=i: a[i], actual), textbook(*inputs))


def test_pooled_members_of_different_ratio_are_exact():
    params, x, dy = data(0)
    x += np.repeat([[0], [3], [1e3], [-1e4]], ROWS // 4, axis=0).astype(np.float32) * rounded(DEVIATIONS)
    pooled = jax.vmap(
        lambda x: batch_norm.train(params, batch_norm.init(CHANNELS)[1], x, momentum=0.0, axis_name="member"),
        axis_name="member",
        out_axes=(0, None),
    )
    y, after = jax.jit(pooled)(x.reshape(4, -1, CHANNELS))
    exact = textbook(params, x, dy)
    found = errors(exact | {"y": y.reshape(ROWS, CHANNELS), "var": after.var}, exact)
    assert max(found.values()) <= 1e-5, found


@pytest.mark.parametrize("ratio", [*RATIOS, 1e5])
def test_the_mean_is_exact_together_with_what_rounding_took_away(ratio):
    _, x, _ = data(ratio)
    mask = np.arange(ROWS) % 3 != 1
    for batch, values in [(moments(x), x), (moments(x, mask=mask), x[mask])]:
        mean, deviation = wide(values).mean(0), wide(values).std(0)
        assert np.all(np.abs(wide(batch.mean) + wide(batch.rest) - mean) <= 1e-5 * deviation)
        assert np.all(np.abs(wide(batch.mean) - mean) <= 1e-5 * deviation + 2.0**-24 * np.abs(mean))


# other types


@pytest.mark.parametrize("outlier", [0, 1e4])
@pytest.mark.parametrize("ratio", [*RATIOS, 1e8])
def test_float64_is_as_exact_in_its_own_precision(ratio, outlier):
    params, x, dy = data(ratio, outlier=outlier, dtype=np.float64)
    exact = textbook(params, x - x[1], dy)  # an exact difference where the ratio is large
    with jax.enable_x64(True):
        actual = own(params, x, dy)
        chex.assert_type(list(actual.values()), jnp.float64)
    assert_exact(actual, exact, 1e-12)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("ratios", [0, 1, 3, 30, 300, (0, 3, 100)])
def test_16_bit_inputs_are_as_exact_as_float32_arithmetic_on_them(dtype, ratios):
    params, x, dy = data(ratios)
    x, dy = jnp.asarray(x, dtype), jnp.asarray(dy, dtype)
    actual = own(params, x, dy)
    chex.assert_type([actual["y"], actual["dx"]], dtype)
    chex.assert_type([actual["var"], actual["dscale"], actual["dbias"]], jnp.float32)
    exact = textbook(params, wide(x), wide(dy))
    found = errors(actual, exact)
    assert max(found[name] for name in ("var", "dscale", "dbias")) <= 1e-5, found
    half = float(jnp.finfo(dtype).eps) / 2  # one rounding, at the end
    for name in ("y", "dx"):
        size = np.abs(exact[name])
        allowed = half * size + 1e-5 * size.max(0) + float(jnp.finfo(dtype).smallest_subnormal)
        assert np.all(np.abs(wide(actual[name]) - exact[name]) <= allowed), name


# the shift


shift = jax.jit(lambda x: sums((0,), x).shift)
images_shift = jax.jit(lambda x: sums((0, 2), x).shift)
shifts = jax.jit(jax.vmap(lambda x: sums((0,), x).shift))
BLOCK = 64
VALUES = st.lists(st.integers(-100, 100), min_size=BLOCK, max_size=BLOCK)


def distance(shift, x):
    """From the mean, in standard deviations; rounding of the mean does not count."""
    away = np.abs(wide(shift) - wide(x).mean(0)) - 2e-7 * np.abs(wide(x)).max(0)
    return np.max(np.maximum(away, 0) / np.maximum(wide(x).std(0), 1e-30))


def part(size):
    """`size` rows of 1, then rows of 0."""
    return [1] * size + [0] * (BLOCK - size)


@settings(deadline=None, max_examples=100)
@given(VALUES, VALUES, st.sampled_from([0, 1, 100, 1000, 100_000]), st.integers(0, 2))
@example(part(4), part(60), 1000, 0)
def test_the_shift_is_within_4_deviations_of_the_mean_whatever_the_values(one, other, offset, power):
    x = np.array([one, other], np.float32).T * 10.0**-power + offset
    assert distance(shift(x.astype(np.float32)), x.astype(np.float32)) <= 4.0001


def test_the_worst_case_comes_close_to_4():
    for size in range(BLOCK):  # the first sixteenth is 4 rows
        x = np.array([part(size), [1000] * BLOCK], np.float32).T
        assert distance(shift(x), x) <= 4
    x = np.array([part(4), [1000] * BLOCK], np.float32).T
    assert 3.87 < distance(shift(x), x) < 3.88  # sqrt(15)


@pytest.mark.parametrize("rows", [1, 2, 15, 16, 17, 33])
def test_the_shift_of_a_batch_of_any_size_is_within_4_deviations(rows):
    for ones in range(rows):
        x = np.array([[1] * ones + [0] * (rows - ones), [1000] * rows], np.float32).T
        assert distance(shift(x), x) <= 4


def test_the_shift_of_images_is_within_4_deviations():
    for ones in range(5):  # of 17 images of 3 values
        x = np.zeros((17, 2, 3), np.float32)
        x[:ones, 0], x[:, 1] = 1, 1000
        assert distance(images_shift(x), np.moveaxis(x, 1, -1).reshape(-1, 2)) <= 4


def test_all_members_of_a_vmap_have_a_shift_within_4_deviations():
    rng = np.random.default_rng(1)
    means = np.array([[0, 0], [3, -3], [1e4, 0], [5, 0], [0, -50]])[:, None]
    x = rounded(means + rng.normal(size=(5, BLOCK, 2)))
    x[:, 0] *= 1e3
    assert all(distance(*pair) <= 4 for pair in zip(shifts(x), x, strict=True))
    assert all(distance(*pair) <= 4 for pair in zip(shifts(x[:2, 1:]), x[:2, 1:], strict=True))
