"""Modules and functions of others as models: the same experiment as their own training loop."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx

import jbn
from jbn.errors import InputError
from jbn.task.streams import order, streams

DATA = jbn.data.digits()
KEY = jax.random.key(3)
EPOCHS, BATCH, RATE = 2, 256, 1e-2


class Linen(nn.Module):
    hidden_units: int
    rate: float = 0.0
    outputs: int = 10

    @nn.compact
    def __call__(self, x, train):
        x = nn.BatchNorm(not train, momentum=0.9, use_fast_variance=False)(nn.Dense(self.hidden_units)(x))
        x = jbn.linen.Dropout(self.rate, deterministic=not train)(nn.relu(x))
        return nn.Dense(self.outputs)(x)


class Nnx(nnx.Module):
    def __init__(self, hidden_units, features, outputs, rngs, rate=0.0):
        self.hidden = nnx.Linear(features, hidden_units, rngs=rngs)
        self.norm = nnx.BatchNorm(hidden_units, momentum=0.9, use_fast_variance=False, rngs=rngs)
        self.dropout = jbn.nnx.Dropout(rate, rngs=rngs)
        self.output = nnx.Linear(hidden_units, outputs, rngs=rngs)

    def __call__(self, x):
        return self.output(self.dropout(nnx.relu(self.norm(self.hidden(x)))))


def mlp_init(key, x, outputs, hidden_units):
    first, second = jax.random.split(key)
    return {
        "hidden": jax.random.normal(first, (x.shape[1], hidden_units)) / 8,
        "output": jax.random.normal(second, (hidden_units, outputs)) / hidden_units**0.5,
    }


def mlp_apply(params, x, slope=0.01):
    return jax.nn.leaky_relu(x @ params["hidden"], slope) @ params["output"]


MODELS = {
    "linen": jbn.from_linen(Linen),
    "nnx": jbn.from_nnx(Nnx),
    "functions": jbn.model(mlp_init, mlp_apply),
}


def task(kind):
    return jbn.Task(model=MODELS[kind], data=DATA)


def sweep(kind, **values):
    columns = {"learning_rate": [RATE], "batch_size": [BATCH], **values}
    count = max(len(own) for own in columns.values())
    configs = {name: np.resize(np.asarray(own), count) for name, own in columns.items()}
    return jbn.sweep(task(kind), configs, epochs=EPOCHS, key=KEY)


def batches(epoch):
    arrays = task("linen").arrays().train
    place = order(streams(KEY).order, epoch, len(arrays.y))
    for start in range(0, len(arrays.y) - BATCH + 1, BATCH):
        rows = place[start : start + BATCH]
        yield arrays.x[rows], arrays.y[rows]


def linen_loop(hidden_units):
    """Flax and optax as their guides have it."""
    module = Linen(hidden_units)
    init = jax.jit(lambda key: module.init(key, jnp.zeros((1, 64)), train=False))
    variables = init(streams(KEY).initial)
    params, state = variables["params"], variables["batch_stats"]

    def loss(params, state, x, y):
        logits, new = module.apply(
            {"params": params, "batch_stats": state}, x, train=True, mutable=["batch_stats"]
        )
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), new["batch_stats"]

    return loop(loss, params, state)


def nnx_loop(hidden_units):
    module = Nnx(hidden_units, 64, 10, nnx.Rngs(streams(KEY).initial))
    module.train()
    graph, params, state, rest = nnx.split(module, nnx.Param, nnx.BatchStat, ...)

    def loss(params, state, x, y):
        own = nnx.merge(graph, params, state, rest, copy=True)
        value = optax.softmax_cross_entropy_with_integer_labels(own(x), y).mean()
        return value, nnx.state(own, nnx.BatchStat)

    return loop(loss, params, state)


def functions_loop(hidden_units):
    def loss(params, state, x, y):
        return optax.softmax_cross_entropy_with_integer_labels(mlp_apply(params, x), y).mean(), state

    return loop(loss, mlp_init(streams(KEY).initial, jnp.zeros((2, 64)), 10, hidden_units), {})


def loop(loss, params, state):
    adam = optax.adam(RATE)
    opt_state, means = adam.init(params), []

    @jax.jit
    def step(params, state, opt_state, x, y):
        (value, state), gradient = jax.value_and_grad(loss, has_aux=True)(params, state, x, y)
        updates, opt_state = adam.update(gradient, opt_state, params)
        return optax.apply_updates(params, updates), state, opt_state, value

    for epoch in range(EPOCHS):
        values = []
        for x, y in batches(epoch):
            params, state, opt_state, value = step(params, state, opt_state, x, y)
            values.append(float(value))
        means.append(np.mean(values))
    return means


LOOPS = {"linen": linen_loop, "nnx": nnx_loop, "functions": functions_loop}


@pytest.mark.parametrize("kind", MODELS)
def test_a_member_is_trained_as_in_a_loop_of_its_own(kind):
    result = sweep(kind, hidden_units=[8, 12])
    for member, hidden_units in enumerate((8, 12)):
        np.testing.assert_allclose(result.history.train_loss[:, member], LOOPS[kind](hidden_units), rtol=2e-4)


@pytest.mark.parametrize(
    ("kind", "name", "values"),
    [("linen", "rate", [0.0, 0.6]), ("nnx", "rate", [0.0, 0.6]), ("functions", "slope", [0.0, 0.9])],
)
def test_numbers_are_traced_whole_numbers_make_programs(kind, name, values):
    result = sweep(kind, hidden_units=[8, 8, 8], **{name: [*values, values[1]]})
    first, second, third = result.history.train_loss[-1]
    assert second == third != first
    assert result.timings.programs <= 4  # one of each kind
    more = sweep(kind, hidden_units=[8, 9, 9], **{name: [*values, values[1]]})
    assert more.history.train_loss[-1][1] == more.history.train_loss[-1][2]


@pytest.mark.parametrize("kind", MODELS)
def test_the_winner_predicts_as_it_was_judged(kind):
    result = sweep(kind, hidden_units=[8, 12])
    best = result.best()
    assert best.accuracy(DATA.validation.x, DATA.validation.y) == pytest.approx(
        result.table().validation_accuracy[0]
    )


@pytest.mark.parametrize("kind", ["linen", "nnx"])
def test_dropout_has_a_new_mask_every_step_and_none_at_inference(kind):
    own = task(kind).settled({"hidden_units": np.array([32]), "rate": np.array([0.5])}, epochs=1)
    hyper = {"hidden_units": 32, "rate": jnp.asarray(0.5), "outputs": 10}
    spec = jax.ShapeDtypeStruct((1, 64), jnp.float32)
    params, stats = jax.jit(lambda key: own.model.init(key, hyper, spec))(KEY)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(16, 64)), jnp.float32)
    first, second = (
        jax.jit(lambda key: own.model.train(params, stats, x, key=key, hyper=hyper)[0])(jax.random.key(seed))
        for seed in (0, 1)
    )
    assert float(jnp.abs(first - second).max()) > 0.01
    infer = jax.jit(lambda: own.model.infer(params, stats, x, hyper=hyper))
    np.testing.assert_array_equal(infer(), infer())


class TwoStreams(nn.Module):
    """Puts out the draws of two streams."""

    @nn.compact
    def __call__(self, x, train):
        self.param("unused", nn.initializers.zeros, ())
        if not train:
            return jnp.zeros((x.shape[0], 2))
        draws = [jax.random.uniform(self.make_rng(name), (x.shape[0],)) for name in ("dropout", "noise")]
        return jnp.stack(draws, axis=1)


def test_random_streams_of_a_module_are_independent():
    model, hyper = jbn.from_linen(TwoStreams), {"outputs": 2}
    params, stats = model.init(KEY, hyper, jax.ShapeDtypeStruct((1, 3), jnp.float32))
    draws, _ = model.train(params, stats, jnp.ones((4096, 3)), key=KEY, hyper=hyper)
    assert abs(np.corrcoef(draws.T)[0, 1]) < 5 / 64  # five standard errors
    again, _ = model.train(params, stats, jnp.ones((4096, 3)), key=jax.random.key(9), hyper=hyper)
    assert float(jnp.mean(draws == again)) < 0.01


def test_the_result_has_the_task_as_it_was_given():
    """Not as it was settled for one space: another space may trace what this one has programs for."""
    own = task("functions")
    configs = {"hidden_units": [8], "slope": [1]}
    result = jbn.sweep(own, configs, epochs=1, key=KEY)
    assert result.task is own
    more = jbn.sweep(result.task, {"hidden_units": [8, 8], "slope": [0.1, 0.2]}, epochs=1, key=KEY)
    assert len(set(more.history.train_loss[0])) == 2


def test_a_plan_of_a_network_without_products_can_be_explained():
    model = jbn.model(lambda key, x: jnp.zeros((1, 10)), lambda params, x: x[:, :10] + params)
    seen = []
    jbn.sweep(
        jbn.Task(model=model, data=DATA), {"learning_rate": [0.1]}, epochs=1, key=KEY, on_plan=seen.append
    )
    assert seen[0].padded_share == 0


@pytest.mark.parametrize("kind", MODELS)
def test_masks_of_rows_are_refused(kind):
    with pytest.raises(
        InputError, match="takes no mask of rows, its network knows none; pass complete batches"
    ):
        MODELS[kind].train({}, {}, jnp.ones((2, 64)), key=KEY, hyper={}, mask=jnp.ones(2, bool))


class FlaxDropout(nn.Module):
    rate: float

    @nn.compact
    def __call__(self, x, train):
        return nn.Dense(10)(nn.Dropout(self.rate, deterministic=not train)(x))


class NnxFlaxDropout(nnx.Module):
    def __init__(self, rate, features, outputs, rngs):
        self.dropout = nnx.Dropout(rate, rngs=rngs)
        self.output = nnx.Linear(features, outputs, rngs=rngs)

    def __call__(self, x):
        return self.output(self.dropout(x))


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (jbn.from_linen(FlaxDropout), "flax.linen.Dropout takes no traced rate; use jbn.linen.Dropout"),
        (jbn.from_nnx(NnxFlaxDropout), "flax.nnx.Dropout takes no traced rate; use jbn.nnx.Dropout"),
    ],
)
def test_the_dropout_of_flax_gets_an_error_that_names_ours(model, names):
    with pytest.raises(InputError, match=names):
        jbn.sweep(jbn.Task(model=model, data=DATA), {"rate": [0.1, 0.2]}, epochs=1, key=KEY)


class Convolutions(nn.Module):
    features: int

    @nn.compact
    def __call__(self, x, train):
        x = nn.Conv(self.features, (3, 3))(x.reshape(-1, 8, 8, 1))
        x = nn.Conv(self.features, (3, 3), strides=2)(nn.relu(x))
        return nn.Dense(10)(x.reshape(x.shape[0], -1))


class NnxConvolutions(nnx.Module):
    def __init__(self, width, outputs, rngs):
        self.first = nnx.Conv(1, width, (3, 3), rngs=rngs)
        self.second = nnx.Conv(width, width, (3, 3), strides=2, rngs=rngs)
        self.output = nnx.Linear(16 * width, outputs, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.first(x.reshape(-1, 8, 8, 1)))
        return self.output(self.second(x).reshape(x.shape[0], -1))


@pytest.mark.parametrize(
    ("model", "hyper"),
    [
        (jbn.from_linen(Convolutions), {"features": 4}),
        (jbn.from_nnx(NnxConvolutions), {"width": 4, "outputs": 10}),
    ],
)
def test_convolutions_of_flax_become_matrix_products(model, hyper):
    spec = jax.ShapeDtypeStruct((1, 64), jnp.float32)
    params, stats = jax.jit(lambda key: model.init(key, hyper, spec))(KEY)

    def loss(params, x):
        return jnp.sum(model.train(params, stats, x, key=KEY, hyper=hyper)[0])

    text = str(jax.make_jaxpr(jax.grad(loss))(params, jnp.ones((4, 64))))
    assert "dot_general" in text
    assert "conv_general_dilated[" not in text


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: jbn.from_linen(3), "the factory must be a function, but got int"),
        (
            lambda: jbn.from_linen(lambda *sizes: None),
            r"by name, so that a space can vary them, but takes \*sizes",
        ),
        (lambda: jbn.from_nnx(lambda **sizes: None), r"but takes \*\*sizes"),
        (
            lambda: jbn.model(lambda key, x, a=1: None, lambda p, x, a=2: None),
            "a must have one default, but apply has 2",
        ),
    ],
)
def test_functions_that_a_space_cannot_vary_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize(
    ("model", "configs", "message"),
    [
        (MODELS["linen"], {"rate": [0.1]}, "hidden_units has no default and is not in the space; add it"),
        (MODELS["linen"], {"hidden_unit": [8]}, "unknown hyper-parameter 'hidden_unit'.*hidden_units"),
        (jbn.from_linen(lambda: 3), {}, "must return a flax.linen.Module, but returned int"),
        (jbn.from_nnx(lambda: "x"), {}, "must return a flax.nnx.Module, but returned str"),
        (
            jbn.from_linen(lambda: nn.Dense(7)),
            {},
            r"\[64, 10\] for a batch of 64 rows, but 'linen' puts out \[64, 7\]",
        ),
        (
            jbn.model(
                lambda key, x: ({}, {"seen": {"mean": jnp.zeros(3)}}),
                lambda params, x, stats: (x[:, :10], {"seen": {"mean": jnp.zeros(4)}}),
            ),
            {},
            r"stats\['seen'\]\['mean'\] was float32\[3\] before a step and is float32\[4\] after",
        ),
    ],
)
def test_mistakes_are_said_at_the_first_trace(model, configs, message):
    with pytest.raises(InputError, match=message):
        jbn.sweep(jbn.Task(model=model, data=DATA), {"learning_rate": [0.1], **configs}, epochs=1, key=KEY)


def test_names_and_switches_make_programs():
    def init(key, x, outputs, wide=False):
        return jax.random.normal(key, (x.shape[1] * (2 if wide else 1), outputs)) / 8

    def apply(params, x, activation="tanh", wide=False):
        x = jnp.tanh(x) if activation == "tanh" else jax.nn.relu(x)
        return (jnp.concatenate([x, -x], axis=1) if wide else x) @ params

    configs = {"activation": ["tanh", "relu"] * 2, "wide": [False, False, True, True]}
    result = jbn.sweep(jbn.Task(model=jbn.model(init, apply), data=DATA), configs, epochs=1, key=KEY)
    assert len(set(result.history.train_loss[-1])) == 4


def test_a_train_function_takes_a_model_of_others():
    train = jbn.train_function(task("linen"), epochs=1)

    def run(rate):
        return train({"rate": rate, "hidden_units": 8, "batch_size": BATCH}, KEY)[0].train_loss[-1]

    losses = jax.jit(jax.vmap(run))(jnp.array([0.0, 0.5]))
    assert losses[0] < losses[1]


def test_models_of_equal_functions_are_equal():
    assert jbn.from_linen(Linen) is MODELS["linen"]
    assert jbn.from_nnx(Nnx) is MODELS["nnx"]
    assert jbn.model(mlp_init, mlp_apply) is MODELS["functions"]


def test_importing_the_library_does_not_import_flax():
    import subprocess
    import sys

    code = (
        "import jbn, sys; assert 'flax' not in sys.modules; jbn.linen.BatchNorm; assert 'flax' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
