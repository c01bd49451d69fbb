"""Count, mean and sum of squared deviations: one value type for every statistic that batch norm needs."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float

from jbn.nn import channels
from jbn.nn.assertions import assert_at_least_one_axis
from jbn.nn.channels import ChannelAxis
from jbn.nn.fusion import each
from jbn.nn.sums import Sums, sums, sums_about

AxisName = str | tuple[str, ...]


class Moments(NamedTuple):
    """Moments of a set of values, one entry a channel.

    Args:
        count: how many values every channel has; float scalar.
        mean: their mean, `[*channels]`.
        m2: their sum of squared deviations from the mean, `[*channels]`.
        rest: what rounding took away from the mean, `[*channels]`; a constant for derivatives.

    >>> import jax.numpy as jnp
    >>> part = Moments.of(jnp.array([[1.0], [3.0]]))
    >>> whole = part.merge(Moments.of(jnp.array([[5.0], [7.0]])))
    >>> float(whole.count), float(whole.mean[0]), float(whole.variance()[0])
    (4.0, 4.0, 5.0)
    """

    count: Float[Array, ""]
    mean: Float[Array, "*channels"]
    m2: Float[Array, "*channels"]
    rest: Float[Array, "*channels"] | float = 0.0

    @staticmethod
    def of(
        x: Float[Array, "..."],
        mask: Bool[Array, "..."] | None = None,
        *,
        axis_name: AxisName | None = None,
        channel_axis: ChannelAxis = -1,
    ) -> "Moments":
        """Moments over all axes of `x` but the channels'.

        Sums about a shift k close to the mean (Chan, Golub and LeVeque 1983): with `s = mean(x - k)` it is
        `mean = k + s` and `m2 = sum((x - k)^2) - count * s^2`. 16-bit values are summed in float32.

        Args:
            x: values, `[..., channels]`.
            mask: which entries count; the shape of `x` without its channel axes, or a leading prefix of it.
                Entries that do not count may hold anything, NaN included.
            axis_name: a mapped axis (`vmap`, `shard_map`) whose members are pooled, weighted by their counts.
            channel_axis: the axis of the channels, or several.

        Returns:
            The moments; all zero where nothing counts.

        Raises:
            ValueError: a mask or an axis that does not fit.
        """
        assert_at_least_one_axis(x)
        x = widen(x)
        where = channels.find(x, channel_axis)
        if mask is None and axis_name is None:
            return _from_sums(jnp.asarray(where.values, x.dtype), sums(where.reduced, x))

        if mask is not None:
            mask = where.align(mask, x.shape)
            x = jnp.where(mask, x, 0)
        count = _pooled(_count(x, where, mask), axis_name)
        mean = _pooled(_divide(jnp.sum(x, where.reduced), count), axis_name)
        shift, first, second = sums_about(where.reduced, x, jax.lax.stop_gradient(mean), mask)
        return _from_sums(count, Sums(shift, *_pooled((first, second), axis_name)))

    @staticmethod
    def empty(features: int | tuple[int, ...], *, dtype: jnp.dtype | type | None = None) -> "Moments":
        """Moments of no value at all: where a merge starts.

        Args:
            features: number of channels, or their shape if there are several channel axes.
            dtype: floating type of the values; sums are at least float32. JAX's default float if not given.
        """
        zeros = widen(jnp.zeros(features, dtype))
        return Moments(jnp.zeros((), zeros.dtype), zeros, zeros, zeros)

    def merge(self, other: "Moments") -> "Moments":
        """Moments of both sets together (Chan, Golub and LeVeque 1983), whichever is first."""
        swap = other.count > self.count
        large, small = (
            jax.tree.map(lambda a, b: jnp.where(swap, b, a), *pair) for pair in ((self, other), (other, self))
        )
        count = self.count + other.count
        share = small.count / jnp.maximum(count, 1)
        delta = (small.mean - large.mean) + (small.rest - large.rest)
        return _rounded(
            count,
            large.mean,
            large.rest + delta * share,
            self.m2 + other.m2 + delta**2 * large.count * share,
        )

    def psum(self, axis_name: AxisName) -> "Moments":
        """Moments of the sets of all devices (or `vmap` members) along the named axis, as one set.

        Counts and sums are added, so sets of unequal size weigh what they should.
        """
        count = _pooled(self.count, axis_name)
        shift = jax.lax.stop_gradient(_pooled(self.mean * (self.count / jnp.maximum(count, 1)), axis_name))
        apart = (self.mean - shift) + self.rest
        first, second = _pooled((self.count * apart, self.m2 + self.count * apart**2), axis_name)
        return _from_sums(count, Sums(shift, first, second))

    def variance(self, ddof: int = 0) -> Float[Array, "*channels"]:
        """`m2 / (count - ddof)`; with no more than `ddof` values, `m2` itself, which is 0 for one value."""
        return self.m2 / jnp.maximum(self.count - ddof, 1)


def widen(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The values in the type that sums are taken in: at least float32."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _from_sums(count: Array, about: Sums) -> Moments:
    apart = _divide(about.first, count)
    m2 = about.second - about.first * apart
    m2 = m2 + jax.lax.stop_gradient(jnp.where(m2 < 0, -m2, 0))  # clipped, but not its gradient
    return _rounded(count, about.shift, apart, m2)


def _divide(sums: Array, count: Array) -> Array:
    """`sums / count`, the same number in whatever loop, so that `rest` is what rounding left of it."""
    return sums / each(jnp.maximum(count, 1), sums)


def _rounded(count: Array, mean: Array, apart: ArrayLike, m2: Array) -> Moments:
    """The moments with mean `mean + apart`, as the nearest number and the rest."""
    total = mean + apart
    return Moments(count, total, m2, jax.lax.stop_gradient((mean - total) + apart))


def _count(x: Array, where: channels.Channels, mask: Array | None) -> Array:
    if mask is None:
        return jnp.asarray(where.values, x.dtype)
    rows = tuple(1 if axis in where.axes else size for axis, size in enumerate(x.shape))
    return jnp.sum(jnp.broadcast_to(mask, rows), dtype=x.dtype)


def _pooled(values: Any, axis_name: AxisName | None) -> Any:
    return values if axis_name is None else jax.lax.psum(values, axis_name)
