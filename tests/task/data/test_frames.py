import gzip
import sys

import numpy as np
import pandas as pd
import pytest

from jbn.errors import InputError
from jbn.task.data import frames

CSV = "name,age,note\nAnn,31,\nBo,,NA\n"


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", CSV),
        ("A.CSV", CSV.encode("utf-8-sig")),
        ("a.csv", CSV.replace("\n", "\r\n")),
        ("a.csv.gz", gzip.compress(CSV.encode(), mtime=0)),
    ],
)
def test_csv_files(tmp_path, name, content):
    frame = frames.read(write(tmp_path / name, content))
    assert frame.columns.tolist() == ["name", "age", "note"]
    assert frame.name.tolist() == ["Ann", "Bo"]
    np.testing.assert_array_equal(frame.age, [31, np.nan])
    assert frame.note.isna().all()


def test_numbers_of_a_csv_file_are_exact(tmp_path):
    numbers = np.random.default_rng(0).standard_normal(200) * 10.0 ** np.arange(-100, 100)
    path = write(tmp_path / "a.csv", "x\n" + "\n".join(map(repr, numbers.tolist())))
    np.testing.assert_array_equal(frames.read(path).x, numbers)


def test_parquet_files(tmp_path):
    given = pd.DataFrame({"a": [1.5, None], "b": ["x", None], "c": pd.Categorical(["u", "v"])})
    given.to_parquet(tmp_path / "a.parquet")
    pd.testing.assert_frame_equal(frames.read(tmp_path / "a.parquet"), given)


def test_names_stay_as_they_are_in_the_file(tmp_path):
    assert frames.read(write(tmp_path / "a.csv", ",x,x\n1,2,3\n")).columns.tolist() == ["", "x", "x"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", "", ["is empty", "EmptyDataError"]),
        ("a.csv", "\n\n", ["is empty", "EmptyDataError"]),
        ("a.csv", "a,b\n1,2,3\n4,5,6\n", ["ParserWarning", "Length of header"]),
        ("a.csv", "a,b\n1,2\n4,5,6\n", ["Expected 2 fields in line 3, saw 3"]),
        ("a.csv", 'a,b\n1,"2\n', ["EOF inside string"]),
        ("a.csv", "a,b\n1,ä\n".encode("latin-1"), ["UnicodeDecodeError", "no table in UTF-8"]),
        ("a.csv", bytes(range(256)), ["damaged"]),
        ("a.csv.gz", CSV, ["BadGzipFile"]),
        ("a.csv.gz", gzip.compress(CSV.encode(), mtime=0)[:-9], ["EOFError"]),
        ("a.parquet", "", ["is empty", "ArrowInvalid"]),
        ("a.parquet", CSV, ["ArrowInvalid"]),
        ("a.csv", "a;b\n1;2\n", ["must have commas between its columns", "'a;b'", "sep="]),
        ("a.csv", "a\tb\n1\t2\n", ["must have commas between its columns"]),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, content, words):
    path = write(tmp_path / name, content)
    with pytest.raises(InputError) as raised:
        frames.read(path)
    for word in [str(path), *words]:
        assert word in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_truncated_parquet_file(tmp_path, share):
    path = tmp_path / "a.parquet"
    pd.DataFrame({"a": range(1000)}).to_parquet(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=r"a.parquet cannot be read, as it is empty, damaged or no table"):
        frames.read(path)


def test_a_missing_file_and_one_of_another_kind(tmp_path):
    with pytest.raises(InputError, match=r"a.csv must be a table, but there is no such file; check the path"):
        frames.read(tmp_path / "a.csv")
    with pytest.raises(InputError, match=r"a.xlsx must end in .csv, .csv.gz, .parquet; read it with pandas"):
        frames.read(write(tmp_path / "a.xlsx", CSV))


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "a.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(
        InputError, match=r"a.parquet needs pyarrow .* not installed; install the extra jbn\[parquet"
    ):
        frames.read(tmp_path / "a.parquet")
