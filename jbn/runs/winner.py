"""The winner of a run that has ended, from its folder or its result: what a re-test begins with."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxtyping import PyTree

from jbn import store
from jbn.errors import InputError
from jbn.nn.normalizer import Normalizer
from jbn.runs.models import stored_weights
from jbn.runs.record import WEIGHTS
from jbn.runs.result import Result
from jbn.runs.rounds import Rounds
from jbn.runs.table import ranked
from jbn.search import Space
from jbn.task.data import Data
from jbn.task.task import Task

Run = Result | Rounds | str | os.PathLike[str]


@dataclasses.dataclass(frozen=True)
class Winner:
    """The winner of a run.

    Args:
        config: its hyper-parameters, defaults included.
        space: what it was searched in.
        epochs: how long it was trained.
        params: its parameters.
        stats: its running statistics.
        normalizer: what its features were normalised with.
        inputs: statistics of the features that it was trained with.
    """

    config: dict[str, Any]
    space: Space
    epochs: int
    params: PyTree = dataclasses.field(repr=False)
    stats: PyTree = dataclasses.field(repr=False)
    normalizer: Normalizer = dataclasses.field(repr=False)
    inputs: Normalizer = dataclasses.field(repr=False)


def winner_of(run: Run, task: Task) -> Winner:
    """The winner of a run, for a task with other data.

    Args:
        run: a result, or the folder of a recorded run or of the rounds of a search.
        task: with the model of the run, and data with as many features and classes.

    Raises:
        InputError: no run in the folder, one without a winner or a space, other features, classes or another model.
    """
    if isinstance(run, Result | Rounds):
        return _of_result(run, task)
    return _of_folder(Path(run), task)


def _of_result(run: Result | Rounds, task: Task) -> Winner:
    result = run if isinstance(run, Result) else run.results[run.winning or 0]
    if run.configs.space is None:
        raise _no_space("this result")
    data = result.task.data
    _check_data(data.features, data.classes, data.class_names, task.data)
    _check_model(result.task.model.name, task)
    _check_inputs(result.task.normalize, task)
    best, epochs = run.best(), len(result.history.steps)
    inputs = best.normalizer if task.normalize else result.task.arrays().statistics
    return Winner(best.config, run.configs.space, epochs, best.params, best.stats, best.normalizer, inputs)


def _of_folder(folder: Path, task: Task) -> Winner:
    run = store.read(folder)
    if run.settings.get("space") is None:
        raise _no_space(f"the run in {str(folder)!r}")
    own = _of_best_round(run, folder)
    settings = store.read(own, alone=True).settings
    chosen = settings.get("winner")
    if chosen is None:
        reason = "every configuration diverged" if "winner" in settings else "it has not ended"
        raise InputError(
            f"a retest needs the winner of a run, but that in {str(folder)!r} has none ({reason}); "
            "name a run that has ended well"
        )
    about = settings["task"]
    if "features" in about:
        _check_data(tuple(about["features"]), about["classes"], about["class_names"], task.data)
    _check_model(about["model"], task)
    _check_inputs(about.get("normalize", True), task)
    config = {name: value for name, value in chosen.items() if name not in ("config_id", "seed")}
    weights = stored_weights(own / WEIGHTS, config, task)
    return Winner(config, Space.from_spec(run.settings["space"]), settings["epochs"], **weights)


def _of_best_round(run: store.Record, folder: Path) -> Path:
    """The folder of the run itself, or of the round of a search that the winner is from."""
    if "round" not in run.configurations:
        return folder
    best = ranked(run.configurations, maximize=bool(run.objective.maximize)).iloc[0]
    return store.rounds(folder)[int(best["round"]) - 1]


def _check_data(
    features: tuple[int, ...], classes: int | None, names: Sequence[Any] | None, new: Data
) -> None:
    if features != new.features:
        _other("features", "x".join(map(str, features)), "x".join(map(str, new.features)))
    if classes != new.classes:
        had, has = ("numbers" if n is None else f"{n} classes" for n in (classes, new.classes))
        _other("targets" if None in (classes, new.classes) else "classes", had, has)
    if names is not None and new.class_names is not None and list(names) != list(new.class_names):
        had, has = (", ".join(map(str, own)) for own in (names, new.class_names))
        _other("classes", had, has)


def _check_model(name: str, task: Task) -> None:
    if name != task.model.name:
        _other("model", name, task.model.name)


def _check_inputs(normalized: bool, task: Task) -> None:
    if normalized != task.normalize:
        had, has = ("normalised" if own else "as they are" for own in (normalized, task.normalize))
        _other("inputs", had, has)


def _other(what: str, old: str, new: str) -> None:
    raise InputError(
        f"a retest needs data and a model as the run had them, but got other {what}: {old} in the run, "
        f"{new} now; run a new sweep"
    )


def _no_space(what: str) -> InputError:
    return InputError(
        f"a retest draws from the space of the run, but {what} has none recorded: draw its configurations with "
        "jbn.search"
    )
