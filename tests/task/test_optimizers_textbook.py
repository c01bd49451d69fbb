"""AdamW, Lion and RMSprop against float64 NumPy and against optax, and what all named optimisers have in common."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from jbn.task.hyper import numbers
from jbn.task.optimizers import OPTIMIZERS
from jbn.task.transforms import Beta

STEPS = 25
SHAPES = {"kernel": (40, 30), "bias": (3,), "scale": ()}  # one large leaf, two small ones
CASES = {
    "adamw": {"learning_rate": 1e-2, "beta1": 0.9, "beta2": 0.99, "epsilon": 1e-6, "weight_decay": 0.3},
    "lion": {"learning_rate": 1e-2, "beta1": 0.9, "beta2": 0.95, "weight_decay": 0.3},
    "rmsprop": {"learning_rate": 1e-2, "beta2": 0.9, "epsilon": 1e-6, "optimizer_momentum": 0.7},
}
REFERENCES = {
    "adamw": lambda learning_rate, beta1, beta2, epsilon, weight_decay: optax.adamw(
        learning_rate, beta1, beta2, epsilon, weight_decay=weight_decay
    ),
    "lion": lambda learning_rate, beta1, beta2, weight_decay: optax.lion(
        learning_rate, beta1, beta2, weight_decay=weight_decay
    ),
    "rmsprop": lambda learning_rate, beta2, epsilon, optimizer_momentum: optax.rmsprop(
        learning_rate, beta2, epsilon, eps_in_sqrt=False, momentum=optimizer_momentum
    ),
}


def textbook_adamw(p, gradients, learning_rate, beta1, beta2, epsilon, weight_decay):
    m = v = np.zeros(p.shape)
    for t, g in enumerate(gradients, start=1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        step = (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + epsilon)
        p = p - learning_rate * (step + weight_decay * p)
    return p


def textbook_lion(p, gradients, learning_rate, beta1, beta2, weight_decay):
    m = np.zeros(p.shape)
    for g in gradients:
        p = p - learning_rate * (np.sign(beta1 * m + (1 - beta1) * g) + weight_decay * p)
        m = beta2 * m + (1 - beta2) * g
    return p


def textbook_rmsprop(p, gradients, learning_rate, beta2, epsilon, optimizer_momentum=0.0):
    m = v = np.zeros(p.shape)
    for g in gradients:
        v = beta2 * v + (1 - beta2) * g**2
        m = optimizer_momentum * m + g / (np.sqrt(v) + epsilon)
        p = p - learning_rate * m
    return p


TEXTBOOK = {"adamw": textbook_adamw, "lion": textbook_lion, "rmsprop": textbook_rmsprop}


def start():
    rng = np.random.default_rng(1)
    return {name: rng.normal(size=shape) for name, shape in SHAPES.items()}


def gradients():
    """Noise around a direction, with sizes over several decades, and one entry that is always 0."""
    rng = np.random.default_rng(0)
    tree = {
        name: rng.normal(0.5, 1, (STEPS, *shape)) * 10.0 ** rng.integers(-3, 2, shape)
        for name, shape in SHAPES.items()
    }
    tree["bias"][:, 1] = 0
    return tree


def in_numpy(name, hyper):
    return {leaf: TEXTBOOK[name](p, gradients()[leaf], **hyper) for leaf, p in start().items()}


@functools.partial(jax.jit, static_argnums=0)
def trained(make, hyper, params, gradients):
    """The parameters after all gradients; the transformation is made from traced numbers."""
    transform = make(hyper)

    def step(carry, gradient):
        params, state = carry
        updates, state = transform.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), None

    return jax.lax.scan(step, (params, transform.init(params)), gradients)[0][0]


def by_name(name, hyper):
    return OPTIMIZERS[name].transform(hyper, hyper["learning_rate"])


MADE = {
    name: functools.partial(by_name, name) for name in OPTIMIZERS
}  # one object a name: jit knows it again


def own(name, hyper):
    """Trained by the optimiser of that name, its numbers as a sweep hands them over."""
    known = {entry.name: entry for entry in OPTIMIZERS[name].hyperparameters}
    arrays = jax.tree.map(lambda a: jnp.asarray(a, float), (start(), gradients()))
    return trained(MADE[name], numbers(known, hyper), *arrays)


@pytest.mark.parametrize("name", CASES)
def test_equal_to_the_textbook_in_float64(name):
    with jax.enable_x64(True):
        chex.assert_trees_all_close(own(name, CASES[name]), in_numpy(name, CASES[name]), rtol=1e-10)


@pytest.mark.parametrize("name", CASES)
def test_equal_to_optax_in_float64(name):
    def reference(hyper):
        return REFERENCES[name](**hyper)

    with jax.enable_x64(True):
        arrays = jax.tree.map(jnp.asarray, (CASES[name], start(), gradients()))
        chex.assert_trees_all_close(own(name, CASES[name]), trained(reference, *arrays), rtol=1e-10)


@pytest.mark.parametrize("name", CASES)
def test_equal_to_the_textbook_in_float32(name):
    trained = own(name, CASES[name])
    chex.assert_type(jax.tree.leaves(trained), jnp.float32)
    expected = jax.tree.map(np.float32, in_numpy(name, CASES[name]))
    chex.assert_trees_all_close(trained, expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", ["adamw", "rmsprop"])
def test_exact_in_float32_where_beta2_is_close_to_1(name):
    hyper = {**CASES[name], "beta2": 0.99999}
    moved = jax.tree.map(lambda a, b: a - b.astype(np.float32), own(name, hyper), start())
    expected = jax.tree.map(lambda a, b: a - b, in_numpy(name, hyper), start())
    for leaf in SHAPES:
        assert_allclose(np.linalg.norm(moved[leaf]), np.linalg.norm(expected[leaf]), rtol=1e-5)


def test_lion_in_float32_knows_1_minus_beta2_better_than_float32_does():
    """Hand-made: after a gradient of 1, m is 1e-5; c changes its sign at a gradient of -9e-5.

    With 1 - 0.99999 taken in float32, m would be 1.00136e-5 and c still positive at -9.005e-5.
    """
    known = {entry.name: entry for entry in OPTIMIZERS["lion"].hyperparameters}
    hyper = numbers(known, {"beta1": 0.9, "beta2": 0.99999, "weight_decay": 0.0})
    transform = by_name("lion", {**hyper, "learning_rate": jnp.asarray(1.0)})
    params = jnp.zeros(3)
    first, state = transform.update(jnp.ones(3), transform.init(params), params)
    second, _ = transform.update(jnp.array([-8.995e-5, -9.005e-5, 0.0]), state, params)
    assert_array_equal(first, [-1, -1, -1])
    assert_array_equal(second, [-1, 1, -1])
    assert float(1 - jnp.float32(0.99999)) > 1.001e-5


def test_weight_decay_shrinks_every_leaf_by_the_learning_rate_times_itself():
    """At gradients of 0 there is nothing else: p -> p (1 - learning_rate weight_decay)."""
    for name in ("adamw", "lion"):
        known = {entry.name: entry for entry in OPTIMIZERS[name].hyperparameters}
        hyper = numbers(known, {"learning_rate": 0.5, "weight_decay": 0.1})
        params = jax.tree.map(lambda a: jnp.asarray(a, float), start())
        none = jax.tree.map(lambda a: jnp.zeros((STEPS, *a.shape)), params)
        shrunk = jax.tree.map(lambda a: a * 0.95**STEPS, params)
        chex.assert_trees_all_close(trained(MADE[name], hyper, params, none), shrunk, rtol=1e-5)


def test_rmsprop_without_momentum_keeps_no_trace_of_it():
    hyper = {name: value for name, value in CASES["rmsprop"].items() if name != "optimizer_momentum"}
    known = {entry.name: entry for entry in OPTIMIZERS["rmsprop"].hyperparameters}
    with jax.enable_x64(True):
        chex.assert_trees_all_close(own("rmsprop", hyper), in_numpy("rmsprop", hyper), rtol=1e-10)

    def entries(hyper):
        state = jax.eval_shape(lambda hyper: by_name("rmsprop", hyper).init(start()), hyper)
        return sum(leaf.size for leaf in jax.tree.leaves(state))

    assert entries(numbers(known, CASES["rmsprop"])) == 2 * entries(numbers(known, hyper))
    assert entries(numbers(known, {"optimizer_momentum": 0.0})) == 2 * entries(numbers(known, hyper))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_entry_depends_on_itself_alone(name):
    """Bit for bit, whatever the other entries are; and 0 stays 0 where all gradients are 0."""
    known = {entry.name: entry for entry in OPTIMIZERS[name].hyperparameters}
    hyper = numbers(known, {"learning_rate": 0.1})
    params, given = jax.tree.map(lambda a: jnp.asarray(a, float), (start(), gradients()))
    kept = {leaf: np.random.default_rng(2).random(shape) < 0.5 for leaf, shape in SHAPES.items()}
    lonely = jax.tree.map(lambda a, k: jnp.where(k, a, 0), params, kept)
    silent = jax.tree.map(lambda a, k: jnp.where(k[None] if k.ndim else k, a, 0), given, kept)
    every, alone = trained(MADE[name], hyper, params, given), trained(MADE[name], hyper, lonely, silent)
    expected = jax.tree.map(lambda a, k: jnp.where(k, a, 0), every, kept)
    assert kept["kernel"].any()
    chex.assert_trees_all_equal(alone, expected)


@pytest.mark.parametrize("name", CASES)
def test_new_numbers_compile_nothing_new_and_vmap_equals_a_loop(name):
    known, traces = {entry.name: entry for entry in OPTIMIZERS[name].hyperparameters}, []

    def updated(hyper):
        traces.append(name)
        transform, gradient = by_name(name, hyper), jnp.array([3.0, -0.1])
        return transform.update(gradient, transform.init(gradient), jnp.ones(2))[0]

    settings = [CASES[name], {**CASES[name], "learning_rate": 2e-2, "beta2": 0.5}]
    alone = jax.jit(updated)
    first, second = (alone(numbers(known, own)) for own in settings)
    assert traces == [name]
    assert not np.allclose(first, second)
    batch = {key: np.array([own[key] for own in settings]) for key in CASES[name]} | {
        "decay_rate": np.zeros(2),
        "schedule_epochs": np.ones(2),
    }
    assert_allclose(jax.jit(jax.vmap(updated))(numbers(known, batch)), np.stack([first, second]), rtol=1e-6)


def test_beta_is_a_pair():
    value = numbers({entry.name: entry for entry in OPTIMIZERS["lion"].hyperparameters}, {"beta2": 0.999999})
    assert isinstance(value["beta2"], Beta)
    assert_allclose(value["beta2"].complement, 1e-6, rtol=1e-6)
