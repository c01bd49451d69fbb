import itertools
import time

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jbn import search
from jbn.errors import InputError
from jbn.search import Space, choice, integers, log_uniform, reverse_log_uniform, uniform, when

SPACE = Space(
    rate=log_uniform(1e-4, 1.0),
    beta=reverse_log_uniform(0.9, 0.999),
    dropout=uniform(-0.5, 0.5),
    layers=integers(2, 4),
    batch_size=choice(32, 64, 128, 256),
    activation=choice("relu", "tanh", True),
    epsilon=1e-8,
)
SEEDS = st.integers(0, 2**64 - 1)


def rows(configs):
    return [configs.row(i) for i in range(configs.count)]


@given(SEEDS, st.integers(1, 40))
def test_samples_are_inside_and_know_their_space(seed, n):
    configs = search.random(SPACE, n, key=seed)
    assert configs.space is SPACE
    assert configs.count == n
    assert list(configs) == list(SPACE)
    for name in ("rate", "beta", "dropout"):
        assert configs[name].dtype == np.float64
        assert np.all((configs[name] >= SPACE[name].low) & (configs[name] <= SPACE[name].high))
    assert set(configs["layers"].tolist()) <= {2, 3, 4}
    assert set(configs["batch_size"].tolist()) <= {32, 64, 128, 256}
    assert set(configs["activation"].tolist()) <= {"relu", "tanh", True}
    assert configs["epsilon"].tolist() == [1e-8] * n


@given(SEEDS, st.integers(1, 40), st.integers(0, 40))
def test_asking_for_more_keeps_the_first_ones(seed, n, more):
    assert rows(search.random(SPACE, n + more, key=seed))[:n] == rows(search.random(SPACE, n, key=seed))


@given(SEEDS, st.permutations(list(SPACE)), st.integers(1, 6))
def test_a_stream_depends_on_its_own_name_alone(seed, names, kept):
    everything = search.random(SPACE, 8, key=seed)
    part = search.random(Space(**{name: SPACE[name] for name in names[:kept]}), 8, key=seed)
    assert all(part[name].tolist() == everything[name].tolist() for name in names[:kept])


def test_names_and_keys_have_different_streams():
    axis = uniform(0, 1)
    draws = [search.random(Space(a=axis, b=axis), 1000, key=seed) for seed in (0, 1, 2**32)]
    columns = np.array([configs[name] for configs in draws for name in "ab"])
    correlations = np.corrcoef(columns)[np.triu_indices(len(columns), k=1)]
    assert np.abs(correlations).max() < 0.12


def test_the_same_key_in_any_form_draws_the_same():
    expected = rows(search.random(SPACE, 5, key=7))
    old = jax.random.PRNGKey(7)
    for key in (jax.random.key(7), old, np.asarray(old), np.int64(7)):
        assert rows(search.random(SPACE, 5, key=key)) == expected
    assert rows(search.random(SPACE, 5, key=8)) != expected


def test_all_words_of_a_key_count():
    keys = [jax.random.key(7, impl="rbg"), jax.random.fold_in(jax.random.key(7), 1), 7, 7 + 2**32]
    draws = {search.random(SPACE, 1, key=key)["rate"][0] for key in keys}
    assert len(draws) == len(keys)


def test_the_streams_stay_what_they_are():
    configs = search.random(Space(a=uniform(0, 1), b=integers(0, 999)), 3, key=0)
    assert configs["a"].tolist() == [0.8701166355234257, 0.5942287095598114, 0.9428050317062646]
    assert configs["b"].tolist() == [918, 598, 292]


@pytest.mark.parametrize(
    ("name", "distribution", "arguments"),
    [
        ("rate", "loguniform", (1e-4, 1.0)),
        ("dropout", "uniform", (-0.5, 1.0)),
        ("1 - beta", "loguniform", (1e-3, 0.1)),
    ],
)
def test_continuous_marginals(name, distribution, arguments):
    from scipy import stats

    configs = search.random(SPACE, 20_000, key=0)
    sample = 1 - configs["beta"] if name == "1 - beta" else configs[name]
    assert stats.kstest(sample, distribution, args=arguments).pvalue > 0.01


@pytest.mark.parametrize("name", ["layers", "batch_size", "activation"])
def test_discrete_marginals(name):
    from scipy import stats

    _, counts = np.unique(search.random(SPACE, 20_000, key=0)[name].astype(str), return_counts=True)
    assert stats.chisquare(counts).pvalue > 0.01


@pytest.mark.alone
def test_a_million_samples_of_eight_dimensions_take_under_a_second():
    space = search.defaults(all=True)
    start = time.process_time()
    assert search.random(space, 1_000_000, key=0).count == 1_000_000
    assert time.process_time() - start < 1.0


@pytest.mark.parametrize(
    ("n", "message"),
    [
        (0, "^configs must be at least 1, got 0$"),
        (-3, "configs must be at least 1, got -3"),
        (2.5, "configs must be a whole number, got 2.5: give an int of at least 1"),
        ("9", "configs must be a whole number, got '9'"),
        (True, "configs must be a whole number, got True"),
        (float("nan"), "configs must be a whole number, got nan"),
    ],
)
def test_random_draws_at_least_one(n, message):
    with pytest.raises(InputError, match=message):
        search.random(SPACE, n, key=0)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (-1, r"a seed must be at least 0 and below 2\*\*64, got -1"),
        (2**64, r"a seed must be at least 0 and below 2\*\*64, got 18446744073709551616"),
        (1.5, r"key must be one JAX key or an int seed, got 1.5: give jax.random.key\(0\), say"),
        (True, "key must be one JAX key or an int seed, got True"),
        (None, "key must be one JAX key or an int seed, got None"),
        (np.zeros(2), r"int seed, got float64 of shape \(2,\): take one of the keys"),
        (np.zeros((3, 2), np.uint32), r"int seed, got uint32 of shape \(3, 2\): take one of the keys"),
        (np.zeros(3, np.uint32), r"int seed, got uint32 of shape \(3,\): take one of the keys"),
    ],
)
def test_a_key_is_one_key(key, message):
    with pytest.raises(InputError, match=message):
        search.random(SPACE, 1, key=key)


def test_a_batch_of_typed_keys_is_no_key():
    with pytest.raises(InputError, match=r"int seed, got key<fry> of shape \(2,\): take one of the keys"):
        search.random(SPACE, 1, key=jax.random.split(jax.random.key(0)))


def test_a_grid_is_the_product_with_the_last_axis_fastest():
    space = Space(a=log_uniform(0.01, 1.0), b=choice("x", "y"), c=5, d=integers(1, 2))
    configs = search.grid(space, 3)
    expected = itertools.product([0.01, 0.1, 1.0], ["x", "y"], [5], [1, 2])
    assert configs.space is space
    assert configs.count == 12
    for i, (a, b, c, d) in enumerate(expected):
        assert configs.row(i) == {"a": pytest.approx(a, rel=1e-14), "b": b, "c": c, "d": d}
    assert [values.dtype for values in configs.values()] == [np.float64, object, np.int64, np.int64]


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5))
def test_grid_rows_are_those_of_a_product(widths):
    space = Space(**{f"x{i}": integers(0, width - 1) for i, width in enumerate(widths)})
    configs = search.grid(space, 4)
    product = list(itertools.product(*(range(width) for width in widths)))
    assert [tuple(row.values()) for row in rows(configs)] == product


def test_grid_points_by_name():
    space = Space(a=uniform(0, 1), b=integers(1, 9), c=choice(32, 64), d=0.5)
    configs = search.grid(space, {"b": 3, "a": 2})
    assert configs["a"].tolist() == [0.0] * 6 + [1.0] * 6
    assert configs["b"].tolist() == [1, 1, 5, 5, 9, 9] * 2
    assert configs["c"].tolist() == [32, 64] * 6
    assert configs["d"].tolist() == [0.5] * 12
    assert rows(search.grid(space, {"a": 2, "b": 3, "c": 1, "d": 7})) == rows(configs)


@pytest.mark.parametrize("ends", [True, False])
def test_one_point_per_axis_is_the_middle(ends):
    configs = search.grid(Space(a=uniform(0, 1), b=integers(2, 4), c=choice(1, 2)), 1, ends=ends)
    assert rows(configs) == [{"a": 0.5, "b": 3, "c": 1}, {"a": 0.5, "b": 3, "c": 2}]


def test_a_grid_without_ends_is_the_product_of_the_middles_of_cells():
    space = Space(a=choice("x", "y"), b=integers(1, 9), c=when(log_uniform(1e-4, 1.0), a="x"), d=0.5)
    configs = search.grid(space, {"b": 3, "c": 2}, ends=False)
    assert configs.space is space
    assert configs["a"].tolist() == ["x"] * 6 + ["y"] * 3
    assert configs["b"].tolist() == [2, 2, 5, 5, 8, 8, 2, 5, 8]
    np.testing.assert_allclose(configs["c"], [1e-3, 1e-1] * 3 + [np.nan] * 3)


def test_a_grid_may_have_more_axes_than_an_array():
    configs = search.grid(Space(**{f"x{i}": i for i in range(70)}, y=integers(1, 3)), 3)
    assert configs.count == 3
    assert configs.row(2)["x69"] == 69


@pytest.mark.parametrize(
    ("n", "message"),
    [
        (0, "points per axis must be at least 1, got 0"),
        (1.5, "points per axis must be a whole number, got 1.5"),
        ({"rate": 0, "beta": 2, "dropout": 2, "layers": 2}, "points of rate must be at least 1, got 0"),
        (
            {"rate": 2, "beta": 2, "dropout": 2, "layers": "2"},
            "points of layers must be a whole number, got '2'",
        ),
        (
            {"rate": 2, "layers": 2},
            "every axis must have its points, got none for beta, dropout: add them to n",
        ),
        (
            {"rat": 2},
            "points are for a dimension of the space, got 'rat'; did you mean 'rate'\\? Known are: act",
        ),
        ({3: 2}, "points are for a dimension of the space, got 3; Known are: act"),
        (
            500,
            "a grid must have at most 10,000,000 points, got 500 x 500 x 500 x 3 x 4 x 3 = 4,500,000,000: "
            "give fewer points per axis, or draw random ones",
        ),
    ],
)
def test_what_a_grid_refuses(n, message):
    with pytest.raises(InputError, match=message):
        search.grid(SPACE, n)


def test_a_grid_too_large_is_refused_before_it_is_made():
    space = Space(a=uniform(0, 1), b=integers(1, 2))
    with pytest.raises(InputError, match="got 1000000000000000 x 2 = 2,000,000,000,000,000"):
        search.grid(space, 10**15)
    assert search.grid(Space(b=integers(1, 2)), 10**15).count == 2
    with pytest.raises(InputError, match="10,000,000 points, got 10000001 = 10,000,001"):
        search.grid(Space(a=uniform(0, 1)), 10_000_001)
