"""Optimisers that a user makes from optax: what a space may vary of them, and what is said of wrong ones."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import jbn
from jbn.task.hyper import numbers
from jbn.task.optimizers import OPTIMIZERS, named

KEY = jax.random.key(3)


def data():
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    x = rng.normal(size=(60, 4)) + y[:, None]
    return jbn.data.arrays(
        x[:40], y[:40], x_validation=x[40:50], y_validation=y[40:50], x_test=x[50:], y_test=y[50:]
    )


DATA = data()
SMALL = jbn.mlp(layers=1, hidden_units=5)


def heavy_ball(learning_rate, inertia):
    return optax.sgd(learning_rate, momentum=inertia)


def task(optimizer, model=SMALL):
    return jbn.Task(model=model, data=DATA, optimizer=optimizer)


def swept(own, configs):
    """Final kernels of the output layer, one a configuration, trained by one mapped program."""
    train = jbn.train_function(own, epochs=2)

    def run(config):
        return train({**config, "batch_size": 8}, KEY)[1]["output"]["kernel"]

    return jax.jit(jax.vmap(run))({name: jnp.asarray(values) for name, values in configs.items()})


def test_its_hyper_parameters_sweep_like_those_of_a_named_one():
    """Momentum of one's own making, mapped over learning rate, inertia and decay, against "sgd"."""
    rates, weights, decays = [0.1, 0.3, 0.01], [0.0, 0.9, 0.5], [0.0, 1.0, 0.5]
    shared = {"learning_rate": rates, "decay_rate": decays}
    own = swept(task(jbn.optimizer(heavy_ball, inertia=0.9)), {**shared, "inertia": weights})
    named = swept(task("sgd"), {**shared, "optimizer_momentum": weights})
    assert_array_equal(own, named)
    assert len({kernel.tobytes() for kernel in np.asarray(own)}) == 3


def test_defaults_are_the_factory_s_and_the_learning_rate_s_own():
    own = jbn.optimizer(heavy_ball, inertia=0.25, learning_rate=0.5)
    assert {entry.name: entry.default for entry in own.hyperparameters} == {
        "learning_rate": 0.5,
        "decay_rate": 0.0,
        "schedule": "inverse",
        "schedule_epochs": 1.0,
        "warmup": 0.0,
        "clip_norm": 0.0,
        "inertia": 0.25,
    }
    assert {entry.kind for entry in own.hyperparameters} == {"traced", "compiled"}
    defaults = task(own).defaults()
    assert (defaults["inertia"], defaults["learning_rate"]) == (0.25, 0.5)
    plain = {entry.name: entry.default for entry in jbn.optimizer(optax.sgd).hyperparameters}
    assert plain["learning_rate"] == 1e-3


def test_a_name_of_the_vocabulary_keeps_its_limits_and_comes_as_a_plain_scalar():
    given = {}

    def factory(learning_rate, beta1, epsilon):
        given.update(learning_rate=learning_rate, beta1=beta1, epsilon=epsilon)
        return optax.adam(learning_rate, beta1, eps=epsilon)

    own = jbn.optimizer(factory, beta1=0.5, epsilon=1e-3)
    with pytest.raises(jbn.InputError, match="beta1 must be a number of at least 0 and below 1, but got 1"):
        task(own).check({"beta1": [0.5, 1.0]})
    known = {entry.name: entry for entry in own.hyperparameters}
    own.transform(numbers(known, {"beta1": 0.75}), jnp.asarray(0.1))
    assert {name: (value.shape, float(value)) for name, value in given.items()} == {
        "learning_rate": ((), float(np.float32(0.1))),
        "beta1": ((), 0.75),
        "epsilon": ((), float(np.float32(1e-3))),
    }


def test_the_same_factory_makes_equal_optimizers_and_another_lambda_another():
    first, second = (jbn.optimizer(heavy_ball, inertia=0.9) for _ in range(2))
    assert first == second
    assert hash(first) == hash(second)
    assert task(first).problem == task(second).problem
    assert first != jbn.optimizer(heavy_ball, inertia=0.8)
    assert first != jbn.optimizer(lambda learning_rate, inertia: optax.sgd(learning_rate), inertia=0.9)


def test_the_named_ones_are_known_to_be_elementwise_and_others_are_not_until_one_says_so():
    assert {own.elementwise for own in OPTIMIZERS.values()} == {True}
    assert jbn.optimizer(optax.sgd).elementwise is None
    assert jbn.optimizer(optax.sgd, elementwise=True).elementwise is True
    assert jbn.optimizer(optax.sgd, elementwise=False).elementwise is False


def test_its_name_is_the_one_given():
    assert task(jbn.optimizer(optax.sgd, name="mine")).problem.optimizer.name == "mine"
    assert jbn.optimizer(optax.sgd).name == "own"
    assert task("lion").problem.optimizer.name == "lion"
    own = jbn.optimizer(functools.partial(optax.sgd, nesterov=True))
    assert named(own) is own
    assert isinstance(own, jbn.Optimizer)


@pytest.mark.parametrize(
    ("factory", "options", "message"),
    [
        (optax.sgd, {"name": "adam"}, "the name 'adam' is that of an optimizer of jbn; give yours another"),
        (
            optax.sgd(0.1),
            {},
            r"made from a function .* but got GradientTransformation.*: lambda learning_rate",
        ),
        ("adam", {}, "made from a function of the learning rate, but got str; pass the function"),
        (
            optax.adafactor,
            {"decay_rate": 0.8},
            "decay_rate is a hyper-parameter of every optimizer already.*another name",
        ),
        (heavy_ball, {}, "must take learning_rate by name.*missing a required argument: 'inertia'"),
        (heavy_ball, {"inertai": 0.9}, "must take learning_rate, inertai by name"),
        (lambda rate: optax.sgd(rate, 0.5), {}, "must take learning_rate by name.*'rate'"),
        (heavy_ball, {"inertia": "0.9"}, "default of inertia must be a number, but got '0.9'; .* inside the"),
        (heavy_ball, {"inertia": None}, "default of inertia must be a number, but got None"),
        (heavy_ball, {"inertia": True}, "default of inertia must be a number, but got True"),
        (heavy_ball, {"inertia": np.inf}, "inertia must be a number, but got inf"),
        (heavy_ball, {"inertia": 0.9, "learning_rate": -1}, "learning_rate must be a number of at least 0"),
    ],
)
def test_what_is_wrong_with_a_factory_is_said_at_once(factory, options, message):
    with pytest.raises(jbn.InputError, match=message):
        jbn.optimizer(factory, **options)


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        ("adma", "unknown optimizer 'adma': did you mean 'adam'"),
        (optax.adam(0.1), r"optimizer must be a name \(adam, .*but got GradientTransformation.*; wrap what"),
        (None, "optimizer must be a name .* or what jbn.optimizer returns, but got NoneType"),
    ],
)
def test_what_is_no_optimizer_is_said_when_the_task_is_made(optimizer, message):
    with pytest.raises(jbn.InputError, match=message):
        task(optimizer)


@pytest.mark.parametrize("name", ["dropout", "batch_size"])
def test_a_hyper_parameter_of_the_model_s_name(name):
    own = jbn.optimizer(lambda learning_rate, **others: optax.sgd(learning_rate), **{name: 0.5})
    with pytest.raises(
        jbn.InputError, match=f"{name!r} of the optimizer is also one of the model or the data"
    ):
        task(own)


def test_a_factory_that_returns_no_transformation():
    train = jbn.train_function(task(jbn.optimizer(lambda learning_rate: learning_rate)), epochs=1)
    with pytest.raises(jbn.InputError, match=r"must return an optax\.GradientTransformation, but returned"):
        jax.eval_shape(lambda: train({}, KEY))


def test_optax_s_own_numbers_come_in_by_closure():
    def clipped(limit):
        return lambda learning_rate: optax.chain(optax.clip(limit), optax.sgd(learning_rate))

    small, none = (
        swept(task(jbn.optimizer(clipped(limit))), {"learning_rate": [0.1]}) for limit in (1e-6, 1e6)
    )
    start = swept(task("sgd"), {"learning_rate": [0.0]})
    assert_allclose(small, start, atol=1e-5)
    assert np.abs(none - start).max() > 1e-3
