"""A network babysat: what is changed, undone, branched, killed and opened again."""

import json
import logging
import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

import jbn
from jbn.engine.executables import Executable
from jbn.errors import InputError
from jbn.runs.trainee import Trainee, digest
from jbn.store import journal

KEY = jax.random.key(3)
TASK = jbn.Task(model=jbn.mlp(layers=1, hidden_units=8), data=jbn.data.digits())
CONFIG = {"learning_rate": 0.01, "batch_size": 128}


@pytest.fixture
def baby(tmp_path):
    with jbn.panda(TASK, CONFIG, key=KEY, out=tmp_path / "baby") as own:
        yield own


def states(baby):
    return [entry["digest"] for entry in baby._diary.entries if "digest" in entry]


def test_it_trains_as_a_sweep_of_one_does(baby):
    baby.train(3)
    result = jbn.sweep(TASK, {name: [value] for name, value in CONFIG.items()}, epochs=3, key=KEY)
    curve = baby.curve()
    np.testing.assert_allclose(curve.train_loss, result.history.train_loss[:, 0], rtol=1e-5)
    np.testing.assert_allclose(curve.validation_loss, result.history.validation_loss[:, 0], rtol=1e-5)
    assert curve.segment.tolist() == [1, 2, 3]
    x, y = TASK.data.test
    assert baby.best().accuracy(x, y) == pytest.approx(result.test_accuracy, abs=1e-6)


def test_numbers_change_without_a_compile(baby, monkeypatch):
    baby.train(1)
    compiled = []
    monkeypatch.setattr(Executable, "__init__", lambda *a: compiled.append(a) or pytest.fail("compiled"))
    baby.set(
        learning_rate=0.003,
        beta1=0.8,
        beta2=0.99,
        dropout=0.2,
        decay_rate=0.1,
        batch_norm_momentum=0.5,
        clip_norm=1.0,
        label_smoothing=0.1,
    )
    baby.train(1)
    assert not compiled
    assert baby.config["dropout"] == 0.2


def test_weight_decay_and_momentum_change_without_a_compile(tmp_path, monkeypatch):
    for optimizer, values in (("adamw", {"weight_decay": 0.1}), ("sgd", {"optimizer_momentum": 0.5})):
        own = {**CONFIG, "optimizer": optimizer}
        with jbn.panda(TASK, own, key=KEY, out=tmp_path / optimizer) as baby:
            baby.train(1)
            with monkeypatch.context() as patch:
                patch.setattr(Executable, "__init__", lambda *a: pytest.fail("compiled"))
                baby.set(**values)
                baby.train(1)


def test_a_change_acts_from_the_next_segment_on(baby):
    """Without a rate the weights stand still."""
    baby.train(1)
    before = baby.best().params
    baby.set(learning_rate=0.0)
    baby.train(1)
    jax.tree.map(np.testing.assert_array_equal, baby.best().params, before)


def test_what_programs_are_built_for_costs_one_announced_compile(baby, caplog):
    baby.train(2)
    with caplog.at_level(logging.WARNING, "jbn"):
        baby.set(learning_rate=0.02)
        assert caplog.text == ""
        baby.set(learning_rate=0.01, batch_size=256)
    assert "batch_size: the next segment compiles new programs" in caplog.text
    baby.train(2)
    compiled = [entry["compiled"] for entry in baby._diary.entries if entry["action"] == "train"]
    assert compiled == [False, False, True, False]


def test_with_another_batch_size_epochs_still_count(tmp_path):
    """Alpha / (1 + d t) goes on with t = 2, not with twice the steps."""
    halving = {"learning_rate": 0.1, "decay_rate": 1.0, "batch_size": 128}
    with jbn.panda(TASK, halving, key=KEY, out=tmp_path) as baby:
        baby.train(2)
        baby.set(batch_size=256)
        baby.train(1)
        step = baby._diary.state(baby.last["state"], baby._trainee).member.step
    assert int(step) == 3 * (TASK.data.rows // 256)


def test_another_optimizer_begins_with_a_state_of_its_own(baby):
    baby.train(2)
    before = baby.best().params
    baby.set(optimizer="sgd", learning_rate=0.0)
    assert "beta1" not in baby.config
    assert baby.config["optimizer_momentum"] == 0.9
    baby.train(1)
    jax.tree.map(np.testing.assert_array_equal, baby.best().params, before)
    baby.rollback(to=2)
    assert baby.config["optimizer"] == "adam"


def test_rollback_takes_back_network_and_settings(baby):
    baby.train(2)
    baby.set(learning_rate=0.5)
    baby.train(2)
    first = states(baby)
    baby.rollback(to=2)
    assert (baby.segment, baby.config["learning_rate"]) == (2, 0.01)
    assert baby.curve().segment.tolist() == [1, 2]
    baby.set(learning_rate=0.5)
    baby.train(2)
    assert states(baby)[5:] == first[3:5]  # the same future again, bit for bit
    baby.rollback(to=0)
    assert baby.segment == 0
    assert baby.curve().empty


def test_a_rollback_can_be_taken_back(baby):
    baby.train(3)
    baby.rollback(to=1)
    baby.rollback(entry=3)
    assert baby.segment == 3
    with pytest.raises(InputError, match="must be one with a state, 0, 1, 2, 3, got 4"):
        baby.rollback(entry=4)


def test_branches_are_futures_of_their_own(baby):
    baby.train(2)
    other = baby.branch("warmer", at=1, note="what if")
    other.set(learning_rate=0.05)
    other.train(2)
    baby.train(1)
    assert baby.branches == ["main", "warmer"]
    assert (baby.segment, other.segment) == (3, 3)
    assert (baby.config["learning_rate"], other.config["learning_rate"]) == (0.01, 0.05)
    left, right = baby.curve(), other.curve()
    assert left.train_loss[0] == right.train_loss[0]
    assert (left.train_loss[1:] != right.train_loss[1:]).all()
    assert baby.branch().name == "branch-2"
    with pytest.raises(InputError, match="needs a new printable name, got 'warmer'"):
        baby.branch("warmer")
    with pytest.raises(InputError, match="no branch 'warm': did you mean 'warmer'"):
        baby.on("warm")


def test_it_goes_on_in_another_process_as_if_nothing_had_happened(tmp_path):
    with jbn.panda(TASK, CONFIG, key=KEY, out=tmp_path / "whole") as whole:
        whole.train(2)
        whole.set(dropout=0.1)
        whole.train(2)
        expected = states(whole)
    with jbn.panda(TASK, CONFIG, key=KEY, out=tmp_path / "parts") as baby:
        baby.train(2)
    code = """
import sys, jax, jbn
task = jbn.Task(model=jbn.mlp(layers=1, hidden_units=8), data=jbn.data.digits())
with jbn.panda(task, out=sys.argv[1]) as baby:
    baby.set(dropout=0.1)
    baby.train(1)
"""
    subprocess.run([sys.executable, "-c", code, tmp_path / "parts"], check=True)
    with jbn.panda(TASK, CONFIG, key=KEY, out=tmp_path / "parts") as baby:
        baby.train(1)
        assert states(baby) == expected
        assert baby.replay() == 4


def test_the_journal_holds_every_action_its_time_and_the_person_s_words(baby):
    baby.train(1, note="day one")
    baby.note("looks good")
    baby.set(learning_rate=0.02, note="bolder")
    rows = baby.log()
    assert rows.action.tolist() == ["start", "train", "note", "set"]
    assert rows.note.tolist() == ["", "day one", "looks good", "bolder"]
    assert rows.what[3] == "learning_rate = 0.02"
    assert rows.what[1].startswith("training loss ")
    assert rows.time.is_monotonic_increasing


def test_replay_notices_what_does_not_follow_from_the_seed(baby, tmp_path):
    baby.train(2)
    baby.close()
    entries = journal.read(baby._diary.folder)
    entries[2]["config"]["learning_rate"] = 0.02  # well sealed, but not what happened
    for entry in entries:
        journal.append(tmp_path / "forged", entry)
    (tmp_path / "forged" / "states").mkdir()
    for state in (baby._diary.folder / "states").iterdir():
        (tmp_path / "forged" / "states" / state.name).write_bytes(state.read_bytes())
    words = "entry 2 of the journal, segment 2, comes out differently"
    with jbn.panda(TASK, out=tmp_path / "forged") as forged, pytest.raises(InputError, match=words):
        forged.replay()


def test_it_speaks_up_but_changes_nothing(tmp_path):
    with jbn.panda(TASK, {**CONFIG, "learning_rate": 1e-6}, key=KEY, out=tmp_path) as baby:
        before = baby.config
        (finding,) = baby.train(3)
        assert finding.kind == "learning rate too low"
        assert "creeps" in finding.evidence
        assert baby.findings() == (finding,)
        assert baby.config == before
        baby.set(learning_rate=0.01)
        assert baby.train(3) == ()
        assert "learning rate too low" in baby.log().what[3]


def test_a_state_that_was_altered_is_named(baby):
    baby.train(2)
    path = baby._diary.folder / "states" / "000002.npz"
    path.write_bytes((path.parent / "000001.npz").read_bytes())
    with reopened(baby) as again:
        with pytest.raises(InputError, match=r"000002.npz' is not the state that entry 2"):
            again.train(1)
        again.rollback(to=1)
        again.train(1)


def reopened(baby):
    baby.close()
    return jbn.panda(TASK, out=baby._diary.folder)


def test_a_corrupted_journal_says_which_entry_and_nothing_is_lost(baby):
    baby.train(2)
    baby.close()
    path = baby._diary.folder / journal.FILE_NAME
    content = path.read_bytes()
    place = content.index(b'"segment": 2')
    path.write_bytes(content[: place + 11] + b"7" + content[place + 12 :])
    with pytest.raises(
        InputError, match=r"entry 2 of .* was altered or is missing; those before it are whole"
    ):
        jbn.panda(TASK, out=baby._diary.folder)
    path.write_bytes(content)
    with jbn.panda(TASK, out=baby._diary.folder) as again:
        assert again.segment == 2


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "nothing to set: name hyper-parameters"),
        ({"learning_rat": 0.1}, "unknown hyper-parameter 'learning_rat': did you mean 'learning_rate'"),
        ({"weight_decay": 0.1}, "unknown hyper-parameter 'weight_decay'"),
        ({"hidden_units": 20}, "hidden_units gives arrays their shapes and cannot change during a run"),
        ({"layers": 2}, "layers gives arrays their shapes"),
        ({"beta1": 1.0}, "beta1 must be a number"),
        ({"batch_size": 10**6}, "batch_size must be at most the 1078 rows"),
        ({"optimizer": "adm"}, "unknown optimizer 'adm'"),
        ({"schedule": "cosine"}, "schedule_epochs must say how long training is to be"),
    ],
)
def test_changes_that_are_refused_leave_everything_as_it_was(baby, values, words):
    before = len(baby.log())
    with pytest.raises(InputError, match=words):
        baby.set(**values)
    assert len(baby.log()) == before
    assert baby.config["learning_rate"] == 0.01


def test_rollbacks_and_epochs_that_do_not_exist(baby):
    baby.train(1)
    for to in (2, -1, None, 0.5):
        with pytest.raises(InputError, match=r"must be one of 0 to 1 that branch 'main' went through"):
            baby.rollback(to)
    with pytest.raises(InputError, match="epochs must be at least 1, but got 0"):
        baby.train(0)


def test_what_a_panda_began_with_stays(baby, tmp_path):
    folder = baby._diary.folder
    with pytest.raises(InputError, match=f"is written to by process {os.getpid()}"):
        jbn.panda(TASK, out=folder)
    baby.close()
    with pytest.raises(RuntimeError, match="was closed"):
        baby.train(1)
    with pytest.raises(InputError, match=r"began with .* leave the configuration out"):
        jbn.panda(TASK, {"learning_rate": 0.5}, out=folder)
    with pytest.raises(InputError, match="began with another key"):
        jbn.panda(TASK, key=jax.random.key(4), out=folder)
    with pytest.raises(InputError, match="began with other training rows than there are now"):
        jbn.panda(jbn.Task(model=TASK.model, data=jbn.data.digits(seed=5)), out=folder)
    with pytest.raises(InputError, match=r"began with other model \(mlp\) than there are now \(cnn\)"):
        jbn.panda(jbn.Task(model=jbn.cnn(), data=TASK.data), out=folder)
    with pytest.raises(InputError, match="needs a configuration to begin with"):
        jbn.panda(TASK, out=tmp_path / "none")
    with pytest.raises(InputError, match="unknown hyper-parameter"):
        jbn.panda(TASK, {"learning_rat": 0.5}, out=tmp_path / "none")
    assert not (tmp_path / "none").exists()
    jbn.panda(TASK, CONFIG, key=KEY, out=folder).close()


KILLED = """
import sys, jax, jbn
task = jbn.Task(model=jbn.mlp(layers=1, hidden_units=8), data=jbn.data.digits())
with jbn.panda(task, {"learning_rate": 0.01, "batch_size": 128}, key=jax.random.key(3), out=sys.argv[1]) as baby:
    print("ready", flush=True)
    baby.train(1000)
"""


@pytest.mark.parametrize("milliseconds", [3, 80, 250])
def test_killed_at_any_moment_it_loses_at_most_the_segment_in_progress(tmp_path, milliseconds):
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, tmp_path], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        while len(list((tmp_path / "states").glob("0*.npz"))) < 3:
            time.sleep(0.002)
        time.sleep(milliseconds / 1000)
        process.send_signal(signal.SIGKILL)
    kept = len(list((tmp_path / "states").glob("0*.npz"))) - 1
    with jbn.panda(TASK, CONFIG, key=KEY, out=tmp_path) as baby:
        assert kept - 1 <= baby.segment <= kept
        segment = baby.segment
        baby.train(1)
        trainee = Trainee(TASK, KEY)
        config = trainee.complete(CONFIG)
        state = trainee.start(config)
        for _ in range(segment + 1):
            state, _ = trainee.advance(state, config)
        assert digest(state) == states(baby)[-1]
        trainee.close()


def test_data_in_blocks_can_be_babysat(tmp_path):
    x, y = jbn.data.digits().train
    folder = tmp_path / "shards"
    folder.mkdir()
    np.savez(folder / "one.npz", x=x[:500], y=y[:500])
    np.savez(folder / "two.npz", x=x[500:], y=y[500:])
    data = jbn.data.shards(folder)
    task = jbn.Task(model=jbn.mlp(layers=1, hidden_units=8), data=data)
    with jbn.panda(task, {"learning_rate": 0.01, "batch_size": 64}, out=tmp_path / "baby") as baby:
        baby.train(2)
        first = states(baby)
        baby.rollback(to=1)
        baby.train(1)
        assert states(baby)[-1] == first[-1]
        assert json.dumps(baby.curve().train_loss.tolist())
