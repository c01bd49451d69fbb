"""Convolutions as matrix products against XLA's own."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jbn.interop.convolution import conv_general_dilated

LAST = ("NHWC", "HWIO", "NHWC")
PADDINGS = ["SAME", "VALID", ((0, 1), (2, 0)), ((1, 1), (1, 1))]


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.mark.parametrize(
    ("kernel", "strides", "dilation", "padding"),
    list(itertools.product([(3, 3), (1, 1), (2, 4)], [(1, 1), (2, 1)], [(1, 1), (1, 2)], PADDINGS)),
)
def test_it_computes_what_xla_computes(kernel, strides, dilation, padding):
    x, weights = draw(2, 7, 9, 3), draw(*kernel, 3, 4, seed=1)
    options = {"rhs_dilation": dilation, "dimension_numbers": LAST}

    def loss(convolution, x, weights):
        return jnp.sum(jnp.sin(convolution(x, weights, strides, padding, **options)))

    for own, theirs in zip(
        jax.value_and_grad(loss, (1, 2))(conv_general_dilated, x, weights),
        jax.value_and_grad(loss, (1, 2))(jax.lax.conv_general_dilated, x, weights),
        strict=True,
    ):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5), own, theirs)


def test_no_convolution_is_left():
    text = str(
        jax.make_jaxpr(lambda x, w: conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=LAST))(
            draw(2, 8, 8, 3), draw(5, 5, 3, 4)
        )
    )
    assert "conv_general_dilated[" not in text
    assert "dot_general" in text


@pytest.mark.parametrize(
    ("x", "kernel", "options"),
    [
        ((2, 6, 6, 4), (3, 3, 1, 4), {"feature_group_count": 4, "dimension_numbers": LAST}),
        ((2, 6, 6, 4), (3, 3, 4, 5), {"lhs_dilation": (2, 2), "dimension_numbers": LAST}),
        ((2, 6, 6, 4), (3, 3, 4, 5), {"precision": jax.lax.Precision.HIGHEST, "dimension_numbers": LAST}),
        ((2, 4, 6, 6), (5, 4, 3, 3), {}),
        ((2, 6, 4), (3, 4, 5), {"dimension_numbers": ("NWC", "WIO", "NWC")}),
    ],
)
def test_what_is_no_plain_convolution_of_images_is_left_to_xla(x, kernel, options):
    strides = (1,) * (len(x) - 2)
    arguments = draw(*x), draw(*kernel, seed=1), strides, [(1, 1)] * len(strides)
    np.testing.assert_array_equal(
        conv_general_dilated(*arguments, **options), jax.lax.conv_general_dilated(*arguments, **options)
    )
