import math
import pickle
from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from jbn import search
from jbn.errors import InputError
from jbn.search.scales import choice, constant, integers, log_uniform, reverse_log_uniform, uniform

EXAMPLES = {
    "uniform(-1.0, 0.5)": uniform(-1, 0.5),
    "log_uniform(0.0001, 1.0)": log_uniform(1e-4, 1.0),
    "reverse_log_uniform(0.9, 0.999)": reverse_log_uniform(0.9, 0.999),
    "integers(2, 4)": integers(2, 4),
    "choice(32, 64)": choice(32, 64),
    "choice('relu', True, 3)": choice("relu", True, 3),
    "choice(1.0, 0.5)": choice(1, 0.5),
}


@pytest.mark.parametrize(("text", "axis"), EXAMPLES.items())
def test_an_axis_reads_like_its_call_and_is_a_value(text, axis):
    twin = eval(text, vars(search))
    assert repr(axis) == text
    assert axis == twin
    assert hash(axis) == hash(twin)
    assert pickle.loads(pickle.dumps(axis)) == axis


def test_a_constant_reads_like_its_value():
    assert [repr(constant(value)) for value in (0.999, 3, "relu", True)] == ["0.999", "3", "'relu'", "True"]
    assert constant("relu").value == "relu"


def test_different_axes_are_different():
    axes = [
        *EXAMPLES.values(),
        uniform(0.9, 0.999),
        log_uniform(0.9, 0.999),
        uniform(2, 4),
        choice(2, 4),
        choice(2.0, 4.0),
        choice(64, 32),
        choice(0, 1),
        choice(False, True),
        choice("a", 1),
        choice("a", 1.0),
        choice("a", True),
        choice(1),
        constant(1),
        constant(1.0),
        constant(True),
    ]
    assert len(set(axes)) == len(axes)


def test_axes_are_frozen():
    with pytest.raises(FrozenInstanceError):
        uniform(0, 1).low = 2.0


def test_numpy_numbers_become_python_numbers():
    assert uniform(np.float64(0.5), np.int32(2)) == uniform(0.5, 2.0)
    assert integers(np.int64(2), 4.0) == integers(2, 4)
    assert choice(np.float64(0.5), np.int64(3)) == choice(0.5, 3)
    assert choice(np.str_("a"), np.bool_(True)) == choice("a", True)
    assert repr(choice(np.int64(3), np.str_("a"))) == "choice(3, 'a')"
    assert repr(constant(np.float64(0.5))) == "0.5"


def test_infinity_may_be_an_option():
    assert choice(1.0, math.inf).from_unit([0.9]).tolist() == [math.inf]


@pytest.mark.parametrize("build", [uniform, log_uniform, reverse_log_uniform, integers])
@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ((math.nan, 1), r"bounds must be finite numbers, got {}\(nan, 1\): give a low and a high number"),
        ((1, math.inf), r"bounds must be finite numbers, got {}\(1, inf\)"),
        ((-math.inf, 1), r"bounds must be finite numbers, got {}\(-inf, 1\)"),
        ((1, 10**400), r"bounds must be finite numbers, got {}\(1, 1000"),
        (("1", 2), r"bounds must be finite numbers, got {}\('1', 2\)"),
        ((True, 2), r"bounds must be finite numbers, got {}\(True, 2\)"),
        ((None, 2), r"bounds must be finite numbers, got {}\(None, 2\)"),
        ((np.float64(np.nan), 1), r"bounds must be finite numbers, got {}\(nan, 1\)"),
        ((2, 1), r"low <= high must hold, got {}\(2, 1\): swap the bounds"),
    ],
)
def test_bounds_are_finite_ordered_numbers(build, bounds, message):
    with pytest.raises(InputError, match=message.format(build.__name__)):
        build(*bounds)


@pytest.mark.parametrize("low", [0, -0.0, -1])
def test_a_log_axis_is_positive(low):
    message = (
        rf"low > 0 must hold on a log axis, got log_uniform\({float(low)}, 1.0\): raise low above 0, or use"
    )
    with pytest.raises(InputError, match=message):
        log_uniform(low, 1)


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.5), (-1.0, 0.5), (0.5, 1.0), (0.5, 2.0), (1.5, 2.0)])
def test_a_reverse_log_axis_is_inside_zero_and_one(low, high):
    message = (
        rf"0 < low and high < 1 must hold on a reverse log axis, got reverse_log_uniform\({low}, {high}\): "
        r"move the bounds inside \(0, 1\), or use uniform"
    )
    with pytest.raises(InputError, match=message):
        reverse_log_uniform(low, high)


def test_a_uniform_axis_has_a_finite_width():
    message = r"high - low must fit into float64, got uniform\(-1e\+308, 1e\+308\): move the bounds"
    with pytest.raises(InputError, match=message):
        uniform(-1e308, 1e308)


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        (0, 2.5, r"bounds of integers must be whole, got integers\(0, 2.5\): round them, or use uniform"),
        (-0.5, 2, r"bounds of integers must be whole, got integers\(-0.5, 2\)"),
        (
            0,
            2**48 + 1,
            r"must be within 2\*\*48 of 0, got integers\(0, 281474976710657\): use log_uniform and round",
        ),
        (-(2**60), 0, r"must be within 2\*\*48 of 0, got integers\(-1152921504606846976, 0\)"),
    ],
)
def test_integers_are_whole_and_of_sensible_size(low, high, message):
    with pytest.raises(InputError, match=message):
        integers(low, high)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), r"a choice must have at least one option, got choice\(\): name the options"),
        ((1, 2, 1), r"options of a choice must differ, got 1 and 1 in choice\(1, 2, 1\): leave one out"),
        ((1, 1.0), r"must differ, got 1 and 1.0 in choice\(1, 1.0\)"),
        ((1, True), r"must differ, got 1 and True"),
        (("a", "b", "b"), r"must differ, got 'b' and 'b'"),
        ((None,), r"a value must be a number \(not NaN\), a string or a bool, got None"),
        (([1, 2],), r"a value must be a number \(not NaN\), a string or a bool, got \[1, 2\]"),
        ((1j,), r"a value must be a number \(not NaN\), a string or a bool, got 1j"),
        ((math.nan,), r"a value must be a number \(not NaN\), a string or a bool, got nan"),
        ((2**63,), r"a whole number must fit into 64 bits, got 9223372036854775808: write it as a float"),
    ],
)
def test_options_are_different_scalars(options, message):
    with pytest.raises(InputError, match=message):
        choice(*options)


def test_whole_numbers_that_float64_cannot_tell_apart_are_no_two_options():
    with pytest.raises(InputError, match="must differ, got"):
        choice(2**53, 2**53 + 1, 0.5)


def test_a_constant_is_a_scalar():
    with pytest.raises(
        InputError, match=r"a value must be a number \(not NaN\), a string or a bool, got \[1\]"
    ):
        constant([1])
