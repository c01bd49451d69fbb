"""Runs as TensorBoard folders, read back by TensorBoard's own readers."""

import json

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.plugins.hparams import api_pb2, metadata

from jbn import store
from jbn.runs.export import export_run

SUCCESS, FAILURE, RUNNING = api_pb2.STATUS_SUCCESS, api_pb2.STATUS_FAILURE, api_pb2.STATUS_RUNNING
STATUS = {"done": SUCCESS, "stopped": SUCCESS, "diverged": FAILURE, "running": RUNNING}


def folders(path):
    return sorted(str(file.parent.relative_to(path)) for file in path.rglob("events*"))


def plugin_data(path):
    """What the HParams plug-in finds in a folder: the start of its session, and the end."""
    reader = EventAccumulator(str(path)).Reload()
    found = reader.summary_metadata
    start, end = (
        metadata.parse_session_start_info_plugin_data(
            found[metadata.SESSION_START_INFO_TAG].plugin_data.content
        ),
        metadata.parse_session_end_info_plugin_data(found[metadata.SESSION_END_INFO_TAG].plugin_data.content),
    )
    values = {name: getattr(value, value.WhichOneof("kind")) for name, value in start.hparams.items()}
    return start, values, end


def test_scalars_are_the_curves(recorded, tmp_path):
    folder, path = recorded(), tmp_path / "events"
    export_run(folder, path, to="tensorboard")
    curves = store.read(folder).curves
    assert folders(path) == [f"configuration-{row:04d}/seed-{seed}" for row in range(12) for seed in range(2)]
    for (config_id, seed), own in curves.groupby(["config_id", "seed"]):
        reader = EventAccumulator(str(path / f"configuration-{config_id:04d}" / f"seed-{seed}")).Reload()
        names = {"train_loss", "validation_accuracy", "validation_loss"}
        assert set(reader.Tags()["scalars"]) == names
        for name in names:
            read = reader.Scalars(name)
            assert [event.step for event in read] == own.steps.tolist()
            np.testing.assert_array_equal([event.value for event in read], own[name].astype(np.float32))


def test_hyper_parameters_and_states_are_those_of_the_plug_in(recorded, tmp_path):
    folder, path = recorded(), tmp_path / "events"
    export_run(folder, path, to="tensorboard")
    run = store.read(folder)
    for row in run.configurations.to_dict("records"):
        name = f"configuration-{row['config_id']:04d}"
        groups = set()
        for seed in range(2):
            start, values, end = plugin_data(path / name / f"seed-{seed}")
            groups.add(start.group_name)
            there = {own: row[own] for own in run.hypers if row[own] is not None and row[own] == row[own]}
            there["mixed"] = there["mixed"] if isinstance(there["mixed"], str) else json.dumps(there["mixed"])
            assert values == there
            assert type(values.get("nesterov", True)) is bool
            assert end.status == STATUS[row["status"]]
            assert end.end_time_secs - start.start_time_secs == 60.0
        assert groups == {name}  # seeds are sessions of one group


def test_the_plug_in_shows_it_as_an_experiment(recorded, tmp_path):
    from tensorboard.backend.event_processing import data_provider
    from tensorboard.context import RequestContext
    from tensorboard.plugins.hparams import backend_context, list_session_groups

    path = tmp_path / "events"
    export_run(recorded(), path, to="tensorboard")
    multiplexer = EventMultiplexer()
    multiplexer.AddRunsFromDirectory(str(path))
    multiplexer.Reload()
    provider = data_provider.MultiplexerDataProvider(multiplexer, str(path))
    context = backend_context.Context(
        type("Plugins", (), {"data_provider": provider, "flags": None, "logdir": str(path)})()
    )
    request = RequestContext()
    metadatas = context.hparams_metadata(request, "")
    experiment = context.experiment_from_metadata(request, "", True, metadatas, [])
    assert {metric.name.tag for metric in experiment.metric_infos} == {
        "train_loss",
        "validation_accuracy",
        "validation_loss",
    }
    names = {own.name for own in experiment.hparam_infos}
    assert {"rate", "beta1", "optimizer", "mixed"} <= names
    assert {own.name for own in experiment.hparam_infos if own.differs} >= {"rate", "layers"}
    wanted = api_pb2.ListSessionGroupsRequest(
        allowed_statuses=[SUCCESS, FAILURE, RUNNING, api_pb2.STATUS_UNKNOWN], slice_size=100
    )
    groups = list_session_groups.Handler(request, context, "", wanted).run().session_groups
    assert [group.name for group in groups] == [f"configuration-{row:04d}" for row in range(12)]
    assert {len(group.sessions) for group in groups} == {2}


def test_one_seed_needs_no_folder_of_its_own(recorded, tmp_path):
    path = tmp_path / "events"
    export_run(recorded(rows=3, seeds=1), path, to="tensorboard")
    assert folders(path) == [f"configuration-{row:04d}" for row in range(3)]


@pytest.mark.parametrize("over", ["last", "best"])
def test_an_objective_of_its_own_is_a_scalar(recorded, tmp_path, over):
    objective = {"metric": "accuracy", "maximize": True, "smoothing": 0.0, "over": over}
    folder, path = recorded(rows=1, seeds=1, objective=objective), tmp_path / "events"
    export_run(folder, path, to="tensorboard")
    reader = EventAccumulator(str(path / "configuration-0000")).Reload()
    assert ("objective" in reader.Tags()["scalars"]) == (over == "best")
    if over == "best":
        best = np.maximum.accumulate(store.read(folder).curves.validation_accuracy)
        np.testing.assert_allclose([event.value for event in reader.Scalars("objective")], best, rtol=1e-6)


def test_without_times_in_the_record_it_is_now(tmp_path):
    with store.create(tmp_path / "run", settings={}, configs={"a": np.array([1])}, seeds=1) as own:
        own.write_table(np.array([0]), np.array(["done"]), np.array([0]), {})
    export_run(tmp_path / "run", tmp_path / "events", to="tensorboard")
    start, values, end = plugin_data(tmp_path / "events" / "configuration-0000")
    assert values == {"a": 1.0}
    assert 1.7e9 < start.start_time_secs <= end.end_time_secs
