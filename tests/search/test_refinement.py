"""Coarse to fine: where a space is narrowed, where it is not, and that it helps."""

import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jbn import search
from jbn.errors import InputError
from jbn.search import (
    Configs,
    Space,
    choice,
    integers,
    log_uniform,
    quantized,
    reverse_log_uniform,
    uniform,
    when,
)
from jbn.search.conditions import missing

SIX = Space(**{name: uniform(0.0, 1.0) for name in "abcdef"})


def score_of_a(configs):
    return -((configs["a"] - 0.3) ** 2)


def drawn(space=SIX, n=128, key=0):
    return search.quasi_random(space, n, key=key)


def width(axis):
    return axis.high - axis.low


def test_what_matters_is_narrowed_around_the_best_and_the_rest_stays():
    narrowed = {name: 0 for name in SIX}
    for key in range(20):
        configs = drawn(key=key)
        finer = search.refine(SIX, (configs, score_of_a(configs)))
        assert finer["a"].low < 0.3 < finer["a"].high
        assert width(finer["a"]) < 0.35
        for name in SIX:
            narrowed[name] += finer[name] != SIX[name]
    assert narrowed["a"] == 20
    assert (
        sum(narrowed[name] for name in "bcdef") <= 20
    )  # 100 times one could have been, by chance one in five


def test_every_scale_is_narrowed_on_itself():
    space = Space(
        rate=log_uniform(1e-6, 1.0),
        beta=reverse_log_uniform(0.9, 0.9999),
        layers=integers(1, 20),
        width=quantized(integers(16, 1024, log=True), 16),
        size=choice(4, 8, 16, 32, 64, 128, 256, 512, ordered=True),
        epsilon=1e-8,
    )
    configs = drawn(space, 512)
    middle = {"rate": 1e-3, "beta": 0.999, "layers": 5, "width": 128, "size": 32}
    distances = [
        (space[name].to_unit(configs[name]) - space[name].to_unit(np.array([value]))) ** 2
        for name, value in middle.items()
    ]
    finer = search.refine(space, (configs, -sum(distances)))
    for name, value in middle.items():
        assert type(finer[name]) is type(space[name])
        finer[name].to_unit([value])  # it is on the axis
        assert finer[name] != space[name]
    assert finer["epsilon"] == space["epsilon"]
    assert 1e-5 < finer["rate"].low < 1e-3 < finer["rate"].high < 1e-1
    assert finer["size"].options == tuple(sorted(finer["size"].options))
    assert finer["width"].step == 16


def test_options_that_are_worse_go_and_equals_stay():
    space = Space(activation=choice("relu", "tanh", "sigmoid", "gelu"), rate=uniform(0.0, 1.0))
    configs = drawn(space, 128)
    penalty = {"relu": 0.0, "gelu": 0.0, "tanh": 1.0, "sigmoid": 2.0}
    scores = -np.array([penalty[name] for name in configs["activation"]]) - 0.1 * configs["rate"]
    finer = search.refine(space, (configs, scores))
    assert finer["activation"] == choice("relu", "gelu")
    same = search.refine(space, (configs, -configs["rate"]))
    assert same["activation"] == space["activation"]


def test_what_can_exist_no_more_goes_with_its_option():
    space = Space(
        optimizer=choice("adam", "sgd", "lion"),
        momentum=when(uniform(0.0, 1.0), optimizer="sgd"),
        nesterov=when(choice(True, False), optimizer=["sgd", "lion"]),
    )
    configs = drawn(space, 128)
    finer = search.refine(space, (configs, -1.0 * (configs["optimizer"] == "sgd")))
    assert list(finer) == ["optimizer", "nesterov"]
    assert finer["optimizer"] == choice("adam", "lion")
    assert finer["nesterov"] == when(choice(True, False), optimizer="lion")


def test_a_lucky_outlier_does_not_move_the_region():
    configs = drawn(n=200)
    scores = score_of_a(configs)
    lucky = int(np.argmax(configs["a"]))
    assert configs["a"][lucky] > 0.95
    scores[lucky] = 10.0
    finer = search.refine(SIX, (configs, scores))
    assert finer["a"].low < 0.3 < finer["a"].high < 0.6


@pytest.mark.parametrize("bad", [np.nan, -np.inf, np.inf])
def test_diverged_rows_are_the_worst_and_no_error(bad):
    configs = drawn()
    scores = score_of_a(configs)
    scores[configs["a"] > 0.5] = bad
    finer = search.refine(SIX, (configs, scores))
    assert finer["a"].low < 0.3 < finer["a"].high < 0.5


def test_a_result_with_configs_and_scores_will_do_and_rows_outside_do_not_count():
    configs = drawn()
    result = types.SimpleNamespace(configs=configs, scores=score_of_a(configs))
    once = search.refine(SIX, result)
    assert once == search.refine(SIX, (configs, result.scores))
    part = Space(**{**SIX, "a": uniform(0.6, 1.0)})
    within = search.refine(part, result)
    assert 0.6 <= within["a"].low < 0.65
    assert within["a"].high < 0.9


def test_a_conditional_dimension_is_narrowed_where_it_exists():
    space = Space(optimizer=choice("adam", "sgd"), momentum=when(uniform(0.0, 1.0), optimizer="sgd"))
    configs = drawn(space, 256)
    scores = np.where(np.isnan(configs["momentum"]), -0.5, -np.abs(configs["momentum"] - 0.9))
    finer = search.refine(space, (configs, scores))
    assert finer["momentum"].requires == space["momentum"].requires
    assert 0.5 < finer["momentum"].low < 0.9 < finer["momentum"].high


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.integers(1, 60), st.floats(0.01, 1.0), st.sampled_from([0, 1, 2]))
def test_refined_spaces_nest_whatever_the_scores(seed, n, keep, kind):
    space = Space(
        a=uniform(-1.0, 1.0),
        b=log_uniform(1e-3, 1.0),
        c=integers(0, 9),
        d=quantized(uniform(0.0, 1.0), 0.05),
        e=choice("x", "y", "z"),
        f=choice(1, 2, 3, 4, ordered=True),
        g=when(uniform(0.0, 1.0), e="x"),
    )
    rng = np.random.default_rng(seed)
    for _ in range(3):
        configs = search.random(space, n, key=seed)
        scores = [rng.normal(size=n), configs["a"], rng.integers(2, size=n).astype(float)][kind]
        finer = search.refine(space, (configs, scores), keep=keep)
        assert set(space) - set(finer) <= {"g"}  # where "x" is no option any more
        for name in set(finer) & set("abcdg"):
            assert space[name].low <= finer[name].low <= finer[name].high <= space[name].high
        assert set(finer["e"].options) <= set(space["e"].options)
        assert set(finer["f"].options) <= set(space["f"].options)
        inside = search.random(finer, 20, key=seed)
        for name in finer:
            space[name].to_unit(inside[name][~missing(inside[name])].tolist())
        space = finer


def best_found(score, *, rounds, budget=120, key=0):
    """Of coarse to fine with these shares of the budget; one round is plain random search."""
    space, columns, scores = SIX, {name: np.zeros(0) for name in SIX}, np.zeros(0)
    for place in range(rounds):
        configs = search.random(space, budget // rounds, key=1000 * key + place)
        columns = {name: np.concatenate([columns[name], configs[name]]) for name in SIX}
        scores = np.append(scores, score(configs))
        if place < rounds - 1:
            space = search.refine(space, (columns, scores))
    return scores.max()


def rugged(configs):
    """Rastrigin's function: a bowl full of holes."""
    z = [10 * (configs[name] - 0.6) for name in SIX]
    return -(60 + sum(x**2 - 10 * np.cos(2 * np.pi * x) for x in z))


def noise(configs):
    """No structure at all, and the same again at the same place."""
    place = sum(1e6 * (k + 1) * configs[name] for k, name in enumerate(SIX))
    return -np.mod(np.abs(np.sin(place) * 43758.5453), 1.0)


def test_it_beats_random_search_where_one_of_six_dimensions_matters():
    regrets = [[-best_found(score_of_a, rounds=rounds, key=key) for key in range(50)] for rounds in (1, 3)]
    random, fine = np.median(regrets, axis=1)
    assert fine < 0.5 * random


@pytest.mark.parametrize("score", [rugged, noise])
def test_it_loses_next_to_nothing_on_a_rugged_function(score):
    regrets = [[-best_found(score, rounds=rounds, key=key) for key in range(50)] for rounds in (1, 3)]
    random, fine = np.median(regrets, axis=1)
    assert fine <= 1.05 * random + (0.005 if score is noise else 0)  # noise is in [0, 1], its best near 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: search.refine(SIX, (drawn(n=8), np.full(8, np.nan))), "of 8 8 are inside and 0 have one"),
        (lambda: search.refine(SIX, ({n: [] for n in SIX}, [])), "of 0 0 are inside and 0 have one"),
        (
            lambda: search.refine(SIX, ({n: [5.0, 6.0] for n in SIX}, [1.0, 2.0])),
            "of 2 0 are inside and 2 have one: take the space that they came from",
        ),
        (lambda: search.refine(SIX, (drawn(n=8), [1.0])), r"one score a configuration, got \(1,\) for 8"),
        (lambda: search.refine(SIX, (Configs({"a": [0.1]}), [1.0])), "but lack b, c, d, e, f"),
        (lambda: search.refine(SIX, (drawn(n=8), np.ones(8)), keep=0.0), r"share in \(0, 1\], got 0.0"),
        (lambda: search.refine(SIX, (drawn(n=8), np.ones(8)), keep="x"), r"share in \(0, 1\], got 'x'"),
        (lambda: search.refine(SIX, (drawn(n=8), np.ones(8)), keep=1.5), r"share in \(0, 1\], got 1.5"),
    ],
)
def test_what_cannot_be_refined_says_so(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_rows_that_ignore_a_hyper_parameter_count_all_the_same():
    """As a sweep's result has them: NaN where the row's optimiser does not know it."""
    space = Space(
        optimizer=choice("adam", "sgd"), beta1=reverse_log_uniform(0.8, 0.99), momentum=uniform(0.0, 1.0)
    )
    configs = drawn(space, 128)
    adam = configs["optimizer"] == "adam"
    configs["beta1"] = np.where(adam, configs["beta1"], np.nan)
    configs["momentum"] = np.where(adam, np.nan, configs["momentum"])
    scores = np.where(adam, -10.0, -np.abs(np.nan_to_num(configs["momentum"]) - 0.8))
    finer = search.refine(space, (configs, scores))
    assert finer["optimizer"] == choice("sgd")
    assert 0.4 < finer["momentum"].low < 0.8 < finer["momentum"].high
    assert finer["beta1"] == space["beta1"]
