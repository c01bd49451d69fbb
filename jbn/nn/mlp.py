"""The batch-normalised multi-layer perceptron."""

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from jbn.nn import batch_norm, counter
from jbn.nn.dropout import dropout
from jbn.nn.model import Hyper, HyperParameter, Model, Padded, capacity, check_values, valid

ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    "relu": jax.nn.relu,
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
}
_GAIN = {"relu": 2.0, "sigmoid": 1.0, "tanh": 1.0}  # He et al. 2015; Glorot and Bengio 2010 without fan-out
MAX_LAYERS = 64


def mlp(
    *,
    layers: int = 2,
    hidden_units: int = 64,
    activation: str = "relu",
    batch_norm: str = "before",
    batch_norm_momentum: float = 0.9,
    batch_norm_epsilon: float = 1e-5,
    initial_scale: float = 1.0,
    dropout: float = 0.0,
    bias: bool = True,
) -> Model:
    """A multi-layer perceptron with batch norm on every hidden layer.

    Hidden layer l with `a_0 = x`, flattened: `z_l = a_(l-1) W_l`, `a_l = g(BN(z_l))`, where BN's own bias takes
    the place of the layer's (a bias before batch norm has no effect). With `batch_norm="after"` it is
    `a_l = BN(g(z_l + b_l))`. The output layer is `a_L W + b`.

    Every argument is a default that a search space may vary under the same name, and the space may also give
    single layers their own size: `hidden_units_1`, `hidden_units_2`, ...

    Args:
        layers: hidden layers; the output layer is not counted.
        hidden_units: units of every hidden layer.
        activation: g: "relu", "sigmoid" or "tanh".
        batch_norm: where it stands: "before" the activation (Ioffe and Szegedy 2015), "after" it, or "none".
        batch_norm_momentum: weight of the old running statistics, in [0, 1].
        batch_norm_epsilon: added to the variance inside the square root.
        initial_scale: factor on the initial weights, uniform with standard deviation `sqrt(gain / fan_in)`,
            gain 2 for ReLU (He et al. 2015) and 1 for sigmoid, tanh and the output layer.
        dropout: share of hidden activations dropped in training (Srivastava et al. 2014), in [0, 1).
        bias: whether layers without batch norm behind them, the output layer included, have a bias.

    Raises:
        InputError: an argument that is not allowed.

    Returns:
        The model. Equal arguments give the same object, so that compiled programs are shared.

    >>> import jax
    >>> model = mlp(layers=1)
    >>> hyper = {"hidden_units": 5, "outputs": 3}
    >>> spec = jax.ShapeDtypeStruct((8, 4), "float32")
    >>> params, stats = model.init(jax.random.key(0), hyper, spec)
    >>> params["layer_1"]["kernel"].shape, model.infer(params, stats, jax.numpy.ones((2, 4)), hyper=hyper).shape
    ((4, 5), (2, 3))
    """
    defaults = dict(
        layers=layers,
        hidden_units=hidden_units,
        activation=activation,
        batch_norm=batch_norm,
        batch_norm_momentum=batch_norm_momentum,
        batch_norm_epsilon=batch_norm_epsilon,
        initial_scale=initial_scale,
        dropout=dropout,
        bias=bias,
    )
    return _model(tuple(defaults.items()))


@functools.lru_cache(maxsize=256)
def _model(settings: tuple[tuple[str, Any], ...]) -> Model:
    defaults = dict(settings)
    hyperparameters = _hyperparameters(defaults)
    for entry in hyperparameters:
        if entry.default is not None:
            check_values(entry, entry.default)
    return Model(
        init=functools.partial(_init, defaults),
        train=functools.partial(_train, defaults),
        infer=functools.partial(_infer, defaults),
        fold=functools.partial(_fold, defaults),
        hyperparameters=hyperparameters,
        name="mlp",
    )


def _hyperparameters(defaults: Mapping[str, Any]) -> tuple[HyperParameter, ...]:
    def entry(name: str, kind: Any, **limits: Any) -> HyperParameter:
        return HyperParameter(name, kind, defaults[name], **limits)

    return (
        entry("layers", "structural", low=1, high=MAX_LAYERS, whole=True),
        entry("hidden_units", "padded", low=1, whole=True),
        *(
            HyperParameter(f"hidden_units_{layer}", "padded", None, low=1, whole=True)
            for layer in range(1, MAX_LAYERS + 1)
        ),
        entry("activation", "compiled", options=tuple(ACTIVATIONS)),
        entry("batch_norm", "structural", options=("before", "after", "none")),
        entry("batch_norm_momentum", "traced", low=0, high=1),
        entry("batch_norm_epsilon", "traced", low=0, open_low=True),
        entry("initial_scale", "traced", low=0),
        entry("dropout", "traced", low=0, high=1, open_high=True, off=0),
        entry("bias", "structural", options=(True, False)),
    )


class _Layer(NamedTuple):
    """One hidden layer as the code below goes through them."""

    name: str
    units: "int | Padded"
    has_batch_norm: bool
    has_bias: bool


def _layers(settings: Hyper) -> Iterator[_Layer]:
    for index in range(1, settings["layers"] + 1):
        units = settings.get(f"hidden_units_{index}")
        yield _Layer(
            name=f"layer_{index}",
            units=settings["hidden_units"] if units is None else units,
            has_batch_norm=settings["batch_norm"] != "none",
            has_bias=settings["bias"] and settings["batch_norm"] != "before",
        )


def _init(
    defaults: Hyper, key: PRNGKeyArray, hyper: Hyper, x_spec: jax.ShapeDtypeStruct
) -> tuple[PyTree, PyTree]:
    settings = {**defaults, **hyper}
    gain = _GAIN[settings["activation"]]
    params, stats = {}, {}
    fan_in: int | Padded = _features(x_spec)
    for index, layer in enumerate(_layers(settings)):
        params[layer.name] = _dense(key, index, fan_in, layer.units, gain, layer.has_bias, settings)
        if layer.has_batch_norm:
            params[layer.name]["batch_norm"], stats[layer.name] = batch_norm.init(capacity(layer.units))
        fan_in = layer.units
    params["output"] = _dense(
        key, settings["layers"], fan_in, settings["outputs"], 1.0, settings["bias"], settings
    )
    return params, stats


def _dense(
    key: PRNGKeyArray,
    stream: int,
    fan_in: "int | Padded",
    units: "int | Padded",
    gain: float,
    has_bias: bool,
    settings: Hyper,
) -> dict[str, Any]:
    """Kernel (and bias) of one layer; draws depend on the place alone, rows and columns of the padding are 0."""
    kernel = counter.symmetric(key, (capacity(fan_in), capacity(units)), stream=stream)
    size = fan_in.size if isinstance(fan_in, Padded) else fan_in
    kernel = kernel * (settings["initial_scale"] * jnp.sqrt(3 * gain / jnp.asarray(size, kernel.dtype)))
    kernel = _keep(_keep(kernel, valid(units)).T, valid(fan_in)).T
    return (
        {"kernel": kernel, "bias": jnp.zeros(capacity(units), kernel.dtype)}
        if has_bias
        else {"kernel": kernel}
    )


def _train(
    defaults: Hyper,
    params: PyTree,
    stats: PyTree,
    x: Float[Array, "batch *features"],
    *,
    key: PRNGKeyArray,
    hyper: Hyper,
    mask: Bool[Array, " batch"] | None = None,
) -> tuple[Float[Array, "batch outputs"], PyTree]:
    settings = {**defaults, **hyper}
    if mask is not None:  # masked rows may hold anything; 0 keeps it out of the gradients of the kernels
        x = jnp.where(jax.lax.expand_dims(mask, range(1, x.ndim)), x, 0)
    updated = {}

    def normalize(name: str, z: Array) -> Array:
        y, updated[name] = batch_norm.train(
            params[name]["batch_norm"],
            stats[name],
            z,
            momentum=settings["batch_norm_momentum"],
            epsilon=settings["batch_norm_epsilon"],
            mask=mask,
        )
        return y

    def drop(index: int, a: Array) -> Array:
        return dropout(key, a, rate=settings["dropout"], layer=index)

    return _forward(settings, params, x, normalize, drop), updated


def _infer(
    defaults: Hyper, params: PyTree, stats: PyTree, x: Float[Array, "batch *features"], *, hyper: Hyper
) -> Float[Array, "batch outputs"]:
    settings = {**defaults, **hyper}

    def normalize(name: str, z: Array) -> Array:
        layer = params[name]["batch_norm"]
        return batch_norm.infer(layer, stats[name], z, epsilon=settings["batch_norm_epsilon"])

    return _forward(settings, params, x, normalize, lambda index, a: a)


def _fold(defaults: Hyper, params: PyTree, stats: PyTree, *, hyper: Hyper) -> tuple[PyTree, Hyper]:
    settings = {**defaults, **hyper}
    folded = {
        name: {part: value for part, value in layer.items() if part != "batch_norm"}
        for name, layer in params.items()
    }
    names = [*(layer.name for layer in _layers(settings)), "output"]
    before = settings["batch_norm"] == "before"
    for name, following in itertools.pairwise(names if stats else []):
        # before the activation the layer's own affine map takes it in, after it the next layer's
        layer = folded[name if before else following]
        layer["kernel"], layer["bias"] = (batch_norm.fold if before else batch_norm.fold_into_next)(
            params[name]["batch_norm"],
            stats[name],
            layer["kernel"],
            layer.get("bias"),
            epsilon=settings["batch_norm_epsilon"],
        )
    return folded, {**hyper, "batch_norm": "none"}


def _forward(
    settings: Hyper,
    params: PyTree,
    x: Float[Array, "batch *features"],
    normalize: Callable[[str, Array], Array],
    drop: Callable[[int, Array], Array],
) -> Float[Array, "batch outputs"]:
    activate = ACTIVATIONS[settings["activation"]]
    a = x.reshape(x.shape[0], -1)
    for index, layer in enumerate(_layers(settings)):
        z = _affine(params[layer.name], a)
        if settings["batch_norm"] == "before":
            z = normalize(layer.name, z)
        a = activate(z)
        if settings["batch_norm"] == "after":
            a = normalize(layer.name, a)
        a = _keep(drop(index, a), valid(layer.units))  # after the activation: sigmoid(0) is not 0
    return _affine(params["output"], a)


def _affine(params: PyTree, a: Float[Array, "batch inputs"]) -> Float[Array, "batch units"]:
    z = a @ params["kernel"]
    return z + params["bias"][None, :] if "bias" in params else z


def _keep(a: Float[Array, "rows units"], kept: Bool[Array, " units"] | None) -> Float[Array, "rows units"]:
    return a if kept is None else jnp.where(kept[None, :], a, 0)


def _features(x_spec: jax.ShapeDtypeStruct) -> int:
    size = 1
    for axis in x_spec.shape[1:]:
        size *= axis
    return size
