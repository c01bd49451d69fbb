"""`jbn advise`: times as a person writes them, what is said, and the command to run next."""

import os
import re
import shlex
from pathlib import Path

import pytest
from rich.console import Console

import jbn.cli.advise as cli
from jbn.cli.duration import clock, seconds_of
from jbn.cli.spec import resolve
from jbn.errors import InputError
from jbn.runs.advise import Advice
from tests.cli.command import jbn, process

SMALL = """
epochs = 3
[space]
learning_rate = {log_uniform = [1e-3, 1e-1]}
layers = 1
hidden_units = 4
batch_size = 256
"""


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2h", 7200),
        ("90m", 5400),
        ("30s", 30),
        ("1h30m", 5400),
        ("1H 30M", 5400),
        ("1.5h", 5400),
        ("1h2m3s", 3723),
        ("0.5s", 0.5),
    ],
)
def test_times(text, seconds):
    assert seconds_of(text, name="--budget") == seconds


@pytest.mark.parametrize("text", ["", "2", "2 hours", "h", "30m1h", "-2h", "0s", "1d", "1h30"])
def test_what_is_no_time(text):
    with pytest.raises(InputError) as error:
        seconds_of(text, name="--budget")
    assert str(error.value) == (
        f"--budget must be a time above 0 such as 2h, 90m, 30s or 1h30m, but got {text!r}"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0024, "2.4 ms"),
        (9.94, "9.9 s"),
        (59.6, "1 min"),
        (3599.6, "1 h"),
        (3661, "1 h 1 min"),
        (90, "1 min 30 s"),
    ],
)
def test_times_as_they_are_shown(seconds, text):
    assert clock(seconds) == text


class Made(Advice):
    """Advice whose predictions are made up: a second a configuration."""

    def predict(self, configs, policy=None, *, start=None):
        return float(configs)

    def started(self, start=None):
        return 40.0 if start == "cold" else 6.0


def made(recommendation="caviar", configs=412, **more):
    numbers = dict(
        reason="the budget holds 412 configurations at full length",
        budget=7200.0,
        epochs=50,
        seeds=1,
        workers=2,
        compile_seconds=35.0,
        epoch_seconds=0.002,
        by_time=412,
        by_memory=50_000,
        by_halving=4917,
        seconds={"time": 7190.0, "halving": 7191.0, "memory": 1e6},
        wanted=80,
        start="warm",
        cold_measured=True,
        spent=12.0,
        estimate=None,
    )
    return Made(recommendation=recommendation, configs=configs, **{**numbers, **more})


def shown(advice, capsys):
    cli.show_advice(Console(width=100), advice, "jbn sweep --configs 412")
    return capsys.readouterr().out


def test_what_is_said(capsys):
    lines = shown(made(), capsys).splitlines()
    assert lines[0] == "Caviar: the budget holds 412 configurations at full length."
    assert lines[1] == (
        "Starting, a sweep takes 6.0 s with the programs that are compiled now; 40 s with nothing compiled."
    )
    assert lines[2] == "A configuration takes 0.1 s for 50 epochs, with 2 workers busy."
    rows = {line.split("  ")[0].strip(): line.split("  ", 1)[1].split() for line in lines[4:8]}
    assert rows["2 h hold, all to the end"] == ["412", "2", "h"]
    assert rows["2 h hold, with halving"][0] == "4,917"
    assert rows["memory holds"][0] == "50,000"
    assert rows["a search of this space wants"] == ["80", "1", "min", "20", "s"]
    assert lines[-2:] == ["Next:", "  jbn sweep --configs 412"]


def test_what_is_said_where_less_is_known(capsys):
    text = shown(made(by_memory=None, cold_measured=False, by_time=0), capsys)
    assert "40 s with nothing compiled (by what the cache says)." in text
    assert "memory" not in text
    assert re.search(r"all to the end +0 +-", text)
    assert "Compiling alone" not in text
    assert "Compiling alone takes 35 s once, more than the budget." in shown(made(budget=20.0), capsys)
    assert "All times are for a start with nothing compiled; " in shown(made(start="cold"), capsys)


@pytest.mark.parametrize(
    ("advice", "path", "given", "expected"),
    [
        (made(), None, ["--data", "a b.csv"], "jbn sweep --data 'a b.csv' --configs 412"),
        (made("caviar with halving", 9), "s.toml", [], "jbn sweep s.toml --configs 9 --policy halving"),
        (made("panda", 1), None, ["--seed", "3"], "jbn sweep --seed 3 --configs 1"),
    ],
)
def test_the_command(advice, path, given, expected):
    assert cli.command(advice, path and Path(path), given) == expected
    assert cli.command(advice, path and Path(path), given, yes=True) == f"{expected} --yes"


@pytest.mark.parametrize("decided", ["grid = 3", 'policy = "halving"', "rounds = 2"])
def test_a_spec_decides_nothing_that_the_advice_is_about(tmp_path, decided):
    path = tmp_path / "spec.toml"
    path.write_text(f"{decided}\n{SMALL}")
    options = dict(budget="2h", path=path, given=[], cache=False, yes=False)
    with pytest.raises(InputError, match=f"leave {decided.split()[0]} out"):
        cli.run(resolve(path, {}), Console(), **options)


def test_as_a_person_uses_it(tmp_path):
    (tmp_path / "spec.toml").write_text(SMALL)
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    del environment["JAX_COMPILATION_CACHE_DIR"]
    options = ("--budget", "2s", "--epochs", "2")
    done = process("advise", "spec.toml", *options, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("Data('digits': 1078 training")
    assert lines[1].split(":")[0] in ("Panda", "Caviar", "Caviar with halving")
    assert shlex.split(lines[-1])[:5] == ["jbn", "sweep", "spec.toml", "--epochs", "2"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "spec.toml"]
    assert list((tmp_path / "cache" / "jbn" / "programs").iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--budget", "2 hours"), "such as 2h, 90m, 30s or 1h30m, but got '2 hours'"),
        (("--budget", "2h", "--epochs", "0"), "--epochs must be a whole number of at least 1, but got 0"),
        (("--budget", "2h", "--data", "digit"), "did you mean 'digits'"),
        ((), "Missing option '--budget'"),
    ],
)
def test_what_is_wrong_is_one_clear_message_and_exit_code_2(tmp_path, arguments, message):
    done = jbn("advise", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []
