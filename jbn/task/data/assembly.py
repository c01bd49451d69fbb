"""From the arrays that were given to the three parts: everything is checked, what is missing is split off."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from jbn.errors import InputError
from jbn.task.data import checks
from jbn.task.data.checks import Named
from jbn.task.data.parts import Data, Part
from jbn.task.data.splitting import split

PARTS = ("train", "validation", "test")
_CHECKS = {"classes": checks.check_labels, "numbers": checks.check_numbers}
ARRAYS = tuple(f"{axis}_{part}" for part in PARTS for axis in "xy")


def assemble(
    given: Mapping[str, Named], *, name: str, seed: int, targets: str = "classes", origin: str = ""
) -> Data:
    """The data set of these arrays.

    Args:
        given: some of `ARRAYS`, by name.
        name: of the data set.
        seed: fixes which rows are split off for parts that are missing.
        targets: what y is, "classes" or "numbers".
        origin: what the source has ("FILE has ..."), for messages about an array that it has not.
    """
    _check_pairs(given, origin)
    xs, ys = ({p: given[f"{axis}_{p}"] for p in PARTS if f"{axis}_{p}" in given} for axis in "xy")
    for part in xs:
        _CHECKS[checks.check_kind(targets)](ys[part])
        checks.check_features(xs[part])
        checks.check_same_rows(xs[part], ys[part])
    checks.check_same_features(xs)
    classes = checks.count_classes(ys) if targets == "classes" else None
    if classes is None:
        checks.check_same_numbers(ys)
    dtype = float if classes is None else np.int32
    parts = {part: Part(xs[part].values, ys[part].values.astype(dtype)) for part in xs}
    whole = _all_parts(parts, seed)
    return Data(name, whole["train"], whole["validation"], whole["test"], classes)


def _check_pairs(given: Mapping[str, Named], origin: str) -> None:
    has = origin or f"what was given has {', '.join(given) or 'no arrays'}"
    for part in PARTS:
        x, y = f"x_{part}", f"y_{part}"
        if part == "train" and not {x, y} <= given.keys():
            raise InputError(f"{x} and {y} must be there, but {has}; name the arrays so")
        if (x in given) != (y in given):
            raise InputError(f"{x} and {y} must come together, but {has}; give both or none")


def _all_parts(parts: Mapping[str, Part], seed: int) -> dict[str, Part]:
    """All of `PARTS`, read-only; the missing ones, a fifth of the training part each, are split off it."""
    missing = [part for part in PARTS if part not in parts]
    x, y = parts["train"]
    strata = (
        y if y.dtype == np.int32 else np.zeros(len(y), np.int32)
    )  # numbers are split without regard to them
    chosen = (
        split(strata, {"train": 5 - len(missing)} | dict.fromkeys(missing, 1), seed=seed) if missing else {}
    )
    whole = {**parts, **{part: Part(x[rows], y[rows]) for part, rows in chosen.items()}}
    return {part: Part(_read_only(whole[part].x), _read_only(whole[part].y)) for part in PARTS}


def _read_only(values: npt.NDArray) -> npt.NDArray:
    view = values.view()
    view.flags.writeable = False
    return view
