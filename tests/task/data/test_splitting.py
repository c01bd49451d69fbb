import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jbn.errors import InputError
from jbn.task.data.splitting import split

THREE = {"train": 3, "validation": 1, "test": 1}
SHARES = st.sampled_from([THREE, {"train": 4, "validation": 1}, {"train": 4, "test": 1}])


@st.composite
def labels(draw, smallest_class=1):
    counts = draw(st.lists(st.integers(smallest_class, 23), min_size=2, max_size=8))
    y = np.repeat(np.arange(len(counts)), counts)
    return np.random.default_rng(draw(st.integers(0, 99))).permutation(y)


def enough(y, shares):
    return len(y) >= len(np.unique(y)) + len(shares) - 1


@given(labels(), SHARES, st.integers(0, 2**70))
@settings(deadline=None)
def test_parts_are_disjoint_cover_all_rows_and_are_fixed_by_the_seed(y, shares, seed):
    if not enough(y, shares):
        with pytest.raises(InputError, match="splitting leaves no rows"):
            split(y, shares, seed=seed)
        return
    parts, again = split(y, shares, seed=seed), split(y, shares, seed=seed)
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(len(y)))
    for part, rows in parts.items():
        assert len(rows) > 0
        np.testing.assert_array_equal(rows, again[part])
    assert set(y[parts["train"]]) == set(y)


@given(labels(), SHARES)
@settings(deadline=None)
def test_each_class_is_within_a_row_of_its_exact_share(y, shares):
    if not enough(y, shares):
        return
    for part, rows in split(y, shares, seed=0).items():
        exact = np.bincount(y) * shares[part] / sum(shares.values())
        got = np.bincount(y[rows], minlength=len(exact))
        assert (np.abs(got - exact) < 1).all()


@given(labels(smallest_class=2), SHARES)
@settings(deadline=None)
def test_totals_are_the_wanted_shares_rounded(y, shares):
    if not enough(y, shares):
        return
    for part, rows in split(y, shares, seed=0).items():
        assert abs(len(rows) - len(y) * shares[part] / sum(shares.values())) < 1


def test_the_seed_and_the_purpose_change_which_rows_but_not_how_many():
    y = np.arange(200) % 4
    first, seed, purpose = (
        split(y, THREE, seed=0),
        split(y, THREE, seed=1),
        split(y, THREE, seed=0, purpose="other"),
    )
    for part, rows in first.items():
        for other in (seed[part], purpose[part]):
            assert len(other) == len(rows)
            assert set(other.tolist()) != set(rows.tolist())


def test_the_split_is_the_same_on_every_machine():
    parts = split(np.arange(10) % 2, THREE, seed=0)
    assert {part: rows.tolist() for part, rows in parts.items()} == {
        "train": [9, 2, 4, 3, 0, 7],
        "validation": [5, 6],
        "test": [8, 1],
    }


def test_rows_of_a_part_are_shuffled():
    y = np.repeat([0, 1], 100)
    rows = split(y, THREE, seed=0)["train"]
    assert (np.diff(rows) < 0).any()
    assert 2 < np.count_nonzero(np.diff(y[rows])) < 118


def test_a_class_of_one_row_goes_to_the_training_part():
    parts = split(np.array([0] * 10 + [1] + [2] * 2), THREE, seed=3)
    assert 10 in parts["train"]
    assert {part: len(rows) for part, rows in parts.items()} == {"train": 8, "validation": 2, "test": 3}


def test_neither_part_stays_empty_where_one_row_each_is_all_there_is():
    parts = split(np.array([0, 1, 2, 3, 3, 4, 4]), THREE, seed=0)
    assert {part: len(rows) for part, rows in parts.items()} == {"train": 5, "validation": 1, "test": 1}


def test_an_empty_part_is_an_error_with_the_counts():
    message = (
        "splitting leaves no rows for the validation part: 3 rows of 2 classes would become 2 train, "
        "0 validation, 1 test, as the training part needs a row of every class; "
        "give more rows, or x_validation and y_validation"
    )
    with pytest.raises(InputError) as raised:
        split(np.array([0, 0, 1]), THREE, seed=0)
    assert str(raised.value) == message


@pytest.mark.parametrize("seed", [-1, 0.5, "0", None])
def test_a_seed_must_be_a_whole_number(seed):
    with pytest.raises(InputError, match=f"seed must be a whole number of at least 0, but got {seed!r}"):
        split(np.arange(10) % 2, THREE, seed=seed)
