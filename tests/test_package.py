"""The package as a whole: what importing it does, and that the README's example runs."""

import functools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

import jbn

ROOT = Path(__file__).parents[1]


def run(code):
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, cwd=ROOT).stdout


def test_importing_starts_no_backend_and_changes_no_setting():
    shown = run(
        "import json, jax\n"
        "before = dict(jax.config.values)\n"
        "import jbn\n"
        "from jax._src import xla_bridge\n"
        "changed = [name for name, value in jax.config.values.items() if before.get(name) != value]\n"
        "print(json.dumps([xla_bridge.backends_are_initialized(), changed]))"
    )
    assert json.loads(shown) == [False, []]


def test_importing_loads_no_heavy_library_but_jax_and_optax():
    shown = run("import sys, jbn; print(sorted({name.split('.')[0] for name in sys.modules}))")
    for name in ("pandas", "sklearn", "matplotlib", "rich", "typer", "flax", "chex"):
        assert f"'{name}'" not in shown


@pytest.mark.alone
def test_importing_takes_no_longer_than_jax():
    """The fastest of seven each, in turn: what jbn adds is less than what jax takes."""
    clock = "import time; start = time.perf_counter(); {}; print(time.perf_counter() - start)"
    times = [[float(run(clock.format(f"import {name}"))) for name in ("jax", "jbn")] for _ in range(7)]
    jax_seconds, jbn_seconds = map(min, zip(*times, strict=True))
    assert jbn_seconds < 2 * jax_seconds


def test_the_public_names_are_there():
    for name in (
        "Space",
        "Task",
        "mlp",
        "sweep",
        "train_function",
        "batch_norm",
        "data",
        "search",
        "InputError",
    ):
        assert hasattr(jbn, name)
    # in a process of its own: a module that somebody has imported is a name, too
    assert int(run("import jbn; print(sum(not name.startswith('_') for name in vars(jbn)))")) < 40


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def test_the_readme_s_first_examples_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    example = blocks("python")[0]
    assert len(example.splitlines()) <= 25
    names, shown = {}, []
    for code in blocks("python")[: len(_FIRST)]:  # each goes on with the names of those before
        exec(compile(code, "README.md", "exec"), names)
        shown.append(capsys.readouterr().out)
    for words, text in zip(_FIRST, shown, strict=True):
        assert words in text


_FIRST = (
    "learning_rate",
    "validation_accuracy_standard_error",
    "share",
    "optimizer",
    "config_id",
    "rollback",
    "[",
    "mean_absolute_error",
    "town is missing",
    "width",
)


def test_the_readme_s_choice_of_an_optimizer_runs(capsys):
    names = {"jax": jax, "jbn": jbn, "optax": optax}
    fenced = (ROOT / "README.md").read_text().split("```")[1::2]
    (example,) = [block for block in fenced if 'name="mine"' in block]
    exec(compile(example, "README.md", "exec"), names)
    shown = capsys.readouterr().out
    assert "mine" in shown
    assert "beta1" in shown


def test_the_readme_s_batch_norm_example_runs():
    names = {}
    exec(compile(blocks("python")[-1], "README.md", "exec"), names)
    assert names["y"].shape == (4, 16, 28, 28, 16)


@pytest.mark.parametrize("example", ["class ResNet", "class Regressor", "class Classifier"])
def test_the_readme_s_whole_examples_run(example, monkeypatch, capsys):
    """Each alone, as copied; in place of MNIST there are a few hundred random images."""
    (code,) = [block for block in blocks("python") if example in block]
    rng = np.random.default_rng(0)
    images = jbn.data.arrays(rng.integers(0, 256, (600, 28, 28), np.uint8), np.arange(600) % 10)
    monkeypatch.setattr(jbn.data, "mnist", lambda directory: images)
    monkeypatch.setattr(jbn, "sweep", functools.partial(shorter, jbn.sweep))
    exec(compile(code, "README.md", "exec"), {})
    assert "validation" in capsys.readouterr().out


def shorter(sweep, task, configs, *, epochs, **more):
    return sweep(task, {name: values[:4] for name, values in configs.items()}, epochs=2, **more)


def test_the_readme_opens_with_the_two_commands():
    first = blocks("bash")[0]
    assert "scripts/sweep" in first
    assert "scripts/test" in first


@pytest.mark.parametrize("script", ["sweep", "test"])
def test_the_scripts_name_a_python_that_is_too_old_or_missing(script):
    for wrong in ("no-such-python", "/bin/true"):
        done = subprocess.run(
            [ROOT / "scripts" / script],
            env={**os.environ, "PYTHON": wrong},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        assert f"no Python at '{wrong}'" in done.stderr
