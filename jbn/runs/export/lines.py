"""A run as JSON Lines."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from jbn import store
from jbn.runs.course import Course, course_of_record, events_of
from jbn.runs.table import ranked


def write_jsonl(run: store.Record, path: Path, name: str) -> None:
    """One JSON object a configuration and line, best first.

    Its names: `config_id`; `round`, in a search from coarse to fine; `hyper_parameters`, by name; `status`; `steps`;
    `metrics`, those of the last segment on the validation part and with several seeds their standard errors;
    `objective`; `curves`, a list with an object for each seed: `seed`, and lists with one entry for each segment
    that it took part in: `segment`, `steps`, `train_loss`, `validation_loss`, ...; `events`, what a policy did to
    it. A number that is missing or not finite is null; an infinite hyper-parameter is "Infinity".
    """
    del name
    course = course_of_record(run)
    place = {config_id: row for row, config_id in enumerate(run.configurations["config_id"].tolist())}
    events = events_of(run)
    with path.open("w", encoding="utf-8") as file:
        for row in ranked(run.configurations, maximize=bool(run.objective.maximize)).to_dict("records"):
            one = _configuration(run, course, row)
            one["curves"] = _curves(course, place[row["config_id"]])
            one["events"] = events.get(row["config_id"], [])
            file.write(json.dumps(_plain(one), allow_nan=False) + "\n")


def _configuration(run: store.Record, course: Course, row: dict[Any, Any]) -> dict[str, Any]:
    metrics = [store.column(name) for name in run.measured]
    if run.settings["seeds"] > 1:
        metrics += [store.standard_error(name) for name in run.measured]
    return {
        "config_id": row["config_id"],
        **({"round": row["round"]} if "round" in course.table else {}),
        "hyper_parameters": {name: _said(row[name]) for name in course.hypers},
        "status": row["status"],
        "steps": row["steps"],
        "metrics": {name: row[name] for name in metrics},
        "objective": row["objective"],
    }


def _said(value: Any) -> Any:
    """Infinity in words: JSON has no number for it, and null says that there is none."""
    infinite = isinstance(value, float) and math.isinf(value)
    return ("Infinity" if value > 0 else "-Infinity") if infinite else value


def _curves(course: Course, row: int) -> list[dict[str, Any]]:
    found = []
    for seed in range(course.took_part.shape[1]):
        segments = np.flatnonzero(~np.isnan(course.curves["steps"][row, seed]))
        own = {name: curve[row, seed, segments].tolist() for name, curve in course.curves.items()}
        own["steps"] = [int(steps) for steps in own["steps"]]
        found.append({"seed": seed, "segment": segments.tolist(), **own})
    return found


def _plain(value: Any) -> Any:
    """As JSON has it, with null for what is not finite."""
    if isinstance(value, dict):
        return {key: _plain(own) for key, own in value.items()}
    if isinstance(value, list):
        return [_plain(own) for own in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
