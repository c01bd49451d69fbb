"""How the running statistics of members are spread over channels: what a reader of their layers looks at."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, PyTree

from jbn.task.hyper import Structure, Traced
from jbn.task.member import Problem, for_model


def looked_at(segment: int) -> bool:
    """Whether spreads are taken after a segment: after the first eight, then four times before their number doubles.

    >>> [segment + 1 for segment in range(64) if looked_at(segment)]
    [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64]
    """
    done = segment + 1
    return done % 2 ** max(0, (done - 1).bit_length() - 3) == 0


def spreads(
    problem: Problem, structure: Structure, traced: Traced, stats: PyTree, slots: Int[np.ndarray, " live"]
) -> dict[str, Float[np.ndarray, "live 3"]]:
    """The lowest, the mean and the highest entry over the channels of every running statistic; padding left out.

    Args:
        problem: its model tells which channels are padding.
        structure: what the members are built for.
        traced: their numbers, `[slots]`.
        stats: their running statistics, `[slots, ...]`; those without a channel are left out.
        slots: which members.

    Returns:
        By names such as "layer_1/mean".
    """
    leaves = dict(_of_channels(stats))
    if not leaves or not len(slots):
        return {}
    flat = [np.array(leaf)[slots].reshape(len(slots), -1) for leaf in leaves.values()]
    sizes = _sizes(problem, structure, traced, slots)
    whole = [np.full(len(slots), leaf.shape[1]) for leaf in flat]
    own = np.array([sizes.get(_layer(name), width) for name, width in zip(leaves, whole, strict=True)])
    values = np.empty((len(flat), len(slots), max(leaf.shape[1] for leaf in flat)))
    for row, leaf in zip(values, flat, strict=True):
        row[:, : leaf.shape[1]] = leaf
    # the first channel stands for padding: it changes neither the lowest nor the highest
    padding = np.arange(values.shape[-1]) >= own[..., None]
    np.copyto(values, values[..., :1], where=padding)
    with np.errstate(invalid="ignore", over="ignore"):  # of members that diverged
        mean = (values.sum(-1) - padding.sum(-1) * values[..., 0]) / own
        found = np.stack([values.min(-1), mean, values.max(-1)], axis=-1).astype(np.float32)
    return dict(zip(leaves, found, strict=True))


def _of_channels(stats: PyTree) -> Iterator[tuple[str, Any]]:
    for path, leaf in jax.tree_util.tree_leaves_with_path(stats):
        if leaf.ndim > 1 and leaf.size and jnp.issubdtype(leaf.dtype, jnp.floating):
            yield jax.tree_util.keystr(path, simple=True, separator="/"), leaf


def _layer(name: str) -> str:
    return name.split("/", 1)[0]


def _sizes(
    problem: Problem, structure: Structure, traced: Traced, slots: Int[np.ndarray, " live"]
) -> Mapping[str, Int[np.ndarray, " live"]]:
    """How many channels every member has in the layers of which the model knows it."""
    if problem.model.channels is None:
        return {}
    padded = {name: np.array(traced[name])[slots] for name in structure.padded}
    found = problem.model.channels(hyper=for_model(problem, {**dict(structure.values), **padded}))
    return {name: np.broadcast_to(own, len(slots)) for name, own in found.items()}
