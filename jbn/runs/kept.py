"""The models that a sweep has kept, all at once: measured by one program a kind, stacked, or as they were before."""

import dataclasses
import functools
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num, PyTree

from jbn.errors import InputError
from jbn.policies import History
from jbn.runs.best import Best, Constants
from jbn.runs.result import Result
from jbn.runs.table import best_member
from jbn.task.member import Problem, Rows, evaluate


class Stacked(NamedTuple):
    """Several models of equal shapes.

    Args:
        params: their parameters, every leaf `[models, ...]`.
        stats: their running statistics, every leaf `[models, ...]`.
        config_id: whose each is, `[models]`.
        seed: the seed index of each, `[models]`.
    """

    params: PyTree
    stats: PyTree
    config_id: Int[np.ndarray, " models"]
    seed: Int[np.ndarray, " models"]


class Snapshot(NamedTuple):
    """All members after some epochs.

    Args:
        history: so far, before what a policy decides then.
        models: every member as a single model, None where it diverged.
    """

    history: History
    models: tuple[Best | None, ...]


def at(result: Result, epochs: int) -> Result:
    """The sweep as it was after so many epochs; see `Result.at`."""
    if epochs not in result.snapshots:
        kept = ", ".join(map(str, result.snapshots)) or "none"
        raise InputError(
            f"this needs the models after {epochs} epochs, but the sweep has kept {kept}: give it "
            f"snapshots=({epochs},)"
        )
    history, models = result.snapshots[epochs]
    member = best_member(history, result.seeds)
    winner = None if member is None else models[member]
    test = {} if winner is None else winner.evaluate(*result.task.data.test)
    return dataclasses.replace(result, history=history, models=models, winner=winner, test=test, snapshots={})


def evaluated(
    result: Result, x: Num[Array | np.ndarray, "rows *features"], y: Num[Array | np.ndarray, "rows *numbers"]
) -> dict[str, Float[np.ndarray, "configurations seeds"]]:
    """The loss and every metric of every member; see `Result.evaluate`."""
    found = {name: np.full(len(_kept(result)), np.nan) for name in result.task.problem.measured}
    of_fold: dict[int, Rows] = {}
    for (fold, _), models in _alike(result).items():
        if fold not in of_fold:
            of_fold[fold] = models[0].rows(x, y)
        places = [model.config_id * result.seeds + model.seed for model in models]
        for name, values in _measured(models, of_fold[fold]).items():
            found[name][places] = values
    return {name: values.reshape(-1, result.seeds) for name, values in found.items()}


def stacked(result: Result, config_id: int | None) -> Stacked:
    """Parameters and running statistics on a leading axis; see `Result.stacked`."""
    if config_id is not None and not 0 <= config_id < result.configs.count:
        raise InputError(
            f"a configuration must be one of {result.configs.count}, counted from 0, got config_id {config_id}"
        )
    models = [one for one in _kept(result) if one is not None and config_id in (None, one.config_id)]
    if not models:
        which = "the sweep" if config_id is None else f"configuration {config_id}"
        raise InputError(
            f"stacking needs a model that did not diverge, but {which} has none: take another configuration, or "
            "lower the learning rates"
        )
    for other in models[1:]:
        _check_shapes(models[0], other)
    whose = (np.array([getattr(one, name) for one in models]) for name in ("config_id", "seed"))
    return Stacked(*jax.tree.map(jnp.asarray, _on_one_axis(models)), *whose)


def _kept(result: Result) -> tuple[Best | None, ...]:
    if not result.models:
        raise InputError(
            "this needs the models of all members, but the sweep has kept none: give it keep_models=True"
        )
    return result.models


def _alike(result: Result) -> dict[tuple[int, Hashable], list[Best]]:
    """The models that are there, by fold, which has a normaliser of its own, and how they are built."""
    groups: dict[tuple[int, Hashable], list[Best]] = {}
    for model in result.models:
        if model is not None:
            fold = model.seed // (result.seeds // result.folds)
            groups.setdefault((fold, _built(model)), []).append(model)
    return groups


def _built(model: Best) -> Hashable:
    """What a program that measures a model depends on: how it was trained is none of it."""
    own, (constants, numbers) = model.problem, _needed(model)
    leaves, structure = jax.tree.flatten((model.params, model.stats))
    shapes = tuple((leaf.shape, leaf.dtype) for leaf in leaves)
    return own.model, own.loss, own.metrics, own.outputs, constants, tuple(numbers), structure, shapes


def _needed(model: Best) -> tuple[Constants, dict[str, float]]:
    """The hyper-parameters of network and loss, as a program is compiled for them and as it takes them."""
    problem, (constants, numbers) = model.problem, model.constants_and_numbers
    names = {entry.name for entry in (*problem.model.hyperparameters, *problem.loss.hyperparameters)}
    return tuple(item for item in constants if item[0] in names), {
        name: value for name, value in numbers.items() if name in names
    }


def _measured(models: Sequence[Best], rows: Rows) -> dict[str, Float[np.ndarray, " models"]]:
    constants, _ = _needed(models[0])
    own = [_needed(model)[1] for model in models]
    numbers = {name: np.array([one[name] for one in own]) for name in own[0]}
    found = _evaluated(models[0].problem, constants, numbers, _on_one_axis(models), rows)
    return {name: np.asarray(values, np.float64) for name, values in found.items()}


@functools.partial(jax.jit, static_argnums=(0, 1))
def _evaluated(
    problem: Problem, constants: Constants, numbers: Mapping[str, Array], state: PyTree, rows: Rows
) -> dict[str, Float[Array, " models"]]:
    def one(own: tuple[dict[str, Array], PyTree]) -> dict[str, Float[Array, ""]]:
        numbers, (params, stats) = own
        return evaluate(problem, {**dict(constants), **numbers}, params, stats, rows)

    return jax.lax.map(one, (numbers, state))  # one after the other: their outputs need not fit at once


def _on_one_axis(models: Sequence[Best]) -> PyTree:
    """Parameters and running statistics, on the host."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *[(one.params, one.stats) for one in models])


def _shapes(model: Best) -> dict[str, str]:
    """Type and shape of every array, by its path."""
    state = {"params": model.params, "stats": model.stats}
    return {
        jax.tree_util.keystr(
            path, simple=True, separator="/"
        ): f"{jnp.result_type(leaf)}{list(jnp.shape(leaf))}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    }


def _check_shapes(first: Best, other: Best) -> None:
    own, others = _shapes(first), _shapes(other)
    for path in own | others:
        left, right = (shapes.get(path, "missing") for shapes in (own, others))
        if left != right:
            raise InputError(
                f"stacked models must have equal shapes, but {path} is {left} in configuration "
                f"{first.config_id} and {right} in configuration {other.config_id}: stack one configuration, "
                f"stacked(config_id={other.config_id})"
            )
