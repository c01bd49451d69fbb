"""What a network is to the rest of jbn: three pure functions and the hyper-parameters they understand."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from jbn.errors import InputError

Hyper = Mapping[str, Any]
Kind = Literal["traced", "compiled", "padded", "structural", "open"]


class HyperParameter(NamedTuple):
    """A setting that a search space may vary.

    Args:
        name: as it stands in a space.
        kind: `traced` numbers are arguments of the compiled program; `compiled` ones are built into it but may
            change during a run; `structural` ones give arrays their shapes; `padded` ones do too, but smaller
            members may share a program with larger ones (see `Padded`); `open` ones are traced where their values
            are numbers with a decimal point, and structural otherwise.
        default: its value where the space does not have it.
        low: smallest number allowed, or None.
        high: largest number allowed, or None.
        open_low: `low` itself is not allowed.
        open_high: `high` itself is not allowed.
        options: for names and switches: the values allowed.
        whole: only whole numbers.
        complement: what counts is 1 - value: it is computed in float64 on the host and passed beside the value.
        off: the value that switches this part of the network off; programs are built without the part where no
            space has it and this is the default.
        unrecorded: its value in runs that were recorded before there was such a hyper-parameter; None if there
            always was.
    """

    name: str
    kind: Kind
    default: Any
    low: float | None = None
    high: float | None = None
    open_low: bool = False
    open_high: bool = False
    options: tuple[Any, ...] = ()
    whole: bool = False
    complement: bool = False
    off: Any = None
    unrecorded: Any = None


def check_values(entry: HyperParameter, values: Any) -> None:
    """Every value must be one that the hyper-parameter allows.

    Raises:
        InputError: which is not, and what is allowed.

    >>> check_values(HyperParameter("layers", "structural", 2, low=1, whole=True), [1, 2.5])
    Traceback (most recent call last):
    ...
    jbn.errors.InputError: layers must be a whole number of at least 1, but got 2.5
    """
    if entry.kind == "open" and _names(values):
        return
    if entry.options:
        wrong = [value for value in np.asarray(values, object).reshape(-1) if value not in entry.options]
        rule = "one of " + ", ".join(map(str, entry.options))
    else:
        wrong, rule = _outside(entry, values)
    if wrong:
        raise InputError(f"{entry.name} must be {rule}, but got {wrong[0]}")


def _names(values: Any) -> bool:
    """Whether values are names or switches, for which there are no limits."""
    return all(isinstance(value, str | bool | np.bool_) for value in np.asarray(values, object).reshape(-1))


def settled(entry: HyperParameter, values: Any) -> HyperParameter:
    """The hyper-parameter with its kind, if it is open: by its values, or by its default where there are none.

    Args:
        entry: the hyper-parameter.
        values: those that a space or a configuration has, an array or a traced number; None if it has none.

    Raises:
        InputError: neither values nor a default.

    >>> settled(HyperParameter("rate", "open", None), np.array([0.1, 0.5])).kind
    'traced'
    >>> settled(HyperParameter("units", "open", 8), None).kind
    'structural'
    """
    if entry.kind != "open":
        return entry
    if values is None and entry.default is None:
        raise InputError(
            f"{entry.name} has no default and is not in the space; add it to the space or give it a default"
        )
    given = entry.default if values is None else values
    dtype = given.dtype if hasattr(given, "dtype") else np.asarray(given).dtype
    if jnp.issubdtype(dtype, jnp.floating):
        # what is traced needs a number where only shapes are looked at
        return entry._replace(kind="traced", default=0.0 if entry.default is None else float(entry.default))
    return entry._replace(kind="structural")


def _outside(entry: HyperParameter, values: Any) -> tuple[list[Any], str]:
    rule = f"a {'whole ' if entry.whole else ''}number{_interval(entry)}"
    try:
        array = np.asarray(values, np.float64).reshape(-1)
    except (TypeError, ValueError):
        return _no_numbers(values) or [values], rule
    if np.asarray(values).dtype.kind in "OSU" and (wrong := _no_numbers(values)):
        return wrong, rule  # NumPy reads a number from "64"
    low = -np.inf if entry.low is None else entry.low
    high = np.inf if entry.high is None else entry.high
    inside = (array > low if entry.open_low else array >= low) & (
        array < high if entry.open_high else array <= high
    )
    if entry.whole:
        inside &= array == np.round(array)
    return np.asarray(values, object).reshape(-1)[~(inside & np.isfinite(array))].tolist(), rule


def _no_numbers(values: Any) -> list[Any]:
    """The first of the values that is no number."""
    return [value for value in np.asarray(values, object).reshape(-1) if not _is_number(value)][:1]


def _is_number(value: Any) -> bool:
    try:
        return not isinstance(value, str) and bool(np.ndim(np.float64(value)) == 0)
    except (TypeError, ValueError):
        return False


def _interval(entry: HyperParameter) -> str:
    parts = []
    if entry.low is not None:
        parts.append(f"{'above' if entry.open_low else 'of at least'} {entry.low:g}")
    if entry.high is not None:
        parts.append(f"{'below' if entry.open_high else 'at most'} {entry.high:g}")
    return " " + " and ".join(parts) if parts else ""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Padded:
    """A size below a capacity: arrays have the capacity, only the first `size` entries are the member's own.

    Args:
        size: the member's own size, an integer scalar, traced.
        capacity: the size of the arrays, static.
    """

    size: Int[Array, ""]
    capacity: int = dataclasses.field(metadata={"static": True})


def capacity(size: "int | Padded") -> int:
    """How long arrays of this size are."""
    return size.capacity if isinstance(size, Padded) else size


def valid(size: "int | Padded") -> Bool[Array, " capacity"] | None:
    """Which entries are the member's own; None if all are."""
    return jnp.arange(size.capacity) < size.size if isinstance(size, Padded) else None


class Model(NamedTuple):
    """A network as three pure functions.

    Args:
        init: `init(key, hyper, x_spec) -> params, stats`; `x_spec` is the `jax.ShapeDtypeStruct` of one row.
        train: `train(params, stats, x, *, key, hyper, mask=None) -> y, stats`; `mask` says which rows count.
        infer: `infer(params, stats, x, *, hyper) -> y`.
        hyperparameters: what a space may vary. `hyper` maps these names to values: a Python value for compiled
            and structural ones, an `int` or a `Padded` for padded ones, a scalar array for traced ones; and
            `outputs` to the number of outputs that the task needs.
        name: for tables and messages.
        fold: `fold(params, stats, *, hyper) -> params, hyper` of the same network at inference without batch norm
            (its `stats` are `{}`); None if the model cannot.
        observe: `observe(params, stats, x, *, key, hyper) -> moments` of what every batch norm layer would
            normalise, by the names in `stats`, where the running statistics normalise and dropout is that of
            training; None if the model cannot tell.
        channels: `channels(hyper=hyper)`: the number of channels of every layer with running statistics, as `hyper`
            has it, by the names in `stats`; None if the model pads none.
    """

    init: Callable[..., tuple[PyTree, PyTree]]
    train: Callable[..., tuple[Float[Array, "batch outputs"], PyTree]]
    infer: Callable[..., Float[Array, "batch outputs"]]
    hyperparameters: tuple[HyperParameter, ...] = ()
    name: str = "model"
    fold: Callable[..., tuple[PyTree, Hyper]] | None = None
    observe: Callable[..., dict[str, Any]] | None = None
    channels: Callable[..., dict[str, Any]] | None = None
