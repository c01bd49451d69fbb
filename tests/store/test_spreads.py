"""Segments have the spreads of running statistics; older stores have none."""

import sqlite3
from contextlib import closing

import numpy as np
import pytest

from jbn.errors import InputError
from jbn.store import SegmentRows, create, read, read_spreads

NAN = float("nan")


def rows(members, spreads):
    ids, seeds = np.array(members).T
    zero = np.zeros(len(ids))
    return SegmentRows(ids, seeds, np.ones(len(ids), int), zero, {"accuracy": zero, "loss": zero}, spreads)


def three(*first):
    return np.array([[number, number + 1, number + 2] for number in first], float)


@pytest.fixture
def folder(tmp_path):
    rates = np.array([0.1, 0.2, 0.3])
    with create(tmp_path / "run", settings={}, configs={"learning_rate": rates}, seeds=2) as store:
        store.write_segment(
            0, rows([(2, 1), (0, 0), (2, 0)], {"a/mean": three(20, 0, 10), "b/mean": three(NAN, 5, 6)})
        )
        store.write_segment(1, rows([(0, 0), (2, 0)], {}))
        store.write_segment(2, rows([(0, 0), (2, 0)], {"a/mean": three(1, 11)}))
    return tmp_path / "run"


def test_a_member_has_its_own_spreads_however_rows_were_ordered(folder):
    found = read_spreads(folder, lambda segment: (2, 0))
    assert {
        segment: {name: values.tolist() for name, values in own.items()} for segment, own in found.items()
    } == {
        0: {"a/mean": [10, 11, 12], "b/mean": [6, 7, 8]},
        2: {"a/mean": [11, 12, 13]},
    }


def test_what_a_member_does_not_have_is_missing(folder):
    assert read_spreads(folder, lambda segment: (2, 1)).keys() == {0}  # it took part in no other
    assert list(read_spreads(folder, lambda segment: (2, 1))[0]) == ["a/mean"]
    assert read_spreads(folder, lambda segment: (1, 0)) == {}


def test_of_one_member_after_the_other(folder):
    found = read_spreads(folder, lambda segment: (0, 0) if segment < 2 else (2, 0))
    assert [own["a/mean"].tolist()[0] for own in found.values()] == [0, 11]


def test_older_stores_have_none(folder):
    with closing(sqlite3.connect(folder / "sweep.sqlite")) as connection:
        connection.execute("DROP TABLE spreads")
        connection.execute("PRAGMA user_version = 5")
        connection.commit()
    assert len(read(folder).curves) == 7
    assert read_spreads(folder, lambda segment: (2, 0)) == {}


def test_damage_is_told(folder):
    with closing(sqlite3.connect(folder / "sweep.sqlite")) as connection:
        connection.execute("UPDATE spreads SET cells = zeroblob(length(cells)) WHERE segment = 2")
        connection.commit()
    with pytest.raises(
        InputError, match=r"is damaged \(the spread of running statistics in segment 2 was altered"
    ):
        read_spreads(folder, lambda segment: (2, 0))


def test_rounds_are_read_as_one(tmp_path):
    for number in (1, 2):
        configs = {"learning_rate": np.array([0.1])}
        about = {"expected": {"programs": number}, "seed": 0}
        with create(tmp_path / f"round-{number}", settings=about, configs=configs, seeds=1) as store:
            store.write_segment(0, rows([(0, 0)], {}))
            store.write_settings(seconds=float(number))
    record = read(tmp_path)
    assert record.segments[["round", "segment"]].values.tolist() == [[1, 0], [2, 0]]
    assert [own["seconds"] for own in record.settings["of_rounds"]] == [1.0, 2.0]
    assert [own["expected"]["programs"] for own in record.settings["of_rounds"]] == [1, 2]
    assert "seconds" not in record.settings
