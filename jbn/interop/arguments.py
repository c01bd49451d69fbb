"""What a function that makes a network takes: hyper-parameters by name, and what a task provides."""

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

from jbn.errors import InputError
from jbn.nn.model import HyperParameter


def hyperparameters(
    functions: Mapping[str, Callable[..., Any]], *, positional: int, provided: Collection[str]
) -> tuple[HyperParameter, ...]:
    """The hyper-parameters that functions take, each once.

    Args:
        functions: what they are called in messages, to the functions.
        positional: how many leading arguments are none.
        provided: names that are none either, because the task gives them.

    Raises:
        InputError: a function that takes arguments without names, or the same one with two defaults.
    """
    found: dict[str, HyperParameter] = {}
    for label, function in functions.items():
        for argument in _named(label, function)[positional:]:
            if argument.name in provided or not _varies(argument.default):
                continue
            own = HyperParameter(argument.name, "open", _default(argument))
            if found.setdefault(argument.name, own) != own:
                raise InputError(
                    f"{argument.name} must have one default, but {label} has {own.default!r} where another function "
                    f"has {found[argument.name].default!r}"
                )
    return tuple(found.values())


def accepted(function: Callable[..., Any], names: Collection[str]) -> tuple[str, ...]:
    """Those of the names that a function takes."""
    taken = {argument.name for argument in _parameters(function)}
    return tuple(name for name in names if name in taken)


def _named(label: str, function: Callable[..., Any]) -> list[inspect.Parameter]:
    if not callable(function):
        raise InputError(f"{label} must be a function, but got {type(function).__name__}")
    own = _parameters(function)
    for argument in own:
        if argument.kind in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD):
            raise InputError(
                f"{label} must take its hyper-parameters by name, so that a space can vary them, "
                f"but takes {argument}"
            )
    return own


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """A class is called with what its `__init__` takes, whatever its metaclass says."""
    if inspect.isclass(function):
        return list(inspect.signature(function.__init__).parameters.values())[1:]
    return list(inspect.signature(function).parameters.values())


def _varies(default: Any) -> bool:
    """Whether a space can vary an argument with this default; functions and the like are settings."""
    return default is inspect.Parameter.empty or isinstance(default, bool | int | float | str)


def _default(argument: inspect.Parameter) -> Any:
    return None if argument.default is argument.empty else argument.default
