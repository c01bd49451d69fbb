import sqlite3
from contextlib import closing

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jbn.errors import InputError
from jbn.store import Store, create, read


def new(folder, **more) -> Store:
    given = {"settings": {}, "configs": {"learning_rate": np.array([0.1, 1.0])}, "seeds": 1} | more
    return create(folder, **given)


def plain(folder, sql):
    with closing(sqlite3.connect(folder / "sweep.sqlite", isolation_level=None)) as connection:
        return connection.execute(sql).fetchall()


@pytest.mark.parametrize("name", ['x" REAL); DROP TABLE curves; --', "it's", "[a]", "select", "größe", "a b"])
def test_no_name_can_break_the_sql(tmp_path, name):
    new(tmp_path, configs={name: np.array([0.5, 2.0])}).close()
    record = read(tmp_path)
    assert record.configurations[name].tolist() == [0.5, 2.0]
    assert next(iter(record.curves)) == "config_id"


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text("\"'`[]();-? %ab\\", min_size=1), min_size=1, unique=True))
def test_no_quoting_is_lost(tmp_path_factory, names):
    folder = tmp_path_factory.mktemp("run")
    new(folder, configs={name: np.array([place]) for place, name in enumerate(names)}).close()
    table = read(folder).configurations
    assert list(table)[1:-7] == names
    assert read(folder).hypers == names
    assert [int(table[name].iloc[0]) for name in names] == list(range(len(names)))


def test_the_tables_are_as_documented(tmp_path):
    new(tmp_path).close()
    assert plain(tmp_path, "PRAGMA journal_mode") == [("wal",)]
    keys = {row[1]: row[5] for row in plain(tmp_path, "PRAGMA table_info(curves)")}
    assert [name for name, place in sorted(keys.items(), key=lambda item: item[1]) if place] == [
        "config_id",
        "seed",
        "segment",
    ]
    (text,) = plain(tmp_path, "SELECT sql FROM sqlite_master WHERE name = 'curves'")[0]
    assert text.endswith("WITHOUT ROWID")


@pytest.mark.parametrize(
    "name",
    ["config_id", "Status", "STEPS", "validation_accuracy", "validation_loss_standard_error", "objective"],
)
def test_fixed_names(tmp_path, name):
    with pytest.raises(
        InputError, match=f"{name!r} has the name of a fixed column, {name.lower()!r}; rename"
    ):
        new(tmp_path / "run", configs={name: np.zeros(2)})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["", "a\0b", "a\nb", "\ud800"])
def test_unprintable_names(tmp_path, name):
    with pytest.raises(InputError, match=r"needs a printable name"):
        new(tmp_path, configs={name: np.zeros(2)})


def test_names_that_differ_by_case(tmp_path):
    with pytest.raises(InputError, match=r"must differ by more than case, but 'beta' and 'Beta' do not"):
        new(tmp_path, configs={"beta": np.zeros(2), "Beta": np.zeros(2)})
