"""What the networks share: their hidden layers, the settings of these, initial weights, activations, padding."""

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, PRNGKeyArray, PyTree

from jbn.nn import batch_norm, counter
from jbn.nn.model import Hyper, HyperParameter, Model, Padded, capacity, check_values, valid

ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    "relu": jax.nn.relu,
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
}
_GAIN = {"relu": 2.0, "sigmoid": 1.0, "tanh": 1.0}  # He et al. 2015; Glorot and Bengio 2010 without fan-out


def model(name: str, size: str, most_layers: int, defaults: Hyper, **functions: Callable[..., Any]) -> Model:
    """A network of hidden layers and an output layer.

    Args:
        name: of the model.
        size: hyper-parameter with the size of a hidden layer; `{size}_1`, ... are those of single layers.
        most_layers: how many hidden layers it may have.
        defaults: of all hyper-parameters but the numbered ones.
        **functions: those of a `Model`, with the defaults as first argument.

    Raises:
        InputError: a default that is not allowed.

    Returns:
        The model.
    """
    hyperparameters = _hyperparameters(size, most_layers, defaults)
    for entry in hyperparameters:
        if entry.default is not None:
            check_values(entry, entry.default)
    bound = {verb: functools.partial(function, defaults) for verb, function in functions.items()}
    channels = functools.partial(_channels, defaults, size)
    return Model(**bound, hyperparameters=hyperparameters, name=name, channels=channels)


def _hyperparameters(size: str, most_layers: int, defaults: Hyper) -> tuple[HyperParameter, ...]:
    def entry(name: str, kind: Any, **limits: Any) -> HyperParameter:
        return HyperParameter(name, kind, defaults[name], **limits)

    return (
        entry("layers", "structural", low=1, high=most_layers, whole=True),
        entry(size, "padded", low=1, whole=True),
        *(
            HyperParameter(f"{size}_{layer}", "padded", None, low=1, whole=True)
            for layer in range(1, most_layers + 1)
        ),
        entry("activation", "compiled", options=tuple(ACTIVATIONS)),
        entry("batch_norm", "structural", options=("before", "after", "none")),
        entry("batch_norm_momentum", "traced", low=0, high=1),
        entry("batch_norm_epsilon", "traced", low=0, open_low=True),
        entry("batch_norm_scale", "structural", options=(True, False), unrecorded=True),
        entry("batch_norm_bias", "structural", options=(True, False), unrecorded=True),
        entry("initial_scale", "traced", low=0),
        entry("dropout", "traced", low=0, high=1, open_high=True, off=0),
        entry("bias", "structural", options=(True, False)),
    )


class Layer(NamedTuple):
    """One hidden layer.

    Args:
        name: of its parameters and statistics.
        size: its units or channels.
        has_batch_norm: whether it has batch norm.
        has_bias: whether it has a bias besides that of batch norm.
    """

    name: str
    size: "int | Padded"
    has_batch_norm: bool
    has_bias: bool


def hidden(settings: Hyper, size: str) -> Iterator[Layer]:
    """The hidden layers in their order; `size` is as in `model`.

    >>> settings = {"layers": 2, "units": 8, "units_2": 3, "batch_norm": "before", "bias": True}
    >>> [(layer.name, layer.size, layer.has_bias) for layer in hidden(settings, "units")]
    [('layer_1', 8, False), ('layer_2', 3, False)]
    """
    for index in range(1, settings["layers"] + 1):
        own = settings.get(f"{size}_{index}")
        yield Layer(
            name=f"layer_{index}",
            size=settings[size] if own is None else own,
            has_batch_norm=settings["batch_norm"] != "none",
            has_bias=settings["bias"] and settings["batch_norm"] != "before",
        )


def _channels(defaults: Hyper, size: str, *, hyper: Hyper) -> dict[str, Any]:
    return {layer.name: layer.size for layer in hidden({**defaults, **hyper}, size) if layer.has_batch_norm}


def init(
    settings: Hyper,
    key: PRNGKeyArray,
    *,
    inputs: int,
    size: str,
    window: tuple[int, ...] = (),
    positions: tuple[int, ...] = (),
) -> tuple[PyTree, PyTree]:
    """Initial parameters and running statistics.

    Kernels are uniform with standard deviation `initial_scale * sqrt(gain / fan_in)`; biases are 0.

    Args:
        settings: of the member.
        key: of the initial weights.
        inputs: units or channels of the input.
        size: as in `model`.
        window: leading axes of hidden kernels, `[*window, inputs, outputs]`.
        positions: leading axes of the output layer's kernel.

    Returns:
        Parameters and running statistics, by layer.
    """
    gain = _GAIN[settings["activation"]]
    params, stats = {}, {}
    fan_in: int | Padded = inputs
    for index, layer in enumerate(hidden(settings, size)):
        kernel = _kernel(key, index, (*window, fan_in, layer.size), settings["initial_scale"], gain)
        params[layer.name] = _with_bias(kernel, layer.has_bias)
        if layer.has_batch_norm:
            params[layer.name]["batch_norm"], stats[layer.name] = batch_norm.init(
                capacity(layer.size), scale=settings["batch_norm_scale"], bias=settings["batch_norm_bias"]
            )
        fan_in = layer.size
    shape = (*positions, fan_in, settings["outputs"])
    kernel = _kernel(key, settings["layers"], shape, settings["initial_scale"], 1.0)
    params["output"] = _with_bias(kernel, settings["bias"])
    return params, stats


def _kernel(
    key: PRNGKeyArray, stream: int, shape: tuple[Any, ...], scale: ArrayLike, gain: float
) -> Float[Array, "..."]:
    """`[*window, inputs, outputs]`: draws depend on the place alone, rows and columns of the padding are 0."""
    *window, inputs, outputs = shape
    places = math.prod(window)
    draws = counter.symmetric(key, (capacity(inputs) * places, capacity(outputs)), stream=stream)
    kernel = draws.reshape(capacity(inputs), places, capacity(outputs)).swapaxes(0, 1)
    kernel = kernel.reshape(*window, capacity(inputs), capacity(outputs))
    fan_in = places * (inputs.size if isinstance(inputs, Padded) else inputs)
    kernel = kernel * (scale * jnp.sqrt(3 * gain / jnp.asarray(fan_in, kernel.dtype)))
    return keep(keep(kernel, outputs).swapaxes(-1, -2), inputs).swapaxes(-1, -2)


def _with_bias(kernel: Float[Array, "... outputs"], has_bias: bool) -> dict[str, Any]:
    return (
        {"kernel": kernel, "bias": jnp.zeros(kernel.shape[-1], kernel.dtype)}
        if has_bias
        else {"kernel": kernel}
    )


def add_bias(params: PyTree, z: Float[Array, "... outputs"]) -> Float[Array, "... outputs"]:
    """`z + b` if the layer has a bias, `z` if not."""
    return z + jax.lax.expand_dims(params["bias"], range(z.ndim - 1)) if "bias" in params else z


def keep(a: Float[Array, "... entries"], size: "int | Padded") -> Float[Array, "... entries"]:
    """The member's own entries along the last axis, and 0 in the padding.

    >>> keep(jnp.ones(3), Padded(jnp.array(2), 3)).tolist()
    [1.0, 1.0, 0.0]
    """
    kept = valid(size)
    return a if kept is None else jnp.where(jax.lax.expand_dims(kept, range(a.ndim - 1)), a, 0)


def without_masked(
    x: Float[Array, "batch *features"], mask: Bool[Array, " batch"] | None
) -> Float[Array, "batch *features"]:
    """The rows with 0 in those that are masked: they may hold anything, which would reach gradients of kernels."""
    return x if mask is None else jnp.where(jax.lax.expand_dims(mask, range(1, x.ndim)), x, 0)


def without_batch_norm(params: PyTree) -> dict[str, dict[str, Any]]:
    """The same layers, copied, with no batch norm."""
    return {
        name: {part: value for part, value in layer.items() if part != "batch_norm"}
        for name, layer in params.items()
    }
