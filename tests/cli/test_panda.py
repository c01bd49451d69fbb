"""`jbn panda` as a person uses it."""

import os
import signal
import subprocess
import sys

import pytest

import jbn
from jbn.runs.diary import Diary
from tests.cli.command import jbn as run


def panda(*arguments, cwd):
    return run("panda", *arguments, cwd=cwd)


SETTINGS = ("hidden_units=8", "layers=1", "batch_size=256")
DAYS = [
    ("start", "baby", "learning_rate=1e-6", *SETTINGS, "--note", "hello"),
    ("train", "baby", "--epochs", 3),
    ("set", "baby", "learning_rate=0.01", "--note", "too slow"),
    ("train", "baby", "--epochs", 2),
    ("branch", "baby", "bold", "--at", 3),
    ("set", "baby", "learning_rate=0.05", "--branch", "bold"),
    ("train", "baby", "--epochs", 3, "--branch", "bold"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="module")
def said(place):
    """What each command of a few days printed."""
    done = [panda(*arguments, cwd=place) for arguments in DAYS]
    assert [own.returncode for own in done] == [0] * len(DAYS), [own.stderr for own in done]
    return [own.stdout for own in done]


def test_every_command_says_what_it_did(said):
    assert "<panda on branch 'main', 0 segments trained, in 'baby'>" in said[0]
    assert said[1].count("segment ") == 3
    assert "segment 3: training loss 2." in said[1]
    assert "\nlearning rate too low: a step moves the weights by " in said[1]
    assert said[2] == "learning_rate: 1e-06 -> 0.01\n"
    assert "learning rate" not in said[3]
    assert said[4] == "branch 'bold' parts from 'main' at segment 3\n"
    assert "segment 6: " in said[6]


def test_the_journal_is_shown(said, place):
    lines = panda("log", "baby", cwd=place).stdout.splitlines()
    assert lines[0].split() == ["entry", "time", "branch", "action", "segment", "what", "note"]
    assert len(lines) == 1 + 1 + 3 + 1 + 2 + 1 + 1 + 3
    assert "learning_rate = 0.01" in lines[5]
    assert lines[5].rstrip().endswith("too slow")


def test_curves_are_shown_and_drawn(said, place):
    done = panda("show", "baby", "--png", "curve.png", cwd=place)
    assert done.returncode == 0, done.stderr
    assert "* main   o bold" in done.stdout
    assert "bold: 6 segments, loss " in done.stdout
    chart = done.stdout.splitlines()[1:13]
    assert sum(line.count("*") + line.count("o") for line in chart) >= 8
    assert (place / "curve.png").read_bytes()[:4] == b"\x89PNG"
    accuracy = panda("show", "baby", "--metric", "accuracy", cwd=place).stdout
    assert accuracy.startswith("validation accuracy\n")


def test_going_back(said, place):
    done = panda("rollback", "baby", "--to", 1, "--branch", "bold", cwd=place)
    assert done.stdout == "back at segment 1\n"
    done = panda("rollback", "baby", "--entry", 11, "--branch", "bold", cwd=place)
    assert done.stdout == "back at segment 6\n"


def test_everything_can_be_done_again(said, place):
    done = panda("replay", "baby", cwd=place)
    assert done.stdout == "8 segments trained again, every state is the same bit for bit\n", done.stderr


def test_a_panda_can_begin_with_the_winner_of_a_sweep(place):
    space = "learning_rate = {log_uniform = [1e-3, 1e-1]}\nlayers = 1\nhidden_units = 8\nbatch_size = 256"
    (place / "spec.toml").write_text(f"epochs = 1\n[space]\n{space}")
    options = ("--configs", 3, "--seed", 4, "--out", "run")
    assert run("sweep", "spec.toml", *options, cwd=place).returncode == 0
    done = panda("start", "child", "--like", "run", "learning_rate=0.02", cwd=place)
    assert done.returncode == 0, done.stderr
    start = Diary.reading(place / "child").entries[0]
    assert start["config"]["learning_rate"] == 0.02
    assert start["config"]["hidden_units"] == 8
    assert start["spec"]["seed"] == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("start", "baby"), "there is a panda in 'baby' already"),
        (("start", "new", "learning_rate"), "must be written name=value, got 'learning_rate'"),
        (("start", "new", "learning_rate=fast"), "learning_rate must be a number"),
        (("start", "new", "--like", "nowhere"), "there is no sweep in 'nowhere'"),
        (("start", "new", "--data", "nowhere.npz"), "nowhere.npz"),
        (("train", "nowhere"), "there is no journal in 'nowhere'"),
        (("train", "baby", "--branch", "bald"), "there is no branch 'bald': did you mean 'bold'"),
        (("set", "baby"), "nothing to set"),
        (("set", "baby", "layers=2"), "layers gives arrays their shapes"),
        (("set", "baby", "learning_rat=2"), "did you mean 'learning_rate'"),
        (("rollback", "baby", "--to", 77), "must be one of 0 to 5"),
        (("branch", "baby", "bold"), "needs a new printable name"),
        (("show", "baby", "--metric", "r2"), "must be of one of accuracy, loss, got 'r2'"),
    ],
)
def test_wrong_arguments_are_one_line_and_leave_no_trace(said, place, arguments, words):
    before = len(Diary.reading(place / "baby").entries)
    done = panda(*arguments, cwd=place)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert words in done.stderr
    assert len(Diary.reading(place / "baby").entries) == before
    assert not (place / "new").exists()


def test_one_that_was_not_trained_has_no_curve(place):
    assert panda("start", "young", *SETTINGS, cwd=place).returncode == 0
    done = panda("show", "young", cwd=place)
    assert done.returncode == 2
    assert "has not been trained yet" in done.stderr


def test_one_from_python_stays_there(place):
    task = jbn.Task(model=jbn.mlp(layers=1, hidden_units=8), data=jbn.data.digits())
    jbn.panda(task, {}, out=place / "py").close()
    done = panda("train", "py", cwd=place)
    assert done.returncode == 2
    assert "was begun from Python: go on there" in done.stderr


def test_ctrl_c_ends_after_the_segment(place):
    assert panda("start", "calm", *SETTINGS, cwd=place).returncode == 0
    command = [sys.executable, "-m", "jbn", "panda", "train", "calm", "--epochs", "5000"]
    with subprocess.Popen(
        command, cwd=place, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    ) as process:
        assert process.stdout.readline().startswith("segment 1: ")
        process.send_signal(signal.SIGINT)
        lines = process.stdout.read().splitlines()
    assert process.returncode == 130
    assert "stopping after the segments that have begun" in "\n".join(lines)
    last = [line for line in lines if line.startswith("segment ")][-1:]
    entries = Diary.reading(place / "calm").entries
    if last:
        assert last[0].startswith(f"segment {entries[-1]['segment']}: ")
