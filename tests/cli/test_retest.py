"""`jbn retest` as a scheduled job uses it."""

import json
import re
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

import jbn as library
from jbn import store
from tests.cli.command import jbn, process

SPEC = """
data = "old.npz"
configs = 4
epochs = 2
[space]
learning_rate = {log_uniform = [1e-4, 1e-1]}
layers = 1
hidden_units = 6
batch_size = 32
"""


def write(path, seed, *, features=5, classes=3, scale=1.0):
    rng = np.random.default_rng(seed)
    y = np.arange(600) % classes
    np.savez(path, x_train=scale * (rng.normal(size=(600, features)) + y[:, None]), y_train=y)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("retest")
    write(folder / "old.npz", 0)
    write(folder / "new.npz", 1, scale=3.0)
    write(folder / "wide.npz", 1, features=6)
    write(folder / "more.npz", 1, classes=4)
    (folder / "spec.toml").write_text(SPEC)
    (folder / "bad.toml").write_text(SPEC.replace("log_uniform = [1e-4, 1e-1]", "choice = [1e-4, 0.02]"))
    assert jbn("sweep", "spec.toml", "--out", "run", cwd=folder).returncode == 0
    return folder


@pytest.fixture(scope="module")
def kept(place):
    return process("retest", "run", "--data", "new.npz", "--minimal-effect", 0.9, "--out", "kept", cwd=place)


def test_keep_is_exit_code_0_with_the_reasons(kept, place):
    assert kept.returncode == 0, kept.stderr
    assert kept.stderr == ""
    lines = kept.stdout.splitlines()
    assert lines[0].startswith("Data('new.npz': 360 training")
    assert any(line.startswith("segment 2/2") for line in lines)
    written = json.loads((place / "kept" / "retest.json").read_text())
    found = re.search(r"test accuracy is better by (\S+) \(97.5 % interval (\S+) to (\S+)\)", kept.stdout)
    shown = [float(number) for number in found.groups()]
    np.testing.assert_allclose(shown, [written["effect"], *written["interval"]], atol=6e-5)
    assert lines[-2] == "keep: the lower end is not above the least effect that counts, 0.9000"
    assert lines[-1] == "written to kept"
    settings = {
        line.split()[0]: line.split()[1:] for line in lines if line.startswith(("learning_rate", "batch"))
    }
    assert settings["batch_size"] == ["32", "32"]
    assert float(settings["learning_rate"][0]) == pytest.approx(written["old"]["learning_rate"], rel=1e-2)


def test_drift_is_shown_layer_by_layer(kept):
    rows = {line.split()[0]: line.split() for line in kept.stdout.splitlines() if line.strip()}
    assert rows["input"][1] == "5"
    assert rows["layer_1"][1] == "6"
    assert float(rows["input"][3]) == pytest.approx(np.log(3), abs=0.1)


def test_retune_is_exit_code_3(place):
    """The old winner is a learning rate that is far too low: the only one there was."""
    only = (place / "bad.toml").read_text().replace("choice = [1e-4, 0.02]", "choice = [1e-4]")
    (place / "only.toml").write_text(only)
    assert jbn("sweep", "only.toml", "--out", "only", cwd=place).returncode == 0
    # the space of a run with one more option: what a person might add to it
    altered(place / "only", space={"learning_rate": {"choice": [1e-4, 0.02]}})
    done = jbn("retest", "only", "--data", "new.npz", "--seed", 3, "--seeds", 4, "--out", "tuned", cwd=place)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "retune: the lower end is above the least effect that counts, 0.0100" in done.stdout
    written = json.loads((place / "tuned" / "retest.json").read_text())
    assert written["verdict"] == "retune"
    assert written["challenger"]["learning_rate"] == 0.02


def altered(folder, **changes):
    """Settings of a run with other entries."""
    before = store.read(folder).settings
    with store.reopen(folder, segments=before["segments"]) as own:
        own.write_settings(**{name: before[name] | entries for name, entries in changes.items()})


WRONG = {
    "no run": (("nowhere", "--data", "new.npz"), "there is no sweep in 'nowhere'"),
    "features": (("run", "--data", "wide.npz"), "other features: 5 in the run, 6 now"),
    "classes": (("run", "--data", "more.npz"), "other classes: 3 classes in the run, 4 classes now"),
    "no data": (("run", "--data", "gone.npz"), "gone.npz"),
    "one seed": (("run", "--data", "new.npz", "--seeds", 1), "seeds must be at least 2"),
    "no epochs": (("run", "--data", "new.npz", "--epochs", 0), "Invalid value for '--epochs'"),
    "effect": (
        ("run", "--data", "new.npz", "--minimal-effect", -1),
        "minimal_effect must be a number of at least 0",
    ),
    "target": (("run", "--data", "new.npz", "--target", "y"), "target is for tables"),
    "no option": (("run",), "Missing option '--data'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_message_and_exit_code_2(place, case):
    arguments, message = WRONG[case]
    before = sorted(path for path in place.rglob("*") if path.is_file())
    done = jbn("retest", *arguments, "--out", "never", cwd=place)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 6
    assert sorted(path for path in place.rglob("*") if path.is_file()) == before


def test_a_folder_that_is_taken_and_a_run_without_a_spec(place, kept):
    done = jbn("retest", "run", "--data", "new.npz", "--out", "kept", cwd=place)
    assert done.returncode == 2
    assert "already holds a" in done.stderr
    done = jbn("retest", "kept/other", "--data", "new.npz", cwd=place)
    assert done.returncode == 2
    space = library.Space(learning_rate=0.01, batch_size=32)
    task = library.Task(model=library.mlp(layers=1, hidden_units=6), data=library.data.npz(place / "old.npz"))
    configs = library.search.random(space, 1, key=0)
    library.sweep(task, configs, epochs=1, key=jax.random.key(0), out=place / "python")
    done = jbn("retest", "python", "--data", "new.npz", cwd=place)
    assert done.returncode == 2
    assert "the run in 'python' has none recorded; call jbn.retest in Python with its task" in done.stderr


def test_a_table_is_read_as_the_run_s_was(place):
    for name, seed in {"a.csv": 0, "b.csv": 1}.items():
        rng = np.random.default_rng(seed)
        rows = [f"{n},{rng.normal() + n % 2:.3f},{'yes' if n % 2 else 'no'}" for n in range(300)]
        (place / name).write_text("\n".join(["row,width,verdict", *rows]))
    text = SPEC.replace('"old.npz"', '"a.csv"\ntarget = "verdict"\ndrop = ["row"]')
    (place / "table.toml").write_text(text)
    assert jbn("sweep", "table.toml", "--out", "table", cwd=place).returncode == 0
    done = jbn(
        "retest",
        "table",
        "--data",
        "b.csv",
        "--seeds",
        2,
        "--minimal-effect",
        0.9,
        "--out",
        "later",
        cwd=place,
    )
    assert done.returncode == 0, done.stderr
    assert "of 1 features, 2 classes" in done.stdout
    done = jbn("retest", "table", "--data", "new.npz", cwd=place)
    assert done.returncode == 2
    assert "other features: 1 in the run, 5 now" in done.stderr


def test_ctrl_c_ends_it_without_a_verdict(place):
    command = [sys.executable, "-m", "jbn", "retest", "run", "--data", "new.npz", "--epochs", "100000"]
    running = subprocess.Popen(
        [*command, "--out", "cut"], cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert running.stdout is not None
    for line in running.stdout:
        if line.startswith("segment"):
            break
    time.sleep(0.5)
    running.send_signal(signal.SIGINT)
    rest, errors = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "Traceback" not in errors
    assert "interrupted: there is no verdict" in rest
    assert json.loads((place / "cut" / "retest.json").read_text())["interrupted"]


def test_where_everything_diverges_the_exit_code_is_1(place):
    text = SPEC.replace("[space]", "[space]\ninitial_scale = {choice = [1.0, 1e38]}\nbatch_norm = 'none'")
    (place / "scale.toml").write_text(text.replace("layers = 1", "layers = 2"))
    assert jbn("sweep", "scale.toml", "--configs", 8, "--out", "scale", cwd=place).returncode == 0
    # as if space and winner had a scale at which all diverge
    altered(place / "scale", space={"initial_scale": 1e38}, winner={"initial_scale": 1e38})
    done = jbn("retest", "scale", "--data", "new.npz", "--out", "lost", cwd=place)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "everything diverged on the new data: there is no verdict" in done.stdout
    assert json.loads((place / "lost" / "retest.json").read_text())["verdict"] is None


def test_help_explains_the_exit_codes(place):
    shown = jbn("retest", "--help", cwd=place, env={"COLUMNS": "200"}).stdout
    for word in ("--data", "--seeds", "--minimal-effect", "3: retune"):
        assert word in shown
