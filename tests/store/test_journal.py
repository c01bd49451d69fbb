"""A journal that cannot be altered unnoticed, and one writer a folder."""

import os
import sqlite3
import subprocess
import sys
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jbn import store
from jbn.errors import InputError
from jbn.store import journal

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.dictionaries(st.text(st.characters(codec="utf-8")), JSON, max_size=3), min_size=1, max_size=4)
)
def test_what_is_written_is_read(tmp_path_factory, entries):
    folder = tmp_path_factory.mktemp("journal")
    assert [journal.append(folder, entry) for entry in entries] == list(range(len(entries)))
    assert journal.read(folder) == entries


@pytest.fixture
def folder(tmp_path):
    for number in range(5):
        journal.append(tmp_path, {"action": "train", "loss": number})
    return tmp_path


def changed(folder, statement):
    with sqlite3.connect(folder / journal.FILE_NAME) as connection:
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    ("statement", "entry"),
    [
        ("""UPDATE journal SET content = '{"action": "train", "loss": 9}' WHERE entry = 3""", 3),
        ("DELETE FROM journal WHERE entry = 1", 1),
        ("UPDATE journal SET seal = 'x' WHERE entry = 0", 0),
        ("UPDATE journal SET content = x'00' WHERE entry = 2", 2),
        ("UPDATE journal SET entry = 9 WHERE entry = 4", 4),
    ],
)
def test_an_altered_entry_is_named(folder, statement, entry):
    changed(folder, statement)
    with pytest.raises(InputError, match=rf"entry {entry} of .*journal.sqlite' was altered or is missing"):
        journal.read(folder)


def test_two_entries_that_change_places_are_noticed(folder):
    changed(folder, "UPDATE journal SET entry = entry + 10")
    changed(folder, "UPDATE journal SET entry = CASE entry WHEN 12 THEN 3 WHEN 13 THEN 2 ELSE entry - 10 END")
    with pytest.raises(InputError, match="entry 2 of"):
        journal.read(folder)


def test_damaged_bytes_are_noticed(folder):
    path = folder / journal.FILE_NAME
    content = path.read_bytes()
    place = content.index(b'"loss": 3')
    path.write_bytes(content[: place + 8] + b"7" + content[place + 9 :])
    with pytest.raises(InputError, match="entry 3 of"):
        journal.read(folder)
    path.write_bytes(content[: len(content) // 3])
    with pytest.raises(InputError, match="damaged or truncated"):
        journal.read(folder)


def test_what_is_no_journal(tmp_path):
    with pytest.raises(InputError, match=r"there is no journal in .* name the folder of a panda"):
        journal.read(tmp_path)
    (tmp_path / journal.FILE_NAME).write_bytes(b"something else, quite long, " * 40)
    with pytest.raises(InputError, match="no database of a sweep"):
        journal.read(tmp_path)


def test_another_database_and_a_newer_format(folder, tmp_path):
    changed(folder, "PRAGMA user_version = 9")
    with pytest.raises(InputError, match="has format 9, this jbn reads formats up to 1"):
        journal.read(folder)
    changed(folder, "PRAGMA application_id = 5")
    with pytest.raises(InputError, match="is not the journal of a panda"):
        journal.read(folder)


def test_what_json_cannot_say_is_refused(tmp_path):
    with pytest.raises(InputError, match="must be numbers, strings"):
        journal.append(tmp_path, {"model": object()})
    assert not journal.exists(tmp_path)


def test_a_second_process_is_told_who_has_the_folder(tmp_path):
    code = (
        "import sys; from jbn.store import Lock; lock = Lock(sys.argv[1]); "
        "print('has it', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "has it\n"
        with pytest.raises(
            InputError, match=f"is written to by process {other.pid}: wait until it has ended"
        ):
            store.Lock(tmp_path)
        other.kill()
    store.Lock(tmp_path).release()


def test_a_lock_needs_a_folder(tmp_path):
    with pytest.raises(InputError, match="cannot write to"):
        store.Lock(tmp_path / "none")


def test_what_a_kill_left_half_done_is_taken_back(folder, tmp_path_factory):
    """SQLite keeps what was there before in a second file until it has written; a reader takes it from there."""
    connection = sqlite3.connect(folder / journal.FILE_NAME, isolation_level=None)
    connection.execute("PRAGMA cache_size = 1")  # so that pages are written before the end
    connection.execute("BEGIN IMMEDIATE")
    for number in range(5, 60):
        connection.execute("INSERT INTO journal VALUES (?, ?, '')", (number, "x" * 3000))
    killed = tmp_path_factory.mktemp("killed")
    for name in (journal.FILE_NAME, f"{journal.FILE_NAME}-journal"):
        (killed / name).write_bytes((folder / name).read_bytes())
    connection.close()
    assert len((killed / journal.FILE_NAME).read_bytes()) > 50_000
    assert [entry["loss"] for entry in journal.read(killed)] == [0, 1, 2, 3, 4]
    assert journal.append(killed, {"loss": 5}) == 5


def test_a_journal_that_cannot_be_written_to_is_read(folder):
    with mock.patch("os.access", lambda path, mode: mode != os.W_OK):
        assert len(journal.read(folder)) == 5
