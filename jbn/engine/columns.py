"""What every hyper-parameter contributes to the shapes of every configuration."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from jbn.engine.widths import capacities
from jbn.errors import InputError
from jbn.nn.model import HyperParameter
from jbn.search import Configs
from jbn.search import random as draw
from jbn.search.conditions import missing
from jbn.task.hyper import Structure
from jbn.task.task import Task

Classes = int | Literal["exact"]
_ROUNDING = 8  # widths of hand-made configurations are padded to multiples of this
REFERENCE = 256  # configurations that stand for all those of a space


class Column(NamedTuple):
    """What one hyper-parameter contributes to the structure of every row.

    Args:
        name: of the hyper-parameter.
        kind: of the hyper-parameter.
        values: one a row.
        reference: values as they are expected to occur, `REFERENCE` of them.
        possible: values that may occur, ascending, if they are few or the size is padded; else none.
        padded: sizes below a capacity are traced numbers.
        rounding: capacities are multiples of it.
    """

    name: str
    kind: str
    values: list[Any]
    reference: list[Any]
    possible: Sequence[Any] = ()
    padded: bool = False
    rounding: int = 1

    def edges(self, classes: Classes) -> dict[int, bool]:
        """The capacities, ascending, and whether sizes below share each; exact ones if `classes` is."""
        if classes == "exact":
            return dict.fromkeys(self.possible, False)
        found = capacities(self.reference, classes, highest=max(self.possible))
        if self.rounding > 1:
            found = sorted({math.ceil(edge / self.rounding) * self.rounding for edge in found})
        below = np.searchsorted(self.possible, found, side="right")
        return {
            edge: not (several == 1 and edge in self.possible)
            for edge, several in zip(found, np.diff(below, prepend=0), strict=True)
        }


def columns_of(task: Task, configs: Mapping[str, np.ndarray], count: int) -> list[Column]:
    """Every hyper-parameter that programs are built for; `configs` has `count` rows."""
    reference = _reference(configs, task.defaults())
    return [
        _column(entry, configs, reference, task.defaults().get(name), count)
        for name, entry in task.hyperparameters.items()
        if entry.kind != "traced" and (name in configs or entry.default is not None)
    ]


def same(name: str, value: Any, count: int) -> Column:
    """A compiled hyper-parameter that is the same in all of so many rows."""
    return Column(name, "compiled", [value] * count, [value] * REFERENCE, [value])


def _reference(configs: Mapping[str, np.ndarray], defaults: Mapping[str, Any]) -> Mapping[str, np.ndarray]:
    """Configurations that stand for all: drawn from the space; where there is none, those given."""
    space = configs.space if isinstance(configs, Configs) else None
    drawn = {} if space is None else draw(space, REFERENCE, key=0)
    return {
        name: own[np.arange(REFERENCE) * len(own) // REFERENCE]
        if _dimension(name, configs) is None or (missing(drawn[name]).any() and defaults.get(name) is None)
        else _with_default(drawn[name], defaults.get(name))
        for name, own in configs.items()
    }


def _with_default(values: np.ndarray, default: Any) -> np.ndarray:
    """What a condition switches off is trained with its default."""
    off = missing(values)
    return np.where(off, np.asarray(default), values) if off.any() else values


def _column(
    entry: HyperParameter,
    configs: Mapping[str, np.ndarray],
    reference: Mapping[str, np.ndarray],
    default: Any,
    count: int,
) -> Column:
    if entry.name not in configs:
        return same(entry.name, default, count)._replace(kind=entry.kind)
    own, expected = (
        [int(v) if entry.whole else v for v in source[entry.name].tolist()] for source in (configs, reference)
    )
    dimension = _dimension(entry.name, configs)
    possible = _possible(dimension, own)
    padded = entry.kind == "padded" and len(possible) > 1
    rounding = _ROUNDING if padded and dimension is None else 1
    return Column(entry.name, entry.kind, own, expected, possible, padded, rounding)


def _dimension(name: str, configs: Mapping[str, np.ndarray]) -> Any:
    """The dimension that the values were drawn from; None if that is not known or they were changed since."""
    space = configs.space if isinstance(configs, Configs) else None
    if space is None or name not in space:
        return None
    try:
        space[name].to_unit(configs[name])
    except InputError:
        return None
    return space[name]


def _possible(dimension: Any, values: list[Any]) -> list[Any]:
    """The values that may occur, ascending."""
    if hasattr(dimension, "options"):
        return sorted(dimension.options)
    if hasattr(dimension, "values"):
        return [int(value) for value in dimension.values()]
    if hasattr(dimension, "low"):
        return list(range(int(dimension.low), int(dimension.high) + 1))
    return sorted(set(values))


def structures(
    columns: Sequence[Column], which: Literal["values", "reference"], classes: Classes
) -> Iterator[Structure]:
    """The structure of every row of the values, or of the reference."""
    ordered = sorted(columns, key=lambda column: column.name)
    names, known = [column.name for column in ordered], {}
    for row in zip(*(sizes(column, getattr(column, which), classes) for column in ordered), strict=True):
        if row not in known:
            padded = tuple(name for name, (_, below) in zip(names, row, strict=True) if below)
            known[row] = Structure(tuple(zip(names, (size for size, _ in row), strict=True)), padded)
        yield known[row]


def sizes(column: Column, values: Sequence[Any], classes: Classes) -> list[tuple[Any, bool]]:
    """What stands in the structure for each value, and whether smaller ones share it."""
    if not column.padded:
        return [(value, False) for value in values]
    edges = column.edges(classes)
    fitting = {value: next(edge for edge in edges if edge >= value) for value in set(values)}
    return [(fitting[value], edges[fitting[value]]) for value in values]
