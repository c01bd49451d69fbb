"""The one order of configurations: best first."""

import numpy as np
from jaxtyping import Bool, Float, Int


def rank(
    scores: Float[np.ndarray, " rows"], loss: Float[np.ndarray, " rows"], usable: Bool[np.ndarray, " rows"]
) -> Int[np.ndarray, " rows"]:
    """Indices, best first: highest score, ties by lowest validation loss, then by index.

    Args:
        scores: the objective, higher is better.
        loss: validation loss of the last segment.
        usable: rows that may win; all others (diverged ones) come after them, by index.

    >>> import numpy as np
    >>> rank(np.array([0.5, 0.9, 0.9]), np.array([1.0, 0.4, 0.3]), np.array([True, True, True])).tolist()
    [2, 1, 0]
    """
    kept = np.where(usable, np.nan_to_num(-scores, nan=np.inf), np.inf)
    tie = np.where(usable, np.nan_to_num(loss, nan=np.inf), np.inf)
    return np.lexsort((np.arange(len(kept)), tie, kept, ~usable))
