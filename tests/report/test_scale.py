import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jbn.report.scale import AccuracyScale

accuracies = st.lists(st.integers(0, 360).map(lambda right: right / 360), min_size=1).map(np.array)


@given(accuracies)
def test_the_way_there_and_back(accuracy):
    scale = AccuracyScale.of(accuracy)
    np.testing.assert_allclose(scale.inverse(scale.forward(accuracy)), accuracy, atol=1e-12)


@given(accuracies)
def test_everything_is_inside_the_limits_and_better_is_higher(accuracy):
    scale = AccuracyScale.of(accuracy)
    low, high = scale.limits(accuracy)
    assert low < accuracy.min() <= accuracy.max() < high
    assert np.all(np.diff(scale.forward(np.unique(accuracy))) > 0)


@given(accuracies)
def test_labels_are_in_the_axis_ascending_and_real_accuracies(accuracy):
    scale = AccuracyScale.of(accuracy)
    low, high = scale.limits(accuracy)
    ticks = scale.ticks(low, high)
    assert ticks == sorted(set(ticks))
    assert len(ticks) >= 2
    assert all(low <= tick <= min(high, 1) for tick in ticks)


def test_no_error_and_one_error_are_well_apart():
    accuracy = np.array([0.1, 1 - 2 / 360, 1 - 1 / 360, 1.0])
    scale = AccuracyScale.of(accuracy)
    low, high = scale.forward(scale.limits(accuracy))
    places = (scale.forward(accuracy) - low) / (high - low)
    assert np.diff(places)[1:].min() > 0.05
    assert places[0] > 0
    assert places[-1] < 1


def test_bad_ones_are_apart_too():
    scale = AccuracyScale(1 / 360)
    low, high = scale.forward([0.0, 1.0])
    assert (scale.forward(0.5) - scale.forward(0.1)) / (high - low) > 0.08


@pytest.mark.parametrize(("accuracy", "offset"), [([1.0, 1.0], 0.01), ([0.2, np.nan], 0.1), ([0.999], 0.001)])
def test_offset(accuracy, offset):
    assert AccuracyScale.of(np.array(accuracy)).offset == pytest.approx(offset)
