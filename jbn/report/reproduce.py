"""The command that does a recorded run again."""

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jbn.search import Space

_SPEC = "again.toml"
_LEFT_OUT = ("--out",)  # the folder is taken: it has the run
_KEPT = ("--tune", "--yes")  # what no spec has, and matters


class Command(NamedTuple):
    """How to do a run again.

    Attributes:
        line: What to type; "" where the run was not started from the command line.
        spec: The file `again.toml` that it reads; "" where it reads none.
        note: What there is to know besides.
    """

    line: str
    spec: str
    note: str


def command(settings: Mapping[str, Any]) -> Command:
    """The command of a run, by its settings: as it was typed, but for its folder.

    A run that read a spec gets another one with all that held, the options on the command line included: the file
    may have changed since.

    >>> command({"command": ["sweep", "--configs", "8", "--out", "runs/mine"]}).line
    'jbn sweep --configs 8'
    """
    typed = settings.get("command")
    if not typed:
        return Command("", "", _from_python(settings))
    typed, spec = _without_folder(typed), settings.get("spec")
    if typed[0] != "sweep" or spec is None or not _reads_spec(typed, spec):
        return Command(shlex.join(["jbn", *typed]), "", "")
    kept = [own for own in typed if own in _KEPT]
    return Command(shlex.join(["jbn", "sweep", _SPEC, *kept]), _toml(spec), "")


def _without_folder(typed: Sequence[str]) -> list[str]:
    kept, skip = [], False
    for own in typed:
        if not skip and own not in _LEFT_OUT and not own.startswith(tuple(f"{name}=" for name in _LEFT_OUT)):
            kept.append(own)
        skip = not skip and own in _LEFT_OUT
    return kept


def _reads_spec(typed: Sequence[str], spec: Mapping[str, Any]) -> bool:
    """Whether one of the words is a file: one that is no option, and no value of the option before."""
    valued = [name for name, value in spec.items() if not isinstance(value, bool)]
    options = {f"--{name.replace('_', '-')}" for name in (*valued, "configs", "grid")}
    before = ["", *typed[1:]]
    return any(
        not own.startswith("-") and last not in options for last, own in zip(before, typed[1:], strict=False)
    )


def _toml(spec: Mapping[str, Any]) -> str:
    lines = [
        f"{name} = {json.dumps(value, ensure_ascii=False)}"
        for name, value in spec.items()
        if name not in ("out", "space") and value not in (None, [], ())
    ]
    if spec.get("grid") is not None:
        lines = [line for line in lines if not line.startswith("configs = ")]
    space = spec.get("space")
    table = "" if space is None else f"\n[space]\n{Space.from_spec(space).to_toml()}"
    return "\n".join(lines) + "\n" + table


def _from_python(settings: Mapping[str, Any]) -> str:
    """What a call of `jbn.sweep` had, in words: the task itself is in nobody's file."""
    key = settings.get("key")
    if key is None:
        return ""
    numbers = {name: settings[name] for name in ("epochs", "seeds", "folds") if name in settings}
    folds = numbers.get("folds", 1)
    if folds > 1 and "seeds" in numbers:
        numbers["seeds"] //= folds
    words = ", ".join(f"{name}={value}" for name, value in numbers.items())
    return (
        f"started from Python: jbn.sweep(task, configs, {words}, key=jax.random.wrap_key_data(numpy.array({key}, "
        "numpy.uint32))), with the configurations of `jbn export DIR --to csv PATH` in the order of config_id"
    )
