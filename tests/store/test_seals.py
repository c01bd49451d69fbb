"""Rows that were altered, lost or cannot be read: found, named, and the rest still read."""

import sqlite3
import zlib
from contextlib import closing

import numpy as np
import pytest

from jbn.errors import InputError
from jbn.store import EventRow, SegmentRows, create, read, reopen
from jbn.store.seals import checksums

CONFIGS = {
    "learning_rate": np.array([0.1, 1.0, -0.0]),
    "activation": np.array(["relu", None, "tanh"], object),
}


def change(folder, *statements):
    with closing(sqlite3.connect(folder / "sweep.sqlite", isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


@pytest.fixture
def run(tmp_path):
    ids = np.arange(3)
    with create(tmp_path, settings={"epochs": 4, "note": "mine"}, configs=CONFIGS, seeds=1) as store:
        for segment in range(4):
            loss = np.array([0.5, np.inf, -0.0]) + segment
            values = {"accuracy": loss / 8, "loss": loss}
            store.write_segment(
                segment, SegmentRows(ids, 0 * ids, ids + segment, loss, values), seconds=segment
            )
        store.write_events(
            [EventRow(1, 2, 0, "set", {"learning_rate": 0.3}), EventRow(2, 1, 0, "stopped", {})]
        )
        store.write_table(
            ids, np.array(["done"] * 3), ids, {"validation_loss": np.array([0.5, np.nan, 0.25])}
        )
        store.write_settings(winner=1)
    return tmp_path


def test_an_unaltered_run_is_whole(run):
    record = read(run)
    assert record.damage == ()
    assert len(record.curves) == 12
    assert record.segments.to_numpy().tolist() == [[0, 0], [1, 1], [2, 2], [3, 3]]
    assert read(run, intact=True).damage == ()


def test_a_row_written_again_is_whole_and_hides_no_altered_one(run):
    one = np.array([1])
    with reopen(run, segments=4) as store:
        store.write_table(one, np.array(["stopped"]), one, {"validation_loss": np.array([0.125])})
        assert read(run).configurations["status"].tolist() == ["done", "stopped", "done"]
        change(run, "UPDATE configurations SET validation_loss = 9 WHERE config_id = 2")
        store.write_table(one, np.array(["done"]), one, {"validation_loss": np.array([0.25])})
    with pytest.raises(InputError, match="configuration 2 was altered"):
        read(run)


def test_a_checksum_is_that_of_a_row_as_python_writes_it():
    assert checksums([(1, -0.0, None, "a")]).tolist() == [zlib.crc32(b"(1, 0.0, None, 'a')")]


@pytest.mark.parametrize(
    ("statement", "named", "left"),
    [
        (
            "UPDATE curves SET train_loss = 0.25 WHERE config_id = 2 AND segment = 3",
            "segment 3 of configuration 2, seed 0 was altered",
            {"curves": 11},
        ),
        (
            "DELETE FROM curves WHERE config_id = 0 AND segment = 1",
            "3 rows of segment 1 were written, but 2 are there",
            {"curves": 11},
        ),
        ("DELETE FROM curves WHERE segment = 2", "segment 2 is missing", {"curves": 9}),
        (
            "UPDATE configurations SET learning_rate = 0.5 WHERE config_id = 1",
            "configuration 1 was altered",
            {"configurations": 2},
        ),
        (
            "UPDATE configurations SET validation_loss = 0.01 WHERE config_id = 2",
            "configuration 2 was altered",
            {"configurations": 2},
        ),
        ("UPDATE settings SET value = '5' WHERE name = 'epochs'", "the setting 'epochs' was altered", {}),
        (
            "UPDATE events SET detail = '{\"learning_rate\": 0.4}' WHERE segment = 1",
            "an event after segment 1 was altered",
            {"events": 1},
        ),
        (
            "INSERT INTO curves VALUES (2, 1, 0, 5, 0.0, 0.0, 0.0)",
            "3 rows of segment 0 were written, but 4 are there",
            {"curves": 12},
        ),
    ],
)
def test_what_was_altered_is_named_and_the_rest_is_read(run, statement, named, left):
    change(run, statement)
    with pytest.raises(InputError, match=r"sweep.sqlite' is damaged") as caught:
        read(run)
    assert named in str(caught.value)
    assert "jbn export --intact" in str(caught.value)
    record = read(run, intact=True)
    assert record.damage == (named,)
    counts = {"curves": 12, "configurations": 3, "events": 2} | left
    assert {name: len(getattr(record, name)) for name in counts} == counts
    assert record.settings["note"] == "mine"
    assert ("epochs" in record.settings) == ("epochs" not in named)


def test_pages_that_cannot_be_read_leave_the_rows_around_them(tmp_path):
    ids = np.arange(200)
    with create(tmp_path, settings={}, configs={"rate": ids / 7}, seeds=1) as store:
        for segment in range(5):
            loss = ids + segment / 8
            store.write_segment(
                segment, SegmentRows(ids, 0 * ids, ids, loss, {"accuracy": loss, "loss": loss})
            )
    path = tmp_path / "sweep.sqlite"
    content = bytearray(path.read_bytes())
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT pageno FROM dbstat WHERE name = 'curves' AND pagetype = 'leaf' ORDER BY path"
        try:
            pages = [number for (number,) in connection.execute(query)]
        except sqlite3.OperationalError:
            pytest.skip("this SQLite tells no pages")
    middle = pages[len(pages) // 2]
    content[(middle - 1) * 4096 : middle * 4096] = b"\xff" * 4096
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"malformed"):
        read(tmp_path)
    record = read(tmp_path, intact=True)
    assert 500 < len(record.curves) < 1000
    np.testing.assert_array_equal(
        record.curves["train_loss"], record.curves["config_id"] + record.curves["segment"] / 8
    )
    assert record.damage[0].startswith("rows of the table of curves (")
    assert len(record.configurations) == 200


def test_a_truncated_file_still_gives_what_is_there(tmp_path):
    ids = np.arange(200)
    with create(tmp_path, settings={"note": "mine"}, configs={"rate": ids / 7}, seeds=1) as store:
        for segment in range(5):
            loss = ids + segment / 8
            store.write_segment(
                segment, SegmentRows(ids, 0 * ids, ids, loss, {"accuracy": loss, "loss": loss})
            )
    path = tmp_path / "sweep.sqlite"
    path.write_bytes(path.read_bytes()[: -3 * 4096 - 100])
    with pytest.raises(InputError, match=r"truncated|malformed"):
        read(tmp_path)
    record = read(tmp_path, intact=True)
    assert record.settings["note"] == "mine"
    assert record.damage
    np.testing.assert_array_equal(
        record.curves["train_loss"], record.curves["config_id"] + record.curves["segment"] / 8
    )
