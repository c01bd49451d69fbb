"""Successive halving, brackets and the median rule: on histories made by hand, and in sweeps."""

import jax
import numpy as np
import pytest

import jbn
from jbn.engine.plan import plan
from jbn.errors import InputError
from jbn.policies import DIVERGED, RUNNING, STOPPED, History, expected_epochs
from jbn.task.objectives import Objective

KEY = jax.random.key(0)


def history(accuracy, loss=None, status=None, seeds=1, objective=None):
    accuracy = np.asarray(accuracy, float)
    loss = 1 - accuracy if loss is None else np.asarray(loss, float)
    status = np.full(accuracy.shape[1], RUNNING) if status is None else np.asarray(status)
    steps = np.cumsum(np.ones(accuracy.shape, int), axis=0)
    own = objective or Objective("accuracy", maximize=True)
    return History(loss, {"accuracy": accuracy, "loss": loss}, steps, status, own, seeds)


def stopped(policy, own):
    return policy(own, KEY).stop.tolist()


def test_the_best_third_goes_on_at_every_rung():
    policy = jbn.halving(eta=3, min_epochs=2)
    final = np.array([0.1, 0.9, 0.3, 0.8, 0.5, 0.6, 0.7, 0.2, 0.4])
    assert stopped(policy, history([final])) == []
    assert stopped(policy, history([final, final])) == [0, 2, 4, 5, 7, 8]
    left = np.where(np.isin(np.arange(9), [1, 3, 6]), RUNNING, STOPPED)
    for segments in (3, 4, 5, 7):
        assert stopped(policy, history([final] * segments, status=left)) == []
    assert stopped(policy, history([final] * 6, status=left)) == [3, 6]
    last = np.where(np.arange(9) == 1, RUNNING, STOPPED)
    assert stopped(policy, history([final] * 18, status=last)) == []


def test_ties_are_broken_by_loss_then_by_number():
    policy = jbn.halving(eta=2)
    assert stopped(policy, history([[0.5, 0.5, 0.5, 0.5]], loss=[[0.3, 0.2, 0.2, 0.4]])) == [0, 3]


def test_diverged_configurations_come_last_and_are_not_stopped_again():
    policy = jbn.halving(eta=2)
    own = history([[np.nan, 0.1, np.nan, 0.2]], status=[DIVERGED, RUNNING, DIVERGED, RUNNING])
    assert stopped(policy, own) == []  # two of four go on anyway
    own = history([[0.9, 0.1, 0.3, 0.2]], status=[DIVERGED, RUNNING, RUNNING, RUNNING])
    assert stopped(policy, own) == [1]


def test_the_objective_says_what_is_better():
    policy = jbn.halving(eta=2)
    own = history(
        [[0.9, 0.8, 0.1, 0.2]], loss=[[9.0, 8.0, 1.0, 2.0]], objective=Objective("loss", maximize=False)
    )
    assert stopped(policy, own) == [0, 1]


def test_seeds_of_a_configuration_stay_together():
    policy = jbn.halving(eta=3)
    accuracy = [[0.9, 0.1, 0.6, 0.6, 0.4, 0.5]]  # means 0.5, 0.6, 0.45
    assert stopped(policy, history(accuracy, seeds=2)) == [0, 1, 4, 5]
    one_lost = [RUNNING, RUNNING, RUNNING, DIVERGED, RUNNING, RUNNING]
    assert stopped(policy, history(accuracy, status=one_lost, seeds=2)) == [2, 4, 5]


def test_brackets_have_rungs_of_their_own():
    """Hyperband: the second bracket is eta times as patient."""
    policy = jbn.halving(eta=2, brackets=2)
    accuracy = np.array([[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]])
    assert stopped(policy, history(accuracy)) == [0, 2]  # the even ones' first rung
    left = np.where(np.isin(np.arange(8), [0, 2]), STOPPED, RUNNING)
    assert stopped(policy, history(accuracy.repeat(2, 0), status=left)) == [1, 3, 4]
    left = np.where(np.isin(np.arange(8), [0, 1, 2, 3, 4]), STOPPED, RUNNING)
    assert stopped(policy, history(accuracy.repeat(4, 0), status=left)) == [5]


def test_the_median_rule_by_hand():
    policy = jbn.median_stopping(min_epochs=2, min_configs=3)
    curve = np.array([[0.1, 0.5, 0.2, 0.9, 0.30], [0.2, 0.5, 0.6, 0.9, 0.36]])
    # averages 0.15, 0.5, 0.4, 0.9, 0.33, their median 0.4; the best so far 0.2, 0.5, 0.6, 0.9, 0.36
    assert stopped(policy, history(curve)) == [0, 4]
    assert stopped(policy, history(curve[:1])) == []
    lost = history(curve, status=[RUNNING, RUNNING, DIVERGED, DIVERGED, DIVERGED])
    assert stopped(policy, lost) == []


TASK = jbn.Task(model=jbn.mlp(layers=1), data=jbn.data.digits())
SPACE = jbn.Space(
    learning_rate=jbn.log_uniform(1e-4, 1.0),
    hidden_units=jbn.integers(4, 12),
    batch_size=jbn.choice(128, 256),
)


def test_survivors_go_on_where_they_were_and_nothing_is_compiled():
    configs = jbn.search.random(SPACE, 18, key=1)
    plain = jbn.sweep(TASK, configs, epochs=5, key=KEY)
    halved = jbn.sweep(TASK, configs, epochs=5, key=KEY, policy=jbn.halving(eta=3))
    assert halved.timings.programs == 0
    took_part = (~np.isnan(halved.history.train_loss)).sum(axis=1)
    assert took_part.tolist() == [18, 6, 6, 2, 2]
    trained = ~np.isnan(halved.history.train_loss)
    np.testing.assert_array_equal(halved.history.train_loss[trained], plain.history.train_loss[trained])
    statuses = halved.table().status.value_counts()
    assert statuses.to_dict() == {"stopped": 16, "done": 2}
    first = plain.history.validation_accuracy[0]
    assert set(np.flatnonzero(trained[1])) <= set(np.argsort(-first, kind="stable")[:9])


def test_seeds_of_a_sweep_stop_together():
    configs = jbn.search.random(SPACE, 6, key=2)
    result = jbn.sweep(TASK, configs, epochs=3, key=KEY, seeds=2, policy=jbn.halving(eta=2))
    members = (~np.isnan(result.history.train_loss)).sum(axis=0).reshape(6, 2)
    np.testing.assert_array_equal(members[:, 0], members[:, 1])
    assert sorted(members[:, 0]) == [1, 1, 1, 2, 2, 3]


def test_the_median_rule_in_a_sweep():
    configs = jbn.search.random(SPACE, 12, key=3)
    result = jbn.sweep(TASK, configs, epochs=4, key=KEY, policy=jbn.median_stopping(min_epochs=2))
    status = result.table().status
    assert (status == "stopped").sum() >= 2
    assert status.iloc[0] == "done"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: jbn.halving(eta=1), "eta must be a whole number of at least 2, got 1"),
        (lambda: jbn.halving(min_epochs=0), "min_epochs must be a whole number of at least 1, got 0"),
        (lambda: jbn.halving(brackets=0), "brackets must be a whole number of at least 1, got 0"),
        (lambda: jbn.median_stopping(min_epochs=0), "min_epochs must be a whole number of at least 1"),
        (
            lambda: jbn.median_stopping(min_configs=0),
            "min_configs must be a whole number of at least 1, got 0",
        ),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_nothing_waits_for_others_between_two_rungs():
    policy = jbn.halving(eta=3, min_epochs=2, brackets=2)
    assert [policy.next_decision(segments) for segments in (0, 1, 2, 5, 6, 17, 18)] == [
        2,
        2,
        6,
        6,
        18,
        18,
        54,
    ]
    assert jbn.halving().next_decision(0) == 1
    assert [jbn.median_stopping(min_epochs=5).next_decision(n) for n in (0, 4, 5)] == [5, 5, 6]
    for policy in (jbn.halving(eta=2, min_epochs=3), jbn.halving(eta=4, brackets=3)):
        rungs = {
            n for n in range(1, 100) if any(policy.rung(b, n) is not None for b in range(policy.brackets))
        }
        asked, now = set(), 0
        while now < 99:
            now = policy.next_decision(now)
            asked.add(now)
        assert asked - {now} == rungs - {now}


def test_a_policy_is_asked_when_it_wants_to_be():
    class Sometimes:
        asked = ()

        def next_decision(self, segments):
            return {0: 2, 2: None}[segments]

        def __call__(self, history, key):
            self.asked = (*self.asked, len(history.steps))
            return jbn.Edits()

    policy = Sometimes()
    configs = jbn.search.random(SPACE, 4, key=1)
    jbn.sweep(TASK, configs, epochs=5, key=KEY, policy=policy)
    assert policy.asked == (2, 5)


@pytest.mark.parametrize("policy", [jbn.halving(), jbn.halving(eta=2, min_epochs=3), jbn.halving(brackets=3)])
def test_epochs_that_are_expected_are_those_of_many_configurations(policy):
    """Played through with 2,187 made-up configurations: what the policy stops takes no further part."""
    count, epochs = 2187, 20
    accuracy, status, trained = np.random.default_rng(0).random(count), np.full(count, RUNNING), 0
    for segment in range(epochs):
        trained += int((status == RUNNING).sum())
        curve = np.tile(accuracy, (segment + 1, 1))
        status[policy(history(curve, status=status), jax.random.key(0)).stop] = STOPPED
    assert policy.expected_epochs(epochs) == pytest.approx(trained / count, rel=0.02)


def test_no_policy_and_one_that_does_not_say_are_taken_to_stop_none():
    assert expected_epochs(None, 7) == expected_epochs(lambda history, key: jbn.Edits(), 7) == 7.0


def test_a_plan_compiles_no_more_than_is_worth_its_time_with_halving():
    """1,024 configurations for 50 epochs are worth programs of several widths; with halving, 3 epochs, not."""
    task = jbn.Task(model=jbn.mlp(), data=jbn.data.digits())
    space = jbn.Space(learning_rate=jbn.log_uniform(1e-4, 1.0), hidden_units=jbn.integers(50, 100))
    configs = jbn.search.random(space, 1024, key=0)
    task = task.settled(configs, epochs=50)
    whole, halved = (
        len(plan(task, configs, platform="cpu", epochs=expected_epochs(policy, 50)).programs)
        for policy in (None, jbn.halving())
    )
    assert halved < whole
