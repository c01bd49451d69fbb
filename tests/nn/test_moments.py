import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from jbn.nn.moments import Moments, widen

ROWS, CHANNELS = 12, 3
X = np.random.default_rng(0).normal([0.0, 3.0, -50.0], [1.0, 0.1, 7.0], (ROWS, CHANNELS)).astype(np.float32)
MASKS = st.lists(st.booleans(), min_size=ROWS, max_size=ROWS).map(lambda mask: np.array(mask, bool))
of = jax.jit(Moments.of, static_argnames="channel_axis")
merge = jax.jit(Moments.merge)
pool = jax.jit(jax.vmap(lambda x, mask: Moments.of(x, mask).psum("device"), axis_name="device"))
pool_at_once = jax.jit(jax.vmap(lambda x, mask: Moments.of(x, mask, axis_name="device"), axis_name="device"))
pools = pytest.mark.parametrize("pool", [pool, pool_at_once], ids=["psum", "axis_name"])


def textbook(rows):
    """Count, mean and squared deviations of `[rows, channels]` in float64."""
    rows = np.asarray(rows, np.float64)
    if not len(rows):
        return Moments(0.0, np.zeros(rows.shape[1]), np.zeros(rows.shape[1]))
    return Moments(float(len(rows)), rows.mean(0), ((rows - rows.mean(0)) ** 2).sum(0))


def assert_moments(actual, expected, rtol=1e-5):
    assert float(actual.count) == expected.count
    assert_allclose(actual.mean, expected.mean, rtol=rtol, atol=1e-6)
    assert_allclose(actual.m2, expected.m2, rtol=rtol, atol=1e-6)


def test_by_hand():
    part = of(jnp.array([[1.0, 10.0], [2.0, 10.0], [6.0, 10.0]]))
    assert float(part.count) == 3
    assert part.mean.tolist() == [3, 10]
    assert_allclose(part.m2, [14, 0], rtol=1e-6)
    assert_allclose(part.variance(), [14 / 3, 0], rtol=1e-6)
    assert_allclose(part.variance(ddof=1), [7, 0], rtol=1e-6)


def test_all_axes_but_the_last_are_reduced():
    x = X.reshape(2, 3, 2, CHANNELS)
    assert_moments(of(x), textbook(X))
    one_row = of(X[0])  # no axis to reduce: one value a channel
    assert_moments(one_row, textbook(X[:1]))


@pytest.mark.parametrize("channel_axis", [0, 1, 2, -1, -3])
def test_any_axis_can_be_the_channels(channel_axis):
    x = np.moveaxis(X.reshape(4, 3, CHANNELS), -1, channel_axis)
    assert_moments(of(x, channel_axis=channel_axis), textbook(X))
    mask = np.arange(4) % 3 > 0
    rows = X.reshape(4, 3, CHANNELS)[mask].reshape(-1, CHANNELS)
    assert_moments(of(x, mask, channel_axis=channel_axis), textbook(rows))


def test_channels_on_several_axes():
    x = X.reshape(3, 2, 2, CHANNELS)
    part = of(x, channel_axis=(1, -1))  # rows: the axes of 3 and 2
    assert part.mean.shape == part.m2.shape == part.rest.shape == (2, CHANNELS)
    for place in range(2):
        assert_moments(
            Moments(part.count, part.mean[place], part.m2[place]), textbook(x[:, place].reshape(-1, CHANNELS))
        )


@settings(deadline=None, max_examples=30)
@given(MASKS)
def test_a_mask_leaves_rows_out_whatever_they_hold(mask):
    dirty = np.where(mask[:, None], X, np.array([np.nan, np.inf, -np.inf], np.float32))
    assert_moments(of(dirty, mask), textbook(X[mask]))


@settings(deadline=None, max_examples=30)
@given(MASKS, MASKS)
def test_merging_is_the_moments_of_both_sets_in_any_order(one, other):
    a, b = of(X, one), of(X, other)
    expected = textbook(np.concatenate([X[one], X[other]]))
    assert_moments(merge(a, b), expected)
    assert_moments(merge(b, a), expected)


def test_merging_is_associative_and_knows_the_empty_set():
    a, b, c = (of(part) for part in (X[:1], X[1:6], X[6:]))
    assert_moments(merge(merge(a, b), c), textbook(X))
    assert_moments(merge(a, merge(b, c)), textbook(X))
    empty, zeros = of(jnp.zeros((0, CHANNELS))), jnp.zeros(CHANNELS)
    chex.assert_trees_all_equal(empty, Moments(jnp.zeros(()), zeros, zeros, zeros))
    chex.assert_trees_all_close(merge(a, empty), a, rtol=1e-7)
    chex.assert_trees_all_equal(merge(empty, a), a)
    chex.assert_trees_all_equal(Moments.empty(CHANNELS), empty)
    chex.assert_trees_all_equal(merge(empty, empty), empty)


def test_too_few_values_have_no_variance():
    nothing = of(X, np.zeros(ROWS, bool))
    chex.assert_trees_all_equal(nothing.variance(), jnp.zeros(CHANNELS))
    single = of(X[:1])
    chex.assert_trees_all_equal(single.variance(ddof=1), jnp.zeros(CHANNELS))


@pytest.mark.parametrize("shape", [(2,), (2, 3), (2, 3, 4)])
def test_a_mask_is_a_leading_prefix_of_the_shape(shape):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(2, 3, 4, 5)).astype(np.float32)
    mask = rng.random(shape) < 0.6
    mask.flat[0] = True
    assert_moments(of(x, mask), textbook(x[mask].reshape(-1, 5)))


@pytest.mark.parametrize("shape", [(3,), (1, 3), (1,), (2, 1), (2, 3, 1), (2, 3, 4), (2, 3, 4, 5)])
def test_a_mask_never_broadcasts_from_the_right(shape):
    with pytest.raises(ValueError, match="leading prefix") as error:
        Moments.of(jnp.zeros((2, 3, 4)), jnp.ones(shape, bool))
    assert "x has shape (2, 3, 4)" in str(error.value)
    assert f"the mask {shape}" in str(error.value)
    assert "reshape the mask to (2, 3)" in str(error.value)


def test_a_square_batch_takes_its_mask_from_the_left():
    x = jnp.arange(9.0).reshape(3, 3)
    assert of(x, jnp.array([True, False, True])).mean.tolist() == [3, 4, 5]


def far_away(ratio, rows=500):
    return np.random.default_rng(2).normal(ratio, 1.0, (rows, 3)).astype(np.float32)


def off(part, rows):
    """How far mean + rest, and the mean alone, are from the exact mean."""
    exact = rows.astype(np.float64).mean(0)
    mean, rest = np.float64(part.mean), np.float64(part.rest)
    return np.abs(mean + rest - exact).max(), np.abs(mean - exact).max()


@pytest.mark.parametrize("ratio", [1e3, 1e4, 1e5])
def test_the_variance_stays_exact_far_from_zero(ratio):
    rows = far_away(ratio)
    exact = textbook(rows)
    one_pass = np.mean(rows**2, 0) - np.mean(rows, 0) ** 2
    assert np.all(np.abs(one_pass / (exact.m2 / 500) - 1) > 1e-2)  # what E[x^2] - E[x]^2 is worth here
    assert_allclose(of(rows).variance(), exact.m2 / 500, rtol=1e-5)
    assert_allclose(of(rows).mean, exact.mean, rtol=1e-7)
    halves = merge(of(rows[:250]), of(rows[250:]))
    assert_allclose(halves.variance(), exact.m2 / 500, rtol=1e-5)


@pytest.mark.parametrize("ratio", [1e3, 1e4, 1e5])
@pytest.mark.parametrize("shape", [(495, 3), (33, 15, 3)], ids=["dense", "sequences"])
def test_mean_and_rest_together_are_more_exact_than_float32(shape, ratio):
    rows = far_away(ratio, 495)
    together, alone = off(of(rows.reshape(shape)), rows)
    assert alone > 5e-9 * ratio  # half an ulp is up to 6e-8
    assert together < 1e-6


@pytest.mark.parametrize("ratio", [1e3, 1e4, 1e5])
@pytest.mark.parametrize("shape", [(30, 3), (112, 3), (7, 16, 3)], ids=str)
def test_mean_and_rest_are_as_exact_under_a_mask(shape, ratio):
    rows = far_away(ratio, 112)[: np.prod(shape[:-1])].reshape(shape)
    for seed in range(8):  # counts with and without an exact reciprocal
        mask = np.random.default_rng(seed).random(shape[:-1]) < 0.6
        together, _ = off(of(rows, mask), rows[mask])
        assert together < 1e-6


@pools
@pytest.mark.parametrize("ratio", [1e3, 1e4, 1e5])
def test_mean_and_rest_are_as_exact_when_pooled(pool, ratio):
    rows = far_away(ratio, 112).reshape(4, 28, 3)
    for seed in range(8):
        mask = np.random.default_rng(seed).random((4, 28)) < 0.6
        part = jax.tree.map(lambda a: a[0], pool(rows, mask))
        together, _ = off(part, rows[mask])
        assert together < 1e-6


def test_merging_keeps_mean_and_rest_exact():
    rows = far_away(1e4, 495)
    together, alone = off(merge(of(rows[:100]), of(rows[100:])), rows)
    assert alone > 1e-5
    assert together < 1e-6


@pytest.mark.parametrize("value", [0.0, 0.1, -1e4, 1e15])
def test_a_constant_channel_has_about_no_variance_and_never_a_negative_one(value):
    part = of(np.full((37, 1), value, np.float32))
    assert 0 <= float(part.variance()[0]) <= (1e-7 * value) ** 2


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_16_bit_values_are_reduced_in_float32(dtype):
    rows = jnp.asarray(np.random.default_rng(3).normal(20, 1, (3000, 2)), dtype)
    part = of(rows)
    chex.assert_type(list(part), jnp.float32)
    assert_moments(part, textbook(np.asarray(rows.astype(jnp.float32))))


def test_float64_stays_float64():
    with jax.enable_x64(True):
        rows = np.random.default_rng(4).normal(1e6, 1, (50, 2))
        part = of(rows)
        chex.assert_type(list(part), jnp.float64)
        assert_allclose(part.variance(), rows.var(0), rtol=1e-13 * 1e4)


def pooled_members():
    rng = np.random.default_rng(5)
    x = rng.normal([100.0, -2.0], [1.0, 3.0], (4, 7, 2)).astype(np.float32)
    mask = rng.random((4, 7)) < np.array([[0.9], [0.3], [0.6], [0.0]])
    mask[0, 0] = True
    return x, mask


@pools
def test_members_are_pooled_by_their_counts(pool):
    x, mask = pooled_members()
    assert len(set(mask.sum(1).tolist())) > 2
    assert not mask[3].any()
    pooled = pool(np.where(mask[..., None], x, np.nan), mask)
    for member in range(4):  # everybody has the same answer
        assert_moments(jax.tree.map(lambda a, i=member: a[i], pooled), textbook(x[mask]))


def test_members_are_pooled_without_a_mask_as_well():
    x, _ = pooled_members()
    for one in (lambda x: Moments.of(x).psum("device"), lambda x: Moments.of(x, axis_name="device")):
        pooled = jax.jit(jax.vmap(one, axis_name="device"))(x)
        assert_moments(jax.tree.map(lambda a: a[2], pooled), textbook(x.reshape(-1, 2)))


def test_two_named_axes_pool_over_both():
    x, mask = (a.reshape(2, 2, *a.shape[1:]) for a in pooled_members())
    for one in (
        lambda x, mask: Moments.of(x, mask).psum(("outer", "inner")),
        lambda x, mask: Moments.of(x, mask, axis_name=("outer", "inner")),
    ):
        pooled = jax.jit(jax.vmap(jax.vmap(one, axis_name="inner"), axis_name="outer"))(x, mask)
        assert_moments(jax.tree.map(lambda a: a[1, 0], pooled), textbook(x[mask]))


@pools
def test_nothing_pooled_is_nothing(pool):
    x, mask = pooled_members()
    zeros = jnp.zeros((4, 2))
    expected = Moments(jnp.zeros(4), zeros, zeros, zeros)
    chex.assert_trees_all_equal(pool(x, np.zeros_like(mask)), expected)


def test_derivatives_of_both_orders_although_the_shift_carries_none():
    def own(x):
        part = Moments.of(x, mask)
        return jnp.sum(jnp.sin(part.mean) * part.variance(ddof=1))

    def plain(x):
        rows = x[np.array([0, 1, 3, 4, 5])]
        mean = jnp.sum(rows, 0) / 5
        return jnp.sum(jnp.sin(mean) * jnp.sum((rows - mean[None, :]) ** 2, 0) / 4)

    def derivatives(function):  # the gradient, and its derivative in one direction
        return jax.jit(lambda x, direction: jax.jvp(jax.grad(function), (x,), (direction,)))

    with jax.enable_x64(True):
        mask = jnp.array([True, True, False, True, True, True])
        x, direction = jnp.asarray(np.random.default_rng(7).normal(3, 2, (2, 6, 2)))
        expected = derivatives(plain)(x, direction)
        assert np.abs(expected[1]).max() > 0.1
        chex.assert_trees_all_close(derivatives(own)(x, direction), expected, atol=1e-12)


@pytest.mark.parametrize("masked", [False, True])
def test_the_rest_is_a_constant_for_derivatives(masked):
    mask = jnp.arange(ROWS) % 3 > 0 if masked else None

    def rest(x):
        return Moments.of(x, mask).rest

    value, tangent = jax.jit(lambda x: jax.jvp(rest, (x,), (jnp.ones_like(x),)))(X)
    assert np.any(np.asarray(value) != 0)
    assert_array_equal(tangent, np.zeros(CHANNELS))


def test_a_scalar_is_not_a_set_of_values():
    with pytest.raises(AssertionError):
        Moments.of(jnp.zeros(()))


def test_sums_are_taken_in_float32_or_wider():
    assert widen(jnp.zeros(2, jnp.bfloat16)).dtype == widen(jnp.zeros(2)).dtype == jnp.float32
    with jax.enable_x64(True):
        assert widen(jnp.zeros(2, jnp.float64)).dtype == jnp.float64


def test_jit_changes_nothing():
    mask = np.arange(ROWS) % 3 > 0
    chex.assert_trees_all_close(of(X, mask), Moments.of(jnp.asarray(X), jnp.asarray(mask)), rtol=1e-6)
    assert_array_equal(of(X, mask).count, 8)
