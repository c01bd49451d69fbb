"""Derivatives of training, of both orders, against autodiff of the formula with nothing for accuracy's sake."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from numpy.testing import assert_allclose, assert_array_equal

from jbn.nn import batch_norm
from jbn.nn.batch_norm import BatchNormParams, BatchNormStats
from jbn.nn.sums import sums

CHANNELS = 2
PLACES = {"near zero": [0.5, -1], "far from zero": [1e3, -1e3], "both": [0.5, 1e3]}
MASK = np.array([1, 0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0], bool)  # 3, 1 and 0 of 4; or 2, 1, 0, 1, 0, 0 of 2


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


class Arguments(NamedTuple):
    """All that has a derivative."""

    params: BatchNormParams
    stats: BatchNormStats
    x: np.ndarray
    momentum: float = 0.8
    epsilon: float = 1e-3


def example(shape=(12, CHANNELS), place="near zero", seed=0):
    """The last axis are the channels."""
    rng = np.random.default_rng(seed)
    params = BatchNormParams(rng.uniform(0.5, 2, CHANNELS), rng.normal(size=CHANNELS))
    stats = BatchNormStats(rng.normal(size=CHANNELS), rng.uniform(0.5, 2, CHANNELS), np.array(3.0))
    return Arguments(params, stats, rng.normal(PLACES[place], 1.5, shape))


def own(a, x=None, stats=None, **options):
    x, stats = a.x if x is None else x, a.stats if stats is None else stats
    return batch_norm.train(a.params, stats, x, momentum=a.momentum, epsilon=a.epsilon, **options)


def plain(a, mask=None, ddof=0):
    """Over all axes but the last, those of members included; the mask has all of these."""
    rows = a.x.reshape(-1, CHANNELS)
    counts = np.ones(len(rows), bool) if mask is None else mask.reshape(-1)
    used, n = rows[counts], counts.sum()
    mean = jnp.sum(used, 0) / n
    m2 = jnp.sum((used - mean[None]) ** 2, 0)
    y = a.params.scale[None] * (used - mean[None]) / jnp.sqrt(m2 / n + a.epsilon)[None] + a.params.bias[None]
    count = a.momentum * a.stats.count + 1
    after = BatchNormStats(
        mean=a.stats.mean + (mean - a.stats.mean) / count,
        var=a.stats.var + (m2 / (n - ddof) - a.stats.var) / count,
        count=count,
    )
    return jnp.zeros_like(rows).at[counts].set(y).reshape(a.x.shape), after


# the same batch in several ways


def channels_second(a):
    y, after = own(a, jnp.moveaxis(a.x, -1, 1), channel_axis=1)
    return jnp.moveaxis(y, 1, -1), after


def two_channel_axes(a):
    a = a._replace(
        params=BatchNormParams(*(v[:, None] for v in a.params)),
        stats=a.stats._replace(mean=a.stats.mean[:, None], var=a.stats.var[:, None]),
    )
    y, after = own(a, a.x.T[:, :, None], channel_axis=(0, 2))
    return y[:, :, 0].T, after


def without_params(a):
    y, after = batch_norm.train(None, a.stats, a.x, momentum=a.momentum, epsilon=a.epsilon)
    return a.params.scale[None] * y + a.params.bias[None], after


def only_the_first_channel(a):
    return own(a, channel_mask=jnp.array([True, False]))


def plain_first_channel(a):
    y, after = plain(a)
    mean, var = (jnp.stack([new[0], old[1]]) for new, old in zip(after[:2], a.stats[:2], strict=True))
    return y * jnp.array([[1, 0]]), after._replace(mean=mean, var=var)


def masked(a):
    return own(a, mask=jnp.array(MASK.reshape(a.x.shape[:-1])))


def pooled(a, mask=None):
    def one(x, mask):
        return own(a, x, mask=mask, axis_name="member")

    mask = None if mask is None else jnp.array(mask.reshape(a.x.shape[:-1]))
    return jax.vmap(one, axis_name="member", out_axes=(0, None))(a.x, mask)


def pooled_over_two_axes(a):
    def one(x, mask):
        return own(a, x, mask=mask, axis_name=("outer", "inner"))

    inner = jax.vmap(one, axis_name="inner", out_axes=(0, None))
    outer = jax.vmap(inner, axis_name="outer", out_axes=(0, None))
    return outer(a.x, jnp.array(MASK.reshape(a.x.shape[:-1])))


def members(a):
    return jax.vmap(lambda x: own(a, x))(a.x)


def plain_members(a):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *(plain(a._replace(x=x)) for x in a.x))


def pooled_members(a):
    """Two groups that pool within themselves."""
    return jax.vmap(lambda x: pooled(a._replace(x=x)))(a.x)


def moved(x, stats):
    """Inputs that depend on the step before."""
    return x + jnp.sin(stats.mean + stats.var)[None]


def steps(a):
    def step(stats, x):
        y, stats = own(a, moved(x, stats), stats)
        return stats, y

    after, y = jax.lax.scan(step, a.stats, a.x)
    return y, after


def plain_steps(a):
    stats, outputs = a.stats, []
    for x in a.x:
        y, stats = plain(a._replace(x=moved(x, stats), stats=stats))
        outputs.append(y)
    return jnp.stack(outputs), stats


class Case(NamedTuple):
    """Two functions of `Arguments` that return outputs and statistics, and the shape of x."""

    own: Callable
    plain: Callable = plain
    shape: tuple[int, ...] = (12, CHANNELS)


with_mask = functools.partial(plain, mask=MASK)
CASES = {
    "dense": Case(own),
    "images": Case(own, shape=(3, 2, 2, CHANNELS)),
    "channel_axis=1": Case(channels_second, shape=(3, 2, 2, CHANNELS)),
    "two channel axes": Case(two_channel_axes),
    "without params": Case(without_params),
    "unbiased": Case(functools.partial(own, ddof=1), functools.partial(plain, ddof=1)),
    "channel_mask": Case(only_the_first_channel, plain_first_channel),
    "checkpoint": Case(jax.checkpoint(own)),
    "mask": Case(masked, with_mask),
    "mask of pixels": Case(masked, with_mask, (3, 2, 2, CHANNELS)),
    "axis_name": Case(pooled, shape=(3, 4, CHANNELS)),
    "axis_name, unequal counts": Case(functools.partial(pooled, mask=MASK), with_mask, (3, 4, CHANNELS)),
    "two axis names, unequal counts": Case(pooled_over_two_axes, with_mask, (3, 2, 2, CHANNELS)),
    "vmap": Case(members, plain_members, (3, 4, CHANNELS)),
    "axis_name inside vmap": Case(pooled_members, plain_members, (2, 3, 2, CHANNELS)),
    "scan": Case(steps, plain_steps, (3, 4, CHANNELS)),
}


# derivatives


def score(train, unravel, flat):
    """A scalar of all that training returns, with second derivatives everywhere."""
    y, after = train(unravel(flat))
    weights = jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape)
    return jnp.sum(weights * jnp.sin(y)) + sum(jnp.sum(jnp.sin(leaf)) for leaf in after)


@functools.cache
def flat_score(train, shape):
    """The score as a function of one vector of all arguments."""
    return functools.partial(score, train, ravel_pytree(example(shape))[1])


@functools.cache
def derivatives(train, shape):
    """Gradient and Hessian, in reverse mode and forward over reverse."""

    def gradient(v):
        result = jax.grad(flat_score(train, shape))(v)
        return result, result

    @jax.jit
    def both(v):
        hessian, gradient_of_v = jax.jacfwd(gradient, has_aux=True)(v)
        return gradient_of_v, hessian

    return both


@functools.cache
def other_ways(train, shape):
    """Forward mode, a derivative in one direction, and the Hessian times it in the other three orders."""
    function = flat_score(train, shape)

    @jax.jit
    def all_of(v):
        direction = jnp.cos(v)

        def along(u):
            return jax.jvp(function, (u,), (direction,))[1]

        def reverse_along(u):
            return jnp.vdot(jax.grad(function)(u), direction)

        return (
            jax.jacfwd(function)(v),
            along(v),
            jax.grad(along)(v),
            jax.jacfwd(along)(v),
            jax.grad(reverse_along)(v),
        )

    return all_of


def expected_derivatives(name, flat):
    """Of the plain formula. It sees rows only: one program does for all shapes of the same rows."""
    _, formula, shape = CASES[name]
    return derivatives(formula, (12, CHANNELS) if formula in (plain, with_mask) else shape)(flat)


def assert_close(actual, expected, tolerance=1e-9):
    for own, other in zip(actual, expected, strict=True):
        assert_allclose(own, other, rtol=0, atol=tolerance * np.abs(other).max())


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", CASES)
def test_gradients_and_hessians_equal_autodiff_of_the_plain_formula(name, place):
    own, _, shape = CASES[name]
    flat, _ = ravel_pytree(example(shape, place))
    expected = expected_derivatives(name, flat)
    assert np.abs(expected[1]).max() > 1
    assert_close(derivatives(own, shape)(flat), expected)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", ["dense", "axis_name, unequal counts", "scan"])
def test_forward_and_reverse_mode_combine_in_any_order(name, place):
    own, _, shape = CASES[name]
    flat, _ = ravel_pytree(example(shape, place))
    gradient, hessian = expected_derivatives(name, flat)
    direction = np.cos(flat)
    expected = [gradient, gradient @ direction, *[hessian @ direction] * 3]
    assert_close(other_ways(own, shape)(flat), expected)


def test_the_places_take_both_ways_of_summing_on_a_cpu():
    if jax.default_backend() != "cpu":
        pytest.skip("one way on other devices")
    shifts = {place: sums((0,), jnp.array(example(place=place).x)).shift for place in PLACES}
    assert_array_equal(shifts["near zero"], [0, 0])
    assert np.all(shifts["far from zero"] != 0)
    assert np.all(shifts["both"] != 0)


def test_members_of_a_vmap_have_the_derivatives_that_they_have_alone():
    own, plain, shape = CASES["dense"]
    flats = jnp.stack([ravel_pytree(example(shape, place, i))[0] for i, place in enumerate(PLACES)])
    mapped = jax.jit(jax.vmap(derivatives(own, shape)))(flats)
    for i, flat in enumerate(flats):
        assert_close([leaf[i] for leaf in mapped], derivatives(plain, shape)(flat))


def test_finite_differences_agree():
    """Of the score against its gradient, of the gradient against the Hessian."""
    own, _, shape = CASES["mask"]
    flat, _ = ravel_pytree(example(shape))
    steps = 1e-5 * np.eye(flat.size)
    values = jax.jit(jax.vmap(jax.value_and_grad(flat_score(own, shape))))
    differences = [
        (a - b) / 2e-5 for a, b in zip(values(flat[None] + steps), values(flat[None] - steps), strict=True)
    ]
    assert_close(derivatives(own, shape)(flat), differences, tolerance=1e-8)


# entries that do not count, batches that hold little


@pytest.mark.parametrize("name", ["mask", "mask of pixels", "axis_name, unequal counts"])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_derivatives_of_masked_entries_are_exactly_0_whatever_they_hold(name, place, value):
    own, _, shape = CASES[name]
    a = example(shape, place)
    left_out = np.broadcast_to(~MASK.reshape(shape[:-1])[..., None], shape)
    flat, unravel = ravel_pytree(a._replace(x=np.where(left_out, value, a.x)))
    gradient, hessian = derivatives(own, shape)(flat)
    assert_close([gradient, hessian], expected_derivatives(name, ravel_pytree(a)[0]))
    assert not np.any(unravel(gradient).x[left_out])
    assert not np.any(jax.vmap(unravel)(hessian).x[:, left_out])


@pytest.mark.parametrize("place", PLACES)
def test_derivatives_of_padded_channels_are_exactly_0_whatever_they_hold(place):
    own, plain, shape = CASES["channel_mask"]
    a = example(shape, place)
    flat, unravel = ravel_pytree(a._replace(x=np.where([[True, False]], a.x, np.nan)))
    gradient, hessian = derivatives(own, shape)(flat)
    assert_close([gradient, hessian], derivatives(plain, shape)(ravel_pytree(a)[0]))
    assert not np.any(unravel(gradient).x[:, 1])
    assert_array_equal(np.stack(unravel(gradient).params)[:, 1], [0, 0])
    assert not np.any(jax.vmap(unravel)(hessian).x[:, :, 1])


@jax.jit
def back(params, x, dy, epsilon, mask):
    stats = batch_norm.init(CHANNELS)[1]
    _, pull = jax.vjp(
        lambda params, x: batch_norm.train(params, stats, x, epsilon=epsilon, mask=mask)[0], params, x
    )
    return pull(dy)


@pytest.mark.parametrize("counted", [None, MASK], ids=["all", "masked"])
@pytest.mark.parametrize("epsilon", [1e-5, 0.0])
@pytest.mark.parametrize("value", [0.0, 5.0])
def test_a_constant_channel_has_finite_gradients(value, epsilon, counted):
    a = example()
    a.x[:, 1] = value
    mask = None if counted is None else jnp.array(counted)
    dparams, dx = back(a.params, a.x, np.ones_like(a.x) * np.arange(12)[:, None], epsilon, mask)
    chex.assert_tree_all_finite((dparams, dx))
    assert float(dparams.scale[1]) == 0
    if not epsilon:
        assert not np.any(dx[:, 1])


def test_a_single_value_has_gradient_0_and_passes_its_cotangent_to_the_bias():
    a = example()
    dy = np.arange(24.0).reshape(12, CHANNELS)
    dparams, dx = back(a.params, a.x, dy, 1e-3, jnp.arange(12) == 5)
    assert_allclose(dx, np.zeros_like(a.x), atol=1e-12)
    assert_allclose(dparams, [[0, 0], [10, 11]], atol=1e-12)


def test_a_batch_in_which_nothing_counts_has_gradient_0():
    a = example()
    gradients = back(a.params, np.full_like(a.x, np.nan), np.ones_like(a.x), 1e-3, jnp.zeros(12, bool))
    chex.assert_trees_all_equal(gradients, jax.tree.map(jnp.zeros_like, (a.params, a.x)))
