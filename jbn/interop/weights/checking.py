"""What arrays of a batch norm layer must be, with an error that names the layer and the array."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jbn.errors import InputError
from jbn.interop.weights.forms import Axes, Form
from jbn.interop.weights.settings import Settings


def values(label: str, form: Form, arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The arrays, in the order they came, each finite and of a type that it can have.

    Raises:
        InputError: what is no number, not finite, or of another type; a counter that counts nothing.
    """
    roles = dict(form.arrays)
    return {
        name: (
            _counter(label, form, name, given) if roles[name] == "counter" else _floats(label, name, given)
        )
        for name, given in arrays.items()
    }


def _array(label: str, name: str, given: Any) -> np.ndarray:
    try:
        return np.asarray(given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{label}: {name!r} must be an array of numbers, but NumPy says: {error}") from error


def _floats(label: str, name: str, given: Any) -> np.ndarray:
    array = _array(label, name, given)
    if not jax.numpy.issubdtype(array.dtype, np.floating):
        raise InputError(
            f"{label}: array {name!r} must have floating-point numbers, but has type {array.dtype}"
        )
    if not array.size:
        raise InputError(
            f"{label}: array {name!r} must have at least one entry, but has shape {list(array.shape)}"
        )
    wrong = ~np.isfinite(array.astype(np.float64))
    if wrong.any():
        place = np.argwhere(wrong)[0].tolist()
        raise InputError(
            f"{label}: array {name!r} must be finite, but is {array[tuple(place)]} at {place}, "
            f"as are {wrong.sum()} of {wrong.size} entries"
        )
    return array


def _counter(label: str, form: Form, name: str, given: Any) -> np.ndarray:
    array = _array(label, name, given)
    if array.size != 1 or array.dtype.kind not in "biuf":
        raise InputError(
            f"{label}: {name!r} must be a single number, but has shape {list(array.shape)} and type {array.dtype}"
        )
    number = float(array.reshape(()))
    if not np.isfinite(number) or number < 0:
        raise InputError(f"{label}: {name!r} must be finite and at least 0, but is {number:g}")
    if form.counter == "sums" and number == 0:
        raise InputError(
            f"{label}: the scale factor {name!r} is 0: nothing was ever summed, so there are no mean and variance; "
            "take the weights of a layer that was trained"
        )
    return array


def channels(label: str, name: str, array: np.ndarray, axes: Axes) -> np.ndarray:
    """The array with one entry a channel: without the axes of length 1 that stand for what is reduced.

    Raises:
        InputError: a shape with more than the channels in it.

    >>> channels("layer", "mean", np.zeros((1, 3, 1, 1)), 1).shape
    (3,)
    """
    several = axes if isinstance(axes, tuple) else (axes,)
    if array.ndim == len(several):
        return array
    if array.ndim > max(axis if axis >= 0 else -axis - 1 for axis in several):
        shape = tuple(array.shape[axis] for axis in several)
        if np.prod(shape) == array.size:
            return array.reshape(shape)
    squeezed = np.squeeze(array)
    if squeezed.ndim == len(several) or array.size == 1:
        return squeezed.reshape((1,) * len(several)) if array.size == 1 else squeezed
    raise InputError(
        f"{label}: array {name!r} must have one entry a channel, along axis {_words(several)}, "
        f"but has shape {list(array.shape)}"
    )


def _words(axes: tuple[int, ...]) -> str:
    return " and ".join(map(str, axes))


def check_positive(label: str, name: str, stored: np.ndarray, form: Form) -> None:
    """Deviations, and what is 1 by them, are positive.

    Raises:
        InputError: the array and the entry.
    """
    if form.stored.positive and (stored <= 0).any():
        place = np.argwhere(stored <= 0)[0].tolist()
        raise InputError(
            f"{label}: array {name!r} holds {form.stored.words}, which is positive, but is "
            f"{stored[tuple(place)]:g} at {place}"
        )


def check_variance(label: str, name: str, var: np.ndarray, settings: Settings) -> None:
    """A variance with which batch norm can be: `var + epsilon > 0` in the type that JAX computes in.

    Raises:
        InputError: the array, the entry, and what it would have to be.
    """
    epsilon = settings.form.epsilon[0]
    dtype = np.promote_types(jax.dtypes.canonicalize_dtype(var.dtype), np.float32)
    with np.errstate(over="ignore"):
        total = var.astype(dtype) + np.asarray(settings.epsilon, dtype)
    wrong = ~((total > 0) & np.isfinite(total))
    if wrong.any():
        place = np.argwhere(wrong)[0].tolist()
        raise InputError(
            f"{label}: array {name!r} must give a finite variance above -{epsilon}, but at {place} the variance is "
            f"{float(var[tuple(place)]):g} with {epsilon}={settings.epsilon:g}; check the weights, or pass the "
            f"layer's own {epsilon}"
        )
