"""Losses, by name."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from jbn.errors import InputError, did_you_mean

Loss = Callable[[Float[Array, "rows outputs"], Int[Array, " rows"]], Float[Array, " rows"]]


def cross_entropy(
    outputs: Float[Array, "rows outputs"], labels: Int[Array, " rows"]
) -> Float[Array, " rows"]:
    """Softmax cross entropy: `log(sum_k exp(z_k)) - z_label`, one value a row, in nats.

    >>> import jax.numpy as jnp
    >>> cross_entropy(jnp.zeros((1, 2)), jnp.array([1])).tolist()
    [0.69314...]
    """
    return optax.softmax_cross_entropy(
        outputs, jax.nn.one_hot(labels, outputs.shape[-1], dtype=outputs.dtype)
    )


def accuracy(outputs: Float[Array, "rows outputs"], labels: Int[Array, " rows"]) -> Float[Array, " rows"]:
    """1 where the largest output is that of the label, 0 elsewhere."""
    return (jnp.argmax(outputs, axis=-1) == labels).astype(outputs.dtype)


LOSSES: Mapping[str, Loss] = {"cross_entropy": cross_entropy}


def loss(name: str) -> Loss:
    """The loss of that name."""
    if name not in LOSSES:
        raise InputError(f"unknown loss {name!r}: {did_you_mean(name, LOSSES)}")
    return LOSSES[name]
