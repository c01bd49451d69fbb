"""Losses, by name or as a function of one's own."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Num

from jbn.errors import InputError, did_you_mean
from jbn.nn.model import Hyper, HyperParameter, check_values

Kind = Literal["classes", "numbers"]


class Loss(NamedTuple):
    """A loss; hashable.

    Args:
        name: as given to a task, or for tables.
        function: `function(outputs, targets, **hyperparameters) -> [rows]`; its mean is minimised.
        kinds: what the targets may be.
        outputs: how many a row the network puts out; None: as many as there are classes, or numbers a row.
        hyperparameters: what a space may vary.
        training_only: names of those that do not count at validation, so that configurations stay comparable.
        standardized: targets that are numbers come standardised with the training part's mean and deviation.
    """

    name: str
    function: Callable[..., Array]
    kinds: tuple[Kind, ...] = ("classes", "numbers")
    outputs: int | None = None
    hyperparameters: tuple[HyperParameter, ...] = ()
    training_only: tuple[str, ...] = ()
    standardized: bool = False

    def values(
        self, hyper: Hyper, outputs: Array, targets: Array, *, training: bool
    ) -> Float[Array, " rows"]:
        """The loss of every row.

        Raises:
            InputError: the function did not return one floating number a row.
        """
        left_out = () if training else self.training_only
        names = [e.name for e in self.hyperparameters if e.name in hyper and e.name not in left_out]
        values = self.function(outputs, targets, **{name: hyper[name] for name in names})
        shape, dtype = jnp.shape(values), jnp.result_type(values)
        if shape != targets.shape[:1] or not jnp.issubdtype(dtype, jnp.floating):
            raise InputError(
                f"a loss must be one floating number a row, {[len(targets)]} for a batch of {len(targets)} rows, "
                f"but returned {dtype}{list(shape)}; leave the mean over the rows to jbn"
            )
        return values


def cross_entropy(
    outputs: Float[Array, "rows outputs"], targets: Int[Array, " rows"], label_smoothing: Any = None
) -> Float[Array, " rows"]:
    """Softmax cross entropy: `-sum_k q_k log softmax(z)_k`, one value a row, in nats.

    q is 1 for the class and 0 for the K - 1 others; with `label_smoothing` a, a scalar, it is `(1 - a) q + a / K`
    (Szegedy et al. 2016, section 7).

    >>> import jax.numpy as jnp
    >>> cross_entropy(jnp.zeros((1, 2)), jnp.array([1])).tolist()
    [0.69314...]
    """
    wanted = jax.nn.one_hot(targets, outputs.shape[-1], dtype=outputs.dtype)
    if label_smoothing is not None:
        wanted = (1 - label_smoothing) * wanted + label_smoothing / outputs.shape[-1]
    return optax.softmax_cross_entropy(outputs, wanted)


def binary_cross_entropy(
    outputs: Float[Array, " rows *numbers"],
    targets: Num[Array, " rows *numbers"],
    label_smoothing: Any = None,
) -> Float[Array, " rows"]:
    """Sigmoid cross entropy: `-q log s(z) - (1 - q) log(1 - s(z))`, the mean over a row's numbers, in nats.

    q is the target, from 0 to 1; with `label_smoothing` a, a scalar, it is `(1 - a) q + a / 2`.

    >>> import jax.numpy as jnp
    >>> binary_cross_entropy(jnp.zeros(1), jnp.array([1])).tolist()
    [0.69314...]
    """
    wanted = targets.astype(outputs.dtype)
    if label_smoothing is not None:
        wanted = (1 - label_smoothing) * wanted + label_smoothing / 2
    return _mean_of_row(optax.sigmoid_binary_cross_entropy(outputs, wanted))


def mean_squared_error(
    outputs: Float[Array, " rows *numbers"], targets: Float[Array, " rows *numbers"]
) -> Float[Array, " rows"]:
    """`(z - t)^2`, the mean over a row's numbers, one value a row.

    >>> import jax.numpy as jnp
    >>> mean_squared_error(jnp.array([[1.0, 5.0]]), jnp.array([[3.0, 5.0]])).tolist()
    [2.0]
    """
    return _mean_of_row((outputs - targets) ** 2)


def huber(
    outputs: Float[Array, " rows *numbers"], targets: Float[Array, " rows *numbers"], huber_delta: Any = 1.0
) -> Float[Array, " rows"]:
    """`e^2 / 2` up to `|e| = huber_delta`, `huber_delta (|e| - huber_delta / 2)` beyond (Huber 1964); `e = z - t`.

    The mean over a row's numbers, one value a row.

    >>> import jax.numpy as jnp
    >>> huber(jnp.array([0.5, 3.0]), jnp.zeros(2)).tolist()
    [0.125, 2.5]
    """
    return _mean_of_row(optax.huber_loss(outputs, targets, delta=huber_delta))


def _mean_of_row(values: Array) -> Float[Array, " rows"]:
    return values if values.ndim == 1 else jnp.mean(values.reshape(len(values), -1), axis=1)


_SMOOTHING = HyperParameter("label_smoothing", "traced", 0.0, low=0, high=1, open_high=True, off=0.0)
_DELTA = HyperParameter("huber_delta", "traced", 1.0, low=0, open_low=True)

LOSSES: Mapping[str, Loss] = {
    own.name: own
    for own in (
        Loss("cross_entropy", cross_entropy, ("classes",), None, (_SMOOTHING,), ("label_smoothing",)),
        Loss(
            "binary_cross_entropy",
            binary_cross_entropy,
            hyperparameters=(_SMOOTHING,),
            training_only=("label_smoothing",),
        ),
        Loss("mean_squared_error", mean_squared_error, ("numbers",), standardized=True),
        Loss("huber", huber, ("numbers",), None, (_DELTA,), standardized=True),
    )
}


def loss(
    function: Any,
    *,
    name: str | None = None,
    outputs: int | None = None,
    standardized: bool = True,
    **defaults: Any,
) -> Loss:
    """A loss of one's own, whose numbers a space may vary.

    Args:
        function: `function(outputs, targets, **hyperparameters) -> [rows]`: pure, differentiable by JAX, one
            floating number a row, whose mean is minimised. Targets are class numbers `[rows]`, or numbers `[rows]`
            or `[rows, numbers]`; outputs are `[rows, outputs]`, or `[rows]` where there is one a row and the targets
            are `[rows]`.
        name: for tables and records; default: the function's.
        outputs: how many a row the network puts out; default: as many as there are classes, or numbers a row.
        standardized: targets that are numbers come with mean 0 and deviation 1 over the training part.
        **defaults: the function's hyper-parameters and their defaults, traced scalars.

    Raises:
        InputError: what is no function, or one that does not take these hyper-parameters; a name that is taken; a
            default that is no number.

    >>> import jax.numpy as jnp, jbn
    >>> def tilted(outputs, targets, quantile):
    ...     return jnp.maximum(quantile * (targets - outputs), (quantile - 1) * (targets - outputs))
    >>> jbn.loss(tilted, quantile=0.9).hyperparameters[0].name
    'quantile'
    """
    if not callable(function):
        raise InputError(f"a loss is a function of outputs and targets, but got {type(function).__name__}")
    name = name or name_of(function)
    if name in LOSSES:
        raise InputError(f"the name {name!r} is that of a loss of jbn; give yours another one")
    _check_arguments(function, defaults)
    entries = tuple(HyperParameter(own, "traced", default) for own, default in defaults.items())
    for entry in entries:
        if isinstance(entry.default, bool) or not isinstance(entry.default, int | float):
            raise InputError(f"the default of {entry.name} must be a number, but got {entry.default!r}")
        check_values(entry, entry.default)
    return Loss(name, function, outputs=outputs, hyperparameters=entries, standardized=standardized)


def name_of(function: Callable[..., Any]) -> str:
    """What people know a function by."""
    return str(getattr(function, "__name__", type(function).__name__))


def _check_arguments(function: Callable[..., Array], defaults: Mapping[str, Any]) -> None:
    try:
        inspect.signature(function).bind(None, None, **defaults)
    except TypeError as error:
        known = ", ".join(["outputs", "targets", *defaults])
        raise InputError(
            f"a loss must take {known}, and need nothing else, but {error}; name its hyper-parameters with their "
            f"defaults: jbn.loss(function, quantile=0.9)"
        ) from None
    except ValueError:  # a builtin without a signature
        return


def named(chosen: str | Loss | Callable[..., Array] | None, classes: int | None) -> Loss:
    """The loss of that name, or the given one; None: the usual one for so many classes (None: for numbers).

    Raises:
        InputError: an unknown name, or a loss that is not for such targets.
    """
    kind: Kind = "numbers" if classes is None else "classes"
    if chosen is None:
        chosen = "mean_squared_error" if classes is None else "cross_entropy"
    if isinstance(chosen, Loss):
        return chosen
    if callable(chosen):
        return Loss(name_of(chosen), chosen, standardized=True)
    if chosen not in LOSSES:
        raise InputError(f"unknown loss {chosen!r}: {did_you_mean(chosen, LOSSES)}")
    own = LOSSES[chosen]
    if kind not in own.kinds:
        fitting = [name for name, other in LOSSES.items() if kind in other.kinds]
        raise InputError(
            f"the loss {chosen!r} needs targets that are {' or '.join(own.kinds)}, but those of the data are "
            f"{kind}; take {' or '.join(fitting)}"
        )
    if own.function is binary_cross_entropy and classes is not None:
        if classes != 2:
            raise InputError(
                f"the loss 'binary_cross_entropy' needs 2 classes, but there are {classes}; take cross_entropy"
            )
        return own._replace(outputs=1)
    return own
