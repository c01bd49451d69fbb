"""Random streams: what a draw depends on.

A stream follows from (sweep key, seed index, purpose, epoch or step), never from a configuration's number or
place: configurations with the same seed index share the initial draws and the order of the data, so that they
are compared in pairs, and one alone is the same experiment as inside any sweep.
"""

from typing import NamedTuple

import jax
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
