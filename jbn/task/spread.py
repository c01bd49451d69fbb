"""How the running statistics of members are spread over channels: what a reader of their layers looks at."""

import functools
from collections.abc import Mapping, Sequence
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
    leaves, tree = jax.tree.flatten(stats)
    names = _of_channels(tree, tuple((leaf.shape, leaf.dtype) for leaf in leaves))
    if not names or not len(slots):
        return {}
    flat = [np.array(leaves[place])[slots].reshape(len(slots), -1) for place in names.values()]
    sizes = _sizes(problem, structure, traced, slots)
    own = np.empty((len(flat), len(slots)), int)
    values = np.empty((*own.shape, max(leaf.shape[1] for leaf in flat)))
    for name, size, row, leaf in zip(names, own, values, flat, strict=True):
        size[:] = sizes.get(name.split("/", 1)[0], leaf.shape[1])  # by the layer
        row[:, : leaf.shape[1]] = leaf
    return dict(zip(names, _spread(values, own), strict=True))


def _spread(
    values: Float[np.ndarray, "names live channels"], sizes: Int[np.ndarray, "names live"]
) -> Float[np.ndarray, "names live 3"]:
    """Of the first channels, as many as each has."""
    # the first channel stands for padding: it changes neither the lowest nor the highest
    missing = values.shape[-1] - sizes
    if missing.any():
        np.copyto(values, values[..., :1], where=np.arange(values.shape[-1]) >= sizes[..., None])
    found = np.empty((*sizes.shape, 3), np.float32)
    with np.errstate(invalid="ignore", over="ignore"):  # of members that diverged
        found[..., 0], found[..., 2] = values.min(-1), values.max(-1)
        found[..., 1] = (values.sum(-1) - missing * values[..., 0]) / sizes
    return found


@functools.lru_cache(maxsize=256)
def _of_channels(tree: Any, leaves: Sequence[tuple[tuple[int, ...], np.dtype]]) -> dict[str, int]:
    """The places of leaves with channels, by their names."""
    paths = jax.tree_util.tree_leaves_with_path(tree.unflatten(range(len(leaves))))
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): place
        for (path, place), (shape, dtype) in zip(paths, leaves, strict=True)
        if len(shape) > 1 and 0 not in shape and jnp.issubdtype(dtype, jnp.floating)
    }


def _sizes(
    problem: Problem, structure: Structure, traced: Traced, slots: Int[np.ndarray, " live"]
) -> Mapping[str, Int[np.ndarray, " live"] | int]:
    """How many channels every member has, or all of them, in the layers of which the model knows it."""
    if problem.model.channels is None:
        return {}
    padded = {name: np.array(traced[name])[slots] for name in structure.padded}
    return problem.model.channels(hyper=for_model(problem, {**dict(structure.values), **padded}))
