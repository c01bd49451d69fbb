"""The one verb on a population: advance the live members by a segment."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

from jbn.engine.executables import Executable, executable
from jbn.engine.layout import Chunk, exact_shapes, lay_out
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


class Engine:
    """All members of a sweep: every configuration with every seed index.

    Member = configuration * seeds + seed index. Their state lives on the devices and is updated in place;
    nothing but `advance` touches it.

    Args:
        task: what is trained.
        configs: names to arrays, one entry a configuration; checked by `task.check`.
        plan: which configurations share a program.
        key: the sweep's key; all random streams follow from it and the seed index.
        seeds: seed indices of every configuration.
        workers: who runs the programs.
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
    ):
        self._task, self._plan, self._workers = task, plan, workers
        arrays = task.arrays()
        self._rows = [jax.device_put((arrays.train, arrays.validation), device) for device in workers.devices]
        purposes = [streams(key, seed) for seed in range(seeds)]
        self._streams = [jax.device_put(purposes, device) for device in workers.devices]
        self._chunks = lay_out(task, configs, plan, seeds, workers.devices)
        self._new: list[Executable] = []
        self.members = sum(len(part.members) for chunk in self._chunks for part in chunk.parts)

    @property
    def timings(self) -> Timings:
        """What tracing and compiling took so far; programs that were there before cost nothing."""
        return Timings(
            trace=sum(program.trace_seconds for program in self._new),
            compile=sum(program.compile_seconds for program in self._new),
            programs=len(self._new),
        )

    def advance(self, epoch: int, alive: np.ndarray) -> Segment:
        """Trains every live member for one epoch and evaluates it.

        Args:
            epoch: number of the epoch, counted from 0; the order of the data follows from it.
            alive: which members take part, `[members]`.
        """
        shuffle = functools.cache(functools.partial(self._shuffled, epoch))
        futures, took_part = [], []
        try:
            for chunk in self._chunks:
                slots = [np.flatnonzero(alive[part.members]) for part in chunk.parts]
                if any(len(own) for own in slots):
                    job = self._job(chunk, slots, shuffle(chunk.seed, chunk.device))
                    futures.append(self._workers.submit(chunk.device, job))
                    took_part += [part.members[own] for part, own in zip(chunk.parts, slots, strict=True)]
        finally:
            results = finish(futures)
        return self._gathered(took_part, [part for parts in results for part in parts])

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
        return jax.tree.map(_corner, own, exact_shapes(self._task, part.structure, sizes))

    def _shuffled(self, epoch: int, seed: int, device: int) -> Rows:
        train, _ = self._rows[device]
        return _shuffled(train, self._streams[device][seed].order, jnp.asarray(epoch))

    def _job(self, chunk: Chunk, slots: Sequence[np.ndarray], train: Rows) -> Callable[[], list[Segment]]:
        """One segment of one chunk, for a worker; programs that are new are traced here, by the caller."""
        keys, validation = self._streams[chunk.device][chunk.seed], self._rows[chunk.device][1]
        traced = tuple(part.traced for part in chunk.parts)
        live = tuple(_live(own, self._plan.slots) for own in slots)
        start = (traced, keys.initial, train)
        if chunk.programs is None:
            chunk.programs = self._programs(
                chunk, start, (traced, live, train, keys.noise), (traced, live, validation)
            )
        init, advance, evaluate = chunk.programs

        def job() -> list[Segment]:
            populations = init(*start) if chunk.populations is None else chunk.populations
            chunk.populations = None  # they are donated: whatever happens now, they are gone
            populations, losses = advance(populations, traced, live, train, keys.noise)
            judged = evaluate(_models(populations), traced, live, validation)
            chunk.populations = populations
            parts = zip(losses, judged, populations, slots, strict=True)
            return [_on_host(Segment(Metrics(loss, *both), p.step), own) for loss, both, p, own in parts]

        return job

    def _programs(
        self, chunk: Chunk, start: PyTree, segment: PyTree, judge: PyTree
    ) -> tuple[Executable, ...]:
        """What initialises, trains and evaluates a chunk; only training depends on the batch size."""
        problem, device, tile = self._task.problem, self._workers.devices[chunk.device], self._plan.tile
        structures = tuple(part.structure for part in chunk.parts)
        shared = tuple(structure.without("batch_size") for structure in structures)
        init = self._executable(init_program(problem, shared), start, device)
        train = self._executable(train_program(problem, structures, tile), (init.result, *segment), device)
        evaluate = evaluate_program(problem, shared, tile)
        return init, train, self._executable(evaluate, (_models(init.result), *judge), device)

    def _executable(self, *arguments: Any) -> Executable:
        program, new = executable(*arguments)
        if new:
            self._new.append(program)
        return program

    def _gathered(self, members: list[np.ndarray], results: list[Segment]) -> Segment:
        metrics = Metrics(*(np.full(self.members, np.nan) for _ in Metrics._fields))
        whole = Segment(metrics, np.zeros(self.members, np.int64))
        for own, part in zip(members, results, strict=True):
            jax.tree.map(lambda target, values, own=own: target.__setitem__(own, values), whole, part)
        return whole


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
