"""What the layers for flax.linen and flax.nnx have in common: their arithmetic."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Inexact, PRNGKeyArray

from jbn.errors import InputError
from jbn.nn import batch_norm, counter
from jbn.nn.batch_norm import BatchNormParams, BatchNormStats

FLAX_DROPOUT = "{flax} takes no traced rate; use {ours} in its place, which has the same arguments"

Statistics = tuple[Inexact[Array, "*channels"], Float[Array, "*channels"]]


def dropped(
    key: PRNGKeyArray, x: Float[Array, "..."], rate: ArrayLike, broadcast_dims: Sequence[int] = ()
) -> Float[Array, "..."]:
    """`x / (1 - rate)` where a draw reaches the rate, 0 elsewhere; at a rate of 1 all is 0.

    Args:
        key: of this layer and step.
        x: any shape.
        rate: share that is dropped, in [0, 1]; may be traced.
        broadcast_dims: axes along which a draw is shared.

    Raises:
        InputError: a rate outside [0, 1] given as a number.
    """
    if isinstance(rate, int | float | np.number) and not 0 <= rate <= 1:
        raise InputError(f"a dropout rate lies in [0, 1], but got rate={rate}")
    shared = {axis % x.ndim for axis in broadcast_dims}
    shape = tuple(1 if axis in shared else size for axis, size in enumerate(x.shape))
    draws = counter.uniform(key, (math.prod(shape[:-1]), shape[-1] if shape else 1), stream=0).reshape(shape)
    remaining = 1 - jnp.asarray(rate, x.dtype)
    return jnp.where(draws >= rate, x / jnp.where(remaining > 0, remaining, 1), 0)


def check_inexact(x: Array) -> None:
    """Batch norm is one of floating-point numbers, real or complex."""
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        raise InputError(f"batch norm takes floating-point numbers, but got {x.dtype}; convert them first")


def normalized(
    x: Inexact[Array, "..."],
    scale: Inexact[Array, "*channels"] | None,
    bias: Inexact[Array, "*channels"] | None,
    stats: Statistics,
    *,
    running: bool,
    momentum: ArrayLike,
    epsilon: ArrayLike,
    channels: tuple[int, ...],
    mask: Bool[Array, "..."] | None,
    axis_name: Any,
    groups: Any,
    dtype: Any,
) -> tuple[Inexact[Array, "..."], Statistics]:
    """Batch norm as flax defines it: the running statistics are an uncorrected average of biased variances.

    Complex numbers have a complex mean, also a running one, and a real variance, `mean(|x - mu|^2)`.

    Args:
        x: the batch, real or complex.
        scale: one entry a channel, or None.
        bias: one entry a channel, or None.
        stats: running mean and variance.
        running: normalise with them; else with those of the batch, which then move them.
        momentum: weight of the old running statistics.
        epsilon: added to the variance.
        channels: axes of the channels, ascending.
        mask: what counts, broadcastable to `x`.
        axis_name: a mapped axis over which statistics are pooled.
        groups: of indices along that axis that are pooled together.
        dtype: of the result; by default that of `x` and the parameters together.

    Returns:
        The result and the running statistics after it.
    """
    result = dtype or jnp.result_type(*(own for own in (x, scale, bias) if own is not None))
    x = x.astype(jnp.promote_types(jnp.promote_types(x.dtype, dtype or x.dtype), jnp.float32))
    params = _params(scale, bias, stats[0].shape, x.dtype)
    mean, var = stats[0].astype(x.dtype), stats[1].astype(jnp.finfo(x.dtype).dtype)
    moved = mean, var
    if running:
        y = _standard(params, x, mean, var, epsilon, channels)
    elif groups is None and _plain(x, channels) and (rows := _of_rows(mask, x, channels)) is not _NOT_ROWS:
        y, after = batch_norm.train(
            None if params is None else BatchNormParams(*params),
            BatchNormStats(mean, var, _count(momentum, x.dtype)),
            x,
            momentum=momentum,
            epsilon=epsilon,
            mask=rows,
            axis_name=axis_name,
            channel_axis=channels,
        )
        moved = after.mean, after.var
    else:
        center, spread = _statistics(x, channels, mask, axis_name, groups)
        y = _standard(params, x, center, spread, epsilon, channels)
        moved = _average(momentum, mean, center), _average(momentum, var, spread)
    kept = jnp.promote_types(stats[0].dtype, x.dtype) if jnp.iscomplexobj(x) else stats[0].dtype
    return y.astype(result), (moved[0].astype(kept), moved[1].astype(stats[1].dtype))


def _standard(
    params: tuple[Array, Array] | None,
    x: Array,
    mean: Array,
    var: Array,
    epsilon: ArrayLike,
    channels: tuple[int, ...],
) -> Array:
    """`scale * (x - mean) / sqrt(var + epsilon) + bias`."""
    if not jnp.iscomplexobj(x):
        own = None if params is None else BatchNormParams(*params)
        return batch_norm.normalize(own, x, mean, var, epsilon=epsilon, channel_axis=channels)
    scale, bias = (jnp.ones_like(mean), jnp.zeros_like(mean)) if params is None else params
    reduced = tuple(axis for axis in range(x.ndim) if axis not in channels)
    mean, factor, bias = (
        jax.lax.expand_dims(own, reduced) for own in (mean, scale / jnp.sqrt(var + epsilon), bias)
    )
    return (x - mean) * factor + bias


def _params(
    scale: Array | None, bias: Array | None, shape: tuple[int, ...], dtype: Any
) -> tuple[Array, Array] | None:
    if scale is None and bias is None:
        return None
    scale = jnp.ones(shape) if scale is None else scale
    bias = jnp.zeros(shape) if bias is None else bias
    return scale.astype(dtype), bias.astype(dtype)


def _count(momentum: ArrayLike, dtype: Any) -> Array:
    """The count at which a running average stays uncorrected."""
    if isinstance(momentum, int | float):
        return jnp.asarray(math.inf if momentum == 1 else 1 / (1 - momentum), dtype)
    return 1 / (1 - jnp.asarray(momentum, dtype))


def _average(momentum: ArrayLike, old: Array, new: Array) -> Array:
    return jnp.asarray(momentum * old + (1 - momentum) * new)


def _plain(x: Array, channels: tuple[int, ...]) -> bool:
    """Whether values are real, and a channel has more than one of them."""
    values = math.prod(size for axis, size in enumerate(x.shape) if axis not in channels)
    return values > 1 and not jnp.iscomplexobj(x)


_NOT_ROWS = object()


def _of_rows(mask: Array | None, x: Array, channels: tuple[int, ...]) -> Any:
    """The mask without the axes of the channels; `_NOT_ROWS` if it tells channels apart."""
    if mask is None:
        return None
    mask = jnp.asarray(mask, bool)
    mask = mask.reshape((1,) * (x.ndim - mask.ndim) + mask.shape)
    if any(mask.shape[axis] > 1 for axis in channels):
        return _NOT_ROWS
    rows = tuple(size for axis, size in enumerate(x.shape) if axis not in channels)
    return jnp.broadcast_to(jnp.squeeze(mask, channels), rows)


def _statistics(
    x: Array, channels: tuple[int, ...], mask: Array | None, axis_name: Any, groups: Any
) -> Statistics:
    """Mean and variance in two passes, with a mask of single entries, over groups of a mapped axis."""
    reduced = tuple(axis for axis in range(x.ndim) if axis not in channels)

    def mean(values: Array) -> Array:
        counts = (
            jnp.ones(x.shape, bool) if mask is None else jnp.broadcast_to(jnp.asarray(mask, bool), x.shape)
        )
        counted = jnp.sum(counts, reduced, dtype=jnp.finfo(x.dtype).dtype)
        sums = jnp.sum(jnp.where(counts, values, 0), reduced), counted
        if axis_name is not None:
            sums = jax.lax.psum(sums, axis_name, axis_index_groups=groups)
        return sums[0] / jnp.maximum(sums[1], 1)

    center = mean(x)
    deviation = x - jax.lax.expand_dims(center, reduced)
    return center, mean(jnp.real(deviation * jnp.conj(deviation)))
