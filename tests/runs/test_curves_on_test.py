"""Curves on the test part: what every member measures there, and that nothing else is another for it."""

import dataclasses
import json

import jax
import numpy as np
import pandas as pd
import pytest

import jbn
from jbn.report.content import content
from jbn.runs.export import export_run
from jbn.store import read

KEY = jax.random.key(0)
MODEL = jbn.mlp(layers=1, hidden_units=4)
CONFIGS = {"learning_rate": [0.01, 0.03], "batch_size": [32, 32]}
NAMES = ("accuracy", "loss")


def made(rows, seed):
    rng = np.random.default_rng(seed)
    y = np.arange(rows) % 3
    return rng.normal(y[:, None], [1.0, 10.0, 2.0], (rows, 3)), y


PARTS = [*made(96, 0), *made(40, 1), *made(56, 2)]
DATA = jbn.data.arrays(
    *PARTS[:2], **dict(zip(("x_validation", "y_validation", "x_test", "y_test"), PARTS[2:], strict=True))
)
TASK = jbn.Task(model=MODEL, data=DATA, test_curves=True)
RUN = {"epochs": 3, "key": KEY, "seeds": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("curves") / "run"


@pytest.fixture(scope="module")
def result(folder):
    return jbn.sweep(TASK, CONFIGS, out=folder, keep_models=True, **RUN)


def watching(history, key):
    """Decides after every segment, so that nobody runs ahead."""
    return jbn.Edits()


def unknown():
    raise jbn.InputError("nobody knows what mattered")


def assert_as_the_models(result, test):
    """The last points are what each network measures on the test part by itself."""
    assert set(result.history.test) == {*result.task.problem.measured}
    for member, model in enumerate(result.models):
        expected = model.evaluate(test.x, test.y)
        own = {name: curve[-1, member] for name, curve in result.history.test.items()}
        assert own == pytest.approx(expected, rel=1e-5)


def test_every_member_is_measured_on_the_test_part(result):
    assert_as_the_models(result, DATA.test)
    member = 2 * result.best().config_id + result.best().seed
    assert result.history.test["loss"][-1, member] == pytest.approx(result.test["loss"], rel=1e-5)
    assert len(result.history.test["accuracy"]) == 3


def test_nothing_else_is_another_for_it(result):
    plain = jbn.sweep(dataclasses.replace(TASK, test_curves=False), CONFIGS, **RUN)
    assert plain.history.test == {}
    np.testing.assert_array_equal(plain.history.train_loss, result.history.train_loss)
    for name in NAMES:
        np.testing.assert_array_equal(plain.history.validation[name], result.history.validation[name])
    assert plain.best().config == result.best().config
    assert "test_loss" not in plain.table()
    assert plain.timings.programs == 0  # they were built for the sweep with curves


def test_tables_and_curves_have_columns_of_their_names(result):
    table = result.table().set_index("config_id")
    assert list(table.columns[3:7]) == [
        "validation_accuracy",
        "validation_loss",
        "test_accuracy",
        "test_loss",
    ]
    for name in NAMES:
        values = result.history.test[name].reshape(3, 2, 2)
        np.testing.assert_allclose(table[f"test_{name}"].sort_index(), values[-1].mean(axis=1))
        error = values[-1].std(axis=1, ddof=1) / np.sqrt(2)
        np.testing.assert_allclose(table[f"test_{name}_standard_error"].sort_index(), error)
        np.testing.assert_array_equal(result.curves()[f"test_{name}"], values.transpose(1, 2, 0))


def test_they_are_recorded_and_exported(result, folder, tmp_path):
    export_run(folder, tmp_path / "run.csv")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "run.csv"), result.table(), check_dtype=False)
    export_run(folder, tmp_path / "run.jsonl", to="jsonl")
    first = json.loads((tmp_path / "run.jsonl").read_text().splitlines()[0])
    own = result.history.test["loss"].reshape(3, 2, 2)[:, first["config_id"], 1]
    np.testing.assert_array_equal(first["curves"][1]["test_loss"], own)
    assert "test_accuracy_standard_error" in first["metrics"]
    page = content(read(folder), name="run", importance=unknown, spreads=lambda member, number: {})
    labels = {one["name"]: (one["label"], one["share"]) for one in page["metrics"]}
    assert labels["test_accuracy"] == ("test accuracy", True)


def test_a_run_goes_on_with_them(result, tmp_path):
    out = tmp_path / "run"
    jbn.sweep(TASK, CONFIGS, out=out, policy=watching, on_segment=lambda now: now.segment == 1, **RUN)
    with pytest.raises(jbn.InputError, match="but its test curves was True and is False now"):
        jbn.resume(out, dataclasses.replace(TASK, test_curves=False))
    again = jbn.resume(out, TASK, policy=watching)
    pd.testing.assert_frame_equal(again.table(), result.table(), check_exact=True)
    np.testing.assert_array_equal(again.history.test["loss"], result.history.test["loss"])


def test_every_fold_normalises_the_test_part_by_its_own_rows():
    x = np.random.default_rng(0).normal(5, [1.0, 100.0, 0.1], (150, 3))
    data = jbn.data.arrays(x, 1e4 + x @ [30.0, 1.0, 1e3], targets="numbers")
    task = jbn.Task(model=MODEL, data=data, metrics="mean_absolute_error", test_curves=True)
    folds = jbn.sweep(task, CONFIGS, epochs=2, key=KEY, folds=3, keep_models=True)
    assert_as_the_models(folds, data.test)


def test_so_does_a_training_part_in_blocks(result):
    held = dict(zip(("x_validation", "y_validation", "x_test", "y_test"), PARTS[2:], strict=True))
    data = jbn.data.memory_map(*PARTS[:2], **held, block_rows=96)
    own = jbn.sweep(dataclasses.replace(TASK, data=data), CONFIGS, **RUN)
    for name in NAMES:
        np.testing.assert_array_equal(own.history.test[name], result.history.test[name])


def test_the_pure_function_measures_them_too(result):
    config = {name: values[0] for name, values in CONFIGS.items()}
    metrics, *_ = jax.jit(lambda key: jbn.train_function(TASK, epochs=3)(config, key))(KEY)
    np.testing.assert_allclose(metrics.test["loss"], result.history.test["loss"][:, 0], rtol=1e-4)


def test_a_panda_measures_them_too(result, tmp_path):
    config = {name: values[0] for name, values in CONFIGS.items()}
    with jbn.panda(TASK, config, key=KEY, out=tmp_path / "baby") as baby:
        baby.train(epochs=2)
        np.testing.assert_allclose(baby.curve()["test_loss"], result.history.test["loss"][:2, 0], rtol=1e-4)
        assert ", test loss " in baby.log()["what"].iloc[-1]


@pytest.mark.parametrize("test_curves", [True, False])
@pytest.mark.parametrize("name", ["test_loss", "test/accuracy"])
def test_nothing_is_chosen_by_them(name, test_curves):
    with pytest.raises(jbn.InputError, match=r"on the validation part, but 'test.*' is of the test part: "):
        dataclasses.replace(TASK, objective=name, test_curves=test_curves)
    own = jbn.metric(lambda outputs, targets: outputs[:, 0], name="test_score", maximize=True)
    assert dataclasses.replace(TASK, metrics=own, objective="test_score").judged_by.metric == "test_score"
