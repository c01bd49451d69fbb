import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from jbn.nn.sums import Sums, multiply_add, sums, sums_about

ROWS, CHANNELS = 40, 3
NOISE = np.random.default_rng(0).normal(size=(ROWS, CHANNELS))
NEAR = (NOISE * [1.0, 0.1, 9.0] + [0.5, -0.1, 20.0]).astype(np.float32)  # at most 3 deviations from 0
FAR = (NOISE * [1.0, 0.1, 9.0] + [1e4, -5.0, 100.0]).astype(np.float32)
BATCHES = {"near 0": NEAR, "far from 0": FAR}
batches = pytest.mark.parametrize("batch", BATCHES)


@pytest.fixture
def _on_cpu():
    if jax.default_backend() != "cpu":
        pytest.skip("only on CPU it is ever summed about 0")


on_cpu = pytest.mark.usefixtures("_on_cpu")

sums = jax.jit(sums, static_argnums=0)
multiply_add = jax.jit(multiply_add, static_argnums=0)


def assert_sums(result, rows, rtol=1e-5):
    """Of `[rows, channels]` about the shift that came back, in float64."""
    apart = rows.astype(np.float64) - np.float64(result.shift)
    assert_allclose(result.first, apart.sum(0), rtol=rtol, atol=1e-5 * np.abs(apart).sum(0).max())
    assert_allclose(result.second, (apart**2).sum(0), rtol=rtol)


def mean_and_variance(result, count):
    apart = result.first / count
    return result.shift + apart, result.second / count - apart**2


# the sums


@batches
@pytest.mark.parametrize(
    ("shape", "axes"), [((40, 3), (0,)), ((8, 5, 3), (0, 1)), ((5, 8, 3), (0, 1)), ((2, 4, 5, 3), (0, 1, 2))]
)
def test_sums_equal_numpy_about_the_shift(batch, shape, axes):
    assert_sums(sums(axes, BATCHES[batch].reshape(shape)), BATCHES[batch])


@batches
def test_sums_over_any_axes(batch):
    rows = BATCHES[batch]
    assert_sums(sums((1,), rows.T), rows)
    assert_sums(sums((0, 2), np.moveaxis(rows.reshape(5, 8, CHANNELS), 2, 1)), rows)


def test_sums_over_nothing():
    empty = sums((0,), jnp.zeros((0, CHANNELS)))
    chex.assert_trees_all_equal(empty, Sums(*[jnp.zeros(CHANNELS)] * 3))
    alone = sums((), jnp.array([0.0, 3.0, -1e4]))
    assert_allclose(alone.shift + alone.first, [0, 3, -1e4], rtol=1e-7)
    assert_allclose(alone.first**2, alone.second, rtol=1e-6)


@on_cpu
def test_the_shift_is_0_where_all_channels_are_near_it():
    assert_array_equal(sums((0,), NEAR).shift, np.zeros(CHANNELS))


def test_the_shift_is_the_mean_of_the_first_sixteenth_elsewhere():
    assert_allclose(sums((0,), FAR).shift, FAR[:3].mean(0, np.float64), rtol=1e-6)  # 3 is 40 / 16 rounded up
    one_channel = np.where(np.arange(CHANNELS) == 1, FAR, NEAR)  # a single far one decides for all
    assert_allclose(sums((0,), one_channel).shift, one_channel[:3].mean(0, np.float64), rtol=1e-5)


@on_cpu
@pytest.mark.parametrize(("ratio", "near"), [(3.9, True), (-3.9, True), (4.1, False), (-4.1, False)])
def test_near_is_within_4_standard_deviations(ratio, near):
    x = np.tile(np.float32([[ratio - 1], [ratio + 1]]), (20, 1))  # deviation 1
    assert (float(sums((0,), x).shift[0]) == 0) == near


OUTLIERS = {
    "first": np.where(np.arange(ROWS)[:, None] == 0, 1e3, NOISE),
    "last": np.where(np.arange(ROWS)[:, None] == ROWS - 1, -1e3, NOISE),
    "a ramp": np.arange(ROWS)[:, None] + np.zeros(CHANNELS),
    "two heaps": np.where(np.arange(ROWS)[:, None] < ROWS // 16, -1e3, 1e3) + NOISE,
}


@pytest.mark.parametrize("offset", [0.0, 1e2, -1e4])
@pytest.mark.parametrize("name", OUTLIERS)
def test_no_outlier_spoils_the_variance(name, offset):
    x = (OUTLIERS[name] + offset).astype(np.float32)
    result = sums((0,), x)
    exact = x.astype(np.float64)
    assert np.all(np.abs(result.shift - exact.mean(0)) <= 4.01 * exact.std(0))
    assert_allclose(mean_and_variance(result, ROWS)[1], exact.var(0), rtol=1e-5)


# members of a vmap


@on_cpu
def test_members_of_a_vmap_share_one_decision():
    members = np.stack([NEAR, FAR])
    together = jax.jit(jax.vmap(functools.partial(sums, (0,))))
    mixed = together(members)
    for i, rows in enumerate(members):
        assert_allclose(mixed.shift[i], rows[:3].mean(0, np.float64), rtol=1e-5)
        assert_sums(Sums(*(a[i] for a in mixed)), rows)
    both_near = together(np.stack([NEAR, -NEAR]))
    assert_array_equal(both_near.shift, np.zeros((2, CHANNELS)))
    assert_sums(Sums(*(a[1] for a in both_near)), -NEAR)


def test_members_may_stand_on_any_axis_and_nest():
    members = np.stack([NEAR, FAR, -FAR, 2 * NEAR])
    last = jax.jit(jax.vmap(functools.partial(sums, (0,)), in_axes=2))(np.moveaxis(members, 0, 2))
    nested = jax.jit(jax.vmap(jax.vmap(functools.partial(sums, (0,)))))(members.reshape(2, 2, ROWS, CHANNELS))
    for i, rows in enumerate(members):
        assert_sums(Sums(*(a[i] for a in last)), rows)
        assert_sums(Sums(*(a[divmod(i, 2)] for a in nested)), rows)


# derivatives


def derivatives(function):
    """The gradient, and its own derivative in one direction."""
    return jax.jit(lambda x, direction: jax.jvp(jax.grad(function), (x,), (direction,)))


def score_of(moments):
    return lambda x: jnp.sum(jnp.sin(moments(x)[0]) * moments(x)[1] ** 2)


def plain(x):
    mean = jnp.sum(x, 0) / ROWS
    return mean, jnp.sum((x - mean[None]) ** 2, 0) / ROWS


def own(x):
    return mean_and_variance(sums((0,), x), ROWS)


DIRECTION = np.random.default_rng(1).normal(size=NEAR.shape)


@batches
def test_derivatives_of_mean_and_variance_are_those_of_plain_sums(batch):
    with jax.enable_x64(True):
        x = np.float64(BATCHES[batch])
        expected = derivatives(score_of(plain))(x, DIRECTION)
        assert min(np.abs(a).max() for a in expected) > 1e-3
        result = derivatives(score_of(own))(x, DIRECTION)
        for a, b in zip(result, expected, strict=True):
            assert_allclose(a, b, rtol=1e-8, atol=1e-10 * np.abs(b).max())


def test_derivatives_of_members_are_those_of_plain_sums():
    with jax.enable_x64(True):
        members = np.stack([NEAR, FAR]).astype(np.float64)
        result, expected = (
            jax.jit(jax.vmap(jax.grad(score_of(moments))))(members) for moments in (own, plain)
        )
        for a, b in zip(result, expected, strict=True):
            assert_allclose(a, b, rtol=1e-8, atol=1e-10 * np.abs(b).max())


@batches
def test_forward_mode_equals_reverse_mode(batch):
    with jax.enable_x64(True):
        x = np.float64(BATCHES[batch])
        _, tangent = jax.jit(lambda x: jax.jvp(score_of(own), (x,), (jnp.asarray(DIRECTION),)))(x)
        assert_allclose(tangent, np.sum(jax.jit(jax.grad(score_of(own)))(x) * DIRECTION), rtol=1e-9)


def test_the_shift_is_a_constant_for_derivatives():
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(sums((0,), x).shift)))(FAR)
    assert_array_equal(gradient, np.zeros_like(FAR))


# about a given shift


def test_sums_about_a_shift_leave_masked_entries_out():
    shift = jnp.array([1e4, -5.0, 90.0])
    mask = np.arange(ROWS) % 3 > 0
    whole = jax.jit(sums_about, static_argnums=0)((0,), FAR, shift)
    assert_sums(whole, FAR)
    assert_array_equal(whole.shift, shift)
    dirty = np.where(mask[:, None], FAR, np.nan)
    part = jax.jit(sums_about, static_argnums=0)((0,), dirty, shift, mask[:, None])
    assert_sums(part, FAR[mask])


def test_gradients_of_masked_sums_are_0_where_the_mask_is():
    mask = jnp.arange(ROWS)[:, None] % 3 > 0

    def score(x):
        _, first, second = sums_about((0,), x, jnp.zeros(CHANNELS), mask)
        return jnp.sum(first + second)

    gradient = jax.jit(jax.grad(score))(np.where(mask, NEAR, np.nan))
    assert_allclose(gradient, np.where(mask, 1 + 2 * NEAR, 0), rtol=1e-6)


# the multiply-add


VECTORS = (np.array([1.0, -5.0, 90.0]), np.array([0.5, 2.0, -0.1]), np.array([3.0, 0.0, -1.0]))


@pytest.mark.parametrize(("shape", "axes"), [((40, 3), (0,)), ((3, 40), (1,)), ((5, 3, 8), (0, 2))])
def test_multiply_add_is_the_formula(shape, axes):
    x = np.random.default_rng(2).normal(5, 3, shape).astype(np.float32)
    centre, factor, shift = (np.expand_dims(vector, axes) for vector in VECTORS)
    y = multiply_add(axes, x, *(vector.astype(np.float32) for vector in VECTORS))
    assert_allclose(y, (x - centre) * factor + shift, rtol=1e-5, atol=1e-5)


def test_derivatives_of_multiply_add_are_those_of_the_formula():
    def formula(x, centre, factor, shift):
        return (x - centre[None]) * factor[None] + shift[None]

    def both_orders(function):
        def score(arguments):
            return jnp.sum(jnp.sin(function(*arguments)))

        return jax.jit(lambda a, direction: jax.jvp(jax.grad(score), (a,), (direction,)))

    with jax.enable_x64(True):
        arguments = (np.float64(NEAR), *VECTORS)
        direction = jax.tree.map(np.cos, arguments)
        expected = both_orders(formula)(arguments, direction)
        result = both_orders(functools.partial(multiply_add, (0,)))(arguments, direction)
        chex.assert_trees_all_close(result, expected, rtol=1e-9, atol=1e-9)
