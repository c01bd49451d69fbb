"""The command of a run does the same again: typed words, or a spec that resolves to what held."""

import dataclasses
import shlex

import pytest

import jbn
from jbn.cli.spec import Spec, resolve
from jbn.cli.sweep import plain
from jbn.report.reproduce import command


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        (["sweep"], "jbn sweep"),
        (["sweep", "--configs", "8", "--seed", "3"], "jbn sweep --configs 8 --seed 3"),
        (["sweep", "--out", "runs/mine", "--epochs", "2"], "jbn sweep --epochs 2"),
        (["sweep", "--out=runs/mine", "--tune"], "jbn sweep --tune"),
        (["sweep", "--epochs", "2", "--out", "a b"], "jbn sweep --epochs 2"),
        (["sweep", "--data", "a b.csv", "--target", "it's"], "jbn sweep --data 'a b.csv' --target 'it'\"'\"'s'"),
        (["retest", "runs/x", "--data", "new.npz"], "jbn retest runs/x --data new.npz"),
    ],
)  # fmt: skip
def test_without_a_spec_it_is_what_was_typed_but_for_the_folder(typed, line):
    spec = plain(Spec()) if typed[0] == "sweep" else None
    found = command({"command": typed, "spec": spec})
    assert found.line == line
    assert found.spec == ""


SPACE = jbn.Space(
    learning_rate=jbn.log_uniform(1e-4, 1.0),
    optimizer=jbn.choice("adam", "sgd"),
    optimizer_momentum=jbn.search.when(jbn.uniform(0.0, 0.9), optimizer="sgd"),
    epsilon=1e-8,
)


@pytest.mark.parametrize(
    "spec",
    [
        Spec(space=SPACE, configs=12, epochs=3, out="runs/x"),
        Spec(space=SPACE, grid=2, seeds=3, folds=2, raw_inputs=True),
        Spec(space=SPACE, rounds=2, policy="halving", metrics=("accuracy",), objective="accuracy"),
        Spec(space=SPACE, data='we"ird\\.csv', target="größe", drop=["a", "b"], categorical=["c"]),
    ],
)
def test_a_spec_says_all_that_held(spec, tmp_path):
    """Read again, it is the same spec, but for its folder."""
    typed = ["sweep", "--epochs", "3", "--raw-inputs", "mine.toml", "--tune"]  # a switch has no value
    found = command({"command": typed, "spec": plain(spec)})
    assert found.line == "jbn sweep again.toml --tune"
    (tmp_path / "again.toml").write_text(found.spec, encoding="utf-8")
    again = resolve(tmp_path / "again.toml", {})
    assert again == dataclasses.replace(spec, out=None)


def test_values_of_options_are_no_files():
    typed = ["sweep", "--data", "digits", "--policy", "pbt", "--drop", "x", "--data-dir", "files"]
    found = command({"command": typed, "spec": plain(Spec(data="digits"))})
    assert found.line == shlex.join(["jbn", *typed])


def test_from_python_it_says_what_it_knows():
    found = command({"key": [0, 7], "epochs": 5, "seeds": 6, "folds": 3})
    assert found.line == found.spec == ""
    assert "jbn.sweep(task, configs, epochs=5, seeds=2, folds=3, key=jax.random.wrap_key_data(" in found.note
    assert "[0, 7]" in found.note
    assert command({}) == ("", "", "")
