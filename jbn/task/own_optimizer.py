"""Optimisers of one's own, from functions that make optax transformations."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import optax
from jaxtyping import Array, Float

from jbn.errors import InputError
from jbn.nn.model import Hyper, HyperParameter, check_values
from jbn.task.optimizers import COMMON, LEARNING_RATE, OPTIMIZERS, Optimizer

Factory = Callable[..., optax.GradientTransformation]

# what these names may be, whichever optimiser has them
_KNOWN = {entry.name: entry for own in OPTIMIZERS.values() for entry in own.hyperparameters}


def optimizer(
    factory: Factory, *, name: str = "own", elementwise: bool | None = None, **defaults: float
) -> Optimizer:
    """An optimiser of one's own, from a factory of optax transformations.

    The factory is called inside the compiled program, with the learning rate of the step and every
    hyper-parameter as traced scalars: a space may vary them all, and nothing is compiled anew. Numbers
    that must be Python's, and whatever else is fixed, belong inside the factory.

    The same factory with the same settings gives equal optimisers, which share compiled programs; so keep a lambda
    in a variable, for a new one is another factory.

    Args:
        factory: `factory(learning_rate=..., **hyperparameters)` returns an `optax.GradientTransformation`.
        name: for tables and records, and for a space that chooses among several: `Task(optimizer=("adam", own))`.
        elementwise: pass True if an entry's update depends on its own gradients and its own value alone, False if
            it does not. Otherwise it is tried out, at the defaults, where members of different width would
            share a program; of what acts only after several steps, or at other settings, that shows nothing.
        **defaults: the factory's further hyper-parameters as they stand in a space, and their defaults;
            `learning_rate` too may have another default than 0.001. `decay_rate`, `schedule`, `warmup` and
            `clip_norm` are there as well, but never come to the factory: the learning rate has its schedule
            and the gradient is clipped before.

    Raises:
        InputError: a factory that does not take these hyper-parameters, a default that is no number or not
            allowed for its name, or a name that is taken.

    >>> import jax, jbn, optax
    >>> own = jbn.optimizer(lambda learning_rate, b: optax.adafactor(learning_rate, decay_rate=b), b=0.8)
    >>> task = jbn.Task(model=jbn.mlp(layers=1, hidden_units=8), data=jbn.data.digits(), optimizer=own)
    >>> train = jax.jit(jbn.train_function(task, epochs=1))
    >>> metrics, params, stats = train({"learning_rate": 0.01, "b": 0.7}, jax.random.key(0))
    >>> metrics.validation_loss.shape
    (1,)
    """
    if name in OPTIMIZERS:
        raise InputError(f"the name {name!r} is that of an optimizer of jbn; give yours another one")
    _check_factory(factory, defaults)
    rate = LEARNING_RATE._replace(default=defaults.get("learning_rate", LEARNING_RATE.default))
    own = tuple(_own(entry, default) for entry, default in defaults.items() if entry != "learning_rate")
    for entry in (rate, *own):
        _check_default(entry)
    transform = _Own(factory, tuple(entry.name for entry in own))
    return Optimizer(name, (rate, *COMMON, *own), transform, elementwise)


@dataclasses.dataclass(frozen=True)
class _Own:
    """A factory as a transform; equal where the factory is."""

    factory: Factory
    names: tuple[str, ...]

    def __call__(self, hyper: Hyper, learning_rate: Float[Array, ""]) -> optax.GradientTransformation:
        made = self.factory(learning_rate=learning_rate, **{name: hyper[name] for name in self.names})
        if not (hasattr(made, "init") and hasattr(made, "update")):
            raise InputError(
                f"the factory of an optimizer must return an optax.GradientTransformation, "
                f"but returned {type(made).__name__}"
            )
        return made


def _own(name: str, default: Any) -> HyperParameter:
    """A hyper-parameter of a factory: a plain number, within the limits that its name has elsewhere."""
    return _KNOWN.get(name, HyperParameter(name, "traced", 0.0))._replace(
        default=default, complement=False, off=None
    )


def _check_default(entry: HyperParameter) -> None:
    if isinstance(entry.default, bool) or not isinstance(entry.default, int | float | np.number):
        raise InputError(
            f"the default of {entry.name} must be a number, but got {entry.default!r}; what is no number belongs "
            f"inside the factory"
        )
    check_values(entry, entry.default)


def _check_factory(factory: Factory, defaults: Mapping[str, Any]) -> None:
    """It must be a function of the learning rate and of exactly these hyper-parameters."""
    if not callable(factory):
        hint = ": lambda learning_rate: optax.adam(learning_rate)" if hasattr(factory, "update") else ""
        raise InputError(
            f"an optimizer is made from a function of the learning rate, but got {type(factory).__name__}; "
            f"pass the function that makes it{hint}"
        )
    for entry in COMMON:
        if entry.name in defaults:
            raise InputError(
                f"{entry.name} is a hyper-parameter of every optimizer already, and never comes to the factory: the "
                f"learning rate has its schedule and the gradient is clipped before; give the factory's own another "
                f"name: lambda learning_rate, b: optax.adafactor(learning_rate, decay_rate=b)"
            )
    given = dict.fromkeys(["learning_rate", *defaults])
    try:
        inspect.signature(factory).bind(**given)
    except TypeError as error:
        raise InputError(
            f"the factory of an optimizer must take {', '.join(given)} by name, and need nothing else, "
            f"but {error}; name its hyper-parameters with their defaults: jbn.optimizer(factory, b=0.8)"
        ) from None
