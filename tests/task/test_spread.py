"""Lowest, mean and highest channel, against NumPy on the channels that are a member's own."""

import jax.numpy as jnp
import numpy as np
import pytest

import jbn
from jbn.task import spread
from jbn.task.hyper import Structure
from jbn.task.spread import Looks, Members, looked_at

RNG = np.random.default_rng(0)
PROBLEM = jbn.Task(model=jbn.mlp(), data=jbn.data.arrays(RNG.normal(size=(60, 4)), np.arange(60) % 3)).problem
STRUCTURE = Structure(
    (("layers", 2), ("hidden_units", 6), ("hidden_units_2", 9)), ("hidden_units", "hidden_units_2")
)
SIZES = {"hidden_units": np.array([6, 1, 4]), "hidden_units_2": np.array([9, 3, 7])}


def spreads(problem, structure, traced, stats, slots):
    (found,) = spread.spreads(problem, [Members(structure, traced, stats, slots)])
    return found


def stats():
    widths = {"layer_1": 6, "layer_2": 9}
    return {
        name: {"mean": RNG.normal(size=(3, width)), "var": RNG.uniform(size=(3, width)), "count": np.ones(3)}
        for name, width in widths.items()
    }


def test_padding_does_not_count():
    own, slots = stats(), np.array([2, 1])
    for name, size in (("layer_1", "hidden_units"), ("layer_2", "hidden_units_2")):
        for slot in range(3):
            own[name]["mean"][slot, SIZES[size][slot] :] = 1e6
    found = spreads(PROBLEM, STRUCTURE, SIZES, own, slots)
    assert list(found) == ["layer_1/mean", "layer_1/var", "layer_2/mean", "layer_2/var"]
    for name, size in (("layer_1", "hidden_units"), ("layer_2", "hidden_units_2")):
        for row, slot in enumerate(slots):
            for field in ("mean", "var"):
                kept = own[name][field][slot, : SIZES[size][slot]]
                expected = [kept.min(), kept.mean(), kept.max()]
                np.testing.assert_allclose(found[f"{name}/{field}"][row], expected, rtol=1e-6)


@pytest.mark.filterwarnings("error")
def test_what_diverged_is_not_finite_and_disturbs_nobody():
    own = stats()
    own["layer_1"]["mean"][0, 0], own["layer_1"]["mean"][1] = np.inf, np.nan
    found = spreads(PROBLEM, STRUCTURE, SIZES, own, np.arange(3))["layer_1/mean"]
    assert not np.isfinite(found[0]).all()
    assert np.isnan(found[1]).all()
    np.testing.assert_allclose(found[2, 1], own["layer_1"]["mean"][2, :4].mean(), rtol=1e-6)


def test_only_statistics_with_channels_have_spreads():
    assert spreads(PROBLEM, STRUCTURE, SIZES, {}, np.arange(3)) == {}
    assert spreads(PROBLEM, STRUCTURE, SIZES, stats(), np.arange(0)) == {}
    other = {"batch_stats": {"norm": {"mean": jnp.ones((3, 2, 2)), "steps": jnp.ones((3, 4), int)}}}
    assert list(spreads(PROBLEM, STRUCTURE, SIZES, other, np.arange(3))) == ["batch_stats/norm/mean"]


def test_they_are_taken_while_that_is_a_small_share_of_the_time():
    looks = Looks(2, now=100.0)
    for _ in range(3):  # chunks of the first segment, whatever it takes
        assert looks.due(9, now=100.0)
        looks.took(0.01)
    looks.took(0.02)
    assert not looks.due(8, now=1e9)  # none of those that are looked at
    assert not looks.due(11, now=112.4)  # 0.05 s of 2 * 12.4 s are more than 0.2 %
    assert looks.due(11, now=112.6)


def test_they_are_taken_less_often_the_longer_it_goes_on():
    taken = [segment for segment in range(1000) if looked_at(segment)]
    assert taken[:9] == [0, 1, 2, 3, 4, 5, 6, 7, 9]
    assert len(taken) <= 36
    numbers = np.array(taken) + 1  # counted from 1
    assert (np.diff(numbers) <= np.maximum(1, numbers[:-1] / 4)).all()
