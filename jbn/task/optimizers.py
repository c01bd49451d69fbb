"""Optimisers, those that have a name, and what a space may vary of them."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import optax
from jaxtyping import Array, Float

from jbn.errors import InputError, did_you_mean
from jbn.nn.model import Hyper, HyperParameter
from jbn.task import schedules, transforms
from jbn.task.transforms import Beta as Beta

Transform = Callable[[Hyper, Float[Array, ""]], optax.GradientTransformation]


class Optimizer(NamedTuple):
    """An optimiser; hashable.

    Args:
        name: as given to a task, or for tables and for spaces that choose it.
        hyperparameters: what a space may vary.
        transform: `transform(hyper, learning_rate)` gives the gradient transformation, from traced scalars.
        elementwise: whether an entry's update depends on its own gradients and its own value alone, and stays 0
            where these are 0, so that padding with zeros is exact; None if nobody knows.
    """

    name: str
    hyperparameters: tuple[HyperParameter, ...]
    transform: Transform
    elementwise: bool | None = None


def _traced(name: str, default: float, **limits: Any) -> HyperParameter:
    return HyperParameter(name, "traced", default, **limits)


def _beta(name: str, default: float) -> HyperParameter:
    return _traced(name, default, low=0, high=1, open_high=True, complement=True)


def _momentum(default: float, off: float | None = None) -> HyperParameter:
    return _traced("optimizer_momentum", default, low=0, high=1, open_high=True, off=off)


LEARNING_RATE = _traced("learning_rate", 1e-3, low=0)
# what every optimiser has besides its own: the learning rate's schedule, and the largest norm of a gradient
COMMON = (*schedules.HYPERPARAMETERS, _traced("clip_norm", 0.0, low=0, off=0.0))
_SCHEDULE = (LEARNING_RATE, *COMMON)
_EPSILON = _traced("epsilon", 1e-8, low=0, open_low=True)
_NESTEROV = HyperParameter("nesterov", "compiled", False, options=(False, True))
_WEIGHT_DECAY = _traced("weight_decay", 1e-4, low=0)
_ADAM = (*_SCHEDULE, _beta("beta1", 0.9), _beta("beta2", 0.999), _EPSILON)
_LION = (
    LEARNING_RATE._replace(default=1e-4),  # every entry moves by it, whatever its gradient
    *COMMON,
    _beta("beta1", 0.9),
    _beta("beta2", 0.99),
    _WEIGHT_DECAY._replace(default=1e-3),
)

OPTIMIZERS: Mapping[str, Optimizer] = {
    own.name: own
    for own in (
        Optimizer("adam", _ADAM, transforms.adam, elementwise=True),
        Optimizer("adamw", (*_ADAM, _WEIGHT_DECAY), transforms.adamw, elementwise=True),
        Optimizer("lion", _LION, transforms.lion, elementwise=True),
        Optimizer(
            "rmsprop",
            (*_SCHEDULE, _beta("beta2", 0.9), _EPSILON, _momentum(0.0, off=0.0)),
            transforms.rmsprop,
            elementwise=True,
        ),
        Optimizer("sgd", (*_SCHEDULE, _momentum(0.9), _NESTEROV), transforms.sgd, elementwise=True),
    )
}


def named(name: Any) -> Optimizer:
    """The optimiser of that name; what is an `Optimizer` already comes back as it is."""
    if isinstance(name, Optimizer):
        return name
    if not isinstance(name, str):
        raise InputError(
            f"optimizer must be a name ({', '.join(OPTIMIZERS)}) or what jbn.optimizer returns, "
            f"but got {type(name).__name__}; wrap what makes it: "
            f"jbn.optimizer(lambda learning_rate: optax.adam(learning_rate))"
        )
    if name not in OPTIMIZERS:
        raise InputError(f"unknown optimizer {name!r}: {did_you_mean(name, OPTIMIZERS)}")
    return OPTIMIZERS[name]
