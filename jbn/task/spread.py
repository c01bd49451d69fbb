"""How the running statistics of members are spread over channels: what a reader of their layers looks at."""

import functools
import threading
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, PyTree

from jbn.task.hyper import Structure, Traced
from jbn.task.member import Problem, for_model

_SHARE = 0.002  # of the time of all workers that spreads may take


def looked_at(segment: int) -> bool:
    """Whether spreads are taken after a segment: after the first eight, then four times before their number doubles.

    >>> [segment + 1 for segment in range(64) if looked_at(segment)]
    [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64]
    """
    done = segment + 1
    return done % 2 ** max(0, (done - 1).bit_length() - 3) == 0


class Looks:
    """When spreads are taken: after the segments of `looked_at`, where that is a small share of the time so far.

    Args:
        workers: how many train side by side.
        now: when the first segment began, of `time.perf_counter`.

    >>> looks = Looks(2, now=0.0)
    >>> looks.due(0, now=0.0)
    True
    >>> looks.took(0.01)
    >>> looks.due(1, now=2.4), looks.due(1, now=2.6)
    (False, True)
    """

    def __init__(self, workers: int, *, now: float):
        self._workers, self._began, self._spent = workers, now, 0.0
        self._counting = threading.Lock()
        self._first: int | None = None

    def due(self, segment: int, *, now: float) -> bool:
        """Whether after this one; the first that could be always."""
        if not looked_at(segment):
            return False
        if self._first is None:
            self._first = segment
        return segment == self._first or self._spent <= _SHARE * (now - self._began) * self._workers

    def took(self, seconds: float) -> None:
        """A worker took so long for it."""
        with self._counting:
            self._spent += seconds


class Members(NamedTuple):
    """Members of one structure, and what a reader of their layers looks at.

    Args:
        structure: what they are built for.
        traced: their numbers, `[slots]`.
        stats: their running statistics, `[slots, ...]`; those without a channel are left out.
        slots: which members.
    """

    structure: Structure
    traced: Traced
    stats: PyTree
    slots: Int[np.ndarray, " live"]


class _Statistic(NamedTuple):
    """One running statistic of several members, `[live, channels]`, of which so many are not padding."""

    name: str
    values: np.ndarray
    sizes: Int[np.ndarray, " live"] | int


def spreads(problem: Problem, members: Sequence[Members]) -> list[dict[str, Float[np.ndarray, "live 3"]]]:
    """The lowest, the mean and the highest entry over the channels of every running statistic; padding left out.

    Args:
        problem: its model tells which channels are padding.
        members: whose.

    Returns:
        For each of `members`, by names such as "layer_1/mean".
    """
    own = [_statistics(problem, one) if len(one.slots) else [] for one in members]
    every = [statistic for statistics in own for statistic in statistics]
    if not every:
        return [{} for _ in own]
    ends = np.cumsum([len(one.values) for one in every])
    # all in one array: a call takes longer than what it does to a few members
    values = np.empty((ends[-1], max(one.values.shape[1] for one in every)), np.float32)
    sizes = np.empty(ends[-1], int)
    for end, one in zip(ends, every, strict=True):
        rows = slice(end - len(one.values), end)
        values[rows, : one.values.shape[1]], sizes[rows] = one.values, one.sizes
    found, ends = _spread(values, sizes), iter(ends.tolist())
    return [
        {one.name: found[end - len(one.values) : end] for one, end in zip(statistics, ends, strict=False)}
        for statistics in own
    ]


def _statistics(problem: Problem, members: Members) -> list[_Statistic]:
    leaves, tree = jax.tree.flatten(members.stats)
    places = _of_channels(tree, tuple((leaf.shape, leaf.dtype) for leaf in leaves))
    sizes = _sizes(problem, members) if places else {}
    found = []
    for name, place in places.items():
        values = np.asarray(leaves[place])[members.slots].reshape(len(members.slots), -1)  # a copy
        found.append(
            _Statistic(name, values, sizes.get(name.split("/", 1)[0], values.shape[1]))
        )  # by the layer
    return found


def _spread(
    values: Float[np.ndarray, "rows channels"], sizes: Int[np.ndarray, " rows"]
) -> Float[np.ndarray, "rows 3"]:
    """Of the first channels, as many as each row has."""
    # the first channel stands for padding: it changes neither the lowest nor the highest
    missing = values.shape[-1] - sizes
    if missing.any():
        np.copyto(values, values[:, :1], where=np.arange(values.shape[-1]) >= sizes[:, None])
    found = np.empty((len(sizes), 3), np.float32)
    with np.errstate(invalid="ignore", over="ignore"):  # of members that diverged
        found[:, 0], found[:, 2] = values.min(-1), values.max(-1)
        found[:, 1] = (values.sum(-1, dtype=np.float64) - missing * values[:, 0].astype(np.float64)) / sizes
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


def _sizes(problem: Problem, members: Members) -> Mapping[str, Int[np.ndarray, " live"] | int]:
    """How many channels every member has, or all of them, in the layers of which the model knows it."""
    if problem.model.channels is None:
        return {}
    structure, traced, _, slots = members
    padded = {name: np.asarray(traced[name])[slots] for name in structure.padded}
    return problem.model.channels(hyper=for_model(problem, {**dict(structure.values), **padded}))
