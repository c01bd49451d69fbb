"""Convolution of images as a matrix product, with the arguments of `jax.lax.conv_general_dilated`."""

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jbn.nn.convolution import convolve
from jbn.nn.products import product


def conv_general_dilated(
    lhs: Float[Array, "batch *image"],
    rhs: Float[Array, "*kernel"],
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    **options: Any,
) -> Float[Array, "batch *result"]:
    """What `jax.lax.conv_general_dilated` computes, for images by a matrix product of their patches.

    XLA's own convolution is several times slower inside a loop on CPU, and over several members it becomes a
    grouped convolution. What is not a plain two-dimensional convolution with channels last is passed on to it.

    Args:
        lhs: images, `[batch, height, width, inputs]`.
        rhs: kernel, `[rows, columns, inputs, outputs]`.
        window_strides: steps between windows.
        padding: "SAME", "VALID" or a pair for rows and one for columns.
        lhs_dilation: distance of the pixels.
        rhs_dilation: distance of the kernel's entries.
        dimension_numbers: as `jax.lax` knows them.
        feature_group_count: groups of channels.
        batch_group_count: groups of images.
        **options: passed on; what asks for another precision is left to XLA.

    >>> import jax.numpy as jnp
    >>> conv_general_dilated(jnp.ones((1, 4, 4, 1)), jnp.ones((2, 2, 1, 1)), (2, 2), "VALID",
    ...     dimension_numbers=("NHWC", "HWIO", "NHWC"))[0, :, :, 0].tolist()
    [[4.0, 4.0], [4.0, 4.0]]
    """
    ones = (1,) * (lhs.ndim - 2)
    dilation = tuple(rhs_dilation or ones)
    plain = (
        lhs.ndim == 4
        and tuple(lhs_dilation or ones) == ones
        and feature_group_count == batch_group_count == 1
        and not any(options.values())
        and _channels_last(dimension_numbers, lhs, rhs)
    )
    if not plain:
        return jax.lax.conv_general_dilated(
            lhs,
            rhs,
            window_strides,
            padding,
            lhs_dilation=lhs_dilation,
            rhs_dilation=rhs_dilation,
            dimension_numbers=dimension_numbers,
            feature_group_count=feature_group_count,
            batch_group_count=batch_group_count,
            **options,
        )
    spans = [(size - 1) * step + 1 for size, step in zip(rhs.shape[:2], dilation, strict=True)]
    pairs = _pairs(padding, lhs.shape[1:3], spans, window_strides)
    strides = tuple(window_strides)
    if rhs.shape[:2] == (3, 3) and strides == dilation == (1, 1) and pairs == [(1, 1), (1, 1)]:
        return convolve(lhs, rhs)
    return _patches_product(lhs, rhs, strides, pairs, dilation)


def _channels_last(numbers: Any, lhs: Array, rhs: Array) -> bool:
    if numbers is None:
        return False
    own = jax.lax.conv_dimension_numbers(lhs.shape, rhs.shape, numbers)
    last = jax.lax.conv_dimension_numbers(lhs.shape, rhs.shape, ("NHWC", "HWIO", "NHWC"))
    return own == last


def _pairs(
    padding: str | Sequence[tuple[int, int]],
    sizes: Sequence[int],
    spans: Sequence[int],
    strides: Sequence[int],
) -> list[tuple[int, int]]:
    given = jax.lax.padtype_to_pads(sizes, spans, strides, padding) if isinstance(padding, str) else padding
    return [(int(low), int(high)) for low, high in given]


def _patches_product(
    x: Array,
    kernel: Array,
    strides: tuple[int, ...],
    pairs: Sequence[tuple[int, int]],
    dilation: tuple[int, ...],
) -> Array:
    """All shifts of the image side by side, times the kernel as a matrix."""
    rows, columns, inputs, outputs = kernel.shape
    padded = jax.lax.pad(
        x, jnp.zeros((), x.dtype), [(0, 0, 0), *((low, high, 0) for low, high in pairs), (0, 0, 0)]
    )
    height, width = (
        (size - (taps - 1) * step - 1) // stride + 1
        for size, taps, step, stride in zip(
            padded.shape[1:3], (rows, columns), dilation, strides, strict=True
        )
    )

    def shift(row: int, column: int) -> Array:
        top, left = row * dilation[0], column * dilation[1]
        below, right = top + (height - 1) * strides[0] + 1, left + (width - 1) * strides[1] + 1
        return jax.lax.slice(padded, (0, top, left, 0), (x.shape[0], below, right, inputs), (1, *strides, 1))

    taps = [shift(row, column) for row, column in itertools.product(range(rows), range(columns))]
    patches = (taps[0] if len(taps) == 1 else jnp.concatenate(taps, axis=-1)).reshape(
        -1, rows * columns * inputs
    )
    return product(patches, kernel.reshape(-1, outputs)).reshape(x.shape[0], height, width, outputs)
