"""Random streams: what a draw depends on.

A stream follows from (sweep key, seed index, purpose, epoch or step), never from a configuration's number or
place: configurations with the same seed index share the initial draws and the order of the data, so that they
are compared in pairs, and one alone is the same experiment as inside any sweep.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray


class Streams(NamedTuple):
    """One key a purpose: initial weights, order of the data, noise during training."""

    initial: PRNGKeyArray
    order: PRNGKeyArray
    noise: PRNGKeyArray


def streams(key: PRNGKeyArray, seed: int | Int[Array, ""] = 0) -> Streams:
    """The streams of one seed index of a sweep."""
    own = jax.random.fold_in(key, seed)
    return Streams(*(jax.random.fold_in(own, purpose) for purpose in range(3)))


def order(key: PRNGKeyArray, epoch: int | Int[Array, ""], rows: int) -> Int[Array, " rows"]:
    """The order in which an epoch goes through the training part; the same for every batch size."""
    return jax.random.permutation(jax.random.fold_in(key, epoch), rows)


def order_of_steps(
    key: PRNGKeyArray, epoch: int | Int[Array, ""], rows: int, *, batch_size: int, steps: int
) -> Int[Array, " taken"]:
    """The `steps * batch_size` rows of an epoch of so many steps, batch after batch.

    Batches go through the training part again and again, each time in the `order` of its number; what is left behind
    the last whole batch of a time is left out. Of batches of b out of n rows, step t, counted from 0 over all
    epochs, takes the batch number `t % (n // b)` of time `t // (n // b)`.

    Args:
        key: the stream of the order of data.
        epoch: which epoch, counted from 0.
        rows: of the training part, n.
        batch_size: b.
        steps: of an epoch.

    >>> key = jax.random.key(0)
    >>> order_of_steps(key, 0, 7, batch_size=3, steps=3)[:6].tolist() == order(key, 0, 7)[:6].tolist()
    True
    """
    each = rows // batch_size
    times = -(-(steps - 1) // each) + 1  # that a stretch of so many steps may touch
    row = jnp.arange(steps * batch_size)
    step = epoch * steps + row // batch_size
    first = step[0] // each
    orders = jax.vmap(lambda time: order(key, first + time, rows))(jnp.arange(times))
    return orders[step // each - first, (step % each) * batch_size + row % batch_size]


def number(key: PRNGKeyArray) -> int:
    """A whole number below 2^31 that stands for a stream outside of JAX."""
    return int(jax.random.bits(key, dtype=np.uint32)) >> 1


def block_order(
    key: PRNGKeyArray, epoch: int, block: int, rows: int, *, blocks: int
) -> Int[np.ndarray, " rows"]:
    """The order in which an epoch goes through one of its blocks; where there is only one, that of `order`.

    Several are shuffled by NumPy: a twentieth of the time of XLA's sort, and no program for every length.

    Args:
        key: the stream of the order of data.
        epoch: which epoch.
        block: which block of it, counted from 0 as they come.
        rows: how many it has.
        blocks: how many there are.
    """
    if blocks == 1:
        return np.asarray(order(key, epoch, rows))
    return np.random.default_rng([number(key), epoch, 1 + block]).permutation(rows)
