"""The table of a sweep: one row per configuration, best first."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jbn.policies import DIVERGED, STATUS_NAMES, History, rank

if TYPE_CHECKING:
    import pandas as pd


class Standing(NamedTuple):
    """Where every configuration stands; arrays `[configurations]`.

    Args:
        status: running, done, stopped or diverged; one diverged seed index makes its configuration diverged.
        steps: optimiser steps of one seed index.
        validation_accuracy: after the last segment, mean over seed indices; NaN if diverged.
        validation_loss: after the last segment, mean over seed indices; NaN if diverged.
        validation_accuracy_standard_error: of that mean, `std(ddof=1) / sqrt(seeds)` over seed indices; NaN if
            diverged, or where there is only one seed index.
        validation_loss_standard_error: likewise.
    """

    status: np.ndarray
    steps: np.ndarray
    validation_accuracy: np.ndarray
    validation_loss: np.ndarray
    validation_accuracy_standard_error: np.ndarray
    validation_loss_standard_error: np.ndarray


def standing(history: History, seeds: int) -> Standing:
    """Every configuration's status and metrics of its last segment."""
    status = history.status.reshape(-1, seeds)
    diverged = (status == DIVERGED).any(axis=1)
    overall = np.where(diverged, DIVERGED, status.max(axis=1, initial=0))
    usable = [np.where(diverged[:, None], np.nan, _last(c).reshape(-1, seeds)) for c in _curves(history)]
    means, errors = [v.mean(axis=1) for v in usable], [_standard_error(v) for v in usable]
    steps = history.steps[-1] if len(history.steps) else np.zeros(status.size, np.int64)
    return Standing(np.array(STATUS_NAMES)[overall], steps.reshape(-1, seeds).max(axis=1), *means, *errors)


def ranked(table: "pd.DataFrame") -> "pd.DataFrame":
    """The rows of a table, best first; those that diverged come last."""
    columns = (table["validation_accuracy"].to_numpy(float), table["validation_loss"].to_numpy(float))
    order = rank(*columns, (table["status"] != "diverged").to_numpy())
    return table.iloc[order].reset_index(drop=True)


def _curves(history: History) -> tuple[np.ndarray, np.ndarray]:
    return history.validation_accuracy, history.validation_loss


def _standard_error(values: np.ndarray) -> np.ndarray:
    """Of the mean of each row; NaN for a single value, which tells no spread."""
    rows, seeds = values.shape
    return np.full(rows, np.nan) if seeds < 2 else values.std(axis=1, ddof=1) / np.sqrt(seeds)


def _last(curve: np.ndarray) -> np.ndarray:
    """The last value of each column that is not NaN."""
    if not len(curve):
        return np.full(curve.shape[1], np.nan)
    place = len(curve) - 1 - np.argmax(~np.isnan(curve[::-1]), axis=0)
    return curve[place, np.arange(curve.shape[1])]
