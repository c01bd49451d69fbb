"""The one verb on a population: advance the live members by a segment."""

import functools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

from jbn.engine.arithmetic import member_shapes
from jbn.engine.executables import Executable, executable
from jbn.engine.layout import Chunk, halves, lay_out
from jbn.engine.memory import must_wait
from jbn.engine.plan import Plan
from jbn.engine.programs import Live, Population, evaluate_program, init_program, train_program
from jbn.engine.workers import Workers, finish
from jbn.task.member import Metrics, Rows
from jbn.task.streams import order, streams
from jbn.task.task import Task


class Segment(NamedTuple):
    """What came out of one segment, one entry a member.

    Args:
        metrics: NaN where a member did not take part.
        steps: optimiser steps taken since the beginning; 0 where a member did not take part.
    """

    metrics: Metrics
    steps: Int[np.ndarray, " members"]


class Timings(NamedTuple):
    """What tracing and compiling took, in seconds of one core, and how many programs were new."""

    trace: float
    compile: float
    programs: int


_log = logging.getLogger("jbn")


class Engine:
    """All members of a sweep: every configuration with every seed index.

    Member = configuration * seeds + seed index. Their state lives on the devices and is updated in place;
    nothing but `advance` touches it. What does not fit there waits on the host between segments. Where a device
    runs out of memory all the same, the chunk is halved and starts the segment again.

    Args:
        task: what is trained.
        configs: names to arrays, one entry a configuration; checked by `task.check`.
        plan: which configurations share a program.
        key: the sweep's key; all random streams follow from it and the seed index.
        seeds: seed indices of every configuration.
        workers: who runs the programs.
        waits: chunks wait on the host between segments; default: where they do not fit on an accelerator.
    """

    def __init__(
        self,
        task: Task,
        configs: Mapping[str, np.ndarray],
        plan: Plan,
        *,
        key: PRNGKeyArray,
        seeds: int = 1,
        workers: Workers,
        waits: bool | None = None,
    ):
        self._task, self._plan, self._workers = task, plan, workers
        arrays = task.arrays()
        self._rows = [jax.device_put((arrays.train, arrays.validation), device) for device in workers.devices]
        purposes = [streams(key, seed) for seed in range(seeds)]
        self._streams = [jax.device_put(purposes, device) for device in workers.devices]
        self._chunks = lay_out(task, configs, plan, seeds, workers.devices, workers=workers.count)
        self._new: list[Executable] = []
        self._run_seconds: list[float] = []
        self._waits = must_wait(task, plan, seeds, workers.devices) if waits is None else waits
        self.members = sum(len(part.members) for chunk in self._chunks for part in chunk.parts)

    @property
    def timings(self) -> Timings:
        """What tracing and compiling took so far; programs that were there before cost nothing."""
        return Timings(
            trace=sum(program.trace_seconds for program in self._new),
            compile=sum(program.compile_seconds for program in self._new),
            programs=len(self._new),
        )

    @property
    def run_seconds(self) -> float:
        """How long programs ran so far, all workers together."""
        return sum(self._run_seconds)

    def advance(self, epoch: int, alive: np.ndarray) -> Segment:
        """Trains every live member for one epoch and evaluates it.

        Args:
            epoch: number of the epoch, counted from 0; the order of the data follows from it.
            alive: which members take part, `[members]`.
        """
        shuffle = functools.cache(functools.partial(self._shuffled, epoch))
        metrics = Metrics(*(np.full(self.members, np.nan) for _ in Metrics._fields))
        whole = Segment(metrics, np.zeros(self.members, np.int64))
        waiting = self._chunks
        while waiting:
            waiting = [
                half
                for chunk, outcome in self._run(waiting, alive, shuffle)
                for half in self._gathered(whole, chunk, alive, outcome)
            ]
        return whole

    def _run(
        self, chunks: Sequence[Chunk], alive: np.ndarray, shuffle: Callable[[int, int], Rows]
    ) -> list[tuple[Chunk, Any]]:
        """One segment of every chunk with live members, and what came of it."""
        live, futures = [], []
        try:
            for chunk in chunks:
                slots = _live_slots(chunk, alive)
                if any(len(own) for own in slots):
                    job = self._job(chunk, slots, shuffle(chunk.seed, chunk.device))
                    futures.append(self._workers.submit(chunk.device, job))
                    live.append(chunk)
        finally:
            outcomes = finish(futures)
        return list(zip(live, outcomes, strict=True))

    def _gathered(self, whole: Segment, chunk: Chunk, alive: np.ndarray, outcome: Any) -> list[Chunk]:
        """Enters what a chunk's members did; its halves if it has to start again."""
        if isinstance(outcome, Exception):
            return self._halved(chunk, outcome)
        for part, slots, own in zip(chunk.parts, _live_slots(chunk, alive), outcome, strict=True):
            members = part.members[slots]
            jax.tree.map(lambda target, values, at=members: target.__setitem__(at, values), whole, own)
        return []

    def _halved(self, chunk: Chunk, error: Exception) -> list[Chunk]:
        if chunk.slots == 1:
            raise error
        _log.warning(
            "out of memory on %s: a chunk of %d members a cohort is halved and starts its segment again",
            self._workers.devices[chunk.device],
            chunk.slots,
        )
        both = halves(chunk, self._workers.devices[chunk.device])
        place = next(index for index, own in enumerate(self._chunks) if own is chunk)
        self._chunks = [*self._chunks[:place], *both, *self._chunks[place + 1 :]]
        return both

    def member(self, index: int) -> tuple[PyTree, PyTree]:
        """Parameters and running statistics of one member, on the host, without padding."""
        chunk, place = next(
            (chunk, place)
            for chunk in self._chunks
            for place, part in enumerate(chunk.parts)
            if index in part.members
        )
        if chunk.populations is None:
            raise RuntimeError(f"member {index} has no state yet: advance the population first")
        part, population = chunk.parts[place], chunk.populations[place]
        slot = int(np.flatnonzero(part.members == index)[0])
        own = jax.tree.map(lambda a: np.array(a[slot]), (population.params, population.stats))
        sizes = {name: int(part.traced[name][slot]) for name in part.structure.padded}
        exact = member_shapes(self._task, part.structure.sized(sizes))
        return jax.tree.map(_corner, own, (exact.params, exact.stats))

    def _shuffled(self, epoch: int, seed: int, device: int) -> Rows:
        train, _ = self._rows[device]
        return _shuffled(train, self._streams[device][seed].order, jnp.asarray(epoch))

    def _job(
        self, chunk: Chunk, slots: Sequence[np.ndarray], train: Rows
    ) -> Callable[[], list[Segment] | Exception]:
        """One segment of one chunk, for a worker; programs that are new are traced here, by the caller."""
        keys, validation = self._streams[chunk.device][chunk.seed], self._rows[chunk.device][1]
        traced = tuple(part.traced for part in chunk.parts)
        live = tuple(_live(own, chunk.slots) for own in slots)
        start = (traced, keys.initial, train)
        if chunk.programs is None:
            chunk.programs = self._programs(
                chunk, start, (traced, live, train, keys.noise), (traced, live, validation)
            )
        init, advance, evaluate = chunk.programs

        def segment() -> list[Segment]:
            populations = init(*start) if chunk.populations is None else chunk.populations
            populations, losses = advance(populations, traced, live, train, keys.noise)
            judged = evaluate(_models(populations), traced, live, validation)
            parts = zip(losses, judged, populations, slots, strict=True)
            results = [_on_host(Segment(Metrics(loss, *both), p.step), own) for loss, both, p, own in parts]
            chunk.populations = jax.tree.map(np.array, populations) if self._waits else populations
            return results

        def job() -> list[Segment] | Exception:
            for program in chunk.programs or ():
                program.compile()
            begun = time.perf_counter()
            try:
                return segment()
            except jax.errors.JaxRuntimeError as error:
                if "RESOURCE_EXHAUSTED" not in str(error) or _gone(chunk.populations):
                    raise
                return error
            finally:
                self._run_seconds.append(time.perf_counter() - begun)

        return job

    def _programs(
        self, chunk: Chunk, start: PyTree, segment: PyTree, judge: PyTree
    ) -> tuple[Executable, ...]:
        """What initialises, trains and evaluates a chunk; only training depends on the batch size."""
        problem, device = self._task.problem, self._workers.devices[chunk.device]
        tile = min(self._plan.tile, chunk.slots)
        # elsewhere than on a CPU the start of a segment is kept until it has ended, in case memory runs out
        donate = self._workers.platform == "cpu" or self._waits
        structures = tuple(part.structure for part in chunk.parts)
        shared = tuple(structure.without("batch_size") for structure in structures)
        init = self._executable(init_program(problem, shared), start, device)
        train = self._executable(
            train_program(problem, structures, tile, donate), (init.result, *segment), device
        )
        evaluate = evaluate_program(problem, shared, tile)
        return init, train, self._executable(evaluate, (_models(init.result), *judge), device)

    def _executable(self, *arguments: Any) -> Executable:
        program, new = executable(*arguments)
        if new:
            self._new.append(program)
        return program


def _live_slots(chunk: Chunk, alive: np.ndarray) -> list[np.ndarray]:
    return [np.flatnonzero(alive[part.members]) for part in chunk.parts]


def _gone(populations: PyTree) -> bool:
    """Whether the state was donated to a program that did not come back."""
    return any(isinstance(leaf, jax.Array) and leaf.is_deleted() for leaf in jax.tree.leaves(populations))


def _live(slots: np.ndarray, capacity: int) -> Live:
    order = np.pad(slots, (0, capacity - len(slots)), constant_values=capacity)
    return Live(order.astype(np.int32), np.asarray(len(slots), np.int32))


def _models(populations: Sequence[Population]) -> tuple[tuple[PyTree, PyTree], ...]:
    return tuple((population.params, population.stats) for population in populations)


def _on_host(segment: Segment, slots: np.ndarray) -> Segment:
    """Copies, not views: a live view of a buffer silently switches donation off."""
    return jax.tree.map(lambda a: np.array(a)[slots], segment)


@jax.jit
def _shuffled(rows: Rows, key: PRNGKeyArray, epoch: Int[Array, ""]) -> Rows:
    place = order(key, epoch, rows.y.shape[0])
    return Rows(rows.x[place], rows.y[place])


def _corner(array: np.ndarray, spec: jax.ShapeDtypeStruct) -> np.ndarray:
    return np.asarray(array[tuple(slice(size) for size in spec.shape)])
