"""Batch normalisation (Ioffe and Szegedy 2015) as pure functions on explicit statistics.

Two verbs and no mode flag: `train` normalises with the statistics of the batch and moves the running ones,
`infer` normalises with the running ones. `moments`, `update` and `normalize` are the parts they are made of.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float

from jbn.nn.moments import Moments as Moments
from jbn.nn.moments import centre

AxisName = str | tuple[str, ...]


class BatchNormParams(NamedTuple):
    """What the optimiser changes: `scale` (gamma in the paper) and `bias` (beta), `[channels]` each."""

    scale: Float[Array, " channels"]
    bias: Float[Array, " channels"]


class BatchNormStats(NamedTuple):
    """Running statistics: `mean` and biased `var`, `[channels]`, and the weight `count` behind them, a scalar."""

    mean: Float[Array, " channels"]
    var: Float[Array, " channels"]
    count: Float[Array, ""]


def init(
    features: int, count: ArrayLike = 0.0, *, dtype: jnp.dtype | type | None = None
) -> tuple[BatchNormParams, BatchNormStats]:
    """Parameters and running statistics before the first step.

    Args:
        features: number of channels.
        count: weight of the initial statistics (mean 0, variance 1). 0 gives the bias-corrected running average,
            `1 / (1 - momentum)` the uncorrected one of most frameworks, infinity freezes the statistics.
        dtype: floating type of all of them; JAX's default float if not given.

    Returns:
        `scale` 1 and `bias` 0; `mean` 0, `var` 1 and `count`.

    >>> params, stats = init(3)
    >>> params.scale.shape, float(stats.count)
    ((3,), 0.0)
    """
    if features < 1:
        raise ValueError(f"batch norm needs at least one feature, got features={features}")
    ones, zeros = jnp.ones(features, dtype), jnp.zeros(features, dtype)
    return BatchNormParams(ones, zeros), BatchNormStats(zeros, ones, jnp.asarray(count, ones.dtype))


def moments(
    x: Float[Array, "*batch channels"],
    *,
    mask: Bool[Array, "..."] | None = None,
    axis_name: AxisName | None = None,
) -> Moments:
    """Count, mean and squared deviations of a batch over all axes but the last.

    Args:
        x: `[..., channels]`; 16-bit values are reduced in float32.
        mask: which entries count: the shape of `x` without its last axis, or a leading prefix of it.
        axis_name: a mapped axis whose members are pooled, weighted by their counts.
    """
    return centre(x, mask, axis_name).moments


def update(stats: BatchNormStats, batch: Moments, *, momentum: ArrayLike = 0.9) -> BatchNormStats:
    """The running statistics after one more batch: an exponentially weighted average with a count.

    `count' = momentum * count + 1`, `mean' = mean + (batch.mean - mean) / count'`, the same for the variance.
    A batch in which nothing counts changes nothing.

    Args:
        stats: the running statistics so far.
        batch: moments of the batch; its biased variance is used.
        momentum: weight of the OLD value, in [0, 1] (PyTorch's 0.1 is 0.9 here).

    >>> import jax.numpy as jnp
    >>> _, stats = init(1)
    >>> stats = update(stats, moments(jnp.array([[4.0], [6.0]])))
    >>> float(stats.mean[0]), float(stats.var[0]), float(stats.count)
    (5.0, 1.0, 1.0)
    """
    frozen = jnp.isinf(stats.count)
    count = jnp.where(frozen, stats.count, momentum * jnp.where(frozen, 0, stats.count) + 1)
    step = jnp.where(batch.count > 0, 1 / count, 0)
    return BatchNormStats(
        mean=(stats.mean + (batch.mean - stats.mean) * step).astype(stats.mean.dtype),
        var=(stats.var + (batch.variance() - stats.var) * step).astype(stats.var.dtype),
        count=jnp.where(batch.count > 0, count, stats.count).astype(stats.count.dtype),
    )


def normalize(
    params: BatchNormParams | None,
    x: Float[Array, "*batch channels"],
    mean: Float[Array, " channels"],
    var: Float[Array, " channels"],
    *,
    epsilon: ArrayLike = 1e-5,
) -> Float[Array, "*batch channels"]:
    """`y = scale * (x - mean) / sqrt(var + epsilon) + bias`; without `params` only the normalised values."""
    return _scaled(params, x - jax.lax.expand_dims(mean, range(x.ndim - 1)), None, var, epsilon)


def train(
    params: BatchNormParams,
    stats: BatchNormStats,
    x: Float[Array, "*batch channels"],
    *,
    momentum: ArrayLike = 0.9,
    epsilon: ArrayLike = 1e-5,
    mask: Bool[Array, "..."] | None = None,
    axis_name: AxisName | None = None,
) -> tuple[Float[Array, "*batch channels"], BatchNormStats]:
    """Normalises a batch with its own mean and biased variance, and moves the running statistics.

    `mu = mean(x)`, `sigma^2 = mean((x - mu)^2)`, `xhat = (x - mu) / sqrt(sigma^2 + epsilon)`,
    `y = scale * xhat + bias` (Ioffe and Szegedy 2015, algorithm 1); the statistics move as in `update`.

    Args:
        params: `scale` and `bias`, `[channels]`.
        stats: the running statistics.
        x: the batch, `[..., channels]`, any floating type.
        momentum: weight of the old running statistics.
        epsilon: added to the variance inside the square root.
        mask: which entries count: the shape of `x` without its last axis, or a leading prefix of it. The others
            have no influence, may hold NaN, and come out as 0.
        axis_name: a mapped axis (`vmap`, `shard_map`) over which statistics are pooled by count.

    Returns:
        `y` in the shape and type of `x`, and the new running statistics.

    Raises:
        ValueError: a mask that does not fit, at trace time.

    >>> import jax.numpy as jnp
    >>> params, stats = init(1)
    >>> y, stats = train(params, stats, jnp.array([[1.0], [3.0]]), epsilon=0.0)
    >>> y[:, 0].tolist(), float(stats.mean[0])
    ([-1.0, 1.0], 2.0)
    """
    _assert_channels(params, stats, x)
    centred = centre(x, mask, axis_name)
    y = _scaled(params, centred.values, centred.rest, centred.moments.variance(), epsilon).astype(x.dtype)
    if centred.mask is not None:
        y = jnp.where(centred.mask, y, 0)
    return y, update(stats, centred.moments, momentum=momentum)


def infer(
    params: BatchNormParams,
    stats: BatchNormStats,
    x: Float[Array, "*batch channels"],
    *,
    epsilon: ArrayLike = 1e-5,
) -> Float[Array, "*batch channels"]:
    """Normalises with the running statistics: `y = scale * (x - mean) / sqrt(var + epsilon) + bias`.

    Args:
        params: `scale` and `bias`, `[channels]`.
        stats: the running statistics.
        x: `[..., channels]`; a single sample is as good as a batch.
        epsilon: as in training.

    Returns:
        `y` in the shape and type of `x`.
    """
    _assert_channels(params, stats, x)
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return normalize(params, wide, stats.mean, stats.var, epsilon=epsilon).astype(x.dtype)


def fold(
    params: BatchNormParams,
    stats: BatchNormStats,
    kernel: Float[Array, "*inputs channels"],
    bias: Float[Array, " channels"] | None = None,
    *,
    epsilon: ArrayLike = 1e-5,
) -> tuple[Float[Array, "*inputs channels"], Float[Array, " channels"]]:
    """Kernel and bias of the layer before batch norm such that, at inference, batch norm can be left out.

    `kernel' = kernel * a`, `bias' = (bias - mean) * a + beta` with `a = scale / sqrt(var + epsilon)`
    (Jacob et al. 2017, section 3.2).

    Args:
        params: `scale` and `bias`, `[channels]`.
        stats: the running statistics.
        kernel: of the layer before, its output channels last.
        bias: of the layer before, or None.
        epsilon: as in training.
    """
    _assert_channels(params, stats, kernel)
    factor = params.scale * jax.lax.rsqrt(stats.var + epsilon)
    shift = -stats.mean if bias is None else bias - stats.mean
    return kernel * jax.lax.expand_dims(factor, range(kernel.ndim - 1)), shift * factor + params.bias


def _scaled(
    params: BatchNormParams | None,
    centred: Float[Array, "*batch channels"],
    rest: Float[Array, " channels"] | None,
    var: Float[Array, " channels"],
    epsilon: ArrayLike,
) -> Float[Array, "*batch channels"]:
    """`scale * (centred - rest) / sqrt(var + epsilon) + bias`, as one multiply-add an entry."""
    leading = range(centred.ndim - 1)
    factor = jax.lax.rsqrt(var + epsilon)
    if params is not None:
        factor = factor * params.scale
    shift = jnp.zeros_like(factor) if params is None else params.bias
    if rest is not None:
        shift = shift - rest * factor
    return centred * jax.lax.expand_dims(factor, leading) + jax.lax.expand_dims(shift, leading)


def _assert_channels(params: BatchNormParams, stats: BatchNormStats, x: Array) -> None:
    channels = x.shape[-1:]
    for name, value in (
        ("scale", params.scale),
        ("bias", params.bias),
        ("mean", stats.mean),
        ("var", stats.var),
    ):
        chex.assert_shape(
            value, channels, custom_message=f"batch norm's {name} must fit the last axis of {x.shape}"
        )
