"""What mattered: on functions of which it is known."""

import numpy as np
import pytest

from jbn import search
from jbn.errors import InputError
from jbn.search import Configs, Space, choice, integers, log_uniform, uniform, when
from jbn.search.sampling import integer_seed

SPACE = Space(
    rate=log_uniform(1e-5, 1.0),
    beta=uniform(0.5, 1.0),
    layers=integers(1, 6),
    activation=choice("relu", "tanh", "gelu"),
    noise=uniform(0.0, 1.0),
    epsilon=1e-8,
    momentum=when(uniform(0.0, 1.0), activation="relu"),
)
CONFIGS = search.random(SPACE, 200, key=0)
SCORES = -((np.log10(CONFIGS["rate"]) + 2) ** 2) - 0.3 * np.abs(CONFIGS["layers"] - 3)


@pytest.mark.parametrize("method", ["ped_anova", "fanova"])
def test_the_order_is_the_known_one(method):
    found = search.importance((CONFIGS, SCORES), method=method, resamples=10)
    assert set(found.names) == {"rate", "beta", "layers", "activation", "noise"}
    assert found.names[0] == "rate"
    assert found.shares[0] > 0.5
    assert found.shares.sum() == pytest.approx(1.0)
    assert (np.diff(found.shares) <= 0).all()
    if method == "fanova":
        assert found.names[1] == "layers"
        assert np.isnan(found.low).all()
    else:
        assert (found.low <= found.high).all()
        assert found.low[0] > max(found.high[2:]) or found.shares[0] > found.high[2:].max()


def test_it_does_not_depend_on_the_scale_of_the_values():
    """Places on the dimension's own scale count: a log axis and its logarithm are the same."""
    space = Space(rate=uniform(-5.0, 0.0), noise=uniform(0.0, 1.0))
    configs = Configs({"rate": np.log10(CONFIGS["rate"]), "noise": CONFIGS["noise"]}, space=space)
    log = Space(rate=SPACE["rate"], noise=SPACE["noise"])
    two = [
        search.importance((own, SCORES), of, resamples=0) for own, of in ((configs, space), (CONFIGS, log))
    ]
    np.testing.assert_allclose(two[0].shares, two[1].shares, rtol=1e-6)


def test_diverged_configurations_count_as_the_worst():
    scores = np.where(CONFIGS["rate"] > 0.1, np.nan, SCORES)
    found = search.importance((CONFIGS, scores), resamples=0)
    assert found.names[0] == "rate"


def test_the_same_key_gives_the_same_quantiles():
    two = [search.importance((CONFIGS, SCORES), resamples=5, key=3) for _ in range(2)]
    np.testing.assert_array_equal(two[0].low, two[1].low)


def test_the_draws_are_the_shares_of_resampled_configurations():
    """Each is what the same configurations and scores give when they are drawn by hand."""
    found = search.importance((CONFIGS, SCORES), resamples=3, key=5)
    rng = np.random.default_rng(integer_seed(5, "importance"))
    for draw in found.draws:
        rows = rng.integers(200, size=200)
        columns = {name: values[rows] for name, values in CONFIGS.items()}
        one = search.importance((Configs(columns, space=SPACE), SCORES[rows]), resamples=0)
        shares = dict(zip(one.names, one.shares, strict=True))
        np.testing.assert_allclose(draw, [shares[name] for name in found.names])


def test_quantiles_are_those_of_the_draws():
    found = search.importance((CONFIGS, SCORES), resamples=21)
    assert found.draws.shape == (21, 5)
    np.testing.assert_allclose(found.draws.sum(axis=1), 1)
    # of 21 sorted ones, 2.5 % lie half-way between the first and the second
    first, second = np.sort(found.draws, axis=0)[:2]
    np.testing.assert_allclose(found.low, (first + second) / 2)


@pytest.mark.parametrize(("method", "resamples"), [("ped_anova", 0), ("fanova", 7)])
def test_without_resamples_there_are_no_draws(method, resamples):
    found = search.importance((CONFIGS, SCORES), method=method, resamples=resamples)
    assert found.draws.shape == (0, 5)
    assert np.isnan(found.low).all()


def test_one_dimension_has_all():
    space = Space(rate=SPACE["rate"])
    assert search.importance((CONFIGS, SCORES), space, resamples=0).shares.tolist() == [1.0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: search.importance((CONFIGS, SCORES), method="shap"), "unknown method 'shap'"),
        (lambda: search.importance((dict(CONFIGS), SCORES)), "needs the space that configurations come from"),
        (
            lambda: search.importance((CONFIGS, np.where(np.arange(200) < 9, SCORES, np.nan))),
            "at least 10 configurations with a score, but 9 of 200 have one",
        ),
        (
            lambda: search.importance((search.random(Space(a=1), 20, key=0), np.arange(20.0))),
            "needs a hyper-parameter that varies, but all are constant",
        ),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_a_hyper_parameter_that_some_rows_ignore_has_no_share():
    configs = search.random(SPACE, 100, key=1)
    configs["beta"] = np.where(configs["layers"] > 3, configs["beta"], np.nan)
    found = search.importance((configs, -np.log10(configs["rate"])), resamples=0)
    assert "beta" not in found.names
    assert found.names[0] == "rate"


@pytest.mark.parametrize("method", ["ped_anova", "fanova"])
def test_equal_scores_have_equal_shares(method):
    found = search.importance((CONFIGS, np.ones(200)), method=method, resamples=0)
    np.testing.assert_allclose(found.shares, 1 / 5)


def test_values_beside_the_space_are_said():
    configs = search.random(SPACE, 20, key=1)
    configs["activation"] = np.array(["swish"] * 10 + ["relu"] * 10, object)
    with pytest.raises(InputError, match=r"values must lie on the axis .* got 'swish'"):
        search.importance((configs, np.arange(20.0)), resamples=0)
