"""Whose turn it is: every chunk goes from segment to segment on its own, and the one furthest behind goes first.

No chunk waits for the others at the end of a segment. So no worker is idle while others finish one, and what is
compiled already trains while the rest is being traced and compiled. How far a chunk may run ahead, of the others and
of whoever reads the segments, is bounded, so that a sweep that is asked to stop does so soon.
"""

import dataclasses
import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np

from jbn.engine.layout import Chunk

AHEAD_SEGMENTS, AHEAD_SECONDS = 16, 1.0


@dataclasses.dataclass(eq=False)
class Turn:
    """Where a chunk is.

    Args:
        chunk: which one.
        live: slots that take part, one array a part.
        segment: number of the one that comes next.
        block: number of the block of it that comes next.
        seconds: what the last one took.
        ready: whether it may go on: its programs are traced and no worker has it.
    """

    chunk: Chunk
    live: Sequence[np.ndarray]
    segment: int
    block: int = 0
    seconds: float = 0.0
    ready: bool = False


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a turn.

    Args:
        turn: which one.
        segment: number of the segment.
        live: slots that took part, one array a part.
        results: what came of it, one entry a part; none if it failed.
        last: nothing is left that takes part in the next segment.
        error: why it failed.
    """

    turn: Turn
    segment: int
    live: Sequence[np.ndarray]
    results: Sequence[Any] = ()
    last: bool = False
    error: Exception | None = None


class Schedule:
    """Turns of all chunks from one segment to another; workers take them, one thread collects the outcomes.

    Args:
        turns: one a chunk, in the order in which they go where they are equally far.
        until: number of the first segment that is not run any more.
        blocks: blocks of a segment, through which the chunks go together: none is more than one block ahead of
            another. By default a segment comes in one piece, and they need not wait.
    """

    def __init__(self, turns: Sequence[Turn], until: int, *, blocks: int | None = None):
        self.until, self._blocks = until, blocks
        self._turns = list(turns)
        self._begun = self._read = min((turn.segment for turn in turns), default=until)
        self._changed = threading.Condition()
        self._outcomes: queue.SimpleQueue[Outcome | BaseException] = queue.SimpleQueue()
        self._compiling = self._closed = False

    def ready(self, turn: Turn) -> None:
        """The programs of a turn's chunk are traced: it may go."""
        with self._changed:
            turn.ready = True
            self._changed.notify_all()

    def replace(self, turn: Turn, by: Sequence[Turn]) -> None:
        """Other turns stand in for this one; they are not ready yet."""
        with self._changed:
            place = self._turns.index(turn)
            self._turns[place : place + 1] = by

    def take(self, device: int) -> Turn | None:
        """Waits until a turn on this device may go and hands it to the caller; None once all is over.

        A turn whose programs are not compiled must be reported to `compiled` before anything else.
        """
        with self._changed:
            while not self._closed:
                if (turn := self._next(device)) is not None:
                    turn.ready = False
                    self._begun = max(self._begun, turn.segment + 1)
                    self._compiling = self._compiling or not turn.chunk.compiled
                    return turn
                self._changed.wait()
        return None

    def compiled(self) -> None:
        """The programs of the turn that was being compiled are there."""
        with self._changed:
            self._compiling = False
            self._changed.notify_all()

    def block_done(self, turn: Turn) -> None:
        """A block of a segment is over, and another one follows."""
        with self._changed:
            turn.block, turn.ready = turn.block + 1, True
            self._changed.notify_all()

    def done(self, turn: Turn, results: Sequence[Any], live: Sequence[np.ndarray], seconds: float) -> None:
        """A segment of a turn's chunk is over; `live` take part in the next."""
        outcome = Outcome(turn, turn.segment, turn.live, results, last=not any(map(len, live)))
        with self._changed:
            turn.live, turn.seconds, turn.segment, turn.block = live, seconds, turn.segment + 1, 0
            turn.ready = not outcome.last
            if outcome.last:
                self._turns.remove(turn)
            self._changed.notify_all()
        self._outcomes.put(outcome)

    def failed(self, turn: Turn, error: Exception) -> None:
        """A segment of a turn's chunk ended with an error and may start again."""
        self._outcomes.put(Outcome(turn, turn.segment, turn.live, error=error))

    def outcome(self) -> Outcome:
        """Waits for what comes of the next turn, one chunk's in their order; an error of a worker is raised."""
        found = self._outcomes.get()
        if isinstance(found, BaseException):
            raise found
        return found

    def ended(self, worker: Future[None]) -> None:
        """A worker takes no more turns; where an error is why, nobody may wait for it."""
        if (error := worker.exception()) is not None:
            self._outcomes.put(error)

    def read(self, segment: int) -> None:
        """All segments before this one have been read: nobody will ask to stop because of them."""
        with self._changed:
            self._read = segment
            self._changed.notify_all()

    def stop(self) -> None:
        """Begins no segment beyond the furthest that has begun; all chunks still get that far."""
        with self._changed:
            self.until = min(self.until, self._begun)
            self._changed.notify_all()

    def close(self) -> None:
        """No turn is taken any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _next(self, device: int) -> Turn | None:
        """The turn furthest behind that may go; only one chunk is compiled at a time."""
        places = [self._place(turn) for turn in self._turns]
        last, best = min(places, default=0), len(places)
        for index, turn in enumerate(self._turns):
            behind = best == len(places) or places[index] < places[best]
            if turn.ready and behind and self._may(turn, device, places[index] - last):
                best = index
        return self._turns[best] if best < len(places) else None

    def _place(self, turn: Turn) -> int:
        """How far a turn is, in blocks."""
        return turn.segment * (self._blocks or 1) + turn.block

    def _may(self, turn: Turn, device: int, ahead: int) -> bool:
        near = _near(ahead, turn.seconds, alone=self._blocks is None)
        near = near and _near(turn.segment - self._read, turn.seconds)
        free = turn.chunk.compiled or not self._compiling
        return turn.chunk.device == device and turn.segment < self.until and near and free


def _near(ahead: int, seconds: float, *, alone: bool = True) -> bool:
    """Whether so many segments, or blocks, are few enough to run ahead; one always is."""
    return ahead <= 1 or (alone and ahead <= AHEAD_SEGMENTS and ahead * seconds <= AHEAD_SECONDS)
