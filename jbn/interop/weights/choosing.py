"""Which generation of a framework's layer some arrays are, and what its arguments say."""

import fnmatch
import math
from collections.abc import Collection, Mapping
from typing import Any

from jbn.errors import InputError, did_you_mean
from jbn.interop.weights.forms import Form
from jbn.interop.weights.frameworks import FORMS


def choose(framework: str, names: Collection[str], arguments: Mapping[str, Any]) -> Form:
    """The form that has these arrays and takes these arguments.

    Args:
        framework: its name.
        names: of the arrays that there are.
        arguments: the layer's own, as given.

    Raises:
        InputError: an unknown framework, array or argument.

    >>> choose("dl4j", ["mean", "log10stdev"], {}).stored.words
    'log10(sqrt(var))'
    """
    if framework not in FORMS:
        raise InputError(f"unknown framework {framework!r}: {did_you_mean(str(framework), FORMS)}")
    return min(FORMS[framework], key=lambda form: _misfit(form, names, arguments))


def _misfit(form: Form, names: Collection[str], arguments: Mapping[str, Any]) -> tuple[int, int]:
    """How many arrays it does not have or lacks, how many arguments it does not take or lacks."""
    arrays = len(set(names) - set(form.names)) + len(set(form.required) - set(names))
    name, default = form.epsilon
    return arrays, len(_unknown(form, arguments)) + (default is None and name not in arguments)


def _unknown(form: Form, arguments: Mapping[str, Any]) -> list[str]:
    return [
        name
        for name in arguments
        if name not in form.defaults and not any(fnmatch.fnmatch(name, known) for known in form.ignored)
    ]


def settle(form: Form, label: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """All arguments that matter, given or by default.

    Args:
        form: of the layer.
        label: the layer, for messages.
        arguments: the layer's own, as given.

    Raises:
        InputError: an unknown argument, a missing one, an epsilon or a momentum that cannot be.
    """
    for name in _unknown(form, arguments):
        known = [*form.defaults, *(own for own in form.ignored if "*" not in own)]
        raise InputError(f"{label}: unknown argument {name!r}; {did_you_mean(name, known)}")
    settled = dict(form.defaults)
    settled.update(
        {name: value for name, value in arguments.items() if name in settled and value is not None}
    )
    _check_number(label, form.epsilon[0], settled, math.inf)
    if form.momentum is None:
        return settled
    name = form.momentum[0]
    if form.no_momentum and arguments.get(name, 0) is None:
        return {**settled, name: None}
    _check_number(label, name, settled, 1.0)
    if form.counter == "debiased" and settled[name] == 1:
        raise InputError(f"{label}: {name} must be below 1, but got {name}=1")
    return settled


def _check_number(label: str, name: str, settled: dict[str, Any], high: float) -> None:
    value = settled[name]
    rule = "at least 0" if high == math.inf else "in [0, 1]"
    if value is None:
        raise InputError(f"{label}: {name} has no default; pass the layer's own {name}")
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value <= high or math.isinf(value):
        raise InputError(f"{label}: {name} must be a number {rule}, but got {name}={value!r}")
    settled[name] = float(value)
