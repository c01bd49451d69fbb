import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose

from jbn.errors import InputError
from jbn.task.optimizers import OPTIMIZERS, named
from jbn.task.transforms import Beta, adam, sgd

STEPS = 30
SHAPES = {"kernel": (40, 30), "bias": (3,), "scale": ()}  # one large leaf, two small ones


def beta(value):
    return Beta(jnp.asarray(value, float), jnp.asarray(1 - value, float))


def adam_hyper(beta1, beta2, epsilon):
    return {"beta1": beta(beta1), "beta2": beta(beta2), "epsilon": jnp.asarray(epsilon)}


def gradients(seed=0, steps=STEPS):
    """Noise around a direction, with sizes over several decades, and one entry that is always 0."""
    rng = np.random.default_rng(seed)
    tree = {
        name: rng.normal(0.5, 1, (steps, *shape)) * 10.0 ** rng.integers(-3, 2, shape)
        for name, shape in SHAPES.items()
    }
    tree["bias"][:, 1] = 0
    return jax.tree.map(lambda a: a.astype(np.float32), tree)


def run(make, *args):
    """All updates of a transformation, made inside the traced function from its arguments."""

    @jax.jit
    def all_updates(args, gradients):
        transform = make(*args)

        def step(state, gradient):
            updates, state = transform.update(gradient, state)
            return state, updates

        start = transform.init(jax.tree.map(lambda a: a[0], gradients))
        return jax.lax.scan(step, start, gradients)[1]

    return all_updates(args, jax.tree.map(lambda a: jnp.asarray(a, float), gradients()))


def textbook_adam(gradient, rate, beta1, beta2, epsilon):
    """Kingma and Ba 2015, algorithm 1, in float64; one leaf, all steps."""
    m = v = np.zeros(gradient.shape[1:])
    updates = []
    for t, g in enumerate(gradient.astype(np.float64), start=1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        updates.append(-rate * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + epsilon))
    return np.stack(updates)


def expected_adam(*args):
    return {name: textbook_adam(gradient, *args) for name, gradient in gradients().items()}


def test_adam_by_hand():
    transform = adam(adam_hyper(0.5, 0.75, 1.0), jnp.asarray(0.1))
    updates, state = transform.update(jnp.array([3.0]), transform.init(jnp.array([0.0])))
    assert_allclose(
        updates, [-0.1 * 3 / (3 + 1)], rtol=1e-6
    )  # at the first step both averages are the gradient
    updates, state = transform.update(jnp.array([0.0]), state)  # mhat = 0.75 / 0.75, vhat = 1.6875 / 0.4375
    assert_allclose(updates, [-0.1 * 1 / (np.sqrt(1.6875 / 0.4375) + 1)], rtol=1e-6)
    assert int(state.count) == 2


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.0, 0.5), (0.99999, 0.99999), (0.999999, 0.0)])
def test_adam_equals_the_textbook_in_float64(betas):
    with jax.enable_x64(True):
        updates = run(adam, adam_hyper(*betas, 1e-8), jnp.asarray(1e-3))
        chex.assert_trees_all_close(updates, expected_adam(1e-3, *betas, 1e-8), rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.99999, 0.99999), (0.9, 0.999999)])
def test_adam_equals_the_textbook_in_float32_also_where_beta_is_close_to_1(betas):
    updates = run(adam, adam_hyper(*betas, 1e-8), jnp.asarray(1e-3))
    expected = expected_adam(1e-3, *betas, 1e-8)
    chex.assert_type(jax.tree.leaves(updates), jnp.float32)
    chex.assert_trees_all_close(updates, jax.tree.map(np.float32, expected), rtol=1e-5, atol=1e-9)


def test_the_case_close_to_1_is_one_where_float32_alone_is_off():
    naive = 1 - np.float32(0.99999) ** np.arange(1, STEPS + 1, dtype=np.float32)
    exact = 1 - 0.99999 ** np.arange(1, STEPS + 1)
    assert np.all(np.abs(naive / exact - 1) > 1e-3)


@pytest.mark.parametrize(("beta1", "beta2", "epsilon"), [(0.9, 0.999, 1e-8), (0.5, 0.9, 1e-3)])
def test_adam_equals_optax_for_moderate_betas(beta1, beta2, epsilon):
    with jax.enable_x64(True):
        own = run(adam, adam_hyper(beta1, beta2, epsilon), jnp.asarray(1e-2))
        reference = run(lambda rate: optax.adam(rate, beta1, beta2, eps=epsilon), jnp.asarray(1e-2))
        chex.assert_trees_all_close(own, reference, rtol=1e-9, atol=1e-15)


def test_a_gradient_of_0_moves_nothing():
    updates = run(adam, adam_hyper(0.9, 0.999, 1e-8), jnp.asarray(1e-3))
    assert np.all(np.asarray(updates["bias"])[:, 1] == 0)


def test_the_derivative_through_the_update_is_finite_and_right():
    gradient = {"a": np.array([0.0, 2.0, -0.5]), "b": np.array([[0.0]])}

    def moved(numbers, gradient):
        """Two steps, the second at what the first made of the gradient."""
        rate, beta1, complement1, beta2, complement2, epsilon = numbers
        hyper = {"beta1": Beta(beta1, complement1), "beta2": Beta(beta2, complement2), "epsilon": epsilon}
        transform = adam(hyper, rate)
        first, state = transform.update(gradient, transform.init(gradient))
        second, _ = transform.update(jax.tree.map(lambda g, u: g * (1 + u), gradient, first), state)
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves((first, second)))

    numbers = (0.1, 0.9, 0.1, 0.99, 0.01, 0.05)
    with jax.enable_x64(True):
        args = jax.tree.map(jnp.asarray, (numbers, gradient))
        derivative = jax.jit(jax.grad(moved, argnums=(0, 1)))(*args)
        chex.assert_tree_all_finite(derivative)
        value = jax.jit(moved)
        for i in range(len(numbers)):
            ends = [
                value(tuple(n + h * (i == j) for j, n in enumerate(numbers)), args[1]) for h in (-1e-6, 1e-6)
            ]
            assert_allclose(derivative[0][i], (ends[1] - ends[0]) / 2e-6, rtol=1e-6, atol=1e-9)
    args = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), args)
    chex.assert_tree_all_finite(jax.jit(jax.grad(moved, argnums=(0, 1)))(*args))


def textbook_momentum(gradient, rate, momentum):
    trace, updates = np.zeros(gradient.shape[1:]), []
    for g in gradient.astype(np.float64):
        trace = momentum * trace + g
        updates.append(-rate * trace)
    return np.stack(updates)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_equals_the_textbook(momentum):
    updates = run(sgd, {"optimizer_momentum": jnp.asarray(momentum)}, jnp.asarray(0.1))
    expected = {name: textbook_momentum(leaf, 0.1, momentum) for name, leaf in gradients().items()}
    chex.assert_trees_all_close(updates, jax.tree.map(np.float32, expected), rtol=1e-5, atol=1e-6)


def test_nesterov_looks_one_step_ahead():
    def nesterov(momentum, rate):
        return sgd({"optimizer_momentum": momentum, "nesterov": True}, rate)

    updates = run(nesterov, jnp.asarray(0.9), jnp.asarray(0.1))

    def textbook(gradient):
        trace, found = np.zeros(gradient.shape[1:]), []
        for g in gradient.astype(np.float64):
            trace = 0.9 * trace + g
            found.append(-0.1 * (0.9 * trace + g))
        return np.stack(found)

    expected = {name: textbook(leaf) for name, leaf in gradients().items()}
    chex.assert_trees_all_close(updates, jax.tree.map(np.float32, expected), rtol=1e-5, atol=1e-6)


def test_vmap_over_settings_equals_a_loop():
    gradient = jax.tree.map(jnp.asarray, gradients(steps=2))
    betas, rates = (np.array([0.0, 0.9, 0.99999]), np.array([0.9, 0.999, 0.5])), np.array([1e-3, 0.1, 1.0])

    def second_update(beta1, beta2, rate):
        hyper = {"beta1": beta1, "beta2": beta2, "epsilon": jnp.asarray(1e-8)}
        transform = adam(hyper, rate)
        first, after = jax.tree.map(lambda g: g[0], gradient), jax.tree.map(lambda g: g[1], gradient)
        return transform.update(after, transform.update(first, transform.init(first))[1])[0]

    settings = (*(beta(values) for values in betas), jnp.asarray(rates, float))
    mapped = jax.jit(jax.vmap(second_update))(*settings)
    alone = jax.jit(second_update)
    for i in range(3):
        own, setting = jax.tree.map(lambda a, i=i: a[i], (mapped, settings))
        chex.assert_trees_all_close(own, alone(*setting), rtol=1e-5, atol=1e-9)


def test_new_numbers_compile_nothing_new():
    @jax.jit
    @chex.assert_max_traces(n=1)
    def update(hyper, rate):
        transform = adam(hyper, rate)
        return transform.update(jnp.ones(2), transform.init(jnp.ones(2)))[0]

    first = update(adam_hyper(0.9, 0.999, 1e-8), jnp.asarray(1e-3))
    assert_allclose(update(adam_hyper(0.8, 0.99, 1.0), jnp.asarray(1e-3)), first / 2, rtol=1e-5)


def test_all_optimizers_by_name():
    assert named("adam").transform is adam
    assert named("sgd").transform is sgd
    assert all(name == each.name for name, each in OPTIMIZERS.items())
    names = {name: {entry.name for entry in each.hyperparameters} for name, each in OPTIMIZERS.items()}
    schedule = {"learning_rate", "decay_rate", "schedule", "schedule_epochs", "warmup", "clip_norm"}
    assert names == {
        "adam": schedule | {"beta1", "beta2", "epsilon"},
        "adamw": schedule | {"beta1", "beta2", "epsilon", "weight_decay"},
        "lion": schedule | {"beta1", "beta2", "weight_decay"},
        "rmsprop": schedule | {"beta2", "epsilon", "optimizer_momentum"},
        "sgd": schedule | {"optimizer_momentum", "nesterov"},
    }
    compiled = {
        entry.name for each in OPTIMIZERS.values() for entry in each.hyperparameters if entry.kind != "traced"
    }
    assert compiled == {"schedule", "nesterov"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("adam", {"learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}),
        (
            "adamw",
            {"learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "weight_decay": 1e-4},
        ),
        ("lion", {"learning_rate": 1e-4, "beta1": 0.9, "beta2": 0.99, "weight_decay": 1e-3}),
        ("rmsprop", {"learning_rate": 1e-3, "beta2": 0.9, "epsilon": 1e-8, "optimizer_momentum": 0.0}),
        ("sgd", {"learning_rate": 1e-3, "optimizer_momentum": 0.9, "nesterov": False}),
    ],
)
def test_defaults_are_those_of_the_papers_and_of_optax(name, expected):
    defaults = {entry.name: entry.default for entry in named(name).hyperparameters}
    common = {
        "decay_rate": 0.0,
        "schedule": "inverse",
        "schedule_epochs": 1.0,
        "warmup": 0.0,
        "clip_norm": 0.0,
    }
    assert defaults == expected | common


def test_an_unknown_optimizer_is_named_with_its_nearest():
    message = r"unknown optimizer 'adan': did you mean 'adam'.*Known are: adam, adamw, lion, rmsprop, sgd"
    with pytest.raises(InputError, match=message):
        named("adan")
