"""Cohorts: configurations whose compiled shapes agree, and which of them are compiled together."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jbn.task.hyper import Structure

_PROGRAM_COHORTS = 4


class Cohort(NamedTuple):
    """Configurations whose compiled shapes agree.

    Args:
        structure: what their program is built for.
        rows: which configurations, ascending.
    """

    structure: Structure
    rows: np.ndarray


Program = tuple[Cohort, ...]  # cohorts that are compiled together


def programs(structures: Iterable[Structure], possible: Mapping[str, Sequence[Any]]) -> tuple[Program, ...]:
    """Cohorts by structure, and those that differ in what is structural alone together in a program.

    Args:
        structures: one a configuration.
        possible: the values of every structural hyper-parameter that other samples may have.
    """
    rows: dict[Structure, list[int]] = {}
    for row, structure in enumerate(structures):
        rows.setdefault(structure, []).append(row)
    cohorts = [Cohort(key, np.array(rows[key])) for key in sorted(rows)]
    return _together(cohorts, possible)


def _together(cohorts: Sequence[Cohort], possible: Mapping[str, Sequence[Any]]) -> tuple[Program, ...]:
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
