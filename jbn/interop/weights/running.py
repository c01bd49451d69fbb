"""Recurrences other than an average of variances: of inverse deviations, by samples, with a first batch apart."""

import math
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike

from jbn.nn.batch_norm import BatchNormParams, BatchNormStats, Moments, update
from jbn.nn.batch_norm.parts import assert_fits, composed, inverse_deviation
from jbn.nn.batch_norm.verbs import enter
from jbn.nn.moments import AxisName

if TYPE_CHECKING:
    from jbn.interop.weights.settings import Settings


def train(
    rule: "Settings",
    params: BatchNormParams | None,
    stats: BatchNormStats | None,
    x: Array,
    mask: Array | None,
    axis_name: AxisName | None,
) -> tuple[Array, BatchNormStats | None]:
    """One step under the rule; the arguments are those of `Settings.train`."""
    batch = enter(x, mask, axis_name, rule.channel_axis)
    if stats is None:
        return batch.leave(params, x.dtype, rule.epsilon, batch.moments), None
    assert_fits(x, batch.channels, stats, params)
    samples = _samples(x, mask, axis_name)
    moved = _moved(rule, stats, batch.moments, samples, rule.ddof_of(x))
    if rule.blend:
        params = _blended(rule, params, stats, moved, batch.moments, samples)
    return batch.leave(params, x.dtype, rule.epsilon, moved), moved


def _samples(x: Array, mask: Array | None, axis_name: AxisName | None) -> Any:
    """How many samples the batch has in which anything counts; a Python number where the shape tells."""
    if mask is None:
        return len(x) * (1 if axis_name is None else jax.lax.axis_size(axis_name))
    rows = jnp.broadcast_to(mask, len(x)) if mask.ndim == 0 else mask.reshape(len(x), -1).any(1)
    samples = rows.sum(dtype=jnp.float32)
    return samples if axis_name is None else jax.lax.psum(samples, axis_name)


def _moved(
    rule: "Settings", stats: BatchNormStats, batch: Moments, samples: Any, ddof: int
) -> BatchNormStats:
    """The running statistics after the batch."""
    momentum, before, after = _weights(rule, stats.count, samples)
    old = stats._replace(count=jnp.asarray(before, stats.count.dtype))
    if rule.averages == "inverse deviation":
        moved = _update_inverse(old, batch, momentum, ddof, rule.epsilon)
    else:
        moved = update(old, batch, momentum=momentum, ddof=ddof)
    if rule.first_batch == "adds":
        moved = _with_initial(moved, stats, batch, rule.momentum)
    if after is None:
        return moved
    return moved._replace(count=jnp.where(batch.count > 0, after, stats.count).astype(stats.count.dtype))


def _weights(rule: "Settings", count: Array, samples: Any) -> tuple[ArrayLike, ArrayLike, ArrayLike | None]:
    """Momentum of this batch, the count before it, and the one after it if that is not `update`'s."""
    if rule.first_batch != "replaces":
        return rule.momentum, count, None
    momentum, uncorrected = _of_batch(rule, samples)
    before = count / samples if rule.cumulative else jnp.where(count == 0, 0, uncorrected)
    return momentum, before, count + samples if rule.per_sample else uncorrected


def _of_batch(rule: "Settings", samples: Any) -> tuple[ArrayLike, ArrayLike]:
    """Momentum m of the whole batch and `1 / (1 - m)`, exact also where m is close to 1."""
    logarithm = math.log(rule.momentum) if rule.momentum > 0 else -math.inf
    exponent = logarithm * samples if rule.per_sample else logarithm
    if isinstance(exponent, float):
        return math.exp(exponent), -1 / math.expm1(exponent) if exponent else math.inf
    return jnp.exp(exponent), 1 / jnp.abs(jnp.expm1(exponent))


def _update_inverse(
    stats: BatchNormStats, batch: Moments, momentum: ArrayLike, ddof: int, epsilon: float
) -> BatchNormStats:
    """`update` of `s = 1 / sqrt(var + epsilon)` in place of the variance."""
    inverse = inverse_deviation(batch.variance(ddof), epsilon)
    told = batch._replace(m2=inverse * jnp.maximum(batch.count, 1))
    moved = update(stats._replace(var=inverse_deviation(stats.var, epsilon)), told, momentum=momentum)
    var = jnp.where(batch.count > 0, 1 / moved.var**2 - epsilon, stats.var)
    return moved._replace(var=var.astype(stats.var.dtype))


def _with_initial(
    moved: BatchNormStats, stats: BatchNormStats, batch: Moments, momentum: float
) -> BatchNormStats:
    """With what the average started from: a correction for a start at 0 leaves `momentum / (1 - momentum)` of it."""
    first = (stats.count == 0) & (batch.count > 0)
    share = momentum / (1 - momentum)
    mean, var = (
        jnp.where(first, new + share * old, new)
        for new, old in ((moved.mean, stats.mean), (moved.var, stats.var))
    )
    return moved._replace(mean=mean, var=var)


def _blended(
    rule: "Settings",
    params: BatchNormParams | None,
    stats: BatchNormStats,
    moved: BatchNormStats,
    batch: Moments,
    samples: Any,
) -> BatchNormParams:
    """Parameters with which the batch's statistics normalise as a blend of running and own ones would.

    Means and inverse deviations are blended, the running ones after this batch, by `w = blend / (blend + N)`;
    there is no blend in the first batch. With `per_sample` (CNTK) the running ones are constants for derivatives.
    """
    if rule.per_sample:
        moved = jax.lax.stop_gradient(moved)
    share = 1.0 if math.isinf(rule.blend) else rule.blend / (rule.blend + samples)
    share = jnp.where(stats.count == 0, 0.0, share)
    own, run = (inverse_deviation(var, rule.epsilon) for var in (batch.variance(), moved.var))
    inverse = share * run + (1 - share) * own
    r = jnp.where(own > 0, inverse / jnp.where(own > 0, own, 1), 0)
    d = share * ((batch.mean - moved.mean) + batch.rest) * inverse
    return composed(params, r, d)
