import functools
import json
import pathlib

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from jbn.nn import batch_norm
from jbn.nn.batch_norm import BatchNormParams, BatchNormStats

CHANNELS = 3
EPSILON = 1e-3
SHAPES = {"dense": (10, CHANNELS), "NHWC": (4, 3, 2, CHANNELS)}
FRAMEWORKS = pathlib.Path(__file__).parents[2] / ".." / "shared" / "data" / "batch_norm_frameworks"

_train, _infer = jax.jit(batch_norm.train), jax.jit(batch_norm.infer)
fold = jax.jit(batch_norm.fold)
normalize = jax.jit(batch_norm.normalize)
step = jax.jit(lambda stats, x, momentum: batch_norm.update(stats, batch_norm.moments(x), momentum=momentum))


def train(params, stats, x, *, momentum=0.9, epsilon=1e-5, mask=None):
    return _train(params, stats, x, momentum=momentum, epsilon=epsilon, mask=mask)  # few compiled programs


def infer(params, stats, x, *, epsilon=1e-5):
    return _infer(params, stats, x, epsilon=epsilon)


@jax.jit
def forward_and_back(params, x, dy, epsilon):
    stats = batch_norm.init(x.shape[-1])[1]
    y, back = jax.vjp(lambda params, x: batch_norm.train(params, stats, x, epsilon=epsilon)[0], params, x)
    return y, back(dy)


def example(shape=SHAPES["dense"], seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    params = BatchNormParams(rng.uniform(0.5, 2, CHANNELS), rng.normal(size=CHANNELS))
    stats = BatchNormStats(rng.normal(size=CHANNELS), rng.uniform(0.5, 2, CHANNELS), np.array(3.0))
    x = rng.normal([0.0, 5.0, -20.0], [1.0, 0.1, 9.0], shape)
    return jax.tree.map(lambda a: np.asarray(a, dtype), (params, stats, x))


def textbook(params, x, mean, var, epsilon):
    scale, bias, x, mean, var = (np.asarray(a, np.float64) for a in (*params, x, mean, var))
    return scale * (x - mean) / np.sqrt(var + epsilon) + bias


def mean_and_variance(x, mask=...):
    """Of the rows that count, in float64."""
    rows = np.asarray(x, np.float64)[mask].reshape(-1, x.shape[-1])
    return rows.mean(0), rows.var(0)


def moved(stats, mean, var, momentum):
    """The stated recurrence, in float64."""
    old = [np.asarray(a, np.float64) for a in stats]
    count = momentum * old[2] + 1
    return BatchNormStats(old[0] + (mean - old[0]) / count, old[1] + (var - old[1]) / count, count)


# one batch


@pytest.mark.parametrize("layout", SHAPES)
def test_training_equals_numpy(layout):
    params, stats, x = example(SHAPES[layout])
    y, after = train(params, stats, x, momentum=0.8, epsilon=EPSILON)
    mean, var = mean_and_variance(x)
    chex.assert_equal_shape([x, y])
    assert_allclose(y, textbook(params, x, mean, var, EPSILON), atol=2e-6)
    chex.assert_trees_all_close(after, moved(stats, mean, var, 0.8), rtol=1e-5)


@pytest.mark.parametrize("layout", SHAPES)
def test_inference_equals_numpy_and_knows_no_batch(layout):
    params, stats, x = example(SHAPES[layout])
    y = infer(params, stats, x, epsilon=EPSILON)
    assert_allclose(y, textbook(params, x, stats.mean, stats.var, EPSILON), atol=2e-5)
    chex.assert_trees_all_close(infer(params, stats, x[:1], epsilon=EPSILON), y[:1], rtol=1e-6)


def test_by_hand():
    params = BatchNormParams(jnp.array([3.0]), jnp.array([10.0]))
    _, stats = batch_norm.init(1)
    y, stats = train(params, stats, jnp.array([[1.0], [5.0]]), epsilon=12.0)  # mean 3, variance 4, sqrt(16)
    assert y[:, 0].tolist() == [8.5, 11.5]
    assert jax.tree.map(float, (stats.mean[0], stats.var[0], stats.count)) == (3, 4, 1)


def test_defaults_are_momentum_09_and_epsilon_1e_5():
    params, stats, x = example()
    small = 1e-3 * x  # variances like 1e-6, 1e-8: epsilon shows
    named = train(params, stats, small, momentum=0.9, epsilon=1e-5)
    chex.assert_trees_all_close(_train(params, stats, small), named, rtol=1e-6)
    assert np.abs(train(params, stats, small, epsilon=1e-6)[0] - named[0]).max() > 1e-2
    tiny = stats._replace(var=1e-6 * stats.var)
    chex.assert_trees_all_close(_infer(params, tiny, x), infer(params, tiny, x, epsilon=1e-5), rtol=1e-6)


def test_init():
    params, stats = batch_norm.init(4)
    assert_array_equal(params, [[1] * 4, [0] * 4])
    assert_array_equal([stats.mean, stats.var], [[0] * 4, [1] * 4])
    assert stats.count.shape == ()
    assert float(stats.count) == 0
    chex.assert_type([*params, *stats], jnp.float32)
    half = batch_norm.init(4, count=2.5, dtype=jnp.bfloat16)
    chex.assert_type(jax.tree.leaves(half), jnp.bfloat16)
    assert float(half[1].count) == 2.5
    with pytest.raises(ValueError, match="at least one feature, got features=0"):
        batch_norm.init(0)


def test_normalize_is_the_formula_with_or_without_params():
    params, stats, x = example(SHAPES["NHWC"])
    y = normalize(params, x, stats.mean, stats.var, epsilon=EPSILON)
    assert_allclose(y, textbook(params, x, stats.mean, stats.var, EPSILON), atol=2e-5)
    plain = normalize(None, x, stats.mean, stats.var, epsilon=EPSILON)
    unit = BatchNormParams(np.ones(CHANNELS), np.zeros(CHANNELS))
    assert_allclose(plain, textbook(unit, x, stats.mean, stats.var, EPSILON), atol=2e-5)


def test_the_parts_compose_into_training():
    params, stats, x = example(SHAPES["NHWC"])
    y, after = train(params, stats, x, momentum=0.7, epsilon=EPSILON)
    batch = jax.jit(batch_norm.moments)(x)
    parts = normalize(params, x, batch.mean, batch.variance(), epsilon=EPSILON)
    assert_allclose(parts, y, atol=1e-5)
    chex.assert_trees_all_close(step(stats, x, 0.7), after, rtol=1e-6)


@pytest.mark.parametrize("shape", [(6, CHANNELS), (3, 3, 4, CHANNELS)], ids=["dense", "convolution"])
@pytest.mark.parametrize("has_bias", [True, False])
def test_folding_leaves_batch_norm_out(shape, has_bias):
    params, stats, _ = example()
    rng = np.random.default_rng(1)
    kernel = rng.normal(size=shape).astype(np.float32)
    bias = rng.normal(size=CHANNELS).astype(np.float32) if has_bias else None
    inputs = rng.normal(size=(5, kernel.size // CHANNELS))  # a patch a row
    flat = kernel.reshape(-1, CHANNELS).astype(np.float64)
    before = inputs @ flat + (0 if bias is None else bias)
    folded, shift = fold(params, stats, kernel, bias, epsilon=EPSILON)
    assert folded.shape == shape
    y = inputs @ np.asarray(folded, np.float64).reshape(-1, CHANNELS) + np.asarray(shift)
    assert_allclose(y, textbook(params, before, stats.mean, stats.var, EPSILON), atol=1e-5)


# what PyTorch computed: its momentum weighs the new value, its running variance is unbiased


@functools.cache
def pytorch(case):
    path = FRAMEWORKS / f"pytorch_{case}.npz"
    if not path.exists():
        pytest.skip(f"no {path.name} in ../shared/data/batch_norm_frameworks")
    with np.load(path) as arrays:
        recorded = {name: arrays[name] for name in arrays.files}
    arguments = json.loads(str(recorded["meta"]))["arguments"]
    moment = arguments.get("momentum", 0.1)
    return recorded, 1.0 if moment is None else 1 - moment, arguments.get("eps", 1e-5)


def channels_last(array):
    return np.moveaxis(array, 1, -1)


def learned(recorded, index):
    return BatchNormParams(recorded[f"state{index}/weight"], recorded[f"state{index}/bias"])


CASES = ["2d", "4d", "cumulative", "options"]


@pytest.mark.parametrize("case", CASES)
def test_pytorch_training_and_gradients(case):
    recorded, _, epsilon = pytorch(case)
    for i in range(3):
        x, y, dy, dx = (channels_last(recorded[f"{name}{i}"]) for name in ("x", "y", "dy", "dx"))
        own_y, (own_dparams, own_dx) = forward_and_back(learned(recorded, i), x, dy, epsilon)
        assert_allclose(own_y, y, atol=3e-6)
        assert_allclose(own_dx, dx, atol=3e-6)
        assert_allclose(own_dparams.scale, recorded[f"dweight{i}"], atol=2e-5)
        assert_allclose(own_dparams.bias, recorded[f"dbias{i}"], atol=2e-5)


@pytest.mark.parametrize("case", CASES)
def test_pytorch_running_statistics(case):
    recorded, momentum, _ = pytorch(case)
    _, stats = batch_norm.init(5, count=0.0 if momentum == 1 else 1 / (1 - momentum))
    for i in range(3):
        x = channels_last(recorded[f"x{i}"])
        stats = step(stats, x, momentum)
        values = x.size // 5
        start = 0 if momentum == 1 else momentum ** (i + 1)  # what is left of the initial variance of 1
        unbiased = (np.asarray(stats.var) - start) * values / (values - 1) + start
        assert_allclose(stats.mean, recorded[f"state{i}/running_mean"], rtol=1e-5, atol=1e-6)
        assert_allclose(unbiased, recorded[f"state{i}/running_var"], rtol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_pytorch_inference(case):
    recorded, _, epsilon = pytorch(case)
    stats = BatchNormStats(recorded["state2/running_mean"], recorded["state2/running_var"], np.float32(1))
    y = infer(learned(recorded, 2), stats, channels_last(recorded["x_eval"]), epsilon=epsilon)
    assert_allclose(y, channels_last(recorded["y_eval"]), atol=3e-6)


# masks


@pytest.mark.parametrize("layout", SHAPES)
def test_masked_rows_have_no_influence_and_come_out_as_0(layout):
    params, stats, x = example(SHAPES[layout])
    mask = np.arange(len(x)) % 4 != 1
    mask[-1] = False
    dirty = x.copy()
    dirty[1], dirty[-1] = np.nan, np.inf
    y, after = train(params, stats, dirty, epsilon=EPSILON, mask=mask)
    mean, var = mean_and_variance(x, mask)
    expected = textbook(params, x, mean, var, EPSILON)
    expected[~mask] = 0
    assert_allclose(y, expected, atol=3e-6)
    assert np.all(np.asarray(y)[~mask] == 0)
    chex.assert_trees_all_close(after, moved(stats, mean, var, 0.9), rtol=1e-5)


def test_single_pixels_can_be_masked():
    params, stats, x = example(SHAPES["NHWC"])
    mask = np.random.default_rng(2).random(x.shape[:-1]) < 0.5
    y, _ = train(params, stats, np.where(mask[..., None], x, np.float32(np.nan)), epsilon=EPSILON, mask=mask)
    expected = textbook(params, x, *mean_and_variance(x, mask), EPSILON)
    assert_allclose(y, np.where(mask[..., None], expected, 0), atol=3e-6)


def test_a_mask_of_ones_is_no_mask():
    params, stats, x = example()
    masked = train(params, stats, x, mask=np.ones(len(x), bool))
    chex.assert_trees_all_close(masked, train(params, stats, x), rtol=1e-6)


@pytest.mark.parametrize("shape", [(CHANNELS,), (4, CHANNELS), (1,), (4, 1), (4, 5, 1), (4, 5, CHANNELS)])
def test_a_mask_never_broadcasts_from_the_right(shape):
    params, stats, _ = example()
    with pytest.raises(ValueError, match="a mask has the shape of x without the channel axis") as error:
        batch_norm.train(params, stats, jnp.zeros((4, 5, CHANNELS)), mask=jnp.ones(shape, bool))
    assert f"x has shape (4, 5, 3), the mask {shape}" in str(error.value)
    assert "you might need to reshape the mask to (4, 5)" in str(error.value)


# gradients


def scores(train_function, weights):
    """A scalar of everything that training returns, so that every path has a gradient."""

    def score(params, x):
        y, stats = train_function(params, x)
        return jnp.sum(weights * y) + jnp.sum(jnp.sin(stats.mean)) + jnp.sum(jnp.cos(stats.var))

    return jax.jit(jax.value_and_grad(score, argnums=(0, 1)))


def plain_train(params, stats, x, momentum=0.9, epsilon=EPSILON):
    """The formulas with nothing for accuracy's sake."""
    axes = tuple(range(x.ndim - 1))
    wide = (1,) * (x.ndim - 1) + (-1,)
    mean = jnp.mean(x, axes)
    var = jnp.mean((x - mean.reshape(wide)) ** 2, axes)
    y = (x - mean.reshape(wide)) / jnp.sqrt(var + epsilon).reshape(wide)
    y = params.scale.reshape(wide) * y + params.bias.reshape(wide)
    count = momentum * stats.count + 1
    return y, BatchNormStats(
        stats.mean + (mean - stats.mean) / count, stats.var + (var - stats.var) / count, count
    )


@pytest.mark.parametrize("layout", SHAPES)
def test_gradients_equal_autodiff_of_the_plain_formula(layout):
    with jax.enable_x64(True):
        params, stats, x = example(SHAPES[layout], dtype=np.float64)
        weights = np.random.default_rng(3).normal(size=x.shape)
        own = scores(lambda params, x: batch_norm.train(params, stats, x, epsilon=EPSILON), weights)
        plain = scores(lambda params, x: plain_train(params, stats, x), weights)
        chex.assert_trees_all_close(own(params, x), plain(params, x), rtol=1e-10, atol=1e-10)


def test_gradients_of_masked_rows_are_0_and_the_others_know_nothing_of_them():
    mask = np.arange(10) % 3 != 0
    with jax.enable_x64(True):
        params, stats, x = example(dtype=np.float64)
        weights = np.random.default_rng(4).normal(size=x.shape)
        dirty = np.where(mask[:, None], x, np.nan)
        own = scores(
            lambda params, x: batch_norm.train(params, stats, x, epsilon=EPSILON, mask=jnp.array(mask)),
            weights,
        )
        plain = scores(lambda params, x: plain_train(params, stats, x), weights[mask])
        value, (dparams, dx) = own(params, dirty)
        expected, (plain_dparams, plain_dx) = plain(params, x[mask])
        chex.assert_trees_all_close((value, dparams), (expected, plain_dparams), rtol=1e-10)
        dx = np.asarray(dx)
        assert_allclose(dx[mask], plain_dx, atol=1e-10)
        assert np.all(dx[~mask] == 0)


def test_gradients_are_finite_in_a_constant_channel_and_0_in_a_batch_of_one():
    params, _, x = example()
    x[:, 1] = 0.1
    chex.assert_tree_all_finite(forward_and_back(params, x, np.ones_like(x), 1e-5))
    _, (dparams, dx) = forward_and_back(params, x[:1], np.ones_like(x[:1]), 1e-5)
    assert_array_equal(dx, np.zeros_like(dx))
    assert_array_equal(dparams, [[0] * CHANNELS, [1] * CHANNELS])


# running statistics


def run(stats, batches, momentum):
    for batch in batches:
        stats = step(stats, batch, momentum)
    return stats


def batches_of(seed=5, n=4):
    x = np.random.default_rng(seed).normal([1.0, -2.0, 30.0], [1.0, 3.0, 0.5], (n, 8, CHANNELS))
    return x.astype(np.float32), x.astype(np.float32).astype(np.float64)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 0.99])
def test_from_count_0_it_is_the_bias_corrected_average(momentum):
    batches, exact = batches_of()
    stats = run(batch_norm.init(CHANNELS)[1], batches, momentum)
    weights = momentum ** np.arange(len(batches))[::-1].astype(float)
    weights /= weights.sum()
    assert_allclose(stats.mean, weights @ exact.mean(1), rtol=1e-5)
    assert_allclose(stats.var, weights @ exact.var(1), rtol=1e-5)


def test_it_stays_bias_corrected_when_momentum_changes_on_the_way():
    batches, exact = batches_of()
    stats = batch_norm.init(CHANNELS)[1]
    for batch, momentum in zip(batches, [0.3, 0.9, 0.5, 0.8], strict=True):
        stats = step(stats, batch, momentum)
    weights = np.array([0.9 * 0.5 * 0.8, 0.5 * 0.8, 0.8, 1.0])
    assert_allclose(stats.count, weights.sum(), rtol=1e-6)
    assert_allclose(stats.mean, weights @ exact.mean(1) / weights.sum(), rtol=1e-5)


@pytest.mark.parametrize("momentum", [0.5, 0.9, 0.99])
def test_from_count_1_over_1_minus_momentum_it_is_the_uncorrected_average(momentum):
    batches, exact = batches_of()
    stats = run(batch_norm.init(CHANNELS, count=1 / (1 - momentum))[1], batches, momentum)
    mean, var = np.zeros(CHANNELS), np.ones(CHANNELS)
    for batch in exact:
        mean = momentum * mean + (1 - momentum) * batch.mean(0)
        var = momentum * var + (1 - momentum) * batch.var(0)
    assert_allclose(stats.mean, mean, rtol=1e-5)
    assert_allclose(stats.var, var, rtol=1e-5)
    assert_allclose(stats.count, 1 / (1 - momentum), rtol=1e-5)


def test_momentum_1_weighs_all_batches_equally():
    batches, exact = batches_of()
    stats = run(batch_norm.init(CHANNELS)[1], batches, 1.0)
    assert_allclose(stats.mean, exact.mean((0, 1)), rtol=1e-5)
    assert_allclose(stats.var, exact.var(1).mean(0), rtol=1e-5)
    assert float(stats.count) == len(batches)


@pytest.mark.parametrize("momentum", [0.0, 0.9, 1.0])
def test_an_infinite_count_is_frozen(momentum):
    frozen = batch_norm.init(CHANNELS, count=np.inf)[1]._replace(mean=jnp.array([1.0, -2.0, 3.0]))
    chex.assert_trees_all_equal(run(frozen, batches_of()[0], momentum), frozen)


@pytest.mark.parametrize("mask", [np.zeros(10, bool), None])
@pytest.mark.parametrize("count", [0.0, 3.0, np.inf])
def test_a_batch_in_which_nothing_counts_changes_nothing(mask, count):
    params, stats, x = example()
    stats = stats._replace(count=np.float32(count))
    y, after = train(params, stats, x[:0] if mask is None else np.full_like(x, np.nan), mask=mask)
    chex.assert_trees_all_equal(after, stats)
    assert np.all(np.asarray(y) == 0)


def test_a_constant_channel_comes_out_as_its_bias_with_variance_0():
    params, stats, x = example()
    x[:, 1] = 0.1
    y, after = train(params, stats, x, momentum=0.0)
    assert_allclose(y[:, 1], np.full(10, params.bias[1]), atol=1e-4)
    assert 0 <= float(after.var[1]) < 1e-12


def test_a_batch_of_one_comes_out_as_the_bias_and_keeps_stats_finite():
    params, stats, x = example()
    y, after = train(params, stats, x[:1])
    assert_allclose(y[0], params.bias, atol=1e-6)
    chex.assert_trees_all_close(after, moved(stats, np.asarray(x[0], np.float64), 0.0, 0.9), rtol=1e-5)


# pooled over a mapped axis


MEMBERS = 4
POOLED_MASK = np.array([[0, 1, 1, 1, 1, 1], [0, 0, 1, 0, 0, 0], [1, 1, 0, 0, 1, 0], [0, 0, 0, 0, 0, 0]], bool)
POOLED_X = np.random.default_rng(7).normal([100.0, 0.0, -3.0], [1.0, 2.0, 0.3], (MEMBERS, 6, CHANNELS))


def test_an_axis_name_pools_by_count_in_value_and_gradient():
    mask = POOLED_MASK

    def pooled(params, x):
        one = functools.partial(batch_norm.train, epsilon=EPSILON, axis_name="device")
        y, after = jax.vmap(
            lambda x, mask: one(params, stats, x, mask=mask), axis_name="device", out_axes=(0, None)
        )(x, mask)
        return y[mask], after

    with jax.enable_x64(True):
        params, stats, _ = example(dtype=np.float64)
        weights = np.random.default_rng(8).normal(size=(mask.sum(), CHANNELS))
        y, after = jax.jit(pooled)(params, POOLED_X)
        mean, var = mean_and_variance(POOLED_X, mask)
        assert_allclose(y, textbook(params, POOLED_X[mask], mean, var, EPSILON), atol=1e-10)
        chex.assert_trees_all_close(after, moved(stats, mean, var, 0.9), rtol=1e-10)

        value, (dparams, dx) = scores(pooled, weights)(params, POOLED_X)
        plain = scores(lambda params, x: plain_train(params, stats, x), weights)
        expected, (plain_dparams, plain_dx) = plain(params, POOLED_X[mask])
        chex.assert_trees_all_close((value, dparams), (expected, plain_dparams), rtol=1e-9)
        dx = np.asarray(dx)
        assert_allclose(dx[mask], plain_dx, atol=1e-9)
        assert np.all(dx[~mask] == 0)


def test_two_named_axes_pool_over_both():
    x = jnp.asarray(POOLED_X, jnp.float32).reshape(2, 2, 6, CHANNELS)
    moments = functools.partial(batch_norm.moments, axis_name=("outer", "inner"))
    pooled = jax.jit(jax.vmap(jax.vmap(moments, axis_name="inner"), axis_name="outer"))(x)
    mean, var = mean_and_variance(POOLED_X)
    assert_allclose(pooled.mean[1, 0], mean, rtol=1e-5)
    assert_allclose(pooled.m2[1, 0], 24 * var, rtol=1e-5)
    assert np.all(np.asarray(pooled.count) == 24)


# accuracy


def test_float32_is_exact_at_mean_over_deviation_1e4():
    rng = np.random.default_rng(9)
    x = rng.normal(1e4, 1, (4, 8, 2, CHANNELS)).astype(np.float32)
    weights = rng.normal(size=x.shape).astype(np.float32)
    params, stats, _ = example()

    def plain_back(params, stats, x, weights):
        _, back = jax.vjp(lambda params, x: plain_train(params, stats, x, epsilon=1e-5)[0], params, x)
        return back(weights)

    y, gradients = forward_and_back(params, x, weights, 1e-5)
    mean, var = mean_and_variance(x)
    assert_allclose(y, textbook(params, x, mean, var, 1e-5), atol=1e-5)
    assert_allclose(step(stats, x, 0.0).var, var, rtol=1e-5)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), (params, stats, x, weights))
        exact = jax.jit(plain_back)(*wide)
    for own, expected in zip(jax.tree.leaves(gradients), jax.tree.leaves(exact), strict=True):
        assert_allclose(own, expected, atol=1e-5 * np.abs(expected).max())


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.floats(-1e4, 1e4), min_size=CHANNELS, max_size=CHANNELS),
    st.lists(st.floats(0.1, 1e3), min_size=CHANNELS, max_size=CHANNELS),
)
def test_outputs_do_not_depend_on_where_and_how_wide_the_inputs_are(means, deviations):
    unit = np.random.default_rng(10).normal(size=(10, CHANNELS))
    x = (np.array(means) + np.array(deviations) * unit).astype(np.float32)
    params, stats, _ = example()
    y, _ = train(params, stats, x)
    expected = textbook(params, x, *mean_and_variance(x), 1e-5)
    assert_allclose(y, expected, atol=1e-5 * (1 + np.max(np.abs(means) / np.array(deviations)) / 1e4))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_16_bit_inputs_keep_float32_statistics(dtype):
    params, stats, x = example(SHAPES["NHWC"])
    small = jnp.asarray(x, dtype)
    y, after = train(params, stats, small, epsilon=EPSILON)
    chex.assert_type(y, dtype)
    chex.assert_type(list(after), jnp.float32)
    wide = np.asarray(small.astype(jnp.float32))
    mean, var = mean_and_variance(wide)
    chex.assert_trees_all_close(after, moved(stats, mean, var, 0.9), rtol=1e-5)
    expected = textbook(params, wide, mean, var, EPSILON)
    eps = float(jnp.finfo(dtype).eps)
    assert_allclose(y.astype(jnp.float32), expected, rtol=eps, atol=1e-5)  # one rounding, at the end
    y = infer(params, stats, small, epsilon=EPSILON)
    chex.assert_type(y, dtype)
    expected = textbook(params, wide, stats.mean, stats.var, EPSILON)
    assert_allclose(y.astype(jnp.float32), expected, rtol=eps, atol=1e-5)


# transformations


def test_jit_equals_eager():
    params, stats, x = example(SHAPES["NHWC"])
    params, stats, x, mask = jax.tree.map(jnp.asarray, (params, stats, x, np.arange(len(x)) > 0))
    eager = batch_norm.train(params, stats, x, mask=mask)
    chex.assert_trees_all_close(train(params, stats, x, mask=mask), eager, rtol=1e-5, atol=1e-6)
    eager = batch_norm.infer(params, stats, x)
    chex.assert_trees_all_close(infer(params, stats, x), eager, rtol=1e-5, atol=1e-6)


def test_vmap_equals_a_loop_with_every_argument_mapped():
    members = [example(seed=seed) for seed in range(3)]
    momentum, epsilon = np.array([0.0, 0.9, 1.0]), np.array([1e-5, 1e-3, 0.1])
    masks = np.random.default_rng(11).random((3, 10)) < 0.7

    def one(member, momentum, epsilon, mask):
        params, stats, x = member
        y, after = batch_norm.train(params, stats, x, momentum=momentum, epsilon=epsilon, mask=mask)
        return y, after, batch_norm.infer(params, after, x, epsilon=epsilon)

    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *members)
    mapped = jax.jit(jax.vmap(one))(stacked, momentum, epsilon, masks)
    jitted = jax.jit(one)
    for i, member in enumerate(members):
        alone = jitted(member, momentum[i], epsilon[i], masks[i])
        own = jax.tree.map(lambda a, i=i: a[i], mapped)
        chex.assert_trees_all_close(own, alone, rtol=1e-5, atol=1e-5)


def test_values_of_momentum_and_epsilon_compile_nothing_new():
    params, stats, x = example()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def traced(momentum, epsilon):
        return batch_norm.train(params, stats, jnp.asarray(x), momentum=momentum, epsilon=epsilon)

    outputs = [traced(momentum, 1e-5)[1].count for momentum in (0.1, 0.5)]
    assert outputs[0] != outputs[1]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_statistics_keep_their_type_through_a_scan(dtype):
    params, stats = batch_norm.init(CHANNELS, dtype=dtype)
    xs = jnp.asarray(batches_of()[0], dtype)

    def one(stats, x):
        y, stats = batch_norm.train(params, stats, x)
        return stats, y

    after, _ = jax.jit(lambda stats, xs: jax.lax.scan(one, stats, xs))(stats, xs)
    chex.assert_trees_all_equal_shapes_and_dtypes(after, stats)


# misuse


@pytest.mark.parametrize("name", ["scale", "bias", "mean", "var"])
@pytest.mark.parametrize("verb", ["train", "infer", "fold"])
def test_parameters_and_statistics_must_fit_the_last_axis(name, verb):
    params, stats, x = example()
    wrong = {name: np.ones(1)}
    params = params._replace(**wrong) if name in params._fields else params
    stats = stats._replace(**wrong) if name in stats._fields else stats
    with pytest.raises(AssertionError, match=rf"batch norm's {name} must fit the last axis of \(10, 3\)"):
        getattr(batch_norm, verb)(params, stats, jnp.asarray(x))
