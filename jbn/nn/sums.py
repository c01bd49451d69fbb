"""Two sums and a multiply-add: all that batch norm does to every entry, forward and backward.

The derivatives are written by hand, as linear maps of the tangents. JAX transposes them, so the backward pass needs
no more than `sum(dy)`, `sum(dy * (x - centre))` and one multiply-add an entry, and forward mode, second
derivatives, `vmap` and `shard_map` need no rules of their own.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jbn.nn.fusion import apart, once

_PART = 16


class Sums(NamedTuple):
    """Sums about a shift, one entry a channel; nothing may depend on the shift but rounding.

    Args:
        shift: k, close to the mean; a constant for derivatives.
        first: `sum(x - k)`.
        second: `sum((x - k)^2)`.
    """

    shift: Float[Array, "*channels"]
    first: Float[Array, "*channels"]
    second: Float[Array, "*channels"]


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def sums(axes: tuple[int, ...], x: Float[Array, "..."]) -> Sums:
    """Sums about a shift that is at most 4 standard deviations away from the mean, whatever the values.

    The shift is the mean of the first sixteenth of `x`. By Cauchy and Schwarz the mean of m out of n values
    lies within `sqrt(n / m)` deviations of the mean of all, so `second - first^2 / n` cancels no more than
    the factor 1 + n / m = 17, with an outlier among them or not.

    On CPU, XLA sums an array as it is twice as fast as one less a vector. So it is summed about 0 there, and once
    more only if the mean of a channel turns out farther from 0 than that.

    Args:
        axes: over which to sum, static.
        x: any shape; float32 or float64.
    """
    return _sums(axes, x)


@sums.defjvp
def _sums_jvp(axes: tuple[int, ...], primals: tuple[Array], tangents: tuple[Array]) -> tuple[Sums, Sums]:
    (x,), (dx,) = primals, tangents
    result = sums(axes, x)
    deviation = x - _spread(apart(result.shift), axes)
    return result, Sums(
        shift=jnp.zeros_like(result.shift),
        first=once(jnp.sum(dx, axes), result.first),
        second=once(2 * jnp.sum(deviation * dx, axes), result.first),
    )


def sums_about(
    axes: tuple[int, ...],
    x: Float[Array, "..."],
    shift: Float[Array, "*channels"],
    mask: Bool[Array, "..."] | None = None,
) -> Sums:
    """Sums about a given shift; entries that the mask (aligned with `x`) leaves out do not count."""
    values = x - _spread(shift, axes)
    if mask is not None:
        values = jnp.where(mask, values, 0)
    return Sums(shift, jnp.sum(values, axes), jnp.sum(values**2, axes))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def multiply_add(
    axes: tuple[int, ...],
    x: Float[Array, "..."],
    centre: Float[Array, "*channels"],
    factor: Float[Array, "*channels"],
    shift: Float[Array, "*channels"],
) -> Float[Array, "..."]:
    """`(x - centre) * factor + shift`, with one centre, factor and shift a channel."""
    centre, factor, shift = (_spread(once(vector, vector), axes) for vector in (centre, factor, shift))
    return (x - centre) * factor + shift


@multiply_add.defjvp
def _multiply_add_jvp(
    axes: tuple[int, ...], primals: tuple[Array, ...], tangents: tuple[Array, ...]
) -> tuple[Array, Array]:
    x, centre, factor, shift = primals
    dx, dcentre, dfactor, dshift = tangents
    deviation = x - _spread(apart(once(centre, centre)), axes)
    # One vector for centre and shift: its transpose is one sum(dy) for both.
    dy = dx * _spread(once(factor, factor), axes) + deviation * _spread(dfactor, axes)
    return multiply_add(axes, x, centre, factor, shift), dy + _spread(dshift - dcentre * factor, axes)


@functools.partial(jax.jit, static_argnums=0, inline=True)  # without it every call outside jit compiles anew
def _sums(axes: tuple[int, ...], x: Array) -> Sums:
    return jax.lax.platform_dependent(
        x, cpu=functools.partial(_about_zero_or_a_part, axes), default=functools.partial(_about_a_part, axes)
    )


def _about_a_part(axes: tuple[int, ...], x: Array) -> Sums:
    shift = _mean_of_a_part(axes, x)
    first = jnp.sum(x - _spread(shift, axes), axes)
    return Sums(shift, first, jnp.sum((x - _spread(apart(shift), axes)) ** 2, axes))


def _about_zero_or_a_part(axes: tuple[int, ...], x: Array) -> Sums:
    first, second = jnp.sum(x, axes), jnp.sum(x * x, axes)
    count = math.prod(x.shape[axis] for axis in axes)
    near = _everywhere(first**2 <= _PART * (second * count - first**2))
    zero = jnp.zeros_like(first)
    return jax.lax.cond(near, lambda x: Sums(zero, first, second), lambda x: _about_a_part(axes, x), x)


@jax.custom_batching.custom_vmap
def _everywhere(condition: Bool[Array, "..."]) -> Bool[Array, ""]:
    """Whether it holds for all channels, and for all members of a `vmap`: they share one decision."""
    return jnp.all(condition)


@_everywhere.def_vmap
def _everywhere_of_members(
    size: int, batched: list[bool], condition: Bool[Array, "..."]
) -> tuple[Bool[Array, ""], bool]:
    return _everywhere(condition), False


def _mean_of_a_part(axes: tuple[int, ...], x: Array) -> Array:
    axis = _axis_to_cut(axes, x)
    part = x if axis is None else jax.lax.slice_in_dim(x, 0, -(-x.shape[axis] // _PART), axis=axis)
    return jnp.sum(part, axes) / max(1, math.prod(part.shape[axis] for axis in axes))


def _axis_to_cut(axes: tuple[int, ...], x: Array) -> int | None:
    """The first one that is not spread over devices (explicitly; then it may only be cut in their multiples)."""
    spec = jax.typeof(x).sharding.spec
    return next((axis for axis in axes if spec[axis] is None), None)


def _spread(vector: Array, axes: tuple[int, ...]) -> Array:
    return jax.lax.expand_dims(vector, axes)
