"""Normalisation of the input features with the statistics of a training set."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from jbn.nn.moments import Moments

_BLOCK_VALUES = 1 << 24  # so that a large set of bytes is never a large set of floats


class Normalizer(NamedTuple):
    """`(x - mean) * factor` for every feature.

    Args:
        mean: of the training set, `[features]`.
        factor: 1 / standard deviation, `[features]`; 0 for a constant feature, which so becomes 0.

    >>> import numpy as np
    >>> fit(np.array([[1.0, 5.0], [3.0, 5.0]])).apply(np.array([[3.0, 5.0]])).tolist()
    [[1.0, 0.0]]
    """

    mean: Float[Array, " features"]
    factor: Float[Array, " features"]

    def apply(self, x: Num[Array, "rows *features"] | Num[np.ndarray, "rows *features"]) -> Array:
        """Normalised values, in the shape of `x` and in the floating type of the statistics."""
        flat = jnp.asarray(x).reshape(x.shape[0], -1).astype(self.mean.dtype)
        return ((flat - self.mean[None, :]) * self.factor[None, :]).reshape(x.shape)


def fit(x: Num[np.ndarray, "rows *features"]) -> Normalizer:
    """The normaliser of a training set, one mean and biased standard deviation a feature.

    Args:
        x: any real numbers; all axes but the first are features.

    Returns:
        Statistics in JAX's default floating type.
    """
    flat = x.reshape(x.shape[0], -1)
    rows = max(1, _BLOCK_VALUES // flat.shape[1])
    whole = None
    for start in range(0, len(flat), rows):
        part = _moments(jnp.asarray(flat[start : start + rows]))
        whole = part if whole is None else whole.merge(part)
    assert whole is not None, "a data set has at least one row"
    deviation = jnp.sqrt(whole.variance())
    constant = deviation <= 8 * jnp.finfo(deviation.dtype).eps * jnp.abs(whole.mean)
    return Normalizer(whole.mean, jnp.where(constant, 0, 1 / jnp.where(constant, 1, deviation)))


@jax.jit
def _moments(x: Num[Array, "rows features"]) -> Moments:
    return Moments.of(x.astype(float))
