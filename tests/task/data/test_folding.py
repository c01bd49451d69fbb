import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jbn.errors import InputError
from jbn.task.data import arrays, digits
from jbn.task.data.folding import folded


@given(st.integers(10, 60), st.integers(2, 7), st.integers(1, 3), st.integers(0, 5))
def test_folds_are_disjoint_equal_and_in_proportion(rows, folds, classes, seed):
    y = np.arange(rows) % (classes + 1)
    x = np.arange(float(rows))[:, None]
    data = arrays(x, y, x_validation=x[:1], y_validation=y[:1], x_test=x, y_test=y)
    own = folded(data, folds, seed=seed).folds
    total, each = rows + 1, (rows + 1) // folds
    assert own.validation.shape == (folds, each)
    assert own.train.shape == (folds, total - each)
    assert len(np.unique(own.validation)) == folds * each
    for train, validation in zip(own.train, own.validation, strict=True):
        assert sorted([*train, *validation]) == list(range(total))
    counts = np.array([np.bincount(own.rows.y[v], minlength=classes + 1) for v in own.validation])
    assert (counts.max(0) - counts.min(0)).max() <= 1


def test_the_first_fold_stands_for_all_and_the_test_part_stays():
    data = digits()
    own = folded(data, 3)
    np.testing.assert_array_equal(own.train.x, own.folds.rows.x[own.folds.train[0]])
    np.testing.assert_array_equal(own.validation.y, own.folds.rows.y[own.folds.validation[0]])
    assert own.test is data.test
    assert not np.array_equal(folded(data, 3, seed=1).folds.validation, own.folds.validation)


@pytest.mark.parametrize("folds", [0, 1, 1438])
def test_too_few_or_too_many(folds):
    with pytest.raises(InputError, match=f"at least 2 and at most the 1437 rows .* but got {folds}"):
        folded(digits(), folds)
