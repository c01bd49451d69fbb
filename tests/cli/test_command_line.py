"""The command line as a person uses it: some commands in a process of their own, most in this one."""

import contextlib
import csv
import re
import signal
import sqlite3
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.cli.command import jbn, process

SMALL = """
configs = 6
epochs = 2
[space]
learning_rate = {log_uniform = [1e-3, 1e-1]}
layers = 1
hidden_units = {integers = [4, 8]}
batch_size = 256
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    (folder / "spec.toml").write_text(SMALL)
    return folder


@pytest.fixture(scope="module")
def done(place):
    return process("sweep", "spec.toml", "--out", "one", cwd=place)


def test_a_sweep_shows_progress_table_winner_and_where_it_is_written(done, place):
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert any(line.startswith("segment 2/2  6/6 alive  best validation accuracy ") for line in lines)
    assert "The best 6 of 6 configurations" in done.stdout
    for name in ("learning_rate", "layers", "hidden_units", "batch_size", "accuracy"):
        assert name in done.stdout
    assert any(line.startswith("winner: configuration ") for line in lines)
    assert done.stdout.count("test accuracy") == 1
    assert lines[-1] == "written to one"
    assert {"best.npz", "sweep.sqlite"} <= {path.name for path in (place / "one").iterdir()}


def test_the_same_seed_gives_the_same_file_and_another_seed_another(done, place):
    tables = {}
    for name, options in {"one": None, "two": [], "three": ["--seed", "1"]}.items():
        if options is not None:
            assert jbn("sweep", "spec.toml", "--out", name, *options, cwd=place).returncode == 0
        assert jbn("export", name, "--to", "csv", f"{name}.csv", cwd=place).returncode == 0
        tables[name] = (place / f"{name}.csv").read_bytes()
    assert tables["one"] == tables["two"] != tables["three"]
    header = tables["one"].decode().splitlines()[0]
    hypers = "learning_rate,layers,hidden_units,batch_size"
    assert header == f"config_id,{hypers},status,validation_accuracy,validation_loss,steps"


def test_several_seeds_show_their_mean_and_standard_error(place):
    run = jbn("sweep", "spec.toml", "--seeds", "3", "--configs", "2", "--out", "seeds", cwd=place)
    assert run.returncode == 0, run.stderr
    assert "2 configurations, 3 seeds each, 2 epochs, seed 0" in run.stdout
    assert "The best 2 of 2 configurations, mean ± standard error over 3 seeds" in run.stdout
    assert re.search(r"^winner: configuration [01] \(seed index [012], the best of its 3\)", run.stdout, re.M)
    jbn("export", "seeds", "seeds.csv", cwd=place)
    with (place / "seeds.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[-3:] == [
        "steps",
        "validation_accuracy_standard_error",
        "validation_loss_standard_error",
    ]
    for row in rows:
        mean, error = (float(row[f"validation_accuracy{end}"]) for end in ("", "_standard_error"))
        assert f"{mean:.4f} ± {error:.4f}" in run.stdout


def test_a_grid(place):
    run = jbn("sweep", "spec.toml", "--grid", "2", "--epochs", "1", "--out", "grid", cwd=place)
    assert run.returncode == 0, run.stderr
    jbn("export", "grid", "grid.csv", cwd=place)
    with (place / "grid.csv").open() as file:
        rows = list(csv.DictReader(file))
    points = sorted((float(row["learning_rate"]), int(row["hidden_units"])) for row in rows)
    np.testing.assert_allclose(points, [(1e-3, 4), (1e-3, 8), (1e-1, 4), (1e-1, 8)])


CHOICE = """
configs = 8
epochs = 1
[space]
optimizer = {choice = ["adam", "sgd"]}
beta1 = {uniform = [0.5, 0.9]}
nesterov = {choice = [true, false]}
layers = 1
hidden_units = 8
batch_size = 256
"""


def test_the_optimizer_may_be_chosen_in_a_spec(place):
    (place / "choice.toml").write_text(CHOICE)
    run = jbn("sweep", "choice.toml", "--out", "choice", cwd=place)
    assert run.returncode == 0, run.stderr
    assert "None" not in run.stdout
    assert "nan" not in run.stdout
    assert jbn("export", "choice", "choice.csv", cwd=place).returncode == 0
    with (place / "choice.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["optimizer"] for row in rows} == {"adam", "sgd"}
    for row in rows:
        adam = row["optimizer"] == "adam"
        assert (row["beta1"] != "") == adam
        assert row["nesterov"] in ([""] if adam else ["True", "False"])
    shown = {line.split()[0]: line.split() for line in run.stdout.splitlines()[:-1] if line.strip()}
    for row in rows:
        name, beta1, nesterov = shown[row["config_id"]][1:4]
        assert name == row["optimizer"]
        assert (beta1 == "-") == (row["beta1"] == "")
        assert nesterov == (row["nesterov"] or "-")
    assert jbn("report", "choice", "--png", "choice.png", cwd=place).returncode == 0


def test_the_report_draws_a_picture(done, place):
    assert jbn("report", "one", "--png", "curves.png", cwd=place).returncode == 0
    assert (place / "curves.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_data_of_one_s_own(place):
    rng = np.random.default_rng(0)
    y = np.arange(400) % 3
    np.savez(place / "own.npz", x_train=rng.normal(size=(400, 5)) + 3 * y[:, None], y_train=y)
    run = jbn("sweep", "--data", "own.npz", "--configs", "3", "--epochs", "2", "--out", "own", cwd=place)
    assert run.returncode == 0, run.stderr
    assert "240 training, 80 validation, 80 test rows of 5 features, 3 classes" in run.stdout


def test_a_regression_from_a_file(place):
    x = np.random.default_rng(0).normal(size=(400, 5))
    np.savez(place / "numbers.npz", x_train=x, y_train=x @ [1.0, 2.0, 0.0, 0.0, -1.0] + 100)
    (place / "numbers.toml").write_text(
        'data = "numbers.npz"\ntargets = "numbers"\nmetrics = ["r2"]\nobjective = "r2"\nconfigs = 3\nepochs = 2\n'
        "[space]\nlearning_rate = {choice = [0.001, 0.01]}\nbatch_size = 32"
    )
    run = jbn("sweep", "numbers.toml", "--out", "numbers", cwd=place)
    assert run.returncode == 0, run.stderr
    assert "5 features, a number a row" in run.stdout
    cross = jbn("sweep", "numbers.toml", "--folds", "4", "--out", "folds", cwd=place)
    assert cross.returncode == 0, cross.stderr
    assert "mean ± standard error over 4 folds" in cross.stdout
    assert "4 folds, 2 epochs" in cross.stdout
    assert re.search(r"configuration \d \(trained on fold \d, the best of its 4\), test r2", cross.stdout)
    assert re.search(r"best validation r2 \S+ ", run.stdout)
    assert re.search(r"winner: configuration \d, test r2 \S+\n", run.stdout)
    assert jbn("report", "numbers", cwd=place).returncode == 0
    assert jbn("export", "numbers", "numbers.csv", cwd=place).returncode == 0
    assert "status,validation_r2,validation_loss,steps" in (place / "numbers.csv").read_text()


TABLE = """
data = "people.csv"
target = "verdict"
drop = ["row"]
configs = 3
epochs = 10
[space]
learning_rate = {log_uniform = [1e-2, 1e-1]}
layers = 1
batch_size = 16
"""


def write_people(path):
    """A table whose verdict is the town's, but for a row that misses the town."""
    towns = ["Ulm", "Rome", "", "Bari"] * 60
    rows = [
        f"{row},{town},{row % 7 or ''},{'yes' if town == 'Ulm' else 'no'}" for row, town in enumerate(towns)
    ]
    path.write_text("\n".join(["row,town,zone,verdict", *rows]))


def test_a_table_of_one_s_own(place):
    write_people(place / "people.csv")
    (place / "table.toml").write_text(TABLE)
    run = jbn("sweep", "table.toml", "--out", "table", cwd=place)
    assert run.returncode == 0, run.stderr
    assert "144 training, 48 validation, 48 test rows of 6 features, 2 classes" in run.stdout
    assert "test accuracy 1.0000" in run.stdout
    (place / "space.toml").write_text(TABLE[TABLE.index("[space]") :])
    options = ["--data", "people.csv", "--target", "verdict", "--categorical", "zone", "--drop", "row"]
    options += ["--drop", "town", "--configs", "2", "--epochs", "1", "--out", "other"]
    run = jbn("sweep", "space.toml", *options, cwd=place)
    assert run.returncode == 0, run.stderr
    assert "144 training, 48 validation, 48 test rows of 7 features, 2 classes" in run.stdout


def test_help_explains_every_option(place):
    shown = jbn("sweep", "--help", cwd=place, env={"COLUMNS": "200"})
    assert shown.returncode == 0
    for option in (
        "--configs",
        "--grid",
        "--epochs",
        "--seed",
        "--seeds",
        "--folds",
        "--data",
        "--data-dir",
        "--out",
    ):
        assert option in shown.stdout
    for option in ("--target", "--categorical", "--drop"):
        assert option in shown.stdout


WRONG = {
    "unknown name": ("[space]\nlearning_rat = 0.1", [], "did you mean 'learning_rate'?"),
    "unknown optimizer": (
        '[space]\noptimizer = {choice = ["adam", "sdg"]}',
        [],
        "unknown optimizer 'sdg': did you mean 'sgd'?",
    ),
    "nobody's": (
        '[space]\noptimizer = {choice = ["adam", "lion"]}\noptimizer_momentum = 0.9',
        [],
        "rmsprop, sgd have it, but optimizer is always one of adam, lion",
    ),
    "low above high": ("[space]\nlearning_rate = {uniform = [1.0, 0.1]}", [], "low"),
    "log axis at 0": (
        "[space]\nlearning_rate = {log_uniform = [0, 0.1]}",
        [],
        "low > 0 must hold on a log axis",
    ),
    "reverse log": ("[space]\nbeta1 = {reverse_log_uniform = [0.9, 1.0]}", [], "beta1"),
    "batch too large": ("[space]\nbatch_size = 5000", [], "at most the 1078 rows of the training part"),
    "batch in words": ('[space]\nbatch_size = "big"', [], "but got big"),
    "batch too small": ("[space]\nbatch_size = 1", [], "of at least 2"),
    "no configurations": (
        "",
        ["--configs", "0"],
        "--configs must be a whole number of at least 1, but got 0",
    ),
    "no epochs": ("", ["--epochs", "0"], "--epochs must be a whole number of at least 1, but got 0"),
    "one fold too few": ("", ["--folds", "0"], "--folds must be a whole number of at least 1, but got 0"),
    "no seeds": ("", ["--seeds", "0"], "--seeds must be a whole number of at least 1, but got 0"),
    "seeds below 0": ("", ["--seeds", "-3"], "--seeds must be a whole number of at least 1, but got -3"),
    "seeds in words": ("", ["--seeds", "three"], "Invalid value for '--seeds'"),
    "missing data": ("", ["--data", "gone.npz"], "gone.npz"),
    "foreign data": ("", ["--data", "foreign.npz"], "foreign.npz"),
    "unknown data": ("", ["--data", "digit"], "did you mean 'digits'"),
    "mnist without folder": ("", ["--data", "mnist"], "--data-dir"),
    "NaN": ("", ["--data", "nan.npz"], "nan in row 2, column 1"),
    "no target": ("", ["--data", "people.csv"], "name the column to predict (--target)"),
    "unknown target": ("", ["--data", "people.csv", "--target", "verdikt"], "did you mean 'verdict'?"),
    "target of no table": ("", ["--target", "y"], "target is for tables"),
    "names of rows": ("", ["--data", "names.csv", "--target", "y"], "drop it (drop='name')"),
    "labels": ("", ["--data", "labels.npz"], "classes 0 to K-1"),
    "lengths": ("", ["--data", "lengths.npz"], "y_train"),
    "no TOML": ("a = = b", [], "is no TOML"),
    "taken": ("", ["--out", "one"], "already holds a sweep"),
    "loss for others": ('loss = "huber"', [], "needs targets that are numbers"),
    "unknown metric": ('metrics = ["acuracy"]', [], "did you mean 'accuracy'?"),
    "unknown objective": ('objective = "r2"', [], "'r2' is none"),
    "unknown targets": ('targets = "number"', ["--data", "labels.npz"], 'must be "classes" or "numbers"'),
    "not a number": ("", ["--epochs", "many"], "Invalid value for '--epochs'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_one_clear_message_and_exit_code_2(case, done, place):
    text, options, message = WRONG[case]
    x = np.arange(40.0).reshape(20, 2)
    y = np.arange(20) % 2
    holed = x.copy()
    holed[2, 1] = np.nan
    np.savez(place / "nan.npz", x_train=holed, y_train=y)
    np.savez(place / "labels.npz", x_train=x, y_train=y + 1)
    np.savez(place / "lengths.npz", x_train=x, y_train=y[:-1])
    write_people(place / "people.csv")
    (place / "names.csv").write_text("name,y\n" + "".join(f"no {row},{row % 2}\n" for row in range(100)))
    (place / "foreign.npz").write_text("no archive")
    (place / "wrong.toml").write_text(text)
    out = [] if "--out" in options else ["--out", "never"]
    run = jbn("sweep", "wrong.toml", *options, *out, cwd=place)
    assert run.returncode == 2
    assert message in run.stderr
    assert "Traceback" not in run.stderr
    assert len(run.stderr.splitlines()) <= 6
    assert not (place / "never").exists()
    assert not (place / "runs").exists()


def test_a_process_says_the_same(place):
    options = ("sweep", "--epochs", "0", "--out", "never")
    alone, here = process(*options, cwd=place), jbn(*options, cwd=place)
    assert (alone.returncode, alone.stdout, alone.stderr) == here
    assert here.returncode == 2


def test_ctrl_c_ends_it_after_the_segment_and_keeps_what_there_is(place):
    command = [sys.executable, "-m", "jbn", "sweep", "spec.toml", "--epochs", "100000", "--out", "cut"]
    running = subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stdout is not None
    for line in running.stdout:
        if line.startswith("segment"):
            break
    time.sleep(0.5)
    running.send_signal(signal.SIGINT)
    rest, errors = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "Traceback" not in errors
    assert "The best 6 of 6 configurations" in rest
    assert re.search(r"interrupted after \d+ segments; to go on: jbn sweep --resume cut", rest)
    assert "test accuracy" not in rest  # it is not the end
    with contextlib.closing(sqlite3.connect(place / "cut" / "sweep.sqlite")) as database:
        assert database.execute("SELECT DISTINCT status FROM configurations").fetchall() == [("stopped",)]


def test_where_all_diverge_it_says_so(place):
    text = SMALL.replace("[space]", '[space]\nbatch_norm = "none"\ninitial_scale = 1e38')
    (place / "diverge.toml").write_text(text)
    run = jbn("sweep", "diverge.toml", "--out", "diverge", cwd=place)
    assert run.returncode == 1
    assert "every configuration diverged: lower the learning rates" in run.stdout
    assert run.stderr == ""


@pytest.fixture(scope="module")
def rounds(place):
    return jbn("sweep", "spec.toml", "--configs", 24, "--rounds", 2, "--out", "fine", cwd=place)


def test_rounds_say_how_they_share_and_how_the_region_moved(rounds, place):
    assert rounds.returncode == 0, rounds.stderr
    assert "24 configurations in 2 rounds, 12 + 12, 2 epochs, seed 0" in rounds.stdout
    assert "round 2: 12 configurations" in rounds.stdout
    assert "The best 10 of 24 configurations" in rounds.stdout
    lines = rounds.stdout.splitlines()
    (row,) = [line for line in lines if line.startswith("learning_rate")]
    assert row.split()[1:4] == ["0.001", "to", "0.1"]
    low, _, high = row.split()[4:7]
    assert 0.001 < float(low) < float(high) <= 0.1
    assert sum(line.startswith("winner: configuration ") for line in lines) == 1
    assert sorted(path.name for path in (place / "fine").iterdir()) == ["round-1", "round-2"]


def test_the_report_says_how_the_region_moved_too(rounds, place):
    shown = jbn("report", "fine", cwd=place)
    assert shown.returncode == 0, shown.stderr
    assert "How the region moved:" in shown.stdout
    region = [line.split() for line in rounds.stdout.splitlines() if line.startswith("learning_rate")]
    assert region == [line.split() for line in shown.stdout.splitlines() if line.startswith("learning_rate")]
    assert shown.stdout.splitlines()[-1] == "wrote fine/report.html"


def test_a_search_that_ended_in_its_first_round_says_nothing_of_regions(capsys):
    from rich.console import Console

    import jbn
    from jbn.cli.show import show_regions

    space = jbn.Space(a=jbn.uniform(0, 1), b=jbn.choice("x", "y"))
    finer = jbn.Space(a=jbn.uniform(0.95, 0.96), b=jbn.choice("x"))
    show_regions(Console(), [space])
    assert capsys.readouterr().out == ""
    show_regions(Console(), [space, space])
    assert "did not move: nothing mattered beyond chance" in capsys.readouterr().out
    show_regions(Console(), [space, finer])
    shown = capsys.readouterr().out.split()
    assert shown[shown.index("a") + 1 :][:6] == ["0", "to", "1", "1", "-", "0.05"]


def test_importance_of_a_run(rounds, place):
    shown = jbn("importance", "fine", "--resamples", 3, cwd=place)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.splitlines()[0].split() == ["hyper-parameter", "share", "95", "%", "range"]
    assert {line.split()[0] for line in shown.stdout.splitlines()[1:]} == {"learning_rate", "hidden_units"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sweep", "--rounds", 2, "--grid", 2), "rounds and grid exclude each other"),
        (("sweep", "--rounds", 2, "--configs", 19), "at least 10 configurations, got 19 for 2 rounds"),
        (("importance", "nowhere"), "there is no sweep in 'nowhere'"),
        (("importance", "fine", "--method", "shap"), "unknown method 'shap'"),
    ],
)
def test_rounds_and_importance_that_cannot_be(rounds, place, arguments, message):
    done = jbn(*arguments, cwd=place)
    assert done.returncode == 2
    assert done.stdout == "" or done.stdout.startswith("Data(")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_policy_stops_what_falls_behind(place):
    done = jbn("sweep", "spec.toml", "--policy", "halving", "--out", "halved", cwd=place)
    assert done.returncode == 0, done.stderr
    assert "segment 2/2  2/6 alive" in done.stdout
    assert "6 configurations (2 done, 4 stopped)" in done.stdout
    wrong = jbn("sweep", "spec.toml", "--policy", "halfing", cwd=place)
    assert wrong.returncode == 2
    assert "unknown policy 'halfing': did you mean 'halving'" in wrong.stderr


def test_a_space_with_conditions_from_a_spec(place):
    (place / "when.toml").write_text(
        SMALL
        + 'activation = {choice = ["relu", "tanh"]}\n'
        + 'dropout = {uniform = [0.1, 0.5], when = {activation = ["tanh"]}}\n'
    )
    done = jbn("sweep", "when.toml", "--out", "when", cwd=place)
    assert done.returncode == 0, done.stderr
    assert "dropout" in done.stdout
