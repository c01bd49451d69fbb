"""Panda or caviar: what a budget of time holds on this machine, measured."""

import contextlib
import dataclasses
import math
import time
from typing import Literal, NamedTuple

from jaxtyping import PRNGKeyArray

from jbn.engine.plan import MANY_PROGRAMS
from jbn.engine.workers import Workers
from jbn.errors import InputError
from jbn.policies import Policy, halving
from jbn.runs.estimate import Estimate, Which
from jbn.runs.study import configurations_by_memory, setting, study
from jbn.search import Space, defaults
from jbn.search.conditions import base
from jbn.search.dimensions import Constant
from jbn.task.data import Blocks
from jbn.task.task import Task

Recommendation = Literal["panda", "caviar", "caviar with halving"]
FEWEST = 8  # fewer random configurations hold one of the best tenth in hardly more than half of all cases
SURE = 59  # so many random ones hold one of the best 5 % with a probability of 95 %
A_DIMENSION = 10  # so many for each that varies tell what it does (Loeppky, Sacks and Welch 2009)
_SHARE, _MINUTE, _LEAST = 0.1, 60.0, 3.0  # of the budget that training a few members may take, in seconds


@dataclasses.dataclass(frozen=True)
class Advice:
    """What a budget holds, and which way to go.

    Args:
        recommendation: "panda", "caviar" or "caviar with halving".
        reason: why, in a sentence.
        configs: how many configurations the recommended way trains.
        budget: seconds.
        epochs: passes over the training part.
        seeds: members of every configuration, seed indices times folds.
        workers: who train side by side.
        compile_seconds: compiling alone, with nothing cached.
        epoch_seconds: of one configuration, all its members, with all workers busy.
        by_time: configurations that the budget holds, all trained to the end.
        by_memory: configurations that memory holds; None where the system does not say.
        by_halving: configurations that the budget holds with `jbn.halving()`.
        seconds: predicted for each of the last three, by the names "time", "memory" and "halving".
        wanted: configurations that a search of this space wants.
        start: "warm": all predictions are for a start with the programs that advice compiled; or "cold".
        cold_measured: whether a start with nothing cached was measured, or is what the cache says of its programs.
        spent: seconds that the advice itself took.
    """

    recommendation: Recommendation
    reason: str
    configs: int
    budget: float
    epochs: int
    seeds: int
    workers: int
    compile_seconds: float
    epoch_seconds: float
    by_time: int
    by_memory: int | None
    by_halving: int
    seconds: dict[str, float]
    wanted: int
    start: Which
    cold_measured: bool
    spent: float
    estimate: Estimate = dataclasses.field(repr=False, compare=False)

    def started(self, start: Which | None = None) -> float:
        """Seconds of a sweep that do not depend on how long it trains: compiling, and what goes before and after."""
        policy = halving() if self.recommendation == "caviar with halving" else None
        return self.estimate.started(max(1, self.configs), policy, start=start or self.start)

    def predict(self, configs: int, policy: Policy | None = None, *, start: Which | None = None) -> float:
        """Wall-clock seconds of a sweep.

        Args:
            configs: how many configurations, the first ones that are drawn with the key of the advice.
            policy: what decides between segments, e.g. `jbn.halving()`; default: all are trained to the end.
            start: "warm": all programs are there, as they are after the advice; "cold": nothing is compiled yet;
                default: that of the advice.

        Raises:
            InputError: fewer than 1 configuration, or another start.
        """
        if configs < 1:
            raise InputError(f"configs must be at least 1, but got {configs}")
        if start not in ("warm", "cold", None):
            raise InputError(f"start must be 'warm' or 'cold', but got {start!r}")
        return self.estimate.seconds(configs, policy, start=start or self.start)


def advise(
    task: Task,
    space: Space | None = None,
    *,
    budget: float,
    epochs: int = 50,
    seeds: int = 1,
    folds: int = 1,
    memory: int | None = None,
    key: PRNGKeyArray | int = 0,
    workers: int | None = None,
    start: Which = "warm",
    besides: float = 0.0,
    max_programs: int | None = MANY_PROGRAMS,
) -> Advice:
    """Whether to babysit one model (panda) or to train many at once (caviar), from what this machine can do.

    The programs of the sweep are compiled and a few members of every cohort trained for some segments, on all
    workers. With S seconds to start, c_i seconds a segment of configuration i, E epochs and W workers, a sweep over
    the first N configurations takes about `S + E * sum_(i < N) c_i / W`; turns of chunks are simulated, and with
    halving the policy itself decides who goes on. The largest N within the budget is what time holds.

    - caviar: the budget holds as many at full length as the space wants, max(59, 10 a hyper-parameter that varies).
    - caviar with halving: it does not, but more with halving, and at least 8.
    - panda: not even 8 with halving, or nothing varies.

    Compiled programs are left where JAX keeps them, nothing else is written. Training takes no longer than a tenth
    of the budget (at least 3 s) or a minute, unless a single segment does.

    Args:
        task: model, data, optimiser and loss.
        space: what varies; default: `jbn.search.defaults(all=True)`.
        budget: wall-clock seconds of the sweep.
        epochs: passes over the training part of a configuration that is not stopped.
        seeds: seed indices of every configuration.
        folds: of cross-validation; 1 is none.
        memory: bytes that the sweep may take; default: what is available.
        key: draws the configurations: a sweep over `jbn.search.random(space, N, key=key)` is what is predicted.
        workers: threads on a CPU; default: one a core.
        start: for which start predictions are, "warm" or "cold".
        besides: seconds of the budget that pass before and after the sweep, e.g. to start a process.
        max_programs: as for `jbn.sweep`.

    Returns:
        The advice, with the numbers behind it; `.predict(configs, policy)` for any other sweep of the space.

    Raises:
        InputError: a budget that is not above 0, or as for `jbn.sweep`.

    >>> import jbn
    >>> task = jbn.Task(model=jbn.mlp(layers=1, hidden_units=8), data=jbn.data.digits())
    >>> space = jbn.Space(learning_rate=jbn.log_uniform(1e-4, 1.0), batch_size=256)
    >>> advice = jbn.advise(task, space, budget=60, epochs=5)
    >>> advice.recommendation, advice.by_time > 100, advice.predict(10) < advice.predict(1000)
    ('caviar', True, True)
    """
    _check(task, budget, memory, start)
    begun = time.perf_counter()
    space = defaults(all=True) if space is None else space
    own = setting(task, space, epochs=epochs, seeds=seeds, folds=folds, key=key, besides=besides)
    seconds = min(_MINUTE, max(_LEAST, _SHARE * budget))
    with contextlib.closing(Workers(workers)) as crew:
        varying = sum(not isinstance(base(axis), Constant) for axis in space.values())
        estimate = study(
            own,
            crew,
            budget=budget,
            seconds=seconds,
            start=start,
            wanted=_wanted(varying),
            max_programs=max_programs,
        )
        by_memory = configurations_by_memory(estimate, memory)
    return advice(
        estimate,
        budget=budget,
        by_memory=by_memory,
        dimensions=varying,
        start=start,
        spent=time.perf_counter() - begun,
    )


def _wanted(dimensions: int) -> int:
    """How many configurations a search wants where so many hyper-parameters vary."""
    return max(SURE, A_DIMENSION * dimensions)


def _check(task: Task, budget: float, memory: int | None, start: str) -> None:
    if not (math.isfinite(budget) and budget > 0):
        raise InputError(f"budget must be seconds above 0, but got {budget}")
    if memory is not None and memory <= 0:
        raise InputError(f"memory must be bytes above 0, but got {memory}")
    if start not in ("warm", "cold"):
        raise InputError(f"start must be 'warm' or 'cold', but got {start!r}")
    train = task.data.train
    if isinstance(train, Blocks) and train.once:
        raise InputError(
            f"advice needs data that can be read several times, but {task.data.name!r} comes from a single "
            f"iterator; give a factory(epoch, seed)"
        )


def advice(
    estimate: Estimate, *, budget: float, by_memory: int | None, dimensions: int, start: Which, spent: float
) -> Advice:
    """What follows from an estimate; see `advise`.

    Args:
        estimate: of a sweep's seconds.
        budget: seconds.
        by_memory: configurations that memory holds, if that is known.
        dimensions: hyper-parameters that vary.
        start: for which start.
        spent: seconds that measuring took.
    """
    policy = halving()
    by_time = estimate.fits(budget, start=start)
    by_halving = estimate.fits(budget, policy, start=start)
    held = _Held(by_time, by_halving, by_memory, _wanted(dimensions), dimensions)
    which = recommended(held)
    starts = estimate.rehearsals[0].starts
    seconds = {
        "time": estimate.seconds(max(1, by_time), start=start),
        "halving": estimate.seconds(max(1, by_halving), policy, start=start),
    }
    if by_memory:
        seconds["memory"] = estimate.seconds(by_memory, start=start)
    return Advice(
        recommendation=which,
        reason=_reason(which, held, budget, estimate.started(1, start=start)),
        configs={"panda": 1, "caviar": held.full}.get(which, held.halved),
        budget=budget,
        epochs=estimate.epochs,
        seeds=estimate.members,
        workers=estimate.workers,
        compile_seconds=starts.compile_seconds,
        epoch_seconds=estimate.epoch_seconds,
        by_time=by_time,
        by_memory=by_memory,
        by_halving=by_halving,
        seconds=seconds,
        wanted=held.wanted,
        start=start,
        cold_measured=starts.measured,
        spent=spent,
        estimate=estimate,
    )


class _Held(NamedTuple):
    """How many configurations fit."""

    by_time: int
    by_halving: int
    by_memory: int | None
    wanted: int
    dimensions: int

    @property
    def full(self) -> int:
        """Trained to the end, by time and by memory."""
        return self._within(self.by_time)

    @property
    def halved(self) -> int:
        """With halving, by time and by memory."""
        return self._within(self.by_halving)

    def _within(self, count: int) -> int:
        return count if self.by_memory is None else min(count, self.by_memory)


def recommended(held: _Held) -> Recommendation:
    """The rule of `advise`."""
    if held.dimensions == 0 or max(held.full, held.halved) < FEWEST:
        return "panda"
    if held.full >= held.wanted or held.halved <= held.full:
        return "caviar"
    return "caviar with halving"


def _reason(which: Recommendation, held: _Held, budget: float, started: float) -> str:
    """The rule in numbers."""
    full = f"the budget holds {held.full} configurations at full length"
    plural = "" if held.dimensions == 1 else "s"
    wants = f"a search over {held.dimensions} hyper-parameter{plural} wants {held.wanted}"
    if held.dimensions == 0:
        return "nothing varies in this space: there is one configuration to train"
    if started > budget:
        return f"a sweep takes {started:.1f} s before and after it trains anything, more than the budget"
    if which == "panda":
        return (
            f"{full} and {held.halved} with halving, fewer than the {FEWEST} that a sweep is worth while for"
        )
    if which == "caviar":
        return f"{full}; {wants}" if held.full >= held.wanted else f"{full}, and halving would hold no more"
    return f"{full} but {held.halved} with halving, and {wants}"
