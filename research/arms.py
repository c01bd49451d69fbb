"""Arms of an experiment: crossing settings, the learning rate each does best with, accuracy on the test part."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import Interval, bootstrap, curves, last, mean, until
from jaxtyping import PRNGKeyArray, PyTree

import jbn


def crossed(**values: Sequence[Any]) -> dict[str, np.ndarray]:
    """Configurations of every combination of the values, the last one varying fastest."""
    return configs_of([dict(zip(values, row, strict=True)) for row in itertools.product(*values.values())])


def configs_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Configurations from one mapping each."""
    return {name: _array([row[name] for row in rows]) for name in rows[0]}


def rows_of(configs: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """The configurations one by one."""
    return [dict(zip(configs, row, strict=True)) for row in zip(*configs.values(), strict=True)]


def tuned(
    task: jbn.Task,
    arms: Mapping[str, np.ndarray],
    rates: Sequence[float],
    *,
    epochs: int,
    key: PRNGKeyArray,
    seeds: int = 8,
    score: Callable[[jbn.Result], np.ndarray] = last,
    **more: Any,
) -> dict[str, np.ndarray]:
    """The arms with the learning rate at which each has the best mean validation accuracy, in a sweep of its own.

    Its key must be another one than that of the comparison, so that what chooses does not judge. `score` is what
    is to be high instead, `[configurations, seeds]`; `more` is for the sweep.
    """
    count, each = len(next(iter(arms.values()))), len(rates)
    configs = {name: np.repeat(values, each) for name, values in arms.items()}
    configs["learning_rate"] = np.tile(np.asarray(rates, float), count)
    found = score(jbn.sweep(task, configs, epochs=epochs, key=key, seeds=seeds, **more))
    scores = np.where(np.isnan(found), 0.0, found).mean(axis=1).reshape(count, each)
    return {**arms, "learning_rate": np.asarray(rates, float)[scores.argmax(axis=1)]}


def soonness(result: jbn.Result, target: float) -> np.ndarray:
    """Higher for those that come to a validation accuracy in fewer epochs, and of equals for the more accurate."""
    curve = curves(result)
    return np.nan_to_num(last(result)) - np.minimum(until(curve, target), len(curve) + 1)


def tested(result: jbn.Result) -> np.ndarray:
    """Accuracy on the test part of every model that was kept, `[configurations, seeds]`; 0 where it diverged."""
    test = result.task.data.test
    own = [0.0 if model is None else model.evaluate(test.x, test.y)["accuracy"] for model in result.models]
    return np.reshape(own, (-1, result.seeds))


def models_of(result: jbn.Result, config: int) -> list[Any]:
    """The kept models of a configuration, one a seed."""
    return list(result.models[config * result.seeds : (config + 1) * result.seeds])


def stacked(models: Sequence[Any]) -> tuple[PyTree, PyTree]:
    """Parameters and running statistics of several models, the models on a leading axis."""
    own = [(model.params, model.stats) for model in models if model is not None]
    return jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(leaf) for leaf in leaves]), *own)


def times_fewer(slow: np.ndarray, fast: np.ndarray, limit: float) -> Interval:
    """How many times the median of the first is that of the second, over resampled pairs.

    What is never reached (infinity) counts as the limit, so that the factor is too near to 1, if anything.
    """
    pairs = np.minimum(np.stack([slow, fast], axis=1), limit)
    return bootstrap(pairs, lambda own: float(np.divide(*np.median(own, axis=0))))


def points(interval: Interval) -> Interval:
    """Accuracy in points of a hundred."""
    return Interval(100 * interval.mean, 100 * interval.low, 100 * interval.high, interval.count)


def factor(logarithms: Sequence[float] | np.ndarray) -> Interval:
    """The geometric mean of values given by their natural logarithms."""
    own = mean(logarithms)
    return Interval(float(np.exp(own.mean)), float(np.exp(own.low)), float(np.exp(own.high)), own.count)


def _array(values: Sequence[Any]) -> np.ndarray:
    return np.array(values, object if isinstance(values[0], str) else None)
