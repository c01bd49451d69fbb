"""Gradient transformations whose every number may be a traced scalar.

All of them treat every entry alike: an entry's update depends on its own gradients and its own value alone, and
gradients of 0 leave a 0 where it is. So padding with zeros changes nothing.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from jbn.nn.model import Hyper
from jbn.task.packing import packed

_Updated = tuple[optax.Updates, Any]


class Beta(NamedTuple):
    """A weight of an exponentially weighted average and its complement, exact where beta is close to 1.

    In float32, 1 - 0.99999 is 0.14 % off; so `complement` is computed in float64 before both are rounded.
    """

    value: Float[Array, ""]
    complement: Float[Array, ""]


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
        return optax.ScaleByAdamState(jnp.zeros((), jnp.int32), mu=_zeros(params), nu=_zeros(params))

    def update(
        gradient: optax.Updates, state: optax.ScaleByAdamState, params: optax.Params | None = None
    ) -> _Updated:
        del params
        count = state.count + 1
        mean = _average(beta1, state.mu, gradient)
        square = jax.tree.map(lambda v, g: beta2.value * v + beta2.complement * g**2, state.nu, gradient)
        rate = learning_rate / _one_minus_power(beta1, count)
        scale = 1 / _one_minus_power(beta2, count)
        updates = jax.tree.map(lambda m, v: -rate * m / (_sqrt(v * scale) + epsilon), mean, square)
        return updates, optax.ScaleByAdamState(count, mu=mean, nu=square)

    return packed(optax.GradientTransformation(init, update))


def adamw(hyper: Hyper, learning_rate: Float[Array, ""]) -> optax.GradientTransformation:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019).

    `update = -learning_rate * (mhat / (sqrt(vhat) + epsilon) + weight_decay * p)`, where mhat and vhat are Adam's.

    As in optax and PyTorch the decay is multiplied by the learning rate, decayed or not, and applies to all
    parameters: kernels, biases and the scales of batch norm.

    Args:
        hyper: as for `adam`, and `weight_decay`, a scalar.
        learning_rate: of this step.
    """
    return _with_decay(adam(hyper, learning_rate), learning_rate * hyper["weight_decay"])


def lion(hyper: Hyper, learning_rate: Float[Array, ""]) -> optax.GradientTransformation:
    """Lion (Chen et al. 2023, algorithm 2).

    `c = beta1 m + (1 - beta1) g`, `m = beta2 m + (1 - beta2) g`,
    `update = -learning_rate * (sign(c) + weight_decay * p)`, for all parameters, with sign(0) = 0.

    Args:
        hyper: `beta1` and `beta2` as `Beta`, `weight_decay` a scalar.
        learning_rate: of this step.
    """
    beta1, beta2 = hyper["beta1"], hyper["beta2"]

    def update(gradient: optax.Updates, mean: optax.Updates, params: optax.Params | None = None) -> _Updated:
        del params
        signs = jax.tree.map(jnp.sign, _average(beta1, mean, gradient))
        return _scaled(-learning_rate, signs), _average(beta2, mean, gradient)

    inner = packed(optax.GradientTransformation(_zeros, update))
    return _with_decay(inner, learning_rate * hyper["weight_decay"])


def rmsprop(hyper: Hyper, learning_rate: Float[Array, ""]) -> optax.GradientTransformation:
    """RMSprop (Tieleman and Hinton 2012), with momentum.

    `v = beta2 v + (1 - beta2) g^2`, `m = optimizer_momentum m + g / (sqrt(v) + epsilon)`,
    `update = -learning_rate * m`.

    As in PyTorch, epsilon is added to the root (in optax, by default, inside it) and the learning rate
    multiplies the whole sum, not each of its terms by what it was then.

    Args:
        hyper: `beta2` as `Beta`, `epsilon` a scalar, and `optimizer_momentum` a scalar; where that is not there,
            no m is kept.
        learning_rate: of this step.
    """
    beta2, epsilon, momentum = hyper["beta2"], hyper["epsilon"], hyper.get("optimizer_momentum")

    def init(params: optax.Params) -> Any:
        return _zeros(params), None if momentum is None else _zeros(params)

    def update(gradient: optax.Updates, state: Any, params: optax.Params | None = None) -> _Updated:
        del params
        square = jax.tree.map(lambda v, g: beta2.value * v + beta2.complement * g**2, state[0], gradient)
        scaled = jax.tree.map(lambda v, g: g / (_sqrt(v) + epsilon), square, gradient)
        if momentum is None:
            return _scaled(-learning_rate, scaled), (square, None)
        trace = jax.tree.map(lambda m, g: momentum * m + g, state[1], scaled)
        return _scaled(-learning_rate, trace), (square, trace)

    return packed(optax.GradientTransformation(init, update))


def sgd(hyper: Hyper, learning_rate: Float[Array, ""]) -> optax.GradientTransformation:
    """Gradient descent with momentum: `m = optimizer_momentum m + g`, `update = -learning_rate m`.

    With `nesterov`, `update = -learning_rate (optimizer_momentum m + g)` (Sutskever et al. 2013).
    """
    momentum, nesterov = hyper["optimizer_momentum"], hyper.get("nesterov", False)
    return optax.sgd(learning_rate, momentum=momentum, nesterov=nesterov)


def clipped(gradient: optax.Updates, norm: Float[Array, ""]) -> optax.Updates:
    """The gradient, shortened to this Euclidean norm of all its entries if it is longer; 0 is no limit.

    Pascanu, Mikolov and Bengio 2013, algorithm 1. Entries of 0, as in padding, change nothing.
    """
    own = optax.tree.norm(gradient)
    factor = jnp.where((norm > 0) & (own > norm), norm / jnp.where(own > 0, own, 1), 1)
    return jax.tree.map(lambda g: factor.astype(g.dtype) * g, gradient)


def _with_decay(inner: optax.GradientTransformation, decay: Float[Array, ""]) -> optax.GradientTransformation:
    """`update - decay * p`: outside of the packing, so that parameters need not be packed for it."""

    def update(gradient: optax.Updates, state: Any, params: optax.Params | None = None) -> _Updated:
        updates, state = inner.update(gradient, state, params)
        return jax.tree.map(lambda u, p: u - decay * p, updates, params), state

    return optax.GradientTransformation(inner.init, update)


def _zeros(params: optax.Params) -> optax.Updates:
    return jax.tree.map(jnp.zeros_like, params)


def _average(beta: Beta, average: optax.Updates, gradient: optax.Updates) -> optax.Updates:
    return jax.tree.map(lambda m, g: beta.value * m + beta.complement * g, average, gradient)


def _scaled(factor: Float[Array, ""], updates: optax.Updates) -> optax.Updates:
    return jax.tree.map(lambda u: factor * u, updates)


def _one_minus_power(beta: Beta, count: Int[Array, ""]) -> Float[Array, ""]:
    return -jnp.expm1(count * jnp.log1p(-beta.complement))


def _sqrt(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The square root with derivative 0 at 0: an input that is constant has gradients of exactly 0."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1)), 0)
