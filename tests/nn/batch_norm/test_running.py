"""The running statistics: an exponentially weighted average with a count, which is every framework's as well."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from jbn import batch_norm
from jbn.nn.batch_norm import BatchNormStats, Moments

CHANNELS = 3
ROWS = 8
momenta = pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 0.99])
ddofs = pytest.mark.parametrize("ddof", [0, 1])

update = jax.jit(batch_norm.update, static_argnames="ddof")
moments = jax.jit(batch_norm.moments)
train = jax.jit(batch_norm.train, static_argnames="ddof")


def some_batches(n=4):
    """`[n, rows, channels]` in float32, and the same numbers in float64."""
    x = np.random.default_rng(5).normal([1.0, -2.0, 30.0], [1.0, 3.0, 0.5], (n, ROWS, CHANNELS))
    return x.astype(np.float32), x.astype(np.float32).astype(np.float64)


def run(stats, batches, momentum, ddof=0):
    for batch in batches:
        stats = update(stats, moments(batch), momentum=momentum, ddof=ddof)
    return stats


def start(count=0.0):
    return batch_norm.init(CHANNELS, count=count)[1]


# the averages it can be


@ddofs
@momenta
def test_from_count_0_it_is_the_bias_corrected_average(momentum, ddof):
    batches, exact = some_batches()
    stats = run(start(), batches, momentum, ddof)
    weights = momentum ** np.arange(len(batches))[::-1].astype(float)
    assert_allclose(stats.count, weights.sum(), rtol=1e-6)
    weights /= weights.sum()
    assert_allclose(stats.mean, weights @ exact.mean(1), rtol=1e-5)
    assert_allclose(stats.var, weights @ exact.var(1, ddof=ddof), rtol=1e-5)


@ddofs
@pytest.mark.parametrize("momentum", [0.5, 0.9, 0.99])
def test_from_count_1_over_1_minus_momentum_it_is_the_uncorrected_average(momentum, ddof):
    batches, exact = some_batches()
    stats = run(start(1 / (1 - momentum)), batches, momentum, ddof)
    mean, var = np.zeros(CHANNELS), np.ones(CHANNELS)
    for batch in exact:
        mean = momentum * mean + (1 - momentum) * batch.mean(0)
        var = momentum * var + (1 - momentum) * batch.var(0, ddof=ddof)
    assert_allclose(stats.mean, mean, rtol=1e-5)
    assert_allclose(stats.var, var, rtol=1e-5)
    assert_allclose(stats.count, 1 / (1 - momentum), rtol=1e-5)


@ddofs
def test_momentum_1_weighs_all_batches_equally(ddof):
    batches, exact = some_batches()
    stats = run(start(), batches, 1.0, ddof)
    assert_allclose(stats.mean, exact.mean((0, 1)), rtol=1e-5)
    assert_allclose(stats.var, exact.var(1, ddof=ddof).mean(0), rtol=1e-5)
    assert float(stats.count) == len(batches)


def test_momentum_0_keeps_the_last_batch():
    batches, exact = some_batches()
    stats = run(start(5.0), batches, 0.0)
    assert_allclose(stats.mean, exact[-1].mean(0), rtol=1e-5)
    assert_allclose(stats.var, exact[-1].var(0), rtol=1e-5)
    assert float(stats.count) == 1


def test_it_stays_bias_corrected_when_momentum_changes_on_the_way():
    batches, exact = some_batches()
    stats = start()
    for batch, momentum in zip(batches, [0.3, 0.9, 0.5, 0.8], strict=True):
        stats = run(stats, [batch], momentum)
    weights = np.array([0.9 * 0.5 * 0.8, 0.5 * 0.8, 0.8, 1.0])
    assert_allclose(stats.count, weights.sum(), rtol=1e-6)
    weights /= weights.sum()
    assert_allclose(stats.mean, weights @ exact.mean(1), rtol=1e-5)
    assert_allclose(stats.var, weights @ exact.var(1), rtol=1e-5)


@ddofs
@pytest.mark.parametrize("momentum", [0.0, 0.9, 1.0])
def test_an_infinite_count_is_frozen(momentum, ddof):
    frozen = start(np.inf)._replace(mean=jnp.array([1.0, -2.0, 3.0]))
    chex.assert_trees_all_equal(run(frozen, some_batches()[0], momentum, ddof), frozen)


def test_statistics_can_be_frozen_and_thawed_on_the_way():
    batches, _ = some_batches()
    before = run(start(), batches[:2], 0.9)
    thawed = run(before._replace(count=jnp.inf), batches[2:3], 0.9)._replace(count=before.count)
    chex.assert_trees_all_equal(thawed, before)
    expected = run(before, batches[3:], 0.9)
    chex.assert_trees_all_equal(run(thawed, batches[3:], 0.9), expected)


def test_the_initial_mean_and_variance_weigh_their_count():
    stats = BatchNormStats(jnp.array([10.0]), jnp.array([8.0]), jnp.array(4.0))
    after = update(
        stats, moments(jnp.array([[1.0], [3.0]])), momentum=0.5
    )  # 2 of 3 for the old, 1 for the new
    assert_allclose(after.mean, [(2 * 10 + 2) / 3], rtol=1e-6)
    assert_allclose(after.var, [(2 * 8 + 1) / 3], rtol=1e-6)
    assert float(after.count) == 3


def test_10_000_steps_do_not_drift():
    """The average arrives at a batch that comes again and again, and the count at `1 / (1 - momentum)`."""
    x = some_batches()[0][0]
    batch = moments(x)

    def step(stats, _):
        return batch_norm.update(stats, batch, momentum=0.99), None

    after, _ = jax.jit(lambda stats: jax.lax.scan(step, stats, length=10_000))(start(1.0))
    assert_allclose(after.mean, x.mean(0, np.float64), rtol=1e-5)
    assert_allclose(after.var, x.var(0, np.float64), rtol=1e-5)
    assert_allclose(after.count, 100, rtol=1e-4)


# the variance of few values


def test_ddof_by_hand():
    batch = moments(jnp.array([[1.0], [2.0], [6.0]]))  # squared deviations 4 + 1 + 9
    assert_allclose(update(start(0.0), batch).var[:1], [14 / 3], rtol=1e-6)
    assert_allclose(update(start(0.0), batch, ddof=1).var[:1], [7], rtol=1e-6)


@ddofs
def test_training_takes_ddof_for_the_running_variance_alone(ddof):
    x = some_batches()[0][0]
    params, stats = batch_norm.init(CHANNELS)
    y, after = train(params, stats, x, ddof=ddof)
    assert_allclose(after.var, x.var(0, np.float64, ddof=ddof), rtol=1e-5)
    biased = (x - x.mean(0, np.float64)) / np.sqrt(x.var(0, np.float64) + 1e-5)
    assert_allclose(y, biased, atol=1e-5)


def test_ddof_counts_what_the_mask_lets_through():
    x = some_batches()[0][0]
    mask = np.arange(ROWS) % 3 > 0
    params, stats = batch_norm.init(CHANNELS)
    _, after = train(params, stats, x, mask=mask, ddof=1)
    assert_allclose(after.var, x[mask].var(0, np.float64, ddof=1), rtol=1e-5)


@ddofs
def test_a_single_value_has_variance_0(ddof):
    batch = moments(jnp.array([[4.0, 0.0, -7.0]]))
    stats = update(start(1.0), batch, momentum=1.0, ddof=ddof)
    assert_allclose(stats.mean, [2, 0, -3.5], rtol=1e-6)
    assert_allclose(stats.var, [0.5, 0.5, 0.5], rtol=1e-6)


# what moves nothing


@pytest.mark.parametrize("count", [0.0, 3.0, np.inf])
@pytest.mark.parametrize("momentum", [0.0, 0.9, 1.0])
def test_a_batch_in_which_nothing_counts_changes_nothing(momentum, count):
    stats = start(count)._replace(mean=jnp.array([1.0, -2.0, 3.0]))
    empty = moments(jnp.zeros((0, CHANNELS)))
    chex.assert_trees_all_equal(update(stats, empty, momentum=momentum, ddof=1), stats)


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 1e25])
@pytest.mark.parametrize("count", [0.0, 3.0, np.inf])
def test_a_channel_without_finite_moments_keeps_its_mean_and_variance(count, garbage):
    """The square of 1e25 is no float32. The other channels move on, and so does this one in the next batch."""
    batches, exact = some_batches()
    spoilt = batches[0].copy()
    spoilt[3, 1] = garbage
    before = start(count)._replace(mean=jnp.array([1.0, -2.0, 3.0]))
    after, expected = run(before, [spoilt], 0.9), run(before, batches[:1], 0.9)
    assert (float(after.mean[1]), float(after.var[1])) == (-2, 1)
    for own, same in zip((after.mean, after.var), (expected.mean, expected.var), strict=True):
        assert_allclose(own[::2], same[::2], rtol=1e-5)
    assert float(after.count) == float(expected.count)
    following = run(after._replace(count=jnp.float32(1)), batches[1:2], 1.0)
    assert_allclose(following.mean[1], (exact[1].mean(0)[1] - 2) / 2, rtol=1e-5)


def test_nothing_that_counts_is_counted_in_a_row_of_batches():
    batches, exact = some_batches()
    stats, empty = run(start(), batches[:2], 0.9), jnp.zeros((0, CHANNELS))
    stats = run(stats, [empty, *batches[2:], empty], 0.9)
    weights = 0.9 ** np.arange(4.0)[::-1]
    assert_allclose(stats.mean, weights @ exact.mean(1) / weights.sum(), rtol=1e-5)


def test_running_statistics_do_not_touch_the_outputs_of_training():
    x = some_batches()[0][0]
    params, stats = batch_norm.init(CHANNELS)
    other = BatchNormStats(jnp.array([9.0, 9.0, 9.0]), jnp.array([0.1, 0.1, 0.1]), jnp.array(50.0))
    chex.assert_trees_all_equal(train(params, stats, x)[0], train(params, other, x)[0])


def test_parameters_do_not_touch_the_running_statistics():
    x = some_batches()[0][0]
    params, stats = batch_norm.init(CHANNELS)
    other = params._replace(scale=9 * params.scale, bias=params.bias - 4)
    chex.assert_trees_all_equal(train(params, stats, x)[1], train(other, stats, x)[1])


def test_the_order_of_rows_is_nothing_and_that_of_batches_something():
    batches, _ = some_batches()
    shuffled = batches[:, np.random.default_rng(1).permutation(ROWS)]
    chex.assert_trees_all_close(run(start(), shuffled, 0.9), run(start(), batches, 0.9), rtol=1e-5)
    backwards = run(start(), batches[::-1], 0.5)
    assert np.abs(np.asarray(backwards.mean) - np.asarray(run(start(), batches, 0.5).mean)).max() > 0.01


# types


def test_statistics_keep_their_own_type():
    x = some_batches()[0][0]
    _, stats = batch_norm.init(CHANNELS, dtype=jnp.bfloat16)
    after = update(stats, moments(x), momentum=jnp.float32(0.9))
    chex.assert_type([after.mean, after.var], jnp.bfloat16)
    chex.assert_type(after.count, jnp.float32)
    assert_allclose(np.float32(after.mean), x.mean(0), rtol=2**-8)


def test_float64_statistics_are_exact_in_float64():
    with jax.enable_x64(True):
        _, exact = some_batches()
        stats = run(batch_norm.init(CHANNELS)[1], exact, 0.9)
        chex.assert_type(list(stats), jnp.float64)
        weights = 0.9 ** np.arange(4.0)[::-1]
        assert_allclose(stats.var, weights @ exact.var(1) / weights.sum(), rtol=1e-13)


def test_any_moments_can_be_followed():
    """Moments from elsewhere, here of two thirds of the rows merged with those of the others."""
    x, _ = some_batches()
    merged = jax.jit(Moments.merge)(moments(x[0, :5]), moments(x[0, 5:]))
    chex.assert_trees_all_close(update(start(), merged), update(start(), moments(x[0])), rtol=1e-5)
