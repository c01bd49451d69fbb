"""How the learning rate changes while a member trains."""

from collections.abc import Callable, Mapping

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int

from jbn.nn.model import Hyper, HyperParameter

# one cycle as PyTorch and optax have it: its first and last factor, and how much of it rises
_FIRST, _LAST, _RISE = 1 / 25, 1e-4 / 25, 0.3

_Factor = Callable[[Hyper, Int[Array, ""], Float[Array, ""]], Float[Array, ""]]


def _inverse(hyper: Hyper, epoch: Array, share: Array) -> Array:
    return 1 / (1 + hyper["decay_rate"] * epoch)


def _exponential(hyper: Hyper, epoch: Array, share: Array) -> Array:
    return jnp.exp(-hyper["decay_rate"] * epoch)


def _square_root(hyper: Hyper, epoch: Array, share: Array) -> Array:
    return 1 / jnp.sqrt(1 + hyper["decay_rate"] * epoch)


def _staircase(hyper: Hyper, epoch: Array, share: Array) -> Array:
    return 0.5 ** jnp.floor(hyper["decay_rate"] * epoch)


def _cosine(hyper: Hyper, epoch: Array, share: Array) -> Array:
    warmup = hyper.get("warmup", 0.0)
    return _half_cosine((share - warmup) / (1 - warmup))


def _one_cycle(hyper: Hyper, epoch: Array, share: Array) -> Array:
    rise = 1 - (1 - _FIRST) * _half_cosine(share / _RISE)
    return jnp.where(share < _RISE, rise, _LAST + (1 - _LAST) * _half_cosine((share - _RISE) / (1 - _RISE)))


def _half_cosine(share: Array) -> Array:
    """From 1 at 0 to 0 at 1."""
    return 0.5 + 0.5 * jnp.cos(jnp.pi * jnp.clip(share, 0, 1))


SCHEDULES: Mapping[str, _Factor] = {
    "inverse": _inverse,
    "exponential": _exponential,
    "square_root": _square_root,
    "staircase": _staircase,
    "cosine": _cosine,
    "one_cycle": _one_cycle,
}

HYPERPARAMETERS = (
    HyperParameter("decay_rate", "traced", 0.0, low=0),
    HyperParameter("schedule_epochs", "traced", 1.0, low=0, open_low=True),
    HyperParameter("schedule", "compiled", "inverse", options=tuple(SCHEDULES)),
    HyperParameter("warmup", "traced", 0.0, low=0, high=1, open_high=True, off=0.0),
)


def scheduled(
    hyper: Hyper, epoch: Int[ArrayLike, ""], within: Float[ArrayLike, ""] = 0.0
) -> Float[Array, ""]:
    """The learning rate of a step: `learning_rate * warm * factor`.

    With t the epoch, counted from 0, d `decay_rate`, and s the share of all training that is over:

    - "inverse": `factor = 1 / (1 + d t)`
    - "exponential": `factor = exp(-d t)`; d = 0.0513 is 0.95^t
    - "square_root": `factor = 1 / sqrt(1 + d t)`
    - "staircase": `factor = 0.5^floor(d t)`: d = 0.1 halves it every ten epochs
    - "cosine": half a cosine from 1 to 0 over the part of training that follows the warm-up (Loshchilov and
      Hutter 2017)
    - "one_cycle": half a cosine from 1/25 up to 1 over the first 0.3 of training, and down to 4e-6 over the rest
      (Smith and Topin 2019)

    Over the first `warmup` of all training, warm goes from 0 to 1 in a straight line; it is 1 afterwards, and where
    `warmup` is not in the space.

    Args:
        hyper: `learning_rate` and `decay_rate`; `schedule`, "inverse" if it is not there; `schedule_epochs`, how
            many are all training, for those that need it; perhaps `warmup`.
        epoch: t.
        within: share of the epoch that is over, in the middle of the step.

    >>> import jax.numpy as jnp
    >>> hyper = {"learning_rate": jnp.array(0.2), "decay_rate": 1.0}
    >>> [round(float(scheduled(hyper, epoch)), 3) for epoch in (0, 1, 2, 3)]
    [0.2, 0.1, 0.067, 0.05]
    """
    epoch = jnp.asarray(epoch)
    share = (epoch + within) / hyper.get("schedule_epochs", 1.0)
    rate = hyper["learning_rate"] * SCHEDULES[hyper.get("schedule", "inverse")](hyper, epoch, share)
    if "warmup" in hyper:
        warmup = hyper["warmup"]
        rate = rate * jnp.where(share < warmup, share / jnp.where(warmup > 0, warmup, 1), 1)
    return rate
