"""Measuring what a sweep over a space would take: rehearsals of its plans, and all that a sweep does besides."""

import contextlib
import dataclasses
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jbn.engine.cost import compile_seconds, epoch_seconds, rates
from jbn.engine.memory import available_bytes, peak_bytes, population_bytes, resident_bytes
from jbn.engine.plan import Plan, plan
from jbn.engine.rehearsal import Rehearsal, rehearse
from jbn.engine.workers import Workers
from jbn.policies import RUNNING, History, halving
from jbn.runs.estimate import LAID_OUT, Around, Estimate, Which, first, largest
from jbn.runs.loop import empty_history, extended
from jbn.runs.models import best_model
from jbn.runs.record import recorder
from jbn.runs.setup import Setup
from jbn.runs.sweep import check_programs, checked
from jbn.search import Configs, Space
from jbn.search import random as draw
from jbn.task.data.folding import folded
from jbn.task.task import Task

_PLANS = 3  # that are rehearsed at most: other numbers of configurations may have another plan
_FEWEST = 16  # configurations that a plan is rehearsed for
_SLOWER = 2.0  # than the planner thinks, as a first guess


@dataclasses.dataclass(frozen=True)
class Setting:
    """What a sweep is for.

    Args:
        task: model, data, optimiser and loss; settled, with its folds.
        shown: configurations as tables show them.
        columns: configurations as they are trained.
        epochs: segments of each.
        seeds: seed indices of each.
        folds: of cross-validation.
        besides: seconds of a sweep's process before and after the sweep.
    """

    task: Task
    shown: Configs
    columns: Configs
    epochs: int
    seeds: int
    folds: int
    besides: float


def setting(
    task: Task, space: Space, *, epochs: int, seeds: int, folds: int, key: Any, besides: float
) -> Setting:
    """The first configurations of a search, checked as a sweep checks them.

    Raises:
        InputError: as a sweep.
    """
    if folds != 1:
        task = dataclasses.replace(task, data=folded(task.data, folds))
    shown, columns = checked(task, draw(space, LAID_OUT, key=key), epochs, seeds)
    return Setting(task.settled(columns, epochs=epochs), shown, columns, epochs, seeds, folds, besides)


def study(
    own: Setting,
    crew: Workers,
    *,
    budget: float,
    seconds: float,
    start: Which,
    wanted: int,
    max_programs: int | None,
) -> Estimate:
    """Rehearses the plan of as many configurations as fit into the budget; which ones do, the rehearsal tells.

    Where fewer fit than a search wants, so does it the plan of as many as fit with halving.

    Args:
        own: what a sweep is for.
        crew: who trains.
        budget: seconds of the sweep.
        seconds: about how long training may take.
        start: whether the sweep starts warm or cold.
        wanted: how many configurations a search of the space wants.
        max_programs: no plan may have more; None for no limit.

    Raises:
        InputError: more programs than that.
    """
    began = time.perf_counter()
    count = _guess(own, crew, budget)
    _plan(own, crew, count)
    planning = time.perf_counter() - began
    estimate: Estimate | None = None
    layout = _plan(own, crew, count)
    for _ in range(_PLANS):
        check_programs(own.task, layout, max_programs, crew)
        rehearsal = rehearse(
            own.task,
            first(own.columns, count),
            layout,
            key=jax.random.key(0),
            workers=crew,
            seeds=own.folds,
            seconds=seconds / _PLANS,
        )
        estimate = _with(estimate, own, crew, layout, rehearsal, planning)
        found = estimate.fits(budget, start=start)
        policy = None if found >= wanted else halving()
        fits = found if policy is None else estimate.fits(budget, policy, start=start)
        count = int(np.clip(fits, _FEWEST, LAID_OUT))
        layout = estimate.plan(count, policy)
        if estimate.rehearsed(layout):
            break
    assert estimate is not None
    return estimate


def _plan(own: Setting, crew: Workers, count: int) -> Plan:
    members = own.seeds * own.folds
    return plan(own.task, first(own.columns, count), platform=crew.platform, epochs=own.epochs, seeds=members)


def _guess(own: Setting, crew: Workers, budget: float) -> int:
    """About how many configurations fit, by the planner's rates."""
    programs, members = _plan(own, crew, _FEWEST).programs, own.seeds * own.folds
    one = members * own.epochs * epoch_seconds(own.task, programs, rates(crew.platform)) / _FEWEST
    return int(np.clip(budget * crew.count / (_SLOWER * one), _FEWEST, LAID_OUT))


def _with(
    before: Estimate | None, own: Setting, crew: Workers, layout: Plan, rehearsal: Rehearsal, planning: float
) -> Estimate:
    """The estimate with one more rehearsal."""
    planned = compile_seconds(own.task, layout.programs, rates(crew.platform))
    if before is not None:
        rehearsals = (rehearsal, *before.rehearsals)
        return dataclasses.replace(before, rehearsals=rehearsals, planned=planned)
    segment, member = recording_seconds(own, layout)
    around = Around(own.besides, planning, segment, member, _testing_seconds(own, rehearsal))
    return Estimate(
        own.task,
        own.columns,
        own.epochs,
        own.seeds * own.folds,
        crew.count,
        crew.platform,
        (rehearsal,),
        around,
        planned,
    )


def recording_seconds(own: Setting, layout: Plan) -> tuple[float, float]:
    """Seconds of recording a segment, whatever the number of members, and for each of them.

    Two runs are recorded in a folder that is gone afterwards.
    """
    counts, seconds = (_FEWEST, own.shown.count), []
    for count in counts:
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            record = stack.enter_context(
                recorder(Path(folder, "run"), _few(own, layout, count), start=0.0, settings=None)
            )
            record.segment(_flat(own.task, count, 1), [], {})
            began = time.perf_counter()
            record.segment(_flat(own.task, count, 2), [], {})
            seconds.append(time.perf_counter() - began)
    each = max(0.0, (seconds[1] - seconds[0]) / (counts[1] - counts[0]))
    return max(0.0, seconds[0] - counts[0] * each), each


def _few(own: Setting, layout: Plan, count: int) -> Setup:
    """So many of the configurations."""
    shown, columns = first(own.shown, count), first(own.columns, count)
    return Setup(
        own.task, own.task, shown, columns, layout, epochs=2, key=jax.random.key(0), seeds=1, folds=1
    )


def _flat(task: Task, members: int, segments: int) -> History:
    """A history in which nothing changes."""
    curve, steps = np.zeros((segments, members)), np.ones((segments, members), np.int64)
    validation = dict.fromkeys(task.measured, curve)
    steps = np.cumsum(steps, axis=0)
    return History(curve, validation, steps, np.full(members, RUNNING), task.judged_by)


def _testing_seconds(own: Setting, rehearsal: Rehearsal) -> float:
    """Seconds of finding and testing a winner, which compiles a program of its own."""
    began = time.perf_counter()
    empty = empty_history(own.task, rehearsal.sample, rehearsal.engine, own.folds)
    history = extended(empty, rehearsal.first, np.ones(len(empty.status), bool))
    winner = best_model(own.task, rehearsal.sample, rehearsal.engine, history, 1)
    if winner is not None:
        winner.evaluate(*own.task.data.test)
    return time.perf_counter() - began


def configurations_by_memory(estimate: Estimate, limit: int | None) -> int | None:
    """How many configurations memory holds; None where the system does not say how much there is.

    Args:
        estimate: of the sweep.
        limit: bytes that it may take; default: what is available.
    """
    available = available_bytes() if limit is None and estimate.platform == "cpu" else limit
    if available is None:
        return None
    engine, few, most = estimate.rehearsals[0].engine, _FEWEST, estimate.configs.count
    shared = peak_bytes(estimate.task, estimate.plan(few), seeds=estimate.members, workers=estimate.workers)
    shared += estimate.workers * engine.working_bytes() - resident_bytes() - _state(estimate, few)
    half, whole = _state(estimate, most // 2), _state(estimate, most)

    def needed(count: int) -> float:
        beyond = (whole - half) / (most - most // 2) * (count - most)
        return shared + (_state(estimate, count) if count <= most else whole + beyond)

    return largest(needed, available)


def _state(estimate: Estimate, count: int) -> int:
    layout = estimate.plan(count)
    return population_bytes(estimate.task, layout, seeds=estimate.members, workers=estimate.workers)
