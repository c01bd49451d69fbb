"""What a sweep is to do: a TOML file, and options on the command line that win over it."""

import dataclasses
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jbn import store
from jbn.errors import InputError, did_you_mean
from jbn.search import Space

POLICIES = ("halving", "median_stopping", "pbt")


@dataclasses.dataclass(frozen=True)
class Spec:
    """A sweep as a user orders it; None where nothing was said.

    Args:
        data: name of a data set, path of an `.npz` file, of a table or of a folder of shards.
        data_dir: folder of the files of a named data set.
        target: the column of a table to predict.
        categorical: columns of a table whose numbers name categories.
        drop: columns of a table that are no features.
        configs: number of configurations of a random search.
        grid: points per axis of a grid search, in the place of a random one.
        rounds: of a search from coarse to fine, which share the configurations; 1 is a random search.
        epochs: how many, passes over the training part where `steps_per_epoch` does not say something else.
        policy: "halving" or "median_stopping", which stop configurations early, or "pbt"; None: all go on.
        seed: of the split, the search and the training.
        seeds: seed indices that every configuration is trained with.
        folds: of cross-validation; 1 is none.
        out: folder of the run.
        targets: what y of a file is, "classes" or "numbers".
        loss: what is minimised.
        metrics: what to judge by besides.
        objective: by which of these configurations are compared.
        raw_inputs: whether features are as they are in the data, not standardised.
        steps_per_epoch: optimiser steps of an epoch; None: all batches of the training part.
        space: what varies.
    """

    data: str = "digits"
    data_dir: str | None = None
    target: str | None = None
    categorical: Sequence[str] = ()
    drop: Sequence[str] = ()
    configs: int = 256
    grid: int | None = None
    rounds: int = 1
    epochs: int = 50
    policy: str | None = None
    seed: int = 0
    seeds: int = 1
    folds: int = 1
    out: str | None = None
    targets: str | None = None
    loss: str | None = None
    metrics: tuple[str, ...] | None = None
    objective: str | None = None
    raw_inputs: bool = False
    steps_per_epoch: int | None = None
    space: Space | None = None


def of_run(folder: str | os.PathLike[str], why: str, otherwise: str) -> Spec:
    """The spec that a run was made from.

    Args:
        folder: of the run, or of the rounds of a search.
        why: what it is needed for, for the message.
        otherwise: what to do without it.

    Raises:
        InputError: no run in the folder, or one that comes from no spec.
    """
    written = store.read(folder).settings.get("spec")
    if not isinstance(written, dict):
        raise InputError(f"{why}, but the run in {str(folder)!r} has none recorded; {otherwise}")
    names = {field.name for field in dataclasses.fields(Spec)}
    known = {name: value for name, value in written.items() if name in names}
    space, metrics = known.pop("space", None), known.pop("metrics", None)
    return Spec(
        **known,
        space=None if space is None else Space.from_spec(space),
        metrics=None if metrics is None else tuple(metrics),
    )


class _Kind(NamedTuple):
    """What a key of a spec must be."""

    types: tuple[type, ...]
    words: str
    least: int | None = None


_KINDS: Mapping[str, _Kind] = {
    "data": _Kind((str,), "a text"),
    "data_dir": _Kind((str,), "a text"),
    "target": _Kind((str,), "a text"),
    "categorical": _Kind((list,), "a list of texts"),
    "drop": _Kind((list,), "a list of texts"),
    "out": _Kind((str,), "a text"),
    "targets": _Kind((str,), "a text"),
    "loss": _Kind((str,), "a text"),
    "metrics": _Kind((list,), "a list of texts"),
    "objective": _Kind((str,), "a text"),
    "raw_inputs": _Kind((bool,), "true or false"),
    "configs": _Kind((int,), "a whole number of at least 1", 1),
    "grid": _Kind((int,), "a whole number of at least 1", 1),
    "rounds": _Kind((int,), "a whole number of at least 1", 1),
    "epochs": _Kind((int,), "a whole number of at least 1", 1),
    "steps_per_epoch": _Kind((int,), "a whole number of at least 1", 1),
    "policy": _Kind((str,), "a text"),
    "seed": _Kind((int,), "a whole number of at least 0", 0),
    "seeds": _Kind((int,), "a whole number of at least 1", 1),
    "folds": _Kind((int,), "a whole number of at least 1", 1),
    "space": _Kind((dict,), "a table of hyper-parameters, [space]"),
}


def resolve(path: Path | None, options: Mapping[str, Any]) -> Spec:
    """The spec of a run: defaults, then the file, then the options that were given.

    Args:
        path: a TOML file, or None.
        options: by the names of `Spec`; None or an empty list stands for one that was not given.

    Raises:
        InputError: a file that is missing or no TOML, an unknown key, a value that is not allowed.
    """
    given = {name: value for name, value in options.items() if value is not None and value != []}
    if "configs" in given and "grid" in given:
        raise InputError(
            "--configs and --grid exclude each other: a grid's size follows from its points per axis"
        )
    written = {} if path is None else _read(path)
    if "configs" in given:
        written.pop("grid", None)
    values = {**written, **given}
    for name, value in values.items():
        _check(name, value, f"--{name.replace('_', '-')}" if name in given else f"{name} in {str(path)!r}")
    if values.get("rounds", 1) > 1 and "grid" in values:
        raise InputError(
            "rounds and grid exclude each other: rounds draw where the configurations so far were good"
        )
    if values.get("policy", POLICIES[0]) not in POLICIES:
        raise InputError(f"unknown policy {values['policy']!r}: {did_you_mean(values['policy'], POLICIES)}")
    space = values.pop("space", None)
    if "metrics" in values:
        values["metrics"] = tuple(values["metrics"])
    return Spec(**values, space=None if space is None else Space.from_spec(space))


def spec_of(table: Mapping[str, Any]) -> Spec:
    """The spec that a run was recorded with."""
    known = {field.name for field in dataclasses.fields(Spec)}
    values = {name: value for name, value in table.items() if name in known and value is not None}
    lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    space = values.pop("space", None)
    return Spec(**{**values, **lists}, space=None if space is None else Space.from_spec(space))


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read the spec {str(path)!r}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"the spec {str(path)!r} is no TOML: {error}") from error


def _check(name: str, value: Any, where: str) -> None:
    if name not in _KINDS:
        raise InputError(f"unknown key {name!r} in the spec: {did_you_mean(name, _KINDS)}")
    kind = _KINDS[name]
    fits = isinstance(value, kind.types) and (bool in kind.types or not isinstance(value, bool))
    if isinstance(value, list):
        fits = fits and all(isinstance(entry, str) for entry in value)
    if not fits or (kind.least is not None and value < kind.least):
        raise InputError(f"{where} must be {kind.words}, but got {value!r}")
