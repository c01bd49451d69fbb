"""What a sweep writes while it runs: settings and plan, curves after every segment, the winner at the end."""

import contextlib
import datetime
import logging
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jbn import store
from jbn.engine.engine import Engine
from jbn.engine.memory import peak_resident_bytes
from jbn.engine.trainer import Timings
from jbn.errors import InputError
from jbn.policies import Event, History
from jbn.runs.best import Best
from jbn.runs.pace import Pace
from jbn.runs.setup import Setup
from jbn.runs.table import Standing, standing
from jbn.runs.versions import versions
from jbn.search import Configs
from jbn.task.optimizer_choice import groups
from jbn.task.task import Task

WEIGHTS = "best.npz"
_TOGETHER = 0.1  # seconds: segments that follow one another within them are written at once
_TABLE_SHARE = 0.001  # of a run's time that may go into a table in which only numbers of the curves are new
_log = logging.getLogger("jbn")


class Recorder:
    """Where a sweep's course goes; this one records nothing."""

    def table(self, history: History) -> None:
        """Brings the table of configurations up to date."""

    def due(self, engine: Engine) -> bool:
        """Whether it is time for a checkpoint."""
        return False

    def checkpoint(self, engine: Engine, segments: int) -> None:
        """Called between two segments, with how many were trained."""

    def segment(self, history: History, events: Sequence[Event], spreads: Mapping[str, np.ndarray]) -> None:
        """Called after every segment, with what the policy did after it and the spreads of running statistics."""

    def finish(
        self,
        history: History,
        timings: Timings,
        seconds: float,
        winner: Best | None,
        test: Mapping[str, float],
        *,
        run_seconds: float,
        interrupted: bool,
    ) -> None:
        """Called once, at the end."""


class _Folder(Recorder):
    """Records into the store of a run."""

    def __init__(self, folder: Path, own: store.Store, setup: Setup, start: float):
        self._folder, self._store, self._start = folder, own, start
        self._seeds, self._folds, self._task = setup.seeds, setup.folds, setup.task
        self._pace = Pace(time.perf_counter())
        self._due = self._table_due = 0.0
        self._waiting: list[tuple[int, store.SegmentRows, float]] = []
        self._written: Standing | None = None

    def due(self, engine: Engine) -> bool:
        """Where writing one is a small share of the time since the last."""
        return self._pace.due(time.perf_counter(), lambda: engine.state_bytes)

    def checkpoint(self, engine: Engine, segments: int) -> None:
        """Writes the state of all members; where the disk refuses, the run goes on without."""
        self.write_waiting()
        begun = time.perf_counter()
        try:
            self._store.write_checkpoint(store.checkpoints.write(self._folder, segments, engine.snapshot()))
        except InputError as error:
            _log.warning("%s; the run goes on without this checkpoint", error)
        self._pace.wrote(begun, time.perf_counter())

    def segment(self, history: History, events: Sequence[Event], spreads: Mapping[str, np.ndarray]) -> None:
        """Appends the last points of the curves; the table is brought up to date after events, else seldom."""
        index, seeds = len(history.steps) - 1, self._seeds
        took_part = np.flatnonzero(history.took_part(index))
        rows = store.SegmentRows(
            config_id=took_part // seeds,
            seed=took_part % seeds,
            steps=history.steps[index][took_part],
            train_loss=history.train_loss[index][took_part],
            validation={name: curve[index][took_part] for name, curve in history.validation.items()},
            spreads={name: values[took_part] for name, values in spreads.items()},
        )
        now = time.perf_counter()
        self._waiting.append((index, rows, now - self._start))
        if not events and now < min(self._due, self._table_due):
            return
        with self._store.together():
            self.write_waiting()
            if events:
                self._store.write_events([_plain(event, seeds) for event in events])
            if events or now >= self._table_due:
                self.table(history)

    def write_waiting(self) -> None:
        """Writes the points of the curves that are not on the disk yet."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        with self._store.together():
            for index, rows, seconds in waiting:
                self._store.write_segment(index, rows, seconds=seconds)
        self._due = time.perf_counter() + _TOGETHER

    def finish(
        self,
        history: History,
        timings: Timings,
        seconds: float,
        winner: Best | None,
        test: Mapping[str, float],
        *,
        run_seconds: float,
        interrupted: bool,
    ) -> None:
        """Writes the final table, the winner's weights and what it took."""
        self.write_waiting()
        self.table(history)
        if winner is not None:
            weights = {
                "params": winner.params,
                "stats": winner.stats,
                "normalizer": winner.normalizer._asdict(),
            }
            if not self._task.normalize:  # else these tell what the inputs were like
                weights["inputs"] = self._task.arrays().statistics._asdict()
            store.save_weights(self._folder / WEIGHTS, jax.tree.map(np.asarray, weights))
        chosen = (
            None if winner is None else {"config_id": winner.config_id, "seed": winner.seed, **winner.config}
        )
        self._store.write_settings(
            winner=chosen,
            test=test,
            test_accuracy=test.get("accuracy"),
            segments=len(history.steps),
            interrupted=bool(interrupted),
            seconds=seconds,
            run_seconds=run_seconds,
            peak_bytes=peak_resident_bytes(),
            timings=timings._asdict(),
            finished=_now(),
        )

    def table(self, history: History) -> None:
        """Writes status, steps and metrics of the configurations in which they are other than written."""
        begun = time.perf_counter()
        now = standing(history, self._seeds, self._folds)
        ids = np.flatnonzero(now.changed(self._written))
        columns = {name: values[ids] for name, values in now.columns().items()}
        self._store.write_table(ids, now.status[ids], now.steps[ids], columns)
        self._written = now
        ended = time.perf_counter()
        self._table_due = ended + (ended - begun) / _TABLE_SHARE


@contextlib.contextmanager
def recorder(
    out: str | Path | None, own: Setup, *, start: float, settings: Mapping[str, Any] | None
) -> Iterator[Recorder]:
    """A recorder into the folder `out`, made now; one that records nothing where there is no folder.

    Args:
        out: where the run goes.
        own: the sweep.
        start: when it began, of `time.perf_counter`.
        settings: more to record.
    """
    if out is None:
        yield Recorder()
        return
    about = {
        "task": about_task(own.task, own.shown),
        "objective": own.task.judged_by._asdict(),
        "epochs": own.epochs,
        "schedule_epochs": own.epochs,
        "folds": own.folds,
        "key": np.asarray(jax.random.key_data(own.key)).tolist(),
        "key_kind": str(jax.random.key_impl(own.key)),
        "space": None if own.shown.space is None else own.shown.space.to_spec(),
        "plan": own.layout.describe(),
        "versions": versions(),
        "device": {"kind": jax.local_devices()[0].device_kind, "machine": platform.machine()},
        "started": _now(),
        **(settings or {}),
    }
    measured = own.task.measured
    database = store.create(out, settings=about, configs=own.shown, seeds=own.seeds, measured=measured)
    with _writing(Path(out), database, own, start) as record:
        yield record


@contextlib.contextmanager
def recorder_again(
    out: str | Path,
    own: Setup,
    *,
    segments: int,
    start: float,
    settings: Mapping[str, Any],
    lock: store.Lock,
) -> Iterator[Recorder]:
    """A recorder that goes on in a folder after so many segments; what came later is forgotten."""
    database = store.reopen(out, segments=segments, lock=lock)
    with _writing(Path(out), database, own, start) as record:
        database.write_settings(**settings)
        yield record


@contextlib.contextmanager
def _writing(folder: Path, database: store.Store, own: Setup, start: float) -> Iterator[_Folder]:
    """A recorder into a database, in which all is that it was told in the end, also where an error is why."""
    with database:
        record = _Folder(folder, database, own, start)
        try:
            yield record
        finally:
            record.write_waiting()


def about_task(task: Task, configs: Configs) -> dict[str, Any]:
    """What a task is, as plain values: enough to tell it from another."""
    return {
        "model": task.model.name,
        "data": repr(task.data),
        "data_checksum": task.data.checksum,
        "features": list(task.data.features),
        "classes": task.data.classes,
        "class_names": None if task.data.class_names is None else list(task.data.class_names),
        "loss": task.problem.loss.name,
        "normalize": task.normalize,
        "test_curves": task.test_curves,
        "steps_per_epoch": task.steps_per_epoch,
        **_optimizers(task, configs),
    }


def _plain(event: Event, seeds: int) -> store.EventRow:
    """An event with configurations and seeds in the place of members."""
    detail: dict[str, Any] = dict(event.values)
    if event.source is not None:
        detail = {"config_id": event.source // seeds, "seed": event.source % seeds}
    return store.EventRow(event.segment, event.member // seeds, event.member % seeds, event.kind, detail)


def _optimizers(task: Task, configs: Configs) -> dict[str, Any]:
    """The optimiser and all defaults; where configurations choose, those of every one of them apart."""
    if "optimizer" not in configs:
        return {"optimizer": task.problem.optimizer.name, "defaults": task.defaults()}
    chosen = [group.optimizer for group in groups(task.optimizers, configs)]
    defaults = {name: task.with_optimizer(name).defaults() for name in chosen}
    return {"optimizer": chosen, "defaults": defaults}


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
