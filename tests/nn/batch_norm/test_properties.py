"""What holds for any batch, of one shape so that every function is compiled once."""

import chex
import jax
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal

from jbn.nn import batch_norm
from jbn.nn.batch_norm import BatchNormParams, BatchNormStats, Moments

ROWS, CHANNELS, INPUTS = 12, 3, 4
LARGE, TINY = 2.0**59, 1e-36  # sums of squares of such numbers neither overflow nor underflow in float32
few = settings(deadline=None, max_examples=25)

train, infer = jax.jit(batch_norm.train), jax.jit(batch_norm.infer)
moments, update, fold = jax.jit(batch_norm.moments), jax.jit(batch_norm.update), jax.jit(batch_norm.fold)
fold_into_next, population = jax.jit(batch_norm.fold_into_next), jax.jit(batch_norm.population)
merge, variance = jax.jit(Moments.merge), jax.jit(Moments.variance, static_argnames="ddof")
moments_of_all = jax.jit(jax.vmap(lambda x, mask: batch_norm.moments(x, mask=mask), (None, 0)))


def floats(low, high):
    return st.floats(low, high, width=32)


def vectors(low, high, size=CHANNELS):
    return hnp.arrays(np.float32, size, elements=floats(low, high))


def batches(low, high):
    return hnp.arrays(np.float32, (ROWS, CHANNELS), elements=floats(low, high))


WHOLE = hnp.arrays(np.int32, (ROWS, CHANNELS), elements=st.integers(-512, 512))
GRID = WHOLE.map(lambda a: (a / 64).astype(np.float32))  # multiples of 1/64 in [-8, 8]: sums are exact
MASK = hnp.arrays(bool, ROWS)
PARAMS = st.builds(BatchNormParams, vectors(-2, 2), vectors(-3, 3))
STATS = st.builds(BatchNormStats, vectors(-3, 3), vectors(0.125, 4), st.just(np.float32(3)))
START = BatchNormStats(np.zeros(CHANNELS, np.float32), np.ones(CHANNELS, np.float32), np.float32(1))


def exact(x, mask=...):
    """Count, mean and sum of squared deviations of the rows that count, in float64."""
    rows = x[mask].astype(np.float64).reshape(-1, x.shape[-1])
    mean = rows.sum(0) / max(len(rows), 1)
    return len(rows), mean, ((rows - mean) ** 2).sum(0)


def assert_exact(mean, m2, expected, largest):
    """Exact but for a few roundings of numbers as large as the largest value, and of squares of such roundings."""
    assert_allclose(mean, expected[1], rtol=1e-6, atol=1e-6 * largest + TINY)
    assert_allclose(m2, expected[2], rtol=1e-5, atol=1e-11 * largest**2 + TINY)


# symmetries of the output


@few
@given(GRID, st.lists(st.integers(-3, 3), min_size=CHANNELS, max_size=CHANNELS), WHOLE)
def test_the_output_knows_neither_where_nor_how_wide_the_input_is(x, exponents, shifts):
    factor = np.exp2(exponents).astype(np.float32) * np.array([1, -1, 1], np.float32)
    moved = x * factor + shifts[0].astype(np.float32)  # exact: powers of 2, and 9 + 9 bits
    assert_array_equal(moved.astype(np.float64), x.astype(np.float64) * factor + shifts[0])
    y, _ = train(None, START, x, epsilon=0.0)
    shifted, _ = train(None, START, moved, epsilon=0.0)
    assert_allclose(shifted, np.sign(factor) * np.asarray(y), atol=1e-5)


@few
@given(GRID)
def test_the_output_has_mean_0_and_variance_1_or_is_0(x):
    y = np.asarray(train(None, START, x, epsilon=0.0)[0], np.float64)
    constant = (x == x[0]).all(0)
    assert_allclose(y.mean(0), 0, atol=1e-6)
    assert_allclose(y.var(0), np.where(constant, 0, 1), atol=1e-5)


@few
@given(batches(-100, 100), MASK, PARAMS, st.permutations(range(ROWS)))
def test_the_order_of_the_rows_is_that_of_the_output_and_nothing_else(x, mask, params, order):
    order = np.array(order)
    y, after = train(params, START, x, mask=mask)
    own, own_after = train(params, START, x[order], mask=mask[order])
    assert_allclose(own, np.asarray(y)[order], atol=1e-4)
    chex.assert_trees_all_close(own_after, after, rtol=1e-5, atol=1e-5)


@few
@given(batches(-100, 100), PARAMS, STATS, st.permutations(range(CHANNELS)))
def test_channels_do_not_know_of_each_other(x, params, stats, order):
    order = np.array(order)

    def permuted(tree):
        return jax.tree.map(lambda a: np.asarray(a)[..., order] if np.ndim(a) else a, tree)

    own = train(*permuted((params, stats, x)))
    chex.assert_trees_all_close(own, permuted(train(params, stats, x)), rtol=1e-5, atol=1e-5)


# moments


@few
@given(batches(-100, 100), hnp.arrays(np.int32, ROWS, elements=st.integers(0, 2)))
def test_merging_is_commutative_and_associative_and_gives_the_whole(x, part):
    a, b, c = (moments(x, mask=part == i) for i in range(3))
    whole = exact(x)
    for own in (merge(merge(a, b), c), merge(a, merge(b, c)), merge(c, merge(b, a)), moments(x)):
        assert float(own.count) == ROWS
        assert_exact(own.mean, own.m2, whole, np.abs(x).max())


@few
@given(batches(-100, 100), hnp.arrays(np.int32, ROWS, elements=st.integers(0, 2)))
def test_any_cut_into_batches_has_the_same_population(x, batch):
    stats = population(moments_of_all(x, np.arange(3)[:, None] == batch))
    assert_exact(stats.mean, ROWS * stats.var, exact(x), np.abs(x).max())
    assert float(stats.count) == len(set(batch.tolist()))


@few
@given(
    st.one_of(batches(-LARGE, LARGE), vectors(-LARGE, LARGE).map(lambda row: np.tile(row, (ROWS, 1)))), MASK
)
def test_no_variance_is_negative(x, mask):
    for own in (moments(x), moments(x, mask=mask), merge(moments(x), moments(x, mask=mask))):
        for ddof in (0, 1):
            var = np.asarray(variance(own, ddof=ddof))
            assert np.all(var >= 0)
            assert np.all(np.isfinite(var))


# running statistics


@few
@given(batches(-LARGE, LARGE), MASK, STATS, floats(0, 1), st.sampled_from([0.0, 0.5, 100.0, np.inf]))
def test_no_finite_batch_makes_statistics_that_are_not_finite(x, mask, stats, momentum, count):
    stats = stats._replace(count=np.float32(count))
    for batch in (moments(x), moments(x, mask=mask)):
        after = update(stats, batch, momentum=momentum)
        assert np.all(np.isfinite(after.mean))
        assert np.all(np.isfinite(after.var))
        assert np.all(np.asarray(after.var) >= 0)
        assert np.isfinite(after.count) == np.isfinite(count)


@few
@given(GRID, PARAMS, STATS)
def test_with_momentum_0_the_batch_is_normalised_alike_in_inference(x, params, stats):
    y, after = train(params, stats, x, momentum=0.0, epsilon=1e-3)
    assert_allclose(infer(params, after, x, epsilon=1e-3), y, atol=5e-5)


@pytest.mark.parametrize("old", [3.0, 1e4])
def test_with_momentum_0_small_statistics_are_not_rounded_like_large_old_ones(old):
    x = np.full((12, 1), -1.65625, np.float32)
    x[0] = -1.59375
    stats = BatchNormStats(np.full(1, old, np.float32), np.full(1, old, np.float32), np.float32(3))
    after = update(stats, moments(x), momentum=0.0)
    assert_allclose(after.mean, x.mean(0, np.float64), rtol=1e-6)
    assert_allclose(after.var, x.var(0, np.float64), rtol=1e-6)


@few
@given(STATS, batches(-100, 100), floats(0, 1))
def test_the_running_statistics_stay_between_the_old_and_those_of_the_batch(stats, x, momentum):
    count, mean, m2 = exact(x)
    after = update(stats, moments(x), momentum=momentum)
    slack = 1e-5 * (1 + np.abs(x).max() ** 2)
    for own, old, new in ((after.mean, stats.mean, mean), (after.var, stats.var, m2 / count)):
        assert np.all(own >= np.minimum(old, new) - slack)
        assert np.all(own <= np.maximum(old, new) + slack)


# masks


@few
@given(
    batches(-100, 100),
    MASK,
    st.lists(st.sampled_from([np.nan, np.inf, -np.inf, 3e38, 0.0]), min_size=ROWS, max_size=ROWS),
)
def test_rows_that_do_not_count_may_hold_anything(x, mask, filling):
    dirty = np.where(mask[:, None], x, np.array(filling, np.float32)[:, None])
    own, clean = (train(None, START, a, mask=mask) for a in (dirty, np.where(mask[:, None], x, 0)))
    chex.assert_trees_all_equal(own, clean)
    assert_array_equal(np.asarray(own[0])[~mask], 0)
    part, expected = moments(dirty, mask=mask), exact(x, mask)
    assert float(part.count) == expected[0]
    assert_exact(part.mean, part.m2, expected, np.abs(x).max())


@few
@given(batches(-100, 100), MASK)
def test_training_on_the_rows_that_count_is_training_without_the_others(x, mask):
    assume(mask.any())
    count, mean, m2 = exact(x, mask)
    y, after = train(None, START, x, mask=mask, momentum=0.5, epsilon=1e-3)
    expected = (x[mask] - mean) / np.sqrt(m2 / count + 1e-3)
    assert_allclose(np.asarray(y)[mask], expected, atol=1e-4)
    assert_allclose(after.mean, mean / 1.5, rtol=1e-5, atol=1e-5)
    assert_allclose(after.var, 1 + (m2 / count - 1) / 1.5, rtol=1e-5)


# folding


@few
@given(
    PARAMS,
    STATS,
    hnp.arrays(np.float32, (INPUTS, CHANNELS), elements=floats(-2, 2)),
    vectors(-2, 2),
    hnp.arrays(np.float32, (ROWS, INPUTS), elements=floats(-4, 4)),
)
def test_folding_is_inference(params, stats, kernel, bias, x):
    def dense(x, kernel, bias):
        return np.asarray(x, np.float64) @ np.asarray(kernel, np.float64) + np.asarray(bias, np.float64)

    z = dense(x, kernel, bias).astype(np.float32)
    assert_allclose(dense(x, *fold(params, stats, kernel, bias)), infer(params, stats, z), atol=2e-4)
    back = np.zeros(INPUTS, np.float32)
    ahead = fold_into_next(params, stats, kernel.T, back)
    assert_allclose(dense(z, *ahead), dense(infer(params, stats, z), kernel.T, back), atol=1e-3)
