"""Searches: what is chosen by the validation part is judged by the test part, after every epoch of every network."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import curves
from jaxtyping import Array, Float, Int

import jbn

CHOSEN, JUDGED = "chosen", "judged"


def task_of(model: jbn.Model, data: jbn.data.Data, **more: Any) -> jbn.Task:
    """A task that measures loss and accuracy on the validation and on the test part, each by itself.

    Its metrics are `chosen_loss` and `chosen_accuracy` of the validation part, `judged_loss` and `judged_accuracy`
    of the test part; the objective is `chosen_loss` where no other is given.
    """
    validation, test = data.validation, data.test
    joined = jbn.data.arrays(
        data.train.x,
        data.train.y,
        x_validation=np.concatenate([validation.x, test.x]),
        y_validation=np.concatenate([validation.y, test.y]),
        x_test=test.x,
        y_test=test.y,
        name=data.name,
    )
    parts = {CHOSEN: slice(len(validation.y)), JUDGED: slice(len(validation.y), None)}
    metrics = [
        _of_rows(f"{part}_{name}", measure, rows)
        for part, rows in parts.items()
        for name, measure in {"loss": _cross_entropy, "accuracy": _right}.items()
    ]
    own = {"objective": jbn.objective(f"{CHOSEN}_loss", maximize=False), **more}
    return jbn.Task(model=model, data=joined, metrics=metrics, **own)


def _of_rows(name: str, measure: Callable[[Array, Array], Array], rows: slice) -> Any:
    return jbn.metric(
        lambda outputs, targets: jnp.mean(measure(outputs[rows], targets[rows])),
        name=name,
        maximize=name.endswith("accuracy"),
    )


def _cross_entropy(outputs: Float[Array, "rows classes"], targets: Int[Array, " rows"]) -> Array:
    return -jnp.take_along_axis(jax.nn.log_softmax(outputs), targets[:, None], 1)[:, 0]


def _right(outputs: Float[Array, "rows classes"], targets: Int[Array, " rows"]) -> Array:
    return jnp.argmax(outputs, axis=-1) == targets


def final(result: jbn.Result, metric: str) -> np.ndarray:
    """A metric after the last epoch, `[configurations, seeds]`: infinity where one diverged, or an accuracy of 0."""
    worst = 0.0 if metric.endswith("accuracy") else np.inf
    own = curves(result, metric)[-1]
    return np.where(np.isnan(own), worst, own)


def best_so_far(
    chosen: Float[np.ndarray, "*searches points"], judged: Float[np.ndarray, "*searches points"]
) -> Float[np.ndarray, "*searches points"]:
    """What judges the best by what chooses, less is better, of the first 1, 2, ... points of each search."""
    places = np.arange(chosen.shape[-1])
    best = np.minimum.accumulate(chosen, axis=-1)
    first = np.maximum.accumulate(np.where(chosen == best, places, 0), axis=-1)
    return np.take_along_axis(judged, first, axis=-1)
