"""One segment of one chunk: what a worker does with it."""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from jbn.engine.executables import Executable, executable
from jbn.engine.feed import Feed
from jbn.engine.layout import Chunk, Programs
from jbn.engine.plan import Plan
from jbn.engine.population import Population
from jbn.engine.programs import Live, evaluate_program, init_program, train_program
from jbn.engine.resident import Resident
from jbn.engine.workers import Workers
from jbn.task.data import Blocks
from jbn.task.member import Block, Metrics, Rows
from jbn.task.metrics import on_test
from jbn.task.spread import Looks, Members, spreads
from jbn.task.streams import streams
from jbn.task.task import Task


class Segment(NamedTuple):
    """What came out of one segment, one entry a member.

    Args:
        metrics: NaN where a member did not take part.
        steps: optimiser steps taken since the beginning; 0 where a member did not take part.
        spreads: the lowest, mean and highest entry over the channels of running statistics, by their names; NaN
            where a member has none of that name or did not take part. Empty after most segments.
    """

    metrics: Metrics
    steps: Int[np.ndarray, " members"]
    spreads: dict[str, Float[np.ndarray, "members 3"]]


class Timings(NamedTuple):
    """What tracing and compiling took, in seconds of one core, and how many programs were new."""

    trace: float
    compile: float
    programs: int


class OutOfMemoryError(Exception):
    """A device had not enough memory for a chunk, whose state is still there."""


class Trainer:
    """Data, random streams and programs on every device; trains chunks on them.

    Args:
        task: what is trained.
        plan: which configurations share a program.
        key: the sweep's key.
        seeds: members of every configuration: seed indices, times folds.
        workers: where to run.
        waits: chunks wait on the host between segments.
        spreads: segments have those of running statistics.
    """

    def __init__(
        self,
        task: Task,
        plan: Plan,
        key: PRNGKeyArray,
        *,
        seeds: int,
        workers: Workers,
        waits: bool,
        spreads: bool = False,
    ):
        self._task, self._tile, self._waits = task, plan.tile, waits
        self._looks = Looks(workers.count, now=time.perf_counter()) if spreads else None
        self._devices, self._platform = workers.devices, workers.platform
        arrays = task.arrays()
        each = seeds // len(arrays.folds or (None,))
        purposes = [streams(key, repeat % each) for repeat in range(seeds)]
        self._streams = [jax.device_put(purposes, device) for device in self._devices]
        folds = [repeat // each for repeat in range(seeds)]
        rows = task.rows_in_order(plan.batch_sizes)
        self._resident = Resident(
            task, arrays, streams=self._streams, folds=folds, devices=self._devices, rows=rows
        )
        train, self._feed = task.data.train, None
        if isinstance(train, Blocks):
            unit, head = arrays.train.unit, max(plan.batch_sizes)
            normalizer = arrays.normalizer
            self._feed = Feed(train, purposes, self._devices, head=head, normalizer=normalizer, unit=unit)
        self._new: list[Executable] = []

    @property
    def timings(self) -> Timings:
        """What tracing and compiling took so far; programs that were there before cost nothing."""
        return Timings(
            trace=sum(program.trace_seconds for program in self._new),
            compile=sum(program.compile_seconds for program in self._new),
            programs=len(self._new),
        )

    @property
    def blocks(self) -> int | None:
        """Blocks that an epoch comes in; None where its rows are all in memory."""
        return None if self._feed is None else self._feed.count

    def open(self, first: int, until: int) -> None:
        """Begins to read what these epochs need, where that is not in memory."""
        if self._feed is not None:
            self._feed.open(first, until)

    def close(self) -> None:
        """Ends reading; whoever waits for it gets an error."""
        if self._feed is not None:
            self._feed.close()

    def trace(self, chunk: Chunk) -> None:
        """Traces the programs that a chunk needs, in the caller's thread; nothing is compiled yet."""
        device = self._devices[chunk.device]
        validation, test = self._resident.judged(chunk)
        keys = self._streams[chunk.device][chunk.seed]
        traced = tuple(part.traced for part in chunk.parts)
        live = tuple(_live(np.zeros(0, int), chunk.slots) for _ in chunk.parts)
        problem = self._task.with_optimizer(chunk.parts[0].structure.optimizer).problem
        # without its name: the programs are those of a task with this optimiser alone
        structures = tuple(part.structure.without("optimizer") for part in chunk.parts)
        shared = tuple(structure.without("batch_size") for structure in structures)
        tile = min(self._tile, chunk.slots)
        # elsewhere than on a CPU the start of a segment is kept until it has ended, in case memory runs out
        donate = self._platform == "cpu" or self._waits
        orders: tuple[Executable, ...] = ()
        course, rows = None, None
        if self._feed is not None:
            course, rows = self._feed.course, self._feed.like
        else:
            orders = tuple(self._executable(*own, device) for own in self._resident.orders(chunk))
            rows = self._resident.like(orders)
        init = self._executable(init_program(problem, shared), (traced, keys.initial, _rows_of(rows)), device)
        advance = train_program(problem, structures, tile, donate, course)
        evaluate, judged = evaluate_program(problem, shared, tile), (init.result, traced, live)
        chunk.programs = Programs(
            orders,
            init,
            self._executable(advance, (init.result, traced, live, rows, keys.noise), device),
            self._executable(evaluate, (*judged, validation), device),
            None if test is None else self._executable(evaluate, (*judged, test), device),
        )

    def compile(self, chunk: Chunk) -> None:
        """Compiles what of a chunk's programs is not compiled yet."""
        for program in () if chunk.programs is None else chunk.programs.all:
            program.compile()

    def begin(self, chunk: Chunk) -> None:
        """Gives the members of a chunk their initial state."""
        programs, keys = chunk.programs, self._streams[chunk.device][chunk.seed]
        assert programs is not None, "trace the programs of a chunk first"
        like = self._resident.like(programs.orders) if self._feed is None else self._feed.like
        rows = jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), _rows_of(like))  # only their shape counts
        chunk.populations = programs.init(tuple(part.traced for part in chunk.parts), keys.initial, rows)

    def train(
        self, chunk: Chunk, epoch: int, slots: Sequence[np.ndarray], block: int = 0
    ) -> list[Segment] | None:
        """Trains these slots of every part for one epoch, or one block of it, and evaluates them at its end.

        Returns:
            What came of it, one entry a live slot, part by part; None before the last block of an epoch.

        Raises:
            OutOfMemoryError: the chunk is as it was before.
        """
        try:
            return self._segment(chunk, epoch, slots, block)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error) or _gone(chunk.populations):
                raise
            raise OutOfMemoryError from error

    def _segment(
        self, chunk: Chunk, epoch: int, slots: Sequence[np.ndarray], block: int
    ) -> list[Segment] | None:
        programs, keys = chunk.programs, self._streams[chunk.device][chunk.seed]
        assert programs is not None, "trace the programs of a chunk first"
        traced = tuple(part.traced for part in chunk.parts)
        live = tuple(_live(own, chunk.slots) for own in slots)
        if self._feed is None:
            rows = self._resident.epoch(chunk, programs.orders, epoch)
        else:
            rows = self._feed.get(chunk.seed, chunk.device, epoch, block)
        populations = chunk.populations
        if populations is None:
            populations = programs.init(traced, keys.initial, _rows_of(rows))
        populations, came = programs.train(populations, traced, live, rows, keys.noise)
        losses: tuple[Any, ...] = tuple(own.loss for own in came)
        if self._feed is not None:
            losses = _added(chunk.losses if block else (), losses)
        results = None
        if block == (self.blocks or 1) - 1:
            judged = self._measured(chunk, (populations, traced, live))
            parts = zip(losses, judged, came, slots, strict=True)
            results = [_on_host(Segment(Metrics(loss, own), t.step, {}), at) for loss, own, t, at in parts]
            if self._looks is not None and self._looks.due(epoch, now=time.perf_counter()):
                results = self._with_spreads(self._looks, chunk, populations, slots, results)
        chunk.populations = jax.tree.map(np.array, populations) if self._waits else populations
        chunk.losses = () if self._feed is None else losses
        return results

    def _measured(self, chunk: Chunk, judged: tuple[Any, ...]) -> list[dict[str, Array]]:
        """Loss and metrics, part by part, by `Task.measured`."""
        (validation, test), programs = self._resident.judged(chunk), chunk.programs
        assert programs is not None
        found: list[dict[str, Array]] = list(programs.evaluate(*judged, validation))
        if programs.test is None:
            return found
        both = zip(found, programs.test(*judged, test), strict=True)
        return [own | {on_test(name): values for name, values in tested.items()} for own, tested in both]

    def _with_spreads(
        self,
        looks: Looks,
        chunk: Chunk,
        populations: Sequence[Population],
        slots: Sequence[np.ndarray],
        results: Sequence[Segment],
    ) -> list[Segment]:
        begun = time.perf_counter()
        parts = zip(chunk.parts, populations, slots, strict=True)
        members = [
            Members(part.structure, part.traced, own.on_host().views().stats, at) for part, own, at in parts
        ]
        found = spreads(self._task.problem, members)
        looks.took(time.perf_counter() - begun)
        return [result._replace(spreads=own) for result, own in zip(results, found, strict=True)]

    def _executable(self, *arguments: Any) -> Executable:
        program, new = executable(*arguments)
        if new:
            self._new.append(program)
        return program


def _rows_of(rows: Rows | Block | tuple[Rows, ...]) -> Rows:
    """Some rows, for their shape."""
    if isinstance(rows, Block):
        return rows.rows
    return rows if isinstance(rows, Rows) else rows[0]


def _added(before: tuple[np.ndarray, ...], losses: Sequence[Array]) -> tuple[np.ndarray, ...]:
    """An epoch's losses so far, one entry a slot."""
    own = tuple(np.asarray(loss, np.float64) for loss in losses)
    return tuple(a + b for a, b in zip(before, own, strict=True)) if before else own


def _gone(populations: PyTree) -> bool:
    """Whether the state was donated to a program that did not come back."""
    return any(isinstance(leaf, jax.Array) and leaf.is_deleted() for leaf in jax.tree.leaves(populations))


def _live(slots: np.ndarray, capacity: int) -> Live:
    order = np.full(capacity, capacity, np.int32)
    order[: len(slots)] = slots
    return Live(order, np.asarray(len(slots), np.int32))


def _on_host(segment: Segment, slots: np.ndarray) -> Segment:
    """Copies, not views: a live view of a buffer silently switches donation off."""
    return jax.tree.map(lambda a: np.array(a)[slots], segment)
