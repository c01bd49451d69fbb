"""Count, mean and sum of squared deviations: one value type for every statistic that batch norm needs."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


class Moments(NamedTuple):
    """Moments of a set of values, one entry a channel.

    Args:
        count: how many values every channel has; float scalar.
        mean: their mean, `[channels]`.
        m2: their sum of squared deviations from the mean, `[channels]`.

    >>> import jax.numpy as jnp
    >>> part = Moments.of(jnp.array([[1.0], [3.0]]))
    >>> whole = part.merge(Moments.of(jnp.array([[5.0], [7.0]])))
    >>> float(whole.count), float(whole.mean[0]), float(whole.variance()[0])
    (4.0, 4.0, 5.0)
    """

    count: Float[Array, ""]
    mean: Float[Array, " channels"]
    m2: Float[Array, " channels"]

    @staticmethod
    def of(x: Float[Array, "*batch channels"], mask: Bool[Array, "..."] | None = None) -> "Moments":
        """Moments over all axes of `x` but the last.

        Two passes, the second of which corrects the rounding of the first (Chan, Golub and LeVeque 1983): with
        `k` the mean as first computed, `c = x - k` and `s = mean(c)`, it is `mean = k + s` and
        `m2 = sum(c^2) - count * s^2`. 16-bit values are reduced in float32.

        Args:
            x: values, `[..., channels]`.
            mask: which entries count; the shape of `x` without its last axis, or a leading prefix of it.
                Entries that do not count may hold anything, NaN included.

        Returns:
            The moments; all zero where nothing counts.
        """
        return centre(x, mask).moments

    def merge(self, other: "Moments") -> "Moments":
        """Moments of both sets together (Chan, Golub and LeVeque 1983)."""
        count = self.count + other.count
        share = other.count / jnp.maximum(count, 1)
        delta = other.mean - self.mean
        return Moments(
            count=count,
            mean=self.mean + delta * share,
            m2=self.m2 + other.m2 + delta**2 * self.count * share,
        )

    def psum(self, axis_name: str | tuple[str, ...]) -> "Moments":
        """Moments of the sets of all devices (or `vmap` members) along the named axis, as one set.

        Counts and sums are added, so sets of unequal size weigh what they should.
        """
        count = jax.lax.psum(self.count, axis_name)
        mean = jax.lax.psum(self.mean * (self.count / jnp.maximum(count, 1)), axis_name)
        m2 = jax.lax.psum(self.m2 + self.count * (self.mean - mean) ** 2, axis_name)
        return Moments(count, mean, m2)

    def variance(self, ddof: int = 0) -> Float[Array, " channels"]:
        """`m2 / (count - ddof)`; 0 where there are too few values."""
        return self.m2 / jnp.maximum(self.count - ddof, 1)


class Centred(NamedTuple):
    """Values less a shift close to their mean.

    Args:
        values: `x - k`; 0 where the mask is.
        rest: what is left of the mean, `mean(x) - k`, `[channels]`: small, but exact.
        moments: of `x`.
        mask: in the shape of the values, or None.
    """

    values: Float[Array, "*batch channels"]
    rest: Float[Array, " channels"]
    moments: Moments
    mask: Bool[Array, "..."] | None


def centre(
    x: Float[Array, "*batch channels"],
    mask: Bool[Array, "..."] | None = None,
    axis_name: str | tuple[str, ...] | None = None,
) -> Centred:
    """`x` less about its mean over all axes but the last.

    The shift `k` only keeps rounding small where the mean is far larger than the deviation. No result depends on
    it, so it carries no gradient; then autodiff needs no more than sum(dy) and sum(dy * values) of what follows.
    """
    chex.assert_rank(x, set(range(1, 9)))
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    axes = tuple(range(x.ndim - 1))
    if mask is None:
        count = jnp.asarray(x.size // x.shape[-1], x.dtype)
    else:
        mask = _like_rows(mask, x)
        x = jnp.where(mask, x, 0)
        count = jnp.sum(jnp.broadcast_to(mask, (*x.shape[:-1], 1)), dtype=x.dtype)

    pooled = count if axis_name is None else jax.lax.psum(count, axis_name)
    divisor = jnp.maximum(pooled, 1)

    def mean(values: Array) -> Array:
        local = jnp.sum(values, axis=axes) / divisor
        return local if axis_name is None else jax.lax.psum(local, axis_name)

    shift = jax.lax.stop_gradient(mean(x))
    values = x - jax.lax.expand_dims(shift, axes)
    if mask is not None:
        values = jnp.where(mask, values, 0)
    rest = mean(values)
    m2 = jnp.maximum(mean(values**2) - rest**2, 0) * divisor
    return Centred(values, rest, Moments(pooled, shift + rest, m2), mask)


def _like_rows(mask: Bool[Array, "..."], x: Float[Array, "*batch channels"]) -> Bool[Array, "..."]:
    """The mask with axes of length 1 for those it leaves out, so that it never broadcasts from the right."""
    if mask.ndim >= x.ndim or mask.shape != x.shape[: mask.ndim]:
        raise ValueError(
            f"a mask has the shape of x without the channel axis, or a leading prefix of it: "
            f"x has shape {x.shape}, the mask {mask.shape}; you might need to reshape the mask to {x.shape[:-1]}"
        )
    return mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim))
