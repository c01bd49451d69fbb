import re
import tracemalloc

import jax.numpy as jnp
import numpy as np
import pytest

from jbn.errors import InputError
from jbn.task.data import Data, arrays, digits

RENUMBER = "np.unique(y, return_inverse=True)[1]"


def made(rows=20, classes=2, features=(3,), dtype=np.float32, start=0):
    x = np.arange(start, start + rows * int(np.prod(features))).reshape(rows, *features).astype(dtype)
    return x, np.arange(rows) % classes


def refused(*words, x_train=None, y_train=None, **others):
    x, y = made()
    with pytest.raises(InputError) as raised:
        arrays(x if x_train is None else x_train, y if y_train is None else y_train, **others)
    for word in words:
        assert word in str(raised.value)


class TestParts:
    def test_digits_are_split_in_proportion_within_every_class(self):
        data = digits()
        assert repr(data) == (
            "Data('digits': 1078 training, 359 validation, 360 test rows of 64 features, 10 classes)"
        )
        counts = np.array([np.bincount(part.y) for part in (data.train, data.validation, data.test)])
        assert (np.abs(counts - counts.sum(0) * np.array([[0.6], [0.2], [0.2]])) < 1).all()

    def test_digits_are_the_rows_of_scikit_learn(self):
        from sklearn.datasets import load_digits

        def table(x, y):
            return sorted(map(tuple, np.column_stack([x, y]).astype(int).tolist()))

        data = digits(seed=4)
        parts = (data.train, data.validation, data.test)
        ours = table(np.concatenate([part.x for part in parts]), np.concatenate([part.y for part in parts]))
        assert ours == table(*load_digits(return_X_y=True))

    def test_the_seed_decides_which_rows_are_where(self):
        same, again, other = digits(seed=0), digits(seed=0), digits(seed=1)
        np.testing.assert_array_equal(same.test.x, again.test.x)
        assert not np.array_equal(same.test.x, other.test.x)

    def test_both_missing_parts_are_a_fifth_each_and_rows_keep_their_labels(self):
        x, y = made(50, classes=5)
        data = arrays(x, y, name="some")
        assert repr(data) == "Data('some': 30 training, 10 validation, 10 test rows of 3 features, 5 classes)"
        for part in (data.train, data.validation, data.test):
            np.testing.assert_array_equal(part.y, part.x[:, 0] // 3 % 5)

    @pytest.mark.parametrize("there", ["validation", "test"])
    def test_one_missing_part_is_a_fifth_of_the_training_part(self, there):
        x, y = made(7, start=900)
        data = arrays(*made(50), **{f"x_{there}": x, f"y_{there}": y})
        missing = data.validation if there == "test" else data.test
        assert (len(data.train.y), len(missing.y)) == (40, 10)
        np.testing.assert_array_equal(getattr(data, there).x, x)

    def test_given_parts_stay_as_they_are_without_a_copy(self):
        x, y = made(6)
        data = arrays(x, y, x_validation=x[:3], y_validation=y[:3], x_test=x[:2], y_test=y[:2])
        assert np.shares_memory(data.train.x, x)
        assert [len(part.y) for part in (data.train, data.validation, data.test)] == [6, 3, 2]
        np.testing.assert_array_equal(data.train.y, y)

    def test_arrays_are_read_only_and_those_given_are_not(self):
        x, y = made()
        data = arrays(x, y, x_test=x, y_test=y)
        for part in (data.train, data.test):
            for values in part:
                with pytest.raises(ValueError, match="read-only"):
                    values[0] = 1
        x[0], y[0] = 1, 1

    @pytest.mark.parametrize("dtype", [np.uint8, np.int64, bool, np.float16, np.float64, jnp.bfloat16])
    def test_features_keep_their_dtype(self, dtype):
        assert arrays(*made(dtype=dtype)).validation.x.dtype == dtype

    @pytest.mark.parametrize("dtype", [">f4", ">i2"])
    def test_features_get_the_byte_order_of_the_machine(self, dtype):
        x, y = made(dtype=dtype)
        data = arrays(x, y, x_test=x, y_test=y)
        assert data.test.x.dtype.isnative
        np.testing.assert_array_equal(data.test.x, x)

    @pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint64, np.float16, np.float64, ">i8"])
    def test_labels_become_int32(self, dtype):
        x, y = made()
        data = arrays(x, y.astype(dtype), x_test=x, y_test=y.astype(dtype))
        assert data.train.y.dtype == data.test.y.dtype == np.int32
        np.testing.assert_array_equal(data.test.y, y)

    def test_lists_and_jax_arrays_are_taken(self):
        x, y = made()
        from_lists, from_jax = arrays(x.tolist(), y.tolist()), arrays(jnp.asarray(x), jnp.asarray(y))
        np.testing.assert_array_equal(from_lists.train.x, from_jax.train.x)

    def test_data_are_equal_by_identity(self):
        data = arrays(*made())
        assert data in {data}
        assert data != Data(data.name, data.train, data.validation, data.test, data.classes)


class TestFeatures:
    @pytest.mark.parametrize("dtype", [str, complex, object, "M8[s]", "m8[s]", "V2"])
    def test_must_be_real_numbers(self, dtype):
        x = np.zeros((20, 3), dtype)
        refused("x_train must hold real numbers", f"dtype is {x.dtype}", x_train=x)

    def test_must_be_an_array(self):
        refused("x_train must be an array", "inhomogeneous", x_train=[[1.0], [1.0, 2.0]])

    @pytest.mark.parametrize("shape", [(), (20,)])
    def test_must_have_rows_and_features(self, shape):
        refused("x_train must be [rows, ...features]", f"{shape}", "x[:, None]", x_train=np.zeros(shape))

    @pytest.mark.parametrize("shape", [(0, 3), (20, 0)])
    def test_must_not_be_empty(self, shape):
        words = "at least one row and one feature", f"{shape}"
        refused("x_train must have", *words, x_train=np.zeros(shape), y_train=np.zeros(shape[0]))

    def test_an_empty_test_part_is_named(self):
        x, y = made()
        refused("x_test must have at least one row", x_test=x[:0], y_test=y[:0])

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("dtype", [np.float16, np.float64, jnp.bfloat16])
    def test_must_be_finite(self, value, dtype):
        x, _ = made(dtype=dtype)
        x[17, 2] = value
        refused(f"x_train has a {value} in row 17, column 2; features must be finite", x_train=x)

    def test_the_other_values_that_are_not_finite_are_counted(self):
        x, _ = made(features=(4, 5))
        x[3, 1, 2], x[3, 2, 0], x[9] = np.inf, np.nan, np.nan
        refused(
            "x_train has a inf in row 3, position (1, 2) (and 21 more not finite); features must", x_train=x
        )

    def test_finiteness_is_found_in_any_block(self):
        x = np.zeros((70, 2**17), np.float16)
        x[40, 5], x[69, 0] = np.nan, np.nan
        y = np.arange(70) % 2
        refused("row 40, column 5 (and 1 more not finite)", x_train=x, y_train=y)
        x[:] = 0
        tracemalloc.start()
        arrays(x, y, x_validation=x, y_validation=y, x_test=x, y_test=y)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < x.nbytes / 2

    def test_must_have_the_same_shape_in_all_parts(self):
        x, y = made(features=(4,))
        words = "x_test must have the features of x_train", "(4,) and (3,)"
        refused(*words, x_test=x, y_test=y)


class TestLabels:
    @pytest.mark.parametrize("dtype", [str, complex, object])
    def test_must_be_numbers(self, dtype):
        y = made()[1].astype(dtype)
        refused("y_train must be whole numbers", f"dtype is {y.dtype}", RENUMBER, y_train=y)

    @pytest.mark.parametrize("value", [0.5, np.nan, np.inf])
    def test_must_be_whole(self, value):
        y = made()[1].astype(float)
        y[7] = value
        refused(f"y_train must be whole numbers, but has {value} in row 7", RENUMBER, y_train=y)

    @pytest.mark.parametrize("shape", [(), (20, 1), (20, 2)])
    def test_must_be_one_dimensional(self, shape):
        words = "y_train must be one-dimensional", f"{shape}", "y.argmax(axis=1)", "y.ravel()"
        refused(*words, y_train=np.zeros(shape, int))

    def test_must_be_as_many_as_rows(self):
        refused("x_train and y_train must have the same number of rows", "20 and 19", y_train=made(19)[1])

    @pytest.mark.parametrize(
        ("classes", "smallest", "largest", "distinct"),
        [
            ([1, 2], 1, 2, 2),
            ([0, 2], 0, 2, 2),
            ([-1, 1], -1, 1, 2),
            ([5], 5, 5, 1),
            ([0, 2**63], 0, 2**63, 2),
        ],
    )
    def test_must_be_0_to_k_minus_1(self, classes, smallest, largest, distinct):
        words = f"smallest label is {smallest}", f"largest {largest}", f"{distinct} are distinct", RENUMBER
        dtype = np.uint64 if largest > 2**62 else int
        refused(
            "y_train must have the classes 0 to K-1", *words, y_train=np.resize(classes, 20).astype(dtype)
        )

    def test_beyond_int64_are_not_mistaken_for_others(self):
        refused("largest 1e+300", y_train=np.resize([0, 1e300], 20))

    @pytest.mark.parametrize("part", ["validation", "test"])
    def test_classes_that_training_never_sees(self, part):
        x, y = made()
        words = f"y_{part} must have no class that is never in y_train", "has -3, 2, where that has 0, 1"
        refused(
            *words, **{f"x_{part}": x, f"y_{part}": np.where(y == 0, 2, np.where(np.arange(20) > 9, -3, 0))}
        )

    def test_many_strange_classes_are_shortened(self):
        x, _ = made()
        refused("has 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 8 more", x_test=x, y_test=np.arange(20))

    def test_must_be_of_two_classes(self):
        words = "y_train must have at least two classes", "all 20 labels are 0"
        refused(*words, y_train=np.zeros(20, int))


class TestPairs:
    @pytest.mark.parametrize("array", ["x_validation", "y_validation", "x_test", "y_test"])
    def test_features_and_labels_come_together(self, array):
        part = array[2:]
        words = f"x_{part} and y_{part} must come together", f"what was given has x_train, y_train, {array}"
        refused(*words, "give both or none", **{array: made()["xy".index(array[0])]})

    def test_the_training_part_is_needed(self):
        with pytest.raises(InputError, match=re.escape("x_train and y_train must be there")):
            arrays(made()[0], None)


def test_digits_are_the_same_where_the_file_lies_elsewhere(monkeypatch):
    from jbn.task.data import sources

    quick = sources._digits()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for ours, theirs in zip(quick, sources._digits(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype
