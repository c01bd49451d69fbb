import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jbn.errors import InputError
from jbn.task.data import columns

NUMBERS = st.floats(-1e6, 1e6, allow_subnormal=False)
COLUMNS = {
    "age": NUMBERS,
    "height": NUMBERS,
    "rooms": st.integers(-3, 3).map(float),
    "town": st.sampled_from(["Ulm", "Rome", "Bari", "", "ulm"]),
    "member": st.booleans(),
    "zone": st.integers(-2, 40),
}
NUMERIC, CATEGORICAL = ("age", "height", "rooms"), ("zone",)


@st.composite
def frames(draw, least=1):
    """Frames with any pattern of missing values, a value at least in the first row of every column."""
    rows = draw(st.integers(least, 12))
    table = {}
    for name, values in COLUMNS.items():
        first = [draw(values)] if least else []
        table[name] = first + draw(
            st.lists(values | st.none(), min_size=rows - len(first), max_size=rows - len(first))
        )
    kinds = {name: float for name in NUMERIC} | {name: object for name in ("town", "member", "zone")}
    return pd.DataFrame({name: pd.Series(table[name], dtype=kinds[name]) for name in COLUMNS})


def oracle(train):
    """scikit-learn's encoding, a transformer for every column: a function of new rows."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import OneHotEncoder

    def transformer(name):
        if name in NUMERIC:
            return SimpleImputer(strategy="mean", add_indicator=True)
        return OneHotEncoder(handle_unknown="ignore", sparse_output=False)

    whole = ColumnTransformer([(name, transformer(name), [name]) for name in train], sparse_threshold=0)

    def plain(frame):
        return frame.astype(object).where(frame.notna(), np.nan)

    whole.fit(plain(train))
    return lambda new: whole.transform(plain(new)).astype(float)


@given(frames(), frames(least=0))
@settings(deadline=None, max_examples=50)
def test_the_encoding_is_scikit_learn_s(train, new):
    learned, encode = columns.fit(train, categorical=CATEGORICAL), oracle(train)
    for frame in (train, new) if len(new) else (train,):
        x = learned.encode(frame)
        assert x.shape == (len(frame), len(learned.names))
        assert x.dtype == np.float64
        np.testing.assert_allclose(x, encode(frame), rtol=1e-12, atol=1e-9)


@given(frames(), st.permutations(list(COLUMNS)), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_columns_and_rows_means_nothing(train, order, random):
    rows = list(range(len(train)))
    random.shuffle(rows)
    learned, other = (
        columns.fit(frame, categorical=CATEGORICAL) for frame in (train, train[order].iloc[rows])
    )
    np.testing.assert_array_equal(learned.encode(train[order]), learned.encode(train))
    np.testing.assert_array_equal(learned.encode(train.iloc[rows]), learned.encode(train)[rows])
    assert sorted(other.names) == sorted(learned.names)
    places = [other.names.index(name) for name in learned.names]
    np.testing.assert_allclose(other.encode(train)[:, places], learned.encode(train), rtol=1e-9, atol=1e-9)


@given(frames())
@settings(deadline=None)
def test_every_category_has_its_column_and_every_row_is_in_one(train):
    learned = columns.fit(train, categorical=CATEGORICAL)
    x = pd.DataFrame(learned.encode(train), columns=learned.names)
    for name in ("town", "member", "zone"):
        own = [column for column in x if column.startswith((f"{name}=", f"{name} is"))]
        np.testing.assert_array_equal(x[own].sum(axis=1), 1)
        assert (x[own].sum() > 0).all()


def test_by_hand():
    train = pd.DataFrame({"a": [1, None, 5], "b": [1, 2, 3], "c": ["y", "x", None], "d": [True, False, True]})
    learned = columns.fit(train)
    assert learned.names == ("a", "a is missing", "b", "c=x", "c=y", "c is missing", "d=False", "d=True")
    new = pd.DataFrame(
        {"d": [None, True], "c": ["z", None], "b": [None, 7], "a": [None, 9], "other": ["?", "?"]}
    )
    assert learned.encode(new).tolist() == [[3, 1, 2, 0, 0, 0, 0, 0], [9, 0, 7, 0, 0, 1, 0, 1]]


def test_missing_values_that_training_never_misses_are_filled_or_zeros():
    learned = columns.fit(pd.DataFrame({"a": [1.0, 2.0], "c": ["x", "y"]}))
    assert learned.names == ("a", "c=x", "c=y")
    assert learned.encode(pd.DataFrame({"a": [None], "c": [None]})).tolist() == [[1.5, 0, 0]]


def test_numbers_named_categorical_are_categories_however_pandas_keeps_them():
    learned = columns.fit(pd.DataFrame({"zone": [10, 2, 2]}), categorical=["zone"])
    assert learned.names == ("zone=2", "zone=10")
    for values in ([2.0, np.nan], pd.array([2, None], "Int64"), pd.Categorical([2, None]), np.uint8([2, 7])):
        assert learned.encode(pd.DataFrame({"zone": values})).tolist() == [[1, 0], [0, 0]]


@pytest.mark.parametrize("dtype", ["object", "string", "string[pyarrow]", "category"])
def test_text_is_the_same_however_pandas_keeps_it(dtype):
    frame = pd.DataFrame({"c": ["x", None, "y"]})
    plain, other = columns.fit(frame), columns.fit(frame.astype(dtype))
    assert plain == other
    np.testing.assert_array_equal(plain.encode(frame.astype(dtype)), plain.encode(frame))


def test_declared_categories_without_rows_are_none():
    frame = pd.DataFrame({"c": pd.Categorical(["x", "y"], categories=["z", "y", "x"], ordered=True)})
    assert columns.fit(frame).names == ("c=x", "c=y")


def test_no_rows_are_encoded_too():
    learned = columns.fit(pd.DataFrame({"a": [1.0, None], "c": ["x", "y"]}))
    assert learned.encode(pd.DataFrame({"a": [], "c": []})).shape == (0, 4)


def test_equal_encodings_are_equal_and_nothing_can_be_changed():
    frame = pd.DataFrame({"a": [1.0, None], "c": ["x", "y"]})
    learned = columns.fit(frame)
    assert learned == columns.fit(frame)
    assert hash(learned) == hash(columns.fit(frame))
    with pytest.raises(AttributeError):
        learned.columns = ()


KINDS = {"text": ["x", "y"], "numbers": [1, 2], "booleans": [True, False]}


@pytest.mark.parametrize("came", KINDS)
@pytest.mark.parametrize("learned", KINDS)
def test_new_rows_hold_what_the_training_part_held(learned, came):
    encoding = columns.fit(pd.DataFrame({"a": KINDS[learned]}), categorical=["a"])
    new = pd.DataFrame({"a": KINDS[came]})
    if learned == came:
        np.testing.assert_array_equal(encoding.encode(new).sum(axis=1), 1)
        return
    message = (
        f"column 'a' must hold {learned}, as in the training part, but holds {came}; convert it with astype"
    )
    with pytest.raises(InputError, match=message):
        encoding.encode(new)


@pytest.mark.parametrize(
    ("new", "message"),
    [
        (pd.DataFrame({"ages": [1], "c": ["x"]}), "there is no column 'age'; did you mean 'ages'"),
        (
            pd.DataFrame([[1, 2, "x"]], columns=["age", "age", "c"]),
            "column names must differ, but 2 are 'age'",
        ),
        (
            pd.DataFrame({"age": [np.inf], "c": ["x"]}),
            "column 'age' must hold finite numbers, but has inf in row 0",
        ),
        (
            pd.DataFrame({"age": pd.to_datetime(["2026-01-01"]), "c": ["x"]}),
            "'age' must hold .* holds datetime64",
        ),
        ([[1, "x"]], "rows must be a pandas data frame, but got list"),
        (pd.DataFrame([[1, "x"]]), "column names must be text, but one is 0; frame.set_axis"),
    ],
)
def test_new_rows_that_cannot_be_encoded(new, message):
    with pytest.raises(InputError, match=message):
        columns.fit(pd.DataFrame({"age": [1, 2], "c": ["x", "y"]})).encode(new)


def test_columns_that_are_passed_over_may_be_there_twice():
    frame = pd.DataFrame([[1, 2, 3]], columns=["a", "b", "b"])
    assert columns.fit(frame[["a"]]).encode(frame).tolist() == [[1]]


NAMES = [f"name {number}" for number in range(60)]


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (
            {"a": [None, None]},
            "column 'a' must have values, but all are missing in the training part; drop it",
        ),
        ({"a": [np.nan, np.nan]}, "column 'a' must have values, but all are missing"),
        (
            {"a": NAMES},
            "column 'a' must have values that come again, but 60 of its 60 .* drop it \\(drop='a'\\)",
        ),
        (
            {"a": [None, 1.0], "a is missing": [0, 1]},
            "two would be 'a is missing'; rename one of the columns",
        ),
        ({"a": ["x", "y"], "a=x": [0, 1]}, "two would be 'a=x'"),
    ],
)
def test_training_parts_that_teach_nothing(train, message):
    with pytest.raises(InputError, match=message):
        columns.fit(pd.DataFrame(train))


def test_names_of_rows_may_be_asked_for():
    assert len(columns.fit(pd.DataFrame({"a": NAMES}), categorical=["a"]).names) == 60
