"""What a sweep writes while it runs: settings and plan, curves after every segment, the winner at the end."""

import contextlib
import datetime
import importlib.metadata
import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from jbn import store
from jbn.engine.plan import Plan
from jbn.engine.trainer import Timings
from jbn.policies import Event, History
from jbn.runs.result import Best
from jbn.runs.table import standing
from jbn.search import Configs
from jbn.task.optimizer_choice import groups
from jbn.task.task import Task

WEIGHTS = "best.npz"
_VERSIONED = ("jbn", "jax", "jaxlib", "numpy", "optax")


class Recorder:
    """Where a sweep's course goes; this one records nothing."""

    def segment(self, history: History, events: Sequence[Event]) -> None:
        """Called after every segment, with what the policy did after it."""

    def finish(
        self,
        history: History,
        timings: Timings,
        seconds: float,
        winner: Best | None,
        test: Mapping[str, float],
    ) -> None:
        """Called once, at the end."""


class _Folder(Recorder):
    """Records into the store of a run."""

    def __init__(self, folder: Path, own: store.Store, seeds: int, folds: int):
        self._folder, self._store, self._seeds, self._folds = folder, own, seeds, folds

    def segment(self, history: History, events: Sequence[Event]) -> None:
        """Appends the curves' last points and brings the table up to date."""
        index, seeds = len(history.steps) - 1, self._seeds
        took_part = np.flatnonzero(history.took_part(index))
        rows = store.SegmentRows(
            config_id=took_part // seeds,
            seed=took_part % seeds,
            steps=history.steps[index][took_part],
            train_loss=history.train_loss[index][took_part],
            validation={name: curve[index][took_part] for name, curve in history.validation.items()},
        )
        self._store.write_segment(index, rows)
        if events:
            self._store.write_events([_plain(event, seeds) for event in events])
        self._table(history)

    def finish(
        self,
        history: History,
        timings: Timings,
        seconds: float,
        winner: Best | None,
        test: Mapping[str, float],
    ) -> None:
        """Writes the final table, the winner's weights and what it took."""
        self._table(history)
        if winner is not None:
            weights = {
                "params": winner.params,
                "stats": winner.stats,
                "normalizer": winner.normalizer._asdict(),
            }
            store.save_weights(self._folder / WEIGHTS, jax.tree.map(np.asarray, weights))
        chosen = (
            None if winner is None else {"config_id": winner.config_id, "seed": winner.seed, **winner.config}
        )
        self._store.write_settings(
            winner=chosen,
            test=test,
            test_accuracy=test.get("accuracy"),
            segments=len(history.steps),
            seconds=seconds,
            timings=timings._asdict(),
            finished=_now(),
        )

    def _table(self, history: History) -> None:
        now = standing(history, self._seeds, self._folds)
        ids = np.arange(len(now.status))
        self._store.write_table(ids, now.status, now.steps, now.columns())


@contextlib.contextmanager
def recorder(
    out: str | Path | None,
    task: Task,
    configs: Configs,
    layout: Plan,
    *,
    epochs: int,
    seeds: int,
    folds: int = 1,
    key: PRNGKeyArray,
    settings: Mapping[str, Any] | None,
) -> Iterator[Recorder]:
    """A recorder into the folder `out`, made now; one that records nothing where there is no folder."""
    if out is None:
        yield Recorder()
        return
    about = {
        "task": {
            "model": task.model.name,
            "data": repr(task.data),
            "features": list(task.data.features),
            "classes": task.data.classes,
            "class_names": None if task.data.class_names is None else list(task.data.class_names),
            "loss": task.problem.loss.name,
            **_optimizers(task, configs),
        },
        "objective": task.judged_by._asdict(),
        "epochs": epochs,
        "folds": folds,
        "key": np.asarray(jax.random.key_data(key)).tolist(),
        "space": None if configs.space is None else configs.space.to_spec(),
        "plan": layout.describe(),
        "versions": {name: importlib.metadata.version(name) for name in _VERSIONED},
        "device": {"kind": jax.local_devices()[0].device_kind, "machine": platform.machine()},
        "started": _now(),
        **(settings or {}),
    }
    with store.create(
        out, settings=about, configs=configs, seeds=seeds, measured=task.problem.measured
    ) as own:
        yield _Folder(Path(out), own, seeds, folds)


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
