import copy
import pickle

import numpy as np
import pytest

from jbn.errors import InputError
from jbn.search import Configs, Space, uniform


def test_configs_are_a_dict_of_host_arrays():
    configs = Configs({"layers": [2, 3, 4], "rate": np.float32([0.5, 1, 2]), "act": ["relu", None, True]})
    assert isinstance(configs, dict)
    assert len(configs) == 3
    assert configs.count == 3
    assert configs.space is None
    assert [values.dtype for values in configs.values()] == [np.int64, np.float64, object]


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([1, 2], np.int64),
        ([1, 0.5], np.float64),
        ([True, False], object),
        ([True, 2], object),
        (["a", 1], object),
        (np.array([1, 2], dtype=np.uint8), np.int64),
        (np.array([0.5], dtype=np.float16), np.float64),
        (np.array([True]), object),
        (np.array(["a"]), object),
        ([np.int64(1), np.float64(0.5)], np.float64),
    ],
)
def test_columns_have_one_of_three_dtypes(values, dtype):
    column = Configs({"a": values})["a"]
    assert column.dtype == dtype
    assert column.tolist() == list(values)


def test_a_row_holds_python_scalars():
    mixed = np.array(["relu", np.int64(3)], dtype=object)
    configs = Configs({"layers": [2, 3], "rate": [0.5, 1.0], "flag": [True, False], "mixed": mixed})
    assert configs.row(1) == {"layers": 3, "rate": 1.0, "flag": False, "mixed": 3}
    assert [type(value) for value in configs.row(1).values()] == [int, float, bool, int]
    assert configs.row(-2) == configs.row(0)


def test_configs_remember_their_space():
    space = Space(a=uniform(0, 1))
    configs = Configs({"a": [0.5]}, space=space)
    for twin in (configs, copy.copy(configs), copy.deepcopy(configs), pickle.loads(pickle.dumps(configs))):
        assert isinstance(twin, Configs)
        assert twin.space == space
        assert twin.row(0) == {"a": 0.5}


def test_no_columns_are_no_configurations():
    assert Configs({}).count == 0


@pytest.mark.parametrize(
    ("columns", "shapes"),
    [
        ({"a": [1, 2], "b": [1]}, r"{'a': \(2,\), 'b': \(1,\)}"),
        ({"a": np.zeros((2, 3))}, r"{'a': \(2, 3\)}"),
        ({"a": [[1, 2], [3, 4]]}, r"{'a': \(2, 2\)}"),
        ({"a": 0.5}, r"{'a': \(\)}"),
        ({"a": "relu"}, r"{'a': \(\)}"),
    ],
)
def test_columns_are_flat_and_equally_long(columns, shapes):
    with pytest.raises(InputError, match="one-dimensional and of one length, got the shapes " + shapes):
        Configs(columns)


@pytest.mark.parametrize("i", [2, -3])
def test_a_row_must_exist(i):
    with pytest.raises(
        InputError, match=f"a row must be one of 2 configurations, got {i}: they count from 0"
    ):
        Configs({"a": [1, 2]}).row(i)
