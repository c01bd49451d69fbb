"""Caviar: train many configurations at once and keep the best."""

import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jaxtyping import PRNGKeyArray

from jbn import store
from jbn.engine.cost import compile_seconds, rates
from jbn.engine.engine import Engine
from jbn.engine.forecast import Forecast, expected, forecast
from jbn.engine.memory import (
    available_bytes,
    check_memory,
    peak_bytes,
    resident_bytes,
    rough_working_bytes,
)
from jbn.engine.plan import MANY_PROGRAMS, Plan, plan
from jbn.engine.tune import tune
from jbn.engine.workers import Workers
from jbn.errors import InputError
from jbn.policies import History, Policy, expected_epochs
from jbn.runs.loop import Progress, empty_history
from jbn.runs.record import recorder
from jbn.runs.result import Result
from jbn.runs.setup import Setup
from jbn.runs.training import Beginning, trained
from jbn.search import Configs
from jbn.task.data import Blocks
from jbn.task.data.folding import folded
from jbn.task.optimizer_choice import with_defaults, without_ignored
from jbn.task.task import Task

_log = logging.getLogger("jbn")


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
    keep_models: bool = False,
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
        epochs: passes over the training part, at least 1, or what `steps_per_epoch` of the task makes of them. A
            segment is an epoch.
        key: a JAX key.
        seeds: train every configuration with so many seed indices; the table has the means of their metrics and
            the standard errors of the means. No program is compiled for it: seeds are more members.
        folds: cross-validate with so many folds of training and validation part, each normalised by its own
            training rows, all in the same programs: the table has the means over the folds. The winner is the model
            of one fold.
        policy: `policy(history, key) -> edits`, called after every segment; by default it only watches. One with a
            method `check(history)` is asked before the first segment: it may raise, or say a sentence.
        out: a folder to record the sweep in; it must not hold one yet.
        workers: threads on a CPU; default: one a core.
        on_plan: called once, before training, with what the plan is expected to cost. The programs that need most
            memory are compiled before.
        on_segment: called after every segment; where it returns True no other segment begins, and the sweep ends
            after those that have begun: where no policy decides between segments, parts of a sweep run ahead of
            it, by a second or by one segment, whichever is longer, and by 16 segments at most.
        tuned: time candidates for tile and chunk capacity first; the choice is recorded with the run.
        max_programs: a space that needs more programs is refused, since each is compiled for seconds; None for
            no limit.
        settings: more to record, values that JSON knows.
        keep_models: return the model of every member that did not diverge, not of the winner alone.

    Returns:
        The result: `.table()`, `.best()`, `.history`.

    Raises:
        InputError: an unknown hyper-parameter, a value that is not allowed, fewer than 1 epoch or configuration, a
            folder that already holds a sweep, more programs than `max_programs`, more than fits into the
            memory. Nothing is written then.

    >>> import jax, jbn
    >>> task = jbn.Task(model=jbn.mlp(layers=1, hidden_units=8), data=jbn.data.digits())
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
    shown, columns = checked(task, configs, epochs, seeds)
    task = task.settled(columns, epochs=epochs)
    seeds = seeds * folds
    start = time.perf_counter()
    with contextlib.ExitStack() as stack:
        crew = stack.enter_context(contextlib.closing(Workers(workers)))
        average = expected_epochs(policy, epochs)
        layout = plan(task, columns, platform=crew.platform, epochs=average, seeds=seeds)
        check_programs(task, layout, max_programs, crew)
        layout, trials = tune(task, columns, layout, workers=crew) if tuned else (layout, ())
        engine = Engine(task, columns, layout, key=key, seeds=seeds, workers=crew, spreads=out is not None)
        peak = expected_bytes(task, layout, columns.count, seeds, crew, engine, known=on_plan is not None)
        forecasted = None
        if on_plan is not None:
            forecasted = forecast(task, columns, layout, workers=crew, epochs=average, seeds=seeds, peak=peak)
            on_plan(forecasted)
        own = Setup(given, task, shown, columns, layout, epochs, key, seeds, folds)
        empty = empty_history(task, shown, engine, seeds)
        check_policy(policy, empty)
        more = dict(settings or {})
        if tuned:
            more["tuning"] = [trial._asdict() for trial in trials]
        if out is not None:
            cost = expected(task, layout, workers=crew, epochs=average, seeds=seeds, peak=peak)
            more["expected"] = cost._asdict()
        record = stack.enter_context(recorder(out, own, start=start, settings=more))
        return trained(
            own,
            engine,
            record,
            Beginning(empty, start),
            policy=policy,
            on_segment=on_segment,
            keep_models=keep_models,
            expected=forecasted,
        )


def checked(task: Task, configs: Mapping[str, Any], epochs: int, seeds: int) -> tuple[Configs, Configs]:
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


def check_programs(task: Task, layout: Plan, max_programs: int | None, workers: Workers) -> None:
    """No more programs than anybody would wait for."""
    if max_programs is not None and len(layout.programs) > max_programs:
        seconds = compile_seconds(task, layout.programs, rates(workers.platform))
        raise InputError(
            f"a sweep may have at most {max_programs} programs, but this space needs {len(layout.programs)}, about "
            f"{seconds:.0f} s of compiling: vary fewer hyper-parameters that give arrays their shapes, or allow it "
            f"with max_programs=None (--yes on the command line)"
        )


def expected_bytes(
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


def check_policy(policy: Policy | None, empty: History) -> None:
    """What a policy has to say before the first segment, if it has: it may refuse, or tell how it goes about it."""
    check = getattr(policy, "check", None)
    if check is not None and (words := check(empty)) is not None:
        _log.warning("%s", words)
