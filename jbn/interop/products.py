"""Matrix products of dense layers, with the arguments of `jax.lax.dot_general`."""

import math
from collections.abc import Sequence
from typing import Any

import jax
from jaxtyping import Array, Float

from jbn.nn.products import product

Axes = tuple[Sequence[int], Sequence[int]]


def dot_general(
    lhs: Float[Array, "*rows_and_inputs"],
    rhs: Float[Array, "*inputs_and_outputs"],
    dimension_numbers: tuple[Axes, Axes],
    **options: Any,
) -> Float[Array, "*rows_and_outputs"]:
    """What `jax.lax.dot_general` computes, with a gradient for the kernel that XLA is fast at on CPU.

    What is not a dense layer, the last axes of `lhs` times the first of `rhs`, is passed on to it.

    Args:
        lhs: rows to be multiplied.
        rhs: the kernel.
        dimension_numbers: as `jax.lax` knows them, the axes that are contracted and those of batches.
        **options: passed on; what asks for another precision, type or place is left to XLA.

    >>> import jax.numpy as jnp
    >>> dot_general(jnp.array([[[1.0, 2.0]]]), jnp.array([[3.0], [4.0]]), (((2,), (0,)), ((), ()))).tolist()
    [[[11.0]]]
    """
    (left, right), batches = dimension_numbers
    inputs = len(left)
    plain = (
        not any(batches)
        and not any(value is not None for value in options.values())
        and tuple(left) == tuple(range(lhs.ndim - inputs, lhs.ndim))
        and tuple(right) == tuple(range(inputs))
        and lhs.dtype == rhs.dtype
        and 0 < inputs < min(lhs.ndim, rhs.ndim)
        and lhs.size > 0 < rhs.size
    )
    if not plain:
        return jax.lax.dot_general(lhs, rhs, dimension_numbers, **options)
    size = math.prod(rhs.shape[:inputs])
    y = product(lhs.reshape(-1, size), rhs.reshape(size, -1))
    return y.reshape(*lhs.shape[: lhs.ndim - inputs], *rhs.shape[inputs:])
