"""Optimisers whose every number may be a traced scalar, and the learning rate's decay."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, ArrayLike, Float, Int

from jbn.errors import InputError, did_you_mean
from jbn.nn.model import Hyper, HyperParameter
from jbn.task.packing import packed


class Beta(NamedTuple):
    """A weight of an exponentially weighted average and its complement, exact where beta is close to 1.

    In float32, 1 - 0.99999 is 0.14 % off; so `complement` is computed in float64 before both are rounded.
    """

    value: Float[Array, ""]
    complement: Float[Array, ""]


class Optimizer(NamedTuple):
    """An optimiser by name.

    Args:
        name: as given to a task.
        hyperparameters: what a space may vary.
        transform: `transform(hyper, learning_rate)` gives the gradient transformation, from traced scalars.
    """

    name: str
    hyperparameters: tuple[HyperParameter, ...]
    transform: Callable[[Hyper, Float[Array, ""]], optax.GradientTransformation]


def decayed(hyper: Hyper, epoch: Int[Array, ""]) -> Float[Array, ""]:
    """The learning rate of an epoch: `learning_rate / (1 + decay_rate * epoch)`, epochs counted from 0."""
    return hyper["learning_rate"] / (1 + hyper["decay_rate"] * epoch)


def adam(hyper: Hyper, learning_rate: Float[Array, ""]) -> optax.GradientTransformation:
    """Adam (Kingma and Ba 2015, algorithm 1).

    `m = beta1 m + (1 - beta1) g`, `v = beta2 v + (1 - beta2) g^2`, `mhat = m / (1 - beta1^t)`,
    `vhat = v / (1 - beta2^t)`, `update = -learning_rate * mhat / (sqrt(vhat) + epsilon)`.

    Optax has the same recurrence, but takes 1 - beta in float32; here both come in as a `Beta`, and
    `1 - beta^t = -expm1(t log1p(-(1 - beta)))`.

    Args:
        hyper: `beta1` and `beta2` as `Beta`, `epsilon` a scalar.
        learning_rate: of this step.
    """
    beta1, beta2, epsilon = hyper["beta1"], hyper["beta2"], hyper["epsilon"]

    def init(params: optax.Params) -> optax.ScaleByAdamState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return optax.ScaleByAdamState(jnp.zeros((), jnp.int32), mu=zeros, nu=zeros)

    def update(
        gradient: optax.Updates, state: optax.ScaleByAdamState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.ScaleByAdamState]:
        del params
        count = state.count + 1
        mean = jax.tree.map(lambda m, g: beta1.value * m + beta1.complement * g, state.mu, gradient)
        square = jax.tree.map(lambda v, g: beta2.value * v + beta2.complement * g**2, state.nu, gradient)
        rate = learning_rate / _one_minus_power(beta1, count)
        scale = 1 / _one_minus_power(beta2, count)
        updates = jax.tree.map(lambda m, v: -rate * m / (_sqrt(v * scale) + epsilon), mean, square)
        return updates, optax.ScaleByAdamState(count, mu=mean, nu=square)

    return packed(optax.GradientTransformation(init, update))


def sgd(hyper: Hyper, learning_rate: Float[Array, ""]) -> optax.GradientTransformation:
    """Gradient descent with momentum: `m = optimizer_momentum m + g`, `update = -learning_rate m`."""
    return optax.sgd(learning_rate, momentum=hyper["optimizer_momentum"])


def _one_minus_power(beta: Beta, count: Int[Array, ""]) -> Float[Array, ""]:
    return -jnp.expm1(count * jnp.log1p(-beta.complement))


def _sqrt(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The square root with derivative 0 at 0: an input that is constant has gradients of exactly 0."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1)), 0)


def _traced(name: str, default: float, **limits: Any) -> HyperParameter:
    return HyperParameter(name, "traced", default, **limits)


_SCHEDULE = (
    _traced("learning_rate", 1e-3, low=0),
    _traced("decay_rate", 0.0, low=0),
)

OPTIMIZERS: Mapping[str, Optimizer] = {
    "adam": Optimizer(
        "adam",
        (
            *_SCHEDULE,
            _traced("beta1", 0.9, low=0, high=1, open_high=True, complement=True),
            _traced("beta2", 0.999, low=0, high=1, open_high=True, complement=True),
            _traced("epsilon", 1e-8, low=0, open_low=True),
        ),
        adam,
    ),
    "sgd": Optimizer(
        "sgd", (*_SCHEDULE, _traced("optimizer_momentum", 0.9, low=0, high=1, open_high=True)), sgd
    ),
}


def optimizer(name: str) -> Optimizer:
    """The optimiser of that name."""
    if name not in OPTIMIZERS:
        raise InputError(f"unknown optimizer {name!r}: {did_you_mean(name, OPTIMIZERS)}")
    return OPTIMIZERS[name]


__all__ = ["OPTIMIZERS", "ArrayLike", "Beta", "Optimizer", "adam", "decayed", "optimizer", "sgd"]
