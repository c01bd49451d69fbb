"""Going on with a recorded run, after it was ended before its time, or for more epochs."""

import contextlib
import dataclasses
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jbn import store
from jbn.engine.engine import Engine
from jbn.engine.plan import plan_of
from jbn.engine.workers import Workers
from jbn.errors import InputError
from jbn.policies import Policy
from jbn.runs.loop import Progress, empty_history
from jbn.runs.recall import recalled, recalled_events
from jbn.runs.record import about_task, recorder_again
from jbn.runs.result import Result
from jbn.runs.setup import Setup
from jbn.runs.sweep import check_policy, checked, expected_bytes
from jbn.runs.training import Beginning, trained
from jbn.runs.versions import versions
from jbn.search import Configs, Space
from jbn.task.data import Blocks
from jbn.task.data.folding import folded
from jbn.task.task import Task

_BEFORE = {"normalize": True, "test_curves": False, "steps_per_epoch": None}  # what is not recorded was so
_log = logging.getLogger("jbn")


def resume(
    folder: str | Path,
    task: Task,
    *,
    epochs: int | None = None,
    policy: Policy | None = None,
    workers: int | None = None,
    on_segment: Callable[[Progress], bool | None] | None = None,
    keep_models: bool = False,
) -> Result:
    """Goes on with a run from its last good checkpoint, as if it had never ended.

    Configurations, key, plan, seeds and folds are those that were recorded: on the same machine the result is that
    of a run which was never interrupted, bit for bit. Without a checkpoint, or where both are damaged, it begins
    anew. A run that has ended may go on for more epochs; schedules still end where they did.

    Args:
        folder: of the run, as it was given to `jbn.sweep` as `out`.
        task: the same as before; what of it was recorded is compared.
        epochs: passes over the training part in all; default: as many as were asked for.
        policy: the same as before; it is not recorded.
        workers: threads on a CPU; default: one a core.
        on_segment: as for `jbn.sweep`.
        keep_models: as for `jbn.sweep`.

    Returns:
        The result, with the whole history.

    Raises:
        InputError: no run in the folder, one that another process writes to, of an older format or damaged; another
            task; a run that has ended, unless more epochs are asked for; or as for `jbn.sweep`. Nothing is written
            then.

    >>> import jax, jbn, tempfile
    >>> out = tempfile.mkdtemp() + "/run"
    >>> task = jbn.Task(model=jbn.mlp(layers=1, hidden_units=8), data=jbn.data.digits())
    >>> short = jbn.sweep(task, {"learning_rate": [0.01, 0.1]}, epochs=1, key=jax.random.key(0), out=out)
    >>> long = jbn.resume(out, task, epochs=2)
    >>> long.history.train_loss.shape, bool((long.history.train_loss[0] == short.history.train_loss[0]).all())
    ((2, 2), True)
    """
    with contextlib.ExitStack() as stack:
        lock = stack.enter_context(_held(folder))
        record = store.read(folder, alone=True)
        crew = stack.enter_context(contextlib.closing(Workers(workers)))
        _check_unfinished(folder, record, epochs)
        own = setup_of(folder, record, task, epochs)
        engine = Engine(
            own.task, own.columns, own.layout, key=own.key, seeds=own.seeds, workers=crew, spreads=True
        )
        empty = empty_history(own.task, own.shown, engine, own.seeds)
        check_policy(policy, empty)
        expected_bytes(own.task, own.layout, own.columns.count, own.seeds, crew, engine, known=False)
        segments = _restored(folder, record, engine)
        history = recalled(record, empty, segments)
        engine.edit(np.zeros((0, 2), np.int64), _changed(empty.configs, history.configs))
        start = time.perf_counter() - _seconds(record, segments)
        said = {"epochs": own.epochs, "resumed": [*record.settings.get("resumed", ()), segments]}
        writer = stack.enter_context(
            recorder_again(folder, own, segments=segments, start=start, settings=said, lock=lock)
        )
        writer.table(history)
        return trained(
            own,
            engine,
            writer,
            Beginning(history, start, recalled_events(record, own.seeds, segments)),
            policy=policy,
            on_segment=on_segment,
            keep_models=keep_models,
        )


@contextlib.contextmanager
def _held(folder: str | Path) -> Iterator[store.Lock]:
    """The lock of a run's folder."""
    if not store.exists(folder):
        store.read(folder)  # says what is there
        raise InputError(
            f"{str(folder)!r} holds the rounds of a search: go on with jbn.coarse_to_fine(..., resume=True)"
        )
    lock = store.Lock(folder)
    try:
        yield lock
    finally:
        lock.release()


def setup_of(folder: str | Path, record: store.Record, task: Task, epochs: int | None) -> Setup:
    """The run as it was laid out."""
    said = record.settings
    wanted = said["epochs"] if epochs is None else epochs
    if isinstance(task.data.train, Blocks) and task.data.train.once:
        raise InputError(
            f"a run goes on only with data that can be read again, but {task.data.name!r} comes from a single "
            "iterator; give a factory(epoch, seed)"
        )
    space = None if said["space"] is None else Space.from_spec(said["space"])
    given = Configs(configurations(record), space=space)
    folds = said["folds"]
    whole = task if folds == 1 else dataclasses.replace(task, data=folded(task.data, folds))
    shown, columns = checked(whole, given, wanted, said["seeds"] // folds)
    settled = whole.settled(columns, epochs=said["schedule_epochs"])
    before = _with_unrecorded(_BEFORE | said["task"], settled)
    _check_same(folder, before, about_task(settled, shown))
    _tell_versions(said["versions"])
    data = np.array(said["key"], np.uint32)
    key = jax.random.wrap_key_data(jax.numpy.asarray(data), impl=said["key_kind"])
    return Setup(task, settled, shown, columns, plan_of(said["plan"]), wanted, key, said["seeds"], folds)


def configurations(record: store.Record) -> dict[str, np.ndarray]:
    """Hyper-parameters of all configurations, with tuples where JSON has lists."""
    columns = {name: record.configurations[name].to_numpy() for name in record.hypers}
    for name, own in columns.items():
        if own.dtype == object:
            columns[name] = np.empty(len(own), object)
            for row, value in enumerate(own):
                columns[name][row] = tuple(value) if isinstance(value, list) else value
    return columns


def _check_unfinished(folder: str | Path, record: store.Record, epochs: int | None) -> None:
    if "schedule_epochs" not in record.settings:
        raise InputError(
            f"the run in {str(folder)!r} was begun by an older jbn and can only be read; begin a new run"
        )
    epochs = record.settings["epochs"] if epochs is None else epochs
    done = 1 + int(record.curves["segment"].max()) if len(record.curves) else 0
    if epochs < done:
        raise InputError(
            f"epochs must be at least {done}, which the run in {str(folder)!r} has, got {epochs}"
        )
    if record.settings.get("finished") and done == epochs:
        raise InputError(
            f"the run in {str(folder)!r} has ended after its {done} epochs; give more to go on (--epochs)"
        )


def _with_unrecorded(about: Mapping[str, Any], task: Task) -> dict[str, Any]:
    """What is known of a task, with the hyper-parameters that its model did not have then."""
    newer = {own.name: own.unrecorded for own in task.model.hyperparameters if own.unrecorded is not None}
    defaults = about["defaults"]
    if isinstance(about["optimizer"], str):
        return {**about, "defaults": newer | defaults}
    return {**about, "defaults": {name: newer | own for name, own in defaults.items()}}


def _check_same(folder: str | Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    plain = json.loads(json.dumps(now, default=str))
    for name, value in json.loads(json.dumps(before, default=str)).items():
        if plain.get(name) != value:
            raise InputError(
                f"the run in {str(folder)!r} must go on with the task it began with, but its "
                f"{name.replace('_', ' ')} was {value!r} and is {plain.get(name)!r} now"
            )


def _tell_versions(before: Mapping[str, str]) -> None:
    other = {name: (old, versions().get(name)) for name, old in before.items() if versions().get(name) != old}
    for name, (old, new) in other.items():
        _log.warning("the run was begun with %s %s, this is %s: its last digits may differ", name, old, new)


def _restored(folder: str | Path, record: store.Record, engine: Engine) -> int:
    """Gives the engine the state of the last good checkpoint; how many segments it had."""
    for checkpoint in reversed(record.checkpoints):
        try:
            store.checkpoints.check(folder, checkpoint)
            engine.restore(store.checkpoints.read(folder, checkpoint))
        except (InputError, ValueError) as error:
            _log.warning("%s; going on from an earlier one", error)
        else:
            return checkpoint.segment
    return 0


def _changed(before: Mapping[str, np.ndarray], now: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What a policy has set, NaN where it has not."""
    found = {}
    for name, values in now.items():
        if values.dtype.kind == "f":
            own = np.where(values == before[name], np.nan, values)
            if not np.isnan(own).all():
                found[name] = own
    return found


def _seconds(record: store.Record, segments: int) -> float:
    """How long the run had taken by then."""
    own = record.segments.loc[record.segments["segment"] < segments, "seconds"]
    return float(own.max()) if len(own) else 0.0
