"""The optimiser as a hyper-parameter: which a task offers, which a configuration has, and what it ignores."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jbn
from jbn.nn.model import HyperParameter
from jbn.task.hyper import Structure
from jbn.task.optimizer_choice import groups, offered, without_ignored
from jbn.task.optimizers import OPTIMIZERS

DATA = jbn.data.digits()
MODEL = jbn.mlp(layers=1, hidden_units=8)
KEY = jax.random.key(3)


def heavy_ball(learning_rate, inertia):
    return optax.sgd(learning_rate, momentum=inertia)


OWN = jbn.optimizer(heavy_ball, name="mine", inertia=0.8)


def task(optimizer="adam", model=MODEL):
    return jbn.Task(model=model, data=DATA, optimizer=optimizer)


def names(*values):
    return np.array(values, object)


# what is offered


@pytest.mark.parametrize("first", OPTIMIZERS)
def test_a_single_one_is_the_default_and_every_name_is_there(first):
    found = offered(first)
    assert next(iter(found)) == first
    assert found == dict(OPTIMIZERS)


def test_one_of_one_s_own_is_there_beside_the_names_and_a_sequence_says_them_all():
    assert list(offered(OWN)) == ["mine", *OPTIMIZERS]
    assert offered(["lion", OWN]) == {"lion": OPTIMIZERS["lion"], "mine": OWN}
    assert list(offered((OWN, "lion"))) == ["mine", "lion"]


def test_the_first_of_a_sequence_is_the_default():
    assert task((OWN, "adam")).problem == task(OWN).problem
    assert task((OWN, "adam")).defaults() == task(OWN).defaults()
    assert task(("sgd", OWN)).hyperparameters == task("sgd").hyperparameters


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((), "a task needs at least 1 optimizer, but got none"),
        (("adam", "sgd", "adam"), "must differ in name, but 'adam' comes twice; name your own"),
        ((jbn.optimizer(optax.sgd), jbn.optimizer(optax.adam)), "'own' comes twice"),
        (("adam", "sdg"), "unknown optimizer 'sdg': did you mean 'sgd'"),
        (["adam", None], "optimizer must be a name .* but got NoneType"),
        (("adam", optax.sgd(0.1)), "but got GradientTransformation"),
        (optax.sgd(0.1), "but got GradientTransformation"),
    ],
)
def test_what_cannot_be_offered_is_said_when_the_task_is_made(given, message):
    with pytest.raises(jbn.InputError, match=message):
        task(given)


@pytest.mark.parametrize("name", ["dropout", "batch_size", "optimizer"])
def test_a_taken_name_is_said_of_every_one_in_a_sequence(name):
    own = jbn.optimizer(lambda learning_rate, **others: optax.sgd(learning_rate), **{name: 0.5})
    with pytest.raises(jbn.InputError, match=f"{name!r} of the optimizer is also one of the model"):
        task(("adam", own))


def clashing():
    """A model with a hyper-parameter that adamw and lion have too."""
    entry = HyperParameter("weight_decay", "traced", 0.5)
    return MODEL._replace(hyperparameters=(*MODEL.hyperparameters, entry))


def test_a_name_that_the_model_has_too_is_said_of_the_one_that_is_chosen():
    own = task(model=clashing())
    own.check({"optimizer": names("adam", "sgd"), "weight_decay": np.array([0.5, -7.0])})
    with pytest.raises(jbn.InputError, match="weight_decay must be a number, but got nan"):
        own.check({"optimizer": names("adam"), "weight_decay": np.array([np.nan])})
    with pytest.raises(jbn.InputError, match="'weight_decay' of the optimizer is also one of the model"):
        own.check({"optimizer": names("adam", "lion")})


def test_a_model_may_have_no_optimizer_of_its_own():
    entry = HyperParameter("optimizer", "compiled", "inner", options=("inner", "outer"))
    with pytest.raises(
        jbn.InputError, match="the model has one of this name; give the model's own another name"
    ):
        task(model=MODEL._replace(hyperparameters=(entry,)))


# the task of one optimiser


def test_the_task_with_one_of_them_is_that_of_this_one_alone():
    own = task(("adam", OWN))
    assert own.with_optimizer(None) is own
    assert own.with_optimizer("mine") is own.with_optimizer("mine")
    assert own.with_optimizer("mine").problem == task(OWN).problem
    assert own.with_optimizer("mine").defaults() == task(OWN).defaults()
    assert own.with_optimizer("adam").with_optimizer("adam").problem == task("adam").problem
    assert task("sgd").with_optimizer("lion").defaults()["learning_rate"] == 1e-4


def test_it_shares_the_arrays_and_keeps_what_is_settled():
    own = task().settled({}, epochs=7)
    lion = own.with_optimizer("lion")
    assert lion.arrays() is own.arrays()
    assert lion.defaults()["schedule_epochs"] == 7


def test_a_structure_names_its_optimizer_if_it_was_chosen():
    assert Structure((("layers", 1), ("optimizer", "sgd"))).optimizer == "sgd"
    assert Structure((("layers", 1),)).optimizer is None


# groups


def test_groups_come_in_the_order_in_which_they_are_offered():
    configs = {"optimizer": names("sgd", "mine", "adam", "sgd"), "x": np.arange(4)}
    found = groups(offered((OWN, "adam", "sgd", "lion")), configs)
    assert [(own.optimizer, own.rows.tolist(), own.expected) for own in found] == [
        ("mine", [1], 1),
        ("adam", [2], 1),
        ("sgd", [0, 3], 2),
    ]
    assert found[2].of(configs)["x"].tolist() == [0, 3]


def test_where_nothing_is_chosen_there_is_one_group_of_all():
    configs = {"x": np.arange(3)}
    (found,) = groups(offered(("adam", OWN)), configs)
    assert (found.optimizer, found.rows.tolist(), found.expected) == (None, [0, 1, 2], 3)
    assert found.of(configs) is configs


def test_what_a_space_may_choose_is_there_without_rows_and_all_are_expected_equally_often():
    space = jbn.Space(optimizer=jbn.choice("sgd", "adam", "lion"), beta1=0.5)
    configs = jbn.search.random(space, 4, key=0)
    configs["optimizer"] = names("adam", "sgd", "adam", "adam")
    found = groups(offered("adam"), configs)
    assert [(own.optimizer, own.rows.tolist()) for own in found] == [
        ("adam", [0, 2, 3]),
        ("lion", []),
        ("sgd", [1]),
    ]
    assert [own.expected for own in found] == [4 / 3] * 3
    assert found[0].of(configs).space is space
    configs["optimizer"] = names("rmsprop", "sgd", "adam", "adam")  # left the space
    assert [own.expected for own in groups(offered("adam"), configs)] == [2, 0, 1, 1]


WRONG = [
    (
        names("adam", "sdg"),
        "adam",
        "unknown optimizer 'sdg': did you mean 'sgd'.*Known are: adam, adamw, lion",
    ),
    (names("mien"), ("adam", OWN), "unknown optimizer 'mien': did you mean 'mine'.*Known are: adam, mine"),
    (
        names("adam", None),
        "adam",
        "optimizer must be a Python string .*one of adam, adamw.*got NoneType",
    ),
    (np.array([np.nan]), "adam", "optimizer must be a Python string .* got float"),
    (names(OWN.transform), "adam", r"got _Own; one of your own goes to the task, Task\(optimizer="),
    (
        names("sgd"),
        ("adam", OWN),
        r"one of the task's, adam, mine, but got sgd; .*optimizer=\(\.\.\., 'sgd'\)",
    ),
]


@pytest.mark.parametrize(("column", "given", "message"), WRONG)
def test_an_optimizer_that_is_not_offered(column, given, message):
    for wrong in (groups, without_ignored):
        with pytest.raises(jbn.InputError, match=message):
            wrong(offered(given), jbn.search.Configs({"optimizer": column}))
    with pytest.raises(jbn.InputError, match=message):
        task(given).check({"optimizer": column})
    with pytest.raises(jbn.InputError, match=message):
        jbn.train_function(task(given), epochs=1)({"optimizer": column.tolist()[-1]}, KEY)


def test_what_a_space_may_choose_must_be_offered_also_where_it_was_not_drawn():
    configs = jbn.search.random(jbn.Space(optimizer=jbn.choice("adam", "sdg")), 3, key=0)
    configs["optimizer"] = names("adam", "adam", "adam")
    with pytest.raises(jbn.InputError, match="unknown optimizer 'sdg'"):
        task().check(configs)


# what is ignored


def test_what_a_row_ignores_is_nan_or_none():
    space = jbn.Space(optimizer=jbn.choice("adam", "sgd", "mine"), layers=2)
    configs = jbn.search.Configs(
        {
            "optimizer": ["adam", "sgd", "mine", "adam"],
            "learning_rate": [0.1, 0.2, 0.3, 0.4],
            "beta1": [0.5, 0.6, 0.7, 0.8],
            "nesterov": [True, False, True, True],
            "inertia": [1, 2, 3, 4],
            "layers": [1, 2, 3, 4],
            "weight_decay": [None] * 4,
        },
        space=space,
    )
    found = without_ignored(offered(("adam", "sgd", OWN)), configs)
    assert found.space is space
    np.testing.assert_array_equal(found["beta1"], [0.5, np.nan, np.nan, 0.8])
    np.testing.assert_array_equal(found["inertia"], [np.nan, np.nan, 3, np.nan])
    assert found["nesterov"].tolist() == [None, False, None, None]
    for name in ("optimizer", "learning_rate", "layers", "weight_decay"):
        assert found[name].tolist() == configs[name].tolist()
    assert configs["beta1"].tolist() == [0.5, 0.6, 0.7, 0.8]


def test_also_where_nothing_was_drawn_for_the_one_that_has_it():
    space = jbn.Space(optimizer=jbn.choice("adam", "sgd"), optimizer_momentum=0.5)
    configs = jbn.search.Configs({"optimizer": ["adam"], "optimizer_momentum": [0.5]}, space=space)
    assert np.isnan(without_ignored(offered("adam"), configs)["optimizer_momentum"]).all()


def test_without_a_choice_nothing_is_ignored():
    configs = jbn.search.Configs({"beta1": [0.5]})
    assert without_ignored(offered("adam"), configs) is configs


# checks


MIXED = {"optimizer": ["adam", "sgd", "adam"], "learning_rate": [0.1, 0.1, 0.2]}


@pytest.mark.parametrize(
    "columns",
    [
        {"beta1": [0.5, 7.0, 0.5], "optimizer_momentum": [2.0, 0.5, np.nan]},
        {"beta1": [0.5, np.nan, 0.5], "nesterov": [None, True, None]},
        {"beta1": [0.5, None, 0.5], "epsilon": [1e-8, "none", 1e-8]},
        {"weight_decay": [np.nan] * 3, "layers": [1, 2, 3], "batch_size": [32, 64, 32]},
        {"weight_decay": [None] * 3},
    ],
)
def test_what_a_row_ignores_may_be_anything(columns):
    task().check({**MIXED, **columns})


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"beta1": [0.5, 0.5, 1.0]}, r"beta1 must .* below 1, but got 1.0 \(where optimizer is adam\)"),
        ({"beta1": [np.nan, 0.5, 0.5]}, r"beta1 must .* but got nan \(where optimizer is adam\)"),
        (
            {"nesterov": [True, None, True]},
            r"nesterov must be one of False, True, but got None \(where .* sgd",
        ),
        ({"learning_rate": [0.1, -1.0, 0.1]}, r"learning_rate must .* got -1.0 \(where optimizer is sgd\)"),
        (
            {"weight_decay": [0.1, 0.1, 0.1]},
            "unknown hyper-parameter 'weight_decay': adamw, lion have it, but optimizer is always one of adam, sgd; "
            "leave it out, or all NaN",
        ),
        ({"weight_decay": [np.nan, 0.1, np.nan]}, "unknown hyper-parameter 'weight_decay'"),
        ({"nothing": [np.nan] * 3}, "unknown hyper-parameter 'nothing'"),
        ({"optimizer_momentun": [0.1] * 3}, "did you mean 'optimizer_momentum'"),
        ({"layers": [1, 2, 0]}, "layers must be .* but got 0$"),
        ({"batch_size": [32, 5000, 32]}, "batch_size must be at most the 1078 rows of the training part"),
    ],
)
def test_what_is_wrong_in_a_row_of_its_own(columns, message):
    with pytest.raises(jbn.InputError, match=message):
        task().check({**MIXED, **columns})


def test_limits_are_those_of_the_row_s_own_optimizer():
    entry = HyperParameter("inertia", "traced", 0.5, low=0, high=1)
    rate = OPTIMIZERS["sgd"].hyperparameters[0]
    strict = jbn.Optimizer("strict", (rate, entry), OPTIMIZERS["sgd"].transform)
    free = jbn.optimizer(heavy_ball, name="free", inertia=0.5)
    own = task((strict, free))
    own.check({"optimizer": names("strict", "free"), "inertia": np.array([1.0, 2.0])})
    with pytest.raises(
        jbn.InputError, match=r"inertia must .* at most 1, but got 2.0 \(where optimizer is strict\)"
    ):
        own.check({"optimizer": names("free", "strict"), "inertia": np.array([1.0, 2.0])})


def test_without_a_choice_the_error_for_what_another_optimizer_has_is_the_usual_one():
    for given in ("adam", ("adam", "sgd")):
        with pytest.raises(jbn.InputError, match="unknown hyper-parameter 'optimizer_momentum'"):
            task(given).check({"optimizer_momentum": [0.9]})


def test_other_spellings_of_the_name_are_understood():
    with pytest.raises(jbn.InputError, match="unknown hyper-parameter 'optimiser': did you mean 'optimizer'"):
        task().check({"optimiser": ["adam"]})
    with pytest.raises(jbn.InputError, match="did you mean 'optimizer'"):
        jbn.train_function(task(), epochs=1)({"optimiser": "adam"}, KEY)


def test_a_single_configuration_may_be_checked():
    task().check({"optimizer": "sgd", "learning_rate": 0.1, "nesterov": True})
    with pytest.raises(jbn.InputError, match="unknown hyper-parameter 'beta1'"):
        task().check({"optimizer": "sgd", "beta1": 0.1})


# train_function


@pytest.mark.parametrize("name", ["adam", "sgd", "lion", "mine"])
def test_a_run_is_that_of_its_optimizer_alone_whatever_else_the_configuration_has(name):
    own = task(("adam", "sgd", "lion", OWN))
    config = {"learning_rate": 0.01, "batch_size": 256}
    others = {"beta1": 0.5, "inertia": 0.3, "nesterov": True, "weight_decay": np.nan}
    has = {entry.name for entry in offered(OWN)[name].hyperparameters}
    mine = {key: value for key, value in others.items() if key in has and key != "weight_decay"}
    ignored = {key: value for key, value in others.items() if key not in has}
    found = jbn.train_function(own, epochs=1)({"optimizer": name, **config, **mine, **ignored}, KEY)
    alone = jbn.train_function(task(offered(OWN)[name]), epochs=1)({**config, **mine}, KEY)
    chex.assert_trees_all_equal(found, alone)


def test_its_defaults_hold():
    train = jbn.train_function(task(), epochs=1)
    small = {"optimizer": "lion", "batch_size": 256}
    given = {**small, "learning_rate": 1e-4, "beta2": 0.99, "weight_decay": 1e-3}
    chex.assert_trees_all_equal(train(small, KEY), train(given, KEY))


def test_its_numbers_may_be_traced_also_those_it_ignores():
    train = jbn.train_function(task(), epochs=1)

    def run(momentum, beta1):
        config = {"optimizer": "sgd", "batch_size": 256, "optimizer_momentum": momentum, "beta1": beta1}
        return train(config, KEY)[0].train_loss

    losses = jax.jit(jax.vmap(run))(jnp.array([0.0, 0.0, 0.9]), jnp.array([0.1, 0.9, 0.9]))
    assert losses[0] == losses[1] != losses[2]


def test_the_name_must_be_a_python_string():
    train = jbn.train_function(task(), epochs=1)
    with pytest.raises(jbn.InputError, match=r"optimizer must be a Python string .*Tracer"):
        jax.jit(lambda number: train({"optimizer": number}, KEY)[0])(1)
    with pytest.raises(jbn.InputError, match="unknown hyper-parameter 'nothing'"):
        train({"optimizer": "sgd", "nothing": 1}, KEY)
