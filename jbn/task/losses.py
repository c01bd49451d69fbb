"""Losses, by name or as a function of one's own."""

import dataclasses
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


def loss(chosen: str | Loss) -> Loss:
    """The loss of that name, or the given function, whose result is checked wherever it is traced."""
    if callable(chosen):
        return _Checked(chosen)
    if chosen not in LOSSES:
        raise InputError(f"unknown loss {chosen!r}: {did_you_mean(chosen, LOSSES)}")
    return LOSSES[chosen]


def name_of(chosen: str | Loss) -> str:
    """What people know the loss by."""
    return chosen if isinstance(chosen, str) else getattr(chosen, "__name__", type(chosen).__name__)


@dataclasses.dataclass(frozen=True)
class _Checked:
    """A function of the user's; equal, and so compiled once, where the functions are."""

    function: Loss

    def __call__(self, outputs: Array, labels: Array) -> Array:
        values = self.function(outputs, labels)
        shape, dtype = jnp.shape(values), jnp.result_type(values)
        if shape != labels.shape or not jnp.issubdtype(dtype, jnp.floating):
            raise InputError(
                f"a loss must be one floating number a row, {list(labels.shape)} for a batch of {len(labels)} rows, "
                f"but returned {dtype}{list(shape)}; leave the mean over the rows to jbn"
            )
        return values
