"""Dropout whose masks depend on the place alone: no padding and no other member changes them."""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from jbn.errors import InputError
from jbn.nn import counter

_STREAM = 1 << 16  # streams below belong to initial weights


def dropout(
    key: PRNGKeyArray | None, x: Float[Array, "*rows units"], rate: ArrayLike, *, layer: int = 0
) -> Float[Array, "*rows units"]:
    """`x / (1 - rate)` where a draw for (key, layer, row, unit) reaches the rate, 0 elsewhere.

    The mean of every unit stays (Srivastava et al. 2014, section 10, "inverted"). The draw is a hash of a counter, a
    few integer operations that XLA fuses into what uses them, so a mask costs neither memory nor a pass.

    Args:
        key: of this step, as `jbn.model` passes it to `apply`; None, as at inference, drops nothing.
        x: `[*rows, units]`; masks of a batch have those of a smaller one, or of fewer units, as their corner.
        rate: share that is dropped, in [0, 1); may be traced, so that it may be a dimension of a space.
        layer: number of the layer; those of one network have masks of their own.

    Returns:
        The remaining values in the shape and type of `x`.

    Raises:
        InputError: a rate outside [0, 1) given as a number.

    >>> import jax, jax.numpy as jnp, jbn
    >>> y = jbn.dropout(jax.random.key(0), jnp.ones((2, 4)), 0.5)
    >>> bool(((y == 0) | (y == 2)).all())
    True
    >>> def init(key, x, outputs):
    ...     return jnp.zeros((x.shape[1], outputs))
    >>> def apply(kernel, x, key, rate=0.2):
    ...     return jbn.dropout(key, x, rate) @ kernel
    >>> task = jbn.Task(model=jbn.model(init, apply), data=jbn.data.digits())
    >>> rates = {"rate": [0.0, 0.9], "learning_rate": [0.01, 0.01]}
    >>> jbn.sweep(task, rates, epochs=2, key=jax.random.key(0)).best().config_id
    0
    """
    if isinstance(rate, int | float | np.number) and not 0 <= rate < 1:
        raise InputError(
            f"a dropout rate lies in [0, 1), but got rate={rate}; pass the share that is dropped"
        )
    if key is None or (isinstance(rate, int | float | np.number) and rate == 0):
        return x
    draws = counter.uniform(key, (math.prod(x.shape[:-1]), x.shape[-1]), stream=_STREAM + layer)
    return jnp.where(draws.reshape(x.shape) >= rate, x / (1 - jnp.asarray(rate, x.dtype)), 0)
