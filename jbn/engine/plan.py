"""The plan of a sweep: cohorts, padded widths, programs, tile and chunk size.

It follows from the search space (or, without one, from the range of the values), the model, the kind of device
and the order of magnitude of the work. It depends neither on timings nor on the exact number of configurations,
so that another sweep over the same space finds its programs compiled.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from jbn.engine.cohorts import Cohort, Program, programs
from jbn.engine.columns import REFERENCE, Classes, Column, columns_of, same, sizes, structures
from jbn.engine.cost import Rates, compile_seconds, epoch_seconds, rates
from jbn.task.hyper import Structure
from jbn.task.optimizer_choice import Group, groups
from jbn.task.probe import exact_when_padded
from jbn.task.task import Task

CLASSES: tuple[Classes, ...] = (1, 2, 3, 4, "exact")
MANY_PROGRAMS = 32


class Plan(NamedTuple):
    """How a sweep is laid out.

    Args:
        programs: cohorts that are compiled together: those that differ in structure alone, such as depth,
            have most kernels in common.
        tile: members that one iteration trains side by side.
        slots: capacity of a chunk for each cohort.
        classes: how many capacities every padded size has, or "exact"; where configurations choose their optimiser,
            by its name.
    """

    programs: tuple[Program, ...]
    tile: int
    slots: int
    classes: Classes | dict[str, Classes] = 1

    def chunks(self, program: Program, *, seeds: int, workers: int) -> int:
        """How many chunks of one seed index hold a program's cohorts.

        As few as can; but no fewer than give every worker one, as long as there are members.
        """
        most = max(len(cohort.rows) for cohort in program)
        fewest = -(-workers // (seeds * len(self.programs)))
        return max(-(-most // self.slots), min(fewest, most))

    @property
    def batch_sizes(self) -> set[int]:
        """Of all cohorts."""
        return {dict(own.structure.values)["batch_size"] for program in self.programs for own in program}

    def describe(self) -> dict[str, Any]:
        """The plan as plain values, for a run's record; `plan_of` is the way back."""
        programs = [
            [
                {
                    "structure": dict(cohort.structure.values),
                    "padded": list(cohort.structure.padded),
                    "configurations": len(cohort.rows),
                    "rows": cohort.rows.tolist(),
                }
                for cohort in cohorts
            ]
            for cohorts in self.programs
        ]
        return {"tile": self.tile, "slots": self.slots, "classes": self.classes, "programs": programs}


def plan_of(described: Mapping[str, Any]) -> Plan:
    """The plan that `Plan.describe` has described, also once it was JSON.

    >>> one = Plan(((Cohort(Structure((("layers", 2),)), np.array([0, 3])),),), tile=1, slots=16)
    >>> plan_of(one.describe()).programs[0][0].rows
    array([0, 3])
    """
    programs = tuple(
        tuple(
            Cohort(
                Structure(
                    tuple((name, _hashable(value)) for name, value in own["structure"].items()),
                    tuple(own["padded"]),
                ),
                np.array(own["rows"], np.int64),
            )
            for own in cohorts
        )
        for cohorts in described["programs"]
    )
    return Plan(programs, described["tile"], described["slots"], described["classes"])


def _hashable(value: Any) -> Any:
    """Tuples where JSON has lists."""
    return tuple(map(_hashable, value)) if isinstance(value, list) else value


def plan(
    task: Task,
    configs: Mapping[str, np.ndarray],
    *,
    platform: str,
    epochs: int | float = 1,
    seeds: int = 1,
    classes: Classes | None = None,
) -> Plan:
    """The plan of a sweep.

    A padded member computes more than its own arithmetic, another capacity costs another program. Of one to four
    capacities a padded size, and of exact shapes, it takes what is expected to cost least in all. Where the
    optimiser does not treat every entry alike, shapes are exact. Configurations with different optimisers are laid
    out apart, each as in a sweep with this optimiser alone.

    On a CPU a tile is a single member: its state stays in the cache while it trains the whole segment. An
    accelerator is filled by many members side by side.

    Args:
        task: what is trained.
        configs: names to arrays, one entry a configuration.
        platform: "cpu" or the name of an accelerator.
        epochs: for how long, on average.
        seeds: seed indices of every configuration.
        classes: so many capacities for every padded size, or "exact"; by default the cheapest.
    """
    own = _Weights(rates(platform), seeds * epochs, MANY_PROGRAMS)
    parts = _parts(task, configs, own, classes)
    if sum(len(part.programs) for part in parts) > MANY_PROGRAMS:
        parts = _parts(task, configs, own._replace(limit=MANY_PROGRAMS // len(parts)), classes)
    laid_out = tuple(program for part in parts for program in part.programs)
    by_name = {part.optimizer: part.classes for part in parts if part.optimizer is not None}
    tile, slots = (1, 16) if platform == "cpu" else (32, 128)
    return Plan(laid_out, tile, slots, by_name or parts[0].classes)


class _Weights(NamedTuple):
    """What padding and compiling are weighed by.

    Args:
        rates: seconds that things take.
        epochs: segments of a configuration, those of all its seed indices.
        limit: programs of an optimiser beyond which padding is not avoided.
    """

    rates: Rates
    epochs: int | float
    limit: int


class _Part(NamedTuple):
    """The programs of the configurations with one optimiser, and how many capacities they have."""

    optimizer: str | None
    programs: tuple[Program, ...]
    classes: Classes


def _parts(
    task: Task, configs: Mapping[str, np.ndarray], own: _Weights, classes: Classes | None
) -> list[_Part]:
    """One for every optimiser that configurations have."""
    found = groups(task.optimizers, configs)
    return [_part(task, group, configs, own, classes) for group in found if len(group.rows)]


def _part(
    task: Task, group: Group, configs: Mapping[str, np.ndarray], own: _Weights, classes: Classes | None
) -> _Part:
    task, count = task.with_optimizer(group.optimizer), len(group.rows)
    columns = columns_of(task, group.of(configs), count)
    if classes is None:
        exact = not _padding_is_exact(task, columns)
        classes = "exact" if exact else _cheapest(task, columns, own, configurations=group.expected)
    if group.optimizer is not None:
        columns.append(same("optimizer", group.optimizer, count))
    found = _laid_out(columns, "values", classes)
    programs = tuple(tuple(c._replace(rows=group.rows[c.rows]) for c in cohorts) for cohorts in found)
    return _Part(group.optimizer, programs, classes)


def _laid_out(
    columns: Sequence[Column], which: Literal["values", "reference"], classes: Classes
) -> tuple[Program, ...]:
    possible = {column.name: column.possible for column in columns if column.kind == "structural"}
    return programs(structures(columns, which, classes), possible)


def _padding_is_exact(task: Task, columns: Sequence[Column]) -> bool:
    """Whether the optimiser trains a padded member as it does one of exact shapes."""
    smallest = {column.name: min(column.possible) for column in columns if column.padded}
    return all(
        exact_when_padded(
            task.problem,
            cohort.structure,
            {name: smallest[name] for name in cohort.structure.padded},
            features=task.data.features,
        )
        for program in _laid_out(columns, "values", 1)
        for cohort in program
        if len(cohort.rows) and cohort.structure.padded
    )


def _cheapest(task: Task, columns: Sequence[Column], own: _Weights, *, configurations: float) -> Classes:
    """How many capacities are expected to cost least; of equals the fewest.

    Members times epochs are rounded to a power of two: a few configurations more or less change no program.
    """
    if not any(column.padded for column in columns):
        return 1
    each = 2 ** round(math.log2(configurations * own.epochs)) / REFERENCE
    best, least = CLASSES[0], math.inf
    for classes in CLASSES:
        if classes != 1 and _least_programs(columns, classes) > own.limit:
            break
        laid_out = _laid_out(columns, "reference", classes)
        if classes != 1 and len(laid_out) > own.limit:
            break
        # compiling goes on beside training: workers share the sum of both
        seconds = compile_seconds(task, laid_out, own.rates) + each * epoch_seconds(task, laid_out, own.rates)
        if seconds < 0.999 * least:
            best, least = classes, seconds
    return best


def _least_programs(columns: Sequence[Column], classes: Classes) -> int:
    """Programs that there are at least: no cohorts are made for it, of which exact shapes have hundreds."""
    apart = [sizes(column, column.reference, classes) for column in columns if column.kind != "structural"]
    return len(set(zip(*apart, strict=True)))
