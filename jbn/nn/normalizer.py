"""Normalisation of the input features with the statistics of a training set."""

import functools
import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num

from jbn.nn.moments import Moments

_BLOCK_VALUES = 1 << 23  # so that a large set of bytes is never a large set of floats
_PIECE_VALUES = 1 << 15  # in float64 they stay in the cache


class Normalizer(NamedTuple):
    """`(x - mean) * factor` for every feature.

    Args:
        mean: of the training set, `[features]`.
        factor: 1 / standard deviation, `[features]`; 0 for a constant feature, which so becomes 0.

    >>> import numpy as np
    >>> normalizer = fit(np.array([[1.0, 5.0], [3.0, 5.0]]))
    >>> y = normalizer.apply(np.array([[3.0, 5.0]]))
    >>> y.tolist(), normalizer.invert(y).tolist()
    ([[1.0, 0.0]], [[3.0, 5.0]])
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
        result = np.empty(x.shape, jax.dtypes.canonicalize_dtype(float))
        self.write(x, np.arange(len(x)), result)
        return jnp.asarray(result)

    def write(
        self,
        x: Num[np.ndarray, "held *features"],
        place: Int[np.ndarray, " rows"],
        out: Float[np.ndarray, "rows *features"],
    ) -> None:
        """Writes what `apply` makes of the rows of `x` at these places into `out`, in that order."""
        target = out.reshape(len(place), len(self.mean))  # a view: `out` is contiguous
        size = max(1, _PIECE_VALUES // max(1, len(self.mean)))
        for start in range(0, len(place), size):
            rows = slice(start, start + size)
            piece = x[place[rows]].reshape(-1, len(self.mean)).astype(np.float64)
            piece -= self.mean
            np.multiply(piece, self.factor, out=target[rows], casting="same_kind")

    def then(self, other: "Normalizer") -> "Normalizer":
        """Both in one: this one first, the other on what comes out.

        >>> import numpy as np
        >>> first, second = fit(np.array([[1.0], [3.0]])), fit(np.array([[1.0], [2.0]]))
        >>> x = np.array([[7.0]])
        >>> first.then(second).apply(x).tolist(), second.apply(first.apply(x)).tolist()
        ([[7.0]], [[7.0]])
        """
        deviation = np.divide(1, self.factor, out=np.zeros_like(self.factor), where=self.factor > 0)
        return Normalizer(self.mean + other.mean * deviation, self.factor * other.factor)

    def invert(
        self, y: Float[Array | np.ndarray, "rows *features"]
    ) -> Float[Array | np.ndarray, "rows *features"]:
        """The values that `apply` made `y` of: `y / factor + mean`.

        A constant feature comes back as its constant. Host arrays come back in float64, JAX's in their own type.
        """
        deviation = np.divide(1, self.factor, out=np.zeros_like(self.factor), where=self.factor > 0)
        flat = y.reshape(y.shape[0], -1)
        if isinstance(y, jax.Array):
            flat = flat * deviation[None, :].astype(flat.dtype) + self.mean[None, :].astype(flat.dtype)
            return flat.reshape(y.shape)
        return (flat.astype(np.float64) * deviation + self.mean).reshape(y.shape)


def identity(features: int) -> Normalizer:
    """The normaliser that leaves so many features as they are.

    >>> import numpy as np
    >>> identity(2).apply(np.array([[3.0, 5.0]])).tolist()
    [[3.0, 5.0]]
    """
    return Normalizer(np.zeros(features), np.ones(features))


def fit(x: Num[np.ndarray, "rows *features"]) -> Normalizer:
    """The normaliser of a training set: one mean and one biased standard deviation a feature.

    `mean = sum(x) / n`, `factor = 1 / sqrt(sum((x - mean)^2) / n)`.

    Args:
        x: any real numbers; all axes but the first are features.

    Returns:
        Statistics in float64, whatever JAX's default: a time stamp is not representable in float32.

    Raises:
        ValueError: no row.
    """
    return fit_stream([x])


def fit_stream(batches: Iterable[Num[np.ndarray, "_ ..."]]) -> Normalizer:
    """The normaliser of a training set that comes batch by batch; the same as `fit` of all of it.

    The moments of the batches are merged as in Chan, Golub and LeVeque 1983, so their sizes do not matter.

    Args:
        batches: any number of batches, all with the same features.

    Returns:
        Statistics in float64.

    Raises:
        ValueError: no row at all, or batches whose features differ in shape.

    >>> import numpy as np
    >>> fit_stream(np.array([[row], [row + 1.0]]) for row in (0.0, 2.0)).mean.tolist()
    [1.5]
    """
    with jax.enable_x64(True):
        parts = (_moments(block) for x in _alike(batches) for _, block in _blocks(x))
        whole = next(parts, None)
        if whole is None:
            raise ValueError("a normalizer needs at least one row to fit, but got none")
        whole = functools.reduce(Moments.merge, parts, whole)
        mean, variance = np.array(whole.mean + whole.rest), np.array(whole.variance())
    deviation = np.sqrt(variance)
    constant = deviation <= 8 * np.finfo(np.float64).eps * np.abs(mean)
    return Normalizer(mean, np.where(constant, 0, 1 / np.where(constant, 1, deviation)))


def _alike(batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The batches, as long as their features have one shape."""
    shape = None
    for x in batches:
        shape = x.shape[1:] if shape is None else shape
        if x.shape[1:] != shape:
            raise ValueError(f"all batches have the same features, but got shapes {shape} and {x.shape[1:]}")
        yield x


def _blocks(
    x: Num[np.ndarray, "rows *features"],
) -> Iterator[tuple[slice, Float[np.ndarray, "rows features"]]]:
    """Flat rows in float64, a block at a time."""
    flat = x.reshape(x.shape[0], math.prod(x.shape[1:]))
    size = max(1, _BLOCK_VALUES // max(1, flat.shape[1]))
    for start in range(0, len(flat), size):
        rows = slice(start, start + size)
        yield rows, flat[rows].astype(np.float64)


@jax.jit
def _moments(x: Float[Array, "rows features"]) -> Moments:
    return Moments.of(x)
