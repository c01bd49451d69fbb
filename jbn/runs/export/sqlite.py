"""Many trials at once into Optuna's SQLite tables: its own way takes half a second a trial with 100 values."""

import datetime
import json
import math
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from jbn.search.ask_tell import load_optuna

_KNOWN = 12  # the version of Optuna's tables that is written here
_COLUMNS = {
    "trials": ("trial_id", "number", "study_id", "state", "datetime_start", "datetime_complete"),
    "trial_values": ("trial_id", "objective", "value", "value_type"),
    "trial_params": ("trial_id", "param_name", "param_value", "distribution_json"),
    "trial_user_attributes": ("trial_id", "key", "value_json"),
    "trial_intermediate_values": ("trial_id", "step", "intermediate_value", "intermediate_value_type"),
}


def add_trials(path: Path, trials: Sequence[Any]) -> bool:
    """Adds trials to the one study of a database that Optuna has just made.

    Args:
        path: of the database; the study has no trials yet.
        trials: FrozenTrials without system attributes.

    Returns:
        Whether that was done; False, and nothing is changed, where the tables are of another version.
    """
    with closing(sqlite3.connect(path)) as connection:
        if connection.execute("SELECT schema_version FROM version_info").fetchall() != [(_KNOWN,)]:
            return False
        [(study,)] = connection.execute("SELECT study_id FROM studies").fetchall()
        with connection:
            for table, columns in _COLUMNS.items():
                rows = _ROWS[table](study, trials)
                places = ", ".join("?" * len(columns))
                connection.executemany(f"INSERT INTO {table}({', '.join(columns)}) VALUES ({places})", rows)
    return True


def _heads(study: int, trials: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    for number, trial in enumerate(trials):
        times = _utc(trial.datetime_start), _utc(trial.datetime_complete)
        yield number + 1, number, study, trial.state.name, *times


def _values(study: int, trials: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    del study
    for number, trial in enumerate(trials, 1):
        if trial.value is not None:
            yield number, 0, *_number(trial.value)


def _params(study: int, trials: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    del study
    to_json = load_optuna().distributions.distribution_to_json
    texts: dict[str, str] = {}  # a parameter has the same distribution in all
    for number, trial in enumerate(trials, 1):
        for name, value in trial.params.items():
            own = trial.distributions[name]
            text = texts[name] if name in texts else texts.setdefault(name, to_json(own))
            yield number, name, own.to_internal_repr(value), text


def _attributes(study: int, trials: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    del study
    for number, trial in enumerate(trials, 1):
        for key, value in trial.user_attrs.items():
            yield number, key, json.dumps(value)


def _reported(study: int, trials: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    del study
    for number, trial in enumerate(trials, 1):
        for step, value in trial.intermediate_values.items():
            yield number, step, *_number(value)


def _number(value: float) -> tuple[float | None, str]:
    """A number as the tables have it, with its kind."""
    if math.isnan(value):
        return None, "NAN"
    return (value, "FINITE") if math.isfinite(value) else (None, "INF_POS" if value > 0 else "INF_NEG")


def _utc(local: datetime.datetime | None) -> str | None:
    """Local time without a zone as the tables have it."""
    if local is None:
        return None
    return local.astimezone(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


_ROWS = {
    "trials": _heads,
    "trial_values": _values,
    "trial_params": _params,
    "trial_user_attributes": _attributes,
    "trial_intermediate_values": _reported,
}
