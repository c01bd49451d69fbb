"""The hyper-parameters of a recorded sweep, each with the scale that it is shown on."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from jbn.report.scale import FloatArray
from jbn.search import Dimension, Space
from jbn.store import Record

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["linear", "log", "reverse_log", "integer", "choice"]
_SCALES: dict[str, Kind] = {"log_uniform": "log", "reverse_log_uniform": "reverse_log", "integers": "integer"}
_DECADES = 1.5  # that values without a space must span to be shown on a logarithmic scale


class Axis(NamedTuple):
    """One hyper-parameter.

    Attributes:
        name: Of the hyper-parameter.
        kind: Its scale; "reverse_log" is that of 1 - x.
        low: The least value that was possible; of a choice 0.
        high: The greatest; of a choice the number of the last option.
        options: Of a choice, as text.
        values: [configurations], NaN where one has none; of a choice the number of the option.
    """

    name: str
    kind: Kind
    low: float
    high: float
    options: tuple[str, ...]
    values: FloatArray

    @property
    def varies(self) -> bool:
        """Whether there is more than one value, or some configurations have none."""
        return len(np.unique(self.values)) > 1  # NaN counts as one value


def axes(record: Record) -> list[Axis]:
    """All hyper-parameters, on the scales of the space that they were drawn from, or as their values suggest.

    >>> import tempfile
    >>> from jbn.store import create, read
    >>> folder, configs = tempfile.mkdtemp(), {"learning_rate": np.array([1e-4, 0.1]), "units": np.array([8, 9])}
    >>> create(folder, settings={}, configs=configs, seeds=1).close()
    >>> [(axis.name, axis.kind, axis.low, axis.high) for axis in axes(read(folder))]
    [('learning_rate', 'log', 0.0001, 0.1), ('units', 'integer', 8.0, 9.0)]
    """
    space = space_of(record)
    return [_axis(name, space.get(name), record.configurations[name]) for name in record.hypers]


def space_of(record: Record) -> dict[str, Dimension]:
    """The axes of the space that configurations were drawn from; empty where none is recorded."""
    spec = record.settings.get("space")
    return {} if spec is None else dict(Space.from_spec(spec))


def _axis(name: str, axis: Dimension | None, column: "pd.Series") -> Axis:
    options = getattr(axis, "options", None)
    if options is not None or column.dtype == object:
        return _choice(name, list(options or ()), column.tolist())
    values = column.to_numpy(np.float64)
    values = np.where(np.isfinite(values), values, np.nan)
    known = values[~np.isnan(values)]
    ends = [known.min(), known.max()] if len(known) else [0.0, 1.0]
    if axis is not None and (kind := _kind(axis)) is not None:
        given = np.asarray(axis.from_unit([0.0, np.nextafter(1.0, 0.0)]), np.float64)
        ends = [min(ends[0], given.min()), max(ends[1], given.max())]
    else:
        kind = _guessed(known, column.dtype.kind)
    return Axis(name, kind, float(ends[0]), float(ends[1]), (), values)


def _kind(axis: Dimension) -> Kind | None:
    """The kind of an axis of numbers; those with steps have that of the interval inside."""
    inner = getattr(axis, "inner", axis)
    found = _SCALES.get(getattr(inner, "scale", ""), "linear")
    whole = getattr(axis, "whole", False) and found == "linear"
    return "integer" if whole else found


def _guessed(values: FloatArray, dtype: str) -> Kind:
    if dtype == "i":
        return "integer"
    if len(values) and values.min() > 0 and np.log10(values.max() / values.min()) >= _DECADES:
        return "log"
    near_one = len(values) > 0 and values.min() >= 0.5 and values.max() < 1
    if near_one and np.log10((1 - values.min()) / (1 - values.max())) >= _DECADES:
        return "reverse_log"
    return "linear"


def _choice(name: str, options: Sequence[Any], values: Sequence[Any]) -> Axis:
    known = {_text(option): place for place, option in enumerate(options)}
    for value in values:
        if not _absent(value):
            known.setdefault(_text(value), len(known))
    places = [np.nan if _absent(value) else known[_text(value)] for value in values]
    words = tuple(json.loads(text) if text.startswith('"') else text for text in known)
    return Axis(name, "choice", 0.0, float(max(len(known) - 1, 0)), words, np.array(places, np.float64))


def _text(value: Any) -> str:
    """A value as JSON, equal for what a choice takes for equal."""
    return json.dumps(value.item() if isinstance(value, np.generic) else value)


def _absent(value: Any) -> bool:
    return value is None or (isinstance(value, float) and bool(np.isnan(value)))
