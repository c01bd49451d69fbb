"""The batch-normalised convolutional network."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, PRNGKeyArray, PyTree

from jbn.errors import InputError
from jbn.nn import batch_norm, layers
from jbn.nn.convolution import convolve, max_pool, pooled_shape
from jbn.nn.dropout import dropout
from jbn.nn.model import Hyper, Model
from jbn.nn.products import product

MAX_LAYERS = 8
_ROWS = 256  # at inference so many at a time: all at once, a test set would take gigabytes

Statistics = tuple[Array, Array, ArrayLike]  # mean, variance, and what rounding took away from the mean


def cnn(
    *,
    layers: int = 2,
    channels: int = 16,
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
    """A convolutional network with batch norm in every block.

    Block l, with images `a_0 = x`: `z_l = a_(l-1) * W_l`, a convolution by 3x3 kernels with stride 1 and zeros
    around the image, then `a_l = pool(g(BN(z_l)))` with the maximum of 2x2 windows. BN has one mean and variance a
    channel, over rows and pixels, and its own bias takes the place of the block's. With `batch_norm="after"` it is
    `a_l = pool(BN(g(z_l + b_l)))`. The output layer is `a_L W + b` on all pixels and channels of the last block.

    Rows of data are images `[height, width]` or `[height, width, channels]`, or flat with a square number of
    pixels, which are taken for a square image of one channel (64 for 8 x 8). A block halves both sides, rounded
    down; a side of 1 stays as it is.

    Every argument is a default that a search space may vary under the same name, and the space may also give
    single blocks their own size: `channels_1`, `channels_2`, ...

    Args:
        layers: blocks, at most 8; the output layer is not counted.
        channels: of every block.
        activation: g: "relu", "sigmoid" or "tanh".
        batch_norm: where it stands: "before" the activation (Ioffe and Szegedy 2015), "after" it, or "none".
        batch_norm_momentum: weight of the old running statistics, in [0, 1].
        batch_norm_epsilon: added to the variance inside the square root.
        batch_norm_scale: whether batch norm has a scale that is trained; else it is 1.
        batch_norm_bias: whether batch norm has a bias that is trained; else it is 0.
        initial_scale: factor on the initial weights, uniform with standard deviation `sqrt(gain / fan_in)`, fan_in 9
            times the channels of the block before, gain 2 for ReLU (He et al. 2015) and 1 for sigmoid, tanh and
            the output layer.
        dropout: share of the output layer's inputs dropped in training (Srivastava et al. 2014), in [0, 1).
        bias: whether layers without batch norm behind them, the output layer included, have a bias.

    Raises:
        InputError: an argument that is not allowed. By the model's functions, at trace time: rows that are no
            images, or images too small for so many blocks.

    Returns:
        The model. Equal arguments give the same object, so that compiled programs are shared.

    >>> import jax
    >>> model = cnn(layers=2)
    >>> hyper = {"channels_1": 4, "channels_2": 6, "outputs": 3}
    >>> spec = jax.ShapeDtypeStruct((1, 8, 8), "float32")
    >>> params, stats = model.init(jax.random.key(0), hyper, spec)
    >>> [params[name]["kernel"].shape for name in ("layer_1", "layer_2", "output")]
    [(3, 3, 1, 4), (3, 3, 4, 6), (4, 6, 3)]
    >>> model.infer(params, stats, jax.numpy.ones((5, 8, 8)), hyper=hyper).shape
    (5, 3)
    """
    defaults = dict(
        layers=layers,
        channels=channels,
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
    return layers.model("cnn", "channels", MAX_LAYERS, dict(settings), **_FUNCTIONS)


def _init(
    defaults: Hyper, key: PRNGKeyArray, hyper: Hyper, x_spec: jax.ShapeDtypeStruct
) -> tuple[PyTree, PyTree]:
    settings = {**defaults, **hyper}
    height, width, inputs = _image_shape(x_spec.shape[1:])
    pixels = _pixels(height, width, settings["layers"])
    return layers.init(settings, key, inputs=inputs, size="channels", window=(3, 3), positions=(pixels,))


def _image_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Height, width and channels of a row of this shape."""
    if len(shape) == 1 and shape[0] == math.isqrt(shape[0]) ** 2:
        return math.isqrt(shape[0]), math.isqrt(shape[0]), 1
    if len(shape) in (2, 3):
        height, width, channels = (*shape, 1)[:3]
        return height, width, channels
    raise InputError(
        "a convolutional network takes rows [height, width] or [height, width, channels], or flat ones with a "
        f"square number of pixels, but got rows of shape {list(shape)}; reshape them, or take jbn.mlp"
    )


def _pixels(height: int, width: int, blocks: int) -> int:
    """Pixels of the image that so many blocks leave."""
    sides = height, width
    for block in range(blocks):
        if max(sides) < 2:
            raise InputError(
                f"every block halves the image, and {height} x {width} pixels can be halved {block} times, "
                f"but got layers={blocks}; take fewer layers or larger images"
            )
        sides = pooled_shape(*sides)
    return math.prod(sides)


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
    updated = {}

    def statistics(name: str, values: Array) -> Statistics:
        batch = batch_norm.moments(values, mask=mask)
        updated[name] = batch_norm.update(stats[name], batch, momentum=settings["batch_norm_momentum"])
        return batch.mean, batch.variance(), batch.rest

    def drop(a: Array) -> Array:  # pixels count as rows: their number does not change with the padding
        pixels = a.reshape(-1, a.shape[-1])
        return dropout(key, pixels, rate=settings["dropout"]).reshape(a.shape)

    return _forward(settings, params, layers.without_masked(x, mask), statistics, drop), updated


def _infer(
    defaults: Hyper, params: PyTree, stats: PyTree, x: Float[Array, "batch *features"], *, hyper: Hyper
) -> Float[Array, "batch outputs"]:
    settings = {**defaults, **hyper}

    def statistics(name: str, values: Array) -> Statistics:
        return stats[name].mean, stats[name].var, 0.0

    def some(x: Array) -> Array:
        return _forward(settings, params, x, statistics, lambda a: a)

    return _in_parts(some, x)


def _observe(
    defaults: Hyper,
    params: PyTree,
    stats: PyTree,
    x: Float[Array, "batch *features"],
    *,
    key: PRNGKeyArray,
    hyper: Hyper,
) -> dict[str, batch_norm.Moments]:
    del key  # what dropout changes no batch norm sees
    seen = {}

    def statistics(name: str, values: Array) -> Statistics:
        seen[name] = batch_norm.moments(values)
        return stats[name].mean, stats[name].var, 0.0

    _forward({**defaults, **hyper}, params, x, statistics, lambda a: a)
    return seen


def _in_parts(function: Callable[[Array], Array], x: Float[Array, "batch ..."]) -> Array:
    """The function of all rows, a few at a time; the last part is filled up."""
    count = len(x)
    if count <= _ROWS:
        return function(x)
    filled = jnp.pad(x, [(0, -count % _ROWS), *[(0, 0)] * (x.ndim - 1)])
    outputs = jax.lax.map(function, filled.reshape(-1, _ROWS, *x.shape[1:]))
    return outputs.reshape(-1, *outputs.shape[2:])[:count]


def _forward(
    settings: Hyper,
    params: PyTree,
    x: Float[Array, "batch *features"],
    statistics: Callable[[str, Array], Statistics],
    drop: Callable[[Array], Array],
) -> Float[Array, "batch outputs"]:
    image = _image_shape(x.shape[1:])
    pixels = _pixels(*image[:2], settings["layers"])
    a = x.reshape(len(x), *image)
    for layer in layers.hidden(settings, "channels"):
        a = _block(settings, layer.name, params[layer.name], a, statistics)
        a = layers.keep(a, layer.size)  # after the activation: sigmoid(0) is not 0
    features = drop(a).reshape(len(x), pixels * a.shape[-1])
    kernel = params["output"]["kernel"]
    return layers.add_bias(params["output"], product(features, kernel.reshape(-1, kernel.shape[-1])))


def _block(
    settings: Hyper,
    name: str,
    params: PyTree,
    a: Float[Array, "batch height width inputs"],
    statistics: Callable[[str, Array], Statistics],
) -> Float[Array, "batch rows columns channels"]:
    """Whatever is monotone comes after the pooling: the same numbers from a quarter of the pixels.

    Every activation rises; batch norm rises or, where its scale is negative, falls.
    """
    activate = layers.ACTIVATIONS[settings["activation"]]
    place, z = settings["batch_norm"], convolve(a, params["kernel"])
    if place == "none":
        return activate(layers.add_bias(params, max_pool(z)))
    if place == "after":
        z = activate(layers.add_bias(params, z))
    mean, var, rest = statistics(name, z)
    own, epsilon = params["batch_norm"], settings["batch_norm_epsilon"]
    falling = None if own.scale is None else own.scale < 0
    y = batch_norm.normalize(own, max_pool(z, falling=falling), mean, var, rest=rest, epsilon=epsilon)
    return activate(y) if place == "before" else y


def _fold(defaults: Hyper, params: PyTree, stats: PyTree, *, hyper: Hyper) -> tuple[PyTree, Hyper]:
    settings = {**defaults, **hyper}
    if settings["batch_norm"] == "after":
        raise InputError(
            "batch norm folds into the convolution after it only where no window is padded, but here all "
            "are, with batch_norm='after'; you might need to keep batch norm, or train with batch_norm='before'"
        )
    folded = layers.without_batch_norm(params)
    for name, running in stats.items():
        layer, epsilon = folded[name], settings["batch_norm_epsilon"]
        layer["kernel"], layer["bias"] = batch_norm.fold(
            params[name]["batch_norm"], running, layer["kernel"], layer.get("bias"), epsilon=epsilon
        )
    return folded, {**hyper, "batch_norm": "none"}


_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "init": _init,
    "train": _train,
    "infer": _infer,
    "fold": _fold,
    "observe": _observe,
}
