"""What a page says, against the store itself and numbers found by hand."""

import base64
import json

import numpy as np
import pandas as pd
import pytest

import jbn
from jbn.errors import InputError
from jbn.report.content import content
from jbn.report.page import content_of
from jbn.store import EventRow, read

NAN = float("nan")


def unpacked(packed):
    ((kind, text),) = packed.items()
    return np.frombuffer(base64.b64decode(text), f"<{kind}")


def nothing():
    raise InputError("nothing mattered")


def said(folder, *, importance=nothing, spreads=lambda member, number: {}):
    found = content(read(folder), name="run", importance=importance, spreads=spreads)
    json.dumps(found, allow_nan=False)  # no NaN, no NumPy
    return found


def test_curves_are_those_of_the_store(tmp_path, recorded):
    folder = recorded(tmp_path / "run", configs=5, segments=3, seeds=2, diverged=0.2)
    found, curves = said(folder), read(folder).curves
    assert [metric["name"] for metric in found["metrics"]] == [
        "validation_accuracy",
        "validation_loss",
        "train_loss",
    ]
    for metric in found["metrics"]:
        mean, error = (unpacked(metric[key]).reshape(5, 3) for key in ("mean", "error"))
        for row in range(5):
            for segment in range(3):
                own = curves.query("config_id == @row and segment == @segment")[metric["name"]].dropna()
                expected = own.mean() if len(own) else NAN
                np.testing.assert_allclose(mean[row, segment], expected, rtol=1e-6)
                spread = own.std(ddof=1) / np.sqrt(2) if len(own) else NAN
                np.testing.assert_allclose(error[row, segment], spread, rtol=1e-5)


def test_the_table_is_that_of_the_store_and_what_diverged_has_no_objective(tmp_path, recorded):
    folder = recorded(tmp_path / "run", configs=10, segments=3, diverged=0.2)
    found, table = said(folder), read(folder).configurations
    final = unpacked(found["configs"]["final"])
    np.testing.assert_array_equal(final, table["objective"])
    assert np.isnan(final[8:]).all()
    assert found["best"] == int(np.nanargmax(final))
    assert found["winner"]["config_id"] == found["best"]
    assert found["winner"]["test"] == {"accuracy": 0.97, "loss": 0.1}
    assert found["configs"]["status"] == ["done"] * 8 + ["diverged"] * 2


@pytest.mark.parametrize(
    ("how", "state"),
    [
        ({}, "done"),
        ({"ended": False, "written": 2}, "running"),
        ({"ended": False, "written": 0}, "running"),
        ({"written": 2}, "interrupted"),
        ({"halved": (1, 2)}, "done"),
        ({"diverged": 1.0}, "done"),
        ({"configs": 1}, "done"),
        ({"segments": 1}, "done"),
        ({"seeds": 4, "folds": 2}, "done"),
        ({"spreads": False}, "done"),
    ],
)
def test_every_kind_of_run_has_something_to_say(tmp_path, recorded, how, state):
    found = said(recorded(tmp_path / "run", **{"segments": 4, "configs": 12, **how}))
    assert found["state"] == state
    assert (found["best"] is None) == (how.get("written") == 0 or how.get("diverged") == 1.0)


def test_who_was_cut_off_was_not_stopped_by_the_policy(tmp_path, recorded):
    found = said(recorded(tmp_path / "run", configs=9, segments=9, halved=(1,), written=4))
    assert found["state"] == "interrupted"
    assert found["about"]["counts"] == {"interrupted": 3, "stopped": 6}


def test_what_varies_has_an_axis_and_what_does_not_is_named(tmp_path, recorded):
    space = jbn.Space(learning_rate=jbn.log_uniform(1e-4, 1.0), epsilon=1e-8, activation="relu")
    found = said(recorded(tmp_path / "run", space=space))
    assert [axis["name"] for axis in found["axes"]] == ["learning_rate"]
    assert found["constants"] == {"epsilon": "1e-08", "activation": "relu"}


def test_importance_that_cannot_be_found_says_why(tmp_path, recorded):
    folder = recorded(tmp_path / "run")
    assert said(folder)["importance"] == {"refused": "nothing mattered"}
    table = pd.DataFrame({"share": [0.9, 0.1], "low": [0.8, NAN], "high": [1.0, NAN]}, index=["a", "b"])
    assert said(folder, importance=lambda: table)["importance"] == {
        "names": ["a", "b"],
        "share": [0.9, 0.1],
        "low": [0.8, None],
        "high": [1.0, None],
    }
    lost = recorded(tmp_path / "lost", diverged=1.0)
    assert "importance needs configurations" in said(lost)["importance"]["refused"]


def test_the_winner_s_statistics_are_those_of_its_own_rows(tmp_path, recorded):
    found = content_of(recorded(tmp_path / "run", configs=6, segments=3), importance=nothing)
    series = {(own["layer"], own["statistic"]): own for own in found["winner"]["statistics"]}
    assert list(series) == [("layer_1", "mean"), ("layer_1", "var"), ("layer_2", "mean"), ("layer_2", "var")]
    own = series["layer_2", "var"]
    assert own["segment"] == [1, 2, 3]
    accuracy = unpacked(found["metrics"][0]["mean"]).reshape(6, 3)[found["best"]]
    np.testing.assert_allclose(own["mean"], np.exp(accuracy - 1), rtol=1e-6)  # as the fixture writes them
    np.testing.assert_allclose(own["low"], 0.5 * np.array(own["mean"]), rtol=1e-6)
    np.testing.assert_allclose(own["high"], 2 * np.array(own["mean"]), rtol=1e-6)


def test_before_a_copy_statistics_are_those_of_the_source(tmp_path, recorded):
    plain = content_of(recorded(tmp_path / "plain", configs=4, segments=4), importance=nothing)
    best = plain["best"]
    other = (best + 1) % 4
    events = [
        EventRow(1, best, 0, "copied", {"config_id": other, "seed": 0}),
        EventRow(1, best, 0, "set", {"learning_rate": 0.25}),
    ]
    found = content_of(recorded(tmp_path / "run", configs=4, segments=4, events=events), importance=nothing)
    accuracy = unpacked(found["metrics"][0]["mean"]).reshape(4, 4)
    expected = np.exp(np.concatenate([accuracy[other, :2], accuracy[best, 2:]]) - 1)
    own = next(own for own in found["winner"]["statistics"] if own["statistic"] == "var")
    np.testing.assert_allclose(own["mean"], expected, rtol=1e-6)
    assert found["winner"]["changes"] == [
        {"segment": 2, "copied": (other, 0), "values": {}},
        {"segment": 2, "copied": None, "values": {"learning_rate": "0.25"}},
    ]


def test_planned_and_actual(tmp_path, recorded):
    found = {own["name"]: own for own in said(recorded(tmp_path / "run"))["cost"]}
    assert found["tracing and compiling"] == {
        "name": "tracing and compiling",
        "unit": "s",
        "planned": 12.5,
        "happened": 10.0,
    }
    assert (found["peak memory"]["planned"], found["peak memory"]["happened"]) == (0.8, 0.9)
    running = {own["name"]: own for own in said(recorded(tmp_path / "live", ended=False, written=1))["cost"]}
    assert running["whole run"]["happened"] is None
    assert running["peak memory"]["happened"] is None


def test_what_a_resumed_run_took_before_is_not_known(tmp_path, recorded):
    found = {own["name"]: own for own in said(recorded(tmp_path / "run", resumed=[2]))["cost"]}
    assert [found[name]["happened"] for name in ("programs", "tracing and compiling")] == [None, None]
    assert found["training, all workers together"]["happened"] is None
    assert found["whole run"]["happened"] == 20.0  # pauses left out


@pytest.fixture
def rounds(tmp_path, recorded):
    """Two rounds; the second one's region is smaller and its winner is the best of all."""

    def space(low, high, *activations):
        return jbn.Space(
            learning_rate=jbn.log_uniform(low, high),
            activation=jbn.choice(*activations),
            beta1=jbn.uniform(0.5, 0.9),
        )

    wide, fine = space(1e-4, 1.0, "relu", "tanh", "sigmoid"), space(9e-3, 1.1e-2, "relu")
    for number, own in ((1, wide), (2, fine)):
        about = {"region": own.to_spec(), "round": number, "spec": {"rounds": 2}}
        recorded(tmp_path / "search" / f"round-{number}", configs=12, segments=3, space=own, **about)
    return tmp_path / "search"


def test_rounds_are_one_run(rounds):
    found = content_of(rounds, importance=nothing)
    assert found["state"] == "done"
    assert found["configs"]["round"] == [1] * 12 + [2] * 12
    assert found["best"] >= 12
    assert found["winner"]["config_id"] == found["best"]
    assert found["winner"]["statistics"][0]["segment"] == [1, 2, 3]  # read from the round it is of
    cost = {own["name"]: own for own in found["cost"]}
    assert (cost["whole run"]["happened"], cost["peak memory"]["happened"]) == (40.0, 0.9)
    assert cost["training, all workers together"]["planned"] == 50.0
    assert cost["tracing and compiling"]["planned"] == 12.5  # later rounds have the programs of the first


def test_how_the_region_moved(rounds):
    regions = {own["name"]: own["ends"] for own in content_of(rounds, importance=nothing)["regions"]}
    assert list(regions) == ["learning_rate", "activation"]  # beta1 stayed
    np.testing.assert_allclose(regions["learning_rate"], [[1e-4, 1.0], [9e-3, 1.1e-2]], rtol=1e-9)
    assert regions["activation"] == [[0.0, 2.0], [0.0, 0.0]]


def test_a_search_without_its_last_round(rounds):
    from jbn.store import reopen

    for number in (1, 2):
        folder = rounds / f"round-{number}"
        with reopen(folder, segments=3) as database:
            database.write_settings(spec={"rounds": 3})
    assert content_of(rounds, importance=nothing)["state"] == "interrupted"


def test_a_store_without_any_of_the_settings_still_has_a_page(tmp_path):
    from jbn.store import create

    create(tmp_path / "run", settings={}, configs={"a": np.array([1.0, 2.0])}, seeds=1).close()
    found = said(tmp_path / "run")
    assert found["state"] == "running"
    assert found["timeline"]["segment"] == []
    assert found["winner"] is None
