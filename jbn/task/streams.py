"""Random streams: what a draw depends on.

A stream follows from (sweep key, seed index, purpose, epoch or step), never from a configuration's number or
place: configurations with the same seed index share the initial draws and the order of the data, so that they
are compared in pairs, and one alone is the same experiment as inside any sweep.
"""

from typing import NamedTuple

import jax
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
