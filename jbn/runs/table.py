"""The table of a sweep: one row per configuration, best first."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jbn.policies import DIVERGED, STATUS_NAMES, History, rank
from jbn.store import column, standard_error
from jbn.task.objectives import last

if TYPE_CHECKING:
    import pandas as pd


class Standing(NamedTuple):
    """Where every configuration stands; arrays `[configurations]`.

    Args:
        status: running, done, stopped or diverged; one diverged seed index makes its configuration diverged.
        steps: optimiser steps of one seed index.
        validation: metrics and loss after the last segment, mean over seed indices; NaN if diverged.
        standard_errors: of these means, `std(ddof=1) / sqrt(seeds)` over seed indices (or over the folds' means,
            where there are several); NaN if diverged, or where there is only one seed index.
        objective: what configurations are ranked by, mean over seed indices; NaN if diverged.
        scores: the same, higher is better.
    """

    status: np.ndarray
    steps: np.ndarray
    validation: Mapping[str, np.ndarray]
    standard_errors: Mapping[str, np.ndarray]
    objective: np.ndarray
    scores: np.ndarray

    def columns(self) -> dict[str, np.ndarray]:
        """Metrics, standard errors and objective by the names of a table's columns."""
        means = {column(name): values for name, values in self.validation.items()}
        errors = {standard_error(name): values for name, values in self.standard_errors.items()}
        return {**means, **errors, "objective": self.objective}

    def changed(self, before: "Standing | None") -> np.ndarray:
        """Which configurations stand elsewhere than before; all where nothing was before."""
        if before is None:
            return np.ones(len(self.status), bool)
        other = (self.status != before.status) | (self.steps != before.steps)
        for now, then in zip(self.columns().values(), before.columns().values(), strict=True):
            other |= (now != then) & ~(np.isnan(now) & np.isnan(then))
        return other


def standing(history: History, seeds: int, folds: int = 1) -> Standing:
    """Every configuration's status and metrics of its last segment."""
    status = history.status.reshape(-1, seeds)
    diverged = (status == DIVERGED).any(axis=1)
    overall = np.where(diverged, DIVERGED, status.max(axis=1, initial=0))
    usable = {
        name: np.where(diverged[:, None], np.nan, last(curve).reshape(-1, seeds))
        for name, curve in history.validation.items()
    }
    steps = history.steps[-1] if len(history.steps) else np.zeros(status.size, np.int64)
    objective = history.values.reshape(-1, seeds).mean(axis=1)
    return Standing(
        np.array(STATUS_NAMES)[overall],
        steps.reshape(-1, seeds).max(axis=1),
        {name: values.mean(axis=1) for name, values in usable.items()},
        {name: _standard_error(_of_folds(values, folds)) for name, values in usable.items()},
        objective,
        history.objective.scores(objective),
    )


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


def ranked(table: "pd.DataFrame", *, maximize: bool) -> "pd.DataFrame":
    """The rows of a table, best first by its column `objective`; those that diverged come last."""
    scores, loss = (table[name].to_numpy(float) for name in ("objective", "validation_loss"))
    order = rank(scores if maximize else -scores, loss, (table["status"] != "diverged").to_numpy())
    return table.iloc[order].reset_index(drop=True)


def _of_folds(values: np.ndarray, folds: int) -> np.ndarray:
    """The means over each fold's seeds; without folds the seeds themselves."""
    return values if folds == 1 else values.reshape(len(values), folds, -1).mean(axis=2)


def _standard_error(values: np.ndarray) -> np.ndarray:
    """Of the mean of each row; NaN for a single value, which tells no spread."""
    rows, seeds = values.shape
    return np.full(rows, np.nan) if seeds < 2 else values.std(axis=1, ddof=1) / np.sqrt(seeds)
