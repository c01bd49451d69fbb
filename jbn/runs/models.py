"""Members of a population as ordinary single models."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jbn import store
from jbn.engine.engine import Engine
from jbn.errors import InputError
from jbn.nn.normalizer import Normalizer
from jbn.policies import History, rank
from jbn.runs.result import Best
from jbn.runs.table import standing
from jbn.search import Configs
from jbn.task.member import shapes_of
from jbn.task.objectives import last
from jbn.task.task import Task


def best_model(task: Task, configs: Configs, engine: Engine, history: History, each: int) -> Best | None:
    """The best member; None if all diverged. Of a configuration's members, `each` are of one fold."""
    member = best_member(history, history.seeds) if len(history.steps) else None
    return None if member is None else model_of(task, configs, engine, history, member, each)


def best_member(history: History, seeds: int) -> int | None:
    """The best seed index of the best configuration, as a member; None if all diverged."""
    now = standing(history, seeds)
    usable = now.status != "diverged"
    if not usable.any():
        return None
    config = int(rank(now.scores, now.validation["loss"], usable)[0])
    own = slice(config * seeds, (config + 1) * seeds)
    losses = last(history.validation_loss[:, own])
    return config * seeds + int(rank(history.scores[own], losses, np.ones(seeds, bool))[0])


def all_models(
    task: Task, configs: Configs, engine: Engine, history: History, each: int
) -> tuple[Best | None, ...]:
    """Every member, None where it diverged; nothing where none was trained."""
    if not len(history.steps):
        return ()
    return tuple(
        None if gone else model_of(task, configs, engine, history, member, each)
        for member, gone in enumerate(history.diverged.tolist())
    )


def model_of(task: Task, configs: Configs, engine: Engine, history: History, member: int, each: int) -> Best:
    """One member, with the hyper-parameters that it has now."""
    config_id, seed = divmod(member, history.seeds)
    params, stats = engine.member(member)
    now = {name: float(history.configs[name][member]) for name in history.changeable}
    row = {**configs.row(config_id), **{name: value for name, value in now.items() if not math.isnan(value)}}
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
        features=task.data.features,
    )


def stored_weights(path: Path, config: Mapping[str, Any], task: Task) -> dict[str, Any]:
    """Parameters and running statistics from a file, in the structure that the model gives them.

    So are `normalizer`, and `inputs`, the statistics of the features: the same where features are normalised.
    """
    arrays = store.load_weights(path)
    normalizer = Normalizer(arrays["normalizer/mean"], arrays["normalizer/factor"])
    there = "inputs/mean" in arrays
    inputs = Normalizer(arrays["inputs/mean"], arrays["inputs/factor"]) if there else normalizer
    features = math.prod(task.data.features)
    if len(normalizer.mean) != features:
        _other_weights("features", f"{len(normalizer.mean)} features", f"{features}")
    params, stats = shapes_of(
        task.with_optimizer(config.get("optimizer")).problem, config, task.data.features
    )

    def fill(place: Any, spec: jax.ShapeDtypeStruct) -> np.ndarray:
        name = jax.tree_util.keystr(place, simple=True, separator="/")
        shape = arrays[name].shape if name in arrays else None
        if shape != spec.shape:
            _other_weights("classes or another model", f"{name} of shape {shape}", f"{spec.shape}")
        return arrays[name]

    tree = jax.tree_util.tree_map_with_path(fill, {"params": params, "stats": stats})
    return {**tree, "normalizer": normalizer, "inputs": inputs}


def _other_weights(what: str, old: str, new: str) -> None:
    raise InputError(
        f"weights need data and a model as the run had them, but got other {what}: {old} in the run, {new} now"
    )
