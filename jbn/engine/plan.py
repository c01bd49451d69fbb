"""Which configurations share a program: cohorts, padded widths, programs, tile and chunk size.

The plan follows from the search space (or, without one, from the range of the values), the model and the kind
of device. It depends neither on timings nor on how many configurations there are, so that another sweep over
the same space finds all its programs compiled.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jbn.errors import InputError
from jbn.nn.model import HyperParameter
from jbn.search import Configs
from jbn.task.hyper import Structure
from jbn.task.task import Task

_PROGRAM_COHORTS = 4
_ROUNDING = 8  # widths of hand-made configurations are padded to multiples of this


class Cohort(NamedTuple):
    """Configurations whose compiled shapes agree.

    Args:
        structure: what their program is built for.
        rows: which configurations, ascending.
    """

    structure: Structure
    rows: np.ndarray


class Plan(NamedTuple):
    """How a sweep is laid out.

    Args:
        programs: cohorts that are compiled together: those that differ in structure alone, such as depth,
            have most kernels in common.
        tile: members that one iteration trains side by side.
        slots: capacity of a chunk for each cohort.
    """

    programs: tuple[tuple[Cohort, ...], ...]
    tile: int
    slots: int

    def describe(self) -> dict[str, Any]:
        """The plan as plain values, for a run's record."""
        programs = [
            [
                {"structure": dict(cohort.structure.values), "configurations": len(cohort.rows)}
                for cohort in cohorts
            ]
            for cohorts in self.programs
        ]
        return {"tile": self.tile, "slots": self.slots, "programs": programs}


def plan(task: Task, configs: Mapping[str, np.ndarray], *, platform: str) -> Plan:
    """The plan of a sweep.

    On a CPU a tile is a single member: its state stays in the cache while it trains the whole segment. An
    accelerator is filled by many members side by side.

    Args:
        task: what is trained.
        configs: names to arrays, one entry a configuration.
        platform: "cpu" or the name of an accelerator.
    """
    count = len(next(iter(configs.values())))
    columns = {
        name: _column(entry, configs, task.defaults().get(name), count)
        for name, entry in task.hyperparameters.items()
        if entry.kind != "traced" and (name in configs or entry.default is not None)
    }
    padded = tuple(name for name, column in columns.items() if column.padded)
    groups: dict[Structure, list[int]] = {}
    for row in range(count):
        values = tuple(sorted((name, column.values[row]) for name, column in columns.items()))
        groups.setdefault(Structure(values, padded), []).append(row)
    cohorts = [Cohort(key, np.array(groups[key])) for key in sorted(groups, key=str)]
    possible = {n: c.possible for n, c in columns.items() if task.hyperparameters[n].kind == "structural"}
    tile, slots = (1, 16) if platform == "cpu" else (32, 128)
    return Plan(_together(cohorts, possible), tile, slots)


def _together(
    cohorts: Sequence[Cohort], possible: Mapping[str, Sequence[Any]]
) -> tuple[tuple[Cohort, ...], ...]:
    """Cohorts of one program: the same in everything but structure, at most a few.

    Where there are only a few structures, every program has all of them, also those that nothing was drawn for:
    they cost little, and the next sample may need them.
    """
    shared: dict[str, list[Cohort]] = {}
    for cohort in cohorts:
        same = tuple((name, value) for name, value in cohort.structure.values if name not in possible)
        shared.setdefault(str(same), []).append(cohort)
    if 0 < math.prod(len(options) for options in possible.values()) <= _PROGRAM_COHORTS:
        return tuple(_completed(group, possible) for group in shared.values())
    return tuple(
        tuple(group[start : start + _PROGRAM_COHORTS])
        for group in shared.values()
        for start in range(0, len(group), _PROGRAM_COHORTS)
    )


def _completed(group: Sequence[Cohort], possible: Mapping[str, Sequence[Any]]) -> tuple[Cohort, ...]:
    """One cohort for every possible structure, empty where the group has none."""
    there = {cohort.structure: cohort for cohort in group}
    model = group[0].structure
    combinations = itertools.product(*possible.values())
    structures = [model.sized(dict(zip(possible, own, strict=True))) for own in combinations]
    structures = [structure._replace(padded=model.padded) for structure in structures]
    return tuple(there.get(structure, Cohort(structure, np.zeros(0, int))) for structure in structures)


class _Column(NamedTuple):
    """What one hyper-parameter contributes to the structure of every row.

    Args:
        values: one a row.
        padded: they are capacities, and the row's own size is a traced number.
        possible: values that other samples may have, if that is known.
    """

    values: list[Any]
    padded: bool = False
    possible: Sequence[Any] = ()


def _column(entry: HyperParameter, configs: Mapping[str, np.ndarray], default: Any, count: int) -> _Column:
    if entry.name not in configs:
        return _Column([default] * count, possible=[default])
    values = [int(v) if entry.whole else v for v in configs[entry.name].tolist()]
    low, high, options = _range(_dimension(entry.name, configs), values)
    if entry.kind == "padded" and low != high:
        edges = _capacities(low, high, options)
        return _Column([next(edge for edge in edges if edge >= value) for value in values], padded=True)
    return _Column(values, possible=options or sorted(set(values)))


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


def _range(dimension: Any, values: list[Any]) -> tuple[Any, Any, list[Any]]:
    """Smallest and largest value, and the possible ones if they are few."""
    if hasattr(dimension, "options"):
        options = sorted(dimension.options)
        return options[0], options[-1], options
    if hasattr(dimension, "low"):
        low, high = int(dimension.low), int(dimension.high)
        return low, high, list(range(low, high + 1)) if high - low < _PROGRAM_COHORTS else []
    low, high = min(values), max(values)
    exact = low == high or not isinstance(high, int)
    return low, high if exact else math.ceil(high / _ROUNDING) * _ROUNDING, []


def _capacities(low: int, high: int, options: list[int]) -> list[int]:
    """Padded widths, ascending, one for about every octave: none is padded to much above twice its own.

    >>> _capacities(50, 100, []), _capacities(8, 64, []), _capacities(16, 128, [16, 60, 128])
    ([100], [16, 32, 64], [16, 60, 128])
    """
    classes = max(1, round(math.log2(high / low)))
    edges = [math.ceil(low * (high / low) ** ((index + 1) / classes) - 1e-9) for index in range(classes)]
    if options:
        edges = sorted({max(option for option in options if option <= edge) for edge in edges})
    return edges
