import jax
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import jbn
from jbn.errors import InputError
from jbn.task.metrics import METRICS, metric
from jbn.task.objectives import Objective, settled

NAN = np.nan
CURVES = np.array([[0.5, 0.9, 0.1], [0.7, 0.3, NAN], [0.6, NAN, NAN]])
ACCURACY = METRICS["accuracy"]


def test_last_and_best():
    high, low = (Objective("x", maximize=up, over="best") for up in (True, False))
    assert Objective("x", maximize=True).values(CURVES).tolist() == [0.6, 0.3, 0.1]
    assert high.values(CURVES).tolist() == [0.7, 0.9, 0.1]
    assert low.values(CURVES).tolist() == [0.5, 0.3, 0.1]
    assert low.scores(np.array([2.0])).tolist() == [-2.0]
    assert np.isnan(high.values(np.zeros((0, 2)))).all()


@pytest.mark.parametrize("weight", [0.3, 0.9])
def test_smoothing_is_pandas_adjusted_average(weight):
    curves = np.random.default_rng(0).normal(size=(20, 4))
    curves[12:, 1] = NAN  # stopped
    expected = pd.DataFrame(curves).ewm(alpha=1 - weight, adjust=True).mean().to_numpy()
    own = Objective("x", maximize=True, smoothing=weight)
    assert_allclose(own.values(curves), expected[-1], rtol=1e-12)
    assert_allclose(own._replace(over="best").values(curves), np.nanmax(expected, axis=0), rtol=1e-12)


def test_the_usual_objective():
    assert settled(None, (ACCURACY,)) == Objective("accuracy", True)
    assert settled(None, (METRICS["r2"],)) == Objective("loss", False)
    assert settled("r2", (METRICS["r2"],)).maximize is True
    assert settled(jbn.objective("loss", over="best"), ()) == Objective("loss", False, 0.0, "best")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: jbn.objective("loss", smoothing=1.0),
            r"smoothing must be at least 0 and below 1, but got 1.0",
        ),
        (lambda: jbn.objective("loss", over="all"), 'over must be "last" or "best", but got \'all\''),
        (lambda: settled("accurcy", (ACCURACY,)), "'accurcy' is none: did you mean 'accuracy'"),
        (
            lambda: settled("own", (metric(len, name="own"),)),
            r"must be said: jbn.objective\('own', maximize=True\)",
        ),
    ],
)
def test_objectives_that_cannot_be(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_the_objective_after_every_segment_ends_in_the_last():
    """By hand: the first member takes part in all, the second is stopped, the third never was."""
    curve = np.array([[4.0, 2.0, np.nan], [0.0, np.nan, np.nan], [4.0, np.nan, np.nan]])
    smooth = [4.0, (2.0 + 0.0) / 1.5, (1.0 + 0.0 + 4.0) / 1.75]
    expected = {
        Objective("loss", False): [[4, 2], [0, np.nan], [4, np.nan]],
        Objective("loss", False, 0.0, "best"): [[4, 2], [0, np.nan], [0, np.nan]],
        Objective("loss", True, 0.0, "best"): [[4, 2], [4, np.nan], [4, np.nan]],
        Objective("loss", False, 0.5): [[smooth[0], 2], [smooth[1], np.nan], [smooth[2], np.nan]],
    }
    for judged, along in expected.items():
        np.testing.assert_allclose(judged.along(curve)[:, :2], along)
        assert np.isnan(judged.along(curve)[:, 2]).all()
        np.testing.assert_array_equal(judged.values(curve), [judged.along(curve)[2, 0], 2, np.nan])
        assert np.isnan(judged.values(curve[:0])).all()


@pytest.mark.parametrize(
    "objective",
    [
        "loss",
        jbn.objective("accuracy", over="best"),
        jbn.objective("loss", smoothing=0.5),
        "balanced_accuracy",
    ],
)
def test_the_table_the_winner_and_the_record_agree(objective, tmp_path):
    task = jbn.Task(
        jbn.mlp(layers=1, hidden_units=8),
        jbn.data.digits(),
        metrics=("accuracy", "balanced_accuracy"),
        objective=objective,
    )
    rates = [0.3, 0.001, 0.01, 0.03, 3.0]
    configs = {"learning_rate": rates, "batch_size": [256] * 5}
    result = jbn.sweep(task, configs, epochs=4, key=jax.random.key(0), out=tmp_path / "run")
    judged = settled(objective, task.problem.metrics)
    curve = result.history.validation[judged.metric]
    smooth = pd.DataFrame(curve).ewm(alpha=1 - judged.smoothing, adjust=True).mean().to_numpy()
    values = smooth[-1] if judged.over == "last" else smooth.max(axis=0)
    scores = -values if judged.maximize else values
    keys = zip(scores, result.history.validation_loss[-1], range(len(rates)), strict=True)
    order = [i for *_, i in sorted(keys)]
    assert result.table().config_id.tolist() == order
    assert result.best().config_id == order[0]
    assert ("objective" in result.table()) == (not judged.plain)
    from jbn.runs.export import export_table

    export_table(tmp_path / "run", tmp_path / "table.csv")
    table = pd.read_csv(tmp_path / "table.csv")
    assert table.config_id.tolist() == order
    assert list(table) == list(result.table())
