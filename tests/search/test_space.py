import pickle
import tomllib
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jbn import search
from jbn.errors import InputError
from jbn.search import (
    Space,
    choice,
    defaults,
    integers,
    log_uniform,
    reverse_log_uniform,
    uniform,
)
from jbn.search.scales import constant

FLOATS = st.floats(0.01, 0.99)
PAIRS = st.tuples(FLOATS, FLOATS).map(sorted)
SCALARS = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text()
AXES = st.one_of(
    PAIRS.map(lambda pair: uniform(*pair)),
    PAIRS.map(lambda pair: log_uniform(*pair)),
    PAIRS.map(lambda pair: reverse_log_uniform(*pair)),
    st.tuples(st.integers(-9, 9), st.integers(0, 9)).map(lambda pair: integers(pair[0], sum(pair))),
    st.lists(st.text(), min_size=1, unique=True).map(lambda options: choice(*options)),
    st.lists(st.integers(2, 99), min_size=1, unique=True).map(lambda options: choice(True, 0.5, *options)),
    SCALARS,
)
NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True)
SPACES = st.dictionaries(NAMES, AXES, min_size=1, max_size=5).map(lambda axes: Space(**axes))


@given(SPACES)
def test_a_specification_round_trips(space):
    again = Space.from_spec(space.to_spec())
    assert again == space
    assert hash(again) == hash(space)
    assert list(again) == list(space)
    assert repr(again) == repr(space)


def test_a_space_from_toml():
    text = """
    [space]
    learning_rate = {log_uniform = [1e-4, 1.0]}
    beta1 = {reverse_log_uniform = [0.9, 0.999]}
    layers = {integers = [2, 4]}
    batch_size = {choice = [32, 64, 128, 256]}
    activation = {choice = ["relu", "tanh"]}
    dropout = {uniform = [0, 0.5]}
    nesterov = true
    epsilon = 1e-8
    """
    assert Space.from_spec(tomllib.loads(text)["space"]) == Space(
        learning_rate=log_uniform(1e-4, 1.0),
        beta1=reverse_log_uniform(0.9, 0.999),
        layers=integers(2, 4),
        batch_size=choice(32, 64, 128, 256),
        activation=choice("relu", "tanh"),
        dropout=uniform(0.0, 0.5),
        nesterov=True,
        epsilon=1e-8,
    )


def test_a_specification_holds_plain_values():
    space = Space(a=uniform(0, 1), b=log_uniform(1, 2), c=reverse_log_uniform(0.1, 0.2), d=integers(1, 3))
    assert space.to_spec() == {
        "a": {"uniform": [0.0, 1.0]},
        "b": {"log_uniform": [1.0, 2.0]},
        "c": {"reverse_log_uniform": [0.1, 0.2]},
        "d": {"integers": [1, 3]},
    }
    assert Space(e=choice("x", 2), f=1e-8, g="relu").to_spec() == {
        "e": {"choice": ["x", 2]},
        "f": 1e-8,
        "g": "relu",
    }


def test_a_space_is_an_ordered_immutable_mapping():
    space = Space(b=uniform(0, 1), a=3)
    assert isinstance(space, Mapping)
    assert list(space) == ["b", "a"]
    assert len(space) == 2
    assert space["b"] == uniform(0, 1)
    assert space["a"] == constant(3)
    assert "c" not in space
    with pytest.raises(TypeError, match="does not support item assignment"):
        space["a"] = uniform(0, 1)
    with pytest.raises(AttributeError):
        space.c = uniform(0, 1)


def test_spaces_are_equal_by_value_and_order():
    space = Space(a=uniform(0, 1), b=3)
    assert space == Space(a=uniform(0.0, 1.0), b=constant(3))
    assert hash(space) == hash(Space(a=uniform(0.0, 1.0), b=3))
    assert pickle.loads(pickle.dumps(space)) == space
    others = [Space(b=3, a=uniform(0, 1)), Space(a=uniform(0, 1), b=3.0), Space(a=uniform(0, 1)), dict(space)]
    assert all(space != other for other in others)


def test_any_identifier_is_a_name():
    assert list(Space(self=1, name=2, größe=3)) == ["self", "name", "größe"]


def test_a_space_reads_like_its_call():
    text = (
        "Space(\n    rate=log_uniform(0.0001, 1.0),\n    activation=choice('relu', 3),\n    epsilon=1e-08,\n)"
    )
    space = Space(rate=log_uniform(1e-4, 1), activation=choice("relu", 3), epsilon=1e-8)
    assert repr(space) == text
    assert eval(text, vars(search)) == space


def test_defaults():
    common = {
        "learning_rate": log_uniform(1e-4, 1.0),
        "beta1": reverse_log_uniform(0.9, 0.999),
        "layers": integers(2, 4),
        "hidden_units": integers(50, 100),
        "decay_rate": log_uniform(1e-3, 1.0),
        "batch_size": choice(32, 64, 128, 256),
    }
    assert defaults() == Space(**common, beta2=0.999, epsilon=1e-8)
    varied = {"beta2": reverse_log_uniform(0.99, 0.9999), "epsilon": log_uniform(1e-10, 1e-6)}
    assert defaults(all=True) == Space(**common, **varied)


@pytest.mark.parametrize(
    ("dimensions", "message"),
    [
        ({}, r"a space must have at least one dimension, got none: name one, or see defaults\(\)"),
        ({"learning rate": 1}, "names must be identifiers, got 'learning rate': use letters, digits and _"),
        ({"": 1}, "names must be identifiers, got ''"),
        ({"1st": 1}, "names must be identifiers, got '1st'"),
        (
            {"units": [50, 100]},
            r"units: a value must be a number \(not NaN\), a string or a bool, got \[50, 100\]; "
            r"for an axis write uniform\(low, high\), choice\(a, b\), ...",
        ),
        ({"units": None}, "units: a value must be a number .* got None"),
        ({"units": uniform}, "units: a value must be a number .* got <function uniform"),
        ({"epsilon": float("nan")}, "epsilon: a value must be a number .* got nan"),
    ],
)
def test_what_a_space_refuses(dimensions, message):
    with pytest.raises(InputError, match=message):
        Space(**dimensions)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([1], r"a space's specification must be a table of names, got \[1\]"),
        ({}, "a space must have at least one dimension"),
        ({3: 1}, "names must be identifiers, got 3"),
        ({"a-b": {"uniform": [0, 1]}}, "names must be identifiers, got 'a-b'"),
        (
            {"a": {"log_unifrm": [1, 2]}},
            "a: unknown scale 'log_unifrm'; did you mean 'log_uniform'\\? Known are: choice",
        ),
        ({"a": {3: [1, 2]}}, "a: unknown scale 3; Known are: choice"),
        ({"a": {}}, r"a: one scale must be named, got {}: write {uniform = \[low, high\]}"),
        ({"a": {"uniform": [0, 1], "integers": [0, 1]}}, "a: one scale must be named, got {'uniform'"),
        ({"a": {"uniform": [0]}}, r"a: uniform takes 2 bounds, \[low, high\], got 1: \[0\]"),
        ({"a": {"integers": [1, 2, 3]}}, r"a: integers takes 2 bounds, \[low, high\], got 3: \[1, 2, 3\]"),
        ({"a": {"uniform": 0.5}}, r"a: uniform takes a list, got 0.5: write uniform = \[0.5, ...\]"),
        ({"a": {"choice": "relu"}}, r"a: choice takes a list, got 'relu': write choice = \['relu', ...\]"),
        ({"a": {"choice": []}}, "a: a choice must have at least one option"),
        ({"a": {"log_uniform": [0, 1]}}, "a: low > 0 must hold on a log axis"),
        ({"a": [1, 2]}, r"a: a value must be a number .* got \[1, 2\]"),
    ],
)
def test_what_a_specification_refuses(table, message):
    with pytest.raises(InputError, match=message):
        Space.from_spec(table)
