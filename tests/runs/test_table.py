"""Where configurations stand: means and standard errors over seed indices."""

import numpy as np
import pytest

from jbn.policies import DIVERGED, DONE, RUNNING, STOPPED, History
from jbn.runs.table import standing

NAN, INF = np.nan, np.inf


def history(accuracy, status, loss=None):
    """A history from accuracies `[segments, members]`."""
    accuracy = np.array(accuracy, float)
    loss = 2 - accuracy if loss is None else np.array(loss, float)
    steps = np.full(accuracy.shape, 10) * np.arange(1, len(accuracy) + 1)[:, None]
    return History(loss, {"accuracy": accuracy, "loss": loss}, steps, np.array(status))


def test_the_standard_error_is_the_sample_deviation_over_the_root_of_the_seeds():
    now = standing(history([[0.5, 0.75, 0.7, 0.1, 0.2, 0.6]], [DONE] * 6), 3)
    np.testing.assert_allclose(now.validation["accuracy"], [0.65, 0.3])
    # Deviations -0.15, 0.10, 0.05 and -0.2, -0.1, 0.3: squares 0.035 and 0.14, over 2, over 3, their roots.
    expected = np.sqrt([0.035 / 6, 0.14 / 6])
    np.testing.assert_allclose(now.standard_errors["accuracy"], expected)
    np.testing.assert_allclose(now.standard_errors["loss"], expected)


def test_one_seed_has_no_standard_error():
    now = standing(history([[0.5, 0.75]], [DONE] * 2), 1)
    assert now.validation["accuracy"].tolist() == [0.5, 0.75]
    assert np.isnan(now.standard_errors["accuracy"]).all()
    assert np.isnan(now.standard_errors["loss"]).all()


@pytest.mark.parametrize("loss", [INF, NAN, -INF])
def test_one_diverged_seed_makes_its_configuration_diverged_and_no_other(loss):
    now = standing(history([[0.5, 0.5, 0.25, 0.75]], [DONE, DIVERGED, STOPPED, DONE], [[1, loss, 2, 4]]), 2)
    assert now.status.tolist() == ["diverged", "stopped"]
    found = now.columns()
    expected = {
        "validation_accuracy": 0.5,
        "validation_loss": 3.0,
        "validation_accuracy_standard_error": 0.25,
        "validation_loss_standard_error": 1.0,
        "objective": 0.5,
    }
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], [NAN, value])


def test_a_stopped_seed_counts_with_its_last_segment():
    now = standing(history([[0.5, 0.25], [0.75, NAN]], [DONE, STOPPED]), 2)
    np.testing.assert_allclose(now.validation["accuracy"], [0.5])
    np.testing.assert_allclose(now.standard_errors["accuracy"], [0.25])


def test_before_the_first_segment_there_is_nothing():
    now = standing(history(np.zeros((0, 4)), [RUNNING] * 4), 2)
    assert now.status.tolist() == ["running"] * 2
    assert all(np.isnan(values).all() for values in now.columns().values())


def test_what_changed_is_known_row_by_row():
    before = standing(history([[0.5, NAN, 0.7, 0.2]], [RUNNING] * 4), 1)
    assert before.changed(None).all()
    assert not before.changed(before).any()
    now = standing(history([[0.5, NAN, 0.8, 0.2]], [RUNNING, RUNNING, RUNNING, STOPPED]), 1)
    assert now.changed(before).tolist() == [False, False, True, True]
    later = now._replace(steps=now.steps + np.array([10, 0, 0, 0]))
    assert later.changed(now).tolist() == [True, False, False, False]
    known = standing(history([[0.5, 0.1, 0.8, 0.2]], [RUNNING, RUNNING, RUNNING, STOPPED]), 1)
    assert known.changed(now).tolist() == [False, True, False, False]
