"""Parameters, running statistics, and the parts that the verbs are made of: moments, update, normalize."""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float

from jbn.nn import channels
from jbn.nn.assertions import assert_shape
from jbn.nn.channels import ChannelAxis
from jbn.nn.fusion import each
from jbn.nn.moments import AxisName, Moments, widen
from jbn.nn.sums import multiply_add


class BatchNormParams(NamedTuple):
    """What the optimiser changes: `scale` (gamma in the paper) and `bias` (beta), `[*channels]` each.

    One that there is not is None: then it counts as 1 or 0, and is nothing that an optimiser could change.
    """

    scale: Float[Array, "*channels"] | None
    bias: Float[Array, "*channels"] | None


NO_PARAMS = BatchNormParams(None, None)


class BatchNormStats(NamedTuple):
    """Running statistics: `mean` and `var`, `[*channels]`, and the weight `count` behind them, a scalar."""

    mean: Float[Array, "*channels"]
    var: Float[Array, "*channels"]
    count: Float[Array, ""]


def init(
    features: int | tuple[int, ...],
    count: ArrayLike = 0.0,
    *,
    scale: bool = True,
    bias: bool = True,
    dtype: jnp.dtype | type | None = None,
) -> tuple[BatchNormParams, BatchNormStats]:
    """Parameters and running statistics before the first step.

    Args:
        features: number of channels, or their shape if there are several channel axes.
        count: weight of the initial statistics (mean 0, variance 1). 0 gives the bias-corrected running average,
            `1 / (1 - momentum)` the uncorrected one of most frameworks, infinity freezes the statistics.
        scale: whether there is a scale.
        bias: whether there is a bias.
        dtype: floating type of all of them, but of `count`, which is never 16 bits wide; JAX's default float if
            not given.

    Returns:
        `scale` 1 and `bias` 0, None for one that there is not; `mean` 0, `var` 1 and `count`.

    Raises:
        ValueError: no feature, or a negative count.

    >>> params, stats = init(3)
    >>> params.scale.shape, float(stats.count)
    ((3,), 0.0)
    """
    shape = features if isinstance(features, tuple) else (features,)
    if not shape or min(shape) < 1:
        raise ValueError(f"batch norm needs at least one feature, got features={features}")
    check_number("count", count, 0.0, math.inf)
    ones, zeros = jnp.ones(shape, dtype), jnp.zeros(shape, dtype)
    count = jnp.asarray(count, jnp.promote_types(ones.dtype, jnp.float32))
    params = BatchNormParams(ones if scale else None, zeros if bias else None)
    return params, BatchNormStats(zeros, ones, count)


def moments(
    x: Float[Array, "..."],
    *,
    mask: Bool[Array, "..."] | None = None,
    axis_name: AxisName | None = None,
    channel_axis: ChannelAxis = -1,
) -> Moments:
    """Count, mean and squared deviations of a batch over all axes but the channels'.

    `mu = mean(x)`, `m2 = sum((x - mu)^2)`, `sigma^2 = m2 / count`.

    Args:
        x: `[..., channels]`; 16-bit values are reduced in float32.
        mask: which entries count: the shape of `x` without its channel axes, or a leading prefix of it.
        axis_name: a mapped axis whose members are pooled, weighted by their counts.
        channel_axis: the axis of the channels, or several.

    Returns:
        The moments, in float32 or wider; all zero where nothing counts.

    Raises:
        ValueError: a mask or an axis that does not fit, at trace time.

    >>> import jax.numpy as jnp
    >>> float(moments(jnp.array([[1.0, 3.0]]), channel_axis=0).mean[0])
    2.0
    """
    return Moments.of(x, mask, axis_name=axis_name, channel_axis=channel_axis)


def update(
    stats: BatchNormStats, batch: Moments, *, momentum: ArrayLike = 0.9, ddof: int = 0
) -> BatchNormStats:
    """The running statistics after one more batch: an exponentially weighted average with a count.

    `count' = momentum * count + 1`, `mean' = mean + (batch.mean - mean) / count'`, the same for the variance.
    A batch in which nothing counts changes nothing, nor does any batch where `count` is infinite. A channel whose
    moments are not finite (a network that diverges) keeps its mean and variance.

    Args:
        stats: the running statistics so far.
        batch: moments of the batch.
        momentum: weight of the OLD value, in [0, 1] (PyTorch's 0.1 is 0.9 here).
        ddof: 0 for the biased variance `m2 / n` of a batch of n values, 1 for the unbiased `m2 / (n - 1)` that
            PyTorch keeps. A single value has variance 0 under both.

    Returns:
        The new statistics, in the types of the old ones.

    Raises:
        ValueError: a momentum given as a number outside [0, 1].

    >>> import jax.numpy as jnp
    >>> _, stats = init(1)
    >>> stats = update(stats, moments(jnp.array([[4.0], [6.0]])))
    >>> float(stats.mean[0]), float(stats.var[0]), float(stats.count)
    (5.0, 1.0, 1.0)
    """
    check_number("momentum", momentum, 0.0, 1.0)
    frozen = jnp.isinf(stats.count)
    count = jnp.where(frozen, stats.count, momentum * jnp.where(frozen, 0, stats.count) + 1)
    var = batch.variance(ddof)
    moves = (batch.count > 0) & jnp.isfinite(batch.mean) & jnp.isfinite(var)
    divisor = each(count, batch.mean)
    mean = _towards(stats.mean, batch.mean, divisor)
    return BatchNormStats(
        mean=jnp.where(moves, mean, stats.mean).astype(stats.mean.dtype),
        var=jnp.where(moves, _towards(stats.var, var, divisor), stats.var).astype(stats.var.dtype),
        count=jnp.where(batch.count > 0, count, stats.count).astype(stats.count.dtype),
    )


def _towards(old: ArrayLike, new: Array, count: Array) -> Array:
    """`old + (new - old) / count`, from the side that weighs more: a large other one must not round it away."""
    return jnp.where(count < 2, new + (old - new) * (1 - 1 / count), old + (new - old) / count)


def normalize(
    params: BatchNormParams | None,
    x: Float[Array, "..."],
    mean: Float[Array, "*channels"],
    var: Float[Array, "*channels"],
    *,
    rest: Float[ArrayLike, "*channels"] = 0.0,
    epsilon: ArrayLike = 1e-5,
    channel_axis: ChannelAxis = -1,
) -> Float[Array, "..."]:
    """`y = scale * (x - mean - rest) / sqrt(var + epsilon) + bias`, with any statistics.

    Args:
        params: `scale` and `bias`, `[*channels]`; None in place of one or both leaves it out.
        x: `[..., channels]`, any floating type.
        mean: `[*channels]`.
        var: `[*channels]`.
        rest: what rounding took away from the mean (`Moments.rest`): it counts where the mean is thousands of
            deviations.
        epsilon: added to the variance inside the square root. Where the sum is not positive, y is `bias`.
        channel_axis: the axis of the channels, or several.

    Returns:
        `y` in the shape and type of `x`.

    Raises:
        ValueError: an axis that does not fit, an epsilon below 0 given as a number.
        AssertionError: statistics or parameters that do not fit the channels.

    >>> import jax.numpy as jnp
    >>> one = jnp.ones(1)
    >>> normalize(None, jnp.array([[5.0]]), mean=one, var=4 * one, epsilon=0.0).tolist()
    [[2.0]]
    """
    where = channels.find(x, channel_axis)
    scale, bias = NO_PARAMS if params is None else params
    assert_shapes(x, where, mean=mean, var=var, **_given(params))
    factor = inverse_deviation(var, epsilon)
    if scale is not None:
        factor = factor * scale
    shift = -(rest * factor) if bias is None else bias - rest * factor
    wide = widen(x)
    centre, factor, shift = (value.astype(wide.dtype) for value in (mean, factor, shift))
    return multiply_add(where.reduced, wide, centre, factor, shift).astype(x.dtype)


def inverse_deviation(var: Float[Array, "*channels"], epsilon: ArrayLike) -> Float[Array, "*channels"]:
    """`1 / sqrt(var + epsilon)`; 0 where the sum is not positive, so that a constant channel has no NaN.

    Divided, not multiplied by `rsqrt`: XLA computes a quotient once a channel, but fuses cheaper operations into the
    loop over all entries.
    """
    check_number("epsilon", epsilon, 0.0, math.inf)
    total = var + epsilon
    positive = total > 0
    return positive.astype(total.dtype) / jnp.sqrt(jnp.where(positive, total, 1))


def assert_fits(
    x: Array, where: channels.Channels, stats: BatchNormStats | Moments, params: BatchNormParams | None
) -> None:
    """Parameters and statistics have one entry a channel."""
    spread = {"m2": stats.m2} if isinstance(stats, Moments) else {"var": stats.var}
    assert_shapes(x, where, mean=stats.mean, **spread, **_given(params))


def _given(params: BatchNormParams | None) -> dict[str, Any]:
    """Those that there are, by name."""
    parts = (NO_PARAMS if params is None else params)._asdict()
    return {name: value for name, value in parts.items() if value is not None}


def composed(
    params: BatchNormParams | None, factor: Float[Array, "*channels"], shift: Float[Array, "*channels"]
) -> BatchNormParams:
    """The parameters of `scale * (factor * xhat + shift) + bias`."""
    scale, bias = NO_PARAMS if params is None else params
    if scale is not None:
        factor, shift = scale * factor, scale * shift
    return BatchNormParams(factor, shift if bias is None else shift + bias)


def assert_shapes(x: Array, where: channels.Channels, **values: Any) -> None:
    """Each of the named values has one entry a channel."""
    for name, value in values.items():
        message = f"batch norm's {name} must fit channel axis {', '.join(map(str, where.axes))} of {x.shape}"
        assert_shape(value, where.shape, message)


def check_number(name: str, value: ArrayLike, low: float, high: float) -> None:
    """Numbers are checked; traced values cannot be."""
    if isinstance(value, int | float | np.number) and not low <= value <= high:
        rule = f"at least {low:g}" if high == math.inf else f"in [{low:g}, {high:g}]"
        raise ValueError(f"{name} must be {rule}, but got {name}={value}")
