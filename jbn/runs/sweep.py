"""Caviar: train many configurations at once and keep the best."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from jbn import store
from jbn.engine.cost import compile_seconds, rates
from jbn.engine.engine import Engine
from jbn.engine.forecast import Forecast, forecast
from jbn.engine.memory import (
    available_bytes,
    check_memory,
    peak_bytes,
    resident_bytes,
    rough_working_bytes,
)
from jbn.engine.plan import MANY_PROGRAMS, Plan, plan
from jbn.engine.trainer import Segment
from jbn.engine.tune import tune
from jbn.engine.workers import Workers
from jbn.errors import InputError
from jbn.policies import DIVERGED, DONE, RUNNING, STOPPED, History, Policy, watch
from jbn.runs.record import Recorder, recorder
from jbn.runs.result import Best, Result, best_member
from jbn.search import Configs
from jbn.task.data import Blocks
from jbn.task.data.folding import folded
from jbn.task.objectives import Objective
from jbn.task.optimizer_choice import with_defaults, without_ignored
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


def sweep(
    task: Task,
    configs: Mapping[str, Any],
    *,
    epochs: int,
    key: PRNGKeyArray,
    seeds: int = 1,
    folds: int = 1,
    policy: Policy | None = None,
    out: str | Path | None = None,
    workers: int | None = None,
    on_plan: Callable[[Forecast], None] | None = None,
    on_segment: Callable[[Progress], bool | None] | None = None,
    tuned: bool = False,
    max_programs: int | None = MANY_PROGRAMS,
    settings: Mapping[str, Any] | None = None,
) -> Result:
    """Trains every configuration and returns them ranked.

    All configurations whose shapes agree are trained by one program; numbers such as the learning rate are
    arguments of it. A configuration that diverges is marked and costs the others nothing. Random streams follow
    from `key` and the seed index alone: the same arguments give the same result, bit for bit on the same machine.

    Args:
        task: model, data, optimiser and loss.
        configs: names of hyper-parameters to arrays of equal length, e.g. from `jbn.search.random`. With `optimizer`
            among them, each configuration is trained by the optimiser of that name, whose defaults hold for it; what
            this optimiser does not have it ignores, and the result has NaN or None there.
        epochs: passes over the training part, at least 1. A segment is an epoch.
        key: a JAX key.
        seeds: train every configuration with so many seed indices; the table has the means of their metrics and
            the standard errors of the means. No program is compiled for it: seeds are more members.
        folds: cross-validate with so many folds of training and validation part, each normalised by its own
            training rows, all in the same programs: the table has the means over the folds. The winner is the model
            of one fold.
        policy: `policy(history, key) -> edits`, called after every segment; by default it only watches.
        out: a folder to record the sweep in; it must not hold one yet.
        workers: threads on a CPU; default: one a core.
        on_plan: called once, before training, with what the plan is expected to cost. The programs that need most
            memory are compiled before.
        on_segment: called after every segment; where it returns True no other segment begins, and the sweep ends
            after those that have begun: where no policy decides between segments, parts of a sweep run ahead of
            others by about a second.
        tuned: time candidates for tile and chunk capacity first; the choice is recorded with the run.
        max_programs: a space that needs more programs is refused, since each is compiled for seconds; None for
            no limit.
        settings: more to record, values that JSON knows.

    Returns:
        The result: `.table()`, `.best()`, `.history`.

    Raises:
        InputError: an unknown hyper-parameter, a value that is not allowed, fewer than 1 epoch or configuration, a
            folder that already holds a sweep, more programs than `max_programs`, more than fits into the
            memory. Nothing is written then.

    >>> import jax, jbn
    >>> task = jbn.Task(model=jbn.mlp(layers=1, hidden_units=16), data=jbn.data.digits())
    >>> space = jbn.Space(learning_rate=jbn.log_uniform(1e-4, 1.0), batch_size=256)
    >>> configs = jbn.search.random(space, 4, key=jax.random.key(0))
    >>> result = jbn.sweep(task, configs, epochs=2, key=jax.random.key(1))
    >>> list(result.table().columns)
    ['config_id', 'learning_rate', 'batch_size', 'status', 'validation_accuracy', 'validation_loss', 'steps']
    """
    if out is not None:
        store.check_free(out)
    given = task
    if folds != 1:
        task = dataclasses.replace(task, data=folded(task.data, folds))
    shown, columns = _checked(task, configs, epochs, seeds)
    task = task.settled(columns, epochs=epochs)
    each, seeds = seeds, seeds * folds
    start = time.perf_counter()
    with contextlib.ExitStack() as stack:
        crew = stack.enter_context(contextlib.closing(Workers(workers)))
        layout = plan(task, columns, platform=crew.platform, epochs=epochs, seeds=seeds)
        _check_programs(task, layout, max_programs, crew)
        layout, trials = tune(task, columns, layout, workers=crew) if tuned else (layout, ())
        engine = Engine(task, columns, layout, key=key, seeds=seeds, workers=crew)
        peak = _expected_bytes(task, layout, columns.count, seeds, crew, engine, known=on_plan is not None)
        expected = None
        if on_plan is not None:
            expected = forecast(task, columns, layout, workers=crew, epochs=epochs, seeds=seeds, peak=peak)
            on_plan(expected)
        more = {**(settings or {}), "tuning": [trial._asdict() for trial in trials]} if tuned else settings
        record = stack.enter_context(
            recorder(
                out, task, shown, layout, epochs=epochs, seeds=seeds, folds=folds, key=key, settings=more
            )
        )
        loop = _Loop(engine, record, epochs, seeds, policy or watch, jax.random.fold_in(key, _POLICY), start)
        empty = empty_history(engine.members, task.problem.measured, task.judged_by, seeds)
        history = loop.run(empty, on_segment)
        winner = _winner(task, columns, engine, history, seeds, each)
        test = {} if winner is None else winner.evaluate(*task.data.test)
        seconds = time.perf_counter() - start
        record.finish(history, engine.timings, seconds, winner, test)
    interrupted = len(history.steps) < epochs and bool((history.status == STOPPED).any())
    return Result(
        given,
        shown,
        history,
        seeds,
        engine.timings,
        seconds,
        interrupted,
        winner,
        test,
        engine.run_seconds,
        expected,
        folds,
    )


_POLICY = 1 << 20  # far from any seed index: the policy's stream is none of a member's


def _checked(task: Task, configs: Mapping[str, Any], epochs: int, seeds: int) -> tuple[Configs, Configs]:
    """The configurations as tables show them, and as they are trained, with defaults where conditions leave gaps."""
    for name, value in (("epochs", epochs), ("seeds", seeds)):
        if value < 1:
            raise InputError(f"{name} must be at least 1, but got {value}")
    columns = configs if isinstance(configs, Configs) else Configs(configs)
    if columns.count < 1:
        raise InputError("a sweep needs at least 1 configuration, but got 0")
    filled = with_defaults(task, columns)
    task.check(filled)
    train = task.data.train
    if seeds > 1 and isinstance(train, Blocks) and train.once:
        raise InputError(
            f"several seeds need data that can be read several times, but {task.data.name!r} comes from a single "
            f"iterator and seeds is {seeds}; give a factory(epoch, seed), or take one seed"
        )
    return without_ignored(task.optimizers, columns), without_ignored(task.optimizers, filled)


def _check_programs(task: Task, layout: Plan, max_programs: int | None, workers: Workers) -> None:
    """No more programs than anybody would wait for."""
    if max_programs is not None and len(layout.programs) > max_programs:
        seconds = compile_seconds(task, layout.programs, rates(workers.platform))
        raise InputError(
            f"a sweep may have at most {max_programs} programs, but this space needs {len(layout.programs)}, about "
            f"{seconds:.0f} s of compiling: vary fewer hyper-parameters that give arrays their shapes, or allow it "
            f"with max_programs=None (--yes on the command line)"
        )


def _expected_bytes(
    task: Task, layout: Plan, count: int, seeds: int, workers: Workers, engine: Engine, *, known: bool
) -> int:
    """What the process will have at its peak; no more members than memory holds.

    What programs need while they run is known once they are compiled. For that the largest are compiled first where
    somebody wants to know, or where a rough guess from shapes comes near to what there is.
    """
    on_host = workers.platform == "cpu"
    resident, available = resident_bytes(), available_bytes() if on_host else None
    base = peak_bytes(task, layout, seeds=seeds, workers=workers.count)

    def total(working: int) -> int:
        own = base + workers.count * working
        check_memory(own - resident, count, available)
        return own

    working = rough_working_bytes(task, layout)
    near = available is not None and base + workers.count * working - resident > available / 2
    if known or near:
        total(0)
        working = engine.working_bytes()
    return total(working)


class _Loop:
    """The loop: advance a segment, record it, let the policy decide, apply its edits."""

    def __init__(
        self,
        engine: Engine,
        record: Recorder,
        epochs: int,
        seeds: int,
        policy: Policy,
        key: PRNGKeyArray,
        start: float,
    ):
        self._engine, self._record, self._policy, self._key = engine, record, policy, key
        self._epochs, self._seeds, self._start = epochs, seeds, start
        self._after_first = start

    def run(self, history: History, on_segment: Callable[[Progress], bool | None] | None) -> History:
        ended = False
        while not ended and len(history.steps) < self._epochs and (history.status == RUNNING).any():
            first = len(history.steps)
            # a policy that may edit sees every segment before the next begins
            until = self._epochs if self._policy is watch else first + 1
            segments = self._engine.segments(first, until, history.status == RUNNING)
            with contextlib.closing(segments):
                for segment in segments:
                    history = extended(history, segment, history.status == RUNNING)
                    self._record.segment(history, self._seeds)
                    history = self._edited(history, len(history.steps) - 1)
                    if on_segment is not None and on_segment(self._progress(history)):
                        ended = True
                        self._engine.stop()
        final = DONE if len(history.steps) == self._epochs else STOPPED
        return history._replace(status=np.where(history.status == RUNNING, final, history.status))

    def _edited(self, history: History, epoch: int) -> History:
        stop = np.asarray(self._policy(history, jax.random.fold_in(self._key, epoch)).stop, np.int64)
        status = history.status.copy()
        status[stop] = np.where(status[stop] == RUNNING, STOPPED, status[stop])
        return history._replace(status=status)

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
            alive=int((history.status == RUNNING).sum()),
            members=self._engine.members,
            objective=history.objective,
            best=float(best),
            seconds=now - self._start,
            seconds_left=None if each is None else each * (self._epochs - done),
        )


def empty_history(members: int, measured: Sequence[str], objective: Objective, seeds: int = 1) -> History:
    """The history of a population before its first segment."""
    curve, steps = np.zeros((0, members)), np.zeros((0, members), np.int64)
    validation = dict.fromkeys(measured, curve)
    return History(curve, validation, steps, np.full(members, RUNNING), objective, seeds)


def extended(history: History, segment: Segment, took_part: np.ndarray) -> History:
    """The history with one more segment."""
    before = history.steps[-1] if len(history.steps) else np.zeros(len(took_part), np.int64)
    finite = np.isfinite(segment.metrics.train_loss) & np.isfinite(segment.metrics.validation_loss)
    status = np.where(took_part & ~finite, DIVERGED, history.status)
    steps = np.where(took_part, segment.steps, before)
    metrics = segment.metrics
    return history._replace(
        train_loss=np.vstack([history.train_loss, metrics.train_loss]),
        validation={
            name: np.vstack([curve, metrics.validation[name]]) for name, curve in history.validation.items()
        },
        steps=np.vstack([history.steps, steps]),
        status=status,
    )


def _winner(
    task: Task, configs: Configs, engine: Engine, history: History, seeds: int, each: int
) -> Best | None:
    member = best_member(history, seeds) if len(history.steps) else None
    if member is None:
        return None
    config_id, seed = divmod(member, seeds)
    params, stats = engine.member(member)
    row = configs.row(config_id)
    own = task.with_optimizer(row.get("optimizer"))
    given = {name: value for name, value in row.items() if name in own.hyperparameters or name == "optimizer"}
    normalizer, unit = task.arrays().fitted(seed // each)
    return Best(
        config_id,
        seed,
        {**own.defaults(), **given},
        params,
        stats,
        normalizer=normalizer,
        problem=own.problem,
        unit=unit,
        classes=task.data.classes,
    )
