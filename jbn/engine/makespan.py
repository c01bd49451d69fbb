"""How long workers take for chunks that go from segment to segment."""

import heapq
from collections.abc import Sequence

_SIMULATED = 5_000  # turns; what is longer repeats itself


def makespan(seconds: Sequence[float], workers: int, *, segments: int = 1) -> float:
    """When the last chunk has been through its last segment.

    A chunk's segments follow one another; a worker that is free takes the chunk that is furthest behind, of equals
    the first one.

    Args:
        seconds: of a segment of each chunk.
        workers: how many take turns.
        segments: of each chunk.

    Returns:
        Seconds from the first turn to the end of the last.

    >>> makespan([3.0, 2.0, 2.0], 2), makespan([3.0], 2, segments=4), makespan([], 2)
    (4.0, 12.0, 0.0)
    """
    if not len(seconds):
        return 0.0
    simulated = min(segments, max(1, _SIMULATED // len(seconds)))
    return _simulated(seconds, workers, simulated) * segments / simulated


def _simulated(seconds: Sequence[float], workers: int, segments: int) -> float:
    waiting = [(0, place) for place in range(len(seconds))]
    running: list[tuple[float, int, int]] = []
    now = 0.0
    while waiting or running:
        while waiting and len(running) < workers:
            segment, place = heapq.heappop(waiting)
            heapq.heappush(running, (now + seconds[place], segment, place))
        now, segment, place = heapq.heappop(running)
        if segment + 1 < segments:
            heapq.heappush(waiting, (segment + 1, place))
    return float(now)
