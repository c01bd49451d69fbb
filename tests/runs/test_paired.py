"""The interval of a paired difference, against the formulas by hand and against simulation."""

import numpy as np
import pytest
from scipy import stats

import jbn
from jbn.runs.paired import paired_effect, pseudo_values


def simulated(rng, seeds, groups, scales, mean=0.0):
    """Differences with effects of seeds, of rows, and of both."""
    a, b, e = scales
    return (
        mean
        + a * rng.normal(size=(seeds, 1))
        + b * rng.normal(size=(1, groups))
        + e * rng.normal(size=(seeds, groups))
    )


def test_against_the_analysis_of_variance_by_hand():
    d = simulated(np.random.default_rng(0), 4, 7, (1, 1, 0.3), 2.0)
    grand = sum(d.flat) / 28
    seeds = 7 * sum((d[s].mean() - grand) ** 2 for s in range(4)) / 3
    groups = 4 * sum((d[:, g].mean() - grand) ** 2 for g in range(7)) / 6
    rest = sum((d[s, g] - d[s].mean() - d[:, g].mean() + grand) ** 2 for s in range(4) for g in range(7)) / 18
    total = seeds + groups - rest
    freedom = total**2 / (seeds**2 / 3 + groups**2 / 6 + rest**2 / 18)
    found = paired_effect(d)
    half = stats.t.ppf(0.975, freedom) * np.sqrt(total / 28)
    assert total > max(seeds, groups)
    assert found.standard_error == pytest.approx(np.sqrt(total / 28))
    assert found.degrees_of_freedom == pytest.approx(freedom)
    np.testing.assert_allclose([found.mean, found.low, found.high], [grand, grand - half, grand + half])


@pytest.mark.parametrize("scales", [(1, 1, 1), (0, 1, 1), (1, 0, 1), (0, 0, 1), (0.3, 1, 3)])
def test_the_interval_has_the_true_effect_inside_as_often_as_it_says(scales):
    rng, rounds = np.random.default_rng(1), 1500
    inside = 0
    for _ in range(rounds):
        found = paired_effect(simulated(rng, 8, 50, scales, 0.7))
        inside += found.low <= 0.7 <= found.high
    assert 0.93 <= inside / rounds <= 0.995


def test_with_rows_alone_it_is_the_interval_of_their_mean():
    """Equal seeds: a one-sample t interval."""
    values = np.random.default_rng(2).normal(size=20)
    found = paired_effect(np.tile(values, (5, 1)), confidence=0.9)
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.9)
    np.testing.assert_allclose([found.low, found.high], expected)


def test_equal_settings_have_an_interval_of_nothing():
    found = paired_effect(np.zeros((3, 4)))
    assert (found.mean, found.low, found.high, found.standard_error) == (0, 0, 0, 0)


@pytest.mark.parametrize("shape", [(1, 5), (5, 1)])
def test_one_seed_or_one_group_tells_no_spread(shape):
    with pytest.raises(
        jbn.InputError, match=f"at least 2 seeds and 2 groups of rows, got {shape[0]} and {shape[1]}"
    ):
        paired_effect(np.zeros(shape))


def test_pseudo_values_of_a_mean_are_those_of_the_groups():
    x = np.random.default_rng(3).normal(size=(3, 10))  # 5 groups of 2 rows
    without = np.stack([np.delete(x, [2 * g, 2 * g + 1], axis=1).mean(axis=1) for g in range(5)], axis=1)
    np.testing.assert_allclose(pseudo_values(x.mean(axis=1), without), x.reshape(3, 5, 2).mean(axis=2))


def test_pseudo_values_of_a_variance_correct_its_bias():
    """Quenouille's and Tukey's example: the biased variance becomes the unbiased one."""
    x = np.random.default_rng(4).normal(size=(1, 12))
    without = np.stack([np.delete(x, i, axis=1).var(axis=1) for i in range(12)], axis=1)
    assert pseudo_values(x.var(axis=1), without).mean() == pytest.approx(x.var(ddof=1))
