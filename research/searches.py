"""Searches: what is chosen by the validation part is judged by the test part, after every epoch of every network."""

import numpy as np
from jaxtyping import Float

import jbn

AXES = {
    "learning_rate": jbn.log_uniform(1e-4, 1.0),
    "beta1": jbn.reverse_log_uniform(0.9, 0.999),
    "beta2": jbn.reverse_log_uniform(0.99, 0.9999),
    "epsilon": jbn.log_uniform(1e-10, 1e-6),
    "decay_rate": jbn.log_uniform(1e-3, 1.0),
    "hidden_units": jbn.integers(16, 48),
}


def final(result: jbn.Result, part: str, metric: str = "loss") -> np.ndarray:
    """A metric of a part after the last epoch, `[configurations, seeds]`.

    Where one diverged it is infinity, or an accuracy of 0.
    """
    worst = 0.0 if metric == "accuracy" else np.inf
    own = result.curve(f"{part}_{metric}")[-1]
    return np.where(np.isnan(own), worst, own)


def best_so_far(
    chosen: Float[np.ndarray, "*searches points"], judged: Float[np.ndarray, "*searches points"]
) -> Float[np.ndarray, "*searches points"]:
    """What judges the best by what chooses, less is better, of the first 1, 2, ... points of each search."""
    places = np.arange(chosen.shape[-1])
    best = np.minimum.accumulate(chosen, axis=-1)
    first = np.maximum.accumulate(np.where(chosen == best, places, 0), axis=-1)
    return np.take_along_axis(judged, first, axis=-1)
