"""What a policy sees and what it may do."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, PRNGKeyArray

from jbn.task.objectives import Objective

RUNNING, DONE, STOPPED, DIVERGED = range(4)
STATUS_NAMES = ("running", "done", "stopped", "diverged")


class History(NamedTuple):
    """What has been seen of a population so far; nothing of it is needed to go on training.

    A member is a configuration with a seed index: member = configuration * seeds + seed.

    Args:
        train_loss: mean loss of the batches of each segment; NaN where a member did not take part.
        validation: "loss" and every metric of the task by name, on the validation part after each segment.
        steps: optimiser steps taken by the end of each segment; that of the segment before where a member
            did not take part.
        status: of each member now: index into `STATUS_NAMES`.
        objective: by which of the metrics members are compared.
        seeds: members of a configuration.
    """

    train_loss: Float[np.ndarray, "segments members"]
    validation: Mapping[str, Float[np.ndarray, "segments members"]]
    steps: Int[np.ndarray, "segments members"]
    status: Int[np.ndarray, " members"]
    objective: Objective = Objective("accuracy", maximize=True)
    seeds: int = 1

    @property
    def validation_loss(self) -> Float[np.ndarray, "segments members"]:
        """Mean loss on the validation part after each segment."""
        return self.validation["loss"]

    @property
    def validation_accuracy(self) -> Float[np.ndarray, "segments members"]:
        """Share of validation rows classified correctly, where accuracy is one of the task's metrics."""
        return self.validation["accuracy"]

    @property
    def values(self) -> Float[np.ndarray, " members"]:
        """The objective of every member now; NaN where it has diverged."""
        values = self.objective.values(self.validation[self.objective.metric])
        return np.where(self.status == DIVERGED, np.nan, values)

    @property
    def scores(self) -> Float[np.ndarray, " members"]:
        """The objective of every member now, higher is better; NaN where it has diverged."""
        return self.objective.scores(self.values)

    def took_part(self, segment: int) -> Bool[np.ndarray, " members"]:
        """Which members were trained in a segment."""
        before = self.steps[segment - 1] if segment else 0
        return self.steps[segment] > before


class Edits(NamedTuple):
    """What is to change before the next segment.

    Args:
        stop: members that do not go on.
    """

    stop: Int[np.ndarray, " stopped"] = np.zeros(0, np.int64)


Policy = Callable[[History, PRNGKeyArray], Edits]


def watch(history: History, key: PRNGKeyArray) -> Edits:
    """The policy that only watches.

    >>> import jax, numpy as np
    >>> curve = np.zeros((1, 3))
    >>> history = History(curve, {"loss": curve}, np.ones((1, 3), int), np.zeros(3, int))
    >>> len(watch(history, jax.random.key(0)).stop)
    0
    """
    del history, key
    return Edits()
