"""Whole networks: what PyTorch and Keras answered, answered by their weights in the networks of jbn and of flax."""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from numpy.testing import assert_allclose

import jbn
from jbn.errors import InputError
from jbn.interop import weights

RECORDED = Path(__file__).parent / "recorded"
ANSWERS = dict(np.load(RECORDED / "answers.npz"))
X = jnp.asarray(ANSWERS["x"])
CNN, HYPER = jbn.cnn(layers=2), {"outputs": 3, "channels_1": 4, "channels_2": 6}
KERAS_FILES = ["keras_cnn.weights.h5", "keras_cnn.keras", "keras_cnn.h5"]
ONLY_NUMBERED = {
    "epsilon": 2e-3,
    "batch_normalization_1": {"scale": False},
}  # what a .weights.h5 does not say
EPS = {"eps": 1e-3}


def ours():
    return CNN.init(jax.random.key(0), HYPER, jax.ShapeDtypeStruct((1, 8, 8, 1), "float32"))


@jax.jit
def infer(params, stats, x, hyper):
    return CNN.infer(params, stats, x, hyper={**HYPER, **hyper})


def answered(network):
    return infer(network.params, network.stats, X, network.hyper)


def state_dict():
    with np.load(RECORDED / "pytorch_cnn.npz") as arrays:
        return dict(arrays)


class Linen(linen.Module):
    epsilon: float = 1e-3

    @linen.compact
    def __call__(self, x, train=False):
        for channels in (4, 6):
            x = linen.Conv(channels, (3, 3))(x)
            x = linen.relu(linen.BatchNorm(use_running_average=not train, epsilon=self.epsilon)(x))
            x = linen.max_pool(x, (2, 2), (2, 2))
        return linen.Dense(3)(x.reshape(len(x), -1))


class Nnx(nnx.Module):
    def __init__(self, rngs):
        self.conv1, self.conv2 = (nnx.Conv(*sizes, (3, 3), rngs=rngs) for sizes in ((1, 4), (4, 6)))
        self.bn1, self.bn2 = (nnx.BatchNorm(size, epsilon=1e-3, rngs=rngs) for size in (4, 6))
        self.fc = nnx.Linear(24, 3, rngs=rngs)

    def __call__(self, x):
        for conv, norm in ((self.conv1, self.bn1), (self.conv2, self.bn2)):
            x = nnx.max_pool(nnx.relu(norm(conv(x))), (2, 2), (2, 2))
        return self.fc(x.reshape(len(x), -1))


@pytest.mark.parametrize("source", ["mapping", "pytorch_cnn.npz", "pytorch_cnn.safetensors"])
def test_pytorch_in_jbn(source):
    if source.endswith("safetensors"):
        pytest.importorskip("safetensors")
    given = state_dict() if source == "mapping" else RECORDED / source
    network = weights.load_network("pytorch", given, *ours(), arguments=EPS)
    assert_allclose(answered(network), ANSWERS["pytorch"], rtol=1e-5, atol=1e-6)
    assert network.hyper == {"batch_norm_epsilon": 1e-3, "batch_norm_momentum": 0.9}
    assert [(row.source, row.target) for row in network.report] == [
        ("0", "layer_1"),
        ("1", "layer_1/batch_norm"),
        ("4", "layer_2"),
        ("5", "layer_2/batch_norm"),
        ("9", "output"),
    ]
    assert "bias into the running mean" in str(network.report).splitlines()[0]
    assert "inputs by pixel, then 6 channels" in str(network.report).splitlines()[-1]


@pytest.mark.parametrize("name", KERAS_FILES)
def test_keras_in_jbn(name):
    pytest.importorskip("h5py")
    arguments = ONLY_NUMBERED if "weights" in name else {}
    network = weights.load_network("keras3", RECORDED / name, *ours(), arguments=arguments)
    assert_allclose(answered(network), ANSWERS["keras"], rtol=1e-5, atol=1e-6)
    assert [row.source for row in network.report if row.kind == "convolution"] == ["zeta", "alpha"]


def test_training_goes_on_in_jbn():
    """The running mean took the bias in: after a step it is still right for images without that bias."""
    network = weights.load_network("pytorch", state_dict(), *ours(), arguments=EPS)
    hyper = {**HYPER, **network.hyper}
    train = jax.jit(
        lambda x: CNN.train(network.params, network.stats, x, key=jax.random.key(0), hyper=hyper)[1]
    )
    stats = train(X)
    kernel, old = network.params["layer_1"]["kernel"], network.stats["layer_1"]
    images = jax.lax.conv_general_dilated(
        X, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    assert_allclose(
        stats["layer_1"].mean, 0.9 * old.mean + 0.1 * images.mean((0, 1, 2)), rtol=1e-4, atol=1e-6
    )
    assert_allclose(stats["layer_1"].var, 0.9 * old.var + 0.1 * images.var((0, 1, 2)), rtol=1e-4)


@pytest.mark.parametrize("epsilon", [None, 1e-5])
def test_pytorch_in_linen(epsilon):
    """Another epsilon here than there is taken into the variance."""
    module = Linen(1e-3 if epsilon is None else epsilon)
    made = jax.jit(module.init)(jax.random.key(0), X)
    params, stats = made["params"], {"batch_stats": made["batch_stats"]}
    network = weights.load_network("pytorch", state_dict(), params, stats, arguments=EPS, epsilon=epsilon)
    y = jax.jit(module.apply)({"params": network.params, **network.stats}, X)
    assert_allclose(y, ANSWERS["pytorch"], rtol=1e-5, atol=1e-6)
    assert jax.tree.structure(network.params) == jax.tree.structure(params)
    assert network.settings["BatchNorm_1"].epsilon == (epsilon or 1e-3)


def test_pytorch_in_nnx_by_name():
    names = {"0": "conv1", "1": "bn1", "4": "conv2", "5": "bn2", "9": "fc"}
    renamed = {
        f"{names[layer]}.{own}": value
        for layer, _, own, value in ((*name.partition("."), value) for name, value in state_dict().items())
    }
    module = Nnx(nnx.Rngs(0))
    module.eval()
    network = weights.load_network(
        "pytorch", renamed, nnx.state(module, nnx.Param), nnx.state(module, nnx.BatchStat), arguments=EPS
    )
    assert all(row.source == row.target for row in network.report)
    nnx.update(module, network.params)
    nnx.update(module, network.stats)
    assert_allclose(module(X), ANSWERS["pytorch"], rtol=1e-5, atol=1e-6)


def test_keras_arrays_by_name_in_linen():
    """A mapping in place of a file, out of the names that Keras gives its variables."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(RECORDED / "keras_cnn.h5") as file:
        root = file["model_weights"]
        arrays = {
            f"{layer}/{own.rpartition('/')[2]}": np.asarray(root[layer][own])
            for layer in root.attrs["layer_names"]
            for own in root[layer].attrs["weight_names"]
        }
    made = jax.jit(Linen(2e-3).init)(jax.random.key(0), X)
    network = weights.load_network(
        "keras3", arrays, made["params"], made["batch_stats"], arguments={"epsilon": 2e-3}
    )
    y = jax.jit(Linen(2e-3).apply)({"params": network.params, "batch_stats": network.stats}, X)
    assert_allclose(y, ANSWERS["keras"], rtol=1e-5, atol=1e-6)


def dense(inputs, outputs, seed=0):
    kernel = np.random.default_rng(seed).normal(size=(outputs, inputs)).astype("f")
    return {"weight": kernel, "bias": np.arange(outputs, dtype="f")}


def norm(size):
    zeros, ones = np.zeros(size, "f"), np.ones(size, "f")
    return {"weight": ones, "bias": zeros, "running_mean": zeros, "running_var": ones}


def net(**layers):
    return {f"{name}.{own}": value for name, arrays in layers.items() for own, value in arrays.items()}


def mlp(**options):
    model = jbn.mlp(layers=2, hidden_units=4, **options)
    return model, model.init(jax.random.key(0), {"outputs": 4}, jax.ShapeDtypeStruct((1, 4), "float32"))


def test_square_kernels_are_transposed_and_in_order():
    """Nothing but order tells these layers apart."""
    layers = {"a": dense(4, 4, 1), "an": norm(4), "b": dense(4, 4, 2), "bn": norm(4), "c": dense(4, 4, 3)}
    model, made = mlp()
    network = weights.load_network("pytorch", net(**layers), *made)
    x, relu = np.random.default_rng(5).normal(size=(7, 4)).astype("f"), lambda z: np.maximum(z, 0)
    a, b, c = (layers[name]["weight"] for name in "abc")
    biases = np.arange(4)
    hidden = relu((relu((x @ a.T + biases) / np.sqrt(1 + 1e-5)) @ b.T + biases) / np.sqrt(1 + 1e-5))
    y = model.infer(network.params, network.stats, jnp.asarray(x), hyper={"outputs": 4, **network.hyper})
    assert_allclose(y, hidden @ c.T + biases, rtol=1e-4, atol=1e-5)


def test_batch_norm_after_the_activation_keeps_the_bias():
    layers = {"a": dense(4, 4, 1), "an": norm(4), "b": dense(4, 4, 2), "bn": norm(4), "c": dense(4, 4, 3)}
    _, made = mlp(batch_norm="after")
    network = weights.load_network("pytorch", net(**layers), *made)
    assert network.params["layer_1"]["bias"].tolist() == [0, 1, 2, 3]


def test_the_order_of_a_file_that_sorts_names_is_not_guessed(tmp_path):
    save_file = pytest.importorskip("safetensors.numpy").save_file
    layers = {
        "first": dense(4, 4, 1),
        "fn": norm(4),
        "deep": dense(4, 4, 2),
        "dn": norm(4),
        "last": dense(4, 4),
    }
    path = tmp_path / "net.safetensors"
    save_file(net(**layers), path)
    _, made = mlp()
    with pytest.raises(InputError, match="neither order nor numbers tell which is which; pass names="):
        weights.load_network("pytorch", path, *made)
    names = {"first": "layer_1", "deep": "layer_2", "fn": "layer_1/batch_norm", "dn": "layer_2/batch_norm"}
    network = weights.load_network("pytorch", path, *made, names=names)
    assert (network.params["output"]["kernel"] == layers["last"]["weight"].T).all()
    assert (network.params["layer_1"]["kernel"] == layers["first"]["weight"].T).all()


def pooled(inputs):
    """A convolution, its average over the image, and two dense layers."""
    kernel = {"weight": np.zeros((4, 1, 3, 3), "f"), "bias": np.zeros(4, "f")}
    return net(conv=kernel, first=dense(inputs, 8), second=dense(8, 3))


class Pooled(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = linen.Conv(4, (3, 3))(x)
        return linen.Dense(3)(linen.Dense(8)(x.mean((1, 2))))


def test_an_image_that_was_averaged_is_not_taken_for_a_flattened_one():
    """The second dense layer has twice as many inputs as the convolution channels, and no image."""
    params = Pooled().init(jax.random.key(0), X)["params"]
    assert list(params) == [
        "Conv_0",
        "Dense_1",
        "Dense_0",
    ]  # numbered as they are made, in the order of calls
    network = weights.load_network("pytorch", pooled(4), params, {})
    assert not any("pixel" in row.done for row in network.report)
    assert network.stats == {}
    assert network.hyper == {}


def test_flattened_says_which_layer_has_an_image():
    state = net(first=dense(12, 4), an=norm(4), last=dense(4, 3))
    model = jbn.mlp(layers=1, hidden_units=4)
    made = model.init(jax.random.key(0), {"outputs": 3}, jax.ShapeDtypeStruct((1, 12), "float32"))
    network = weights.load_network("pytorch", state, *made, flattened={"first": 3})
    kernel = state["first.weight"].T.reshape(3, 4, 4).swapaxes(0, 1).reshape(12, 4)
    assert (network.params["layer_1"]["kernel"] == kernel).all()
    with pytest.raises(InputError, match="'first' has 12 inputs, no multiple of channels 5 in flattened"):
        weights.load_network("pytorch", state, *made, flattened={"first": 5})
    with pytest.raises(
        InputError, match="flattened names 'frist', which is no dense layer; did you mean 'first'"
    ):
        weights.load_network("pytorch", state, *made, flattened={"frist": 3})


def test_different_layers_have_no_common_hyper():
    _, made = mlp()
    layers = {"a": dense(4, 4), "an": norm(4), "b": dense(4, 4), "bn": norm(4), "c": dense(4, 4)}
    network = weights.load_network("pytorch", net(**layers), *made, arguments={"an": {"eps": 0.1}})
    with pytest.raises(InputError, match="one epsilon and one momentum for all layers"):
        _ = network.hyper
    one = weights.load_network("pytorch", net(**layers), *made, arguments={"an": {"eps": 0.1}}, epsilon=1e-5)
    assert_allclose(one.stats["layer_1"].var, 1 + 0.1 - 1e-5, rtol=1e-6)
    assert one.hyper["batch_norm_epsilon"] == 1e-5


def test_frozen_layers_of_keras_are_reported():
    layers = {"a": {"kernel": np.ones((4, 4), "f")}, "b": {"kernel": np.ones((4, 4), "f")}}
    own = {
        "gamma": np.ones(4),
        "beta": np.zeros(4),
        "moving_mean": np.zeros(4),
        "moving_variance": np.ones(4),
    }
    layers |= {"an": own, "bn": own, "c": {"kernel": np.ones((4, 4), "f"), "bias": np.zeros(4, "f")}}
    arrays = {
        f"{layer}/{name}:0": value for layer, arrays in layers.items() for name, value in arrays.items()
    }
    network = weights.load_network("keras2", arrays, *mlp()[1], arguments={"an": {"trainable": False}})
    assert ["frozen there" in row.done for row in network.report if row.kind == "batch norm"] == [True, False]


GOOD = {"a": dense(4, 4), "an": norm(4), "b": dense(4, 4), "bn": norm(4), "c": dense(4, 4)}
WRONG = [
    (GOOD | {"d": dense(4, 4)}, "both networks must have the same dense layers, but there are 4"),
    ({name: GOOD[name] for name in "abc"}, r"same batch norm layers, but there are 0 \(none\) for 2"),
    (
        GOOD | {"a": dense(5, 4)},
        r"dense layer 'a' has shape \[5, 4\], but its counterpart 'layer_1'.* has \[4, 4\]",
    ),
    (
        GOOD | {"a": {"weight": np.ones((4, 4), "f"), "bias": np.ones(3, "f")}},
        "'bias' must have one entry for each",
    ),
    (GOOD | {"a": {"weight": np.full((4, 4), np.nan)}}, "layer 'a': array 'weight' must be finite"),
    (
        GOOD | {"a": {"weight": np.ones((4, 4), int)}},
        "layer 'a': array 'weight' must be finite floating-point",
    ),
    (GOOD | {"an": norm(4) | {"running_var": -np.ones(4)}}, "batch norm 'an': array 'running_var' must give"),
    (
        GOOD | {"e": {"in_proj_weight": np.ones((4, 4))}},
        "layer 'e' is no dense, convolutional or batch norm layer",
    ),
    (
        GOOD | {"e": {"weight": np.ones(4), "bias": np.ones(4)}},
        r"with running statistics: it has weight \[4\]",
    ),
    ({}, "weights hold at least one array, but these are empty"),
]


@pytest.mark.parametrize(("layers", "words"), WRONG)
def test_networks_that_do_not_fit(layers, words):
    with pytest.raises(InputError, match=words):
        weights.load_network("pytorch", net(**layers), *mlp()[1])


def test_what_names_and_arguments_cannot_be():
    made = mlp()[1]
    for options, words in (
        ({"names": {"z": "layer_1"}}, "names has an unknown layer 'z'"),
        ({"names": {"a": "layer_9"}}, "names has an unknown layer 'layer_9'; did you mean"),
        ({"names": {"a": "layer_1", "b": "layer_1"}}, "gives one layer of the network several counterparts"),
        (
            {"names": {"a": "layer_1/batch_norm"}},
            "but its counterpart 'layer_1/batch_norm', a batch norm layer",
        ),
        ({"arguments": {"nn": {"eps": 1e-3}}}, "arguments name a layer 'nn' that is not there"),
        ({"arguments": {"epsilon": 1e-3}}, "batch norm 'an': unknown argument 'epsilon'; did you mean 'eps'"),
        (
            {"arguments": {"an": {"track_running_stats": False}}},
            "track_running_stats=False, but array 'running_mean' is there",
        ),
    ):
        with pytest.raises(InputError, match=words):
            weights.load_network("pytorch", net(**GOOD), *made, **options)
    with pytest.raises(InputError, match="whole networks come from a few frameworks, not 'caffe'"):
        weights.load_network("caffe", net(**GOOD), *made)


def test_what_the_network_here_lacks_is_an_error():
    class Bare(linen.Module):
        options: tuple = ()

        @linen.compact
        def __call__(self, x):
            options = dict(self.options)
            x = linen.Dense(4, use_bias=options.get("bias", True))(x)
            return linen.BatchNorm(use_running_average=True, use_scale=options.get("scale", True))(x)

    def load(**options):
        made = Bare(tuple(options.items())).init(jax.random.key(0), jnp.ones((1, 4)))
        scaled = norm(4) | {"weight": np.full(4, 2.0, "f")}
        return weights.load_network(
            "pytorch", net(a=dense(4, 4), an=scaled), made["params"], made["batch_stats"]
        )

    load()
    with pytest.raises(InputError, match="'a' has a bias, but its counterpart 'Dense_0' has none"):
        load(bias=False)
    with pytest.raises(InputError, match="'an' has a scale, but its counterpart 'BatchNorm_0' has none"):
        load(scale=False)
    layers = {"a": dense(4, 4, 1), "an": norm(4), "b": dense(4, 4, 2), "bn": norm(4), "c": dense(4, 4, 3)}
    model, made = mlp(batch_norm_scale=False)
    network = weights.load_network("pytorch", net(**layers), *made)
    assert network.params["layer_2"]["batch_norm"].scale is None
    full = weights.load_network("pytorch", net(**layers), *mlp()[1])
    x, hyper = jnp.asarray(np.random.default_rng(5).normal(size=(7, 4)), "f"), {"outputs": 4, **full.hyper}
    outputs = [model.infer(own.params, own.stats, x, hyper=hyper) for own in (network, full)]
    np.testing.assert_array_equal(*outputs)
    layers["an"] = norm(4) | {"weight": np.full(4, 2.0, "f")}
    with pytest.raises(
        InputError, match="'an' has a scale, but its counterpart 'layer_1/batch_norm' has none"
    ):
        weights.load_network("pytorch", net(**layers), *made)
    weights.load_network("pytorch", net(**layers), *mlp(batch_norm_bias=False)[1])
    with pytest.raises(InputError, match="network's 'place' is no dense, convolutional or batch norm layer"):
        weights.load_network("pytorch", net(a=dense(4, 4)), {"place": {"embedding": jnp.ones((2, 2))}}, {})


def test_pickles_are_never_read(tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(InputError, match=r"is a pickle, which can run any code.*safetensors.torch.save_file"):
        weights.load_network("pytorch", path, *mlp()[1])
    harmful = tmp_path / "model.npz"
    np.savez(harmful, a=np.array([{}], object))
    with pytest.raises(InputError, match=r"cannot be read as an .npz file of plain arrays"):
        weights.load_network("pytorch", harmful, *mlp()[1])


def test_files_that_cannot_be_read(tmp_path):
    made = mlp()[1]
    for framework, name, words in (
        ("pytorch", "missing.npz", "there are no weights at"),
        ("pytorch", "broken.npz", "cannot be read as an .npz file"),
        ("pytorch", "net.onnx", "comes from a .safetensors or .npz file"),
        ("keras3", "net.npz", "come from a .weights.h5, .keras or .h5 file"),
    ):
        if not name.startswith("missing"):
            (tmp_path / name).write_bytes(b"nothing of the kind")
        with pytest.raises(InputError, match=words):
            weights.load_network(framework, tmp_path / name, *made)
    with pytest.raises(InputError, match="weights are a mapping of arrays or a path, but got int"):
        weights.load_network("pytorch", 3, *made)


@pytest.mark.parametrize(
    ("module", "framework", "name"),
    [
        ("safetensors", "pytorch", "net.safetensors"),
        ("h5py", "keras3", "net.h5"),
        ("h5py", "keras3", "net.keras"),
    ],
)
def test_files_that_are_damaged_and_libraries_that_are_missing(
    module, framework, name, tmp_path, monkeypatch
):
    pytest.importorskip(module)
    (tmp_path / name).write_bytes(b"nothing of the kind")
    with pytest.raises(InputError, match="cannot be read as"):
        weights.load_network(framework, tmp_path / name, *mlp()[1])
    for own in (module, f"{module}.numpy"):
        monkeypatch.setitem(__import__("sys").modules, own, None)
    with pytest.raises(
        InputError, match=rf"needs {module}, which is not installed; install the extra jbn\[weights\]"
    ):
        weights.load_network(framework, tmp_path / name, *mlp()[1])


def test_vectors_that_are_only_numbered_need_arguments():
    pytest.importorskip("h5py")
    with pytest.raises(InputError, match="'batch_normalization_1' has 3 vectors without names"):
        weights.load_network("keras3", RECORDED / "keras_cnn.weights.h5", *ours())


def test_pytorch_itself():
    torch = pytest.importorskip("torch")
    sizes = (4, 4, 4)
    layers = [part for size in sizes[1:] for part in (torch.nn.Linear(4, size), torch.nn.BatchNorm1d(size))]
    module = torch.nn.Sequential(*(part for layer in layers for part in (layer,)), torch.nn.Linear(4, 4))
    x = torch.randn(16, 4)
    module(x)
    module.eval()

    class Same(linen.Module):
        @linen.compact
        def __call__(self, x):
            for _ in range(2):
                x = linen.BatchNorm(use_running_average=True)(linen.Dense(4)(x))
            return linen.Dense(4)(x)

    made = Same().init(jax.random.key(0), jnp.ones((1, 4)))
    network = weights.load_network("pytorch", module.state_dict(), made["params"], made["batch_stats"])
    y = Same().apply({"params": network.params, "batch_stats": network.stats}, jnp.asarray(x.numpy()))
    assert_allclose(y, module(x).detach().numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # in Keras
def test_keras_itself(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", os.environ.get("KERAS_BACKEND", "jax"))
    pytest.importorskip("h5py")
    keras = pytest.importorskip("keras", exc_type=ImportError)
    hidden = [part for _ in range(2) for part in (keras.layers.Dense(4), keras.layers.BatchNormalization())]
    module = keras.Sequential([keras.Input((4,)), *hidden, keras.layers.Dense(4)])
    x = np.random.default_rng(0).normal(size=(16, 4)).astype("f")
    made = mlp()[1]
    with jax.numpy_rank_promotion("allow"):
        module(x, training=True)
        answer = np.asarray(module(x, training=False))
    module.save_weights(tmp_path / "mlp.weights.h5")
    network = weights.load_network("keras3", tmp_path / "mlp.weights.h5", *made)
    network = jax.tree.map(np.asarray, network._replace(settings=None, report=None))
    a = x
    for layer in ("layer_1", "layer_2"):
        own, stats = network.params[layer]["batch_norm"], network.stats[layer]
        z = a @ network.params[layer]["kernel"]
        a = own.scale * (z - stats.mean) / np.sqrt(stats.var + 1e-3) + own.bias
    y = a @ network.params["output"]["kernel"] + network.params["output"]["bias"]
    assert_allclose(y, answer, rtol=1e-4, atol=1e-5)


def test_the_readme_s_example_runs():
    readme = Path(__file__).parents[3] / "README.md"
    (example,) = [block for block in readme.read_text().split("```")[1::2] if "weights.load(" in block]
    names = {"arrays": norm(4), "x": np.random.default_rng(0).normal(size=(8, 4)).astype("f")}
    exec(compile(example, "README.md", "exec"), names)
    assert list(names["arrays"]) == list(norm(4))
    assert names["settings"].epsilon == 1e-3
