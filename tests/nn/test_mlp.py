import functools
import inspect

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from jbn.errors import InputError
from jbn.nn.mlp import MAX_LAYERS, mlp
from jbn.nn.model import Padded

ROWS, FEATURES, OUTPUTS = 7, 4, 3
CAPACITY, SIZES = 8, (5, 3)
MOMENTUM, EPSILON = 0.7, 1e-2
STANDARD_ERRORS = 4.5  # a fair draw exceeds it once in 150,000
KEY, NOISE = jax.random.key(0), jax.random.key(1)
ACTIVATIONS = {
    "relu": lambda z: np.maximum(z, 0),
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "tanh": np.tanh,
}
VARIANTS = [  # sigmoid(0) is not 0: it is the one that padding could leak from
    ("sigmoid", "before"),
    ("sigmoid", "after"),
    ("sigmoid", "none"),
    ("relu", "before"),
    ("relu", "none"),
    ("tanh", "after"),
    ("sigmoid", "before, scale alone"),
    ("relu", "before, bias alone"),
    ("tanh", "after, neither"),
]


def options_of(batch_norm):
    """The arguments of a network by the place of batch norm, and what of its parameters there is."""
    place, _, there = batch_norm.partition(", ")
    scale, bias = there in ("", "scale alone"), there in ("", "bias alone")
    return {"batch_norm": place, "batch_norm_scale": scale, "batch_norm_bias": bias}


def spec(features=FEATURES):
    return jax.ShapeDtypeStruct((1, features), jnp.zeros(0).dtype)


def initial(model, hyper, key=KEY, features=FEATURES):
    return jax.jit(lambda key: model.init(key, {"outputs": OUTPUTS, **hyper}, spec(features)))(key)


# against NumPy, and padded against exact, in float64


@functools.cache
def programs(activation, batch_norm):
    """Training with its gradient, and inference, for exact and for padded sizes."""
    model = mlp(activation=activation, **options_of(batch_norm))

    def run(hyper, params, stats, x, weights):
        hyper = {
            "outputs": OUTPUTS,
            "batch_norm_momentum": jnp.asarray(MOMENTUM),
            "batch_norm_epsilon": jnp.asarray(EPSILON),
            **hyper,
        }

        def score(params, x):
            y, after = model.train(params, stats, x, key=NOISE, hyper=hyper)
            return jnp.sum(weights * jnp.sin(y)), (y, after)

        (value, (y, after)), gradient = jax.value_and_grad(score, argnums=(0, 1), has_aux=True)(params, x)
        return y, after, value, gradient, model.infer(params, after, x, hyper=hyper)

    def exact(dropout, params, stats, x, weights):
        hyper = {"hidden_units_1": SIZES[0], "hidden_units_2": SIZES[1], "dropout": dropout}
        return run(hyper, params, stats, x, weights)

    def padded(sizes, dropout, params, stats, x, weights):
        return run({**padded_sizes(sizes, CAPACITY), "dropout": dropout}, params, stats, x, weights)

    return in_float64(exact), in_float64(padded)


def in_float64(function):
    compiled = jax.jit(function)

    def run(*args):
        with jax.enable_x64(True):
            return jax.tree.map(np.asarray, compiled(*args))

    return run


def padded_sizes(units, capacity):
    return {f"hidden_units_{i + 1}": Padded(jnp.asarray(size), capacity) for i, size in enumerate(units)}


def example(batch_norm):
    """Parameters of the exact sizes, none of them at its initial value, and inputs."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(
        lambda: mlp(**options_of(batch_norm)).init(
            KEY, {"hidden_units_1": SIZES[0], "hidden_units_2": SIZES[1], "outputs": OUTPUTS}, spec()
        )
    )
    params, stats = jax.tree.map(lambda leaf: rng.uniform(0.3, 1.5, leaf.shape), shapes)
    signs = jax.tree.map(lambda leaf: np.sign(rng.normal(size=leaf.shape)), params)
    params = jax.tree.map(np.multiply, params, signs)
    return params, stats, rng.normal(size=(ROWS, FEATURES)), rng.normal(size=(ROWS, OUTPUTS))


def forward(params, x, activation, batch_norm, stats=None):
    """By the textbook, with the batch's statistics or with the running ones; and the batch's statistics."""
    batches = {}

    def normalize(name, z):
        batches[name] = z.mean(0), z.var(0)
        mean, var = batches[name] if stats is None else (stats[name].mean, stats[name].var)
        scale, bias = params[name]["batch_norm"]
        y = (z - mean) / np.sqrt(var + EPSILON)
        return (1 if scale is None else np.asarray(scale)) * y + (0 if bias is None else np.asarray(bias))

    a, place = x, options_of(batch_norm)["batch_norm"]
    for name in ("layer_1", "layer_2"):
        z = a @ np.asarray(params[name]["kernel"]) + np.asarray(params[name].get("bias", 0))
        z = normalize(name, z) if place == "before" else z
        a = ACTIVATIONS[activation](z)
        a = normalize(name, a) if place == "after" else a
    return a @ np.asarray(params["output"]["kernel"]) + np.asarray(params["output"]["bias"]), batches


@pytest.mark.parametrize(("activation", "batch_norm"), VARIANTS)
def test_training_and_inference_equal_numpy(activation, batch_norm):
    params, stats, x, weights = example(batch_norm)
    exact, _ = programs(activation, batch_norm)
    y, after, value, (gradient, dx), inferred = exact(0.0, params, stats, x, weights)
    expected, batches = forward(params, x, activation, batch_norm)
    assert_allclose(y, expected, atol=1e-10)
    assert set(after) == set(batches)
    for name, (mean, var) in batches.items():
        count = MOMENTUM * stats[name].count + 1
        assert_allclose(after[name].mean, stats[name].mean + (mean - stats[name].mean) / count, atol=1e-10)
        assert_allclose(after[name].var, stats[name].var + (var - stats[name].var) / count, atol=1e-10)
    assert_allclose(inferred, forward(params, x, activation, batch_norm, after)[0], atol=1e-10)

    def score(params, x):
        return np.sum(weights * np.sin(forward(params, x, activation, batch_norm)[0]))

    # the derivative in a random direction, by central differences
    rng = np.random.default_rng(1)
    direction = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), (params, x))
    ends = [jax.tree.map(lambda a, d, h=h: a + h * d, (params, x), direction) for h in (-1e-6, 1e-6)]
    slope = (score(*ends[1]) - score(*ends[0])) / 2e-6
    products = jax.tree.map(lambda g, d: np.sum(np.asarray(g) * d), (gradient, dx), direction)
    assert_allclose(value, score(params, x), rtol=1e-10)
    assert_allclose(sum(jax.tree.leaves(products)), slope, rtol=1e-5, atol=1e-7)


def enlarged(exact, padded):
    """The exact leaf in the corner of one like the padded leaf, which keeps its own values around it."""
    leaf = np.array(padded, np.float64)
    leaf[tuple(slice(size) for size in exact.shape)] = exact
    return leaf


def corner(padded, exact):
    return np.asarray(padded)[tuple(slice(size) for size in exact.shape)]


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize(("activation", "batch_norm"), VARIANTS)
def test_padded_equals_exact_forward_and_backward(activation, batch_norm, dropout):
    params, stats, x, weights = example(batch_norm)
    start = initial(mlp(**options_of(batch_norm)), padded_sizes(SIZES, CAPACITY))
    exact, padded = programs(activation, batch_norm)
    y, after, value, (gradient, dx), inferred = exact(dropout, params, stats, x, weights)
    large_params, large_stats = jax.tree.map(enlarged, (params, stats), start)
    large = padded(SIZES, dropout, large_params, large_stats, x, weights)

    own = y, value, dx, inferred
    chex.assert_trees_all_close((large[0], large[2], large[3][1], large[4]), own, atol=1e-10)
    chex.assert_trees_all_close(jax.tree.map(corner, large[1], after), after, atol=1e-10)
    chex.assert_trees_all_close(jax.tree.map(corner, large[3][0], gradient), gradient, atol=1e-10)
    outside = jax.tree.map(
        lambda leaf, own: np.abs(leaf).sum() - np.abs(corner(leaf, own)).sum(), large[3][0], gradient
    )
    chex.assert_trees_all_close(outside, jax.tree.map(lambda _: 0.0, outside), atol=1e-12)
    chex.assert_tree_all_finite(large)


def test_dropout_of_the_padded_test_drops_something():
    params, stats, x, weights = example("none")
    exact, _ = programs("sigmoid", "none")
    outputs = [exact(dropout, params, stats, x, weights) for dropout in (0.0, 0.4)]
    assert np.abs(outputs[0][0] - outputs[1][0]).max() > 0.1
    assert_array_equal(outputs[0][4], outputs[1][4])  # inference knows no dropout


# initial values


@pytest.mark.parametrize("there", ["scale alone", "bias alone", "neither"])
def test_what_batch_norm_does_not_have_is_no_parameter(there):
    model = mlp(layers=1, hidden_units=5)
    hyper = {"outputs": OUTPUTS, **options_of(f"before, {there}")}
    params, stats = jax.eval_shape(lambda: model.init(KEY, hyper, spec()))
    own = params["layer_1"]["batch_norm"]
    assert [value is not None for value in own] == [there == "scale alone", there == "bias alone"]
    assert len(jax.tree.leaves(params)) == (3 if there == "neither" else 4)
    assert stats["layer_1"].mean.shape == (5,)


@pytest.mark.parametrize(
    ("batch_norm", "bias", "hidden", "output"),
    [
        ("before", True, {"kernel", "batch_norm"}, {"kernel", "bias"}),
        ("after", True, {"kernel", "bias", "batch_norm"}, {"kernel", "bias"}),
        ("none", True, {"kernel", "bias"}, {"kernel", "bias"}),
        ("before", False, {"kernel", "batch_norm"}, {"kernel"}),
        ("after", False, {"kernel", "batch_norm"}, {"kernel"}),
        ("none", False, {"kernel"}, {"kernel"}),
    ],
)
def test_which_parameters_there_are(batch_norm, bias, hidden, output):
    model = mlp(layers=2, batch_norm=batch_norm, bias=bias)
    params, stats = jax.eval_shape(lambda: model.init(KEY, {"outputs": OUTPUTS}, spec()))
    assert {name: set(layer) for name, layer in params.items()} == {
        "layer_1": hidden,
        "layer_2": hidden,
        "output": output,
    }
    assert set(stats) == (set() if batch_norm == "none" else {"layer_1", "layer_2"})


def test_shapes_and_values():
    hyper = {
        "layers": 3,
        "hidden_units": 6,
        "hidden_units_2": 2,
        "hidden_units_3": None,
        "batch_norm": "after",
    }
    params, stats = initial(mlp(), hyper)
    chex.assert_shape([params[f"layer_{i}"]["kernel"] for i in (1, 2, 3)], [(FEATURES, 6), (6, 2), (2, 6)])
    chex.assert_shape(params["output"]["kernel"], (6, OUTPUTS))
    for i, units in [(1, 6), (2, 2), (3, 6)]:
        layer, running = params[f"layer_{i}"], stats[f"layer_{i}"]
        assert_array_equal(layer["bias"], np.zeros(units))
        assert_array_equal(layer["batch_norm"].scale, np.ones(units))
        assert_array_equal(layer["batch_norm"].bias, np.zeros(units))
        assert_array_equal([running.mean, running.var], [np.zeros(units), np.ones(units)])
        assert float(running.count) == 0
    assert_array_equal(params["output"]["bias"], np.zeros(OUTPUTS))
    chex.assert_type(jax.tree.leaves((params, stats)), jnp.float32)


def test_images_are_flattened():
    model = mlp(layers=1, hidden_units=5)
    hyper = {"outputs": OUTPUTS}
    image_spec = jax.ShapeDtypeStruct((1, 2, 3, 2), jnp.float32)
    params, stats = jax.jit(lambda: model.init(KEY, hyper, image_spec))()
    assert params["layer_1"]["kernel"].shape == (12, 5)
    x = np.random.default_rng(2).normal(size=(4, 2, 3, 2)).astype(np.float32)
    infer = jax.jit(lambda x: model.infer(params, stats, x, hyper=hyper))
    assert_allclose(infer(x), infer(x.reshape(4, 12)), rtol=1e-6)


def assert_scale(kernel, expected):
    """Mean 0 and this standard deviation, in standard errors."""
    n, values = kernel.size, np.asarray(kernel, np.float64) / expected
    assert abs(values.mean()) < STANDARD_ERRORS / np.sqrt(n)
    assert abs((values**2).mean() - 1) < STANDARD_ERRORS * np.sqrt(2 / n)


@pytest.mark.parametrize(("activation", "gain"), [("relu", 2), ("sigmoid", 1), ("tanh", 1)])
def test_initial_weights_have_the_scale_of_the_member_s_own_fan_in(activation, gain):
    hyper = {"outputs": 50, "activation": activation, "initial_scale": jnp.asarray(0.7)}
    model = mlp(layers=2)
    exact = initial(model, {**hyper, "hidden_units_1": 90, "hidden_units_2": 200}, features=60)[0]
    assert_scale(exact["layer_1"]["kernel"], 0.7 * np.sqrt(gain / 60))
    assert_scale(exact["layer_2"]["kernel"], 0.7 * np.sqrt(gain / 90))
    assert_scale(exact["output"]["kernel"], 0.7 * np.sqrt(1 / 200))
    padded = initial(model, {**hyper, **padded_sizes((90, 200), 256)}, features=60)[0]
    assert padded["layer_2"]["kernel"].shape == (256, 256)
    for name in exact:
        own, large = exact[name]["kernel"], padded[name]["kernel"]
        assert_allclose(corner(large, own), own, rtol=1e-6)
        assert np.count_nonzero(large) <= own.size


def test_layers_and_keys_have_draws_of_their_own_and_sizes_share_theirs():
    model, hyper = mlp(layers=2), {"hidden_units": 40, "outputs": 40}
    one, other = (initial(model, hyper, key=key, features=40)[0] for key in (KEY, NOISE))
    kernels = [np.asarray(layer["kernel"]).ravel() for params in (one, other) for layer in params.values()]
    correlation = np.corrcoef(kernels)[np.triu_indices(6, 1)]
    assert np.abs(correlation).max() < STANDARD_ERRORS / 40
    small = initial(model, {**hyper, "hidden_units": 10}, features=40)[0]
    assert_allclose(one["layer_1"]["kernel"][:, :10], small["layer_1"]["kernel"], rtol=1e-6)


# masks and dropout


@pytest.mark.parametrize("batch_norm", ["before", "after"])
def test_masked_rows_have_no_influence(batch_norm):
    hyper = {"outputs": OUTPUTS, "hidden_units": 5, "layers": 2, "batch_norm": batch_norm}
    params, stats = initial(mlp(), hyper)
    x = np.random.default_rng(3).normal(size=(ROWS, FEATURES)).astype(np.float32)
    mask = np.array([1, 0, 1, 1, 0, 1, 1], bool)
    train = jax.jit(lambda x, mask: mlp().train(params, stats, x, key=NOISE, hyper=hyper, mask=mask))
    y, after = train(np.where(mask[:, None], x, np.float32(1e3)), mask)
    expected, expected_stats = train(x[mask], np.ones(mask.sum(), bool))
    assert_allclose(np.asarray(y)[mask], expected, atol=1e-5)
    chex.assert_trees_all_close(after, expected_stats, rtol=1e-5, atol=1e-6)


# as part of a sweep


def test_vmap_over_members_equals_a_loop():
    model, members = mlp(layers=1, activation="sigmoid"), 3
    sizes, dropout = jnp.array([2, 5, 8]), jnp.array([0.0, 0.3, 0.6])
    momentum = jnp.array([0.5, 0.9, 1.0])
    x = jnp.asarray(np.random.default_rng(4).normal(size=(ROWS, FEATURES)), jnp.float32)

    def one(key, size, dropout, momentum):
        hyper = {
            "outputs": OUTPUTS,
            "hidden_units": Padded(size, CAPACITY),
            "dropout": dropout,
            "batch_norm_momentum": momentum,
        }
        params, stats = model.init(key, hyper, spec())
        y, after = model.train(params, stats, x, key=key, hyper=hyper)
        return params, y, after, model.infer(params, after, x, hyper=hyper)

    keys = jax.random.split(KEY, members)
    mapped = jax.jit(jax.vmap(one))(keys, sizes, dropout, momentum)
    alone = jax.jit(one)
    for i in range(members):
        own = jax.tree.map(lambda a, i=i: a[i], mapped)
        chex.assert_trees_all_close(
            own, alone(keys[i], sizes[i], dropout[i], momentum[i]), rtol=1e-4, atol=1e-5
        )


def test_equal_arguments_give_the_same_object():
    assert mlp() is mlp()
    assert mlp(layers=1, dropout=0.1) is mlp(layers=1, dropout=0.1)
    assert mlp(layers=1) is not mlp(layers=3)
    assert mlp(layers=1, dropout=0.1) is mlp(dropout=0.1, layers=1)
    assert mlp() is mlp(layers=2, hidden_units=64)


def test_every_argument_is_a_hyper_parameter_with_its_value_as_default():
    given = {
        "layers": 3,
        "hidden_units": 7,
        "activation": "tanh",
        "batch_norm": "none",
        "batch_norm_momentum": 0.8,
        "batch_norm_epsilon": 1e-4,
        "batch_norm_scale": False,
        "batch_norm_bias": False,
        "initial_scale": 2.0,
        "dropout": 0.25,
        "bias": False,
    }
    assert set(given) == set(inspect.signature(mlp).parameters)
    known = {entry.name: entry for entry in mlp(**given).hyperparameters}
    assert {name: known[name].default for name in given} == given
    numbered = [f"hidden_units_{layer}" for layer in range(1, MAX_LAYERS + 1)]
    assert set(known) - set(given) == set(numbered)
    assert {known[name].default for name in numbered} == {None}
    assert {known[name].kind for name in ("hidden_units", *numbered)} == {"padded"}
    traced = {"batch_norm_momentum", "batch_norm_epsilon", "initial_scale", "dropout"}
    assert {name for name in known if known[name].kind == "traced"} == traced


def test_what_the_member_has_wins_over_the_arguments():
    hyper = {
        "layers": 1,
        "hidden_units": 5,
        "activation": "sigmoid",
        "batch_norm": "after",
        "batch_norm_momentum": 0.5,
        "batch_norm_epsilon": 0.1,
        "batch_norm_scale": False,
        "batch_norm_bias": False,
        "initial_scale": 0.5,
        "dropout": 0.5,
        "bias": False,
    }
    x = np.random.default_rng(5).normal(size=(ROWS, FEATURES)).astype(np.float32)

    def run(model, hyper):
        hyper = {"outputs": OUTPUTS, **hyper}

        def everything(x):
            params, stats = model.init(KEY, hyper, spec())
            y, stats = model.train(params, stats, x, key=NOISE, hyper=hyper)
            return params, y, model.infer(params, stats, x, hyper=hyper)

        return jax.jit(everything)(x)

    chex.assert_trees_all_close(run(mlp(), hyper), run(mlp(**hyper), {}), rtol=1e-6)


def test_nan_in_a_masked_row_reaches_neither_outputs_nor_gradients():
    model, hyper = mlp(layers=1), {"hidden_units": 5, "outputs": 3}
    x = jnp.asarray(np.random.default_rng(6).normal(size=(4, 2)), jnp.float32)
    one = jax.ShapeDtypeStruct((1, 2), x.dtype)
    params, stats = jax.jit(lambda key: model.init(key, hyper, one))(jax.random.key(0))
    mask = jnp.array([True, True, True, False])

    @jax.jit
    @jax.grad
    def gradient(params, x):
        y, _ = model.train(params, stats, x, key=jax.random.key(1), hyper=hyper, mask=mask)
        return (y[:3] ** 2).sum()

    clean = gradient(params, x)
    chex.assert_tree_all_finite(clean)
    chex.assert_trees_all_equal(gradient(params, x.at[3].set(jnp.nan)), clean)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"activation": "gelu"}, "activation must be one of relu, sigmoid, tanh, but got gelu"),
        ({"dropout": 1.5}, "dropout must be a number of at least 0 and below 1, but got 1.5"),
        ({"layers": 0}, "layers must be a whole number of at least 1"),
        ({"batch_norm": "befor"}, "batch_norm must be one of before, after, none, but got befor"),
    ],
)
def test_an_argument_that_is_not_allowed_is_said_at_once(argument, message):
    with pytest.raises(InputError, match=message):
        mlp(**argument)


@pytest.mark.parametrize(
    ("hyper", "message"),
    [
        ({"batch_norm_momentum": 2.0}, r"momentum must be in \[0, 1\], but got momentum=2.0"),
        ({"batch_norm_epsilon": -1.0}, "epsilon must be at least 0, but got epsilon=-1.0"),
    ],
)
def test_numbers_given_in_training_are_checked(hyper, message):
    model, own = mlp(layers=1), {"hidden_units": 3, "outputs": 2}
    rows = jax.ShapeDtypeStruct((4, 2), "float32")
    params, stats = jax.jit(lambda key: model.init(key, own, rows))(jax.random.key(0))
    with pytest.raises(ValueError, match=message):
        model.train(params, stats, jnp.ones((4, 2)), key=jax.random.key(1), hyper={**own, **hyper})
