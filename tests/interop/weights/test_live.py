"""The same layer in a framework that is installed, step by step. flax always is; the others are skipped by name."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from numpy.testing import assert_allclose

from jbn.interop import weights
from jbn.interop.weights import Settings

CHANNELS = 4
rng = np.random.default_rng(11)
LAST = [rng.normal(2.0, 3.0, (6, 3, 2, CHANNELS)).astype(np.float32) for _ in range(4)]
FIRST = [np.ascontiguousarray(x.transpose(0, 3, 1, 2)) for x in LAST]
SCALE, BIAS = rng.uniform(0.5, 1.5, CHANNELS).astype("f"), rng.normal(size=CHANNELS).astype("f")
train = jax.jit(Settings.train, static_argnums=0)
close = {"rtol": 1e-5, "atol": 1e-5}


def follow(framework, arrays, batches, step, infer, **arguments):
    """Trains both from `arrays()` on and compares outputs, what is stored, and inference."""
    layer, start = weights.load(framework, arrays(), **arguments), arrays()
    for name, value in weights.save(layer).items():
        assert_allclose(value, start[name], rtol=1e-6, err_msg=name)
    stats = layer.stats
    for count, x in enumerate(batches, 1):
        y, stats = train(layer.settings, layer.params, stats, x)
        assert_allclose(y, step(x), **close)
        saved, own = weights.save(layer.params, stats, layer.settings, steps=count), arrays()
        assert list(saved) == list(own)
        for name, value in own.items():
            assert_allclose(saved[name], value, **close, err_msg=name)
            assert (saved[name].dtype, saved[name].shape) == (value.dtype, value.shape)
    assert_allclose(layer.settings.infer(layer.params, stats, batches[0]), infer(batches[0]), **close)


@pytest.mark.parametrize("options", [{}, {"use_scale": False}, {"axis": 1, "momentum": 0.8, "epsilon": 1e-3}])
def test_linen(options):
    module, batches = (
        linen.BatchNorm(use_fast_variance=False, **options),
        FIRST if options.get("axis") else LAST,
    )
    state = module.init(jax.random.key(0), batches[0], use_running_average=False)
    state = {**state, "params": {**state["params"], "bias": jnp.asarray(BIAS)}}

    def arrays():
        return {
            name: np.asarray(value)
            for part in ("params", "batch_stats")
            for name, value in state[part].items()
        }

    def step(x):
        y, moved = module.apply(state, x, use_running_average=False, mutable=["batch_stats"])
        state.update(moved)
        return y

    follow(
        "flax_linen",
        arrays,
        batches,
        step,
        lambda x: module.apply(state, x, use_running_average=True),
        **options,
    )


def test_nnx():
    module = nnx.BatchNorm(CHANNELS, use_fast_variance=False, rngs=nnx.Rngs(0))
    module.scale[...] = jnp.asarray(SCALE)

    def arrays():
        return {name: np.array(getattr(module, name)[...]) for name in ("scale", "bias", "mean", "var")}

    follow(
        "flax_nnx",
        arrays,
        LAST,
        lambda x: module(x, use_running_average=False),
        lambda x: module(x, use_running_average=True),
    )


@pytest.mark.parametrize("mode", ["batch", "ema"])
@pytest.mark.parametrize("trained", [0, 2])
def test_equinox(mode, trained):
    eqx = pytest.importorskip("equinox")
    module, state = eqx.nn.make_with_state(eqx.nn.BatchNorm)(CHANNELS, "batch", momentum=0.9, mode=mode)
    module = eqx.tree_at(lambda own: (own.weight, own.bias), module, (jnp.asarray(SCALE), jnp.asarray(BIAS)))
    index = getattr(module, f"{mode}_state_index")
    counter = "batch_counter" if mode == "batch" else "ema_first_time_index"
    if mode == "ema":  # it starts from what happens to be in memory
        state = state.set(index, (jnp.zeros(CHANNELS), jnp.ones(CHANNELS)))
    held = [state]

    def call(x, inference):
        function = jax.vmap(
            lambda x: module(x, held[0], inference=inference), axis_name="batch", out_axes=(0, None)
        )
        return function(x)

    def step(x):
        y, held[0] = call(x, False)
        return y

    def arrays():
        names = (f"{mode}_state_index/0", f"{mode}_state_index/1")
        own = {"weight": SCALE, "bias": BIAS}
        own |= {name: np.asarray(value) for name, value in zip(names, held[0].get(index), strict=True)}
        return {**own, counter: np.asarray(held[0].get(getattr(module, counter)))}

    for x in FIRST[:trained]:
        step(x)
    follow("equinox", arrays, FIRST[trained:], step, lambda x: call(x, True)[0], momentum=0.9, mode=mode)


@pytest.mark.parametrize("trained", [0, 2])
def test_haiku(trained):
    hk = pytest.importorskip("haiku")

    def forward(x, training):
        return hk.BatchNorm(True, True, 0.9)(x, training)

    function = hk.transform_with_state(forward)
    params, state = function.init(jax.random.key(0), LAST[0], True)
    held = [state]

    def step(x):
        y, held[0] = function.apply(params, held[0], None, x, True)
        return y

    def arrays():
        own = {name: np.asarray(value) for name, value in params["batch_norm"].items()}
        for part in ("mean_ema", "var_ema"):
            values = held[0][f"batch_norm/~/{part}"]
            own |= {f"{part}/{name}": np.asarray(value) for name, value in values.items()}
        return own

    for x in LAST[:trained]:
        step(x)
    follow(
        "haiku",
        arrays,
        LAST[trained:],
        step,
        lambda x: function.apply(params, held[0], None, x, False)[0],
        decay_rate=0.9,
    )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"momentum": None},
        {"momentum": 0.0},
        {"affine": False},
        {"bias": False},
        {"track_running_stats": False},
        {"eps": 1e-2, "momentum": 0.4},
    ],
)
def test_pytorch(options):
    torch = pytest.importorskip("torch")
    module = torch.nn.BatchNorm2d(CHANNELS, **options)

    def arrays():
        return {name: value.numpy().copy() for name, value in module.state_dict().items()}

    def call(x, training):
        module.train(training)
        return module(torch.tensor(x)).detach().numpy()

    follow("pytorch", arrays, FIRST, lambda x: call(x, True), lambda x: call(x, False), **options)


@pytest.mark.parametrize("options", [{}, {"scale": False}, {"center": False, "scale": False}, {"axis": 1}])
def test_keras(options, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", os.environ.get("KERAS_BACKEND", "jax"))
    keras = pytest.importorskip("keras", exc_type=ImportError)
    batches = FIRST if options.get("axis") else LAST
    module = keras.layers.BatchNormalization(**options)
    module.build(batches[0].shape)

    def arrays():
        return {own.name: np.array(own.value) for own in module.weights}

    follow(
        "keras3",
        arrays,
        batches,
        lambda x: np.asarray(module(x, training=True)),
        lambda x: np.asarray(module(x, training=False)),
        **options,
    )
