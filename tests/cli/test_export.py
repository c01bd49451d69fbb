"""`jbn export`: every format, and one line for what it cannot do."""

import os
import sys

import numpy as np
import pytest

from jbn import store
from jbn.cli import main
from jbn.runs.export import FORMATS

PATHS = {
    "csv": "table.csv",
    "parquet": "table.parquet",
    "jsonl": "run.jsonl",
    "optuna": "study.log",
    "tensorboard": "events",
    "netcdf": "curves.nc",
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    two, zero = np.arange(2), np.zeros(2, int)
    metrics = {"accuracy": two / 2.0, "loss": two * 1.0}
    with store.create(
        tmp_path / "run", settings={}, configs={"learning_rate": np.array([0.1, 0.2])}, seeds=1
    ) as own:
        own.write_segment(0, store.SegmentRows(two, zero, zero + 5, two * 1.0, metrics))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def jbn(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["jbn", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


@pytest.mark.parametrize("to", FORMATS)
def test_every_format_is_written(place, monkeypatch, capsys, to):
    assert jbn(monkeypatch, "export", "run", "--to", to, PATHS[to]) == 0
    assert capsys.readouterr().out == f"wrote {PATHS[to]}\n"
    assert os.path.exists(PATHS[to])


@pytest.mark.parametrize("to", ["csv", "jsonl"])
def test_text_is_printed_as_it_would_be_written(place, monkeypatch, capsys, to):
    assert jbn(monkeypatch, "export", "run", "--to", to, PATHS[to]) == 0
    capsys.readouterr()
    assert jbn(monkeypatch, "export", "run", "--to", to, "-") == 0
    assert capsys.readouterr().out == (place / PATHS[to]).read_text(encoding="utf-8")
    assert not (place / "-").exists()


def test_the_help_names_every_format(monkeypatch, capsys):
    assert jbn(monkeypatch, "export", "--help") == 0
    shown = capsys.readouterr().out
    for name in FORMATS:
        assert name in shown.split("Options:")[0]
        assert name in shown.split("Options:")[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "--to", "optuma", "study.log"), "unknown format 'optuma': did you mean 'optuna'?"),
        (("nowhere", "--to", "jsonl", "run.jsonl"), "there is no sweep in 'nowhere'"),
        (("run", "--to", "netcdf", "run"), "'run' exists already: pick another path, or remove it first"),
        (("run", "--to", "jsonl", "no/where.jsonl"), "cannot write 'no/where.jsonl': No such file"),
        (
            ("run", "--to", "optuna", "-"),
            "the standard output takes csv or jsonl, but the format is optuna: name a file",
        ),
    ],
)
def test_what_cannot_be_is_one_line(place, monkeypatch, capsys, arguments, message):
    assert jbn(monkeypatch, "export", *arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"error: {message}")
    assert len(shown.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("to", "library"),
    [("parquet", "pyarrow"), ("optuna", "optuna"), ("tensorboard", "tensorboard"), ("netcdf", "xarray")],
)
def test_a_library_that_is_missing_is_one_line(place, monkeypatch, capsys, to, library):
    monkeypatch.setitem(sys.modules, library, None)
    assert jbn(monkeypatch, "export", "run", "--to", to, "path") == 2
    assert capsys.readouterr().err == (
        f"error: the format {to} needs {library}, which is not installed: install the extra jbn[{to}]\n"
    )
