"""A run that was ended before its time goes on as if it had not been."""

import dataclasses
import logging
import os
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pandas as pd
import pytest

import jbn
from jbn import store
from jbn.runs.pace import Pace
from jbn.runs.recall import recalled

TASK = jbn.Task(model=jbn.mlp(), data=jbn.data.digits())
SPACE = jbn.Space(
    learning_rate=jbn.log_uniform(1e-3, 1.0),
    layers=jbn.integers(1, 2),
    hidden_units=16,
    batch_size=256,
)
CONFIGS = jbn.search.random(SPACE, 12, key=0)
KEY, EPOCHS = jax.random.key(1), 5


def nothing(history, key):
    """A policy that wants to see every segment, so that no part of the population runs ahead."""
    return jbn.Edits()


def policy(kind):
    return {"none": nothing, "halving": jbn.halving(), "pbt": jbn.pbt(SPACE)}[kind]


def ended_after(segments):
    return lambda state: state.segment >= segments


def tables(folder):
    record = store.read(folder)
    return record.configurations, record.curves, record.events


def assert_same(first, second):
    for one, other in zip(tables(first), tables(second), strict=True):
        pd.testing.assert_frame_equal(one, other, check_exact=True)


@pytest.fixture(scope="module", params=["none", "halving", "pbt"])
def whole(request, tmp_path_factory):
    """A run that nobody interrupted, and what it knew after each segment."""
    out, seen = tmp_path_factory.mktemp("whole") / "run", []
    own = policy(request.param)

    def watched(history, key):
        seen.append(history)
        return own(history, key)

    result = jbn.sweep(TASK, CONFIGS, epochs=EPOCHS, key=KEY, seeds=2, policy=watched, out=out)
    return request.param, out, result, seen


@pytest.mark.parametrize("segments", [1, 3])
def test_an_interrupted_run_ends_bit_for_bit_as_the_whole_one(whole, tmp_path, segments):
    kind, out, result, _ = whole
    part = jbn.sweep(
        TASK,
        CONFIGS,
        epochs=EPOCHS,
        key=KEY,
        seeds=2,
        policy=policy(kind),
        out=tmp_path / "run",
        on_segment=ended_after(segments),
    )
    assert part.interrupted
    assert segments <= len(part.history.steps) < EPOCHS
    own = jbn.resume(tmp_path / "run", TASK, policy=policy(kind))
    assert not own.interrupted
    pd.testing.assert_frame_equal(own.table(), result.table(), check_exact=True)
    assert_same(tmp_path / "run", out)
    assert own.events == result.events
    assert own.test == result.test
    jax.tree.map(np.testing.assert_array_equal, own.best().params, result.best().params)
    assert store.read(tmp_path / "run").settings["resumed"] == [len(part.history.steps)]


def test_the_history_of_every_segment_is_in_the_database(whole):
    kind, out, result, seen = whole
    record = store.read(out)
    empty = seen[0]._replace(configs={name: np.repeat(values, 2) for name, values in CONFIGS.items()})
    for segments, before in enumerate(seen, 1):
        own = recalled(record, empty, segments)
        for name in ("train_loss", "steps"):
            np.testing.assert_array_equal(getattr(own, name), getattr(before, name))
        for name, curve in before.validation.items():
            np.testing.assert_array_equal(own.validation[name], curve)
        if segments < len(seen):  # what the policy did after it is seen with the next
            np.testing.assert_array_equal(own.status == 0, seen[segments].steps[-1] > before.steps[-1])
            for name, values in seen[segments].configs.items():
                np.testing.assert_array_equal(own.configs[name], values)
    assert (kind == "none") == (len(record.events) == 0)
    assert len(result.events) == len(record.events)


LONG = 40  # where no policy decides, parts of a population are up to 16 segments ahead of others


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A whole run and an interrupted one, without a policy."""
    folder = tmp_path_factory.mktemp("plain")
    jbn.sweep(TASK, CONFIGS, epochs=LONG, key=KEY, out=folder / "whole")
    jbn.sweep(TASK, CONFIGS, epochs=LONG, key=KEY, out=folder / "part", on_segment=ended_after(2))
    return folder / "whole", folder / "part"


def test_another_number_of_workers_gives_the_same(plain, tmp_path):
    shutil.copytree(plain[1], tmp_path / "run")
    jbn.resume(tmp_path / "run", TASK, workers=1)
    assert_same(tmp_path / "run", plain[0])


@pytest.mark.parametrize("damaged", ["last", "all"])
def test_a_damaged_checkpoint_is_named_and_an_earlier_one_taken(plain, tmp_path, caplog, damaged):
    run = tmp_path / "run"
    shutil.copytree(plain[1], run)
    jbn.resume(run, TASK, on_segment=ended_after(store.read(run).checkpoints[0].segment + 1))
    before = store.read(run).checkpoints
    assert len(before) == 2
    for own in before[-1:] if damaged == "last" else before:
        (path,) = (run / "checkpoints" / own.name).iterdir()
        path.write_bytes(path.read_bytes()[:-1])
    with caplog.at_level(logging.WARNING, "jbn"):
        jbn.resume(run, TASK)
    assert (
        f"{before[-1].name}/0.safetensors' was altered or truncated; going on from an earlier one"
        in caplog.text
    )
    assert store.read(run).settings["resumed"][-1] == (before[0].segment if damaged == "last" else 0)
    assert_same(run, plain[0])


def test_more_epochs_are_those_of_a_longer_run(plain, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(plain[0], run)
    own = jbn.resume(run, TASK, epochs=LONG + 2)
    long = jbn.sweep(TASK, CONFIGS, epochs=LONG + 2, key=KEY)
    pd.testing.assert_frame_equal(own.table(), long.table(), check_exact=True)
    np.testing.assert_array_equal(own.history.train_loss, long.history.train_loss)


def test_folds_go_on_too(tmp_path):
    options = {"epochs": LONG, "key": KEY, "folds": 3}
    configs = {"learning_rate": [0.01, 0.1], "batch_size": [128, 128]}
    task = jbn.Task(model=jbn.mlp(layers=1, hidden_units=8), data=TASK.data)
    whole = jbn.sweep(task, configs, **options)
    jbn.sweep(task, configs, out=tmp_path / "run", on_segment=ended_after(1), **options)
    own = jbn.resume(tmp_path / "run", task)
    pd.testing.assert_frame_equal(own.table(), whole.table(), check_exact=True)
    assert own.folds == 3


def test_what_cannot_go_on(plain, tmp_path):
    whole, part = plain
    with pytest.raises(jbn.InputError, match="there is no sweep in"):
        jbn.resume(tmp_path / "nowhere", TASK)
    with pytest.raises(jbn.InputError, match=rf"has ended after its {LONG} epochs; give more to go on"):
        jbn.resume(whole, TASK)
    with pytest.raises(jbn.InputError, match=r"epochs must be at least \d+, which the run in .* has, got 1"):
        jbn.resume(part, TASK, epochs=1)
    other = jbn.Task(model=TASK.model, data=jbn.data.digits(seed=1))
    with pytest.raises(
        jbn.InputError, match="must go on with the task it began with, but its data checksum was"
    ):
        jbn.resume(part, other)
    other = jbn.Task(model=jbn.mlp(dropout=0.5), data=TASK.data)
    with pytest.raises(jbn.InputError, match="the task it began with, but its defaults was"):
        jbn.resume(part, other)
    lock = store.Lock(part)
    with pytest.raises(jbn.InputError, match=rf"is written to by process {os.getpid()}: wait until"):
        jbn.resume(part, TASK)
    lock.release()


def test_other_versions_are_told(plain, tmp_path, caplog):
    run = tmp_path / "run"
    shutil.copytree(plain[1], run)
    with store.reopen(run, segments=99) as own:
        own.write_settings(versions={"jax": "0.1.0"})
    with caplog.at_level(logging.WARNING, "jbn"):
        jbn.resume(run, TASK)
    assert (
        f"the run was begun with jax 0.1.0, this is {jax.__version__}: its last digits may differ"
        in caplog.text
    )


def test_what_a_run_does_not_say_of_its_task_is_the_default(plain, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(plain[1], run)
    said = {**store.read(run).settings["task"]}
    assert (said.pop("normalize"), said.pop("test_curves")) == (True, False)
    with store.reopen(run, segments=99) as own:
        own.write_settings(task=said)
    for name, value in (("normalize", False), ("test_curves", True)):
        message = f"but its {name.replace('_', ' ')} was {not value} and is {value} now"
        with pytest.raises(jbn.InputError, match=message):
            jbn.resume(run, dataclasses.replace(TASK, **{name: value}))
    assert jbn.resume(run, TASK).history.train_loss.shape[0] == LONG


def test_a_run_of_an_older_jbn_is_only_read(plain, tmp_path):
    import sqlite3
    from contextlib import closing

    run = tmp_path / "run"
    shutil.copytree(plain[1], run)
    with closing(sqlite3.connect(run / "sweep.sqlite", isolation_level=None)) as connection:
        connection.execute("DELETE FROM settings WHERE name = 'schedule_epochs'")
    with pytest.raises(
        jbn.InputError, match="was begun by an older jbn and can only be read; begin a new run"
    ):
        jbn.resume(run, TASK)


NEWER = ("batch_norm_scale", "batch_norm_bias")


def test_hyper_parameters_newer_than_a_run_are_as_they_were_then(plain, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(plain[1], run)
    said = store.read(run).settings
    for name in NEWER:
        del said["task"]["defaults"][name]
        for program in said["plan"]["programs"]:
            for cohort in program:
                del cohort["structure"][name]
    with store.reopen(run, segments=99) as own:
        own.write_settings(task=said["task"], plan=said["plan"])
    other = jbn.Task(model=jbn.mlp(batch_norm_scale=False), data=TASK.data)
    with pytest.raises(jbn.InputError, match=r"its defaults was .*'batch_norm_scale': True.* and is"):
        jbn.resume(run, other)
    jbn.resume(run, TASK)
    assert_same(run, plain[0])


def test_checkpoints_are_written_while_it_runs_where_they_are_cheap(tmp_path, monkeypatch):
    monkeypatch.setattr(Pace, "due", lambda self, now, size: True)
    seen = []

    def on_segment(state):
        seen.append([own.segment for own in store.read(tmp_path / "run").checkpoints])

    jbn.sweep(TASK, CONFIGS, epochs=LONG, key=KEY, out=tmp_path / "run", on_segment=on_segment)
    assert 1 <= seen[-2][-1] < LONG
    assert store.read(tmp_path / "run").checkpoints[-1].segment == LONG


def test_without_a_checkpoint_because_the_disk_is_full_the_run_goes_on(tmp_path, monkeypatch, caplog):
    def refuse(*_):
        raise jbn.InputError(
            "cannot write the checkpoint 'here' (No space left on device); free some disk space"
        )

    monkeypatch.setattr(Pace, "due", lambda self, now, size: True)
    monkeypatch.setattr(store.checkpoints, "write", refuse)
    with caplog.at_level(logging.WARNING, "jbn"):
        result = jbn.sweep(TASK, CONFIGS, epochs=3, key=KEY, out=tmp_path / "run")
    assert len(result.history.steps) == 3
    assert (
        "No space left on device); free some disk space; the run goes on without this checkpoint"
        in caplog.text
    )


_CHILD = """
import sys
sys.path.insert(0, {tests!r})
from runs.test_resume import CONFIGS, KEY, LONG, TASK, Pace
import jbn
Pace.due = lambda self, now, size: True
def told(state):
    print(state.segment, flush=True)
if {again}:
    jbn.resume({out!r}, TASK, on_segment=told)
else:
    jbn.sweep(TASK, CONFIGS, epochs=3 * LONG, key=KEY, out={out!r}, on_segment=told)
"""


def killed(out, segments, *, again):
    """Trains in another process, which is killed soon after so many segments."""
    tests = os.path.dirname(os.path.dirname(__file__))
    code = _CHILD.format(tests=tests, out=str(out), again=again)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        for line in child.stdout:
            if int(line) >= segments:
                time.sleep(0.002 * segments)
                child.send_signal(signal.SIGKILL)
                break


def test_killed_three_times_it_ends_as_if_nothing_had_been(tmp_path):
    """`scripts/bench reliability` kills it fifty times."""
    out = tmp_path / "run"
    for segments in (1, 30, 60):
        killed(out, segments, again=segments > 1)
        assert segments <= int(store.read(out).curves["segment"].max()) + 1 < 3 * LONG
    own = jbn.resume(out, TASK)
    whole = jbn.sweep(TASK, CONFIGS, epochs=3 * LONG, key=KEY, out=tmp_path / "whole")
    pd.testing.assert_frame_equal(own.table(), whole.table(), check_exact=True)
    assert_same(out, tmp_path / "whole")


def test_more_configurations_are_read_as_one_run(plain, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(plain[0], run)
    more = {name: values[:2] for name, values in jbn.search.random(SPACE, 2, key=7).items()}
    own = jbn.extend(run, TASK, more)
    alone = jbn.sweep(TASK, more, epochs=LONG, key=KEY)
    pd.testing.assert_frame_equal(own.table(), alone.table(), check_exact=True)
    record = store.read(run)
    assert record.configurations["round"].tolist() == [1] * 12 + [2] * 2
    assert len(record.curves) == 14 * LONG
    assert [path.name for path in store.rounds(run)] == ["run", "round-2"]
    with pytest.raises(jbn.InputError, match="the run does not vary 'layer': did you mean 'layers'"):
        jbn.extend(run, TASK, {**more, "layer": [1, 2]})
    with pytest.raises(jbn.InputError, match="the run varies 'layers': give its values too"):
        jbn.extend(run, TASK, {name: values for name, values in more.items() if name != "layers"})
    with pytest.raises(jbn.InputError, match="has not ended: go on with it first"):
        jbn.extend(plain[1], TASK, more)
    with pytest.raises(jbn.InputError, match="there is no sweep in"):
        jbn.extend(tmp_path / "nowhere", TASK, more)


def test_data_from_a_single_iterator_cannot_be_read_again(tmp_path):
    x, y = TASK.data.train.x, TASK.data.train.y
    parts = {"x_validation": x[:50], "y_validation": y[:50], "x_test": x[:50], "y_test": y[:50]}
    with pytest.warns(UserWarning, match="cannot be read again: a run on it cannot resume"):
        data = jbn.data.stream(iter([(x, y)] * 9), rows=len(y), classes=10, **parts)
    task = jbn.Task(model=jbn.mlp(layers=1, hidden_units=8), data=data)
    jbn.sweep(task, {"learning_rate": [0.01]}, epochs=1, key=KEY, out=tmp_path / "run")
    with pytest.raises(
        jbn.InputError, match=r"goes on only with data that can be read again, but .* single iterator"
    ):
        jbn.resume(tmp_path / "run", task, epochs=2)
