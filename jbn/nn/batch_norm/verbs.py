"""The verbs `train` and `infer`, and the way of a batch through every training verb."""

from collections.abc import Iterable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float

from jbn.nn import channels
from jbn.nn.batch_norm.parts import (
    BatchNormParams,
    BatchNormStats,
    assert_fits,
    assert_shapes,
    moments,
    normalize,
    update,
)
from jbn.nn.channels import ChannelAxis, Channels
from jbn.nn.fusion import after
from jbn.nn.moments import AxisName, Moments, widen

Statistics = TypeVar("Statistics", BatchNormStats, Moments)


def train(
    params: BatchNormParams | None,
    stats: Statistics,
    x: Float[Array, "..."],
    *,
    momentum: ArrayLike = 0.9,
    epsilon: ArrayLike = 1e-5,
    mask: Bool[Array, "..."] | None = None,
    axis_name: AxisName | None = None,
    channel_axis: ChannelAxis = -1,
    channel_mask: Bool[Array, "*channels"] | None = None,
    ddof: int = 0,
) -> tuple[Float[Array, "..."], Statistics]:
    """Normalises a batch with its own mean and biased variance, and moves the running statistics.

    `mu = mean(x)`, `sigma^2 = mean((x - mu)^2)`, `xhat = (x - mu) / sqrt(sigma^2 + epsilon)`,
    `y = scale * xhat + bias` (Ioffe and Szegedy 2015, algorithm 1), with mean taken over all axes but the channels';
    the statistics move as in `update`.

    A constant channel, and every channel of a batch in which only one value counts, comes out as `bias`.
    A batch in which nothing counts comes out as 0 and moves nothing.

    Args:
        params: `scale` and `bias`, `[*channels]`; None in place of one or both leaves it out.
        stats: the running statistics; or the `Moments` of what came before (`Moments.empty` at the start), with
            which those of the batch are merged: after a pass over a training set, its population statistics.
        x: the batch, `[..., channels]`, any floating type.
        momentum: weight of the old running statistics, in [0, 1].
        epsilon: added to the variance inside the square root.
        mask: which entries count: the shape of `x` without its channel axes, or a leading prefix of it. The others
            have no influence, may hold NaN, and come out as 0.
        axis_name: a mapped axis (`vmap`, `shard_map`) over which statistics are pooled by count.
        channel_axis: the axis of the channels, or several (ascending, as in the shape of `scale`).
        channel_mask: which channels are no padding, `[*channels]`. The others may hold NaN, come out as 0, and their
            running statistics stay.
        ddof: 0 keeps the biased running variance, 1 the unbiased one, as in `update`.

    Returns:
        `y` in the shape and type of `x`, and the new statistics.

    Raises:
        ValueError: fewer than two values a channel where the shape tells, a mask or an axis that does not fit, a
            momentum outside [0, 1] or an epsilon below 0 given as a number; all at trace time.
        AssertionError: parameters or statistics that do not fit the channels.

    >>> import jax.numpy as jnp
    >>> from jbn import batch_norm
    >>> params, stats = batch_norm.init(1)
    >>> y, stats = train(params, stats, jnp.array([[1.0], [3.0]]), epsilon=0.0)
    >>> y[:, 0].tolist(), float(stats.mean[0])
    ([-1.0, 1.0], 2.0)
    """
    batch = enter(x, mask, axis_name, channel_axis, channel_mask)
    assert_fits(x, batch.channels, stats, params)
    moved = _moved(stats, batch.moments, momentum, ddof)
    if channel_mask is not None:
        moved = _only(channel_mask, moved, stats)
    return batch.leave(params, x.dtype, epsilon, moved), moved


def infer(
    params: BatchNormParams | None,
    stats: BatchNormStats,
    x: Float[Array, "..."],
    *,
    epsilon: ArrayLike = 1e-5,
    channel_axis: ChannelAxis = -1,
) -> Float[Array, "..."]:
    """Normalises with the running statistics: `y = scale * (x - mean) / sqrt(var + epsilon) + bias`.

    Ioffe and Szegedy 2015, algorithm 2. Entries do not influence one another, so a single sample comes out as it
    does among others.

    Args:
        params: `scale` and `bias`, `[*channels]`; None in place of one or both leaves it out.
        stats: the running statistics.
        x: `[..., channels]`, any floating type; a single sample is as good as a batch.
        epsilon: as in training.
        channel_axis: the axis of the channels, or several.

    Returns:
        `y` in the shape and type of `x`.

    Raises:
        ValueError: an axis that does not fit, an epsilon below 0 given as a number.
        AssertionError: parameters or statistics that do not fit the channels.

    >>> import jax.numpy as jnp
    >>> from jbn import batch_norm
    >>> params, stats = batch_norm.init(2)
    >>> infer(params, stats, jnp.array([3.0, -1.0]), epsilon=0.0).tolist()
    [3.0, -1.0]
    """
    return normalize(params, x, stats.mean, stats.var, epsilon=epsilon, channel_axis=channel_axis)


class Batch(NamedTuple):
    """A batch inside a training verb.

    Args:
        x: in float32 or wider; 0 where it does not count.
        moments: of what counts.
        channels: where its channels stand.
        masks: what counts, aligned with `x`; none if all does.
    """

    x: Float[Array, "..."]
    moments: Moments
    channels: Channels
    masks: tuple[Bool[Array, "..."], ...]

    def leave(
        self,
        params: BatchNormParams | None,
        dtype: jnp.dtype,
        epsilon: ArrayLike,
        moved: BatchNormStats | Moments,
    ) -> Float[Array, "..."]:
        """Normalised with its own moments, 0 where it does not count, when the statistics have moved."""
        y = normalize(
            params,
            self.x,
            self.moments.mean,
            self.moments.variance(),
            rest=after(jnp.asarray(self.moments.rest), [moved.mean, moved[1]]),
            epsilon=epsilon,
            channel_axis=self.channels.axes,
        )
        return _where_all(self.masks, y).astype(dtype)


def enter(
    x: Float[Array, "..."],
    mask: Bool[Array, "..."] | None,
    axis_name: AxisName | None,
    channel_axis: ChannelAxis,
    channel_mask: Bool[Array, "*channels"] | None = None,
) -> Batch:
    """A batch with its moments; the arguments are those of `train`."""
    where = channels.find(x, channel_axis)
    _assert_several_values(x, where, axis_name)
    masks = []
    if mask is not None:
        masks.append(where.align(mask, x.shape))
    if channel_mask is not None:
        assert_shapes(x, where, channel_mask=channel_mask)
        masks.append(where.spread(channel_mask))
    wide = _where_all(masks, widen(x))
    batch = moments(wide, mask=mask, axis_name=axis_name, channel_axis=where.axes)
    return Batch(wide, batch, where, tuple(masks))


def _assert_several_values(x: Array, where: Channels, axis_name: AxisName | None) -> None:
    """Batch statistics of fewer than two values say nothing."""
    values = where.values * (1 if axis_name is None else jax.lax.axis_size(axis_name))
    if values < 2:
        raise ValueError(
            f"batch norm in training needs at least two values a channel, but x of shape {x.shape} has {values}; "
            "you might need a larger batch, or infer in place of train"
        )


def _where_all(masks: Iterable[Bool[Array, "..."]], x: Float[Array, "..."]) -> Float[Array, "..."]:
    """0 in place of all that does not count."""
    for mask in masks:
        x = jnp.where(mask, x, 0)
    return x


def _moved(stats: Statistics, batch: Moments, momentum: ArrayLike, ddof: int) -> Statistics:
    if isinstance(stats, Moments):
        return stats.merge(batch)
    return update(stats, batch, momentum=momentum, ddof=ddof)


def _only(channel_mask: Bool[Array, "*channels"], moved: Statistics, stats: Statistics) -> Statistics:
    """What has moved, in the channels that are no padding."""
    return jax.tree.map(
        lambda new, old: jnp.where(channel_mask, new, old) if new.shape == channel_mask.shape else new,
        moved,
        stats,
    )
