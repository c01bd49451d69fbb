"""All members of a sweep, and the one verb on them: advance the live ones, segment by segment."""

import contextlib
import functools
import logging
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray, PyTree

from jbn.engine.arithmetic import arithmetic, member_shapes
from jbn.engine.balance import Costs, balanced
from jbn.engine.cost import chunk_seconds, member_seconds, rates
from jbn.engine.edits import copy_states, place_of, put_states, set_numbers, state_of
from jbn.engine.layout import Chunk, halves, lay_out
from jbn.engine.memory import available_bytes, looked_at_bytes, must_wait
from jbn.engine.plan import Plan
from jbn.engine.room import make_room
from jbn.engine.schedule import Outcome, Schedule, Turn
from jbn.engine.snapshot import restore, snapshot
from jbn.engine.trainer import OutOfMemoryError, Segment, Timings, Trainer
from jbn.engine.workers import Workers, finish
from jbn.task.hyper import Structure
from jbn.task.member import Member, Metrics
from jbn.task.task import Task

_log = logging.getLogger("jbn")


class Run(NamedTuple):
    """What a worker did in one go.

    Args:
        members: the structures of a program, each with how many members of it were trained.
        seconds: how long it took.
    """

    members: tuple[tuple[Structure, int], ...]
    seconds: float


class Engine:
    """All members of a sweep: every configuration with every seed index.

    Member = configuration * seeds + seed index. Their state lives on the devices and is updated in place;
    nothing but `segments` touches it. What does not fit there waits on the host between segments. Where a device
    runs out of memory all the same, the chunk is halved and starts the segment again.

    Args:
        task: what is trained.
        configs: names to arrays, one entry a configuration; checked by `task.check`.
        plan: which configurations share a program.
        key: the sweep's key; all random streams follow from it and the seed index.
        seeds: seed indices of every configuration.
        workers: who runs the programs.
        waits: chunks wait on the host between segments; default: where they do not fit on an accelerator.
        spreads: segments say how running statistics are spread over channels.

    The attribute `runs` has what workers did so far, in the order in which they ended.
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
        spreads: bool = False,
    ):
        make_room()
        self._task, self._workers = task, workers
        waits = must_wait(task, plan, seeds, workers.devices) if waits is None else waits
        self._trainer = Trainer(task, plan, key, seeds=seeds, workers=workers, waits=waits, spreads=spreads)
        self._chunks = lay_out(task, configs, plan, seeds, workers.devices, workers=workers.count)
        self._schedule: Schedule | None = None
        self._state_bytes = functools.cache(lambda own: arithmetic(task, own).state_bytes)
        self.runs: list[Run] = []
        self.members = sum(len(part.members) for chunk in self._chunks for part in chunk.parts)

    @property
    def timings(self) -> Timings:
        """What tracing and compiling took so far; programs that were there before cost nothing."""
        return self._trainer.timings

    @property
    def run_seconds(self) -> float:
        """How long programs ran so far, all workers together."""
        return sum(run.seconds for run in self.runs)

    def working_bytes(self) -> int:
        """What a worker needs while its program runs, besides arguments and results.

        The programs of the chunk that needs most, by its shapes, are compiled for it; they are needed anyway.
        """
        chunk = max(
            self._chunks,
            key=lambda chunk: max(looked_at_bytes(self._task, part.structure) for part in chunk.parts),
        )
        if chunk.programs is None:
            self._trainer.trace(chunk)
        assert chunk.programs is not None
        own = (chunk.programs.train, chunk.programs.evaluate, chunk.programs.test)
        return max(program.working_bytes for program in own if program is not None)

    def compile(self) -> None:
        """Traces and compiles all programs beside each other; `segments` else does so on its way."""
        futures = []
        for chunk in self._chunks:
            if chunk.programs is None:
                self._trainer.trace(chunk)
            futures.append(self._workers.submit(chunk.device, self._trainer.compile, chunk))
        finish(futures)

    def advance(self, epoch: int, alive: np.ndarray) -> Segment:
        """Trains every live member for one epoch and evaluates it: one of `segments`."""
        with contextlib.closing(self.segments(epoch, epoch + 1, alive)) as segments:
            return next(segments, self._nothing())

    def segments(self, first: int, until: int, alive: np.ndarray) -> Generator[Segment, None, None]:
        """Trains every live member for some epochs and evaluates it after each; chunks may run ahead.

        A member whose loss is not finite takes no part from the next epoch on.

        Args:
            first: number of the first epoch, counted from 0; the order of the data follows from it.
            until: number of the epoch after the last.
            alive: which members take part in the first, `[members]`.

        Yields:
            Segments in their order, as long as a member takes part.
        """
        self._balance(alive, until - first)
        turns = _turns(self._chunks, alive, first)
        schedule = self._schedule = Schedule(turns, until, blocks=self._trainer.blocks)
        self._trainer.open(first, until)
        futures = [
            self._workers.submit(device, self._work, schedule, device)
            for device in range(len(self._workers.devices))
            for _ in range(self._workers.count // len(self._workers.devices))
        ]
        for future in futures:
            future.add_done_callback(schedule.ended)
        try:
            self._trace(schedule, turns)
            yield from self._collect(schedule, turns, first)
        finally:
            schedule.close()
            self._trainer.close()
            finish(futures)
            self._schedule = None

    def stop(self) -> None:
        """Begins no further segment: `segments` ends with the furthest one that a chunk has begun."""
        if self._schedule is not None:
            self._schedule.stop()

    def _balance(self, alive: np.ndarray, segments: int) -> None:
        """Moves members where some have been stopped, so that workers do the rest in few calls, if there is room."""
        if alive.all() or any(chunk.populations is None for chunk in self._chunks) or not self._has_room():
            return
        devices, own = len(self._workers.devices), rates(self._workers.platform)

        @functools.cache
        def seconds(structure: Structure) -> float:
            return member_seconds(self._task, structure, own)

        def making(chunk: Chunk) -> float:
            return chunk_seconds(self._task, [part.structure for part in chunk.parts], chunk.slots, own)

        self._chunks = balanced(
            self._chunks,
            alive,
            Costs(seconds, own.call, making),
            segments=segments,
            workers=self._workers.count // devices,
            devices=devices,
        )

    def _has_room(self) -> bool:
        """Whether twice as much state would be far from all memory."""
        available = available_bytes()
        return available is None or 4 * self.state_bytes < available

    def _trace(self, schedule: Schedule, turns: Sequence[Turn]) -> None:
        for turn in turns:
            if turn.chunk.programs is None:
                self._trainer.trace(turn.chunk)
            turn.chunk.bring_numbers(self._workers.devices[turn.chunk.device])
            schedule.ready(turn)

    def _work(self, schedule: Schedule, device: int) -> None:
        """What a worker does until the schedule is closed."""
        while (turn := schedule.take(device)) is not None:
            try:
                if not turn.chunk.compiled:
                    self._trainer.compile(turn.chunk)
                    schedule.compiled()
                begun = time.perf_counter()
                results = self._trainer.train(turn.chunk, turn.segment, turn.live, turn.block)
                seconds = time.perf_counter() - begun
                self.runs.append(Run(_counts(turn), seconds))
            except Exception as error:  # raised by the thread that collects
                schedule.failed(turn, error)
            else:
                if results is None:
                    schedule.block_done(turn)
                else:
                    schedule.done(turn, results, _still_live(turn.live, results), seconds)

    def _collect(self, schedule: Schedule, turns: Sequence[Turn], first: int) -> Iterator[Segment]:
        """Whole segments, as soon as all chunks have been through them."""
        found: dict[int, Segment] = {}
        reached = dict.fromkeys(turns, first)
        while first < schedule.until and (reached or found):
            if first < min(reached.values(), default=schedule.until):
                yield found.pop(first)
                first += 1
                schedule.read(first)
                continue
            outcome = schedule.outcome()
            if outcome.error is not None:
                self._start_again(schedule, reached, outcome.turn, outcome.error)
                continue
            if outcome.segment not in found:
                found[outcome.segment] = self._nothing()
            _enter(found[outcome.segment], outcome)
            reached[outcome.turn] = outcome.segment + 1
            if outcome.last:
                del reached[outcome.turn]

    def _nothing(self) -> Segment:
        """A segment in which no member took part."""
        validation = {name: np.full(self.members, np.nan) for name in self._task.measured}
        metrics = Metrics(np.full(self.members, np.nan), validation)
        return Segment(metrics, np.zeros(self.members, np.int64), {})

    def _start_again(
        self, schedule: Schedule, reached: dict[Turn, int], turn: Turn, error: Exception
    ) -> None:
        """Halves a chunk that did not fit; any other error ends the run."""
        if not isinstance(error, OutOfMemoryError) or turn.chunk.slots == 1:
            raise error.__cause__ if isinstance(error, OutOfMemoryError) and error.__cause__ else error
        alive = np.zeros(self.members, bool)
        for part, slots in zip(turn.chunk.parts, turn.live, strict=True):
            alive[part.members[slots]] = True
        turns = _turns(self._halved(turn.chunk), alive, turn.segment, turn.block)
        del reached[turn]
        reached |= dict.fromkeys(turns, turn.segment)
        schedule.replace(turn, turns)
        self._trace(schedule, turns)

    def _halved(self, chunk: Chunk) -> list[Chunk]:
        _log.warning(
            "out of memory on %s: a chunk of %d members a cohort is halved and starts its segment again",
            self._workers.devices[chunk.device],
            chunk.slots,
        )
        both = halves(chunk)
        place = self._chunks.index(chunk)
        self._chunks[place : place + 1] = both
        return both

    def member(self, index: int) -> tuple[PyTree, PyTree]:
        """Parameters and running statistics of one member, on the host, without padding."""
        chunk, number, slot = place = place_of(self._chunks, index)
        own, part = state_of(place), chunk.parts[number]
        sizes = {name: int(part.traced[name][slot]) for name in part.structure.padded}
        exact = member_shapes(self._task, part.structure.sized(sizes))
        return jax.tree.map(_corner, (own.params, own.stats), (exact.params, exact.stats))

    def edit(
        self, copies: Int[np.ndarray, "copies 2"], values: Mapping[str, Float[np.ndarray, " members"]]
    ) -> None:
        """Changes members between segments, never during one.

        Args:
            copies: pairs (source, target): the target gets the state of the source. Both are built alike.
            values: hyper-parameters that programs take as arguments, one entry a member; NaN leaves one as it is.
        """
        copy_states(self._chunks, copies)
        set_numbers(self._task, self._chunks, self._workers.devices, values)

    def begin(self) -> None:
        """Gives all members their initial state, where nothing has been trained yet."""
        for chunk in self._chunks:
            if chunk.programs is None:
                self._trainer.trace(chunk)
            if chunk.populations is None:
                self._trainer.begin(chunk)

    def state(self, member: int) -> Member:
        """All of a member's state, on the host, padding included."""
        return state_of(place_of(self._chunks, member))

    def snapshot(self) -> Iterator[dict[str, np.ndarray]]:
        """The state of all members as named arrays, part by part."""
        return snapshot(self._chunks)

    def restore(self, saved: Iterable[Mapping[str, np.ndarray]]) -> None:
        """Gives all members the state that a snapshot has, maybe of another layout.

        Raises:
            ValueError: it is of other members.
        """
        restore(self._task, self._chunks, saved)

    @property
    def state_bytes(self) -> int:
        """How much state there is, empty slots included."""
        there = [chunk for chunk in self._chunks if chunk.populations is not None]
        return sum(chunk.slots * self._state_bytes(part.structure) for chunk in there for part in chunk.parts)

    def put(self, member: int, state: Member) -> None:
        """Gives a member a state, of the shapes that its own has."""
        put_states(self._chunks, {member: state})

    def groups(self) -> Int[np.ndarray, " members"]:
        """A number for each member; those with the same one may copy each other: same structure, sizes and seed."""
        keys: dict[int, Any] = {}
        for chunk in self._chunks:
            for part in chunk.parts:
                sizes = {name: np.asarray(part.traced[name]) for name in part.structure.padded}
                for slot, member in enumerate(part.members.tolist()):
                    own = tuple(int(sizes[name][slot]) for name in part.structure.padded)
                    keys[member] = (part.structure, own, chunk.seed)
        known: dict[Any, int] = {}
        return np.array([known.setdefault(keys[member], len(known)) for member in range(self.members)])


def _turns(chunks: Sequence[Chunk], alive: np.ndarray, segment: int, block: int = 0) -> list[Turn]:
    """One for each chunk with live members."""
    live = [[part.live(alive) for part in chunk.parts] for chunk in chunks]
    both = zip(chunks, live, strict=True)
    return [Turn(chunk, own, segment, block) for chunk, own in both if any(map(len, own))]


def _enter(whole: Segment, outcome: Outcome) -> None:
    """Enters what a chunk's members did."""
    for part, slots, own in zip(outcome.turn.chunk.parts, outcome.live, outcome.results, strict=True):
        members = part.members[slots]
        whole.steps[members] = own.steps
        whole.metrics.train_loss[members] = own.metrics.train_loss
        for name, values in own.metrics.validation.items():
            whole.metrics.validation[name][members] = values
        for name, values in own.spreads.items():
            if name not in whole.spreads:
                whole.spreads[name] = np.full((len(whole.steps), 3), np.nan, np.float32)
            whole.spreads[name][members] = values


def _counts(turn: Turn) -> tuple[tuple[Structure, int], ...]:
    return tuple((part.structure, len(own)) for part, own in zip(turn.chunk.parts, turn.live, strict=True))


def _still_live(live: Sequence[np.ndarray], results: Sequence[Segment]) -> list[np.ndarray]:
    """Those whose losses are finite."""
    return [
        own[np.isfinite(part.metrics.train_loss) & np.isfinite(part.metrics.validation_loss)]
        for own, part in zip(live, results, strict=True)
    ]


def _corner(array: np.ndarray, spec: jax.ShapeDtypeStruct) -> np.ndarray:
    return np.asarray(array[tuple(slice(size) for size in spec.shape)])
