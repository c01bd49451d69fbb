"""Normalisation of the input features with the statistics of a training set."""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from jbn.nn.moments import Moments

_BLOCK_VALUES = 1 << 23  # so that a large set of bytes is never a large set of floats


class Normalizer(NamedTuple):
    """`(x - mean) * factor` for every feature.

    Args:
        mean: of the training set, `[features]`.
        factor: 1 / standard deviation, `[features]`; 0 for a constant feature, which so becomes 0.

    >>> import numpy as np
    >>> fit(np.array([[1.0, 5.0], [3.0, 5.0]])).apply(np.array([[3.0, 5.0]])).tolist()
    [[1.0, 0.0]]
    """

    mean: Float[np.ndarray, " features"]
    factor: Float[np.ndarray, " features"]

    def apply(self, x: Num[Array | np.ndarray, "rows *features"]) -> Float[Array, "rows *features"]:
        """Normalised values in the shape of `x` and JAX's default float; host arrays by float64 arithmetic."""
        if isinstance(x, jax.Array):
            flat = x.reshape(x.shape[0], -1).astype(float)
            mean = self.mean.astype(flat.dtype)
            rest = (self.mean - mean).astype(flat.dtype)  # what rounding the mean took away
            return ((flat - mean[None, :] - rest[None, :]) * self.factor[None, :].astype(flat.dtype)).reshape(
                x.shape
            )
        result = np.empty((len(x), len(self.mean)), jax.dtypes.canonicalize_dtype(float))
        for rows, block in _blocks(x):
            result[rows] = (block - self.mean) * self.factor
        return jnp.asarray(result.reshape(x.shape))


def fit(x: Num[np.ndarray, "rows *features"]) -> Normalizer:
    """The normaliser of a training set, one mean and biased standard deviation a feature.

    Args:
        x: any real numbers; all axes but the first are features.

    Returns:
        Statistics in float64, whatever JAX's default: a time stamp is not representable in float32.
    """
    with jax.enable_x64(True):
        whole = functools.reduce(Moments.merge, (_moments(block) for _, block in _blocks(x)))
        mean, variance = np.array(whole.mean), np.array(whole.variance())
    deviation = np.sqrt(variance)
    constant = deviation <= 8 * np.finfo(np.float64).eps * np.abs(mean)
    return Normalizer(mean, np.where(constant, 0, 1 / np.where(constant, 1, deviation)))


def _blocks(
    x: Num[np.ndarray, "rows *features"],
) -> Iterator[tuple[slice, Float[np.ndarray, "rows features"]]]:
    """Flat rows in float64, a block at a time."""
    flat = x.reshape(x.shape[0], -1)
    size = max(1, _BLOCK_VALUES // flat.shape[1])
    for start in range(0, len(flat), size):
        rows = slice(start, start + size)
        yield rows, flat[rows].astype(np.float64)


@jax.jit
def _moments(x: Float[Array, "rows features"]) -> Moments:
    return Moments.of(x)
