"""A run as TensorBoard's event files: scalars, and hyper-parameters for its HParams plug-in."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jbn import store
from jbn.runs.course import Course, course_of_record, time_of
from jbn.runs.dataset import as_text
from jbn.search.conditions import missing

_FILE = "events.out.tfevents.0.jbn"
_DIGITS = 4  # of a configuration's number in the name of its folder, at least


def write_events(run: store.Record, path: Path, name: str) -> None:
    """A folder for `tensorboard --logdir`, with a folder of scalars for every configuration, or one for each seed.

    Scalars are `train_loss`, `validation_loss` and the other metrics, float32, at the optimiser steps done by the
    end of a segment, and `objective` where that is more than one of these. For the HParams plug-in a configuration
    is a session group and a seed a session: a success, a failure where the configuration diverged, running where
    the run goes on. Times are those of the run's start and end: the run keeps none of the segments.
    """
    del name
    course = course_of_record(run)
    hypers = {own: _one_type(values) for own, values in course.hypers.items()}
    along = None if run.objective.plain else course.objective(run.objective)
    first, last = (time_of(run, own).timestamp() for own in ("started", "finished"))
    ids = run.configurations["config_id"].tolist()
    digits = max(_DIGITS, len(str(max(ids, default=0))))
    for row, config_id in enumerate(ids):
        group = f"configuration-{config_id:0{digits}d}"
        start = _event(first, _session_start(_of_row(hypers, row), group, first))
        end = _event(last, _session_end(course.table["status"][row], last))
        for seed, folder in enumerate(_folders(path / group, course)):
            scalars = _scalars(course, row, seed, None if along is None else along[row], first)
            _write(folder, [start, *scalars, end])


def _folders(path: Path, course: Course) -> list[Path]:
    seeds = course.took_part.shape[1]
    return [path] if seeds == 1 else [path / f"seed-{seed}" for seed in range(seeds)]


def _one_type(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The plug-in's types: numbers; strings or booleans, with None where there are none; a mixture as JSON."""
    there = values[~missing(values)].tolist() if values.dtype == object else []
    kinds = {type(value) for value in there}
    if kinds <= {bool} or kinds <= {str}:
        return values
    texts = as_text(values)
    return np.where(missing(values), np.array(None, object), texts)


def _of_row(hypers: Mapping[str, npt.NDArray[Any]], row: int) -> dict[str, Any]:
    return {name: values[row] for name, values in hypers.items() if not missing(values[[row]])[0]}


def _session_start(hypers: Mapping[str, Any], group: str, time: float) -> Any:
    from tensorboard.plugins.hparams import summary_v2 as plugin

    return plugin.hparams_pb(dict(hypers), trial_id=group, start_time_secs=time)


def _session_end(status: str, time: float) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

    own = {"diverged": api_pb2.STATUS_FAILURE, "running": api_pb2.STATUS_RUNNING}.get(
        status, api_pb2.STATUS_SUCCESS
    )
    ended = plugin_data_pb2.SessionEndInfo(status=own, end_time_secs=time)
    about = metadata.create_summary_metadata(plugin_data_pb2.HParamsPluginData(session_end_info=ended))
    tag, empty = metadata.SESSION_END_INFO_TAG, metadata.NULL_TENSOR
    return Summary(value=[Summary.Value(tag=tag, metadata=about, tensor=empty)])


def _scalars(
    course: Course, row: int, seed: int, objective: npt.NDArray[np.float64] | None, time: float
) -> Iterator[Any]:
    from tensorboard.compat.proto.summary_pb2 import Summary

    curves = {name: curve[row, seed] for name, curve in course.curves.items()}
    steps = curves.pop("steps")
    if objective is not None:
        curves["objective"] = objective
    for segment in np.flatnonzero(~np.isnan(steps)).tolist():
        values = [Summary.Value(tag=name, simple_value=curve[segment]) for name, curve in curves.items()]
        yield _event(time, Summary(value=values), int(steps[segment]))


def _event(time: float, summary: Any, step: int = 0) -> Any:
    from tensorboard.compat.proto.event_pb2 import Event

    return Event(wall_time=time, step=step, summary=summary)


def _write(folder: Path, events: list[Any]) -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    folder.mkdir(parents=True)
    with (folder / _FILE).open("wb") as file:
        writer = RecordWriter(file)
        for event in [Event(wall_time=events[0].wall_time, file_version="brain.Event:2"), *events]:
            writer.write(event.SerializeToString())
