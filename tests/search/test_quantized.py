import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jbn import search
from jbn.errors import InputError
from jbn.search import Space, choice, integers, log_uniform, quantized, reverse_log_uniform, uniform

AXES = {
    "quantized(uniform(0.0, 1.0), 0.1)": quantized(uniform(0, 1), 0.1),
    "quantized(uniform(-1.0, 0.5), 0.5)": quantized(uniform(-1, 0.9), 0.5),
    "quantized(log_uniform(0.01, 0.99), 0.02)": quantized(log_uniform(0.01, 1), 0.02),
    "quantized(reverse_log_uniform(0.9, 0.99), 0.01)": quantized(reverse_log_uniform(0.9, 0.99), 0.01),
    "quantized(integers(16, 128), 16)": quantized(integers(16, 130), 16),
    "quantized(integers(8, 1024, log=True), 8)": quantized(integers(8, 1024, log=True), 8),
    "integers(1, 1024, log=True)": integers(1, 1024, log=True),
    "integers(3, 3, log=True)": integers(3, 3, log=True),
}
axes = pytest.mark.parametrize("axis", AXES.values(), ids=AXES)
SCALES = {
    uniform: lambda x: x,
    log_uniform: math.log,
    reverse_log_uniform: lambda x: -math.log1p(-x),
}


@pytest.mark.parametrize(("text", "axis"), AXES.items())
def test_an_axis_with_steps_reads_like_its_call_and_comes_back_from_a_spec(text, axis):
    assert repr(axis) == text
    assert eval(text, vars(search)) == axis
    assert Space.from_spec({"x": axis.to_spec()})["x"] == axis


@axes
def test_every_value_comes_back_from_its_place(axis):
    values = axis.values()
    assert axis.from_unit(axis.to_unit(values)).tolist() == values.tolist()
    assert (np.diff(values) > 0).all()
    assert values[0] == axis.low
    assert values[-1] == axis.high
    assert values.dtype == (np.int64 if "integers" in repr(axis) else np.float64)


@axes
@given(u=st.floats(0, 1, exclude_max=True))
def test_places_are_those_of_the_cell_and_never_beside_the_axis(axis, u):
    value = axis.from_unit([u])
    assert value[0] in axis.values().tolist()
    assert axis.from_unit(axis.to_unit(value)).tolist() == value.tolist()


@given(
    st.sampled_from(list(SCALES)),
    st.floats(0.01, 0.5),
    st.floats(0.001, 0.2),
    st.integers(1, 20),
)
def test_cells_end_half_way_on_the_scale(scale, low, step, steps):
    """By hand: the share of a value is the distance of the middles on its left and right."""
    high = low + step * steps
    if scale is reverse_log_uniform and high > 0.99:
        return
    axis = quantized(scale(low, high), step)
    t = [SCALES[scale](value) for value in axis.values().tolist()]
    if len(t) < 2:
        return
    edges = [(a + b) / 2 for a, b in itertools.pairwise(t)]
    edges = [t[0] - (t[1] - t[0]) / 2, *edges, t[-1] + (t[-1] - t[-2]) / 2]
    shares = np.diff(edges) / (edges[-1] - edges[0])
    found = np.bincount(
        np.searchsorted(axis.values(), axis.from_unit((np.arange(20_000) + 0.5) / 20_000)), minlength=len(t)
    )
    np.testing.assert_allclose(found / 20_000, shares, atol=2e-4)


def test_steps_of_a_linear_axis_are_equally_likely_and_of_a_log_axis_log_uniform():
    even = search.random(Space(x=quantized(uniform(0, 1), 0.25)), 20_000, key=0)["x"]
    _, counts = np.unique(even, return_counts=True)
    assert np.abs(counts / 20_000 - 0.2).max() < 5 * math.sqrt(0.2 * 0.8 / 20_000)
    log = search.random(Space(x=integers(1, 1000, log=True)), 20_000, key=0)["x"]
    share = np.mean(log <= 31)  # half of the way on the log axis, up to the half cells at the ends
    expected = (math.log(math.sqrt(31 * 32)) + math.log(2) / 2) / (math.log(1000) + math.log(2) / 2)
    assert abs(share - expected) < 5 * math.sqrt(0.25 / 20_000) + 1e-3


def test_decimals_have_no_rounding_noise():
    assert quantized(uniform(0, 1), 0.1).values().tolist() == [round(0.1 * k, 1) for k in range(11)]


def test_grids_are_spaced_on_the_scale():
    assert integers(1, 1000, log=True).grid(4).tolist() == [1, 10, 100, 1000]
    assert quantized(uniform(0, 1), 0.1).grid(3).tolist() == [0.0, 0.5, 1.0]
    assert quantized(integers(16, 64), 16).grid(9).tolist() == [16, 32, 48, 64]
    assert quantized(integers(16, 64), 16).grid(1).tolist() == [32]


def test_grids_in_the_middles_of_cells_by_hand():
    units = quantized(integers(16, 128), 16)
    assert units.grid(4, ends=False).tolist() == [32, 64, 96, 128]  # of two each, halves up
    assert units.grid(2, ends=False).tolist() == [48, 112]
    assert units.grid(99, ends=False).tolist() == units.values().tolist()
    assert units.grid(1, ends=False).tolist() == units.grid(1).tolist()
    assert quantized(uniform(0, 1), 0.1).grid(11, ends=False).tolist() == [k / 10 for k in range(11)]
    # places 0.863, 3.281 and 5.699 on the scale from ln(1) - ln(2) / 2 to ln(1000) + ln(1000 / 999) / 2
    assert integers(1, 1000, log=True).grid(3, ends=False).tolist() == [2, 27, 299]


def test_narrowed_axes_keep_their_steps():
    axis = quantized(integers(16, 128), 16)
    assert axis.narrowed(*axis.to_unit([32, 64])) == quantized(integers(32, 64), 16)
    assert uniform(0, 10).narrowed(0.2, 0.5) == uniform(2, 5)
    assert integers(0, 9).narrowed(0.25, 0.75) == integers(2, 7)
    assert choice(1, 2, 4, 8, ordered=True).narrowed(0.3, 0.6) == choice(2, 4, ordered=True)
    assert choice(1, 2, 4, 8).narrowed(0.3, 0.6) == choice(1, 2, 4, 8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: quantized(uniform(0, 1), 0), r"step must be a finite number above 0, got quantized.*, 0\)"),
        (lambda: quantized(uniform(0, 1), -0.5), "above 0, got .*-0.5"),
        (lambda: quantized(uniform(0, 1), math.nan), "finite number above 0, got .*nan"),
        (lambda: quantized(integers(1, 9), 0.5), r"whole numbers must be whole, got .*integers\(1, 9\), 0.5"),
        (lambda: quantized(uniform(0, 1), 1e-20), r"at most 2\*\*48, got .*1e-20"),
        (lambda: quantized(choice(1, 2), 1), r"must be those of uniform, .* got quantized\(choice\(1, 2\)"),
        (lambda: integers(0, 8, log=True), r"low >= 1 must hold .*log axis, got integers\(0, 8\)"),
        (
            lambda: Space.from_spec({"x": {"uniform": [0, 1], "log": True}}),
            "x: log must stand beside integers, got it beside uniform",
        ),
        (
            lambda: Space.from_spec({"x": {"uniform": [0, 1], "step": "a"}}),
            "x: step must be a number, got 'a'",
        ),
        (
            lambda: Space.from_spec({"x": {"choice": [0, 1], "ordered": 1}}),
            "x: ordered must be true or false, got 1",
        ),
    ],
)
def test_malformed_steps_say_what_fails_and_what_came(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_values_beside_the_axis_are_refused():
    with pytest.raises(InputError, match=r"values must lie on the axis .*, got 0.15"):
        quantized(uniform(0, 1), 0.1).to_unit([0.1, 0.15])


@pytest.mark.parametrize(
    ("low", "high", "step"), [(1e-16, 1e-15, 1e-16), (1e-3 / 3, 1.0, 0.1), (0.0, 1e-18, 1e-19)]
)
def test_many_digits_leave_values_apart_and_on_the_axis(low, high, step):
    axis = quantized(uniform(low, high), step)
    values = axis.values()
    assert (np.diff(values) > 0).all()
    assert values[0] >= low
    assert values[-1] <= high
    assert axis.from_unit(axis.to_unit(values)).tolist() == values.tolist()


def test_the_last_step_of_large_whole_numbers_is_on_the_axis():
    assert quantized(integers(0, 1_000_000_000_005), 7).high == 999_999_999_999
    assert quantized(integers(0, 5), 1) == integers(0, 5)
