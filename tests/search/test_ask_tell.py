"""Batches from Optuna's samplers: on the axes, under the conditions, better than chance."""

import importlib.util
import types

import numpy as np
import pytest

from jbn import search
from jbn.errors import InputError
from jbn.search import Space, choice, integers, log_uniform, quantized, uniform, when
from jbn.search.ask_tell import SAMPLERS

SPACE = Space(
    rate=log_uniform(1e-4, 1.0),
    width=quantized(integers(16, 128), 16),
    layers=integers(1, 4),
    optimizer=choice("adam", "sgd"),
    momentum=when(uniform(0.0, 0.9), optimizer="sgd"),
    nesterov=when(choice(True, False), optimizer="sgd"),
    size=choice(8, 16, 32, ordered=True),
    epsilon=1e-8,
)
NAMED = [name for name in SAMPLERS if name != "gp" or importlib.util.find_spec("torch")]


def score(configs):
    return -((np.log10(configs["rate"]) + 2) ** 2) - 0.1 * np.abs(configs["layers"] - 3)


def searched(own, batches=5):
    for _ in range(batches):
        own.tell(score(own.ask()))
    return own


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("sampler", NAMED)
def test_batches_are_configurations_of_the_space(sampler):
    own = searched(search.optuna(SPACE, sampler=sampler, n=6, key=1), batches=3)
    assert own.configs.count == 18
    assert own.configs.space is SPACE
    assert own.scores.shape == (18,)
    for name, axis in SPACE.items():
        there = (
            [value for value in own.configs[name].tolist() if value is not None and not np.isnan(value)]
            if name not in ("optimizer",)
            else own.configs[name].tolist()
        )
        axis.to_unit(there)
    sgd = own.configs["optimizer"] == "sgd"
    np.testing.assert_array_equal(np.isnan(own.configs["momentum"]), ~sgd)
    assert [value is None for value in own.configs["nesterov"]] == (~sgd).tolist()
    assert own.configs["width"].dtype == own.configs["layers"].dtype == np.int64
    assert score(own.configs)[own.configs["rate"] == own.best()["rate"]].max() == own.scores.max()


def test_the_same_key_asks_the_same():
    first, same, other = (searched(search.optuna(SPACE, n=8, key=key), 2) for key in (1, 1, 2))
    np.testing.assert_array_equal(first.configs["rate"], same.configs["rate"])
    assert not np.array_equal(first.configs["rate"], other.configs["rate"])


def test_it_learns():
    """The last batch lies nearer to the optimum than the first, which is drawn at random."""
    gains = []
    for key in range(5):
        scores = searched(search.optuna(SPACE, sampler="tpe", n=16, key=key)).scores.reshape(5, 16)
        gains.append(np.median(scores[-1]) - np.median(scores[0]))
    assert min(gains) > 0.3


def test_a_result_will_do_and_diverged_configurations_are_failures():
    own = search.optuna(SPACE, n=4)
    configs = own.ask()
    own.tell(types.SimpleNamespace(configs=configs, scores=np.array([np.nan, 1.0, -np.inf, 3.0])))
    assert own.best()["rate"] == configs["rate"][3]
    np.testing.assert_array_equal(own.scores, [np.nan, 1.0, np.nan, 3.0])
    assert own.ask(2).count == 2


def test_a_sampler_of_optunas_will_do():
    import optuna

    own = search.optuna(SPACE, sampler=optuna.samplers.RandomSampler(seed=3), n=5)
    assert own.ask().count == 5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: search.optuna(SPACE, sampler="tpr"), "unknown sampler 'tpr': did you mean 'tpe'"),
        (lambda: search.optuna(SPACE, sampler=3), "a name or one of Optuna's, got 3"),
        (lambda: search.optuna(SPACE, n=0), "configs must be at least 1, got 0"),
        (lambda: search.optuna(SPACE).tell([1.0]), r"one for each of 0 configurations, got \(1,\)"),
        (lambda: search.optuna(SPACE).tell(["a"]), r"scores must be numbers, got \['a'\]"),
        (lambda: search.optuna(SPACE).best(), "none of 0 has one"),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_a_batch_is_told_before_the_next():
    own = search.optuna(SPACE, n=3)
    own.ask()
    with pytest.raises(InputError, match=r"must be told before the next .* 3 have no score: call tell"):
        own.ask()
    with pytest.raises(InputError, match=r"each of 3 configurations, got \(2,\)"):
        own.tell([1.0, 2.0])


@pytest.mark.parametrize(
    ("missing", "message"), [("optuna", r"extra jbn\[optuna\]"), ("torch", "needs PyTorch")]
)
def test_without_the_library_it_says_what_to_install(monkeypatch, missing, message):
    if missing == "optuna":
        monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    else:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=message):
        search.optuna(SPACE, sampler="tpe" if missing == "optuna" else "gp")


def test_steps_on_a_log_axis_are_sampled_on_it():
    space = Space(n=integers(1, 1024, log=True), big=integers(1, 2**40, log=True))
    asked = search.optuna(space, sampler="random", n=300, key=0).ask()
    assert 15 < np.median(asked["n"]) < 60  # 32 in the middle of the log axis, 512 on a linear one
    assert np.median(asked["big"]) < 2**25


def test_strings_under_a_condition_are_none_even_where_a_batch_has_none_of_them():
    space = Space(a=choice("x", "y"), b=when(choice("r", "t"), a="y"))
    batches = [search.optuna(space, sampler="random", n=1, key=key).ask() for key in range(6)]
    off = [own for own in batches if own["a"][0] == "x"]
    assert off
    assert all(own["b"].tolist() == [None] for own in off)
