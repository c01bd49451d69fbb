import datetime

import numpy as np
import pandas as pd
import pytest

from jbn.errors import InputError
from jbn.task.data import targets

CLASSES = [
    (["b", "a", "b"], [1, 0, 1], ("a", "b")),
    ([True, False, True], [1, 0, 1], (False, True)),
    ([7, -2, 7, 3], [2, 0, 2, 1], (-2, 3, 7)),
    ([1.0, 2.0, 1.0], [0, 1, 0], (1, 2)),
    (pd.Categorical(["y", "x"], categories=["y", "z", "x"], ordered=True), [1, 0], ("x", "y")),
    (pd.array([5, 4], "Int64"), [1, 0], (4, 5)),
    (list(range(50)) * 2, list(range(50)) * 2, tuple(range(50))),
]


@pytest.mark.parametrize(("values", "y", "names"), CLASSES)
def test_classes_are_numbered_in_sorted_order(values, y, names):
    target = targets.encode(pd.Series(values))
    assert target.y.dtype == np.int32
    assert target.y.tolist() == y
    assert target.class_names == names
    assert [type(name) for name in target.class_names] == [type(name) for name in names]


@pytest.mark.parametrize("values", [[0.5, 1.0, 2.0], list(range(51)), list(np.arange(51.0)) * 3])
def test_other_numbers_are_numbers_unless_they_are_said_to_be_classes(values):
    target = targets.encode(pd.Series(values))
    assert target.class_names is None
    assert target.y.dtype == np.float64
    assert target.y.tolist() == values
    classes = targets.encode(pd.Series(values), kind="classes")
    assert np.array(classes.class_names)[classes.y].tolist() == values


WRONG = [
    (
        [1, None, 2, None],
        "target 'y' must have values, but misses 2 of 4, first in row 1; leave out",
    ),
    ([None], "target 'y' must have values, but misses 1 of 1"),
    ([1.0, np.inf], "column 'y' must hold finite numbers, but has inf in row 1"),
    ([datetime.date(2026, 1, 1)], "column 'y' must hold numbers, text or booleans, but holds date values"),
    (["a", "a"], "target 'y' must have at least two classes, but is 'a' in every row"),
    ([3, 3], "target 'y' must have at least two classes, but is 3 in every row"),
    (
        [str(row) for row in range(60)],
        "target 'y' must have classes of several rows, but 60 of its 60 .* in categ",
    ),
]


@pytest.mark.parametrize(("values", "message"), WRONG)
def test_what_is_no_target(values, message):
    with pytest.raises(InputError, match=message):
        targets.encode(pd.Series(values, name="y"))


def test_many_classes_may_be_asked_for():
    target = targets.encode(pd.Series([str(row) for row in range(60)]), kind="classes")
    assert len(target.class_names) == 60
