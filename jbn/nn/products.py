"""Matrix products of layers whose backward pass is as fast as the forward one.

The gradient for a kernel contracts both factors over their rows. On CPU, XLA has fast kernels only for products that
contract the last axis of the left factor, and runs any other at half to four fifths of their speed. So one of the
two is transposed first, whichever moves fewer numbers, behind a wall that keeps XLA from undoing it.
"""

from typing import Any

import jax
from jaxtyping import Array, Float

from jbn.nn.fusion import apart


@jax.custom_jvp
def product(
    a: Float[Array, "rows inputs"], kernel: Float[Array, "inputs outputs"]
) -> Float[Array, "rows outputs"]:
    """`a @ kernel`.

    Derivatives are linear maps of the tangents, transposed by JAX: every mode and order works.

    Args:
        a: rows to be multiplied.
        kernel: the matrix.

    >>> import jax.numpy as jnp
    >>> product(jnp.array([[1.0, 2.0]]), jnp.array([[3.0], [4.0]])).tolist()
    [[11.0]]
    """
    return a @ kernel


@product.defjvp
def _product_jvp(primals: tuple[Any, Any], tangents: tuple[Any, Any]) -> tuple[Array, Array]:
    (a, kernel), (da, dkernel) = primals, tangents
    return product(a, kernel), da @ kernel + _of_kernel(a, dkernel)


def _of_kernel(a: Any, kernel: Any) -> Array:
    """`a @ kernel`, written so that its transpose, from cotangents y to `a^T y`, is fast."""
    rows, inputs = a.shape
    outputs = kernel.shape[1]
    if (rows + inputs) * outputs < rows * inputs:  # what is transposed: y and the result, or a
        return _wall(jax.lax.dot_general(_wall(kernel.T), a, (((1,), (1,)), ((), ())))).T
    return jax.lax.dot_general(_wall(a.T), kernel, (((0,), (0,)), ((), ())))


def _wall(a: Any) -> Array:
    """The same; on CPU, XLA does not simplify across it."""
    return jax.lax.platform_dependent(a, cpu=apart, default=lambda a: a)
