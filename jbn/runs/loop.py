"""The loop of every run: advance a segment, let the policy decide, record both, apply its edits."""

import contextlib
import dataclasses
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from jbn.engine.engine import Engine
from jbn.engine.trainer import Segment
from jbn.nn.model import HyperParameter
from jbn.policies import DIVERGED, DONE, RUNNING, STOPPED, Edits, Event, History, Policy, next_decision
from jbn.runs.edits import checked, edited, events_of
from jbn.runs.record import Recorder
from jbn.search import Configs
from jbn.task.objectives import Objective
from jbn.task.optimizer_choice import groups
from jbn.task.task import Task


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a sweep is.

    Args:
        segment: segments done.
        segments: segments in all.
        alive: members still running.
        members: members in all.
        objective: what configurations are compared by.
        best: the best of it now; NaN if all diverged.
        seconds: wall-clock time so far.
        seconds_left: expected; None until there is something to expect it from.
    """

    segment: int
    segments: int
    alive: int
    members: int
    objective: Objective
    best: float
    seconds: float
    seconds_left: float | None


class Outcome(NamedTuple):
    """What was seen, what the policy did, and whether the loop was stopped before its end."""

    history: History
    events: tuple[Event, ...]
    interrupted: bool


class Loop:
    """Trains a population under a policy.

    Args:
        engine: the population.
        record: where its course goes.
        epochs: segments at most.
        policy: what decides between segments.
        key: of the policy.
        start: when the run began, of `time.perf_counter`.
    """

    def __init__(
        self, engine: Engine, record: Recorder, epochs: int, policy: Policy, key: PRNGKeyArray, start: float
    ):
        self._engine, self._record, self._policy, self._key = engine, record, policy, key
        self._epochs, self._start, self._after_first = epochs, start, start

    def run(self, history: History, on_segment: Callable[[Progress], bool | None] | None) -> Outcome:
        """Goes on from a history until the last segment, until nobody is left, or until `on_segment` says so."""
        ended, events = False, []
        while not ended and len(history.steps) < self._epochs and history.running.any():
            first, due = len(history.steps), False
            until = next_decision(self._policy, first, self._epochs)
            edits = Edits()
            with contextlib.closing(self._engine.segments(first, until, history.running)) as segments:
                for segment in segments:
                    history = extended(history, segment, history.running)
                    if len(history.steps) == until:
                        edits = self._decided(history)
                    new, history = events_of(edits, history), edited(history, edits)
                    self._record.segment(history, new, segment.spreads)
                    events += new
                    if on_segment is not None and on_segment(self._progress(history)):
                        ended = True
                    due = due or self._record.due(self._engine)
                    if ended or due:
                        self._engine.stop()  # all chunks come to the end of the same segment
            self._engine.edit(edits.copies, edits.values)
            if ended or due:
                self._record.checkpoint(self._engine, len(history.steps))
        left = len(history.steps) < self._epochs and bool(history.running.any())
        status = np.where(history.running, STOPPED if left else DONE, history.status)
        return Outcome(history._replace(status=status), tuple(events), interrupted=left)

    def _decided(self, history: History) -> Edits:
        """What the policy makes of a history; draws depend on the number of the segment."""
        key = jax.random.fold_in(self._key, len(history.steps) - 1)
        edits = checked(self._policy(history, key), history)
        # nobody goes on from what is copied or set after the last segment
        return edits if len(history.steps) < self._epochs else Edits(stop=edits.stop)

    def _progress(self, history: History) -> Progress:
        done, now = len(history.steps), time.perf_counter()
        if done == 1:
            self._after_first = now  # the first segment compiles: it tells nothing about the others
        each = (now - self._after_first) / (done - 1) if done > 1 else None
        scores = history.scores
        best = history.values[np.nanargmax(scores)] if np.isfinite(scores).any() else float("nan")
        return Progress(
            segment=done,
            segments=self._epochs,
            alive=int(history.running.sum()),
            members=self._engine.members,
            objective=history.objective,
            best=float(best),
            seconds=now - self._start,
            seconds_left=None if each is None else each * (self._epochs - done),
        )


def empty_history(task: Task, configs: Configs, engine: Engine, seeds: int = 1) -> History:
    """The history of a population before its first segment.

    Args:
        task: what is trained.
        configs: what each configuration has, NaN or None where it has none.
        engine: the population.
        seeds: members of a configuration.
    """
    curve, steps = np.zeros((0, engine.members)), np.zeros((0, engine.members), np.int64)
    return History(
        curve,
        dict.fromkeys(task.measured, curve),
        steps,
        np.full(engine.members, RUNNING),
        task.judged_by,
        seeds,
        {name: np.repeat(values, seeds) for name, values in configs.items()},
        _changeable(task, configs),
        engine.groups(),
    )


def _changeable(task: Task, configs: Configs) -> dict[str, HyperParameter]:
    """The hyper-parameters of configurations that programs take as arguments."""
    own = [task.with_optimizer(group.optimizer).hyperparameters for group in groups(task.optimizers, configs)]
    traced = {name: entry for known in own for name, entry in known.items() if entry.kind == "traced"}
    return {name: traced[name] for name in configs if name in traced}


def extended(history: History, segment: Segment, took_part: np.ndarray) -> History:
    """The history with one more segment."""
    before = history.steps[-1] if len(history.steps) else np.zeros(len(took_part), np.int64)
    metrics = jax.tree.map(lambda a: np.where(np.isfinite(a), a, np.nan), segment.metrics)
    finite = np.isfinite(metrics.train_loss) & np.isfinite(metrics.validation_loss)
    status = np.where(took_part & ~finite, DIVERGED, history.status)
    steps = np.where(took_part, segment.steps, before)
    return history._replace(
        train_loss=np.vstack([history.train_loss, metrics.train_loss]),
        validation={
            name: np.vstack([curve, metrics.validation[name]]) for name, curve in history.validation.items()
        },
        steps=np.vstack([history.steps, steps]),
        status=status,
    )
