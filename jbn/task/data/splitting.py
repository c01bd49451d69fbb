"""Which rows go into which part: stratified by class and fixed by a seed."""

import operator
import zlib
from collections.abc import Mapping

import numpy as np
from jaxtyping import Int

from jbn.errors import InputError

Indices = Int[np.ndarray, " chosen"]


def split(
    labels: Int[np.ndarray, " rows"], shares: Mapping[str, int], *, seed: int, purpose: str = "split"
) -> dict[str, Indices]:
    """Row numbers of every part; disjoint, all rows together, in random order.

    Part `p` gets `n_c * share_p / sum(share)` rows of class `c` with `n_c` rows, rounded up or down such that
    every part's total is as near as possible to its share of all rows. A class of a single row goes to the
    first part.

    Args:
        labels: classes `0 ... K - 1`, each at least once, `[rows]`.
        shares: the size of every part in proportion to the others. The first part is the training part: it
            must be at least half of the whole.
        seed: whole number of at least 0.
        purpose: what the split is for; another purpose draws another split.

    Raises:
        InputError: a part would be empty, or the seed is no whole number of at least 0.

    >>> import numpy as np
    >>> chosen = split(np.array([0, 1] * 5), {"train": 3, "validation": 1, "test": 1}, seed=0)
    >>> {part: len(rows) for part, rows in chosen.items()}
    {'train': 6, 'validation': 2, 'test': 2}
    """
    generator = np.random.default_rng([_checked_seed(seed), zlib.crc32(purpose.encode())])
    table = _rows_per_part(np.bincount(labels), np.array(list(shares.values())))
    _check_no_part_is_empty(dict(zip(shares, table.sum(axis=0).tolist(), strict=True)), classes=len(table))
    shuffled = generator.permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    part_of = np.repeat(np.tile(np.arange(len(shares)), len(table)), table.ravel())
    return {part: generator.permutation(by_class[part_of == i]) for i, part in enumerate(shares)}


def _rows_per_part(counts: Int[np.ndarray, " classes"], shares: Int[np.ndarray, " parts"]) -> np.ndarray:
    """How many rows of each class each part gets, `[classes, parts]`."""
    table, remainder = np.divmod(counts[:, None] * shares, shares.sum())
    table[:, 0] = np.maximum(table[:, 0], 1)
    left = counts - table.sum(axis=1)
    wanted = _largest_remainder(counts.sum(), shares) - table.sum(axis=0)
    # Serving the parts that lack most reaches the wanted totals whatever the order of the classes: it is the
    # Gale-Ryser construction of a 0/1 matrix from its row and column sums. The earlier part wins a tie, the
    # later one among the totals, so that where there are rows enough neither of two equal parts stays empty.
    for row in np.flatnonzero(left):
        chosen = np.lexsort((-remainder[row], -wanted))[: left[row]]
        table[row, chosen] += 1
        wanted[chosen] -= 1
    return table


def _largest_remainder(total: int, shares: Int[np.ndarray, " parts"]) -> Int[np.ndarray, " parts"]:
    """Whole numbers in proportion to the shares that add up to `total`; the later one wins a tie."""
    numbers, remainder = np.divmod(total * shares, shares.sum())
    up = np.argsort(remainder, kind="stable")[::-1][: total - numbers.sum()]
    numbers[up] += 1
    return numbers


def _checked_seed(seed: int) -> int:
    try:
        number = operator.index(seed)
    except TypeError:
        number = -1
    if number < 0:
        raise InputError(f"seed must be a whole number of at least 0, but got {seed!r}")
    return number


def _check_no_part_is_empty(rows: Mapping[str, int], *, classes: int) -> None:
    empty = [part for part, count in rows.items() if not count]
    if empty:
        counts = ", ".join(f"{count} {part}" for part, count in rows.items())
        raise InputError(
            f"splitting leaves no rows for the {empty[0]} part: {sum(rows.values())} rows of {classes} "
            f"classes would become {counts}, as the training part needs a row of every class; "
            f"give more rows, or x_{empty[0]} and y_{empty[0]}"
        )
