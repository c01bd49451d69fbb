"""`jbn sweep --resume`."""

import contextlib
import types

import numpy as np
import pytest
from rich.console import Console

from jbn import store
from jbn.cli import sweep as command
from jbn.cli.spec import resolve
from jbn.cli.sweep import INTERRUPTED, How, again, run
from jbn.errors import InputError

SPEC = """
configs = {configs}
rounds = {rounds}
epochs = 40
policy = "median_stopping"
[space]
learning_rate = {{log_uniform = [1e-3, 1e-1]}}
layers = 1
hidden_units = 8
batch_size = 256
"""
HOW = How(cache=False)


@contextlib.contextmanager
def _asked(_):
    yield types.SimpleNamespace(asked=True)


@pytest.fixture(params=[1, 2], ids=["at once", "in rounds"])
def runs(request, tmp_path, monkeypatch, capsys):
    """A run, the same interrupted, and what was shown of the second."""
    path = tmp_path / "spec.toml"
    path.write_text(SPEC.format(configs=24 if request.param == 2 else 6, rounds=request.param))
    assert run(resolve(path, {"out": str(tmp_path / "whole")}), Console(), HOW) == 0
    with monkeypatch.context() as patch:
        patch.setattr(command, "interruptible", _asked)
        capsys.readouterr()
        part = str(tmp_path / "a part")
        assert run(resolve(path, {"out": part}), Console(width=300), HOW) == INTERRUPTED
    return tmp_path / "whole", tmp_path / "a part", capsys.readouterr().out


def test_it_says_how_to_go_on_and_goes_on(runs, capsys):
    whole, part, shown = runs
    assert f"to go on: jbn sweep --resume '{part}'" in shown
    assert again(part, None, {}, Console(width=300), HOW) == 0
    assert "interrupted" not in capsys.readouterr().out
    first, second = store.read(whole), store.read(part)
    assert first.configurations.equals(second.configurations)
    assert first.curves.equals(second.curves)
    assert first.settings.get("winner") == second.settings.get("winner")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"seed": 3},
            "a run goes on as it began: leave out --seed; --resume takes --epochs, --configs, --ro",
        ),
        ({"epochs": 50, "configs": 9}, "give one of .* at a time"),
        ({"configs": 2}, "has 2 configurations: give more"),
        ({"policy": "halving"}, "leave out --policy"),
        ({"epochs": 1}, "epochs must be at least 40, which the run in"),
        ({}, "has ended after its 40 epochs; give more to go on"),
    ],
)
def test_what_does_not_go_with_it(tmp_path, options, message):
    path = tmp_path / "spec.toml"
    path.write_text(SPEC.format(configs=2, rounds=1).replace('policy = "median_stopping"', ""))
    run(resolve(path, {"out": str(tmp_path / "run")}), Console(), HOW)
    with pytest.raises(InputError, match=message):
        again(tmp_path / "run", None, options, Console(), HOW)
    with pytest.raises(InputError, match="leave out a spec"):
        again(tmp_path / "run", path, {}, Console(), HOW)


def test_more_configurations_are_those_of_a_larger_search(tmp_path, capsys):
    path = tmp_path / "spec.toml"
    path.write_text(SPEC.format(configs=3, rounds=1))
    run(resolve(path, {"out": str(tmp_path / "run")}), Console(), HOW)
    assert again(tmp_path / "run", None, {"configs": 5}, Console(), HOW) == 0
    run(resolve(path, {"out": str(tmp_path / "large"), "configs": 5}), Console(), HOW)
    both, large = store.read(tmp_path / "run"), store.read(tmp_path / "large")
    hypers = ["config_id", "learning_rate", "hidden_units"]
    assert both.configurations[hypers].equals(large.configurations[hypers])
    assert both.configurations["round"].tolist() == [1, 1, 1, 2, 2]
    first = both.curves[both.curves.segment == 0].reset_index(drop=True)
    assert first.equals(large.curves[large.curves.segment == 0].reset_index(drop=True))
    with pytest.raises(InputError, match=r"more epochs are for a single sweep, but .* has several rounds"):
        again(tmp_path / "run", None, {"epochs": 50}, Console(), HOW)
    with pytest.raises(InputError, match="has ended after its 40 epochs"):
        again(tmp_path / "run", None, {}, Console(), HOW)


def test_another_round(tmp_path, capsys):
    path = tmp_path / "spec.toml"
    path.write_text(SPEC.format(configs=24, rounds=2))
    run(resolve(path, {"out": str(tmp_path / "run")}), Console(), HOW)
    before = store.read(tmp_path / "run")
    assert again(tmp_path / "run", None, {"rounds": 3}, Console(width=200), HOW) == 0
    assert "round 3: 12 configurations" in capsys.readouterr().out
    after = store.read(tmp_path / "run")
    assert after.configurations["round"].value_counts().to_dict() == {1: 12, 2: 12, 3: 12}
    assert after.configurations.iloc[:24].equals(before.configurations)


def test_a_run_without_a_spec(tmp_path):
    store.create(tmp_path, settings={}, configs={"rate": np.ones(1)}, seeds=1).close()
    with pytest.raises(
        InputError, match=r"--resume trains what the run's spec says, .* call jbn\.resume in Python"
    ):
        again(tmp_path, None, {}, Console(), HOW)
    with pytest.raises(InputError, match="there is no sweep in"):
        again(tmp_path / "nowhere", None, {}, Console(), HOW)
