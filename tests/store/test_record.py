import os
import random
import shutil
import sqlite3
from contextlib import closing

import numpy as np
import pytest

from jbn.errors import InputError
from jbn.store import Record, SegmentRows, Store, create, read

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


def test_a_run_in_progress_can_be_read(tmp_path):
    with new(tmp_path) as store:
        store.write_segment(0, rows([0, 1], [0.5, 0.75]))
        assert len(read(tmp_path).curves) == 2
        store.write_segment(1, rows([0, 1], [0.5, 0.75]))
        assert len(read(tmp_path).curves) == 4


def test_an_open_transaction_is_not_seen(tmp_path):
    with new(tmp_path) as store:
        store.write_segment(0, rows([0, 1], [0.5, 0.75]))
        with closing(sqlite3.connect(tmp_path / "sweep.sqlite", isolation_level=None)) as writer:
            writer.execute("BEGIN IMMEDIATE")
            writer.execute("DELETE FROM curves")
            assert len(read(tmp_path).curves) == 2
            writer.execute("DELETE FROM seals WHERE name = 'segment 0'")
            writer.execute("COMMIT")
        assert len(read(tmp_path).curves) == 0


def test_a_killed_run_can_be_read(tmp_path):
    killed = tmp_path / "killed"
    killed.mkdir()
    with new(tmp_path / "run") as store:
        store.write_segment(0, rows([0, 1], [0.5, 0.75]))
        for name in ("sweep.sqlite", "sweep.sqlite-wal"):  # what a process that is gone leaves behind
            shutil.copy(tmp_path / "run" / name, killed)
    assert read(killed).curves["validation_accuracy"].tolist() == [0.5, 0.75]


def test_reading_a_finished_run_leaves_nothing_behind(tmp_path):
    new(tmp_path).close()
    before = (tmp_path / "sweep.sqlite").read_bytes()
    read(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".lock", "sweep.sqlite"]
    assert (tmp_path / "sweep.sqlite").read_bytes() == before


def test_a_folder_may_have_any_name(tmp_path):
    folder = tmp_path / "a?mode=rw#50% 'x'"
    new(folder).close()
    assert len(read(folder).configurations) == 2


def test_a_record_is_frozen(tmp_path):
    new(tmp_path).close()
    record = read(tmp_path)
    assert isinstance(record, Record)
    with pytest.raises(AttributeError):
        record.settings = {}


@pytest.mark.parametrize("folder", ["", "missing"])
def test_no_sweep(tmp_path, folder):
    with pytest.raises(InputError, match=r"there is no sweep in '.*' \(no sweep.sqlite\); name the folder"):
        read(tmp_path / folder)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("content", [b"not SQLite" * 100, b"", b"SQLite format 3\0" + b"\0" * 4080])
def test_a_foreign_file(tmp_path, content):
    (tmp_path / "sweep.sqlite").write_bytes(content)
    with pytest.raises(InputError, match=r"sweep.sqlite'.*name the folder of a run") as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_foreign_database(tmp_path):
    plain(tmp_path, "CREATE TABLE settings(name, value)")
    with pytest.raises(InputError, match=r"sweep.sqlite' is not the database of a sweep; name the folder"):
        read(tmp_path)


def test_a_database_without_its_tables(tmp_path):
    new(tmp_path).close()
    plain(tmp_path, "DROP TABLE curves")
    with pytest.raises(InputError, match=r"sweep.sqlite': no such table: curves; check the file"):
        read(tmp_path)


def test_a_newer_format(tmp_path):
    new(tmp_path).close()
    plain(tmp_path, "PRAGMA user_version = 99")
    with pytest.raises(
        InputError, match=r"has format 99, this jbn reads formats 1 to 6; use the jbn that wrote it"
    ):
        read(tmp_path)


def test_the_format_before_standard_errors(tmp_path):
    with new(tmp_path, seeds=2) as store:
        ids = np.array([0, 1])
        store.write_table(
            ids,
            np.array(["done"] * 2),
            ids + 5,
            metrics([0.5, 0.75], [2.0, 1.0]) | {"objective": np.array([0.5, 0.75])},
        )
    now = read(tmp_path)
    for name in (*STANDARD_ERRORS, "objective"):
        plain(tmp_path, f"ALTER TABLE configurations DROP COLUMN {name}")
    for name in ("events", "segments", "checkpoints", "seals"):
        plain(tmp_path, f"DROP TABLE {name}")
    plain(tmp_path, "PRAGMA user_version = 1")
    before = read(tmp_path)
    assert before.settings == now.settings
    assert before.configurations.equals(now.configurations)  # the standard errors are missing in both
    assert before.configurations["validation_accuracy"].tolist() == [0.5, 0.75]
    assert before.configurations["validation_loss_standard_error"].isna().all()


@pytest.mark.parametrize("kept", [100, 4096, 5000, 0.5, -4096, -1])
def test_a_truncated_database(tmp_path, kept):
    with new(tmp_path) as store:
        for segment in range(300):
            store.write_segment(segment, rows([0, 1], [0.5, 0.5]))
    path = tmp_path / "sweep.sqlite"
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    with pytest.raises(
        InputError, match=r"sweep.sqlite'.*(malformed|truncated).*copy the run's folder again"
    ):
        read(tmp_path)


def test_a_damaged_cell(tmp_path):
    new(tmp_path, settings={"epochs": 50}).close()
    plain(tmp_path, "UPDATE settings SET value = '5,' WHERE name = 'epochs'")
    plain(tmp_path, "DROP TABLE seals")  # as in an older format
    with pytest.raises(InputError, match=r"sweep.sqlite' is damaged \(Extra data.*\); copy the run's folder"):
        read(tmp_path)


def test_a_column_of_the_wrong_type(tmp_path):
    new(tmp_path).close()
    plain(tmp_path, "UPDATE configurations SET steps = NULL")
    plain(tmp_path, "DROP TABLE seals")  # as in an older format
    with pytest.raises(InputError, match=r"sweep.sqlite' is damaged \(.*NoneType.*\); copy the run's folder"):
        read(tmp_path)


def test_no_damage_escapes_as_another_error(tmp_path):
    with new(
        tmp_path, configs={"rate": np.array([0.1, 1.0]), "units": np.array([[1], "x"], object)}
    ) as store:
        store.write_segment(0, rows([0, 1], [0.5, 0.75]))
    path, draw, refused = tmp_path / "sweep.sqlite", random.Random(0), 0
    content = path.read_bytes()
    written = [place for place, byte in enumerate(content) if byte]
    for _ in range(250):
        damaged = bytearray(content)
        damaged[draw.choice(written)] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        try:
            read(tmp_path)
        except InputError:
            refused += 1
    assert refused > 50


@pytest.mark.parametrize("name", ["a" * 300, "a\0b"])
def test_names_that_no_folder_can_have(tmp_path, name):
    with pytest.raises(InputError, match=r"there is no sweep in"):
        read(tmp_path / name)
