"""Batch norm with a scale alone, a bias alone, or neither: against NumPy in float64, where the other is 1 or 0."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from jbn import batch_norm
from jbn.nn.batch_norm import BatchNormParams, BatchNormStats

ROWS, CHANNELS, GROUP = 10, 3, 5
EPSILON, R_MAX, D_MAX = 1e-2, 1.2, 0.2
MASK = np.arange(ROWS) % 4 != 3
PARTS = {"scale alone": (True, False), "bias alone": (False, True), "neither": (False, False)}
parts = pytest.mark.parametrize("part", PARTS)


def example(part):
    rng = np.random.default_rng(0)
    scale, bias = rng.uniform(0.5, 2, CHANNELS) * [1, -1, 1], rng.normal(size=CHANNELS)
    params = BatchNormParams(scale if PARTS[part][0] else None, bias if PARTS[part][1] else None)
    stats = BatchNormStats(rng.normal(size=CHANNELS), rng.uniform(0.5, 2, CHANNELS), np.array(3.0))
    x = rng.normal([0.0, 5.0, -2.0], [1.0, 0.3, 9.0], (ROWS, CHANNELS))
    return params, stats, x, rng.normal(size=(CHANNELS, CHANNELS)), rng.normal(size=(ROWS, CHANNELS))


@functools.cache
def computed(part):
    """What every function makes of the example, in float64."""

    def everything(params, stats, x, kernel, weights):
        own = {"epsilon": EPSILON}
        renormalized = functools.partial(batch_norm.train_renormalized, r_max=R_MAX, d_max=D_MAX)
        train = functools.partial(batch_norm.train, stats=stats, **own)
        dirty = jnp.where(MASK[:, None], x, jnp.nan)
        return {
            "train": train(params, x=x),
            "masked": train(params, x=dirty, mask=jnp.asarray(MASK)),
            "infer": batch_norm.infer(params, stats, x, **own),
            "normalize": batch_norm.normalize(params, x, stats.mean, stats.var, rest=stats.mean, **own),
            "ghost": batch_norm.train_ghost(params, stats, x, group_size=GROUP, **own),
            "renormalized": renormalized(params, stats, x, **own),
            "fold": batch_norm.fold(params, stats, kernel, **own),
            "fold_into_next": batch_norm.fold_into_next(params, stats, kernel, **own),
            "gradient": jax.grad(lambda p, x: jnp.sum(weights * train(p, x=x)[0]), (0, 1))(params, x),
        }

    with jax.enable_x64(True):
        found = jax.jit(everything)(*jax.tree.map(jnp.asarray, example(part)))
        return jax.tree.map(np.asarray, found)


def affine(params, y):
    return y * (1 if params.scale is None else params.scale) + (0 if params.bias is None else params.bias)


def standardized(x, mean, var):
    return (x - mean) / np.sqrt(var + EPSILON)


def by_batch(params, x):
    return affine(params, standardized(x, x.mean(0), x.var(0)))


@parts
def test_training_equals_numpy(part):
    params, stats, x, _, _ = example(part)
    y, after = computed(part)["train"]
    assert_allclose(y, by_batch(params, x), atol=1e-12)
    assert_allclose(after.mean, stats.mean + (x.mean(0) - stats.mean) / 3.7, atol=1e-12)
    y, _ = computed(part)["masked"]
    assert_allclose(y[MASK], by_batch(params, x[MASK]), atol=1e-12)
    assert_array_equal(y[~MASK], 0)


@parts
def test_groups_and_renormalisation_equal_numpy(part):
    params, stats, x, _, _ = example(part)
    halves = [by_batch(params, half) for half in (x[:GROUP], x[GROUP:])]
    assert_allclose(computed(part)["ghost"][0], np.concatenate(halves), atol=1e-12)
    sigma, batch = np.sqrt(stats.var + EPSILON), np.sqrt(x.var(0) + EPSILON)
    r = np.clip(batch / sigma, 1 / R_MAX, R_MAX)
    d = np.clip((x.mean(0) - stats.mean) / sigma, -D_MAX, D_MAX)
    expected = affine(params, standardized(x, x.mean(0), x.var(0)) * r + d)
    assert_allclose(computed(part)["renormalized"][0], expected, atol=1e-12)


@parts
def test_inference_equals_numpy_folded_too(part):
    params, stats, x, kernel, _ = example(part)
    found = computed(part)
    assert_allclose(found["infer"], affine(params, standardized(x, stats.mean, stats.var)), atol=1e-12)
    further = standardized(x, 2 * stats.mean, stats.var)
    assert_allclose(found["normalize"], affine(params, further), atol=1e-12)
    folded, bias = found["fold"]
    behind = affine(params, standardized(x @ kernel, stats.mean, stats.var))
    assert_allclose(x @ folded + bias, behind, atol=1e-10)
    folded, bias = found["fold_into_next"]
    assert_allclose(x @ folded + bias, found["infer"] @ kernel, atol=1e-10)


@parts
def test_gradients_are_by_hand_and_there_is_none_of_what_there_is_not(part):
    params, _, x, _, dy = example(part)
    own, dx = computed(part)["gradient"]
    xhat, sigma = standardized(x, x.mean(0), x.var(0)), np.sqrt(x.var(0) + EPSILON)
    scale = 1 if params.scale is None else params.scale
    assert_allclose(dx, scale / sigma * (dy - dy.mean(0) - xhat * (dy * xhat).mean(0)), atol=1e-12)
    for gradient, there, expected in zip(own, PARTS[part], ((dy * xhat).sum(0), dy.sum(0)), strict=True):
        if there:
            assert_allclose(gradient, expected, atol=1e-12)
        else:
            assert gradient is None


@parts
def test_initial_parameters_are_those_that_there_are(part):
    scale, bias = PARTS[part]
    params, stats = batch_norm.init(2, scale=scale, bias=bias)
    assert [None if own is None else own.tolist() for own in params] == [
        [1.0, 1.0] if scale else None,
        [0.0, 0.0] if bias else None,
    ]
    assert stats.var.tolist() == [1.0, 1.0]


def test_what_there_is_must_fit_the_channels():
    _, stats = batch_norm.init(3)
    with pytest.raises(AssertionError, match="batch norm's bias must fit channel axis 1"):
        batch_norm.infer(BatchNormParams(None, jnp.zeros(2)), stats, jnp.ones((4, 3)))
