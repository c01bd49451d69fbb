"""What a person sees while a sweep runs: a live bar in a terminal, plain lines elsewhere."""

import contextlib
import math
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from jbn.runs.loop import Progress as State
from jbn.task.metrics import SHARES

_LINE_SECONDS = 5.0


class Display:
    """Shows how far a sweep is; this one shows nothing."""

    def show(self, state: State) -> None:
        """Called after every segment."""


class _Bar(Display):
    """A live progress bar."""

    def __init__(self, progress: Progress):
        self._progress = progress
        self._task = progress.add_task("compiling", total=None, alive="", best="", left="")

    def show(self, state: State) -> None:
        self._progress.update(
            self._task,
            description="training",
            total=state.segments,
            completed=state.segment,
            alive=f"{state.alive}/{state.members} alive",
            best=f"best {_value(state)}",
            left=f"{_clock(state.seconds_left)} left",
        )


class _Lines(Display):
    """A line now and then: the first, the last, and one every few seconds."""

    def __init__(self, console: Console):
        self._console, self._last = console, -_LINE_SECONDS

    def show(self, state: State) -> None:
        now = time.monotonic()
        if now - self._last < _LINE_SECONDS and state.segment not in (1, state.segments):
            return
        self._last = now
        self._console.print(
            f"segment {state.segment}/{state.segments}  {state.alive}/{state.members} alive  "
            f"best validation {state.objective.metric.replace('_', ' ')} {_value(state)}  "
            f"{_clock(state.seconds)} elapsed  {_clock(state.seconds_left)} left",
            highlight=False,
            soft_wrap=True,
        )


@contextlib.contextmanager
def display(console: Console) -> Iterator[Display]:
    """A display that fits where the output goes."""
    if not console.is_terminal:
        yield _Lines(console)
        return
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
    fields = [TextColumn(f"{{task.fields[{name}]}}") for name in ("alive", "best", "left")]
    with Progress(*columns, *fields, console=console, transient=True) as progress:
        yield _Bar(progress)


class Interrupt:
    """Ctrl-C as a wish: the first asks to stop after the segment, the second stops at once."""

    def __init__(self, console: Console):
        self._console, self.asked = console, False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """The signal's handler."""
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        self._console.print("stopping after the segments that have begun; Ctrl-C again to stop at once")


@contextlib.contextmanager
def interruptible(console: Console) -> Iterator[Interrupt]:
    """Within it, Ctrl-C is a wish."""
    wish = Interrupt(console)
    if threading.current_thread() is not threading.main_thread():
        yield wish
        return
    before = signal.signal(signal.SIGINT, wish)
    try:
        yield wish
    finally:
        signal.signal(signal.SIGINT, before)


def _value(state: State) -> str:
    if math.isnan(state.best):
        return "none yet"
    return f"{state.best:.2%}" if state.objective.metric in SHARES else f"{state.best:.4g}"


def _clock(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
