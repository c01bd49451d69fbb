"""What XLA computes once, what again, and when: the same numbers, arranged so that its loops are fast and exact.

XLA fuses cheap operations into every loop over entries that uses their results. These identities say where that is
to end. None changes a value or a derivative.
"""

from collections.abc import Iterable

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float


def each(number: ArrayLike, known: Float[Array, "*channels"]) -> Float[Array, "*channels"]:
    """The number once a channel, made with known finite numbers so that XLA cannot tell it is one number.

    By one number XLA does not divide: it multiplies by the reciprocal, in a kernel of its own, and fuses the
    product with sums that follow, in each loop in another way. What is meant to be one result then differs from
    loop to loop.

    >>> import jax.numpy as jnp
    >>> each(3, jnp.array([1.0, -7.0])).tolist()
    [3.0, 3.0]
    """
    return jnp.asarray(number, known.dtype) + 0 * jax.lax.stop_gradient(known)


def once(vector: Float[Array, "*channels"], known: Float[Array, "*channels"]) -> Float[Array, "*channels"]:
    """The same, divided by a 1 that XLA cannot tell (made of known numbers).

    A quotient it computes once a channel, anything cheaper again for every entry.
    """
    return vector / each(1, known)


def apart(vector: Float[Array, "..."]) -> Float[Array, "..."]:
    """The same, but unknown to XLA: it then fuses a difference into each sum that uses it, and stores none."""
    return jax.lax.optimization_barrier(vector)


def after(
    vector: Float[Array, "*channels"], others: Iterable[Float[Array, "*channels"]]
) -> Float[Array, "*channels"]:
    """The same, but not before the others are there (whatever they hold).

    On CPU, small kernels that may run beside a large one take the threads that it needs.
    """
    for other in map(jax.lax.stop_gradient, others):
        vector = vector + jnp.where(jnp.isfinite(other), 0 * other, 0).astype(vector.dtype)
    return vector
