"""Timing candidates for the tile and the chunk capacity on the devices at hand."""

import dataclasses
import time
from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np

from jbn.engine.arithmetic import arithmetic
from jbn.engine.cohorts import Cohort
from jbn.engine.engine import Engine
from jbn.engine.plan import Plan
from jbn.engine.workers import Workers
from jbn.search import Configs
from jbn.task.data import Part
from jbn.task.task import Task

_TILES = {"cpu": (1, 2, 4), "accelerator": (8, 32, 128)}
_SLOTS = {"cpu": (8, 16, 32), "accelerator": (128, 256, 512)}
_STEPS, _ROUNDS = 8, 5


class Trial(NamedTuple):
    """One candidate: seconds a member and step, of all workers together."""

    tile: int
    slots: int
    seconds: float


def tune(
    task: Task, configs: Mapping[str, np.ndarray], plan: Plan, *, workers: Workers
) -> tuple[Plan, tuple[Trial, ...]]:
    """The plan with the fastest tile and, with it, the fastest chunk capacity.

    Every candidate trains the cohort with most work, some steps at a time, on all workers at once. The median of a
    few rounds counts. A candidate costs a compile of its own, the timing itself milliseconds.

    Args:
        task: what is trained.
        configs: names to arrays, one entry a configuration.
        plan: what is to be improved.
        workers: who will run it.

    Returns:
        The plan, and all trials in the order in which they were made.
    """
    cohorts = [cohort for program in plan.programs for cohort in program if len(cohort.rows)]
    cohort = max(cohorts, key=lambda own: len(own.rows) * arithmetic(task, own.structure).multiply_adds)
    small, own = _shortened(task, cohort), _only(configs, cohort)
    kind = "cpu" if workers.platform == "cpu" else "accelerator"
    trials = [_trial(small, own, cohort, tile, max(plan.slots, tile), workers) for tile in _TILES[kind]]
    tile = min(trials, key=lambda trial: trial.seconds).tile
    trials += [
        _trial(small, own, cohort, tile, slots, workers)
        for slots in _SLOTS[kind]
        if slots >= tile and slots != max(plan.slots, tile)
    ]
    best = min((trial for trial in trials if trial.tile == tile), key=lambda trial: trial.seconds)
    return plan._replace(tile=best.tile, slots=best.slots), tuple(trials)


def _trial(task: Task, configs: Configs, cohort: Cohort, tile: int, slots: int, workers: Workers) -> Trial:
    """Full chunks, one a worker."""
    count = slots * workers.count
    rows = np.arange(count) % configs.count
    many = Configs({name: values[rows] for name, values in configs.items()})
    layout = Plan(((Cohort(cohort.structure, np.arange(count)),),), tile, slots)
    engine = Engine(task, many, layout, key=jax.random.key(0), workers=workers)
    alive, seconds = np.ones(count, bool), []
    engine.advance(0, alive)  # compiles
    for epoch in range(1, _ROUNDS + 1):
        start = time.perf_counter()
        engine.advance(epoch, alive)
        seconds.append(time.perf_counter() - start)
    steps = task.steps(dict(cohort.structure.values)["batch_size"])
    return Trial(tile, slots, float(np.median(seconds)) / (count * steps))


def _shortened(task: Task, cohort: Cohort) -> Task:
    """The task with so few rows that a segment takes a few steps."""
    rows = _STEPS * dict(cohort.structure.values)["batch_size"]
    first, own = task.data.first(rows), task.data.validation
    again = np.arange(rows) % len(first.y)  # a block may have fewer
    train, validation = Part(first.x[again], first.y[again]), Part(own.x[:rows], own.y[:rows])
    data = dataclasses.replace(task.data, train=train, validation=validation)
    return dataclasses.replace(task, data=data, steps_per_epoch=None)


def _only(configs: Mapping[str, np.ndarray], cohort: Cohort) -> Configs:
    return Configs({name: values[cohort.rows] for name, values in configs.items()})
