import functools
import inspect
import itertools

import chex
import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import jbn
from jbn.errors import InputError
from jbn.nn.batch_norm import BatchNormParams
from jbn.nn.cnn import MAX_LAYERS, cnn
from jbn.nn.model import Padded

ROWS, HEIGHT, WIDTH, OUTPUTS = 6, 5, 6, 3  # a block drops the fifth row
CAPACITY, SIZES = 6, (4, 3)
MOMENTUM, EPSILON = 0.7, 1e-2
KEY, NOISE = jax.random.key(0), jax.random.key(1)
ACTIVATIONS = {
    "relu": lambda z: np.maximum(z, 0),
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "tanh": np.tanh,
}
VARIANTS = [
    ("relu", "before"),
    ("sigmoid", "before"),
    ("sigmoid", "after"),
    ("tanh", "after"),
    ("relu", "before, neither"),
    ("tanh", "none"),
]


def spec(*shape):
    return jax.ShapeDtypeStruct((1, *shape), jnp.zeros(0).dtype)


def in_float64(function):
    compiled = jax.jit(function)

    def run(*args):
        with jax.enable_x64(True):
            return jax.tree.map(np.asarray, compiled(*args))

    return run


def padded_sizes(sizes):
    return {f"channels_{i + 1}": Padded(jnp.asarray(size), CAPACITY) for i, size in enumerate(sizes)}


EXACT = {"channels_1": SIZES[0], "channels_2": SIZES[1]}


def options_of(batch_norm):
    """The arguments of a network by the place of batch norm, and whether it has parameters."""
    place, _, there = batch_norm.partition(", ")
    return {"batch_norm": place, "batch_norm_scale": not there, "batch_norm_bias": not there}


@functools.cache
def programs(activation, batch_norm):
    """Four steps of Adam with what each gives, then inference, for exact and for padded sizes."""
    model = cnn(activation=activation, **options_of(batch_norm))
    adam = optax.adam(0.03)

    def run(hyper, dropout, start, x, weights):
        hyper = {
            "outputs": OUTPUTS,
            "batch_norm_momentum": jnp.asarray(MOMENTUM),
            "batch_norm_epsilon": jnp.asarray(EPSILON),
            "dropout": dropout,
            **hyper,
        }

        def score(params, stats, x):
            y, after = model.train(params, stats, x, key=NOISE, hyper=hyper)
            return jnp.sum(weights * jnp.sin(y)), (y, after)

        def step(carry, _):
            params, stats, moments = carry
            (value, (y, stats)), gradient = jax.value_and_grad(score, has_aux=True)(params, stats, x)
            updates, moments = adam.update(gradient, moments, params)
            return (optax.apply_updates(params, updates), stats, moments), (y, value, stats, gradient)

        (params, stats, _), steps = jax.lax.scan(step, (*start, adam.init(start[0])), length=4)
        return params, stats, steps, model.infer(params, stats, x, hyper=hyper)

    def padded(sizes, *args):
        return run(padded_sizes(sizes), *args)

    return in_float64(functools.partial(run, EXACT)), in_float64(padded)


def example(batch_norm):
    """Parameters of the exact sizes, none of them at its initial value and both signs among them; and inputs."""
    rng = np.random.default_rng(0)
    model = cnn(**options_of(batch_norm))
    shapes = jax.eval_shape(lambda: model.init(KEY, {**EXACT, "outputs": OUTPUTS}, spec(HEIGHT, WIDTH)))
    params, stats = jax.tree.map(lambda leaf: rng.uniform(0.3, 1.5, leaf.shape), shapes)
    params = jax.tree.map(lambda leaf: leaf * rng.choice([-1, 1], leaf.shape), params)
    return (params, stats), rng.normal(size=(ROWS, HEIGHT, WIDTH)), rng.normal(size=(ROWS, OUTPUTS))


def convolved(x, kernel):
    height, width = x.shape[1:3]
    around = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    taps = itertools.product(range(3), repeat=2)
    return sum(around[:, u : u + height, v : v + width] @ kernel[u, v] for u, v in taps)


def pooled(a):
    height, width = (side // 2 * 2 for side in a.shape[1:3])
    return np.max([a[:, u:height:2, v:width:2] for u, v in itertools.product(range(2), repeat=2)], axis=0)


def forward(params, x, activation, batch_norm, stats=None):
    """By the textbook, pooling last, with the batch's statistics or the running ones; and the batch's."""
    params, batches, a = jax.tree.map(np.asarray, params), {}, x[..., None]

    def normalize(name, z):
        batches[name] = z.mean((0, 1, 2)), z.var((0, 1, 2))
        mean, var = batches[name] if stats is None else (stats[name].mean, stats[name].var)
        scale, bias = params[name]["batch_norm"]
        y = (z - mean) / np.sqrt(var + EPSILON)
        return y if scale is None else scale * y + bias

    place = options_of(batch_norm)["batch_norm"]
    for name in ("layer_1", "layer_2"):
        z = convolved(a, params[name]["kernel"]) + params[name].get("bias", 0)
        z = normalize(name, z) if place == "before" else z
        a = ACTIVATIONS[activation](z)
        a = pooled(normalize(name, a) if place == "after" else a)
    pixels = a.reshape(len(a), -1, a.shape[-1])
    return np.einsum("npc,pco->no", pixels, params["output"]["kernel"]) + params["output"]["bias"], batches


def first(tree):
    return jax.tree.map(lambda leaf: leaf[0], tree)


@pytest.mark.parametrize(("activation", "batch_norm"), VARIANTS)
def test_training_and_inference_equal_numpy(activation, batch_norm):
    (params, stats), x, weights = example(batch_norm)
    exact, _ = programs(activation, batch_norm)
    trained, running, steps, inferred = exact(0.0, (params, stats), x, weights)
    y, value, after, gradient = first(steps)
    expected, batches = forward(params, x, activation, batch_norm)
    assert_allclose(y, expected, atol=1e-10)
    assert set(after) == set(batches)
    for name, (mean, var) in batches.items():
        count = MOMENTUM * stats[name].count + 1
        assert_allclose(after[name].mean, stats[name].mean + (mean - stats[name].mean) / count, atol=1e-10)
        assert_allclose(after[name].var, stats[name].var + (var - stats[name].var) / count, atol=1e-10)
    assert_allclose(inferred, forward(trained, x, activation, batch_norm, running)[0], atol=1e-10)

    def score(params):
        return np.sum(weights * np.sin(forward(params, x, activation, batch_norm)[0]))

    # the derivative in a random direction, by central differences
    rng = np.random.default_rng(1)
    direction = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), params)
    ends = [jax.tree.map(lambda a, d, h=h: a + h * d, params, direction) for h in (-1e-6, 1e-6)]
    slope = (score(ends[1]) - score(ends[0])) / 2e-6
    products = jax.tree.map(lambda g, d: np.sum(np.asarray(g) * d), gradient, direction)
    assert_allclose(value, score(params), rtol=1e-10)
    assert_allclose(sum(jax.tree.leaves(products)), slope, rtol=1e-5, atol=1e-7)


@functools.cache
def initial_padded(batch_norm):
    model, hyper = cnn(**options_of(batch_norm)), {**padded_sizes(SIZES), "outputs": OUTPUTS}
    return jax.jit(lambda: model.init(KEY, hyper, spec(HEIGHT, WIDTH)))()


def enlarged(exact, padded):
    """The exact leaf in the corner of one like the padded leaf, which keeps its own values around it."""
    leaf = np.array(padded, np.float64)
    leaf[tuple(slice(size) for size in exact.shape)] = exact
    return leaf


def corner(padded, exact):
    return padded[(..., *(slice(size) for size in exact.shape))]


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize(("activation", "batch_norm"), VARIANTS)
def test_padded_equals_exact_over_steps_of_adam(activation, batch_norm, dropout):
    start, x, weights = example(batch_norm)
    exact, padded = programs(activation, batch_norm)
    own = exact(dropout, start, x, weights)
    large = padded(SIZES, dropout, jax.tree.map(enlarged, start, initial_padded(batch_norm)), x, weights)
    chex.assert_trees_all_close(jax.tree.map(corner, large, own), own, atol=1e-9)
    gradients = large[2][-1], own[2][-1]
    outside = jax.tree.map(lambda leaf, own: np.abs(leaf).sum() - np.abs(corner(leaf, own)).sum(), *gradients)
    chex.assert_trees_all_close(outside, jax.tree.map(lambda _: 0.0, outside), atol=1e-9)


def test_dropout_of_the_padded_test_drops_something_in_training_alone():
    start, x, weights = example("none")
    model, hyper = cnn(batch_norm="none"), {**EXACT, "outputs": OUTPUTS}
    outputs = [programs("tanh", "none")[0](rate, start, x, weights)[2][0][0] for rate in (0.0, 0.4)]
    assert np.abs(outputs[0] - outputs[1]).max() > 0.1
    params, x = jax.tree.map(lambda a: jax.numpy.asarray(a, np.float32), (start[0], x))
    infer = jax.jit(lambda rate: model.infer(params, {}, x, hyper={**hyper, "dropout": rate}))
    inferred = [infer(rate) for rate in (0.0, 0.4)]
    assert_array_equal(*inferred)


# images


def initialised(model, shape, **hyper):
    hyper = {"outputs": OUTPUTS, **hyper}
    params, stats = jax.jit(lambda: model.init(KEY, hyper, spec(*shape)))()
    return jax.jit(functools.partial(model.infer, params, stats, hyper=hyper)), params


def test_flat_rows_are_square_images_and_one_channel_may_be_named():
    x = np.random.default_rng(2).normal(size=(4, 6, 6, 1)).astype(np.float32)
    infer, params = initialised(cnn(channels=4), (36,))
    assert params["output"]["kernel"].shape == (1, 4, OUTPUTS)
    for shape in ((6, 6), (36,)):
        assert_allclose(infer(x.reshape(4, *shape)), infer(x), rtol=1e-6)


def test_images_may_have_several_channels_and_a_side_of_one():
    _, params = initialised(cnn(channels=4, layers=3), (8, 1, 3))
    assert params["layer_1"]["kernel"].shape == (3, 3, 3, 4)
    assert params["output"]["kernel"].shape == (1, 4, OUTPUTS)


def test_many_rows_at_inference_equal_few():
    x = np.random.default_rng(3).normal(size=(600, 4, 4)).astype(np.float32)
    infer, _ = initialised(cnn(channels=2, layers=1), (4, 4))
    y = infer(x)
    assert y.shape == (600, OUTPUTS)
    assert_allclose(y[:100], infer(x[:100]), rtol=1e-5, atol=1e-6)
    assert_allclose(y[500:], infer(x[500:]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(63,), (4, 4, 4, 4), ()])
def test_rows_that_are_no_images_are_an_error(shape):
    message = rf"got rows of shape \[{', '.join(map(str, shape))}\]; reshape them, or take jbn.mlp"
    with pytest.raises(InputError, match=message):
        cnn().init(KEY, {"outputs": OUTPUTS}, spec(*shape))


def test_an_image_too_small_for_so_many_blocks_is_an_error():
    message = "8 x 8 pixels can be halved 3 times, but got layers=4; take fewer layers or larger images"
    with pytest.raises(InputError, match=message):
        cnn().init(KEY, {"outputs": OUTPUTS, "layers": 4}, spec(64))


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"activation": "gelu"}, "activation must be one of relu, sigmoid, tanh, but got gelu"),
        ({"layers": 9}, "layers must be a whole number of at least 1 and at most 8, but got 9"),
        ({"channels": 0}, "channels must be a whole number of at least 1, but got 0"),
    ],
)
def test_an_argument_that_is_not_allowed_is_said_at_once(argument, message):
    with pytest.raises(InputError, match=message):
        cnn(**argument)


# masks, folding


@pytest.mark.parametrize("batch_norm", ["before", "after"])
def test_masked_rows_have_no_influence_whatever_they_hold(batch_norm):
    model, hyper = cnn(channels=3, layers=1, batch_norm=batch_norm), {"outputs": OUTPUTS}
    params, stats = jax.jit(lambda: model.init(KEY, hyper, spec(4, 4)))()
    x = np.random.default_rng(4).normal(size=(ROWS, 4, 4)).astype(np.float32)
    mask = np.array([1, 0, 1, 1, 0, 1], bool)

    @jax.jit
    def train(x, mask):
        def loss(params):
            y, after = model.train(params, stats, x, key=NOISE, hyper=hyper, mask=mask)
            return jnp.sum(jnp.where(mask[:, None], y, 0) ** 2), after

        return jax.grad(loss, has_aux=True)(params)

    own = train(np.where(mask[:, None, None], x, np.float32(np.nan)), mask)
    chex.assert_trees_all_close(own, train(x[mask], np.ones(4, bool)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch_norm", ["before", "before, neither", "none"])
@pytest.mark.parametrize("sizes", [EXACT, padded_sizes(SIZES)], ids=["exact", "padded"])
def test_a_folded_network_has_no_batch_norm_and_the_same_outputs(batch_norm, sizes):
    model = cnn(activation="tanh", **options_of(batch_norm))
    hyper = {"outputs": OUTPUTS, "batch_norm_epsilon": jnp.float32(EPSILON), **sizes}
    params, stats = jax.jit(lambda: model.init(KEY, hyper, spec(HEIGHT, WIDTH)))()
    rng = np.random.default_rng(5)
    for name, running in stats.items():
        normal = rng.normal(size=(3, *running.mean.shape)).astype(np.float32)
        if params[name]["batch_norm"].scale is not None:
            params[name]["batch_norm"] = BatchNormParams(*normal[:2])
        stats[name] = running._replace(mean=normal[2], var=normal[0] ** 2 + 0.1)
    x = jnp.asarray(rng.normal(size=(ROWS, HEIGHT, WIDTH)), jnp.float32)

    @jax.jit
    def outputs(params, stats, x):
        folded, plain = model.fold(params, stats, hyper=hyper)
        assert all(set(layer) <= {"kernel", "bias"} for layer in folded.values())
        return model.infer(folded, {}, x, hyper=plain), model.infer(params, stats, x, hyper=hyper)

    own, expected = jax.device_get(outputs(params, stats, x))
    assert np.abs(expected).max() > 0.1
    assert_allclose(own, expected, atol=1e-5 * np.abs(expected).max())


def test_batch_norm_after_the_activation_does_not_fold():
    with pytest.raises(InputError, match="with batch_norm='after'; you might need to keep batch norm"):
        cnn(batch_norm="after").fold({}, {}, hyper={})


# programs and sweeps


def primitives(jaxpr):
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            yield from primitives(inner)


@pytest.mark.parametrize("members", [None, 3])
def test_no_convolution_of_xla_is_in_training(members):
    model, hyper = cnn(), {**EXACT, "outputs": OUTPUTS}
    params, stats = jax.eval_shape(lambda: model.init(KEY, hyper, spec(HEIGHT, WIDTH)))
    x = jnp.zeros((ROWS, HEIGHT, WIDTH))

    def loss(params, stats):
        return jnp.sum(model.train(params, stats, x, key=NOISE, hyper=hyper)[0])

    gradient = jax.grad(loss)
    if members:
        params, stats = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct((members, *a.shape), a.dtype), (params, stats)
        )
        gradient = jax.vmap(gradient)
    used = set(primitives(jax.make_jaxpr(gradient)(params, stats).jaxpr))
    assert "dot_general" in used
    assert not {name for name in used if "conv_" in name or "window" in name or "scatter" in name}


def test_equal_arguments_give_the_same_object():
    assert cnn(layers=1, dropout=0.1) is cnn(dropout=0.1, layers=1)
    assert cnn(layers=1) is not cnn()


def test_every_argument_is_a_hyper_parameter_with_its_value_as_default():
    defaults = {name: entry.default for name, entry in inspect.signature(cnn).parameters.items()}
    known = {entry.name: entry for entry in cnn().hyperparameters}
    numbered = [f"channels_{layer}" for layer in range(1, MAX_LAYERS + 1)]
    assert {name: entry.default for name, entry in known.items()} == {**defaults, **dict.fromkeys(numbered)}
    assert {known[name].kind for name in ("channels", *numbered)} == {"padded"}
    assert known["layers"].kind == "structural"


def test_a_sweep_over_channels_and_depth_learns_and_its_winner_is_its_run_alone():
    configs = {
        "channels": np.array([4, 7, 5, 6]),  # all padded to 8
        "layers": np.array([1, 2, 1, 2]),
        "learning_rate": np.array([0.03, 0.03, 0.1, 0.02]),
    }
    with jax.enable_x64(True):
        task = jbn.Task(model=jbn.cnn(), data=jbn.data.digits())
        result = jbn.sweep(task, configs, epochs=2, key=KEY)
        table, best = result.table(), result.best()
        train = jbn.train_function(task, epochs=2)
        config = {name: values[int(table.config_id.iloc[0])].item() for name, values in configs.items()}
        _, params, stats = jax.jit(functools.partial(train, config))(KEY)
        assert table.validation_accuracy.min() > 0.6
        assert table.validation_accuracy.max() > 0.9
        chex.assert_trees_all_close((best.params, best.stats), (params, stats), rtol=1e-6, atol=1e-8)
