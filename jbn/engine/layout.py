"""Where members live: chunks with a fixed number of slots for each cohort of a program."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jbn.engine.arithmetic import arithmetic
from jbn.engine.cohorts import Program
from jbn.engine.executables import Executable
from jbn.engine.plan import Plan
from jbn.engine.programs import Population
from jbn.task.hyper import Structure, Traced, numbers
from jbn.task.task import Task


class Part(NamedTuple):
    """The members of one cohort in a chunk.

    Args:
        structure: what their program is built for.
        members: which members, one a slot; slots beyond are empty.
        traced: their numbers, `[slots]` each, on the chunk's device.
    """

    structure: Structure
    members: np.ndarray
    traced: Traced


class Programs(NamedTuple):
    """What puts the data of an epoch into order, and what initialises, trains and evaluates a chunk.

    Rows that come in blocks come in order: there is no `shuffle` then.
    """

    shuffle: Executable | None
    init: Executable
    train: Executable
    evaluate: Executable


@dataclasses.dataclass(eq=False)
class Chunk:
    """Members that one call advances, all of one seed index.

    Args:
        parts: one a cohort of the program.
        seed: their seed index.
        device: number of the device that holds them.
        slots: capacity for each cohort.
        populations: their state, one a part, on the device or waiting on the host; None before the first segment.
        programs: what they need, traced; None before the first segment.
        losses: of the current epoch so far, one entry a slot, where it comes in blocks.
    """

    parts: tuple[Part, ...]
    seed: int
    device: int
    slots: int
    populations: tuple[Population, ...] | None = None
    programs: Programs | None = None
    losses: tuple[np.ndarray, ...] = ()

    @property
    def compiled(self) -> bool:
        """Whether nothing is left to compile before the next segment."""
        return self.programs is not None and all(
            program.compiled for program in self.programs if program is not None
        )


def lay_out(
    task: Task,
    configs: Mapping[str, np.ndarray],
    plan: Plan,
    seeds: int,
    devices: Sequence[Any],
    *,
    workers: int = 1,
) -> list[Chunk]:
    """All chunks of a sweep, for so many workers at least; member = configuration * seeds + seed index.

    Those with most work come first, so that workers finish together, but one chunk of every program before
    all others: its first call compiles, and two of the same program side by side would wait for each other.
    """

    @functools.cache
    def traced(optimizer: str | None) -> Traced:
        own = numbers(task.with_optimizer(optimizer).hyperparameters, configs)
        return jax.tree.map(lambda a: np.broadcast_to(a, _count(configs)), own)

    drafts = [
        draft
        for program in plan.programs
        for draft in _split(program, plan.chunks(program, seeds=seeds, workers=workers), seeds)
    ]
    drafts.sort(key=lambda draft: (not draft.first, -_work(task, draft.rows)))

    def part(structure: Structure, rows: np.ndarray, seed: int, device: Any) -> Part:
        filled = _filled(rows, plan.slots)
        own = jax.tree.map(lambda a: a[filled], traced(structure.optimizer))
        own |= {name: configs[name][filled].astype(np.int32) for name in structure.padded}
        return Part(structure, rows * seeds + seed, jax.device_put(own, device))

    def chunk(place: int, draft: _Draft) -> Chunk:
        device = place % len(devices)
        parts = tuple(part(structure, rows, draft.seed, devices[device]) for structure, rows in draft.rows)
        return Chunk(parts, draft.seed, device, plan.slots)

    return [chunk(*entry) for entry in enumerate(drafts)]


def halves(chunk: Chunk, device: Any) -> list[Chunk]:
    """The chunk as two of half its capacity, with what state there is."""
    middles = [-(-len(part.members) // 2) for part in chunk.parts]
    first = [np.arange(middle) for middle in middles]
    second = [np.arange(m, len(part.members)) for m, part in zip(middles, chunk.parts, strict=True)]
    return divided(chunk, (first, second), device, slots=-(-chunk.slots // 2))


def divided(chunk: Chunk, shares: Sequence[Sequence[np.ndarray]], device: Any, *, slots: int) -> list[Chunk]:
    """Chunks that have a chunk's members between them, with what state there is.

    Args:
        chunk: the one.
        shares: for each of the new ones, the old slots of its members, part by part.
        device: where it is.
        slots: the new capacity; with the old one, programs stay.
    """
    programs = chunk.programs if slots == chunk.slots else None

    def share(own: Sequence[np.ndarray]) -> Chunk:
        places = [_filled(at, slots) for at in own]

        def picked(trees: Sequence[Any]) -> tuple[Any, ...]:
            return tuple(
                jax.tree.map(lambda a, at=at: np.asarray(a)[at], tree)
                for tree, at in zip(trees, places, strict=True)
            )

        traced = jax.device_put(picked([part.traced for part in chunk.parts]), device)
        parts = tuple(
            Part(part.structure, part.members[at], numbers)
            for part, at, numbers in zip(chunk.parts, own, traced, strict=True)
        )
        state = None if chunk.populations is None else picked(chunk.populations)
        losses = picked(chunk.losses) if chunk.losses else ()
        return Chunk(parts, chunk.seed, chunk.device, slots, state, programs, losses)

    return [share(own) for own in shares]


def _filled(slots: np.ndarray, capacity: int) -> np.ndarray:
    """As many slots as a capacity wants; those beyond repeat one."""
    return np.pad(slots, (0, capacity - len(slots)), mode="edge") if len(slots) else np.zeros(capacity, int)


class _Draft(NamedTuple):
    """A chunk to be: the rows of each cohort; `first` of its program or not."""

    rows: tuple[tuple[Structure, np.ndarray], ...]
    seed: int
    first: bool


def _split(program: Program, count: int, seeds: int) -> Iterator[_Draft]:
    """So many chunks for every seed index, every cohort spread evenly over them."""
    pieces = [np.array_split(cohort.rows, count) for cohort in program]
    for seed in range(seeds):
        for place in range(count):
            rows = tuple((cohort.structure, own[place]) for cohort, own in zip(program, pieces, strict=True))
            yield _Draft(rows, seed, first=seed == 0 and place == 0)


def _work(task: Task, rows: Sequence[tuple[Structure, np.ndarray]]) -> float:
    """About how much a segment computes, in multiply-adds a row of data; for ordering only."""
    return sum(arithmetic(task, structure).multiply_adds * len(own) for structure, own in rows)


def _count(configs: Mapping[str, np.ndarray]) -> tuple[int]:
    return (len(next(iter(configs.values()))),)
