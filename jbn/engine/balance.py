"""Live members spread over workers: after a policy has stopped many, chunks may be too few, or nearly empty."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from jbn.engine.layout import Chunk, Place, gathered, vacated
from jbn.engine.makespan import makespan
from jbn.task.hyper import Structure

_TAIL = 0.1  # of a worker's time: how long it may wait at the end
_LEAST = 0.25  # of it: a smaller chunk is not divided
_HEAVY = 1.5  # times what a chunk should have, before moving its members is worth it
_SIMULATED = 4  # segments, whoever takes which; the others cost what there is to do


def sparse(live: int | np.ndarray, members: int | np.ndarray) -> bool | np.ndarray:
    """Whether no more than half of a chunk's members take part: then they come together with others."""
    return 2 * live <= members


def most_seconds(seconds: float, segments: int, workers: int) -> list[float]:
    """What a chunk to which members move may take of a segment that takes a worker so long in all.

    The whole share of a worker, or, where there are few segments, at the end of which one has to wait, less.
    """
    if workers == 1:
        return [math.inf]
    return [share * seconds / workers for share in sorted({1.0, min(1.0, max(_LEAST, _TAIL * segments))})]


def ended(seconds: Sequence[float], *, segments: int, workers: int, making: float = 0.0) -> float:
    """When workers have brought chunks through so many segments: through a few of them, then with all of them busy.

    Args:
        seconds: of a segment of each chunk that has something to do.
        segments: how many follow.
        workers: how many share the work.
        making: seconds of a worker that it takes to put chunks together before.

    >>> ended([1.0] * 4, segments=2, workers=2), ended([3.5], segments=2, workers=2, making=1.0)
    (4.0, 7.5)
    """
    few = min(segments, _SIMULATED)
    steady = max(sum(seconds) / workers, max(seconds, default=0.0))
    return making / workers + makespan(seconds, workers, segments=few) + (segments - few) * steady


class Option(NamedTuple):
    """What chunks may be like.

    Args:
        seconds: of a segment of each.
        making: what putting the new ones together takes of a worker.
    """

    seconds: Sequence[float] | np.ndarray
    making: float = 0.0


def soonest(groups: Sequence[Sequence[Option]], *, segments: int, workers: int) -> list[int]:
    """For each group the option with which all chunks end soonest, one group after the other; of equals the first.

    >>> stay, move = Option([1.1] * 4), Option([4.1], making=0.2)
    >>> soonest([[stay, move]], segments=2, workers=1), soonest([[stay, move]], segments=2, workers=2)
    ([1], [0])
    """
    chosen = [0] * len(groups)
    for place, options in enumerate(groups):
        now = [own[choice] for own, choice in zip(groups, chosen, strict=True)]
        others = [own for option in now[:place] + now[place + 1 :] for own in option.seconds]
        ends = [
            ended([*others, *own.seconds], segments=segments, workers=workers, making=own.making)
            for own in options
        ]
        chosen[place] = ends.index(min(ends))
    return chosen


class Costs(NamedTuple):
    """What moves are weighed by, in seconds of a worker.

    Args:
        member: a segment of a member with that structure.
        call: what each segment of a chunk takes beyond.
        chunk: putting another chunk like this one together.
    """

    member: Callable[[Structure], float]
    call: float
    chunk: Callable[[Chunk], float]


class _Seat(NamedTuple):
    """Where a live member is, and what a segment of it takes."""

    place: Place
    seconds: float


class _Load(NamedTuple):
    """A chunk and its live members."""

    chunk: Chunk
    seats: list[_Seat]

    @property
    def seconds(self) -> float:
        return math.fsum(seat.seconds for seat in self.seats)

    @property
    def sparse(self) -> bool:
        """Whether no more than half of its members are left, but some."""
        members = sum(int((part.members >= 0).sum()) for part in self.chunk.parts)
        return bool(self.seats) and bool(sparse(len(self.seats), members))


def balanced(
    chunks: Sequence[Chunk],
    alive: np.ndarray,
    costs: Costs,
    *,
    segments: int,
    workers: int,
    devices: int = 1,
) -> list[Chunk]:
    """The chunks, where live members of sparse ones have moved together, and those of ones that take too long apart.

    A call costs something whatever is in it, so few calls are better; but no chunk is left with more than a worker's
    share of what is to be done on its device, as far as members allow; with less if there are few segments, at the
    end of which a worker may have to wait for the others. Members move with all their state to chunks that need no
    other programs, where that is expected to end sooner in spite of what moving takes; those that do not take part
    stay where they are.

    Args:
        chunks: those of a population.
        alive: which members take part, `[members]`.
        costs: what segments and moves take.
        segments: how many follow.
        workers: of a device.
        devices: how many chunks are on.

    Returns:
        All chunks, those with most to do first.
    """
    loads = [_load(chunk, alive, costs) for chunk in chunks]
    shares = [
        share
        for number in range(devices)
        for share in _moves([load for load in loads if load.chunk.device == number], costs, segments, workers)
    ]
    if shares:
        new = [gathered([seat.place for seat in share]) for share in shares]
        vacated([seat.place for share in shares for seat in share])
        loads = [_load(chunk, alive, costs) for chunk in [*new, *chunks]]
    return [load.chunk for load in sorted(loads, key=lambda load: -load.seconds)]


def _load(chunk: Chunk, alive: np.ndarray, costs: Costs) -> _Load:
    seats = [
        _Seat(Place(chunk, number, int(slot)), costs.member(part.structure))
        for number, part in enumerate(chunk.parts)
        for slot in part.live(alive)
    ]
    return _Load(chunk, seats)


def _moves(loads: Sequence[_Load], costs: Costs, segments: int, workers: int) -> list[list[_Seat]]:
    """Members that come together in chunks of their own, one entry a new chunk, of all chunks on a device."""
    most = most_seconds(sum(load.seconds for load in loads), segments, workers)
    choices = [
        [_Choice([], [load for load in group if load.seats]), *(_choice(group, own) for own in most)]
        for group in _groups(loads)
    ]
    options = [[choice.option(costs) for choice in own] for own in choices]
    chosen = soonest(options, segments=segments, workers=workers)
    return [share for own, place in zip(choices, chosen, strict=True) for share in own[place].shares]


class _Choice(NamedTuple):
    """What may become of chunks whose members could be in one.

    Args:
        shares: members that come together in new chunks, one entry a chunk.
        stay: chunks that keep their members.
    """

    shares: list[list[_Seat]]
    stay: list[_Load]

    def option(self, costs: Costs) -> Option:
        """What that takes."""
        new = [math.fsum(seat.seconds for seat in share) for share in self.shares]
        return Option(
            [costs.call + own for own in (*(load.seconds for load in self.stay), *new)],
            making=math.fsum(costs.chunk(share[0].place.chunk) for share in self.shares),
        )


def _choice(group: Sequence[_Load], most: float) -> _Choice:
    """Members move of chunks that are sparse, and of those that take too long."""
    moving = [load for load in group if load.sparse or (load.seconds > _HEAVY * most and len(load.seats) > 1)]
    shares = _shares([seat for load in moving for seat in load.seats], most, group[0].chunk.slots)
    return _Choice(shares, [load for load in group if load.seats and load not in moving])


def _groups(loads: Sequence[_Load]) -> Iterator[list[_Load]]:
    """Chunks whose members could be in one: of the same programs and seed index."""
    found: dict[Any, list[_Load]] = {}
    for load in loads:
        chunk = load.chunk
        key = (tuple(part.structure for part in chunk.parts), chunk.seed, chunk.slots)
        found.setdefault(key, []).append(load)
    yield from found.values()


def _shares(seats: Sequence[_Seat], most: float, slots: int) -> list[list[_Seat]]:
    """As few shares as there may be, none with more to do unless it has a single member."""
    order = sorted(seats, key=lambda seat: -seat.seconds)
    for count in range(max(1, math.ceil(sum(seat.seconds for seat in seats) / most)), len(seats)):
        shares = _dealt(order, count, slots)
        if shares is not None and all(
            len(share) < 2 or sum(seat.seconds for seat in share) <= most for share in shares
        ):
            return shares
    return [[seat] for seat in order]


def _dealt(order: Sequence[_Seat], count: int, slots: int) -> list[list[_Seat]] | None:
    """Each to the share with least to do that has a slot for it; None if none has."""
    shares: list[list[_Seat]] = [[] for _ in range(count)]
    sums, taken = [0.0] * count, [dict[int, int]() for _ in range(count)]
    for seat in order:
        part = seat.place.part
        free = [number for number in range(count) if taken[number].get(part, 0) < slots]
        if not free:
            return None
        number = min(free, key=lambda number: sums[number])
        shares[number].append(seat)
        sums[number] += seat.seconds
        taken[number][part] = taken[number].get(part, 0) + 1
    return shares
