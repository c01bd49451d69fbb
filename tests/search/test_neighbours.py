"""Neighbours of a configuration: steps on every dimension's own scale."""

import jax
import numpy as np
import pytest
from scipy import stats

import jbn
from jbn.search import neighbours, quantized, when

SPACE = jbn.Space(
    rate=jbn.log_uniform(1e-4, 1.0),
    beta=jbn.reverse_log_uniform(0.9, 0.999),
    layers=jbn.integers(1, 20),
    sizes=jbn.choice(8, 16, 32, 64, 128, 256, 512, 1024, ordered=True),
    activation=jbn.choice("relu", "tanh", "sigmoid"),
    step=quantized(jbn.uniform(0.0, 1.0), 0.05),
    fixed=7,
)
MIDDLE = {
    "rate": 1e-2, "beta": 0.99, "layers": 10, "sizes": 64, "activation": "tanh", "step": 0.5, "fixed": 7,
}  # fmt: skip


def places(name, values):
    return SPACE[name].to_unit(values.tolist())


def test_steps_are_normal_on_the_own_scale():
    near = neighbours(SPACE, MIDDLE, 2000, key=0, width=0.1)
    for name in ("rate", "beta"):
        steps = places(name, near[name]) - SPACE[name].to_unit([MIDDLE[name]])
        assert stats.kstest(steps, stats.norm(scale=0.1).cdf).pvalue > 1e-3
    for name in ("layers", "sizes", "step"):
        steps = places(name, near[name]) - SPACE[name].to_unit([MIDDLE[name]])
        assert 0.08 < steps.std() < 0.14
        assert abs(steps.mean()) < 0.02
    assert set(near["fixed"]) == {7}
    rho = stats.spearmanr(near["rate"], near["beta"])
    assert rho.pvalue > 1e-3  # every dimension steps for itself


def test_options_without_an_order_are_drawn_anew_now_and_then():
    near = neighbours(SPACE, MIDDLE, 3000, key=1, width=0.3)
    kept = int((near["activation"] == "tanh").sum())
    assert stats.binomtest(kept, 3000, 0.7 + 0.3 / 3).pvalue > 1e-3
    others = [int((near["activation"] == name).sum()) for name in ("relu", "sigmoid")]
    assert stats.binomtest(others[0], sum(others), 0.5).pvalue > 1e-3


def test_at_the_ends_steps_are_reflected():
    ends = {**MIDDLE, "rate": 1.0, "layers": 1, "sizes": 1024}
    near = neighbours(SPACE, ends, 2000, key=2, width=0.2)
    distances = 1 - places("rate", near["rate"])
    assert stats.kstest(distances, stats.halfnorm(scale=0.2).cdf).pvalue > 1e-3
    assert near["rate"].max() <= 1.0
    assert near["layers"].min() == 1
    assert near["sizes"].max() == 1024


def test_the_same_key_draws_the_same_and_more_dimensions_change_nothing():
    once, again = (neighbours(SPACE, MIDDLE, 5, key=jax.random.key(3)) for _ in range(2))
    other = neighbours(SPACE, MIDDLE, 5, key=4)
    fewer = neighbours(jbn.Space(rate=SPACE["rate"]), MIDDLE, 5, key=3)
    for name in SPACE:
        np.testing.assert_array_equal(once[name], again[name])
    assert (once["rate"] != other["rate"]).all()
    np.testing.assert_array_equal(once["rate"], fewer["rate"])
    assert once.space == SPACE


def test_what_a_condition_switches_on_is_drawn_from_its_axis():
    space = jbn.Space(
        activation=jbn.choice("relu", "tanh"), dropout=when(jbn.uniform(0.0, 1.0), activation="tanh")
    )
    near = neighbours(space, {"activation": "relu", "dropout": np.nan}, 2000, key=0, width=0.5)
    on = near["activation"] == "tanh"
    assert 0 < on.sum() < 2000
    assert np.isnan(near["dropout"][~on].astype(float)).all()
    drawn = near["dropout"][on].astype(float)
    assert stats.kstest(drawn, stats.uniform.cdf).pvalue > 1e-3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": 0}, "neighbours must be at least 1, got 0"),
        ({"width": 0}, r"width must be a share of the axis in \(0, 1\], got 0"),
        ({"width": 1.5}, "got 1.5"),
        ({"width": float("nan")}, "got nan"),
        ({"config": {**MIDDLE, "rate": 2.0}}, "values must lie on the axis log_uniform.*got 2.0"),
    ],
)
def test_what_has_no_neighbours(change, message):
    arguments = {"config": MIDDLE, "n": 3, "width": 0.1, **change}
    with pytest.raises(jbn.InputError, match=message):
        neighbours(SPACE, arguments.pop("config"), arguments.pop("n"), key=0, **arguments)
