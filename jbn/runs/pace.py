"""When a checkpoint is worth its time."""

_SHARE = 0.02  # of the time since the last one that writing the next may take
_FIRST_BYTES_PER_SECOND, _FIRST_SECONDS = 100e6, 0.02  # until one was written: a slow disk


class Pace:
    """Spaces checkpoints so that writing them takes a small share of a run.

    Args:
        now: when the run began, in seconds of any clock.

    >>> pace = Pace(0.0)
    >>> pace.due(1.9, 2_000_000), pace.due(2.1, 2_000_000)
    (False, True)
    >>> pace.wrote(2.1, 2.2)
    >>> pace.due(7.1, 2_000_000), pace.due(7.3, 2_000_000)
    (False, True)
    """

    def __init__(self, now: float):
        self._last = now
        self._cost: float | None = None

    def due(self, now: float, size: int) -> bool:
        """Whether it is time, where a checkpoint has so many bytes."""
        guess = _FIRST_SECONDS + size / _FIRST_BYTES_PER_SECOND
        cost = guess if self._cost is None else self._cost
        return now - self._last >= cost / _SHARE

    def wrote(self, begun: float, ended: float) -> None:
        """One was written, from then to then."""
        self._cost, self._last = ended - begun, ended
