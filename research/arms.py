"""Arms of an experiment: crossing settings, the learning rate each does best with, accuracy on the test part."""

import itertools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from common import Interval, bootstrap, mean, until
from jaxtyping import PRNGKeyArray

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
    score: Callable[[jbn.Result], np.ndarray] = operator.methodcaller("last", "validation_accuracy"),
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
    curve = result.curve("validation_accuracy")
    return np.nan_to_num(result.last("validation_accuracy")) - np.minimum(
        until(curve, target), len(curve) + 1
    )


def tested(result: jbn.Result) -> np.ndarray:
    """Accuracy on the test part of every model that was kept, `[configurations, seeds]`; 0 where it diverged."""
    return np.nan_to_num(result.evaluate(*result.task.data.test)["accuracy"])


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
