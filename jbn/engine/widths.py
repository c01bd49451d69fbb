"""Padded widths: which capacities share what is padded, so that the surplus arithmetic is small."""

from collections.abc import Sequence

import numpy as np

_CANDIDATES = 64


def capacities(values: Sequence[int], classes: int, *, highest: int) -> list[int]:
    """At most so many capacities, ascending, that cover all values with the least padded work.

    Work grows about as `w^2 + 64 w` with the width w: the products of two padded layers, and the rest. The best
    edges are found exactly, by dynamic programming over the values that occur.

    Args:
        values: widths as often as they are expected to occur.
        classes: how many capacities.
        highest: the largest width that may occur: the last capacity.

    >>> capacities([50, 60, 70, 80, 90, 100], 2, highest=100)
    [70, 100]
    >>> capacities([16, 60, 128], 5, highest=128)
    [16, 60, 128]
    """
    edges, counts = _candidates(values, highest)
    before = np.concatenate([[0], np.cumsum(counts)])
    work = edges.astype(float) ** 2 + 64.0 * edges
    # least[j]: of all values up to edge j - 1, with the classes so far; chosen[k][j]: where the last one starts
    least, chosen = np.where(before > 0, np.inf, 0.0), []
    for _ in range(min(classes, len(edges))):
        own = least[:-1, None] + (before[None, 1:] - before[:-1, None]) * work[None, :]
        own[np.tril_indices(len(edges), -1)] = np.inf
        chosen.append(np.argmin(own, axis=0))
        least = np.concatenate([[0.0], np.min(own, axis=0)])
    found, stop = [], len(edges)
    for starts in reversed(chosen):
        found.append(int(edges[stop - 1]))
        stop = int(starts[stop - 1])
        if stop == 0:
            break
    return found[::-1]


def _candidates(values: Sequence[int], highest: int) -> tuple[np.ndarray, np.ndarray]:
    """Widths that may be capacities, ascending, and how many values lie at each or between it and the last."""
    distinct = np.unique(np.append(np.asarray(values), highest))
    if len(distinct) > _CANDIDATES:
        places = np.linspace(0, len(distinct) - 1, _CANDIDATES).round().astype(int)
        distinct = distinct[places]
    place = np.searchsorted(distinct, values)
    return distinct, np.bincount(place, minlength=len(distinct))
