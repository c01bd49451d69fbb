import json
import os
import shutil
import sqlite3
import threading
from contextlib import closing

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jbn.errors import InputError
from jbn.store import SegmentRows, Store, check_free, create, read

NAN, INF = float("nan"), float("inf")
STANDARD_ERRORS = ("validation_accuracy_standard_error", "validation_loss_standard_error")


def metrics(accuracy, loss):
    return {"validation_accuracy": np.array(accuracy, float), "validation_loss": np.array(loss, float)}


def rows(ids, accuracy, seed=0, steps=10):
    ids = np.asarray(ids)
    accuracy = np.asarray(accuracy, float)
    return SegmentRows(
        ids,
        np.full(len(ids), seed),
        np.full(len(ids), steps),
        3 - accuracy,
        {"accuracy": accuracy, "loss": 2 - accuracy},
    )


def new(folder, **more) -> Store:
    given = {"settings": {}, "configs": {"learning_rate": np.array([0.1, 1.0])}, "seeds": 1} | more
    return create(folder, **given)


def plain(folder, sql):
    with closing(sqlite3.connect(folder / "sweep.sqlite", isolation_level=None)) as connection:
        return connection.execute(sql).fetchall()


def test_configurations_keep_values_types_and_order(tmp_path):
    configs = {
        "learning_rate": np.array([0.1, 1e-300, NAN, INF]),
        "whole": np.array([1.0, 2.0, 3.0, 4.0]),
        "units": np.array([50, -(2**63), 2**63 - 1, 0]),
        "activation": np.array(["relu", None, "1.0", 'sig"moid'], object),
        "mixed": np.array([True, 2, 2.0, NAN], object),
    }
    new(tmp_path, configs=configs).close()
    table = read(tmp_path).configurations
    fixed = ["status", "steps", "validation_accuracy", "validation_loss"]
    assert list(table) == ["config_id", *configs, *fixed, *STANDARD_ERRORS, "objective"]
    assert table["config_id"].tolist() == [0, 1, 2, 3]
    for name in ("learning_rate", "whole", "units"):
        assert table[name].dtype == configs[name].dtype
        np.testing.assert_array_equal(table[name], configs[name])
    assert table["activation"].tolist() == ["relu", None, "1.0", 'sig"moid']
    assert [(type(cell), cell) for cell in table["mixed"]] == [
        (bool, True),
        (int, 2),
        (float, 2.0),
        (type(None), None),
    ]
    assert table["status"].tolist() == ["running"] * 4
    assert table["steps"].tolist() == [0] * 4
    assert table[["validation_accuracy", "validation_loss", *STANDARD_ERRORS]].isna().all(axis=None)


def test_absent_values_are_null_in_the_file(tmp_path):
    configs = {
        "a": np.array([NAN, 1.0]),
        "b": np.array([None, "x"], object),
        "c": np.array([NAN, True], object),
    }
    new(tmp_path, configs=configs).close()
    assert plain(tmp_path, "SELECT a, b, c FROM configurations") == [(None, None, None), (1.0, "x", "true")]


def test_a_column_without_any_value_stays_float(tmp_path):
    new(tmp_path, configs={"a": np.full(2, NAN)}).close()
    assert read(tmp_path).configurations["a"].dtype == np.float64


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")), min_size=1)
)
def test_any_column_of_objects_comes_back(tmp_path_factory, cells):
    folder = tmp_path_factory.mktemp("run")
    new(folder, configs={"x": np.array([*cells, None], object)[:-1]}).close()
    assert list(map(repr, read(folder).configurations["x"])) == list(map(repr, cells))


def test_equal_lists_are_cells_not_a_matrix(tmp_path):
    cells = np.empty(2, object)
    cells[:] = [(64, 64), (64, 32)]
    new(tmp_path, configs={"units": cells}).close()
    assert read(tmp_path).configurations["units"].tolist() == [[64, 64], [64, 32]]


def test_settings_come_back_and_are_replaced(tmp_path):
    with new(tmp_path, settings={"spec": {"inf": INF, "data": "digits"}, "n": np.int64(3)}, seeds=2) as store:
        store.write_settings(winner=1, n=4, times=np.array([0.5, 1.5]))
    assert read(tmp_path).settings == {
        "spec": {"inf": INF, "data": "digits"},
        "n": 4,
        "seeds": 2,
        "measured": ["accuracy", "loss"],
        "winner": 1,
        "times": [0.5, 1.5],
    }
    assert json.loads(dict(plain(tmp_path, "SELECT * FROM settings"))["winner"]) == 1


def test_curves_come_back_sorted(tmp_path):
    with new(tmp_path, seeds=2) as store:
        parts = rows([1, 0], [0.5, 0.25], seed=1), rows([0], [0.75], seed=0)
        metrics = {
            name: np.concatenate([own.validation[name] for own in parts]) for name in ("accuracy", "loss")
        }
        both = [np.concatenate(columns) for columns in zip(*(own[:4] for own in parts), strict=True)]
        store.write_segment(0, SegmentRows(*both, metrics))
        store.write_segment(1, rows([0], [0.125], seed=0, steps=20))
    curves = read(tmp_path).curves
    names = ["config_id", "seed", "segment", "steps", "train_loss", "validation_accuracy", "validation_loss"]
    assert list(curves) == names
    assert curves.to_numpy().tolist() == [
        [0, 0, 0, 10, 2.25, 0.75, 1.25],
        [0, 0, 1, 20, 2.875, 0.125, 1.875],
        [0, 1, 0, 10, 2.75, 0.25, 1.75],
        [1, 1, 0, 10, 2.5, 0.5, 1.5],
    ]
    assert [str(kind) for kind in curves.dtypes] == ["int64"] * 4 + ["float64"] * 3


def test_float32_losses_are_not_rounded_again(tmp_path):
    values = np.array([0.1, 1 / 3], np.float32)
    with new(tmp_path) as store:
        store.write_segment(0, rows([0, 1], [0, 0])._replace(train_loss=values))
    np.testing.assert_array_equal(read(tmp_path).curves["train_loss"].to_numpy(), values.astype(np.float64))


def test_not_finite_numbers_become_null(tmp_path):
    with new(tmp_path) as store:
        store.write_segment(0, rows([0, 1], [NAN, INF]))
        both = np.array([0, 1])
        store.write_table(both, np.array(["diverged"] * 2), both, metrics([NAN, INF], [-INF, 1]))
    assert (
        plain(tmp_path, "SELECT train_loss, validation_loss, validation_accuracy FROM curves")
        == [(None, None, None)] * 2
    )
    assert plain(tmp_path, "SELECT validation_accuracy, validation_loss FROM configurations") == [
        (None, None),
        (None, 1.0),
    ]
    assert read(tmp_path).curves["train_loss"].isna().all()


def test_an_empty_segment_writes_nothing(tmp_path):
    with new(tmp_path) as store:
        store.write_segment(0, rows(np.zeros(0, int), []))
    curves = read(tmp_path).curves
    assert len(curves) == 0
    assert curves["validation_accuracy"].dtype == np.float64


def test_the_table_changes_only_where_told(tmp_path):
    with new(tmp_path) as store:
        one = np.array([1])
        store.write_table(one, np.array(["done"]), 30 * one, metrics([0.75], [0.5]))
    table = read(tmp_path).configurations
    assert table["status"].tolist() == ["running", "done"]
    assert table["steps"].tolist() == [0, 30]
    np.testing.assert_array_equal(table["validation_accuracy"], [NAN, 0.75])
    np.testing.assert_array_equal(table["validation_loss"], [NAN, 0.5])
    assert table["learning_rate"].tolist() == [0.1, 1.0]


def test_standard_errors_are_kept_where_there_are_some(tmp_path):
    with new(tmp_path, seeds=3) as store:
        ids, done = np.array([0, 1]), np.array(["done", "diverged"])
        errors = {
            name: np.array([place, NAN]) for name, place in zip(STANDARD_ERRORS, (0.25, 2), strict=True)
        }
        store.write_table(ids, done, ids, errors)
    assert read(tmp_path).configurations[list(STANDARD_ERRORS)].iloc[0].tolist() == [0.25, 2.0]
    names = ", ".join(STANDARD_ERRORS)
    assert plain(tmp_path, f"SELECT {names} FROM configurations") == [(0.25, 2.0), (None, None)]


def test_other_metrics_have_columns_of_their_own(tmp_path):
    with new(tmp_path, measured=("r2", "loss")) as store:
        one, values = np.array([0]), np.array([0.5])
        store.write_segment(0, SegmentRows(one, one, one, values, {"loss": values, "r2": -values}))
        store.write_table(one, np.array(["done"]), one, {"validation_r2": -values, "objective": values})
        with pytest.raises(InputError, match="no column 'validation_accuracy': did you mean"):
            store.write_table(one, np.array(["done"]), one, {"validation_accuracy": values})
    record = read(tmp_path)
    assert record.measured == ["r2", "loss"]
    assert record.curves["validation_r2"].tolist() == [-0.5]
    assert record.configurations[["validation_r2", "objective"]].iloc[0].tolist() == [-0.5, 0.5]


def test_a_failed_segment_leaves_no_rows(tmp_path):
    with new(tmp_path) as store:
        store.write_segment(3, rows([1], [0.5]))
        with pytest.raises(InputError, match=r"UNIQUE constraint failed.*is written once"):
            store.write_segment(3, rows([0, 1], [0.5, 0.5]))
        store.write_segment(4, rows([0], [0.25]))  # and the store is still of use
    assert read(tmp_path).curves[["config_id", "segment"]].to_numpy().tolist() == [[0, 4], [1, 3]]


def test_an_unknown_id_changes_nothing(tmp_path):
    with new(tmp_path) as store:
        ids = np.array([0, 2])
        with pytest.raises(InputError, match=r"every config_id must be in the sweep, but only 1 of 2 are"):
            store.write_table(ids, np.array(["done"] * 2), ids, metrics(ids, ids))
    assert read(tmp_path).configurations["status"].tolist() == ["running"] * 2


def test_unequal_lengths(tmp_path):
    with new(tmp_path) as store:
        bad = rows([0, 1], [0.5, 0.5])._replace(steps=np.array([1]))
        with pytest.raises(InputError, match=r"columns of a segment must be 1-D.*seed \(2,\), steps \(1,\)"):
            store.write_segment(0, bad)
        two = np.arange(2)
        with pytest.raises(InputError, match=r"columns of the table must be 1-D.*status \(1,\)"):
            store.write_table(two, np.array(["done"]), two, metrics(two, two))


def test_a_full_disk(tmp_path):
    with new(tmp_path) as store:
        store._connection.execute("PRAGMA max_page_count = 1")  # SQLite raises it to what there is
        with pytest.raises(
            InputError, match=r"sweep.sqlite': database or disk is full; free some disk space"
        ):
            store.write_settings(long="x" * 100_000)
        assert "long" not in read(tmp_path).settings


def test_a_read_only_database(tmp_path):
    with new(tmp_path) as store:
        store._connection.execute("PRAGMA query_only = ON")
        with pytest.raises(InputError, match=r"attempt to write a readonly database; make the file"):
            store.write_settings(winner=1)


def test_a_locked_database(tmp_path):
    with new(tmp_path) as store:
        store._connection.execute("PRAGMA busy_timeout = 1")
        with closing(sqlite3.connect(tmp_path / "sweep.sqlite", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(InputError, match=r"database is locked; another process holds it"):
                store.write_settings(winner=1)


def test_misuse_is_no_input_error(tmp_path):
    store = new(tmp_path)
    caught = []

    def elsewhere():
        try:
            store.write_settings(a=1)
        except sqlite3.ProgrammingError as error:
            caught.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert len(caught) == 1
    store.close()
    store.close()
    with pytest.raises(sqlite3.ProgrammingError, match=r"closed"):
        store.write_settings(a=1)


def test_a_setting_without_json(tmp_path):
    with (
        new(tmp_path) as store,
        pytest.raises(InputError, match=r"'model' must be numbers.*object has no JSON"),
    ):
        store.write_settings(model=object())


def test_parents_are_made_and_other_files_left(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    new(tmp_path).close()
    new(tmp_path / "a" / "b").close()
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert (tmp_path / "a" / "b" / "sweep.sqlite").is_file()


def test_check_free_makes_nothing(tmp_path):
    check_free(tmp_path / "a" / "b")
    check_free(str(tmp_path))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("action", [check_free, new])
def test_a_taken_folder(tmp_path, action):
    new(tmp_path, settings={"first": True}).close()
    with pytest.raises(InputError, match=r"already holds a sweep \(sweep.sqlite\); pick another with --out"):
        action(tmp_path)
    assert read(tmp_path).settings["first"] is True


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_a_file_is_no_folder(tmp_path, below):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"kept in a folder, but '.*file' is none; pick another with --out"):
        check_free(tmp_path / "file" / below)


def test_an_unwritable_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(InputError, match=r"is not writable; pick another with --out"):
        check_free(tmp_path / "new")


def test_of_two_at_once_one_gets_the_folder(tmp_path, monkeypatch):
    new(tmp_path).close()
    monkeypatch.setattr("jbn.store.database.check_free", lambda folder: None)
    with pytest.raises(InputError, match=r"already holds a sweep"):
        new(tmp_path)


def test_a_refusing_disk(tmp_path, monkeypatch):
    monkeypatch.setattr("jbn.store.database.check_free", lambda folder: None)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot make '.*sweep.sqlite' .*; pick another folder with --out"):
        new(tmp_path / "file" / "run")


def test_a_failed_start_leaves_the_folder_free(tmp_path):
    with pytest.raises(InputError, match=r"too many columns"):
        new(tmp_path, configs={f"x{i}": np.zeros(1) for i in range(3000)})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("configs", "message"),
    [
        ({"a": np.zeros(2), "b": np.zeros(3)}, r"1-D arrays of equal length, got a \(2,\), b \(3,\)"),
        ({"a": np.zeros((2, 2))}, r"1-D arrays of equal length, got a \(2, 2\)"),
        ({"a": np.zeros(0)}, "at least one configuration, got none"),
        ({}, "at least one configuration, got none"),
        ({"f": np.array([len, "x"], object)}, "'f' must be numbers, strings.*give its name instead"),
    ],
)
def test_configurations_that_cannot_be(tmp_path, configs, message):
    with pytest.raises(InputError, match=message):
        new(tmp_path / "run", configs=configs)
    assert not (tmp_path / "run").exists()


def test_a_broken_link_is_no_folder(tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(InputError, match=r"kept in a folder, but '.*link' is none"):
        new(tmp_path / "link")
    monkeypatch.setattr("jbn.store.database.check_free", lambda folder: None)
    with pytest.raises(InputError, match=r"cannot make '.*sweep.sqlite' \(File exists\)"):
        new(tmp_path / "link")


@pytest.mark.parametrize(
    ("name", "reason"), [("a" * 300, "File name too long"), ("a\0b", "embedded null .*")]
)
def test_names_that_no_folder_can_have(tmp_path, name, reason):
    with pytest.raises(InputError, match=rf"cannot make '.*' \(.*{reason}\); pick another folder with --out"):
        new(tmp_path / name)
    assert os.listdir(tmp_path) == []


def test_a_left_over_log_is_not_taken_for_the_new_sweeps(tmp_path):
    old, log = tmp_path / "old", tmp_path / "new" / "sweep.sqlite-wal"
    log.parent.mkdir()
    with new(old) as store:
        store.write_settings(old=True)
        shutil.copy(old / "sweep.sqlite-wal", log)
    new(tmp_path / "new").close()
    assert read(tmp_path / "new").settings == {"seeds": 1, "measured": ["accuracy", "loss"]}


def test_a_segment_interrupted_half_way_is_absent(tmp_path, monkeypatch):
    def interrupted(values):
        yield 0.5
        raise KeyboardInterrupt

    with new(tmp_path) as store:
        with monkeypatch.context() as patch:
            patch.setattr("jbn.store.columns.finite", interrupted)
            with pytest.raises(KeyboardInterrupt):
                store.write_segment(0, rows([0, 1], [0.5, 0.5]))
        assert len(read(tmp_path).curves) == 0
        store.write_segment(0, rows([0, 1], [0.5, 0.5]))
    assert len(read(tmp_path).curves) == 2


def test_strings_that_are_no_utf_8_come_back(tmp_path):
    new(tmp_path, configs={"path": np.array(["a", "\udcff", None], object)}).close()
    assert read(tmp_path).configurations["path"].tolist() == ["a", "\udcff", None]


def test_a_table_of_no_rows_changes_nothing(tmp_path):
    with new(tmp_path) as store:
        none = np.zeros(0, int)
        store.write_table(none, none, none, metrics(none, none))
    assert read(tmp_path).configurations["status"].tolist() == ["running"] * 2


def test_what_is_written_together_is_there_whole_or_not_at_all(tmp_path):
    with new(tmp_path) as store:
        with store.together():
            store.write_segment(0, rows([0, 1], [0.5, 0.5]))
            store.write_settings(winner=1)
            assert len(read(tmp_path).curves) == 0
        assert len(read(tmp_path).curves) == 2

        def with_one_twice():
            with store.together():
                store.write_segment(1, rows([0], [0.25]))
                store.write_settings(winner=0)
                store.write_segment(0, rows([0], [0.25]))

        with pytest.raises(InputError, match="is written once"):
            with_one_twice()
        store.write_segment(2, rows([0], [0.25]))  # and the store is still of use
    record = read(tmp_path)
    assert sorted(set(record.curves.segment)) == [0, 2]
    assert record.settings["winner"] == 1
