"""What studies that nobody exported tell of a space."""

import sys

import numpy as np
import optuna
import pytest

from jbn import search
from jbn.errors import InputError
from jbn.search import Space, choice, integers, log_uniform, quantized, reverse_log_uniform, uniform, when
from jbn.search.studies import from_optuna

optuna.logging.set_verbosity(optuna.logging.WARNING)


def study_of(objective, n=30, **options):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0), **options)
    study.optimize(objective, n_trials=n, catch=(ZeroDivisionError,))
    return study


def every_kind(trial):
    trial.suggest_float("a", -1.0, 2.0)
    trial.suggest_float("b", 1e-3, 1.0, log=True)
    trial.suggest_float("c", 0.0, 1.0, step=0.25)
    trial.suggest_int("d", 2, 5)
    trial.suggest_int("e", 4, 64, log=True)
    trial.suggest_int("f", 8, 64, step=8)
    trial.suggest_categorical("g", ["x", 2, True])
    trial.suggest_categorical("h", [0.5])
    trial.suggest_float("1 - beta1", 1e-3, 1e-1, log=True)
    return trial.params["a"]


def test_distributions_are_axes():
    known = from_optuna(study_of(every_kind))
    assert known.space == Space(
        a=uniform(-1, 2),
        b=log_uniform(1e-3, 1.0),
        c=quantized(uniform(0, 1), 0.25),
        d=integers(2, 5),
        e=integers(4, 64, log=True),
        f=quantized(integers(8, 64), 8),
        g=choice("x", 2, True),
        h=0.5,
        beta1=reverse_log_uniform(0.9, 0.999),
    )
    for name, axis in known.space.items():
        axis.to_unit(known.configs[name].tolist())  # all lie on their axes
    np.testing.assert_array_equal(known.scores, -known.configs["a"])  # it minimizes


def test_a_name_that_only_looks_reversed_is_none():
    study = study_of(lambda trial: trial.suggest_float("1 - x", 0.0, 1.0))
    with pytest.raises(InputError, match="names must be identifiers, got '1 - x'"):
        from_optuna(study)


def test_states_become_scores():
    def objective(trial):
        x = trial.suggest_float("x", 0.0, 1.0)
        trial.report(5.0, 0)
        trial.report(x, 1)
        if trial.number == 1:
            raise optuna.TrialPruned
        if trial.number == 2:
            raise ZeroDivisionError
        return 2 * x

    study = study_of(objective, 4, direction="maximize")
    study.ask()  # runs, and is left out
    known = from_optuna(study)
    x = known.configs["x"]
    np.testing.assert_array_equal(known.scores, [2 * x[0], x[1], np.nan, 2 * x[3]])


def test_a_trial_that_was_pruned_without_a_number_has_no_score():
    study = optuna.create_study()
    trial = study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
    trial.report(float("nan"), 0)
    study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    assert np.isnan(from_optuna(study).scores).all()


def test_conditions_are_found():
    def objective(trial):
        optimizer = trial.suggest_categorical("optimizer", ["adam", "sgd", "lion"])
        if optimizer != "adam":
            momentum = trial.suggest_float("momentum", 0.0, 1.0)
            if optimizer == "sgd" and trial.suggest_categorical("nesterov", [True, False]):
                trial.suggest_int("late", 1, 3)
            return momentum
        return 0.0

    known = from_optuna(study_of(objective, 60))
    assert known.space == Space(
        optimizer=choice("adam", "sgd", "lion"),
        momentum=when(uniform(0, 1), optimizer=["sgd", "lion"]),
        nesterov=when(choice(True, False), optimizer="sgd"),
        late=when(integers(1, 3), nesterov=True),
    )
    adam = known.configs["optimizer"] == "adam"
    np.testing.assert_array_equal(np.isnan(known.configs["momentum"]), adam)
    assert {type(value) for value in known.configs["nesterov"]} == {bool, type(None)}


def test_what_no_choice_explains_has_no_condition():
    def objective(trial):
        trial.suggest_categorical("a", ["x", "y"])
        if trial.number % 2:
            trial.suggest_float("b", 0.0, 1.0)
        return 0.0

    known = from_optuna(study_of(objective))
    assert known.space == Space(a=choice("x", "y"), b=uniform(0, 1))
    assert np.isnan(known.configs["b"][::2]).all()


def test_axes_that_changed_span_all():
    def objective(trial):
        first = trial.number < 5
        trial.suggest_float("a", 0.0 if first else -2.0, 1.0)
        trial.suggest_int("b", 2 if first else 4, 8, step=2)
        trial.suggest_int("c", *((1, 9) if first else (2, 8)), step=2)
        return 0.0

    space = from_optuna(study_of(objective, 10)).space
    assert space == Space(a=uniform(-2, 1), b=quantized(integers(2, 8), 2), c=integers(1, 9))


def test_other_names():
    study = study_of(lambda trial: trial.suggest_float("opt/lr", 1e-3, 1.0, log=True))
    known = from_optuna(study, names={"opt/lr": "learning_rate"})
    assert known.space == Space(learning_rate=log_uniform(1e-3, 1.0))
    with pytest.raises(
        InputError, match=r"got 'opt/lr': say which it is, names=\{'opt/lr': 'learning_rate'\}"
    ):
        from_optuna(study)


def test_a_sampler_learns_from_what_is_known():
    """TPE asks near the best of 60 known ones at once, where it would draw at random otherwise."""
    space = Space(
        rate=log_uniform(1e-4, 1.0),
        size=choice(8, 16, 32, ordered=True),
        kind=choice("a", "b"),
        layers=integers(1, 4),
        momentum=when(uniform(0.0, 1.0), kind="a"),
    )
    configs = search.random(space, 60, key=0)
    scores = -np.abs(np.log10(configs["rate"]) + 1)
    scores[:3] = np.nan
    distances = {}
    for name, known in {"told": (configs, scores), "nothing": None}.items():
        asked = [search.optuna(space, n=8, key=key, known=known).ask() for key in range(3)]
        distances[name] = np.median([np.abs(np.log10(own["rate"]) + 1) for own in asked])
    assert distances["told"] < 0.5 * distances["nothing"]


def test_what_is_known_stands_where_the_sampler_would_have_drawn_it():
    space = Space(
        rate=log_uniform(1e-4, 1.0),
        size=choice(8, 16, 32, ordered=True),
        kind=choice("a", 2),
        layers=integers(1, 4),
        momentum=when(uniform(0.0, 1.0), kind="a"),
    )
    configs = {
        "rate": [1e-2, 2.0, 1.0, 1e-4],
        "size": [16, 8, 32, 8],
        "kind": ["a", "a", 2, "a"],
        "layers": [4, 1, 1, 2],
        "momentum": [0.25, 0.5, np.nan, np.nan],  # the last one lacks it, the second lies outside
    }
    own = search.optuna(space, known=(configs, np.arange(4.0)))
    trials = own._study.get_trials()
    assert [trial.params for trial in trials] == [
        {"rate": pytest.approx(0.5), "size": 1, "kind": "a", "layers": 3, "momentum": 0.25},
        {"rate": 1.0, "size": 2, "kind": 2, "layers": 0},
    ]
    assert [trial.value for trial in trials] == [0.0, 2.0]


def test_what_is_known_needs_all_names_and_scores():
    space = Space(rate=log_uniform(1e-4, 1.0), layers=integers(1, 4))
    with pytest.raises(InputError, match="must have all of a space's names, but lack layers"):
        search.optuna(space, known=({"rate": [0.1]}, [1.0]))
    with pytest.raises(InputError, match="one score a configuration"):
        search.optuna(space, known=({"rate": [0.1], "layers": [1]}, [1.0, 2.0]))


def two_objectives():
    study = optuna.create_study(directions=["minimize", "maximize"])
    study.optimize(lambda trial: (trial.suggest_float("x", 0, 1), 0.0), n_trials=1)
    return study


def no_option():
    return study_of(lambda trial: float(trial.suggest_categorical("x", [None, "a"]) is None), 5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: "study.db", r"must be one of Optuna's, got 'study.db': give optuna.load_study"),
        (two_objectives, "must have one objective, got one with 2"),
        (optuna.create_study, "must have a trial that has ended, got none"),
        (no_option, "x: a value must be a number"),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        from_optuna(make())


def test_two_parameters_of_one_name_are_refused():
    study = study_of(lambda trial: trial.suggest_float("a", 0, 1) + trial.suggest_float("b", 0, 1), 2)
    with pytest.raises(InputError, match="names must differ, but two parameters of the study are 'a'"):
        from_optuna(study, names={"b": "a"})


def test_optuna_goes_on_saying_what_it_said():
    study = study_of(lambda trial: trial.suggest_float("x", 0.0, 1.0), 1)
    optuna.logging.set_verbosity(optuna.logging.INFO)
    from_optuna(study)
    assert optuna.logging.get_verbosity() == optuna.logging.INFO
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def test_without_optuna_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InputError, match=r"install the extra jbn\[optuna\]"):
        from_optuna(None)
