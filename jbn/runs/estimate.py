"""How long a sweep takes, from a rehearsal of its plan."""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from jbn.engine.balance import Option, most_seconds, soonest, sparse
from jbn.engine.cost import compile_seconds, rates
from jbn.engine.makespan import makespan
from jbn.engine.plan import Plan, plan
from jbn.engine.rehearsal import Pace, Planned, Rehearsal, built
from jbn.engine.schedule import AHEAD_SECONDS, AHEAD_SEGMENTS
from jbn.engine.starting import Start
from jbn.policies import DIVERGED, RUNNING, STOPPED, History, Policy, expected_epochs, next_decision, watch
from jbn.search import Configs
from jbn.task.task import Task

Which = Literal["warm", "cold"]
_MOST = 10**7
LAID_OUT = 2048  # configurations; beyond, every other one costs what the last half of these did on average


class Around(NamedTuple):
    """What a sweep does besides compiling and training, in seconds.

    Args:
        before: until it begins: starting a process and reading data.
        planning: laying out the plan.
        segment: the host's work after a segment, whatever the number of members.
        member: the same for each member.
        after: finding and testing the winner.
    """

    before: float = 0.0
    planning: float = 0.0
    segment: float = 0.0
    member: float = 0.0
    after: float = 0.0


class Load(NamedTuple):
    """Where members are and what a segment of each takes.

    Args:
        chunk: number of each member's chunk.
        seconds: what each member takes of a worker.
        fixed: what each chunk takes beyond, as long as any of its members goes on.
        tile: members that are trained side by side.
        group: numbers of the chunks among which members may move; none where they stay.
        slots: members that a chunk has room for.
        making: what putting another chunk like each together takes of a worker.
    """

    chunk: np.ndarray
    seconds: np.ndarray
    fixed: np.ndarray
    tile: int = 1
    group: np.ndarray | None = None
    slots: int = 1
    making: np.ndarray | None = None

    def of(self, alive: np.ndarray, *, segments: int = 1, workers: int = 1) -> np.ndarray:
        """Seconds of a segment of each chunk with a live member, where so many follow before others are stopped."""
        count = np.bincount(self.chunk[alive], minlength=len(self.fixed))
        own = np.bincount(self.chunk[alive], self.seconds[alive], minlength=len(self.fixed))
        if self.group is None:
            return self._filled(count > 0, count, own)
        most = most_seconds(own.sum(), segments, workers)
        groups = [(self.group == group) & (count > 0) for group in np.unique(self.group[count > 0])]
        options = [self._options(group, count, own, most) for group in groups]
        chosen = soonest(options, segments=segments, workers=workers)
        return np.concatenate(
            [own[:0], *(each[place].seconds for each, place in zip(options, chosen, strict=True))]
        )

    def _options(
        self, group: np.ndarray, count: np.ndarray, own: np.ndarray, most: Sequence[float]
    ) -> list[Option]:
        """Chunks as they are, or with their live members together in as few as they may be."""
        moves = group & sparse(count, np.bincount(self.chunk, minlength=len(count)))
        options = [Option(self._filled(group, count, own))]
        for each in most if moves.any() else ():
            new = self._moved(moves, count, own, each)
            making = 0.0 if self.making is None else len(new) * self.making[moves][0]
            options.append(Option(np.append(self._filled(group & ~moves, count, own), new), making))
        return options

    def _moved(self, moves: np.ndarray, count: np.ndarray, own: np.ndarray, most: float) -> np.ndarray:
        """Of chunks whose live members come together in as few as they may, each with as many."""
        members, seconds = count[moves].sum(), own[moves].sum()
        fewest = max(math.ceil(members / self.slots), math.ceil(seconds / most))
        sizes = np.array([len(part) for part in np.array_split(np.arange(members), min(moves.sum(), fewest))])
        return self.fixed[moves][0] + self._in_tiles(sizes) / members * seconds

    def _filled(self, which: np.ndarray, count: np.ndarray, own: np.ndarray) -> np.ndarray:
        """Of these chunks."""
        return (self.fixed + self._in_tiles(count) / np.maximum(1, count) * own)[which]

    def _in_tiles(self, count: np.ndarray) -> np.ndarray:
        """As many members as take as long: a tile that is not full takes as long as one that is."""
        return -(-count // self.tile) * self.tile


@dataclasses.dataclass(frozen=True, eq=False)
class Estimate:
    """Wall-clock seconds of a sweep over the first configurations of a search.

    Args:
        task: what is trained.
        configs: the search's configurations, `LAID_OUT` of them or all there are.
        epochs: segments of each.
        members: of a configuration: seed indices times folds.
        workers: who trains.
        platform: "cpu" or the name of an accelerator.
        rehearsals: of the plans that were rehearsed, the last first.
        around: the rest.
        planned: the planner's seconds of compiling what the last of them needs.
    """

    task: Task
    configs: Configs
    epochs: int
    members: int
    workers: int
    platform: str
    rehearsals: tuple[Rehearsal, ...]
    around: Around
    planned: float
    _known: dict[Any, Any] = dataclasses.field(default_factory=dict, init=False, repr=False)

    def seconds(self, configs: int, policy: Policy | None = None, *, start: Which = "warm") -> float:
        """Wall-clock seconds with so many configurations."""
        most = self.configs.count
        if configs <= most:
            return self._once(_laid_out, configs, policy, start)
        whole, half = (self._once(_laid_out, count, policy, start) for count in (most, most // 2))
        return whole + (configs - most) * (whole - half) / (most - most // 2)

    def fits(self, budget: float, policy: Policy | None = None, *, start: Which = "warm") -> int:
        """The largest number of configurations whose seconds are within the budget."""
        return largest(lambda configs: self.seconds(configs, policy, start=start), budget)

    def started(self, configs: int, policy: Policy | None = None, *, start: Which = "warm") -> float:
        """Seconds before the last program can train, and what else does not depend on the number of segments."""
        own, around = self.start(self.plan(min(configs, self.configs.count), policy), start), self.around
        return around.before + around.planning + own.seconds + around.after

    @property
    def epoch_seconds(self) -> float:
        """Of one configuration on average, with all workers busy."""
        load = self.load(self.configs.count)
        everyone = np.ones(len(load.chunk), bool)
        return float(load.of(everyone).sum() / self.workers / self.configs.count)

    def plan(self, configs: int, policy: Policy | None = None) -> Plan:
        """The plan of a sweep over so many."""
        return self._once(_plan, configs, expected_epochs(policy, self.epochs))

    def load(self, configs: int, policy: Policy | None = None) -> Load:
        """The members of a sweep over so many, and what they take."""
        return self._once(_load, configs, policy)

    def rehearsed(self, layout: Plan) -> bool:
        """Whether all programs of a plan were."""
        return all(built(program) in self.paces for program in layout.programs)

    def _once(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What the function makes of this estimate and the arguments; remembered as long as the estimate lives."""
        key = (function, *arguments)
        if key not in self._known:
            self._known[key] = function(self, *arguments)
        return self._known[key]

    def start(self, layout: Plan, which: Which) -> Start:
        """That of the last plan that was rehearsed, in proportion to what the planner thinks of compiling.

        A program that was not rehearsed is nowhere yet, also where a start is warm.
        """
        known = [program for program in layout.programs if built(program) in self.paces]
        new = [program for program in layout.programs if built(program) not in self.paces]
        starts, own = self.rehearsals[0].starts, rates(self.platform)
        parts = ((known, starts.cold if which == "cold" else starts.warm), (new, starts.cold))
        shares = [(compile_seconds(self.task, programs, own) / self.planned, one) for programs, one in parts]
        seconds, spare = ([share * one[field] for share, one in shares] for field in range(2))
        return Start(sum(seconds), sum(spare))

    @functools.cached_property
    def paces(self) -> Mapping[object, Pace]:
        """Of all programs that were rehearsed."""
        return {key: pace for own in reversed(self.rehearsals) for key, pace in own.paces.items()}


def _laid_out(estimate: Estimate, configs: int, policy: Policy | None, which: Which) -> float:
    """Seconds with so many configurations, of which there must be as many."""
    layout, around, workers = estimate.plan(configs, policy), estimate.around, estimate.workers
    load, spare = estimate.load(configs, policy), estimate.start(layout, which).spare
    everyone = np.ones(configs * estimate.members, bool)
    after, own = around.segment + around.member * len(everyone), load.of(everyone)
    stretches = list(between_decisions(estimate, configs, policy or watch))
    # the host works beside the workers, on the same cores, but after the last segment before a decision
    training = sum(_together(load, masks, workers) + len(masks) * after / workers for masks in stretches)
    training += (len(stretches) - 1) * estimate.rehearsals[0].between
    segments = len(stretches[0])
    hidden = _hidden(own, segments, spare, len(layout.programs))
    return estimate.started(configs, policy, start=which) + max(0.0, training - hidden / workers)


def _plan(estimate: Estimate, configs: int, epochs: float) -> Plan:
    seeds, platform = estimate.members, estimate.platform
    return plan(
        estimate.task, first(estimate.configs, configs), platform=platform, epochs=epochs, seeds=seeds
    )


def _load(estimate: Estimate, configs: int, policy: Policy | None) -> Load:
    layout, seeds = estimate.plan(configs, policy), estimate.members
    planned = Planned(estimate.task, layout.tile, estimate.platform)
    usual = Pace(*np.mean(list(estimate.paces.values()), axis=0).tolist())  # of a program not rehearsed
    chunk, seconds = np.zeros(configs * seeds, int), np.zeros(configs * seeds)
    fixed: list[float] = []
    making: list[float] = []
    group: list[int] = []
    for number, program in enumerate(layout.programs):
        pace, count = estimate.paces.get(built(program), usual), 0
        count = layout.chunks(program, seeds=seeds, workers=estimate.workers)
        for cohort in program:
            for place, rows in enumerate(np.array_split(cohort.rows, count)):
                for seed in range(seeds):
                    chunk[rows * seeds + seed] = len(fixed) + seed * count + place
                    seconds[rows * seeds + seed] = pace.factor * planned.member(cohort.structure)
        fixed += [pace.chunk] * (count * seeds)
        making += [planned.chunk([cohort.structure for cohort in program], layout.slots)] * (count * seeds)
        group += [number * seeds + seed for seed in range(seeds) for _ in range(count)]
    return Load(
        chunk,
        seconds,
        np.array(fixed),
        layout.tile,
        np.array(group),
        layout.slots,
        np.array(making),
    )


def _hidden(chunks: np.ndarray, segments: int, spare: float, programs: int) -> float:
    """Seconds of training that go on while programs are traced and compiled.

    No chunk runs ahead of the last one by more than the schedule allows; on average programs are ready half way,
    the last of them at the end.
    """
    ahead = np.clip(AHEAD_SECONDS / np.maximum(chunks, 1e-9), 1, min(segments, AHEAD_SEGMENTS)).astype(int)
    return float(min(spare, (ahead * chunks).sum()) * (programs - 1) / programs)


def _together(load: Load, masks: list[np.ndarray], workers: int) -> float:
    """Seconds of segments in which chunks run ahead of others; those that diverged drop out on the way."""
    runs = [list(own) for _, own in itertools.groupby(masks, key=lambda mask: mask.tobytes())]
    return sum(
        [
            makespan(
                load.of(run[0], segments=len(masks), workers=workers).tolist(), workers, segments=len(run)
            )
            for run in runs
        ],
        0.0,
    )


def between_decisions(estimate: Estimate, configs: int, policy: Policy) -> Iterator[list[np.ndarray]]:
    """Which members take part in each segment, from one decision of the policy to the next."""
    masks, now = list(course(estimate, configs, policy)), 0
    while now < len(masks):
        until = next_decision(policy, now, estimate.epochs)
        yield masks[now:until]
        now = until


def course(estimate: Estimate, configs: int, policy: Policy) -> Iterator[np.ndarray]:
    """Which members take part in each segment, as the policy itself decides by what the rehearsal's were like.

    Every member has the metrics of one of its cohort that was trained, the same after every segment.
    """
    metrics, loss = _metrics(estimate, configs, policy)
    members, segments = configs * estimate.members, estimate.epochs
    history = History(
        np.full((segments, members), np.nan),
        {name: np.full((segments, members), np.nan) for name in metrics},
        np.zeros((segments, members), np.int64),
        np.full(members, RUNNING),
        estimate.task.judged_by,
        estimate.members,
    )
    lost, key, decision = ~np.isfinite(loss) | ~np.isfinite(metrics["loss"]), jax.random.key(0), 0
    for segment in range(segments):
        alive = history.running
        if not alive.any():
            return
        yield alive
        history.train_loss[segment, alive] = loss[alive]
        for name, curve in history.validation.items():
            curve[segment, alive] = metrics[name][alive]
        history.steps[segment] = (history.steps[segment - 1] if segment else 0) + alive
        history.status[alive & lost] = DIVERGED
        decision = next_decision(policy, segment, segments) if segment == decision else decision
        if segment + 1 == decision:
            stop = policy(_until(history, segment + 1), key).stop
            history.status[stop] = np.where(history.status[stop] == RUNNING, STOPPED, history.status[stop])


def _until(history: History, segments: int) -> History:
    return history._replace(
        train_loss=history.train_loss[:segments],
        validation={name: curve[:segments] for name, curve in history.validation.items()},
        steps=history.steps[:segments],
    )


def _metrics(estimate: Estimate, configs: int, policy: Policy) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Metrics and training loss of every member, those of a random one of its cohort that was trained."""
    rehearsal, rng = estimate.rehearsals[0], np.random.default_rng(0)
    everyone = np.arange(len(rehearsal.first.steps))
    chosen = np.zeros((configs, estimate.members), int)
    for program in estimate.plan(configs, policy).programs:
        for cohort in program:
            known = rehearsal.members.get(cohort.structure, everyone)
            own = known if len(known) else everyone
            chosen[cohort.rows] = rng.choice(own, (len(cohort.rows), 1))
    found = rehearsal.first.metrics
    validation = {name: np.asarray(values)[chosen.ravel()] for name, values in found.validation.items()}
    return validation, np.asarray(found.train_loss)[chosen.ravel()]


def first(configs: Configs, count: int) -> Configs:
    """The first of them."""
    return Configs({name: values[:count] for name, values in configs.items()}, space=configs.space)


def largest(seconds: Callable[[int], float], budget: float, *, most: int = _MOST) -> int:
    """The largest whole number whose seconds are within the budget, by bisection; 0 if there is none.

    Args:
        seconds: does not fall with the number.
        budget: seconds.
        most: the answer where that is within the budget too.

    >>> largest(lambda count: 5 + 2.5 * count, 60), largest(lambda count: 5 + count, 3)
    (22, 0)
    """
    low, high = 0, 1
    while high < most and seconds(high) <= budget:
        low, high = high, min(most, 2 * high)
    if high == most and seconds(most) <= budget:
        return most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if seconds(middle) <= budget else (low, middle)
    return low
