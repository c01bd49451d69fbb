"""Which axes of `x` are channels, by each framework's own arguments."""

from collections.abc import Callable, Mapping
from typing import Any

from jbn.errors import InputError
from jbn.interop.weights.forms import Axes, Shape

Arguments = Mapping[str, Any]


def by_number(name: str) -> Callable[[Arguments, Shape], Axes]:
    """The argument is the axis, or a list of several."""

    def axes(arguments: Arguments, shape: Shape) -> Axes:
        given = arguments[name]
        several = tuple(given) if isinstance(given, tuple | list) else (given,)
        if not several or not all(isinstance(axis, int) and not isinstance(axis, bool) for axis in several):
            raise InputError(f"{name} must be a whole number or several, but got {name}={given!r}")
        return several[0] if len(several) == 1 else several

    return axes


def by_format(name: str, first: tuple[str, ...] = ()) -> Callable[[Arguments, Shape], Axes]:
    """The argument spells the axes: channels are where its C stands, first after N or last.

    Args:
        name: of the argument.
        first: words that mean channels first, besides those that spell it.
    """

    def axes(arguments: Arguments, shape: Shape) -> Axes:
        given = arguments[name]
        if given in first or (isinstance(given, str) and given[:2] == "NC"):
            return 1
        if given == "channels_last" or (isinstance(given, str) and given[:1] == "N" and given[-1:] == "C"):
            return -1
        raise InputError(
            f"{name} must name the axes with the channels second or last, like 'NCHW' or 'NHWC', "
            f"but got {name}={given!r}"
        )

    return axes


def of_lasagne(arguments: Arguments, shape: Shape) -> Axes:
    """`axes` are those reduced; "auto" are all but the second. Arrays have no reduced axes."""
    return 1 if arguments["axes"] == "auto" else _others(_several("axes", arguments["axes"]), len(shape))


def of_theano(arguments: Arguments, shape: Shape) -> Axes:
    """`axes` are those reduced: "per-activation" is the first, "spatial" all but the second."""
    given = arguments["axes"]
    if given == "spatial":
        return 1
    reduced = (0,) if given == "per-activation" else _several("axes", given)
    if len(shape) > 1 and all(axis < len(shape) and shape[axis] == 1 for axis in reduced):
        return _plain(tuple(axis for axis in range(len(shape)) if axis not in reduced))
    return _others(reduced, len(shape))


def of_broadcast(arguments: Arguments, shape: Shape) -> Axes:
    """Arrays broadcast with `x`: channels are the axes where they are longer than 1."""
    longer = tuple(axis for axis, size in enumerate(shape) if size > 1)
    return 1 if len(shape) < 2 or not longer else _plain(longer)


def of_cntk(arguments: Arguments, shape: Shape) -> Axes:
    """A map rank of 1 pools all but the first axis of a sample; None or 0 normalises each activation by itself."""
    if arguments["map_rank"] not in (None, 0, 1):
        raise InputError(f"map_rank must be None or 1, but got map_rank={arguments['map_rank']!r}")
    return 1 if arguments["map_rank"] == 1 else _plain(tuple(range(1, len(shape) + 1)))


def of_haiku(arguments: Arguments, shape: Shape) -> Axes:
    """`axis` are those reduced; by default all but the one that `data_format` names."""
    if arguments["axis"] is None:
        return by_format("data_format", ("channels_first",))(arguments, shape)
    reduced = {axis % max(len(shape), 1) for axis in _several("axis", arguments["axis"])}
    return _plain(tuple(axis for axis in range(len(shape)) if axis not in reduced))


def _several(name: str, given: Any) -> tuple[int, ...]:
    several = (given,) if isinstance(given, int) else given
    if not isinstance(several, tuple | list) or not all(isinstance(axis, int) for axis in several):
        raise InputError(f"{name} must be a known word or numbers of axes, but got {name}={given!r}")
    return tuple(several)


def _others(reduced: tuple[int, ...], channels: int) -> Axes:
    """The axes that are not reduced, where so many are left."""
    return _plain(tuple(axis for axis in range(channels + len(reduced)) if axis not in reduced))


def _plain(axes: tuple[int, ...]) -> Axes:
    return axes[0] if len(axes) == 1 else axes
