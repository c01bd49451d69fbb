"""When a checkpoint is worth its time."""

from collections.abc import Callable

_SHARE = 0.02  # of the time since the last one that writing the next may take
_FIRST_BYTES_PER_SECOND, _FIRST_SECONDS = 100e6, 0.02  # until one was written: a slow disk


class Pace:
    """Spaces checkpoints so that writing them takes a small share of a run.

    Args:
        now: when the run began, in seconds of any clock.

    >>> pace = Pace(0.0)
    >>> def size():
    ...     return 2_000_000
    >>> pace.due(1.9, size), pace.due(2.1, size)
    (False, True)
    >>> pace.wrote(2.1, 2.2)
    >>> pace.due(7.1, size), pace.due(7.3, size)
    (False, True)
    """

    def __init__(self, now: float):
        self._last, self._next = now, now + _FIRST_SECONDS / _SHARE
        self._known = False

    def due(self, now: float, size: Callable[[], int]) -> bool:
        """Whether it is time, where a checkpoint has so many bytes; asked for only where that matters."""
        if now >= self._next and not self._known:
            self._space(_FIRST_SECONDS + size() / _FIRST_BYTES_PER_SECOND)
        return now >= self._next

    def wrote(self, begun: float, ended: float) -> None:
        """One was written, from then to then."""
        self._last = ended
        self._space(ended - begun)

    def _space(self, cost: float) -> None:
        self._next, self._known = self._last + cost / _SHARE, True
