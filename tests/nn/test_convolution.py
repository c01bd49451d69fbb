import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from jbn.nn.convolution import convolve, max_pool, pooled_shape

SHAPES = [(2, 5, 4, 1, 3), (2, 4, 5, 3, 2), (3, 1, 1, 2, 2), (2, 1, 4, 1, 2)]


def in_float64(function):
    compiled = jax.jit(function)

    def run(*args):
        with jax.enable_x64(True):
            return jax.tree.map(np.asarray, compiled(*args))

    return run


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def terms(x, kernel):
    """Every product of the textbook sum, as the indices of y, x and the kernel."""
    batch, height, width, _ = x.shape
    for n, i, j, u, v in itertools.product(*map(range, (batch, height, width, 3, 3))):
        row, column = i + u - 1, j + v - 1
        if 0 <= row < height and 0 <= column < width:
            yield (n, i, j), (n, row, column), (u, v)


def convolved(x, kernel):
    y = np.zeros((*x.shape[:3], kernel.shape[3]))
    for out, pixel, tap in terms(x, kernel):
        y[out] += x[pixel] @ kernel[tap]
    return y


def gradients(x, kernel, dy):
    dx, dkernel = np.zeros(x.shape), np.zeros(kernel.shape)
    for out, pixel, tap in terms(x, kernel):
        dx[pixel] += kernel[tap] @ dy[out]
        dkernel[tap] += np.outer(x[pixel], dy[out])
    return dx, dkernel


def example(shape):
    batch, height, width, inputs, outputs = shape
    x, kernel = normal(batch, height, width, inputs), normal(3, 3, inputs, outputs, seed=1)
    return x, kernel, normal(batch, height, width, outputs, seed=2)


@in_float64
def everything(x, kernel, dy, dx, dkernel):
    """Value, gradients, directional derivative, and the gradients' derivative in the same direction."""

    def gradient(x, kernel):
        return jax.vjp(convolve, x, kernel)[1](dy)

    y, slope = jax.jvp(convolve, (x, kernel), (dx, dkernel))
    first, second = jax.jvp(gradient, (x, kernel), (dx, dkernel))
    return y, slope, first, second


@pytest.mark.parametrize("shape", SHAPES)
def test_a_convolution_and_its_derivatives_are_the_textbook_sums(shape):
    x, kernel, dy = example(shape)
    dx, dkernel = normal(*x.shape, seed=3), normal(*kernel.shape, seed=4)
    y, slope, first, second = everything(x, kernel, dy, dx, dkernel)
    assert_allclose(y, convolved(x, kernel), atol=1e-12)
    assert_allclose(slope, convolved(dx, kernel) + convolved(x, dkernel), atol=1e-12)
    for own, expected in zip(first, gradients(x, kernel, dy), strict=True):
        assert_allclose(own, expected, atol=1e-12)
    for own, expected in zip(second, gradients(dx, dkernel, dy), strict=True):  # bilinear
        assert_allclose(own, expected, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES[:2])
def test_a_convolution_equals_the_one_of_jax(shape):
    x, kernel, _ = (a.astype(np.float32) for a in example(shape))
    layout = ("NHWC", "HWIO", "NHWC")
    expected = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=layout)
    y = jax.jit(convolve)(x, kernel)
    assert y.dtype == jnp.float32
    assert_allclose(y, expected, atol=1e-5)


def test_members_side_by_side_have_their_own_kernels():
    x, kernels = normal(3, 2, 4, 4, 2), normal(3, 3, 3, 2, 2, seed=1)
    y = in_float64(jax.vmap(convolve))(x, kernels)
    assert_allclose(y, [convolved(*pair) for pair in zip(x, kernels, strict=True)], atol=1e-12)


# pooling


def pooled(x, falling, dy):
    """The best value of every window, and the gradient, which goes to the first that has it."""
    batch, height, width, channels = x.shape
    rows, columns = max(height // 2, 1), max(width // 2, 1)
    y, dx = np.zeros((batch, rows, columns, channels)), np.zeros(x.shape)
    for n, i, j, c in np.ndindex(y.shape):
        places = [
            (n, i * min(height, 2) + u, j * min(width, 2) + v, c)
            for u, v in itertools.product(range(min(height, 2)), range(min(width, 2)))
        ]
        best = (min if falling[c] else max)(places, key=lambda place: x[place])
        y[n, i, j, c] = x[best]
        dx[best] += dy[n, i, j, c]
    return y, dx


@in_float64
def pool_derivatives(x, falling, dx, dy):
    def pool(x):
        return max_pool(x, falling=falling)

    return *jax.jvp(pool, (x,), (dx,)), jax.vjp(pool, x)[1](dy)[0]


@pytest.mark.parametrize("values", ["different", "with ties"])
@pytest.mark.parametrize("sides", [(4, 6), (5, 3), (1, 5), (4, 1), (1, 1)])
def test_pooling_and_its_derivatives_are_those_of_a_loop(sides, values):
    x = normal(2, *sides, 3) if values == "different" else np.round(normal(2, *sides, 3))
    falling = np.array([False, True, False])
    dy, direction = normal(2, *pooled_shape(*sides), 3, seed=1), normal(*x.shape, seed=2)
    y, slope, dx = pool_derivatives(x, falling, direction, dy)
    expected, gradient = pooled(x, falling, dy)
    assert_array_equal(y, expected)
    assert_array_equal(dx, gradient)
    assert_allclose(np.sum(slope * dy), np.sum(gradient * direction), atol=1e-12)


def test_without_falling_channels_pooling_is_a_maximum_everywhere():
    x = normal(2, 4, 4, 3)
    assert_array_equal(in_float64(max_pool)(x), pooled(x, [False] * 3, normal(2, 2, 2, 3))[0])


@pytest.mark.parametrize("function", [jax.nn.relu, jax.nn.sigmoid, jnp.tanh])
@pytest.mark.parametrize("factor", [0.3, -0.3, 0.0])
def test_a_monotone_function_may_follow_the_pooling(function, factor):
    x = jnp.asarray(normal(2, 6, 6, 1), jnp.float32)

    def after(x, factor):
        return function(max_pool(x, falling=(factor < 0)[None]) * factor + 0.1)

    def before(x, factor):
        return max_pool(function(x * factor + 0.1))

    assert_allclose(*(jax.jit(order)(x, jnp.float32(factor)) for order in (after, before)), rtol=1e-6)


def test_what_is_not_a_number_stays_visible():
    x = jnp.zeros((1, 2, 4, 1)).at[0, 1, 0, 0].set(jnp.nan)
    y = max_pool(x)
    assert jnp.isnan(y[0, 0, 0, 0])
    assert y[0, 0, 1, 0] == 0
