"""What is said of a learning curve: by hand, and of real trainings whose learning rates are known to be wrong."""

import jax
import numpy as np
import pytest

import jbn
from jbn.policies import Watched, diagnose
from jbn.runs.trainee import Trainee

FINE = 1e-2


def kinds(train, validation=None, ratios=FINE, *, first=2.3, since=0):
    train = np.asarray(train, float)
    validation = train if validation is None else np.asarray(validation, float)
    found = diagnose(
        Watched(train, validation, np.broadcast_to(ratios, train.shape).astype(float), first, since)
    )
    assert all(finding.evidence for finding in found)
    return [finding.kind for finding in found]


def test_nothing_is_said_before_the_first_segment_or_where_all_is_well():
    assert kinds([]) == []
    assert kinds([1.0, 0.5, 0.3, 0.2, 0.1, 0.05, 0.03]) == []


@pytest.mark.parametrize("loss", [np.nan, np.inf])
def test_diverged(loss):
    assert kinds([1.0, loss]) == ["diverged"]
    assert kinds([1.0, 0.5], [1.0, loss]) == ["diverged"]


def test_diverging_is_two_rises_to_well_above_the_lowest():
    assert kinds([1.0, 0.5, 0.7, 0.9]) == ["diverging"]
    assert kinds([1.0, 0.5, 0.6, 0.7]) == []  # 1.4 times
    assert kinds([1.0, 0.5, 0.9, 0.8]) == []  # once
    assert kinds([1.0, 0.01, 0.02, 0.03]) == []  # 2 % of the way


def test_a_rate_is_too_high_where_large_steps_do_not_pay():
    assert kinds([1.0, 0.6, 0.7], ratios=0.5) == ["learning rate too high"]
    assert kinds([1.0, 0.6, 0.7], ratios=0.2) == []
    assert kinds([1.0, 0.6, 0.4], ratios=0.5) == []
    assert kinds([5.0], ratios=0.5) == ["learning rate too high"]  # above that of an untrained network
    assert kinds([2.0, 1.95, 1.9], ratios=[0.5, 0.01, 0.01]) == ["learning rate too high"]  # it creeps


def test_what_another_rate_did_is_not_this_one_s():
    assert kinds([1.0, 0.6, 0.7, 0.5, 0.3], ratios=[0.5, 0.5, 0.5, 0.1, 0.1], since=3) == []
    assert kinds([1.0, 0.6, 0.7, 0.5, 0.3], ratios=[0.5, 0.5, 0.5, 0.1, 0.1]) == ["learning rate too high"]


def test_a_rate_is_too_low_where_small_steps_creep():
    assert kinds([2.0, 1.98, 1.96], ratios=1e-4) == ["learning rate too low"]
    assert kinds([2.0, 1.98, 1.96], ratios=1e-3) == []
    assert kinds([2.0, 1.5, 1.2], ratios=1e-4) == []
    assert kinds([2.0, 0.51, 0.50, 0.49], ratios=1e-4) == []  # most is learned


def test_overfitting_needs_patience_and_a_falling_training_loss():
    falls = [1.0, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05]
    assert kinds(falls, [1.0, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1]) == ["overfitting"]
    assert kinds(falls[:6], [1.0, 0.6, 0.7, 0.8, 0.9, 1.0]) == []  # four segments
    assert kinds(falls, [1.0, 0.6, 0.7, 0.8, 0.9, 0.61, 1.1]) == []
    assert "overfitting" not in kinds([0.5] * 7, [1.0, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1])


def test_a_plateau_is_said_where_nothing_else_explains_it():
    assert kinds([1.0, *[0.2] * 6]) == ["plateau"]
    assert (
        kinds([1.0, *[0.2] * 5]) == []
    )  # the last five are no better than the first of them, but that is one
    assert kinds([1.0, 0.2, 0.2, 0.2, 0.2, 0.2, 0.19]) == []
    assert kinds([2.0] * 8, ratios=1e-5) == ["learning rate too low"]


TASK = jbn.Task(model=jbn.mlp(), data=jbn.data.digits())


@pytest.fixture(scope="module")
def trainee():
    own = Trainee(TASK, jax.random.key(0))
    yield own
    own.close()


@pytest.mark.parametrize(
    ("optimizer", "rate", "expected"),
    [
        ("adam", 1e-5, "learning rate too low"),
        ("adam", 1e-3, None),
        ("adam", 1e-2, None),
        ("adam", 10.0, "learning rate too high"),
        ("sgd", 1e-4, "learning rate too low"),
        ("sgd", 1e-2, None),
        ("sgd", 1e-1, None),
        ("sgd", 10.0, "learning rate too high"),
    ],
)
def test_real_trainings(trainee, optimizer, rate, expected):
    """Of eight segments; the rates were chosen before: the best are 1e-3 to 1e-1."""
    config = trainee.complete({"learning_rate": rate, "hidden_units": 64, "optimizer": optimizer})
    state, seen = trainee.start(config), []
    for _ in range(8):
        state, one = trainee.advance(state, config)
        seen.append(one)
    watched = Watched(
        np.array([one.train_loss for one in seen]),
        np.array([one.validation["loss"] for one in seen]),
        np.array([np.median(list(one.ratios.values())) for one in seen]),
        seen[0].first_loss,
    )
    found = [finding.kind for finding in diagnose(watched)]
    assert [kind for kind in found if kind.startswith("learning")] == ([expected] if expected else [])
