"""A multi-layer perceptron whose batch norm can be changed: what the scripts need beyond `jbn.mlp`."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

import jbn

ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    "relu": jax.nn.relu,
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
}


def init(
    key: PRNGKeyArray, x: Array, outputs: int, norm: bool = True, layers: int = 3, units: int = 64
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Kernels of He et al. (2015), equal with and without batch norm; biases where there is none behind them."""
    params: dict[str, Any] = {}
    stats: dict[str, Any] = {}
    fan_in = x.shape[1]
    for index, (name, size) in enumerate([*((name, units) for name in names(layers)), ("output", outputs)]):
        draws = jax.random.normal(jax.random.fold_in(key, index), (fan_in, size))
        params[name] = {"kernel": draws * jnp.sqrt((2 if name != "output" else 1) / fan_in)}
        if norm and name != "output":
            params[name]["batch_norm"], stats[name] = jbn.batch_norm.init(size)
        else:
            params[name]["bias"] = jnp.zeros(size)
        fan_in = size
    return params, stats


def names(layers: int) -> list[str]:
    """The names of the hidden layers."""
    return [f"layer_{layer}" for layer in range(1, layers + 1)]


def forward(
    params: Mapping[str, Any],
    x: Array,
    normalize: Callable[[str, Array], Array],
    *,
    activation: str = "relu",
    after: Callable[[str, Array], Array] = lambda name, a: a,
) -> tuple[Array, dict[str, Array]]:
    """Outputs, and what every layer takes in by its name: `a_l = after(g(normalize(a_(l-1) W_l)))`.

    `normalize` is used where a layer has batch norm, `after` behind every activation.
    """
    inputs: dict[str, Array] = {}
    for name in names(len(params) - 1):
        layer, inputs[name] = params[name], x
        z = x @ layer["kernel"]
        z = normalize(name, z) if "batch_norm" in layer else z + layer["bias"]
        x = after(name, ACTIVATIONS[activation](z))
    inputs["output"] = x
    return x @ params["output"]["kernel"] + params["output"]["bias"], inputs


def apply(
    params: Mapping[str, Any], x: Array, stats: Mapping[str, Any], train: bool, activation: str = "relu"
) -> tuple[Array, Mapping[str, Any]]:
    """`forward` as `jbn.model` takes it, with batch norm in those layers that have it."""
    normalize, moved = normalizing(params, stats, train)
    outputs, _ = forward(params, x, normalize, activation=activation)
    return outputs, moved if train else stats


def normalizing(
    params: Mapping[str, Any], stats: Mapping[str, Any], train: bool
) -> tuple[Callable[[str, Array], Array], dict[str, Any]]:
    """What normalises in `forward`, and where it puts the running statistics after a training batch."""
    moved: dict[str, Any] = {}

    def normalize(name: str, z: Array) -> Array:
        if not train:
            return jbn.batch_norm.infer(params[name]["batch_norm"], stats[name], z)
        y, moved[name] = jbn.batch_norm.train(params[name]["batch_norm"], stats[name], z)
        return y

    return normalize, moved


def infer(params: Mapping[str, Any], stats: Mapping[str, Any], x: Array) -> tuple[Array, dict[str, Array]]:
    """`forward` with the running statistics."""
    return forward(params, x, normalizing(params, stats, train=False)[0])


def train(
    params: Mapping[str, Any], stats: Mapping[str, Any], x: Array
) -> tuple[Array, dict[str, Array], dict[str, Any]]:
    """`forward` with the statistics of the batch, and the running ones after it."""
    normalize, moved = normalizing(params, stats, train=True)
    return (*forward(params, x, normalize), moved)
