"""A member padded to larger arrays trains like one with arrays of its own size, for every named optimiser."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jbn
from jbn.task import member as members
from jbn.task.hyper import Structure, bind, numbers
from jbn.task.losses import LOSSES
from jbn.task.member import Problem, Rows
from jbn.task.optimizers import OPTIMIZERS

SIZES, CAPACITIES = {"hidden_units_1": 3, "hidden_units_2": 4}, {"hidden_units_1": 5, "hidden_units_2": 7}
FIXED = {"layers": 2, "batch_size": 8, "batch_norm": "before", "bias": True}
NUMBERS = {
    "learning_rate": 0.05,
    "decay_rate": 0.5,
    "weight_decay": 0.2,
    "optimizer_momentum": 0.8,
    "beta1": 0.8,
    "beta2": 0.95,
    "epsilon": 1e-6,
}
EPOCHS, FEATURES, CLASSES = 4, 6, 3


def rows():
    draws = np.random.default_rng(0)
    y = np.arange(24) % CLASSES
    return Rows(jnp.asarray(draws.normal(size=(24, FEATURES)) + y[:, None]), jnp.asarray(y, jnp.int32))


def trained(problem, structure, traced, rows):
    """Parameters and statistics after 12 steps, the second and later epochs at a lower learning rate."""
    key, hyper = jax.random.key(5), bind(structure, traced)

    def epoch(_, member):
        return members.train_segment(problem, hyper, member, rows, key)[0]

    final = jax.lax.fori_loop(0, EPOCHS, epoch, members.init(problem, hyper, key, rows))
    return final.params, final.stats


@functools.partial(jax.jit, static_argnums=(0, 1))
def both(problem, fixed, traced, sizes, rows):
    """The same member padded and with exact shapes."""
    wide = Structure(tuple(sorted((dict(fixed) | CAPACITIES).items())), tuple(sorted(CAPACITIES)))
    padded = trained(problem, wide, {**traced, **sizes}, rows)
    return padded, trained(problem, wide.sized(SIZES), traced, rows)


def compare(optimizer, activation):
    """Padded and exact parameters and statistics, and how far apart their leaves are."""
    with jax.enable_x64(True):
        model = jbn.mlp()
        problem = Problem(model, optimizer, LOSSES["cross_entropy"], CLASSES)
        known = {entry.name: entry for entry in (*optimizer.hyperparameters, *model.hyperparameters)}
        traced = numbers(known, {key: value for key, value in NUMBERS.items() if key in known})
        fixed = tuple(sorted({**FIXED, "activation": activation}.items()))
        sizes = {key: np.asarray(size, np.int32) for key, size in SIZES.items()}
        padded, exact = jax.tree.map(np.asarray, both(problem, fixed, traced, sizes, rows()))
    return padded, jax.tree.map(distance, exact, padded)


def distance(own, wide):
    return np.linalg.norm(wide[tuple(map(slice, own.shape))] - own) / np.linalg.norm(own)


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_padded_equals_exact(name, activation):
    (params, _), apart = compare(OPTIMIZERS[name], activation)
    assert max(jax.tree.leaves(apart)) < 1e-9, apart
    kernel = params["layer_2"]["kernel"]
    assert kernel.shape == (5, 7)
    assert np.all(kernel[3:] == 0)
    assert np.all(kernel[:, 4:] == 0)
    assert np.all(params["output"]["kernel"][4:] == 0)


def test_an_optimizer_that_is_not_exact_would_be_far_away():
    def centralized(learning_rate):
        return optax.chain(optax.centralize(), optax.sgd(learning_rate))

    _, apart = compare(jbn.optimizer(centralized), "tanh")
    assert max(jax.tree.leaves(apart)) > 1e-3
