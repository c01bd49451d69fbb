"""What a policy sees and what it may do."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, PRNGKeyArray, Shaped

from jbn.nn.model import HyperParameter
from jbn.task.metrics import of_test
from jbn.task.objectives import Objective

RUNNING, DONE, STOPPED, DIVERGED = range(4)
STATUS_NAMES = ("running", "done", "stopped", "diverged")


class History(NamedTuple):
    """What has been seen of a population so far; nothing of it is needed to go on training.

    A member is a configuration with a seed index: member = configuration * seeds + seed.

    Args:
        train_loss: mean loss of the batches of each segment; NaN where a member did not take part.
        validation: "loss" and every metric of the task by name, on the validation part after each segment; where the
            task has `test_curves`, behind them "test/loss", ..., see `test`.
        steps: optimiser steps taken by the end of each segment; that of the segment before where a member
            did not take part.
        status: of each member now: index into `STATUS_NAMES`; `running`, `done`, `stopped` and `diverged` are masks.
        objective: by which of the metrics members are compared.
        seeds: members of a configuration.
        configs: hyper-parameters of every member now, by name; NaN or None where it has none.
        changeable: those that an edit may set, by name: numbers that programs take as arguments.
        groups: a number for each member; those with the same one may copy each other's state: programs are built
            for the same values, and seed index and fold are the same.
    """

    train_loss: Float[np.ndarray, "segments members"]
    validation: Mapping[str, Float[np.ndarray, "segments members"]]
    steps: Int[np.ndarray, "segments members"]
    status: Int[np.ndarray, " members"]
    objective: Objective = Objective("accuracy", maximize=True)
    seeds: int = 1
    configs: Mapping[str, Shaped[np.ndarray, " members"]] = MappingProxyType({})
    changeable: Mapping[str, HyperParameter] = MappingProxyType({})
    groups: Int[np.ndarray, " members"] = np.zeros(0, np.int64)

    @property
    def validation_loss(self) -> Float[np.ndarray, "segments members"]:
        """Mean loss on the validation part after each segment."""
        return self.validation["loss"]

    @property
    def validation_accuracy(self) -> Float[np.ndarray, "segments members"]:
        """Share of validation rows classified correctly, where accuracy is one of the task's metrics."""
        return self.validation["accuracy"]

    @property
    def test(self) -> dict[str, Float[np.ndarray, "segments members"]]:
        """The loss and every metric on the test part by name, where the task has `test_curves`; else nothing."""
        return of_test(self.validation)

    @property
    def running(self) -> Bool[np.ndarray, " members"]:
        """Which members go on.

        >>> curve, steps = np.zeros((0, 3)), np.zeros((0, 3), int)
        >>> history = History(curve, {"loss": curve}, steps, np.array([RUNNING, STOPPED, RUNNING]))
        >>> history.running.tolist(), history.stopped.tolist()
        ([True, False, True], [False, True, False])
        """
        return self.status == RUNNING

    @property
    def done(self) -> Bool[np.ndarray, " members"]:
        """Which members have trained to the end."""
        return self.status == DONE

    @property
    def stopped(self) -> Bool[np.ndarray, " members"]:
        """Which members a policy, or an interruption, has stopped."""
        return self.status == STOPPED

    @property
    def diverged(self) -> Bool[np.ndarray, " members"]:
        """Which members have diverged: their loss was not finite."""
        return self.status == DIVERGED

    @property
    def values(self) -> Float[np.ndarray, " members"]:
        """The objective of every member now; NaN where it has diverged."""
        values = self.objective.values(self.validation[self.objective.metric])
        return np.where(self.diverged, np.nan, values)

    @property
    def scores(self) -> Float[np.ndarray, " members"]:
        """The objective of every member now, higher is better; NaN where it has diverged."""
        return self.objective.scores(self.values)

    def took_part(self, segment: int) -> Bool[np.ndarray, " members"]:
        """Which members were trained in a segment."""
        before = self.steps[segment - 1] if segment else 0
        return self.steps[segment] > before


class Edits(NamedTuple):
    """What is to change before the next segment: first who stops, then who copies whom, then what is set.

    Args:
        stop: members that do not go on.
        copies: pairs (source, target): the target goes on from parameters, running statistics and optimiser state of
            the source as these are now, also if it has diverged; its hyper-parameters stay its own.
        values: hyper-parameters by name, one entry a member; NaN leaves a member's as it is.
    """

    stop: Int[np.ndarray, " stopped"] = np.zeros(0, np.int64)
    copies: Int[np.ndarray, "copies 2"] = np.zeros((0, 2), np.int64)
    values: Mapping[str, Float[np.ndarray, " members"]] = MappingProxyType({})


class Event(NamedTuple):
    """What became of a member by an edit.

    Args:
        segment: after which one, counted from 0.
        member: who.
        kind: "stopped", "copied" or "set".
        source: whom it copied; None in other events.
        values: hyper-parameters that were set, by name.
    """

    segment: int
    member: int
    kind: str
    source: int | None = None
    values: Mapping[str, float] = MappingProxyType({})


Policy = Callable[[History, PRNGKeyArray], Edits]


def next_decision(policy: Policy, segments: int, last: int) -> int:
    """After how many segments a policy decides next; until then parts of a population may run ahead of others.

    A policy that knows has a method `next_decision(segments)`: how many there will be when it decides next, given
    that there are `segments` now; None if never. Any other is asked after every segment.

    Args:
        policy: which one.
        segments: how many there are.
        last: how many there are to be.
    """
    if policy is watch:
        return last
    own = getattr(policy, "next_decision", None)
    found = segments + 1 if own is None else own(segments)
    return last if found is None else min(max(found, segments + 1), last)


def expected_epochs(policy: Policy | None, epochs: int) -> float:
    """For how many epochs a policy is expected to train a configuration, on average; plans are weighed by it.

    A policy that knows has a method `expected_epochs(epochs)`; any other is taken to stop none.

    Args:
        policy: which one; None for one that only watches.
        epochs: of a configuration that is not stopped.
    """
    own = getattr(policy, "expected_epochs", None)
    return float(epochs) if own is None else own(epochs)


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
