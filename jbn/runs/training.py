"""What every sweep does once it is laid out: train, find the winner, record, return."""

import dataclasses
import time
from collections.abc import Callable, Collection

import jax

from jbn.engine.engine import Engine
from jbn.engine.forecast import Forecast
from jbn.policies import Event, History, Policy, watch
from jbn.runs.kept import Snapshot
from jbn.runs.loop import Loop, Progress
from jbn.runs.models import all_models, best_model
from jbn.runs.record import Recorder
from jbn.runs.result import Result
from jbn.runs.setup import Setup

_POLICY = 1 << 20  # far from any seed index: the policy's stream is none of a member's


@dataclasses.dataclass(frozen=True, eq=False)
class Beginning:
    """How far a sweep is when training begins.

    Args:
        history: what was seen.
        start: when it began, of `time.perf_counter`, pauses left out.
        events: what the policy did.
    """

    history: History
    start: float
    events: tuple[Event, ...] = ()


def trained(
    own: Setup,
    engine: Engine,
    record: Recorder,
    beginning: Beginning,
    *,
    policy: Policy | None,
    on_segment: Callable[[Progress], bool | None] | None,
    keep_models: bool,
    snapshots: Collection[int] = (),
    expected: Forecast | None = None,
) -> Result:
    """Goes on from where it is to the end of the sweep."""
    key = jax.random.fold_in(own.key, _POLICY)
    kept: dict[int, Snapshot] = {}

    def keep(history: History) -> None:
        models = all_models(own.task, own.columns, engine, history, own.each)
        kept[len(history.steps)] = Snapshot(history, models)

    loop = Loop(
        engine,
        record,
        own.epochs,
        policy or watch,
        key,
        beginning.start,
        pauses=snapshots,
        on_pause=keep,
    )
    outcome = loop.run(beginning.history, on_segment)
    history, interrupted = outcome.history, outcome.interrupted
    events = (*beginning.events, *outcome.events)
    winner = best_model(own.task, own.columns, engine, history, own.each)
    test = {} if winner is None else winner.evaluate(*own.task.data.test)
    models = all_models(own.task, own.columns, engine, history, own.each) if keep_models else ()
    seconds = time.perf_counter() - beginning.start
    record.finish(
        history,
        engine.timings,
        seconds,
        winner,
        test,
        run_seconds=engine.run_seconds,
        interrupted=interrupted,
    )
    return Result(
        own.given,
        own.shown,
        history,
        own.seeds,
        engine.timings,
        seconds,
        interrupted,
        winner,
        test,
        engine.run_seconds,
        expected,
        own.folds,
        events,
        models,
        kept,
    )
