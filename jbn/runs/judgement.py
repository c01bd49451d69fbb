"""What a re-test judges by: outputs of two settings on the test part, and the statistics of the old network."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from jbn.errors import InputError
from jbn.nn.drift import LayerDrift, hidden_drift, input_drift
from jbn.runs.paired import Effect, paired_effect, pseudo_values
from jbn.runs.result import Best, Constants, Result
from jbn.runs.winner import Winner
from jbn.task.member import Problem, Rows, fitting, for_model, in_data_unit, infer
from jbn.task.task import Task

_GROUPS = 50  # of rows
_DRIFT_ROWS = 4096
_SHUFFLE = 0


def check_test_part(task: Task) -> None:
    """A comparison needs rows that nothing was chosen by."""
    rows = len(task.data.test.y)
    if rows < 2:
        raise InputError(
            f"a retest compares on a test part of at least 2 rows, but there are {rows}; give x_test"
        )


def drift_of(winner: Winner, task: Task, *, key: PRNGKeyArray) -> tuple[LayerDrift, ...]:
    """How far the new training part is from what the old network was trained with, layer by layer."""
    part = task.data.first(_DRIFT_ROWS)
    problem = task.with_optimizer(winner.config.get("optimizer")).problem
    hidden = hidden_drift(
        problem.model,
        winner.params,
        winner.stats,
        winner.normalizer.apply(part.x),
        hyper=for_model(problem, winner.config),
        key=key,
    )
    return (input_drift(winner.inputs, task.arrays().statistics), *hidden)


def effect_on_test(task: Task, pair: Result, *, confidence: float) -> tuple[Effect, tuple[float, float]]:
    """What the second of two configurations is better by on the test part, and the metric of both.

    Seeds are paired; rows are in random groups, each left out in turn, so that it holds for every metric.
    """
    metric, test = task.judged_by.metric, task.data.test
    sign = 1 if task.judged_by.maximize else -1
    groups = _groups(len(test.y))
    wholes, pseudo = [], []
    for config in range(2):
        models = pair.models[config * pair.seeds : (config + 1) * pair.seeds]
        whole, without = _leaving_out(metric, [m for m in models if m is not None], test, groups)
        wholes.append(whole)
        pseudo.append(pseudo_values(whole, without))
    means = [float(own.mean()) for own in wholes]
    effect = paired_effect(
        sign * (pseudo[1] - pseudo[0]), mean=sign * (means[1] - means[0]), confidence=confidence
    )
    return effect, (means[0], means[1])


def _groups(rows: int) -> list[Int[np.ndarray, " own"]]:
    """Row numbers in random groups of about equal size."""
    return np.array_split(np.random.default_rng(_SHUFFLE).permutation(rows), min(_GROUPS, rows))


def _leaving_out(
    metric: str, models: Sequence[Best], part: Any, groups: Sequence[np.ndarray]
) -> tuple[Float[np.ndarray, " seeds"], Float[np.ndarray, "seeds groups"]]:
    """The metric of every model on all rows, and on those outside each group."""
    one = models[0]
    rows = one.rows(part.x, part.y)
    constants, numbers = one.constants_and_numbers
    state = jax.tree.map(lambda *own: jnp.stack(own), *[(m.params, m.stats) for m in models])
    outputs = _outputs(one.problem, constants, numbers, state, rows.x)
    everything = np.arange(len(part.y))

    def value(kept: np.ndarray) -> np.ndarray:
        return np.asarray(_value(one.problem, metric, constants, numbers, outputs, rows, kept), np.float64)

    without = [value(np.setdiff1d(everything, own)) for own in groups]
    return value(everything), np.stack(without, axis=1)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _outputs(
    problem: Problem, constants: Constants, numbers: Mapping[str, Any], state: PyTree, x: Array
) -> Float[Array, "seeds rows outputs"]:
    hyper = {**dict(constants), **numbers}
    return jax.lax.map(lambda own: infer(problem, hyper, own[0], own[1], x), state)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _value(
    problem: Problem,
    metric: str,
    constants: Constants,
    numbers: Mapping[str, Any],
    outputs: Float[Array, "seeds rows outputs"],
    rows: Rows,
    kept: Int[Array, " kept"],
) -> Float[Array, " seeds"]:
    """The metric of some rows, for every seed."""
    hyper, targets = {**dict(constants), **numbers}, rows.y[kept]

    def of(own: Float[Array, "rows outputs"]) -> Float[Array, ""]:
        fitted = fitting(own[kept], targets)
        if metric == "loss":
            return jnp.mean(problem.loss.values(hyper, fitted, targets, training=False))
        (chosen,) = [one for one in problem.metrics if one.name == metric]
        return chosen.value(*(in_data_unit(values, rows.unit) for values in (fitted, targets)))

    return jax.vmap(of)(outputs)
