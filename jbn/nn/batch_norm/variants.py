"""Batch norm with other statistics than those of the whole batch: ghost batches and renormalisation."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float

from jbn.nn import channels
from jbn.nn.batch_norm.estimates import replay
from jbn.nn.batch_norm.parts import (
    BatchNormParams,
    BatchNormStats,
    assert_fits,
    check_number,
    composed,
    inverse_deviation,
    update,
)
from jbn.nn.batch_norm.verbs import enter, train
from jbn.nn.channels import ChannelAxis
from jbn.nn.moments import AxisName, Moments


def train_ghost(
    params: BatchNormParams | None,
    stats: BatchNormStats,
    x: Float[Array, "batch ..."],
    *,
    group_size: int,
    momentum: ArrayLike = 0.9,
    epsilon: ArrayLike = 1e-5,
    mask: Bool[Array, "..."] | None = None,
    channel_axis: ChannelAxis = -1,
    ddof: int = 0,
) -> tuple[Float[Array, "batch ..."], BatchNormStats]:
    """Normalises every group of samples with its own statistics ("ghost batches").

    Samples in order are cut into groups; each is normalised as by `train` as if it were a batch by itself.
    The running statistics see the groups one after another, as that many small batches:
    `stats' = update(... update(update(stats, group_1), group_2) ..., group_G)`
    (Hoffer, Hubara and Soudry 2017, algorithm 1).

    The last group is smaller where `group_size` does not divide the batch, and weighs as much as the others in the
    running statistics. A group in which nothing counts comes out as 0 and moves nothing.

    Args:
        params: `scale` and `bias`, `[*channels]`; None in place of one or both leaves it out.
        stats: the running statistics.
        x: `[batch, ...]`; the first axis is cut, so it cannot be a channel axis.
        group_size: samples in a group, static, at least 1.
        momentum: weight of the old running statistics, for every group.
        epsilon: added to the variance inside the square root.
        mask: which entries count, as in `train`.
        channel_axis: the axis of the channels, or several.
        ddof: 0 keeps the biased running variance, 1 the unbiased one.

    Returns:
        `y` in the shape and type of `x`, and the new running statistics.

    Raises:
        ValueError: as `train`, for every group; a group size below 1, channels on the first axis.

    >>> import jax.numpy as jnp
    >>> from jbn import batch_norm
    >>> params, stats = batch_norm.init(1)
    >>> x = jnp.array([[1.0], [3.0], [10.0], [30.0]])
    >>> y, stats = train_ghost(params, stats, x, group_size=2, epsilon=0.0)
    >>> y[:, 0].tolist(), float(stats.count)
    ([-1.0, 1.0, -1.0, 1.0], 1.899...)
    """
    if group_size < 1:
        raise ValueError(f"a group has at least one sample, but got group_size={group_size}")
    where = channels.find(x, channel_axis)
    if 0 in where.axes:
        raise ValueError(f"groups are cut from the first axis, but got channel_axis={channel_axis}")
    assert_fits(x, where, stats, params)
    if mask is not None:
        where.align(mask, x.shape)
        mask = jnp.broadcast_to(mask, len(x)) if mask.ndim == 0 else mask

    def one(x: Array, mask: Array | None) -> tuple[Array, Moments]:
        nothing = Moments.empty(where.shape, dtype=stats.mean.dtype)
        return train(params, nothing, x, epsilon=epsilon, mask=mask, channel_axis=where.axes)

    whole = len(x) // group_size * group_size
    outputs = []
    if whole:
        groups, masks = jax.tree.map(lambda a: a[:whole].reshape(-1, group_size, *a.shape[1:]), (x, mask))
        y, batches = jax.vmap(one)(groups, masks)
        outputs.append(y.reshape(whole, *x.shape[1:]))
        stats = replay(stats, batches, momentum=momentum, ddof=ddof)
    if whole < len(x) or not len(x):
        y, batch = one(*jax.tree.map(lambda a: a[whole:], (x, mask)))
        outputs.append(y)
        stats = update(stats, batch, momentum=momentum, ddof=ddof)
    return jnp.concatenate(outputs), stats


def train_renormalized(
    params: BatchNormParams | None,
    stats: BatchNormStats,
    x: Float[Array, "..."],
    *,
    r_max: ArrayLike,
    d_max: ArrayLike,
    momentum: ArrayLike = 0.99,
    epsilon: ArrayLike = 1e-5,
    mask: Bool[Array, "..."] | None = None,
    axis_name: AxisName | None = None,
    channel_axis: ChannelAxis = -1,
    ddof: int = 0,
) -> tuple[Float[Array, "..."], BatchNormStats]:
    """Normalises a batch almost as at test time, so that small batches differ less from it.

    `xhat = (x - mu_B) / sigma_B * r + d`, `y = scale * xhat + bias`, with
    `r = clip(sigma_B / sigma, 1 / r_max, r_max)`, `d = clip((mu_B - mu) / sigma, -d_max, d_max)`, both constants
    for derivatives, `sigma = sqrt(var + epsilon)` of the batch (B) or the running statistics before this batch
    (Ioffe 2017, algorithm 1). Where neither is clipped this is `infer`; with `r_max = 1`, `d_max = 0` it is
    `train`. The paper starts there, and raises them to 3 and 5. It averages sigma; here it is the variance, as
    everywhere.

    Args:
        params: `scale` and `bias`, `[*channels]`; None in place of one or both leaves it out.
        stats: the running statistics. With a count of 0 there is nothing to correct towards: r = 1, d = 0.
        x: the batch, `[..., channels]`.
        r_max: limit of r, at least 1.
        d_max: limit of d, at least 0, in standard deviations.
        momentum: weight of the old running statistics.
        epsilon: added to both variances inside the square root.
        mask: which entries count, as in `train`.
        axis_name: a mapped axis over which statistics are pooled by count.
        channel_axis: the axis of the channels, or several.
        ddof: 0 keeps the biased running variance, 1 the unbiased one.

    Returns:
        `y` in the shape and type of `x`, and the new running statistics.

    Raises:
        ValueError: as `train`; an `r_max` below 1 or a `d_max` below 0 given as a number.

    >>> import jax.numpy as jnp
    >>> from jbn import batch_norm
    >>> params, stats = batch_norm.init(1, count=10.0)
    >>> y, _ = train_renormalized(params, stats, jnp.array([[1.0], [3.0]]), r_max=3.0, d_max=5.0, epsilon=0.0)
    >>> y[:, 0].tolist()
    [1.0, 3.0]
    """
    check_number("r_max", r_max, 1.0, math.inf)
    check_number("d_max", d_max, 0.0, math.inf)
    batch = enter(x, mask, axis_name, channel_axis)
    assert_fits(x, batch.channels, stats, params)
    moved = update(stats, batch.moments, momentum=momentum, ddof=ddof)
    corrected = _corrected(params, stats, batch.moments, r_max, d_max, epsilon)
    return batch.leave(corrected, x.dtype, epsilon, moved), moved


def _corrected(
    params: BatchNormParams | None,
    stats: BatchNormStats,
    batch: Moments,
    r_max: ArrayLike,
    d_max: ArrayLike,
    epsilon: ArrayLike,
) -> BatchNormParams:
    """`scale * r` and `scale * d + bias`."""
    inverse = inverse_deviation(stats.var, epsilon)
    known = stats.count > 0
    r = jnp.clip(jnp.sqrt(batch.variance() + epsilon) * inverse, 1 / jnp.asarray(r_max), r_max)
    d = jnp.clip(((batch.mean - stats.mean) + batch.rest) * inverse, -jnp.asarray(d_max), d_max)
    r, d = jax.lax.stop_gradient((jnp.where(known, r, 1), jnp.where(known, d, 0)))
    return composed(params, r, d)
