import datetime
import decimal

import numpy as np
import pandas as pd
import pytest

from jbn.errors import InputError
from jbn.task.data import series

DAYS = pd.date_range("2026-01-01", periods=2)
HELD = {
    "text": [
        pd.Series(["a", None]),
        pd.Series(["a", None], dtype=object),
        pd.Series(["a", None], dtype="string"),
        pd.Series(["a", None], dtype="string[pyarrow]"),
        pd.Series(pd.Categorical(["a", None], categories=["b", "a"])),
    ],
    "numbers": [
        pd.Series([1, 2]),
        pd.Series([1.5, np.nan]),
        pd.Series([1, None], dtype="Int64"),
        pd.Series([1.5, None], dtype="float32[pyarrow]"),
        pd.Series([1, 2.5, None], dtype=object),
        pd.Series([1, 2], dtype=np.uint8),
        pd.Series(pd.Categorical([1, None])),
    ],
    "booleans": [
        pd.Series([True, False]),
        pd.Series([True, None], dtype=object),
        pd.Series([True, None], dtype="boolean"),
        pd.Series([True, None], dtype="bool[pyarrow]"),
        pd.Series(pd.Categorical([True, None])),
    ],
    "nothing": [
        pd.Series([None, None]),
        pd.Series([np.nan]),
        pd.Series([], dtype=float),
        pd.Series([pd.NaT]),
    ],
}
FOREIGN = {
    "datetime64": pd.Series(DAYS),
    "datetime": pd.Series(pd.Categorical(DAYS)),
    "date": pd.Series([datetime.date(2026, 1, 1)]),
    "time": pd.Series([datetime.time(1), None]),
    "timedelta64": pd.Series(DAYS - DAYS[0]),
    "period": pd.Series(DAYS.to_period("D")),
    "interval": pd.Series([pd.Interval(0, 1)]),
    "decimal": pd.Series([decimal.Decimal("1.5")]),
    "complex": pd.Series([1j]),
    "bytes": pd.Series([b"a"]),
    "mixed": pd.Series([[1], {}]),
    "mixed-integer": pd.Series([1, "a"], dtype=object),
}


@pytest.mark.parametrize(("held", "values"), [(held, values) for held in HELD for values in HELD[held]])
def test_what_a_column_holds_does_not_depend_on_how_pandas_keeps_it(held, values):
    assert series.kind(values) == held


@pytest.mark.parametrize("word", FOREIGN)
def test_other_values_are_refused_by_name(word):
    with pytest.raises(InputError) as raised:
        series.kind(FOREIGN[word].rename("when"))
    assert str(raised.value) == (
        f"column 'when' must hold numbers, text or booleans, but holds {word} values; "
        "make numbers or text of them, or drop it"
    )


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinite_numbers_are_refused_with_their_row(value):
    for values in ([1.0, None, value, value], pd.Categorical([1.0, None, value, value])):
        message = (
            f"column 'a' must hold finite numbers, but has {value} in row 2 \\(2 in all\\); put numbers there"
        )
        with pytest.raises(InputError, match=message):
            series.kind(pd.Series(values, name="a"))


@pytest.mark.parametrize("values", HELD["numbers"])
def test_floats_are_float64_with_nan_for_missing(values):
    expected = [np.nan if value is None or pd.isna(value) else float(value) for value in values.tolist()]
    x = series.floats(values)
    assert x.dtype == np.float64
    np.testing.assert_array_equal(x, expected)


def test_distinct_values_are_sorted_and_python_s_own():
    def typed(values):
        return [(value, type(value)) for value in series.distinct(values)]

    assert typed(pd.Series([3.0, np.nan, 1.0, 2.5, 1.0])) == [(1, int), (2.5, float), (3, int)]
    assert typed(pd.Series([10, None, 9], dtype="Int64")) == [(9, int), (10, int)]
    assert typed(pd.Series([True, None, False], dtype=object)) == [(False, bool), (True, bool)]
    assert typed(pd.Series(["b", None, "B", "a"])) == [("B", str), ("a", str), ("b", str)]
    assert typed(pd.Series(pd.Categorical(["b", "a"], categories=["c", "b", "a"]))) == [
        ("a", str),
        ("b", str),
    ]


def test_large_integers_stay_apart():
    assert series.distinct(pd.Series([2**53, 2**53 + 1])) == (2**53, 2**53 + 1)
    assert series.places(pd.Series([2**53 + 1, 2**53]), (2**53, 2**53 + 1)).tolist() == [1, 0]


def test_places_are_those_of_equal_values_and_minus_one_elsewhere():
    assert series.places(pd.Series(["b", None, "x", "a"]), ("a", "b")).tolist() == [1, -1, -1, 0]
    assert series.places(pd.Series([2.0, np.nan, 7, 1]), (1, 2)).tolist() == [1, -1, -1, 0]
    assert series.places(pd.Series([2, None, 7], dtype="Int64"), (1, 2)).tolist() == [1, -1, -1]
    assert series.places(pd.Series(pd.Categorical(["b", None, "c"])), ("a", "b")).tolist() == [1, -1, -1]


def test_names_of_rows_are_told_from_categories():
    different = [f"name {number}" for number in range(60)]
    assert series.tells_rows_apart(pd.Series(different)) == "60 of its 60 different values occur only once"
    assert series.tells_rows_apart(pd.Series(different[:50])) == ""
    assert series.tells_rows_apart(pd.Series(different + different[:30])) == ""
    assert series.tells_rows_apart(pd.Series(different + different[:29])).startswith("31 of its 60")
    assert series.tells_rows_apart(pd.Series(pd.Categorical(["a"] * 9, categories=["a", *different]))) == ""
