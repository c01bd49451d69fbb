"""The batch-normalised multi-layer perceptron."""

import functools
import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jaxtyping import Array, ArrayLike, Bool, Float, PRNGKeyArray, PyTree

from jbn.nn import batch_norm, layers
from jbn.nn.batch_norm.parts import check_number
from jbn.nn.dropout import dropout
from jbn.nn.model import Hyper, Model
from jbn.nn.products import product

MAX_LAYERS = 64


def mlp(
    *,
    layers: int = 2,
    hidden_units: int = 64,
    activation: str = "relu",
    batch_norm: str = "before",
    batch_norm_momentum: float = 0.9,
    batch_norm_epsilon: float = 1e-5,
    batch_norm_scale: bool = True,
    batch_norm_bias: bool = True,
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
        batch_norm_scale: whether batch norm has a scale that is trained; else it is 1.
        batch_norm_bias: whether batch norm has a bias that is trained; else it is 0.
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
        batch_norm_scale=batch_norm_scale,
        batch_norm_bias=batch_norm_bias,
        initial_scale=initial_scale,
        dropout=dropout,
        bias=bias,
    )
    return _model(tuple(defaults.items()))


@functools.lru_cache(maxsize=256)
def _model(settings: tuple[tuple[str, Any], ...]) -> Model:
    return layers.model("mlp", "hidden_units", MAX_LAYERS, dict(settings), **_FUNCTIONS)


def _init(
    defaults: Hyper, key: PRNGKeyArray, hyper: Hyper, x_spec: jax.ShapeDtypeStruct
) -> tuple[PyTree, PyTree]:
    return layers.init({**defaults, **hyper}, key, inputs=math.prod(x_spec.shape[1:]), size="hidden_units")


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
    x = layers.without_masked(x, mask)
    updated = {}

    def normalize(name: str, z: Array) -> Array:
        momentum, epsilon = settings["batch_norm_momentum"], settings["batch_norm_epsilon"]
        check_number("momentum", momentum, 0.0, 1.0)  # inside jit they are no plain numbers any more
        check_number("epsilon", epsilon, 0.0, math.inf)
        y, updated[name] = _normalized(params[name]["batch_norm"], stats[name], z, momentum, epsilon, mask)
        return y

    def drop(index: int, a: Array) -> Array:
        return dropout(key, a, rate=settings["dropout"], layer=index)

    return _forward(settings, params, x, normalize, drop), updated


@jax.jit  # traced once for all layers of a shape, of all networks: half the time that tracing a program takes
def _normalized(
    params: PyTree, stats: PyTree, z: Array, momentum: ArrayLike, epsilon: ArrayLike, mask: Array | None
) -> tuple[Array, PyTree]:
    return batch_norm.train(params, stats, z, momentum=momentum, epsilon=epsilon, mask=mask)


def _infer(
    defaults: Hyper, params: PyTree, stats: PyTree, x: Float[Array, "batch *features"], *, hyper: Hyper
) -> Float[Array, "batch outputs"]:
    settings = {**defaults, **hyper}

    def normalize(name: str, z: Array) -> Array:
        layer = params[name]["batch_norm"]
        return batch_norm.infer(layer, stats[name], z, epsilon=settings["batch_norm_epsilon"])

    return _forward(settings, params, x, normalize, lambda index, a: a)


def _observe(
    defaults: Hyper,
    params: PyTree,
    stats: PyTree,
    x: Float[Array, "batch *features"],
    *,
    key: PRNGKeyArray,
    hyper: Hyper,
) -> dict[str, batch_norm.Moments]:
    settings, seen = {**defaults, **hyper}, {}

    def normalize(name: str, z: Array) -> Array:
        seen[name] = batch_norm.moments(z)
        layer = params[name]["batch_norm"]
        return batch_norm.infer(layer, stats[name], z, epsilon=settings["batch_norm_epsilon"])

    def drop(index: int, a: Array) -> Array:
        return dropout(key, a, rate=settings["dropout"], layer=index)

    _forward(settings, params, x, normalize, drop)
    return seen


def _fold(defaults: Hyper, params: PyTree, stats: PyTree, *, hyper: Hyper) -> tuple[PyTree, Hyper]:
    settings = {**defaults, **hyper}
    folded = layers.without_batch_norm(params)
    names = [*(layer.name for layer in layers.hidden(settings, "hidden_units")), "output"]
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
    activate = layers.ACTIVATIONS[settings["activation"]]
    a = x.reshape(x.shape[0], -1)
    for index, layer in enumerate(layers.hidden(settings, "hidden_units")):
        z = _affine(params[layer.name], a)
        if settings["batch_norm"] == "before":
            z = normalize(layer.name, z)
        a = activate(z)
        if settings["batch_norm"] == "after":
            a = normalize(layer.name, a)
        a = layers.keep(drop(index, a), layer.size)  # after the activation: sigmoid(0) is not 0
    return _affine(params["output"], a)


def _affine(params: PyTree, a: Float[Array, "batch inputs"]) -> Float[Array, "batch units"]:
    return layers.add_bias(params, product(a, params["kernel"]))


_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "init": _init,
    "train": _train,
    "infer": _infer,
    "fold": _fold,
    "observe": _observe,
}
