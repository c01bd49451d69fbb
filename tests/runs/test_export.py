"""Runs as tables, lines and arrays for other tools; what is refused."""

import json
import os
import shutil
import sqlite3
import sys
import types
from contextlib import closing

import jax
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import jbn
from jbn import store
from jbn.runs.export import FORMATS, export_run, export_table

PATHS = {
    "csv": "table.csv",
    "parquet": "table.parquet",
    "jsonl": "run.jsonl",
    "optuna": "study.log",
    "tensorboard": "events",
    "netcdf": "curves.nc",
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A real sweep: two seeds, one configuration that diverges, and halving."""
    folder = tmp_path_factory.mktemp("runs") / "trained"
    task = jbn.Task(model=jbn.mlp(layers=1, hidden_units=8, batch_norm="none"), data=jbn.data.digits())
    space = jbn.Space(learning_rate=jbn.log_uniform(1e-4, 1e-1), batch_size=256)
    configs = {**jbn.search.random(space, 6, key=0), "initial_scale": np.where(np.arange(6) == 4, 1e38, 1.0)}
    key, policy = jax.random.key(1), jbn.halving()
    return folder, jbn.sweep(task, configs, epochs=3, key=key, seeds=2, policy=policy, out=folder)


def parsed(path):
    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    return [json.loads(line, parse_constant=refuse) for line in path.read_text().splitlines()]


def test_all_formats_are_tried_below():
    assert set(PATHS) == set(FORMATS)


def test_parquet_has_the_table_with_its_types(recorded, tmp_path):
    folder = recorded()
    export_table(folder, tmp_path / "table.parquet", to="parquet")
    export_table(folder, tmp_path / "table.csv")
    table, text = pd.read_parquet(tmp_path / "table.parquet"), pd.read_csv(tmp_path / "table.csv")
    assert list(table) == list(text)
    assert table.config_id.tolist() == text.config_id.tolist()
    np.testing.assert_array_equal(table.rate, text.rate)
    assert table.layers.dtype == np.int64
    assert set(table.nesterov.tolist()) <= {True, False, None}
    assert table.name.isna().tolist() == text.name.isna().tolist()
    recorded_values = store.read(folder).configurations.mixed[table.config_id].tolist()
    assert [json.loads(value) for value in table.mixed] == recorded_values


def test_a_line_has_what_a_configuration_is_and_measured(trained, tmp_path):
    folder, result = trained
    export_run(folder, tmp_path / "run.jsonl", to="jsonl")
    lines, table, history = parsed(tmp_path / "run.jsonl"), result.table(), result.history
    assert [line["config_id"] for line in lines] == table.config_id.tolist()
    assert {line["status"] for line in lines} == {"done", "stopped", "diverged"}
    for line, row in zip(lines, table.to_dict("records"), strict=True):
        assert line["hyper_parameters"] == {name: row[name] for name in result.configs}
        assert (line["status"], line["steps"]) == (row["status"], row["steps"])
        for name, value in line["metrics"].items():
            assert (value is None) if np.isnan(row[name]) else (value == row[name])
        assert line["objective"] == line["metrics"]["validation_accuracy"]
        for curve in line["curves"]:
            member = row["config_id"] * 2 + curve["seed"]
            segments = [s for s in range(3) if history.took_part(s)[member]]
            assert curve["segment"] == segments
            assert curve["steps"] == history.steps[segments, member].tolist()
            losses = history.train_loss[segments, member]
            assert curve["train_loss"] == [value if np.isfinite(value) else None for value in losses]
            assert len(curve["validation_accuracy"]) == len(curve["validation_loss"]) == len(segments)
        stopped = [event for event in line["events"] if event["event"] == "stopped"]
        assert len(stopped) == (2 if line["status"] == "stopped" else 0)


def test_lines_are_json_whatever_the_values(recorded, tmp_path):
    configs = {
        "clip": np.array([1.0, np.inf, np.nan, -np.inf]),
        "text": np.array(["ä\n", None, "\ud800", ""], object),
        "mixed": np.array([True, 1, [1, 2], None], object),
    }
    export_run(recorded(configs=configs, space=None, seeds=1), tmp_path / "run.jsonl", to="jsonl")
    lines = sorted(parsed(tmp_path / "run.jsonl"), key=lambda line: line["config_id"])
    values = {name: [line["hyper_parameters"][name] for line in lines] for name in configs}
    assert values["clip"] == [1.0, "Infinity", None, "-Infinity"]
    assert values["text"] == ["ä\n", None, "\ud800", ""]
    assert values["mixed"] == [True, 1, [1, 2], None]
    assert lines[2]["metrics"]["validation_loss"] is None


def test_curves_have_what_was_measured(trained):
    _, result = trained
    curves, history = result.curves(), result.history
    assert dict(curves.sizes) == {"configuration": 6, "seed": 2, "segment": 3}
    np.testing.assert_array_equal(curves.learning_rate, result.configs["learning_rate"])
    assert set(curves.coords) == {"configuration", "seed", "segment", *result.configs}
    assert curves.status.values.tolist() == result.standing.status.tolist()
    for config_id in range(6):
        for seed in range(2):
            own = curves.sel(configuration=config_id, seed=seed)
            member = config_id * 2 + seed
            took = np.array([history.took_part(segment)[member] for segment in range(3)])
            loss = history.validation_loss[:, member]
            np.testing.assert_array_equal(
                own.validation_loss, np.where(took & np.isfinite(loss), loss, np.nan)
            )
            np.testing.assert_array_equal(own.steps, np.where(took, history.steps[:, member], np.nan))
    assert curves.attrs["seeds"] == 2
    assert json.loads(curves.attrs["versions"])["jax"] == jax.__version__


def test_the_netcdf_file_is_what_the_result_gives(trained, tmp_path):
    folder, result = trained
    export_run(folder, tmp_path / "curves.nc", to="netcdf")
    with xr.open_dataset(tmp_path / "curves.nc") as file:
        ours = result.curves()
        shared = ("objective", "versions", "seeds", "folds", "seconds", "test")
        assert {name: file.attrs[name] for name in shared} == {name: ours.attrs[name] for name in shared}
        settings = store.read(folder).settings
        assert json.loads(file.attrs["plan"]) == settings["plan"]
        assert file.attrs["epochs"] == 3
        xr.testing.assert_equal(file.load(), ours)
        for name, values in ours.variables.items():
            assert file[name].dtype == values.dtype or values.dtype == object


def test_every_kind_of_hyper_parameter_is_a_coordinate(recorded, tmp_path):
    folder = recorded()
    export_run(folder, tmp_path / "curves.nc", to="netcdf")
    table = store.read(folder).configurations
    with xr.open_dataset(tmp_path / "curves.nc") as file:
        assert file.layers.dtype == np.int64
        np.testing.assert_array_equal(file.momentum, table.momentum)
        assert file.optimizer.values.tolist() == table.optimizer.tolist()
        words = {True: "true", False: "false", None: ""}
        assert file.nesterov.values.tolist() == [words[value] for value in table.nesterov]
        assert set(file.mixed.values.tolist()) <= {"true", "half"}


def test_settings_of_all_kinds_are_attributes(recorded, tmp_path):
    settings = {
        "big": 2**70,
        "text": "a\x00b",
        "half": "\ud800",
        "none": None,
        "flag": True,
        "empty": "",
        "rate": 0.1,
    }
    export_run(recorded(rows=2, **settings), tmp_path / "curves.nc", to="netcdf")
    with xr.open_dataset(tmp_path / "curves.nc") as file:
        assert {name: json.loads(file.attrs[name]) for name in ("big", "text", "half", "flag")} == {
            name: settings[name] for name in ("big", "text", "half", "flag")
        }
        assert (file.attrs["empty"], file.attrs["rate"]) == ("", 0.1)
        assert "none" not in file.attrs


@pytest.mark.parametrize(
    ("column", "settings", "message"),
    [("a/b", {}, "slashes"), ("a", {"CLASS": 1}, "reserved name 'CLASS'")],
)
def test_names_that_netcdf_cannot_have(recorded, tmp_path, column, settings, message):
    folder = recorded(configs={column: np.arange(2)}, space=None, seeds=1, **settings)
    with pytest.raises(jbn.InputError, match=f"NetCDF cannot hold this run .*{message}.* export jsonl"):
        export_run(folder, tmp_path / "curves.nc", to="netcdf")


def test_folds_are_a_coordinate(recorded, tmp_path):
    export_run(recorded(seeds=6, folds=3), tmp_path / "curves.nc", to="netcdf")
    with xr.open_dataset(tmp_path / "curves.nc") as file:
        assert file.fold.values.tolist() == [0, 0, 1, 1, 2, 2]
        assert file.validation_loss.groupby("fold").mean().sizes["fold"] == 3


def test_rounds_of_different_lengths_end_in_nan():
    from jbn.runs.course import Course, joined

    def course(segments):
        curves = {"steps": np.ones((2, 1, segments)), "train_loss": np.zeros((2, 1, segments))}
        return Course({"a": np.arange(2)}, {"status": np.array(["done"] * 2)}, curves, 1, {})

    both = joined([course(3), course(1)])
    assert both.table["round"].tolist() == [1, 1, 2, 2]
    np.testing.assert_array_equal(both.curves["steps"][:, 0], [[1] * 3] * 2 + [[1, np.nan, np.nan]] * 2)


@pytest.mark.parametrize("to", FORMATS)
def test_a_path_that_exists_is_refused_but_for_csv(recorded, tmp_path, to):
    folder, path = recorded(rows=4, seeds=1), tmp_path / PATHS[to]
    path.write_text("mine")
    if to == "csv":
        export_run(folder, path, to=to)
        assert path.read_text().startswith("config_id")
        return
    with pytest.raises(jbn.InputError, match="exists already: pick another path, or remove it first"):
        export_run(folder, path, to=to)
    assert path.read_text() == "mine"


@pytest.mark.parametrize("to", FORMATS)
def test_a_folder_that_is_missing_is_no_place(recorded, tmp_path, to):
    with pytest.raises(jbn.InputError, match=r"cannot write .*No such file|cannot write .*non-existent"):
        export_run(recorded(rows=4, seeds=1), tmp_path / "missing" / PATHS[to], to=to)


@pytest.mark.parametrize("to", FORMATS)
def test_a_run_that_goes_on_is_exported_as_far_as_it_is(recorded, tmp_path, to):
    configs = {"learning_rate": np.array([0.1, 0.2])}
    with store.create(tmp_path / "run", settings={}, configs=configs, seeds=1) as own:
        export_run(tmp_path / "run", tmp_path / PATHS[to], to=to)  # before its first segment
        two, zero = np.arange(2), np.zeros(2, int)
        values = {"accuracy": two / 2.0, "loss": two * 1.0}
        own.write_segment(0, store.SegmentRows(two, zero, zero + 5, two * 1.0, values))
        export_run(tmp_path / "run", tmp_path / f"later-{PATHS[to]}", to=to)
    assert sorted(os.listdir(tmp_path)) == sorted([PATHS[to], f"later-{PATHS[to]}", "run"])


@pytest.mark.parametrize("to", FORMATS)
def test_without_the_library_it_says_which_extra_to_install(recorded, tmp_path, monkeypatch, to):
    for library in FORMATS[to].needs:
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, library, None)
            with pytest.raises(jbn.InputError) as error:
                export_run(tmp_path / "nowhere", tmp_path / PATHS[to], to=to)
        assert str(error.value) == (
            f"the format {to} needs {library}, which is not installed: install the extra jbn[{FORMATS[to].extra}]"
        )


def test_a_folder_named_like_a_library_is_none(recorded, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", types.ModuleType("tensorboard"))  # as for such a folder
    with pytest.raises(jbn.InputError, match=r"needs tensorboard, .* install the extra jbn\[tensorboard\]"):
        export_run(recorded(rows=1), tmp_path / "events", to="tensorboard")


def test_curves_without_xarray_say_what_to_install(trained, monkeypatch):
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(jbn.InputError, match=r"curves need xarray, .* install the extra jbn\[netcdf\]"):
        trained[1].curves()


@pytest.mark.parametrize("name", ["seed", "configuration", "train_loss", "fold"])
def test_a_hyper_parameter_named_like_a_dimension_is_refused(recorded, tmp_path, name):
    folder = recorded(configs={name: np.arange(4)}, space=None, seeds=1)
    with pytest.raises(jbn.InputError, match=f"'{name}' has the name of a dimension or a curve: rename it"):
        export_run(folder, tmp_path / "curves.nc", to="netcdf")
    assert os.listdir(tmp_path) == ["run"]  # nothing is left of what was begun


DAMAGE = (
    "UPDATE curves SET config_id = 99 WHERE config_id = 1",
    "UPDATE curves SET seed = 5 WHERE seed = 1",
    "UPDATE curves SET segment = 1000000000 WHERE segment = 2",
    "UPDATE configurations SET status = 'lost'",
    "DELETE FROM settings WHERE name = 'seeds'",
    "ALTER TABLE curves RENAME COLUMN validation_loss TO validation_lost",
    "ALTER TABLE configurations RENAME COLUMN validation_accuracy TO accurate",
)


@pytest.mark.parametrize("to", ["csv", "optuna"])
@pytest.mark.parametrize("sql", DAMAGE)
def test_tables_that_do_not_belong_together_are_damage(recorded, tmp_path, to, sql):
    folder = recorded(rows=4)
    with closing(sqlite3.connect(folder / "sweep.sqlite")) as connection, connection:
        connection.execute(sql)
        connection.execute("DROP TABLE seals")  # as in an older format
    with pytest.raises(
        jbn.InputError, match=r"the run's database is damaged .*; copy the run's folder again"
    ):
        export_run(folder, tmp_path / PATHS[to], to=to)


def test_a_truncated_run_says_so(recorded, tmp_path):
    folder = recorded(rows=4)
    shutil.copytree(folder, tmp_path / "cut")
    whole = (folder / "sweep.sqlite").read_bytes()
    (tmp_path / "cut" / "sweep.sqlite").write_bytes(whole[:-100])
    with pytest.raises(jbn.InputError, match="is truncated; copy the run's folder again"):
        export_run(tmp_path / "cut", tmp_path / "run.jsonl", to="jsonl")


def test_an_export_that_is_interrupted_leaves_nothing(recorded, tmp_path, monkeypatch):
    folder = recorded(rows=4)

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(json, "dumps", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export_run(folder, tmp_path / "run.jsonl", to="jsonl")
    assert os.listdir(tmp_path) == ["run"]


def test_of_a_damaged_run_what_is_whole_is_written(recorded, tmp_path):
    folder = recorded()
    whole = store.read(folder)
    with closing(sqlite3.connect(folder / "sweep.sqlite", isolation_level=None)) as connection:
        connection.execute("UPDATE configurations SET rate = 0.5 WHERE config_id = 3")
        connection.execute("UPDATE curves SET steps = 9 WHERE config_id = 2 AND segment = 1 AND seed = 0")
        connection.execute("UPDATE settings SET value = '1' WHERE name = 'seeds'")
    with pytest.raises(jbn.InputError, match=r"is damaged .* or read what is intact: `jbn export --intact`"):
        export_run(folder, tmp_path / "refused.jsonl", to="jsonl")
    left_out = export_run(folder, tmp_path / "whole.jsonl", to="jsonl", intact=True)
    assert [words.split(" was altered")[0] for words in left_out] == [
        "the setting 'seeds'",
        "configuration 3",
        "segment 1 of configuration 2, seed 0",
    ]
    written = {own["config_id"]: own for own in parsed(tmp_path / "whole.jsonl")}
    assert set(written) == set(whole.configurations.config_id) - {3}
    assert export_run(recorded("other"), tmp_path / "all.jsonl", to="jsonl", intact=True) == ()
