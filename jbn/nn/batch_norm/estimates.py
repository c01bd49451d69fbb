"""Statistics for test time, from the batches of a training set: three estimates to compare.

`collect` runs the batches through the network; each estimate makes running statistics of what it returns.
"""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, PyTree

from jbn.nn.batch_norm.parts import BatchNormStats, update
from jbn.nn.moments import Moments


def collect(train: Callable[[PyTree, Any], PyTree], stats: PyTree, batches: Iterable[Any] | Array) -> PyTree:
    """Moments of every batch-norm layer of a network for every batch, in training mode.

    Args:
        train: `train(stats, batch) -> stats` with the final parameters: the network's training verb, of which
            only the statistics are wanted. It is called with the `Moments` of nothing in place of every
            layer's running statistics, with which `batch_norm.train` merges those of the batch.
        stats: the network's running statistics, only for their structure.
        batches: any number of batches, at least one; of a JAX array `[batches, ...]` they go through one compiled
            loop, also within `jit` and `vmap`.

    Returns:
        The structure of `stats` with `Moments` in place of running statistics, one entry a batch on a leading
        axis.

    Raises:
        ValueError: no batch.

    >>> import jax, jax.numpy as jnp
    >>> from jbn import batch_norm
    >>> params, stats = batch_norm.init(1)
    >>> layer = jax.jit(lambda stats, x: batch_norm.train(params, stats, x)[1])
    >>> batches = collect(layer, stats, [jnp.array([[1.0], [3.0]]), jnp.array([[5.0], [7.0]])])
    >>> batches.mean[:, 0].tolist()
    [2.0, 6.0]
    >>> exact = population(batches)
    >>> float(exact.mean[0]), float(exact.var[0])
    (4.0, 5.0)
    """
    nothing = _map(lambda running: Moments.empty(running.mean.shape, dtype=running.mean.dtype), stats)
    if isinstance(batches, jax.Array) and len(batches):
        return jax.lax.map(lambda batch: train(nothing, batch), batches)
    moments = [train(nothing, batch) for batch in batches]
    if not moments:
        raise ValueError("statistics need at least one batch, but got none")
    return jax.tree.map(lambda *entries: jnp.stack(entries), *moments)


def population(batches: PyTree, *, ddof: int = 0) -> PyTree:
    """Mean and variance of all values of all batches together, as if they had been one set.

    Chan's merge of the batches' moments, so batches of different sizes weigh what they should, and the variance
    holds that between the batches, which an average of variances lacks (Wu and Johnson 2021, section 3, call
    this "precise").

    Args:
        batches: `Moments` with the batches on a leading axis, or any structure of such.
        ddof: 0 for the biased variance, 1 for the unbiased one.

    Returns:
        The structure with `BatchNormStats` in place of moments; their count is the number of batches in which
        something counted.
    """

    def one(stacked: Moments) -> BatchNormStats:
        whole = _merged(stacked)
        count = jnp.sum(stacked.count > 0, dtype=whole.mean.dtype)
        return BatchNormStats(whole.mean, whole.variance(ddof), count)

    return _map(one, batches)


def average(batches: PyTree, *, ddof: int = 0) -> PyTree:
    """Equal-weight averages of the batches' means and variances.

    `mean = E_B[mu_B]`, `var = E_B[sigma_B^2]` (Ioffe and Szegedy 2015, algorithm 2, which takes the unbiased
    `sigma_B^2`: `ddof=1`).

    Args:
        batches: `Moments` with the batches on a leading axis, or any structure of such.
        ddof: 0 for the biased variance of a batch, 1 for the unbiased one.

    Returns:
        The structure with `BatchNormStats` in place of moments.
    """

    def one(stacked: Moments) -> BatchNormStats:
        zeros = jnp.zeros_like(stacked.mean[0])
        start = BatchNormStats(zeros, zeros, jnp.zeros((), zeros.dtype))
        return _replayed(start, stacked, 1.0, ddof)

    return _map(one, batches)


def replay(
    stats: PyTree, batches: PyTree, *, momentum: ArrayLike = 0.9, last: int | None = None, ddof: int = 0
) -> PyTree:
    """The moving average over the batches, one after another, as `update` would have kept it.

    Args:
        stats: `BatchNormStats` to start from, or any structure of such; `init`'s with a count of 0 for an average
            of nothing but the batches.
        batches: `Moments` with the batches on a leading axis, in the structure of `stats`.
        momentum: weight of the old value.
        last: only so many of the last batches; all if not given.
        ddof: 0 for the biased variance of a batch, 1 for the unbiased one.

    Returns:
        The structure of `stats`.

    Raises:
        ValueError: `last` below 1.
    """
    if last is not None and last < 1:
        raise ValueError(f"a replay needs at least one batch, but got last={last}")
    start = 0 if last is None else -last

    def one(stats: BatchNormStats, stacked: Moments) -> BatchNormStats:
        return _replayed(stats, jax.tree.map(lambda a: a[start:], stacked), momentum, ddof)

    return _map(one, stats, batches)


def _merged(stacked: Moments) -> Moments:
    """All of them as one set, in pairs, so that rounding grows with the logarithm of their number."""
    stacked = stacked._replace(rest=jnp.broadcast_to(stacked.rest, stacked.mean.shape))
    while (size := len(stacked.count)) > 1:
        evens, odds = (
            jax.tree.map(lambda a, start=start: a[start : size // 2 * 2 : 2], stacked) for start in (0, 1)
        )
        pairs = jax.vmap(Moments.merge)(evens, odds)
        last = jax.tree.map(lambda a: a[size // 2 * 2 :], stacked)
        stacked = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), pairs, last)
    return jax.tree.map(lambda a: a[0], stacked)


def _replayed(stats: BatchNormStats, stacked: Moments, momentum: ArrayLike, ddof: int) -> BatchNormStats:
    def step(stats: BatchNormStats, batch: Moments) -> tuple[BatchNormStats, None]:
        return update(stats, batch, momentum=momentum, ddof=ddof), None

    return jax.lax.scan(step, stats, stacked._replace(rest=jnp.zeros_like(stacked.mean)))[0]


def _map(function: Callable[..., Any], *trees: PyTree) -> PyTree:
    return jax.tree.map(function, *trees, is_leaf=lambda node: isinstance(node, Moments | BatchNormStats))
