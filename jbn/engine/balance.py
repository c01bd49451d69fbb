"""Live members spread over workers: after a policy has stopped many, the rest may be left in too few chunks."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jbn.engine.layout import Chunk, divided
from jbn.task.hyper import Structure

_TAIL = 0.1  # of a worker's time: how long it may wait at the end
_LEAST = 0.25  # of it: a smaller chunk is not divided


class _Load(NamedTuple):
    """A chunk, its live slots part by part, and what a segment of each of them takes."""

    chunk: Chunk
    live: tuple[np.ndarray, ...]
    seconds: float


def balanced(
    chunks: Sequence[Chunk],
    alive: np.ndarray,
    seconds: Callable[[Structure], float],
    *,
    segments: int,
    workers: int,
    devices: Sequence[Any],
) -> list[Chunk]:
    """The chunks, of which those that would keep a worker busy after the others are divided.

    Members move with all their state to chunks of the same capacity, which need no other programs. No chunk is left
    with more than a worker's share of what is to be done on its device, as far as members allow; with less if there
    are few segments, at the end of which a worker may have to wait for the others.

    Args:
        chunks: those of a population.
        alive: which members take part, `[members]`.
        seconds: what a segment of a member with that structure takes, in whatever unit.
        segments: how many follow.
        workers: of a device.
        devices: those that chunks are on.
    """
    loads = [_load(chunk, alive, seconds) for chunk in chunks]
    if workers > 1:
        for device in range(len(devices)):
            total = sum(load.seconds for load in loads if load.chunk.device == device)
            most = total / workers * min(1.0, max(_LEAST, _TAIL * segments))
            while (place := _heaviest(loads, device, most)) is not None:
                chunk, shares = loads[place].chunk, _shares(loads[place], seconds)
                both = divided(chunk, shares, devices[device], slots=chunk.slots)
                loads[place : place + 1] = [_load(chunk, alive, seconds) for chunk in both]
    return [load.chunk for load in loads]


def _load(chunk: Chunk, alive: np.ndarray, seconds: Callable[[Structure], float]) -> _Load:
    live = tuple(np.flatnonzero(alive[part.members]) for part in chunk.parts)
    each = (
        len(own) * seconds(part.structure) for part, own in zip(chunk.parts, live, strict=True) if len(own)
    )
    return _Load(chunk, live, sum(each))


def _heaviest(loads: Sequence[_Load], device: int, most: float) -> int | None:
    """The chunk with most to do, if that is too much and more than one member does it."""
    own = [
        place
        for place, load in enumerate(loads)
        if load.chunk.device == device and load.seconds > most and sum(map(len, load.live)) > 1
    ]
    return max(own, key=lambda place: loads[place].seconds, default=None)


def _shares(load: _Load, seconds: Callable[[Structure], float]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Slots that stay and slots that go, part by part: those that are not live stay."""
    parts = load.chunk.parts
    stay = [
        np.setdiff1d(np.arange(len(part.members)), own) for part, own in zip(parts, load.live, strict=True)
    ]
    go: list[np.ndarray] = [np.zeros(0, int) for _ in parts]
    members = [
        (seconds(parts[number].structure), number, slot)
        for number, own in enumerate(load.live)
        for slot in own
    ]
    sums = [0.0, 0.0]
    for each, number, slot in sorted(members, key=lambda one: (-one[0], *one[1:])):
        side = int(sums[1] < sums[0])
        sums[side] += each
        share = (stay, go)[side]
        share[number] = np.append(share[number], slot)
    return stay, go
