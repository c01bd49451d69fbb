"""What starting takes: tracing and compiling all programs of a plan, with nothing cached and with all of them."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import numpy as np

from jbn.engine.engine import Engine
from jbn.engine.room import forget

_SAVED, _READ = (
    f"/jax/compilation_cache/{name}_sec" for name in ("compile_time_saved", "cache_retrieval_time")
)
_ROUNDED = 0.5  # the cache keeps whole seconds, rounded down
_COMPILED = 0.25  # of the time: so much compiling makes a start a cold one


class Start(NamedTuple):
    """What a start takes.

    Args:
        seconds: wall-clock time of it.
        spare: processor seconds that are idle meanwhile; members train in them.
    """

    seconds: float
    spare: float


class Starts(NamedTuple):
    """The two ways to start.

    Args:
        cold: nothing is compiled yet.
        warm: programs are found in JAX's compilation cache; without one, in this process.
        measured: whether `cold` was measured; else it follows from what the cache says about its programs.
        compile_seconds: compiling alone, on a cold start.
    """

    cold: Start
    warm: Start
    measured: bool
    compile_seconds: float


class Started(NamedTuple):
    """An engine that is ready, and what starting took."""

    engine: Engine
    starts: Starts


class _Measured(NamedTuple):
    start: Start
    trace: float
    compile: float
    found: list[float]  # what those in the cache took to compile once
    read: float


def starts(build: Callable[[], Engine], *, workers: int, programs: int) -> Started:
    """Starts an engine, twice if the first time was cold and programs are kept.

    Args:
        build: makes the engine.
        workers: who trains.
        programs: how many training programs it has.
    """
    forget()
    engine = build()
    first = _start(engine, workers)
    if not keeps_programs():
        return Started(engine, Starts(first.start, Start(0.0, 0.0), not first.found, first.compile))
    warm, compiled = first.start, first.compile - first.read
    if compiled > _COMPILED * first.start.seconds:
        forget()
        engine = build()
        again = _start(engine, workers)
        # what Python does once a process is done, and tracing again is faster than it will be elsewhere
        warm = again.start._replace(seconds=again.start.seconds + max(0.0, first.trace - again.trace))
    return Started(
        engine, Starts(*_cold(first, workers, programs), compiled + sum(first.found))._replace(warm=warm)
    )


def keeps_programs() -> bool:
    """Whether JAX keeps compiled programs for other processes."""
    return (
        bool(jax.config.values["jax_compilation_cache_dir"])
        and jax.config.values["jax_enable_compilation_cache"]
    )


def _cold(first: _Measured, workers: int, programs: int) -> tuple[Start, Start, bool]:
    """A start with nothing cached: the first one, or, if that was not, what it would have been.

    Programs are compiled one after another beside tracing, from when the first is traced.
    """
    if not first.found:
        return first.start, first.start, True
    more = max(0.0, sum(first.found) - first.read)
    seconds = max(first.start.seconds, first.trace / programs + first.compile + more)
    idle = first.start.spare + workers * (seconds - first.start.seconds) - more
    return Start(seconds, max(0.0, idle)), first.start, False


def _start(engine: Engine, workers: int) -> _Measured:
    with _watched() as events:
        start, busy = time.perf_counter(), time.process_time()
        engine.compile()
        seconds, busy = time.perf_counter() - start, time.process_time() - busy
    found = [
        max(0.0, saved + read) + _ROUNDED for saved, read in zip(events[_SAVED], events[_READ], strict=True)
    ]
    own = engine.timings
    spare = max(0.0, workers * seconds - busy)
    return _Measured(Start(seconds, spare), own.trace, own.compile, found, float(np.sum(events[_READ])))


@contextlib.contextmanager
def _watched() -> Iterator[dict[str, list[float]]]:
    """What JAX says about its compilation cache meanwhile, in seconds."""
    events: dict[str, list[float]] = {_SAVED: [], _READ: []}

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        if event in events:
            events[event].append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield events
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
