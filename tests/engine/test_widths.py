"""Which capacities padded sizes share."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jbn.engine.widths import capacities


def work(values, edges):
    padded = [min(edge for edge in edges if edge >= value) for value in values]
    return sum(width**2 + 64.0 * width for width in padded)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=12), st.integers(1, 4), st.integers(0, 5))
def test_no_other_capacities_have_less_padded_work(values, classes, above):
    highest = max(values) + above
    found = capacities(values, classes, highest=highest)
    assert found == sorted(set(found))
    assert found[-1] == highest
    assert len(found) <= classes
    others = set(values) | {highest}
    best = min(
        work(values, (*edges, highest))
        for count in range(classes)
        for edges in itertools.combinations(others, min(count, len(others)))
    )
    assert work(values, found) == best


def test_as_many_classes_as_widths_pad_nothing():
    assert capacities([16, 60, 128, 16], 9, highest=128) == [16, 60, 128]


@pytest.mark.parametrize("classes", [1, 2, 3, 4])
def test_more_classes_never_pad_more(classes):
    values = np.random.default_rng(0).integers(1, 2000, 500).tolist()
    few, more = (work(values, capacities(values, k, highest=2000)) for k in (classes, classes + 1))
    assert more < few
