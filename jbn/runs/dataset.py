"""A sweep as an xarray Dataset: curves with named dimensions, hyper-parameters as coordinates."""

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jbn.errors import InputError
from jbn.runs.course import Course

if TYPE_CHECKING:
    import xarray as xr

CONFIGURATION, SEED, SEGMENT = DIMENSIONS = ("configuration", "seed", "segment")


def dataset(course: Course) -> "xr.Dataset":
    """The course of a sweep with the dimensions `configuration`, `seed` and `segment`.

    Args:
        course: of a sweep.

    Returns:
        Variables: `steps`, `train_loss`, `validation_loss` and the other metrics, [configuration, seed, segment],
        float64, NaN where a member did not take part or what it measured was not finite; `status` and `objective`,
        [configuration]. Coordinates: `configuration` (its `config_id`), `seed` and `segment`, counted from 0; every
        hyper-parameter, [configuration]: numbers float64 or int64, NaN where there is none, all else as `as_text`
        has it; `round`; with cross-validation `fold`, [seed]. Attributes: the settings, numbers and strings as
        they are, all else as JSON.

    Raises:
        InputError: xarray (the extra `jbn[netcdf]`) is not installed, or a hyper-parameter has the name of a
            dimension or a curve.
    """
    try:
        import xarray as xr
    except ImportError as error:
        raise InputError(
            "curves need xarray, which is not installed: install the extra jbn[netcdf]"
        ) from error
    taken = {*DIMENSIONS, "fold", *course.table, *course.curves} & set(course.hypers)
    if taken:
        raise InputError(
            f"the hyper-parameter {min(taken)!r} has the name of a dimension or a curve: rename it, or export jsonl"
        )
    measured: dict[str, Any] = {name: (DIMENSIONS, values) for name, values in course.curves.items()}
    for name in ("status", "objective"):
        measured[name] = CONFIGURATION, as_text(course.table[name])
    settings = {name: _attribute(value) for name, value in course.settings.items() if value is not None}
    return xr.Dataset(measured, _coordinates(course), settings)


def _coordinates(course: Course) -> dict[str, Any]:
    sizes = zip(DIMENSIONS, course.took_part.shape, strict=True)
    found: dict[str, Any] = {name: (name, np.arange(size)) for name, size in sizes}
    if course.folds > 1:
        seeds = course.took_part.shape[1]
        found["fold"] = SEED, np.arange(seeds) // (seeds // course.folds)
    rounds = {name: course.table[name] for name in course.table if name == "round"}
    each = {**course.hypers, **rounds}
    return found | {name: (CONFIGURATION, as_text(values)) for name, values in each.items()}


def as_text(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Numbers and booleans without gaps as they are; strings as they are, anything else as JSON, gaps as "".

    >>> as_text(np.array(["relu", None], object))
    array(['relu', ''], dtype=object)
    >>> as_text(np.array([True, False], object)), as_text(np.array([True, None], object))
    (array([ True, False]), array(['true', ''], dtype=object))
    """
    if values.dtype.kind in "biuf":
        return values
    cells = values.tolist()
    if cells and all(isinstance(cell, bool) for cell in cells):
        return np.array(cells)
    texts = [cell if isinstance(cell, str) else "" if cell is None else json.dumps(cell) for cell in cells]
    found = np.empty(len(texts), object)
    found[:] = texts
    return found


def _attribute(value: Any) -> int | float | str:
    """As it is where a file can hold it: a printable text, a number of 64 bits; else as JSON."""
    plain = isinstance(value, float) or (type(value) is int and abs(value) < 2**63)
    return value if plain or (isinstance(value, str) and value.isprintable()) else json.dumps(value)
