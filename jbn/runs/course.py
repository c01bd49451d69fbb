"""The course of a sweep as arrays: what each configuration and seed measured in each segment."""

import datetime
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Float, Int, Shaped

from jbn.errors import InputError
from jbn.policies import STATUS_NAMES, History
from jbn.search import Configs
from jbn.store import Record, column
from jbn.task.objectives import Objective


class Course(NamedTuple):
    """A sweep as arrays, from the record of a run or from its result.

    Args:
        hypers: hyper-parameters by name; NaN or None where a configuration has none.
        table: what else there is of every configuration: `status`, `objective`, which ranks them, and in a search
            from coarse to fine its `round`.
        curves: `steps`, `train_loss` and every metric on the validation part, by the names of the curves' columns;
            NaN where a member did not take part in a segment, or what it measured was not finite.
        folds: of cross-validation; seeds = folds * seed indices, fold by fold.
        settings: what is known of the run, as values that JSON knows.
    """

    hypers: Mapping[str, Shaped[np.ndarray, " configurations"]]
    table: Mapping[str, Shaped[np.ndarray, " configurations"]]
    curves: Mapping[str, Float[np.ndarray, "configurations seeds segments"]]
    folds: int
    settings: Mapping[str, Any]

    @property
    def took_part(self) -> npt.NDArray[np.bool_]:
        """Who was trained in which segment, `[configurations, seeds, segments]`."""
        return ~np.isnan(self.curves["steps"])

    def objective(self, judged_by: Objective) -> Float[np.ndarray, "configurations segments"]:
        """The objective after every segment, the mean over the seeds.

        A seed that was stopped before counts with its last value. NaN where no seed took part, where one measured no
        finite number, and from there on in a configuration that diverged.
        """
        values, took = self.curves[column(judged_by.metric)], self.took_part
        rows, seeds, segments = values.shape
        along = judged_by.along(values.reshape(rows * seeds, segments).T)
        known = _carried_on(along).T.reshape(values.shape)
        wrong = (took & np.isnan(values)).any(axis=1)
        diverged = (self.table["status"] == "diverged")[:, None]
        wrong = np.where(diverged, np.logical_or.accumulate(wrong, axis=1), wrong)
        return np.where(wrong | ~took.any(axis=1), np.nan, known.mean(axis=1))


def course_of_record(run: Record) -> Course:
    """The course that a run has recorded so far; one that has passed `check`."""
    table, rows = run.configurations, run.curves
    place = np.searchsorted(table["config_id"], rows["config_id"]), rows["seed"], rows["segment"]
    shape = len(table), run.settings["seeds"], int(rows["segment"].max()) + 1 if len(rows) else 0
    names = [name for name in rows.columns if name not in ("config_id", "seed", "segment")]
    beside = ["status", "objective", *(["round"] if "rounds" in run.settings else [])]
    return Course(
        {name: table[name].to_numpy() for name in run.hypers if name not in beside},
        {name: table[name].to_numpy() for name in beside},
        {name: _filled(shape, place, rows[name].to_numpy(np.float64)) for name in names},
        int(run.settings.get("folds", 1)),
        run.settings,
    )


def check(run: Record) -> None:
    """Check that settings and tables of a run belong together.

    Raises:
        InputError: a column is missing, curves are not those of the configurations, or a status is unknown, say.
    """
    if not (_settings_fit(run) and _tables_fit(run)):
        raise InputError(
            "the run's database is damaged (its tables do not belong together); copy the run's folder again"
        )


def _settings_fit(run: Record) -> bool:
    seeds, folds = run.settings.get("seeds"), run.settings.get("folds", 1)
    try:
        known = run.objective.metric in ("loss", *run.measured)
    except TypeError:
        return False
    counts = type(seeds) is int and type(folds) is int and seeds > 0 and folds > 0
    return known and counts and seeds % folds == 0


def _tables_fit(run: Record) -> bool:
    table, rows = run.configurations, run.curves
    metrics = {column(name) for name in ("loss", *run.measured)}
    if not ({"objective", *metrics} <= {*table} and {"steps", "train_loss", *metrics} <= {*rows}):
        return False
    inside = rows["config_id"].isin(table["config_id"])
    inside &= (rows["seed"] >= 0) & (rows["seed"] < run.settings["seeds"])
    inside &= (rows["segment"] >= 0) & (rows["segment"] < len(rows))  # no segment is left out by all
    return bool(inside.all() and table["status"].isin(STATUS_NAMES).all())


def time_of(run: Record, name: str) -> datetime.datetime:
    """A time among the settings of a run; now, where it is not known."""
    try:
        return datetime.datetime.fromisoformat(run.settings[name])
    except (KeyError, TypeError, ValueError):
        return datetime.datetime.now(datetime.UTC)


def course_of_history(
    configs: Configs,
    history: History,
    table: Mapping[str, Shaped[np.ndarray, " configurations"]],
    *,
    seeds: int,
    folds: int,
    settings: Mapping[str, Any],
) -> Course:
    """The course that a history holds.

    Args:
        configs: the configurations.
        history: of all members, member = configuration * seeds + seed.
        table: as that of `Course`.
        seeds: members of a configuration.
        folds: of cross-validation.
        settings: what is known of the run.
    """
    curves = curves_of_history(history, seeds)
    return Course(dict(configs), table, curves, folds, {**settings, "seeds": seeds, "folds": folds})


def curves_of_history(
    history: History, seeds: int
) -> dict[str, Float[np.ndarray, "configurations seeds segments"]]:
    """All curves that a history holds, as those of `Course`.

    Args:
        history: of all members, member = configuration * seeds + seed.
        seeds: members of a configuration.
    """
    segments, members = history.steps.shape
    took = np.array([history.took_part(segment) for segment in range(segments)], bool)
    took = took.reshape(segments, members)
    validation = {column(name): curve for name, curve in history.validation.items()}
    own = {"steps": history.steps, "train_loss": history.train_loss, **validation}
    return {
        name: np.where(took & np.isfinite(values), values, np.nan).T.reshape(-1, seeds, segments)
        for name, values in own.items()
    }


def joined(courses: Sequence[Course]) -> Course:
    """The courses of the rounds of a search as one, with the number of each configuration's `round`, from 1."""
    first, last = courses[0], max(own.took_part.shape[2] for own in courses)
    rounds = [np.full(len(own.table["status"]), place) for place, own in enumerate(courses, 1)]
    tables = {name: np.concatenate([own.table[name] for own in courses]) for name in first.table}
    return Course(
        {name: np.concatenate([own.hypers[name] for own in courses]) for name in first.hypers},
        {**tables, "round": np.concatenate(rounds)},
        {name: np.concatenate([_longer(own.curves[name], last) for own in courses]) for name in first.curves},
        first.folds,
        {**_of_all(first.settings), "rounds": len(courses)},
    )


def _of_all(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is said of one round."""
    return {name: value for name, value in settings.items() if name not in ("seconds", "test")}


def events_of(run: Record) -> dict[int, list[dict[str, Any]]]:
    """What a policy did to each configuration that it did anything to, by `config_id`, in order."""
    found: dict[int, list[dict[str, Any]]] = {}
    for event in run.events.to_dict("records"):
        found.setdefault(event["config_id"], []).append(
            {str(name): value for name, value in event.items() if name != "config_id"}
        )
    return found


def _filled(
    shape: tuple[int, int, int], place: tuple[Any, Any, Any], values: Float[np.ndarray, " rows"]
) -> Float[np.ndarray, "configurations seeds segments"]:
    filled = np.full(shape, np.nan)
    filled[place] = values
    return filled


def _longer(
    curve: Float[np.ndarray, "rows seeds segments"], segments: int
) -> Float[np.ndarray, "rows seeds more"]:
    return np.pad(curve, ((0, 0), (0, 0), (0, segments - curve.shape[2])), constant_values=np.nan)


def _carried_on(curve: Float[np.ndarray, "segments members"]) -> Float[np.ndarray, "segments members"]:
    """Each number until the next."""
    there = np.where(np.isnan(curve), -1, np.arange(len(curve))[:, None])
    latest: Int[np.ndarray, "segments members"] = np.maximum.accumulate(there, axis=0)
    return np.where(latest < 0, np.nan, np.take_along_axis(curve, np.maximum(latest, 0), axis=0))
