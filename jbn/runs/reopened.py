"""The result of a recorded run that has ended, without training it again."""

import contextlib
from pathlib import Path
from typing import Any

import numpy as np

from jbn import store
from jbn.engine.engine import Engine
from jbn.engine.trainer import Timings
from jbn.engine.workers import Workers
from jbn.errors import InputError
from jbn.policies import DONE, STOPPED, History
from jbn.runs.best import Best
from jbn.runs.loop import empty_history
from jbn.runs.models import stored_weights
from jbn.runs.recall import recalled, recalled_events
from jbn.runs.record import WEIGHTS
from jbn.runs.result import Result
from jbn.runs.resume import setup_of
from jbn.runs.setup import Setup
from jbn.task.task import Task


def ended(folder: str | Path) -> bool:
    """Whether there is a run in a folder that came to its end."""
    if not store.exists(folder):
        return False
    record = store.read(folder, alone=True)
    left = record.configurations["status"].isin(["running"]).any()
    return "winner" in record.settings and not left and not record.settings.get("interrupted", False)


def reopened(folder: str | Path, task: Task) -> Result:
    """The result of a run that has ended, from its folder.

    Args:
        folder: of the run.
        task: the one that it trained.

    Raises:
        InputError: no run in the folder, one that has not ended, or another task.
    """
    record = store.read(folder, alone=True)
    said = record.settings
    if not ended(folder):
        raise InputError(f"the run in {str(folder)!r} has not ended: go on with it first")
    own = setup_of(folder, record, task, epochs=None)
    history = _history(record, own, said["segments"])
    winner = _winner(Path(folder), said["winner"], own)
    timings, seconds = Timings(**said["timings"]), said["seconds"]
    events = recalled_events(record, own.seeds, said["segments"])
    return Result(
        task,
        own.shown,
        history,
        own.seeds,
        timings,
        seconds,
        interrupted=False,
        winner=winner,
        test=said["test"],
        folds=own.folds,
        events=events,
    )


def _history(record: store.Record, own: Setup, segments: int) -> History:
    with contextlib.closing(Workers(1)) as crew:
        engine = Engine(own.task, own.columns, own.layout, key=own.key, seeds=own.seeds, workers=crew)
        history = recalled(record, empty_history(own.task, own.shown, engine, own.seeds), segments)
    final = DONE if segments == own.epochs else STOPPED
    return history._replace(status=np.where(history.running, final, history.status))


def _winner(folder: Path, chosen: dict[str, Any] | None, own: Setup) -> Best | None:
    if chosen is None:
        return None
    config = {name: value for name, value in chosen.items() if name not in ("config_id", "seed")}
    weights = stored_weights(folder / WEIGHTS, config, own.task)
    normalizer, unit = own.task.arrays().fitted(chosen["seed"] // own.each)
    return Best(
        chosen["config_id"],
        chosen["seed"],
        config,
        weights["params"],
        weights["stats"],
        normalizer=normalizer,
        problem=own.task.with_optimizer(config.get("optimizer")).problem,
        unit=unit,
        classes=own.task.data.classes,
        features=own.task.data.features,
    )
