"""A plan rehearsed on this machine: its programs are compiled, and a few members of every cohort trained.

The rates of `jbn.engine.cost` are those of another processor; here they only say how the members of a program
compare with one another. How long they take is measured.
"""

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, PRNGKeyArray

from jbn.engine.cohorts import Cohort, Program
from jbn.engine.cost import chunk_seconds, member_seconds, rates
from jbn.engine.engine import Engine, Run
from jbn.engine.plan import Plan
from jbn.engine.starting import Starts, starts
from jbn.engine.trainer import Segment
from jbn.engine.workers import Workers
from jbn.search import Configs
from jbn.task.hyper import Structure
from jbn.task.task import Task

_MEMBERS = 4  # of a cohort, where tiles are single members
_SECONDS, _ROUNDS = 1.5, 20  # segments are repeated until their times are steady
_TOO_FAST = 3.0  # so much longer than by the planner's rates may things take

Built = tuple[Structure, ...]  # what a program is built for


class Pace(NamedTuple):
    """How fast a program is on this machine.

    Args:
        chunk: seconds of a segment of a chunk, whatever it holds.
        factor: what each member takes beyond, in multiples of the planner's seconds.
    """

    chunk: float
    factor: float


class Rehearsal(NamedTuple):
    """What was measured.

    Args:
        starts: tracing and compiling all programs.
        paces: of every program.
        between: seconds from the end of a segment to the next one's beginning, where the host waits for all chunks.
        first: what came of the first segment of the members that were trained.
        members: their numbers in `first`, by structure.
        sample: their configurations.
        engine: which trained them.
    """

    starts: Starts
    paces: Mapping[Built, Pace]
    between: float
    first: Segment
    members: Mapping[Structure, np.ndarray]
    sample: Configs
    engine: Engine


def rehearse(
    task: Task,
    configs: Mapping[str, np.ndarray],
    plan: Plan,
    *,
    key: PRNGKeyArray,
    workers: Workers,
    seeds: int = 1,
    seconds: float,
) -> Rehearsal:
    """Compiles the programs of a plan and times segments of a few members of every cohort, with all workers.

    Args:
        task: what is trained.
        configs: names to arrays, one entry a configuration.
        plan: how they are laid out.
        key: a JAX key.
        workers: who runs them.
        seeds: members of a configuration that are trained.
        seconds: about how long training may take; one segment is trained whatever it takes.
    """
    each = _members(task, plan, workers, seeds, seconds)
    few = np.unique(np.concatenate([cohort.rows[:each] for own in plan.programs for cohort in own]))
    sample = Configs({name: values[few] for name, values in configs.items()})
    layout = plan._replace(programs=tuple(_sampled(own, few, each) for own in plan.programs))

    def build() -> Engine:
        return Engine(task, sample, layout, key=key, seeds=seeds, workers=workers)

    started = starts(build, workers=workers.count, programs=len(plan.programs))
    engine, alive = started.engine, np.ones(len(few) * seeds, bool)
    chunks = sum(layout.chunks(own, seeds=seeds, workers=workers.count) for own in layout.programs)
    clock = _Clock(engine, chunks, workers.count)
    first = clock.advance(alive)
    clock.repeat((_one_a_chunk(layout, seeds, workers.count, len(alive)), alive), seconds)
    planned = Planned(task, layout.tile, workers.platform)
    paces = {built(own): _pace(clock, planned, built(own)) for own in layout.programs}
    members = {cohort.structure: _of_rows(cohort.rows, seeds) for own in layout.programs for cohort in own}
    return Rehearsal(started.starts, paces, clock.between, first, members, sample, engine)


class Planned:
    """The planner's seconds of members.

    Args:
        task: what is trained.
        tile: members that are trained side by side: one less takes as long.
        platform: "cpu" or the name of an accelerator.
    """

    def __init__(self, task: Task, tile: int, platform: str):
        self._task, self._tile, self._rates = task, tile, rates(platform)
        self._known: dict[Structure, float] = {}

    def member(self, structure: Structure) -> float:
        """A segment of one member."""
        if structure not in self._known:
            self._known[structure] = member_seconds(self._task, structure, self._rates)
        return self._known[structure]

    def chunk(self, structures: Sequence[Structure], slots: int) -> float:
        """Putting another chunk together."""
        return chunk_seconds(self._task, structures, slots, self._rates)

    def run(self, members: Sequence[tuple[Structure, int]]) -> float:
        """A segment of so many members of each structure."""
        return sum(-(-count // self._tile) * self._tile * self.member(own) for own, count in members)


def built(program: Program) -> Built:
    """What tells a program from others."""
    return tuple(cohort.structure for cohort in program)


class _Clock:
    """Advances an engine and remembers what each segment took."""

    def __init__(self, engine: Engine, chunks: int, workers: int):
        self._engine, self._chunks, self._workers = engine, chunks, workers
        self._epoch, self.spent = 0, 0.0
        self._between: list[float] = []
        self.segments: list[Sequence[Run]] = []

    def advance(self, alive: Bool[np.ndarray, " members"]) -> Segment:
        """The next segment of these members."""
        before, start = len(self._engine.runs), time.perf_counter()
        segment = self._engine.advance(self._epoch, alive)
        seconds, runs = time.perf_counter() - start, self._engine.runs[before:]
        longest = max((run.seconds for run in runs), default=0.0)
        busy = max(longest, sum(run.seconds for run in runs) / self._workers)
        self._between.append(max(0.0, seconds - busy))
        self.segments.append(runs)
        self._epoch, self.spent = self._epoch + 1, self.spent + seconds
        return segment

    def repeat(self, masks: Sequence[np.ndarray], limit: float) -> None:
        """Rounds of these members in turn, until it is enough; the first segment counts if no other does."""
        longest = self.spent
        for _ in range(_ROUNDS):
            if self.spent + longest > min(limit, longest + _SECONDS) and len(self.segments) > 1:
                break
            if self.spent + longest > limit:
                return
            if len(self.segments) == 1:
                self.segments.clear()
                self._between.clear()
            before = self.spent
            for mask in masks:
                self.advance(mask)
            longest = self.spent - before

    @property
    def between(self) -> float:
        """What of a segment no worker was busy for; the median."""
        return float(np.median(self._between))

    def of(self, program: Built) -> list[tuple[list[Run], int]]:
        """Of every segment the runs of a program, and in how many pieces each chunk came."""
        return [
            (
                [run for run in runs if tuple(own for own, _ in run.members) == program],
                len(runs) // self._chunks,
            )
            for runs in self.segments
        ]


def _pace(clock: _Clock, planned: Planned, program: Built) -> Pace:
    """The straight line through what chunks took against what the planner says, by least squares."""
    expected, happened = [], []
    for runs, pieces in clock.of(program):
        chunks = len(runs) / max(1, pieces)
        if chunks:
            expected.append(sum(planned.run(run.members) for run in runs) / max(1, pieces) / chunks)
            happened.append(sum(run.seconds for run in runs) / chunks)
    return _line(np.array(expected), np.array(happened))


def _line(expected: np.ndarray, happened: np.ndarray) -> Pace:
    """The line `happened = chunk + factor * expected`, neither below 0.

    >>> _line(np.array([1.0, 3.0]), np.array([5.0, 9.0]))
    Pace(chunk=3.0, factor=2.0)
    >>> _line(np.array([1.0, 3.0]), np.array([1.0, 9.0])).chunk
    0.0
    """
    spread = expected - expected.mean()
    if (spread**2).sum() > 0:
        factor = float((spread * happened).sum() / (spread**2).sum())
        chunk = float(happened.mean() - factor * expected.mean())
        if factor > 0 and chunk >= 0:
            return Pace(chunk, factor)
    return Pace(0.0, float((expected * happened).sum() / (expected**2).sum()))


def _members(task: Task, plan: Plan, workers: Workers, seeds: int, seconds: float) -> int:
    """How many of a cohort are trained; enough for all workers, and fewer where a segment of them takes long."""
    usual = _MEMBERS if plan.tile == 1 else 2 * plan.tile
    each = usual * -(-workers.count // len(plan.programs))
    planned = Planned(task, plan.tile, workers.platform)
    own = [(cohort.structure, seeds) for program in plan.programs for cohort in program if len(cohort.rows)]
    segment = _TOO_FAST * planned.run(own) / workers.count
    affordable = int(seconds / (3 * segment)) if segment > 0 else each
    return max(-(-workers.count // len(plan.programs)), min(each, affordable))


def _sampled(program: Program, few: np.ndarray, each: int) -> Program:
    """The cohorts with their first rows, numbered as in the sample."""
    return tuple(Cohort(own.structure, np.searchsorted(few, own.rows[:each])) for own in program)


def _one_a_chunk(plan: Plan, seeds: int, workers: int, members: int) -> Bool[np.ndarray, " members"]:
    """One member of every chunk, of the first cohort that has any there."""
    alive = np.zeros(members, bool)
    for program in plan.programs:
        count = plan.chunks(program, seeds=seeds, workers=workers)
        for pieces in zip(*(np.array_split(own.rows, count) for own in program), strict=True):
            rows = next((own for own in pieces if len(own)), np.zeros(0, int))
            alive[_of_rows(rows[:1], seeds)] = True
    return alive


def _of_rows(rows: np.ndarray, seeds: int) -> np.ndarray:
    return (rows[:, None] * seeds + np.arange(seeds)).ravel()
