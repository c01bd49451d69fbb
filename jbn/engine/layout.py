"""Where members live: chunks with a fixed number of slots for each cohort of a program."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jbn.engine.cohorts import Program
from jbn.engine.cost import member_seconds, rates
from jbn.engine.executables import Executable
from jbn.engine.plan import Plan
from jbn.engine.population import Population
from jbn.task.hyper import Structure, Traced, numbers
from jbn.task.task import Task


class Part(NamedTuple):
    """The members of one cohort in a chunk.

    Args:
        structure: what their program is built for.
        members: which members, one a slot, -1 where one has moved to another chunk; slots beyond are empty.
        traced: their numbers, `[slots]` each; on the chunk's device once it has been trained.
    """

    structure: Structure
    members: np.ndarray
    traced: Traced

    def live(self, alive: np.ndarray) -> np.ndarray:
        """Slots of members that take part."""
        return np.flatnonzero(alive[self.members] & (self.members >= 0))


class Programs(NamedTuple):
    """What puts the data of an epoch into order, and what initialises, trains and evaluates a chunk.

    Args:
        orders: one for all cohorts, or one for each where their epochs differ; none where rows come in blocks, which
            are in order.
        init: of all cohorts, like those that follow.
        train: for a segment.
        evaluate: at its end.
        test: evaluates on the test part, where that is asked for.
    """

    orders: tuple[Executable, ...]
    init: Executable
    train: Executable
    evaluate: Executable
    test: Executable | None = None

    @property
    def all(self) -> tuple[Executable, ...]:
        """Each of them."""
        own = (*self.orders, self.init, self.train, self.evaluate)
        return own if self.test is None else (*own, self.test)


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
    _compiled: Programs | None = None
    _numbers_there: bool = False

    @property
    def compiled(self) -> bool:
        """Whether nothing is left to compile before the next segment."""
        if self.programs is None:
            return False
        if self._compiled is not self.programs and all(program.compiled for program in self.programs.all):
            self._compiled = self.programs  # asked for whenever a worker looks for its next turn
        return self._compiled is self.programs

    def bring_numbers(self, device: Any) -> None:
        """Brings the numbers of its members to its device, all in one call: that takes longer than what it moves.

        Never in a worker's thread, where settings of the caller's, such as the floating type, do not hold.
        """
        if not self._numbers_there:
            own = zip(self.parts, jax.device_put([part.traced for part in self.parts], device), strict=True)
            self.parts = tuple(part._replace(traced=traced) for part, traced in own)
            self._numbers_there = True


class Place(NamedTuple):
    """Where a member's state is."""

    chunk: Chunk
    part: int
    slot: int


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
    drafts.sort(key=lambda draft: (not draft.first, -_seconds(task, devices[0].platform, draft.rows)))

    def part(structure: Structure, rows: np.ndarray, seed: int) -> Part:
        filled = _filled(rows, plan.slots)
        own = jax.tree.map(lambda a: a[filled], traced(structure.optimizer))
        own |= {name: configs[name][filled].astype(np.int32) for name in structure.padded}
        return Part(structure, rows * seeds + seed, own)

    return [
        Chunk(
            tuple(part(*own, draft.seed) for own in draft.rows), draft.seed, place % len(devices), plan.slots
        )
        for place, draft in enumerate(drafts)
    ]


def halves(chunk: Chunk) -> list[Chunk]:
    """The chunk as two of half its capacity, with what state there is."""
    places: tuple[list[Place], list[Place]] = ([], [])
    for number, part in enumerate(chunk.parts):
        there = np.flatnonzero(part.members >= 0).tolist()
        for half, own in enumerate((there[: -(-len(there) // 2)], there[-(-len(there) // 2) :])):
            places[half].extend(Place(chunk, number, slot) for slot in own)
    slots = -(-chunk.slots // 2)
    return [gathered(own, slots=slots) for own in places if own]


def gathered(places: Sequence[Place], *, slots: int | None = None) -> Chunk:
    """A chunk of members that are in chunks of the same programs, with what state they have; all on the host.

    Args:
        places: where they are, at least one.
        slots: the new capacity; with the old one, the default, programs stay.
    """
    like = places[0].chunk
    capacity = like.slots if slots is None else slots
    sources = [_sources(places, number) for number in range(len(like.parts))]

    def picked(trees: Callable[[Chunk], Sequence[Any]]) -> tuple[Any, ...]:
        return tuple(
            jax.tree.map(
                functools.partial(_filled_from, own, capacity),
                trees(like)[number],
                *(trees(source.chunk)[number] for source in own),
            )
            for number, own in enumerate(sources)
        )

    traced = picked(lambda chunk: [part.traced for part in chunk.parts])
    parts = tuple(
        Part(part.structure, _filled_from(own, None, part.members, *_members(own, number)), numbers)
        for number, (part, own, numbers) in enumerate(zip(like.parts, sources, traced, strict=True))
    )
    state = None if like.populations is None else picked(lambda chunk: chunk.populations or ())
    losses = picked(lambda chunk: chunk.losses) if like.losses else ()
    programs = like.programs if slots is None else None
    return Chunk(parts, like.seed, like.device, capacity, state, programs, losses)


class _Source(NamedTuple):
    """Which slots of a part of a chunk come into which of the same part of another."""

    chunk: Chunk
    slots: list[int]
    into: list[int]


def _sources(places: Sequence[Place], number: int) -> list[_Source]:
    found: dict[Chunk, _Source] = {}
    for row, place in enumerate(place for place in places if place.part == number):
        own = found.setdefault(place.chunk, _Source(place.chunk, [], []))
        own.slots.append(place.slot)
        own.into.append(row)
    return list(found.values())


def _members(sources: Sequence[_Source], number: int) -> Iterator[np.ndarray]:
    return (source.chunk.parts[number].members for source in sources)


def _filled_from(sources: Sequence[_Source], capacity: int | None, like: Any, *values: Any) -> np.ndarray:
    """An array with what comes from each source; slots that nobody fills are zero, which costs no memory yet."""
    count = sum(len(source.slots) for source in sources) if capacity is None else capacity
    new = np.zeros((count, *like.shape[1:]), like.dtype)
    for source, own in zip(sources, values, strict=True):
        new[source.into] = np.asarray(own)[source.slots]
    return new


def vacated(places: Sequence[Place]) -> None:
    """Takes members from the chunks that they are in: they have moved to others."""
    for chunk, number, slot in places:
        part = chunk.parts[number]
        members = part.members.copy()
        members[slot] = -1
        chunk.parts = (*chunk.parts[:number], part._replace(members=members), *chunk.parts[number + 1 :])


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


def _seconds(task: Task, platform: str, rows: Sequence[tuple[Structure, np.ndarray]]) -> float:
    """About how long a segment takes; for ordering only."""
    own = rates(platform)
    return sum(member_seconds(task, structure, own) * len(members) for structure, members in rows)


def _count(configs: Mapping[str, np.ndarray]) -> tuple[int]:
    return (len(next(iter(configs.values()))),)
