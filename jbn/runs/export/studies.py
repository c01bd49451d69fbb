"""A run as an Optuna study."""

import contextlib
import datetime
import math
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jbn import store
from jbn.errors import InputError
from jbn.runs.course import Course, course_of_record, events_of, time_of
from jbn.runs.export.sqlite import add_trials
from jbn.search import Space
from jbn.search.ask_tell import load_optuna
from jbn.search.conditions import missing
from jbn.search.studies import SPACE, Parameter, parameters
from jbn.task.objectives import last as last_of

SQLITE = (".db", ".sqlite", ".sqlite3")
_SETTINGS = "jbn_settings"
_STATES = {"done": "COMPLETE", "stopped": "PRUNED", "diverged": "FAIL", "running": "RUNNING"}


def write_study(run: store.Record, path: Path, name: str) -> None:
    """A study of the run's name: SQLite where the path ends in .db, .sqlite or .sqlite3, else a journal file.

    A trial is a configuration, with its number; complete, pruned where it was stopped, failed where it diverged,
    running where the run goes on or was killed. Its value is the objective, its intermediate values are the
    objective after every segment, each the mean over the seeds. Parameters are those that the configuration has,
    distributed as the axes of the space, see `jbn.search.studies.parameters`: `beta1` on a reverse log axis stands
    there as "1 - beta1", with `beta1` itself beside it in the user attributes. There are also `config_id`, `status`,
    `steps`, every metric, and of several seeds each one's (`objective_of_seeds`, ...), `round`, and what a policy
    did, `events`.
    Times are those of the run. The study's attributes are `jbn_space` and `jbn_settings`.
    """
    own = load_optuna()
    trials = _trials(run, course_of_record(run))
    with _storage(path) as storage, warnings.catch_warnings():
        warnings.simplefilter("ignore", own.exceptions.ExperimentalWarning)
        direction = "maximize" if run.objective.maximize else "minimize"
        study = own.create_study(storage=storage, study_name=name or "sweep", direction=direction)
        study.set_metric_names([store.column(run.objective.metric)])
        if run.settings.get("space"):
            study.set_user_attr(SPACE, run.settings["space"])
        study.set_user_attr(_SETTINGS, _finite({k: v for k, v in run.settings.items() if k != "space"}))
        if not (path.suffix in SQLITE and add_trials(path, trials)):
            study.add_trials(trials)


@contextlib.contextmanager
def _storage(path: Path) -> Iterator[Any]:
    own = load_optuna()
    if path.suffix not in SQLITE:
        journal = own.storages.journal.JournalFileBackend(str(path))
        yield own.storages.JournalStorage(journal)
        return
    try:
        storage = own.storages.RDBStorage(_url(path))
        try:
            yield storage
        finally:
            storage.remove_session()
            storage.engine.dispose()
    except own.exceptions.StorageInternalError as error:
        raise InputError(f"cannot write {path.name!r}: {error.__cause__ or error}") from error


def _url(path: Path) -> str:
    """That of SQLite, with what means something in a URL, or to Optuna, escaped."""
    text = str(path.absolute())
    for letter in "%?{}":  # the one that escapes first
        text = text.replace(letter, f"%{ord(letter):02X}")
    return f"sqlite:///{text}"


def _trials(run: store.Record, course: Course) -> list[Any]:
    described = run.settings.get("space")
    space: Mapping[str, Any] = Space.from_spec(described) if described else {}
    stands = parameters(space, course.hypers)
    along, attributes = course.objective(run.objective), _attributes(run, course)
    # Optuna's times are local ones without a zone
    first, last = (time_of(run, own).astimezone().replace(tzinfo=None) for own in ("started", "finished"))
    objective, trials = run.configurations["objective"].tolist(), []
    for place, beside in enumerate(attributes):
        hypers = {
            name: (own, course.hypers[name][place])
            for name, own in stands.items()
            if not missing(course.hypers[name][[place]])[0]
        }
        segments = np.flatnonzero(course.took_part[place].any(axis=0))
        reported = dict(zip(segments.tolist(), along[place, segments].tolist(), strict=True))
        trials.append(_trial(objective[place], hypers, reported, beside, (first, last)))
    return trials


def _trial(
    objective: float,
    hypers: Mapping[str, tuple[Parameter, Any]],
    reported: dict[int, float],
    attributes: Mapping[str, Any],
    times: tuple[datetime.datetime, datetime.datetime],
) -> Any:
    own = load_optuna().trial
    there = math.isfinite(objective)
    state = _STATES[attributes["status"]]
    state = "FAIL" if state == "COMPLETE" and not there else state  # Optuna's complete trials have a value
    exact = {name: float(value) for name, (stands, value) in hypers.items() if stands.reversed}
    return own.FrozenTrial(
        number=-1,
        trial_id=-1,
        state=own.TrialState[state],
        value=objective if there and state != "FAIL" else None,
        datetime_start=times[0],
        datetime_complete=None if state == "RUNNING" else times[1],
        params={stands.name: stands.stored(value) for stands, value in hypers.values()},
        distributions={stands.name: stands.distribution for stands, _ in hypers.values()},
        user_attrs={**exact, **_finite(attributes)},
        system_attrs={},
        intermediate_values=reported,
    )


def _attributes(run: store.Record, course: Course) -> list[dict[str, Any]]:
    """What each configuration has beside its parameters and its objective."""
    table = run.configurations.drop(columns=[*course.hypers, "objective"])
    seeds, happened = _of_seeds(run, course), events_of(run)
    found = []
    for place, row in enumerate(table.to_dict("records")):
        own = {name: values[place].tolist() for name, values in seeds.items()}
        events = {"events": happened[row["config_id"]]} if row["config_id"] in happened else {}
        there = {str(name): value for name, value in row.items() if value == value}  # noqa: PLR0124 (not NaN)
        found.append({**there, **own, **events})
    return found


def _of_seeds(run: store.Record, course: Course) -> dict[str, np.ndarray]:
    """Metrics and objective of each seed, [configurations, seeds]; of a single one nothing."""
    rows, seeds, segments = course.took_part.shape
    if seeds == 1:
        return {}
    flat = {name: curve.reshape(rows * seeds, segments).T for name, curve in course.curves.items()}
    names = map(store.column, run.measured)
    lasts = {f"{name}_of_seeds": last_of(flat[name]).reshape(rows, seeds) for name in names}
    values = run.objective.values(flat[store.column(run.objective.metric)])
    return {**lasts, "objective_of_seeds": values.reshape(rows, seeds)}


def _finite(value: Any) -> Any:
    """With None for NaN and infinity: viewers read attributes as JSON."""
    if isinstance(value, Mapping):
        return {key: _finite(own) for key, own in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(own) for own in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
