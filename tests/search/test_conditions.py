import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jbn import search
from jbn.errors import InputError
from jbn.search import Space, choice, integers, log_uniform, quantized, reverse_log_uniform, uniform, when

SPACE = Space(
    beta2=when(reverse_log_uniform(0.9, 0.999), optimizer="adam"),
    optimizer=choice("adam", "sgd", "lion"),
    nesterov=when(choice(True, False), optimizer="sgd"),
    momentum=when(uniform(0.0, 0.9), optimizer=["sgd", "lion"]),
    steps=when(integers(1, 4), nesterov=True),
    rate=log_uniform(1e-4, 1.0),
    power=when(2, optimizer="sgd"),
)


@pytest.mark.parametrize("draw", [search.random, search.quasi_random, search.latin_hypercube])
@given(seed=st.integers(0, 2**32))
def test_a_hyper_parameter_exists_where_what_it_requires_exists_and_fits(draw, seed):
    configs = draw(SPACE, 30, key=seed)
    for row in map(configs.row, range(30)):
        assert np.isnan(row["beta2"]) == (row["optimizer"] != "adam")
        assert (row["nesterov"] is None) == (row["optimizer"] != "sgd")
        assert np.isnan(row["momentum"]) == (row["optimizer"] == "adam")
        assert np.isnan(row["steps"]) == (row["nesterov"] is not True)
        assert np.isnan(row["power"]) == (row["optimizer"] != "sgd")
        assert 1e-4 <= row["rate"] <= 1.0
    assert configs["steps"].dtype == configs["beta2"].dtype == np.float64
    assert configs["nesterov"].dtype == object


def test_what_exists_is_drawn_as_without_the_condition():
    plain = Space(**{name: getattr(axis, "axis", axis) for name, axis in SPACE.items()})
    own, all_of_them = (search.random(space, 50, key=3) for space in (SPACE, plain))
    there = ~np.isnan(own["momentum"])
    np.testing.assert_array_equal(own["momentum"][there], all_of_them["momentum"][there])


def test_a_grid_has_no_twins():
    space = Space(
        optimizer=choice("adam", "sgd"),
        beta2=when(uniform(0.9, 0.99), optimizer="adam"),
        momentum=when(uniform(0.0, 0.9), optimizer="sgd"),
    )
    configs = search.grid(space, 3)
    assert configs.count == 3 + 3
    assert configs["optimizer"].tolist() == ["adam"] * 3 + ["sgd"] * 3
    np.testing.assert_allclose(configs["beta2"][:3], [0.9, 0.945, 0.99])
    assert np.isnan(configs["momentum"][:3]).all()
    assert configs["momentum"][3:].tolist() == [0.0, 0.45, 0.9]


@pytest.mark.parametrize("form", ["json", "toml"])
def test_a_space_comes_back_from_json_and_toml(form):
    space = Space(
        **SPACE,
        text='quotes " and \\ and tab \t and ü and \x7f',
        big=choice(1e300, float("inf"), -1.5),
        small=quantized(log_uniform(1e-3, 1.0), 1e-3),
        sizes=choice(16, 32, 64, ordered=True),
        log=integers(1, 2**40, log=True),
        flag=True,
        whole=3,
        number=3.0,
    )
    if form == "json":
        back = Space.from_json(space.to_json())
        assert json.loads(space.to_json())["sizes"] == {"choice": [16, 32, 64], "ordered": True}
    else:
        back = Space.from_toml(space.to_toml())
    assert back == space
    assert repr(back) == repr(space)
    assert type(back["number"].value) is float
    assert type(back["whole"].value) is int


def test_it_reads_like_its_call():
    assert repr(SPACE["momentum"]) == "when(uniform(0.0, 0.9), optimizer=('sgd', 'lion'))"
    assert eval(repr(SPACE["momentum"]), vars(search)) == SPACE["momentum"]
    assert len({*SPACE.values(), when(uniform(0.0, 0.9), optimizer="sgd")}) == len(SPACE) + 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: when(uniform(0, 1)), "must name another hyper-parameter, got none"),
        (lambda: when(uniform(0, 1), a=[]), "must name values of a, got none"),
        (lambda: when(when(uniform(0, 1), a=1), b=1), r"must stand in one when\(\), got two"),
        (
            lambda: Space(a=choice(1, 2), x=when(uniform(0, 1), b=1)),
            "x: a condition must be on a hyper-parameter of the space, got 'b'; Known are: a, x",
        ),
        (
            lambda: Space(a=uniform(0, 1), x=when(uniform(0, 1), a=1)),
            r"x: a condition must be on a choice or a constant, got a = uniform\(0.0, 1.0\)",
        ),
        (
            lambda: Space(a=choice("sgd", "adam"), x=when(uniform(0, 1), a="sdg")),
            "x: a condition must be on values that a may have, got 'sdg' for choice",
        ),
        (
            lambda: Space(a=when(choice(1, 2), b=1), b=when(choice(1, 2), a=1)),
            "must not lead back to themselves, but those of a, b do",
        ),
        (
            lambda: Space.from_spec({"a": {"choice": [1, 2], "when": "b"}}),
            "a: when must be a table of names and values, got 'b'",
        ),
        (
            lambda: Space.from_json('{"a": 1, "b": 2, "a": 3}'),
            "names must differ, got 'a' twice: leave one of them out",
        ),
        (
            lambda: Space.from_spec({"a": {"choice": [1, 2]}, "b": {"constant": 5, "when": 3}}),
            "b: only when, a table of names and values, may stand beside constant",
        ),
        (
            lambda: Space.from_spec({"b": {"constant": 5, "log": True}}),
            "b: only when, a table of names and values, may stand beside constant",
        ),
        (lambda: Space.from_json("{"), "must be JSON, but is not: "),
        (lambda: Space.from_toml("a = 1\na = 2"), "must be TOML, but is not: "),
    ],
)
def test_conditions_that_cannot_hold_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_a_parent_may_be_called_axis_and_names_may_have_any_letters():
    space = Space(axis=choice("x", "y"), λ=when(uniform(0.0, 1.0), axis="x"))
    assert Space.from_toml(space.to_toml()) == space
    assert Space.from_json(space.to_json()) == space


def test_a_grid_keeps_options_apart_that_read_alike():
    space = Space(o=choice("a", "b"), m=choice(1, "1"), p=when(uniform(0, 1), o="a"))
    assert search.grid(space, 2).count == 2 * 2 + 2
