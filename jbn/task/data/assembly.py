"""From the arrays that were given to the three parts: everything is checked, what is missing is split off."""

from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy.typing as npt

from jbn.errors import InputError
from jbn.task.data import checks
from jbn.task.data.checks import Named
from jbn.task.data.parts import Data, Part
from jbn.task.data.splitting import split

PARTS = ("train", "validation", "test")
ARRAYS = tuple(f"{axis}_{part}" for part in PARTS for axis in "xy")
SHARE = Fraction(1, 5)


def assemble(
    given: Mapping[str, Named],
    *,
    name: str,
    seed: int,
    targets: str = "classes",
    origin: str = "",
    share: Fraction = SHARE,
) -> Data:
    """The data set of these arrays.

    Args:
        given: some of `ARRAYS`, by name.
        name: of the data set.
        seed: fixes which rows are split off for parts that are missing.
        targets: what y is, "classes" or "numbers".
        origin: what the source has ("FILE has ..."), for messages about an array that it has not.
        share: of the training part, what every part that is missing gets.
    """
    _check_pairs(given, origin)
    xs, ys = ({p: given[f"{axis}_{p}"] for p in PARTS if f"{axis}_{p}" in given} for axis in "xy")
    for part in xs:
        checks.check_targets(ys[part], targets)
        checks.check_features(xs[part])
        checks.check_same_rows(xs[part], ys[part])
    checks.check_same_features(xs)
    classes = checks.count_classes(ys) if targets == "classes" else None
    if classes is None:
        checks.check_same_numbers(ys)
    dtype = checks.target_dtype(targets)
    parts = {part: Part(xs[part].values, ys[part].values.astype(dtype)) for part in xs}
    whole = _all_parts(parts, seed, share)
    return Data(name, whole["train"], whole["validation"], whole["test"], classes)


def _check_pairs(given: Mapping[str, Named], origin: str) -> None:
    has = origin or f"what was given has {', '.join(given) or 'no arrays'}"
    for part in PARTS:
        x, y = f"x_{part}", f"y_{part}"
        if part == "train" and not {x, y} <= given.keys():
            raise InputError(f"{x} and {y} must be there, but {has}; name the arrays so")
        if (x in given) != (y in given):
            raise InputError(f"{x} and {y} must come together, but {has}; give both or none")


def check_share(share: float) -> Fraction:
    """The share of the training part that every missing part gets: above 0, and 1/4 at most."""
    if not 0 < share <= 0.25:
        raise InputError(
            f"share must be above 0 and at most 0.25, of which each missing part gets one, but got {share!r}"
        )
    return Fraction(share).limit_denominator(1000)


def divided(missing: Sequence[str], share: Fraction) -> dict[str, int]:
    """The sizes of the training part and of those that are split off it, in proportion."""
    own = share.numerator
    return {"train": share.denominator - len(missing) * own} | dict.fromkeys(missing, own)


def _all_parts(parts: Mapping[str, Part], seed: int, share: Fraction) -> dict[str, Part]:
    """All of `PARTS`, read-only; the missing ones are split off the training part."""
    missing = [part for part in PARTS if part not in parts]
    x, y = parts["train"]
    chosen = split(checks.strata(y), divided(missing, share), seed=seed) if missing else {}
    whole = {**parts, **{part: Part(x[rows], y[rows]) for part, rows in chosen.items()}}
    return {part: Part(_read_only(whole[part].x), _read_only(whole[part].y)) for part in PARTS}


def _read_only(values: npt.NDArray) -> npt.NDArray:
    view = values.view()
    view.flags.writeable = False
    return view
