"""What a policy of a user's own may do to a population, and what is refused."""

import jax
import numpy as np
import pytest

import jbn
from jbn.errors import InputError
from jbn.policies import Edits
from jbn.search import Configs

KEY = jax.random.key(0)
TASK = jbn.Task(model=jbn.mlp(layers=1, hidden_units=8), data=jbn.data.digits())
CONFIGS = {
    "learning_rate": np.geomspace(1e-3, 1e-1, 5),
    "beta1": np.full(5, 0.9),
    "batch_size": np.full(5, 256),
}


def trained(policy, *, epochs=3, configs=CONFIGS, **options):
    return jbn.sweep(TASK, configs, epochs=epochs, key=KEY, policy=policy, **options)


def once(edits, after=0):
    return lambda history, key: edits if len(history.steps) == after + 1 else Edits()


def test_a_rate_that_is_set_is_that_of_the_next_segment():
    rates = np.array([*[np.nan] * 4, 0.0])
    result = trained(once(Edits(values={"learning_rate": rates})))
    plain = trained(None)
    loss, before = result.history.train_loss, plain.history.train_loss
    np.testing.assert_array_equal(loss[:, :4], before[:, :4])
    assert loss[0, 4] == before[0, 4]
    # without a rate, weights stand still: only the batches change
    np.testing.assert_allclose(loss[1, 4], loss[2, 4], rtol=0.05)
    assert before[2, 4] < 0.8 * before[1, 4]
    assert result.history.configs["learning_rate"].tolist() == [*CONFIGS["learning_rate"][:4], 0.0]


def test_a_beta_is_set_with_its_complement():
    """beta1 near 1, set between segments, is as exact as from the beginning."""
    betas = np.full(5, np.nan)
    betas[0] = 1 - 1e-5
    columns = {**CONFIGS, "beta1": np.array([1 - 1e-5, *[0.9] * 4])}
    start = trained(None, configs=columns, epochs=1)
    first = trained(lambda history, key: Edits(values={"beta1": betas}), configs=CONFIGS, epochs=1)
    assert start.history.train_loss[0, 0] != first.history.train_loss[0, 0]
    copies = Edits(copies=np.array([[0, 1]]), values={"beta1": np.array([np.nan, 1 - 1e-5, *[np.nan] * 3])})
    both = {**columns, "learning_rate": np.full(5, 0.01)}
    result = trained(once(copies), configs=both)
    np.testing.assert_array_equal(result.history.train_loss[1:, 0], result.history.train_loss[1:, 1])


def test_a_copy_goes_on_as_the_one_that_it_copied():
    everything = {"learning_rate": np.full(5, np.nan)}
    everything["learning_rate"][3] = CONFIGS["learning_rate"][1]
    result = trained(once(Edits(copies=np.array([[1, 3]]), values=everything)))
    loss = result.history.validation_loss
    np.testing.assert_array_equal(loss[1:, 3], loss[1:, 1])
    plain = trained(None).history.validation_loss
    np.testing.assert_array_equal(np.delete(loss, 3, 1), np.delete(plain, 3, 1))
    assert result.timings.programs == 0


def test_two_can_swap_places():
    swap = Edits(
        copies=np.array([[0, 4], [4, 0]]),
        values={"learning_rate": np.array([0.1, np.nan, np.nan, np.nan, 1e-3])},
    )
    loss, plain = trained(once(swap)).history.validation_loss, trained(None).history.validation_loss
    np.testing.assert_array_equal(loss[1:, [4, 0]], plain[1:, [0, 4]])


def test_edits_of_members_in_several_chunks_and_padded_widths():
    """40 members are three chunks; copies cross them."""
    space = jbn.Space(
        learning_rate=jbn.log_uniform(1e-3, 0.1), hidden_units=jbn.integers(5, 8), batch_size=256
    )
    columns = jbn.search.random(space, 40, key=3)
    same = np.flatnonzero(columns["hidden_units"] == columns["hidden_units"][0])
    source, target = int(same[0]), int(same[-1])
    rates = np.full(40, np.nan)
    rates[target] = columns["learning_rate"][source]
    edits = Edits(copies=np.array([[source, target]]), values={"learning_rate": rates})
    loss = trained(once(edits), configs=columns).history.validation_loss
    np.testing.assert_array_equal(loss[1:, target], loss[1:, source])


@pytest.mark.parametrize(
    ("edits", "words"),
    [
        (Edits(stop=np.array([5])), "must name one of 5 members, counted from 0, but names 5"),
        (Edits(copies=np.array([[0, -1]])), "must name one of 5 members, counted from 0, but names -1"),
        (Edits(values={"batch_size": np.full(5, 32.0)}), "cannot set 'batch_size' between segments"),
        (Edits(values={"learning_rat": np.full(5, 0.1)}), "did you mean 'learning_rate'"),
        (Edits(values={"learning_rate": np.full(4, 0.1)}), r"one number a member, \[5\], got \[4\]"),
        (Edits(values={"beta1": np.full(5, 1.0)}), "beta1 must be a number .* but got 1.0"),
    ],
)
def test_edits_that_are_refused(edits, words):
    with pytest.raises(InputError, match=words):
        trained(lambda history, key: edits, epochs=1)


def test_copies_between_structures_are_refused():
    columns = {"hidden_units": np.array([4, 6]), "batch_size": np.full(2, 256)}
    with pytest.raises(InputError, match="1 is in group 1 and 0 in 0"):
        trained(lambda history, key: Edits(copies=np.array([[0, 1]])), configs=columns)


def test_copies_of_the_stopped_are_refused():
    def policy(history, key):
        if len(history.steps) == 1:
            return Edits(stop=np.array([0]))
        return Edits(copies=np.array([[0, 1]]))

    with pytest.raises(InputError, match="a copied member must be running, but 0 is not"):
        trained(policy)
    with pytest.raises(InputError, match="must be running or have diverged, but 0 was stopped"):
        trained(
            lambda history, key: (
                Edits(stop=np.array([0])) if len(history.steps) == 1 else Edits(copies=np.array([[1, 0]]))
            )
        )


def test_a_value_for_a_member_that_has_none_is_refused():
    columns = Configs(
        {"optimizer": ["adam", "sgd"], "beta1": [0.9, np.nan], "batch_size": [256, 256]},
    )
    with pytest.raises(InputError, match="beta1 must stay NaN where a member has none, but member 1"):
        trained(lambda history, key: Edits(values={"beta1": np.full(2, 0.8)}), configs=columns)


def test_what_a_policy_sees(tmp_path):
    seen = []

    def policy(history, key):
        seen.append(history)
        return Edits(stop=np.array([2])) if len(history.steps) == 1 else Edits()

    result = trained(policy, epochs=2, out=tmp_path / "run")
    assert set(seen[0].changeable) == {"learning_rate", "beta1"}
    assert seen[0].groups.tolist() == [0] * 5
    np.testing.assert_array_equal(seen[0].configs["learning_rate"], CONFIGS["learning_rate"])
    assert result.lineage().values.tolist() == [[0, 2, 0, "stopped", -1, -1]]
    assert jbn.store.read(tmp_path / "run").events.values.tolist() == [[0, 2, 0, "stopped", {}]]


def test_without_a_policy_nothing_happens():
    assert trained(None, epochs=1).lineage().empty
