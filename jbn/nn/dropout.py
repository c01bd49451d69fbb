"""Dropout whose masks depend on the place alone: no padding and no other member changes them."""

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from jbn.nn import counter

_STREAM = 1 << 16  # streams below belong to initial weights


def dropout(
    key: PRNGKeyArray, x: Float[Array, "batch units"], *, rate: ArrayLike, layer: int = 0
) -> Float[Array, "batch units"]:
    """`x / (1 - rate)` where a draw for (key, layer, row, unit) reaches the rate, 0 elsewhere.

    The mean of every unit stays (Srivastava et al. 2014, section 10, "inverted"). The draw is a hash of a counter, a
    few integer operations that XLA fuses into what uses them, so a mask costs neither memory nor a pass.

    Args:
        key: of this step.
        x: `[batch, units]`; masks of a larger array have those of a smaller one as their corner.
        rate: share that is dropped, in [0, 1); may be traced.
        layer: separates the masks of the layers of one network.

    Returns:
        The remaining values in the shape and type of `x`.

    Raises:
        ValueError: a rate outside [0, 1) given as a number.

    >>> import jax, jax.numpy as jnp
    >>> y = dropout(jax.random.key(0), jnp.ones((2, 4)), rate=0.5)
    >>> bool(((y == 0) | (y == 2)).all())
    True
    """
    if isinstance(rate, int | float) and not 0 <= rate < 1:
        raise ValueError(f"a dropout rate lies in [0, 1), but got rate={rate}")
    if isinstance(rate, int | float) and rate == 0:
        return x
    kept = counter.uniform(key, (x.shape[0], x.shape[1]), stream=_STREAM + layer) >= rate
    return jnp.where(kept, x / (1 - jnp.asarray(rate, x.dtype)), 0)
