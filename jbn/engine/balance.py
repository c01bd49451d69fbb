"""Live members spread over workers: after a policy has stopped many, chunks may be too few, or nearly empty."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from jbn.engine.layout import Chunk, Place, gathered, put_numbers, vacated
from jbn.task.hyper import Structure

_TAIL = 0.1  # of a worker's time: how long it may wait at the end
_LEAST = 0.25  # of it: a smaller chunk is not divided
_HEAVY = 1.5  # times what a chunk should have, before moving its members is worth it


def sparse(live: int | np.ndarray, members: int | np.ndarray) -> bool | np.ndarray:
    """Whether no more than half of a chunk's members take part: then they come together with others."""
    return 2 * live <= members


def most_seconds(seconds: float, segments: int, workers: int) -> float:
    """What a chunk to which members move may take of a segment that takes a worker so long in all."""
    return min(1.0, max(_LEAST, _TAIL * segments)) * seconds / workers if workers > 1 else math.inf


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
    seconds: Callable[[Structure], float],
    *,
    segments: int,
    workers: int,
    devices: Sequence[Any],
) -> list[Chunk]:
    """The chunks, where live members of sparse ones have moved together, and those of ones that take too long apart.

    A call costs something whatever is in it, so few calls are better; but no chunk is left with more than a worker's
    share of what is to be done on its device, as far as members allow; with less if there are few segments, at the
    end of which a worker may have to wait for the others. Members move with all their state to chunks that need no
    other programs; those that do not take part stay where they are.

    Args:
        chunks: those of a population.
        alive: which members take part, `[members]`.
        seconds: what a segment of a member with that structure takes, in whatever unit.
        segments: how many follow.
        workers: of a device.
        devices: those that chunks are on.

    Returns:
        The same chunks where nothing has to move; else all, those with most to do first.
    """
    loads = [_load(chunk, alive, seconds) for chunk in chunks]
    new = []
    for number, device in enumerate(devices):
        here = [load for load in loads if load.chunk.device == number]
        most = most_seconds(sum(load.seconds for load in here), segments, workers)
        moved = [chunk for group in _groups(here) for chunk in _moved(group, most)]
        put_numbers(moved, device)
        new += moved
    if not new:
        return list(chunks)
    whole = [_load(chunk, alive, seconds) for chunk in [*new, *chunks]]
    return [load.chunk for load in sorted(whole, key=lambda load: -load.seconds)]


def _load(chunk: Chunk, alive: np.ndarray, seconds: Callable[[Structure], float]) -> _Load:
    seats = [
        _Seat(Place(chunk, number, int(slot)), seconds(part.structure))
        for number, part in enumerate(chunk.parts)
        for slot in part.live(alive)
    ]
    return _Load(chunk, seats)


def _groups(loads: Sequence[_Load]) -> Iterator[list[_Load]]:
    """Chunks whose members could be in one: of the same programs and seed index."""
    found: dict[Any, list[_Load]] = {}
    for load in loads:
        chunk = load.chunk
        key = (tuple(part.structure for part in chunk.parts), chunk.seed, chunk.slots)
        found.setdefault(key, []).append(load)
    yield from found.values()


def _moved(group: Sequence[_Load], most: float) -> list[Chunk]:
    """New chunks for members of such chunks, which are taken from the old ones; none where nothing is gained."""
    heavy = [load for load in group if load.seconds > _HEAVY * most and len(load.seats) > 1]
    moving = [load for load in group if load in heavy or load.sparse]
    if not moving:
        return []
    shares = _shares([seat for load in moving for seat in load.seats], most, moving[0].chunk.slots)
    if len(shares) >= len(moving) and not heavy:
        return []
    new = [gathered([seat.place for seat in share]) for share in shares]
    vacated([seat.place for load in moving for seat in load.seats])
    return new


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
