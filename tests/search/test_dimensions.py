import math
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jbn.errors import InputError
from jbn.search.dimensions import Dimension
from jbn.search.scales import choice, constant, integers, log_uniform, reverse_log_uniform, uniform

UNIT = st.floats(0.0, 1.0, exclude_max=True)
JUST_BELOW_ONE = math.nextafter(1.0, 0.0)


@st.composite
def uniforms(draw: st.DrawFn) -> Dimension:
    low = draw(st.floats(-100, 100))
    return uniform(low, low + draw(st.floats(1, 100)))


@st.composite
def log_uniforms(draw: st.DrawFn) -> Dimension:
    exponent = draw(st.floats(-12, 6))
    return log_uniform(10**exponent, 10 ** (exponent + draw(st.floats(0.1, 8))))


@st.composite
def reverse_log_uniforms(draw: st.DrawFn) -> Dimension:
    exponent = draw(st.floats(-2.9, -0.05))
    return reverse_log_uniform(1 - 10**exponent, 1 - 10 ** draw(st.floats(-3, exponent - 0.1)))


INTERVALS = uniforms() | log_uniforms() | reverse_log_uniforms()


@given(INTERVALS, UNIT)
def test_an_interval_encodes_what_it_decoded(interval, u):
    x = interval.from_unit(np.array([u]))
    assert interval.low <= x[0] <= interval.high
    assert interval.to_unit(x) == pytest.approx([u], rel=1e-12, abs=1e-12)


@given(INTERVALS, UNIT)
def test_an_interval_decodes_what_it_encoded(interval, share):
    x = min(interval.low + (interval.high - interval.low) * share, interval.high)
    scale = max(abs(interval.low), abs(interval.high)) if interval.scale == "uniform" else 0.0
    assert interval.from_unit(interval.to_unit([x])) == pytest.approx([x], rel=1e-12, abs=1e-12 * scale)


@given(INTERVALS, st.lists(UNIT, min_size=2))
def test_an_interval_is_monotone_and_keeps_its_ends(interval, places):
    values = interval.from_unit(np.array([0.0, *sorted(places), 1.0]))
    assert np.all(np.diff(values) >= 0)
    assert values.min() >= interval.low
    assert values.max() <= interval.high
    assert values[[0, -1]] == pytest.approx([interval.low, interval.high], rel=1e-12)
    assert interval.to_unit([interval.low, interval.high]).tolist() == [0.0, 1.0]


def test_the_extremes_of_float64_stay_inside():
    least, greatest = 5e-324, 1.7976931348623157e308
    places = np.array([0.0, 0.5, JUST_BELOW_ONE])
    for interval in (
        log_uniform(least, greatest),
        uniform(0, greatest),
        reverse_log_uniform(least, 1 - 2**-53),
    ):
        values = interval.from_unit(places)
        assert values.min() >= interval.low
        assert values.max() <= interval.high
    adjacent = uniform(1.0, math.nextafter(1.0, 2.0))
    assert set(adjacent.from_unit(np.linspace(0, 1, 9))) == {1.0, math.nextafter(1.0, 2.0)}
    assert adjacent.grid(5).tolist() == [1.0, math.nextafter(1.0, 2.0)]


@given(UNIT)
def test_the_distance_to_one_is_accurate_on_a_reverse_log_axis(u):
    low, high = 0.9, 0.9999
    near, far = 1 - Decimal(low), 1 - Decimal(high)
    expected = ((1 - Decimal(u)) * near.ln() + Decimal(u) * far.ln()).exp()
    x = reverse_log_uniform(low, high).from_unit(np.array([u]))[0]
    # Half a unit in the last place of x, and the roundings of a logarithm of up to 9.2.
    assert abs((1 - Decimal(float(x))) - expected) <= Decimal(2.0**-54) + expected * Decimal("1e-14")


@pytest.mark.parametrize(
    ("interval", "middle"),
    [(uniform(-1, 3), 1.0), (log_uniform(1e-4, 1.0), 1e-2), (reverse_log_uniform(0.9, 0.999), 0.99)],
)
def test_the_middle_of_an_interval(interval, middle):
    assert interval.from_unit(0.5) == pytest.approx(middle, rel=1e-14)
    assert interval.to_unit(middle) == pytest.approx(0.5, rel=1e-13)
    assert interval.grid(1) == pytest.approx([middle], rel=1e-14)


@pytest.mark.parametrize("build", [uniform, log_uniform, reverse_log_uniform])
def test_an_interval_that_does_not_vary(build):
    axis = build(0.3, 0.3)
    assert axis.from_unit([0.0, 0.7]).tolist() == [0.3, 0.3]
    assert axis.to_unit([[0.3]]).tolist() == [[0.5]]
    assert axis.grid(5).tolist() == [0.3]
    assert axis.grid_size(5) == 1


@given(st.integers(-1000, 1000), st.integers(0, 1000), UNIT)
def test_integers_decode_into_equal_cells_and_encode_their_middles(low, width, u):
    axis, cells = integers(low, low + width), width + 1
    [x] = axis.from_unit(np.array([u]))
    assert low <= x <= low + width
    assert abs(axis.to_unit([x])[0] - u) <= 0.5 / cells + 1e-15
    everything = np.arange(low, low + cells)
    assert axis.to_unit(everything) == pytest.approx((np.arange(cells) + 0.5) / cells)
    assert axis.from_unit(axis.to_unit(everything)).tolist() == everything.tolist()


def test_the_widest_integers_round_trip():
    axis = integers(-(2**48), 2**48)
    ends = np.array([-(2**48), -(2**48) + 1, 0, 2**48 - 1, 2**48])
    assert axis.from_unit(axis.to_unit(ends)).tolist() == ends.tolist()
    assert axis.from_unit(JUST_BELOW_ONE) == 2**48


@given(st.lists(st.integers(-99, 99) | st.text(max_size=3), min_size=1, max_size=9, unique=True), UNIT)
def test_a_choice_decodes_into_equal_cells_and_encodes_their_middles(options, u):
    axis, cells = choice(*options), len(options)
    assert axis.from_unit([u]).tolist() == [options[math.floor(u * cells)]]
    assert axis.to_unit(options) == pytest.approx((np.arange(cells) + 0.5) / cells)
    assert axis.from_unit(axis.to_unit(options)).tolist() == options


@pytest.mark.parametrize(
    ("axis", "dtype"),
    [
        (uniform(0, 1), np.float64),
        (log_uniform(1, 2), np.float64),
        (reverse_log_uniform(0.1, 0.2), np.float64),
        (integers(1, 2), np.int64),
        (choice(1, 2), np.int64),
        (choice(0.5, 1.0), np.float64),
        (choice(1, 0.5), np.float64),
        (choice("a", "b"), np.object_),
        (choice(True, False), np.object_),
        (choice("a", 1), np.object_),
        (choice(True, 2), np.object_),
        (constant(1), np.int64),
        (constant(0.5), np.float64),
        (constant("a"), np.object_),
        (constant(True), np.object_),
    ],
)
def test_dtypes_and_shapes(axis, dtype):
    for shape in ((), (3,), (2, 0), (2, 3)):
        values = np.asarray(axis.from_unit(np.zeros(shape)), dtype=None if shape else dtype)
        assert values.dtype == dtype
        assert values.shape == shape
        places = np.asarray(axis.to_unit(values))
        assert places.dtype == np.float64
        assert places.shape == shape
    assert axis.grid(2).dtype == dtype


def test_options_come_back_as_python_scalars():
    values = choice("relu", True, 3, 0.5).from_unit([0.1, 0.3, 0.6, 0.9]).tolist()
    assert [(type(value), value) for value in values] == [(str, "relu"), (bool, True), (int, 3), (float, 0.5)]


def test_numpy_values_are_found_among_the_options():
    assert choice("relu", "tanh").to_unit(np.array(["tanh"])).tolist() == [0.75]
    assert choice(32, 64).to_unit(np.array([64, 32])).tolist() == [0.75, 0.25]
    assert choice("relu", 3).to_unit(np.array([np.int64(3)], dtype=object)).tolist() == [0.75]


@pytest.mark.parametrize(
    ("axis", "n", "expected"),
    [
        (uniform(-1, 1), 5, [-1.0, -0.5, 0.0, 0.5, 1.0]),
        (uniform(-1, 1), 2, [-1.0, 1.0]),
        (log_uniform(1e-4, 1.0), 5, [1e-4, 1e-3, 1e-2, 1e-1, 1.0]),
        (reverse_log_uniform(0.9, 0.999), 3, [0.9, 0.99, 0.999]),
        (integers(2, 4), 1, [3]),
        (integers(2, 4), 2, [2, 4]),
        (integers(2, 4), 3, [2, 3, 4]),
        (integers(2, 4), 10**12, [2, 3, 4]),
        (integers(50, 100), 5, [50, 63, 75, 88, 100]),
        (integers(-100, -50), 5, [-100, -87, -75, -62, -50]),
        (integers(7, 7), 4, [7]),
        (choice(64, 32), 1, [64, 32]),
        (constant(0.999), 7, [0.999]),
    ],
)
def test_hand_computed_grids(axis, n, expected):
    assert axis.grid(n) == pytest.approx(expected, rel=1e-14, abs=1e-16)
    assert axis.grid_size(n) == len(expected)


@pytest.mark.parametrize(
    ("axis", "n", "expected"),
    [
        (uniform(-1, 1), 4, [-0.75, -0.25, 0.25, 0.75]),
        (log_uniform(1e-4, 1.0), 2, [1e-3, 1e-1]),
        (reverse_log_uniform(0.9, 0.999), 2, [1 - 10**-1.5, 1 - 10**-2.5]),
        (reverse_log_uniform(0.9, 0.999), 1, [0.99]),
        (uniform(2, 2), 3, [2.0]),
        (integers(1, 9), 3, [2, 5, 8]),
        (integers(1, 4), 2, [2, 4]),  # the middles of 1, 2 and of 3, 4: halves up
        (integers(-4, -1), 2, [-3, -1]),
        (integers(2, 4), 1, [3]),
        (integers(2, 4), 10**12, [2, 3, 4]),
        (choice(64, 32), 1, [64, 32]),
        (constant(0.999), 7, [0.999]),
    ],
)
def test_hand_computed_middles_of_cells(axis, n, expected):
    values = axis.grid(n, ends=False)
    assert values.dtype == axis.grid(n).dtype
    assert values == pytest.approx(expected, rel=1e-14, abs=1e-16)


@given(st.integers(-1000, 1000), st.integers(0, 200), st.integers(1, 250))
def test_whole_numbers_hold_the_middles_of_the_cells(low, width, n):
    values, count = integers(low, low + width).grid(n, ends=False).tolist(), width + 1
    size = min(n, count)
    assert len(set(values)) == len(values) == size
    for cell, value in enumerate(values):
        assert value - low <= Fraction((2 * cell + 1) * count, 2 * size) < value - low + 1


@given(INTERVALS, st.integers(2, 20))
def test_an_intervals_grid_is_even_on_its_scale_with_exact_ends(interval, n):
    values = interval.grid(n)
    assert values[[0, -1]].tolist() == [interval.low, interval.high]
    assert interval.to_unit(values) == pytest.approx([i / (n - 1) for i in range(n)], abs=1e-11)


@given(st.integers(-1000, 1000), st.integers(1, 200), st.integers(2, 250))
def test_an_integer_grid_is_distinct_and_within_half_of_even(low, width, n):
    values = integers(low, low + width).grid(n).tolist()
    size = min(n, width + 1)
    assert len(values) == size
    assert all(a < b for a, b in pairwise(values))
    assert values == pytest.approx([low + width * i / (size - 1) for i in range(size)], abs=0.5 + 1e-9)


@pytest.mark.parametrize("axis", [uniform(0, 1), integers(1, 3), choice(1, 2), constant(1)])
@pytest.mark.parametrize(
    ("n", "message"),
    [(0, "points must be at least 1, got 0"), (1.5, "points must be a whole number, got 1.5")],
)
def test_a_grid_has_at_least_one_point(axis, n, message):
    for ask in (axis.grid, axis.grid_size):
        with pytest.raises(InputError, match=message):
            ask(n)


@pytest.mark.parametrize(
    ("axis", "x", "message"),
    [
        (
            uniform(0, 1),
            [0.5, 1.5],
            r"values must lie on the axis uniform\(0.0, 1.0\), got 1.5: leave it out or clip",
        ),
        (log_uniform(0.1, 1), 0.0, r"the axis log_uniform\(0.1, 1.0\), got 0.0"),
        (reverse_log_uniform(0.1, 0.9), [np.nan], r"the axis reverse_log_uniform\(0.1, 0.9\), got nan"),
        (integers(1, 3), [2, 4], r"the axis integers\(1, 3\), got 4.0"),
        (integers(1, 3), [1.5], r"the axis integers\(1, 3\), got 1.5"),
        (choice("a", "b"), ["a", "c"], r"the axis choice\('a', 'b'\), got 'c'"),
        (constant(0.999), [0.9], r"the axis 0.999, got 0.9"),
    ],
)
def test_only_values_of_the_axis_have_a_place(axis, x, message):
    with pytest.raises(InputError, match=message):
        axis.to_unit(x)
