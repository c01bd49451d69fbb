"""What a policy sees."""

import jax
import numpy as np
import pytest

import jbn
from jbn.policies import STATUS_NAMES, History

STATUS = np.array([0, 3, 2, 1, 0])


@pytest.fixture
def history():
    curve = np.zeros((1, 5))
    return History(curve, {"loss": curve, "accuracy": curve}, np.ones((1, 5), int), STATUS)


def test_every_status_is_a_mask(history):
    assert history.running.tolist() == [True, False, False, False, True]
    assert history.diverged.tolist() == [False, True, False, False, False]
    assert history.stopped.tolist() == [False, False, True, False, False]
    assert history.done.tolist() == [False, False, False, True, False]


@pytest.mark.parametrize("name", STATUS_NAMES)
def test_the_masks_have_the_names_of_tables(history, name):
    own = getattr(history, name)
    assert own.dtype == bool
    assert {STATUS_NAMES[number] for number in STATUS[own]} == {name}


def test_a_policy_may_go_by_them():
    """Two of the three are stopped after the first epoch, who were running; the last one trains to the end."""
    seen = []

    def policy(history, key):
        seen.append(history.running.tolist())
        return jbn.Edits(stop=np.flatnonzero(history.running)[:-1])

    task = jbn.Task(model=jbn.mlp(layers=1, hidden_units=8, batch_norm="none"), data=jbn.data.digits())
    configs = {"learning_rate": [0.01, 0.02, 0.03], "batch_size": [256] * 3}
    result = jbn.sweep(task, configs, epochs=3, key=jax.random.key(0), policy=policy)
    assert seen == [[True] * 3, [False, False, True], [False, False, True]]
    assert result.history.stopped.tolist() == [True, True, False]
    assert result.history.done.tolist() == [False, False, True]
