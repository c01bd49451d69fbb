"""What a plan is expected to cost: time, memory and the share of the arithmetic that padding adds."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from jbn.engine.arithmetic import arithmetic
from jbn.engine.cohorts import Cohort
from jbn.engine.cost import compile_seconds, epoch_seconds, rates
from jbn.engine.plan import Plan
from jbn.engine.workers import Workers
from jbn.task.hyper import Structure
from jbn.task.task import Task

_LOOKED_AT = 64  # configurations whose own arithmetic is looked at


class CohortForecast(NamedTuple):
    """What is expected of one cohort.

    Args:
        program: number of the program that it is compiled into.
        structure: what that is built for.
        members: configurations times seed indices.
        padded_share: of the multiply-adds of its matrix products, those of padding; in [0, 1].
        run_seconds: of one worker, for all epochs.
    """

    program: int
    structure: Structure
    members: int
    padded_share: float
    run_seconds: float


class Forecast(NamedTuple):
    """What is expected of a plan.

    Args:
        cohorts: those that have members.
        programs: how many training programs there are.
        padded_share: of all multiply-adds, those of padding.
        compile_seconds: tracing and compiling, if nothing is compiled yet.
        run_seconds: of one worker, for all cohorts and epochs.
        workers: who share the running.
        peak_bytes: memory of the process at its peak.
    """

    cohorts: tuple[CohortForecast, ...]
    programs: int
    padded_share: float
    compile_seconds: float
    run_seconds: float
    workers: int
    peak_bytes: int


class Expected(NamedTuple):
    """What is expected of a plan, in a few numbers that take no time to find.

    Args:
        programs: how many training programs there are.
        compile_seconds: tracing and compiling, if nothing is compiled yet.
        run_seconds: of one worker, for all members and epochs.
        workers: who share the running.
        peak_bytes: memory of the process at its peak.
    """

    programs: int
    compile_seconds: float
    run_seconds: float
    workers: int
    peak_bytes: int


def expected(
    task: Task, plan: Plan, *, workers: Workers, epochs: int | float, seeds: int, peak: int
) -> Expected:
    """The totals of `forecast`, without its look at padding."""
    own = rates(workers.platform)
    seconds = epochs * seeds * epoch_seconds(task, plan.programs, own)
    return Expected(
        len(plan.programs), compile_seconds(task, plan.programs, own), seconds, workers.count, peak
    )


def forecast(
    task: Task,
    configs: Mapping[str, np.ndarray],
    plan: Plan,
    *,
    workers: Workers,
    epochs: int | float,
    seeds: int,
    peak: int,
) -> Forecast:
    """The forecast of a plan; nothing is compiled for it.

    Args:
        task: what is trained.
        configs: names to arrays, one entry a configuration.
        plan: how they are laid out.
        workers: who share the running, and on which kind of device.
        epochs: for how long, on average.
        seeds: seed indices of every configuration.
        peak: bytes that the process is expected to have at its peak.
    """
    own = rates(workers.platform)
    cohorts = [
        (number, cohort)
        for number, cohorts in enumerate(plan.programs, 1)
        for cohort in cohorts
        if len(cohort.rows)
    ]
    stride = max(1, sum(len(cohort.rows) for _, cohort in cohorts) // _LOOKED_AT)
    found, needed, done = [], 0.0, 0.0
    for number, cohort in cohorts:
        padded = arithmetic(task, cohort.structure).multiply_adds * len(cohort.rows)
        share = _padded_share(task, configs, cohort, stride)
        seconds = epochs * seeds * epoch_seconds(task, [(cohort,)], own)
        found.append(CohortForecast(number, cohort.structure, len(cohort.rows) * seeds, share, seconds))
        needed, done = needed + (1 - share) * padded, done + padded
    return Forecast(
        cohorts=tuple(found),
        programs=len(plan.programs),
        padded_share=1 - needed / done if done else 0.0,
        compile_seconds=compile_seconds(task, plan.programs, own),
        run_seconds=sum(cohort.run_seconds for cohort in found),
        workers=workers.count,
        peak_bytes=peak,
    )


def _padded_share(task: Task, configs: Mapping[str, np.ndarray], cohort: Cohort, stride: int) -> float:
    """Of a cohort's multiply-adds, those of padding; every so many of its rows is looked at."""
    structure = cohort.structure
    if not structure.padded:
        return 0.0
    own = [
        arithmetic(task, structure.sized({name: int(configs[name][row]) for name in structure.padded}))
        for row in cohort.rows[::stride]
    ]
    mean = float(np.mean([one.multiply_adds for one in own]))
    return 1 - mean / arithmetic(task, structure).multiply_adds
