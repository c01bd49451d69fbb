"""The plan before a sweep, what became of it after, and how much is refused."""

import jax
import pytest
from rich.console import Console

import jbn
from jbn.cli.spec import resolve
from jbn.cli.sweep import How, run
from jbn.errors import InputError

SPEC = """
configs = 6
epochs = 2
[space]
layers = {integers = [1, 2]}
hidden_units = {integers = [4, 9]}
batch_size = {choice = [128, 256]}
learning_rate = {log_uniform = [1e-3, 1e-1]}
"""


def spec(folder, text=SPEC):
    path = folder / "spec.toml"
    path.write_text(text)
    return resolve(path, {"out": str(folder / "run")})


def test_the_plan_is_shown_before_and_what_happened_after(tmp_path, capsys):
    assert run(spec(tmp_path), Console(width=100), How(cache=False, explain=True)) == 0
    shown = capsys.readouterr().out
    plan, outcome = shown.index("Plan: 2 programs"), shown.index("happened")
    assert plan < shown.index("segment 1/2") < outcome
    assert "≤ 9" in shown
    expected = shown[plan:outcome]
    for words in (
        "members",
        "padded",
        "compiling",
        "training",
        "GB of memory",
        "of the products are padding",
    ):
        assert words in expected
    numbers = {
        line.split("  ")[0].strip(): line.split()[-3:]
        for line in shown[outcome:].splitlines()
        if line.strip()
    }
    assert {"compiling, s", "training, s of a worker", "peak memory, GB"} <= set(numbers)
    for expected, happened, ratio in (numbers["compiling, s"], numbers["peak memory, GB"]):
        assert float(happened) / float(expected) == pytest.approx(float(ratio), rel=0.1)


def test_without_it_nothing_of_the_plan_is_shown(tmp_path, capsys):
    assert run(spec(tmp_path), Console(width=100), How(cache=False)) == 0
    assert "Plan" not in capsys.readouterr().out


MANY = """
configs = 400
epochs = 1
[space]
batch_size = {integers = [100, 180]}
"""


def test_many_programs_are_refused_unless_allowed(tmp_path):
    with pytest.raises(
        InputError, match=r"at most 32 programs, but this space needs \d+, about \d+ s of compiling.*--yes"
    ):
        run(spec(tmp_path, MANY), Console(), How(cache=False))
    assert not (tmp_path / "run").exists()


def test_the_limit_is_an_option_of_the_library_too():
    task = jbn.Task(model=jbn.mlp(layers=1, hidden_units=8), data=jbn.data.digits())
    configs = {"batch_size": [128, 256]}
    with pytest.raises(InputError, match="at most 1 programs, but this space needs 2"):
        jbn.sweep(task, configs, epochs=1, key=jax.random.key(0), max_programs=1)
    assert len(jbn.sweep(task, configs, epochs=1, key=jax.random.key(0), max_programs=None).table()) == 2


CHOICE = """
grid = 1
epochs = 1
[space]
optimizer = {choice = ["adam", "sgd"]}
nesterov = {choice = [true, false]}
layers = 1
hidden_units = 8
batch_size = 256
"""


def test_the_plan_tells_optimizers_apart(tmp_path, capsys):
    assert run(spec(tmp_path, CHOICE), Console(width=100), How(cache=False, explain=True)) == 0
    shown = capsys.readouterr().out
    table = [line.split() for line in shown[shown.index("Plan: 3 programs") :].splitlines()]
    heading = next(place for place, line in enumerate(table) if line[:1] == ["program"])
    assert table[heading][1:3] == ["optimizer", "nesterov"]
    assert sorted(tuple(line[1:3]) for line in table[heading + 1 : heading + 4]) == [
        ("adam", "-"),
        ("sgd", "False"),
        ("sgd", "True"),
    ]
