"""Coarse to fine: sweeps one after the other, each in the region where the good configurations so far are."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from jbn import store
from jbn.errors import InputError
from jbn.runs.best import Best
from jbn.runs.course import joined as joined_course
from jbn.runs.dataset import dataset
from jbn.runs.reopened import ended, reopened
from jbn.runs.result import Result, important
from jbn.runs.resume import resume as again
from jbn.runs.sweep import sweep
from jbn.runs.table import ranked
from jbn.search import Configs, Space, quasi_random, refine
from jbn.search.values import at_least_one
from jbn.task.task import Task

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

_DRAWS = 1 << 21  # the stream of configurations is none of training


@dataclasses.dataclass(frozen=True, eq=False)
class Rounds:
    """Rounds of a search from coarse to fine.

    Args:
        results: one a round that has begun.
        spaces: what each round searched, the first as it was given.
        wanted: how many rounds were asked for.
    """

    results: tuple[Result, ...]
    spaces: tuple[Space, ...]
    wanted: int

    @functools.cached_property
    def configs(self) -> Configs:
        """Configurations of all rounds, in their order; they know the first space."""
        return Configs(joined([result.configs for result in self.results]), space=self.spaces[0])

    @property
    def scores(self) -> Float[np.ndarray, " configurations"]:
        """The objective of all, higher is better; NaN where one diverged."""
        return np.concatenate([result.scores for result in self.results])

    @property
    def interrupted(self) -> bool:
        """Whether it was stopped before its end."""
        return self.results[-1].interrupted or len(self.results) < self.wanted

    @functools.cached_property
    def winning(self) -> int | None:
        """The round that the winner is from, counted from 0: the table's first; None if all diverged."""
        if all(result.winner is None for result in self.results):
            return None
        return int(self.table()["round"].iloc[0]) - 1

    @property
    def test(self) -> Mapping[str, float]:
        """Loss and metrics of the winner on the test part."""
        return {} if self.winning is None else self.results[self.winning].test

    def best(self) -> Best:
        """The winner of all rounds, by the objective.

        Raises:
            InputError: every configuration diverged.
        """
        won = self.winning
        if won is None:
            return self.results[-1].best()
        before = sum(result.configs.count for result in self.results[:won])
        own = self.results[won].best()
        return dataclasses.replace(own, config_id=own.config_id + before)

    def table(self) -> "pd.DataFrame":
        """One row per configuration of all rounds, best first, with the number of its `round`, counted from 1."""
        import pandas as pd

        tables, before = [], 0
        for place, result in enumerate(self.results):
            own = result.table()
            own["config_id"] += before
            own.insert(1, "round", place + 1)
            own["objective"] = result.standing.objective[own["config_id"] - before]
            tables.append(own)
            before += result.configs.count
        judged_by = self.results[0].history.objective
        whole = ranked(pd.concat(tables, ignore_index=True), maximize=bool(judged_by.maximize))
        return whole.drop(columns="objective") if judged_by.plain else whole

    def curves(self) -> "xr.Dataset":
        """All learning curves as of one sweep, as `Result.curves`, with the `round` of every configuration."""
        return dataset(joined_course([result.course for result in self.results]))

    def importance(self, **options: Any) -> "pd.DataFrame":
        """What mattered, as `Result.importance`: by the first round, which alone fills the whole space."""
        return important(self.results[0], **options)


def coarse_to_fine(
    task: Task,
    space: Space,
    *,
    configs: int = 256,
    rounds: int = 3,
    keep: float = 0.1,
    epochs: int,
    key: PRNGKeyArray,
    out: str | Path | None = None,
    resume: bool = False,
    on_round: Callable[[int, Space, Configs], None] | None = None,
    on_segment: Callable[[Any], bool | None] | None = None,
    settings: Mapping[str, Any] | None = None,
    **options: Any,
) -> Rounds:
    """Searches in rounds: every round draws its share of the configurations where those so far were good.

    The first round fills the space with a Sobol sequence; each next one fills what `jbn.search.refine` makes of the
    space by all configurations so far. Shares are equal, the first ones have what is left over. All rounds
    use the programs of the first: nothing is compiled for a smaller region.

    Args:
        task: as for `jbn.sweep`.
        space: where to begin.
        configs: configurations of all rounds together.
        rounds: how many.
        keep: share of the configurations that is good, as in `jbn.search.refine`.
        epochs: passes over the training part, of every configuration.
        key: a JAX key.
        out: a folder with one run for each round in it, `round-1`, `round-2`, ...; it is read as one run.
        resume: go on with the rounds in `out`, of a search with the same arguments that was ended before its time,
            or with more rounds; those that have ended are read, that which has not goes on from its last checkpoint.
            A single sweep in `out` counts as the first round.
        on_round: called before every round, with its number (from 0), its space and its configurations.
        on_segment: as for `jbn.sweep`; where it returns True, no other round begins.
        settings: more to record, as for `jbn.sweep`; the number of the round and its region are recorded too.
        **options: as for `jbn.sweep`.

    Returns:
        All rounds; `.table()`, `.best()` and `.test` as of one sweep.

    Raises:
        InputError: fewer than 1 round, fewer than 10 configurations a round, or as for `jbn.sweep` and `refine`.

    >>> import jax, jbn
    >>> task = jbn.Task(model=jbn.mlp(layers=1, hidden_units=8), data=jbn.data.digits())
    >>> space = jbn.Space(learning_rate=jbn.log_uniform(1e-5, 1.0), batch_size=256)
    >>> found = jbn.coarse_to_fine(task, space, configs=24, rounds=2, epochs=1, key=jax.random.key(0))
    >>> [result.configs.count for result in found.results], found.spaces[1]["batch_size"]
    ([12, 12], 256)
    """
    shares = split(configs, rounds)
    there = store.rounds(out) if resume and out is not None else []
    if resume and out is None:
        raise InputError("a search goes on in the folder it was recorded in: give out")
    if out is not None and not resume:
        store.check_free(out)
    results: list[Result] = []
    spaces, asked = [space], []

    def ends(state: Any) -> bool:
        if on_segment is not None and on_segment(state):
            asked.append(state)
        return bool(asked)

    for place, count in enumerate(shares):
        if asked:
            break
        if place:
            spaces.append(_finer(spaces[-1], results, keep))
        if place < len(there):
            results.append(_again(there[place], task, ends, options))
            continue
        drawn = quasi_random(
            spaces[-1], count, key=jax.random.fold_in(jax.random.fold_in(key, _DRAWS), place)
        )
        if on_round is not None:
            on_round(place, spaces[-1], drawn)
        # laid out for the whole space: another region needs no other program
        columns = Configs(_with_all(drawn, space, count), space=space)
        folder = None if out is None else Path(out, f"round-{place + 1}")
        said = {**(settings or {}), "round": place + 1, "region": spaces[-1].to_spec()}
        results.append(
            sweep(
                task, columns, epochs=epochs, key=key, out=folder, on_segment=ends, settings=said, **options
            )
        )
    return Rounds(tuple(results), tuple(spaces), rounds)


def _again(
    folder: Path, task: Task, on_segment: Callable[[Any], bool | None], options: Mapping[str, Any]
) -> Result:
    """A round that has begun: read where it has ended, else trained on."""
    if ended(folder):
        return reopened(folder, task)
    own = {name: options[name] for name in ("policy", "workers", "keep_models") if name in options}
    return again(folder, task, on_segment=on_segment, **own)


def split(configs: int, rounds: int) -> list[int]:
    """How many configurations each round has.

    >>> split(256, 3)
    [86, 85, 85]
    """
    configs, rounds = at_least_one(configs, what="configs"), at_least_one(rounds, what="rounds")
    if rounds > 1 and configs < 10 * rounds:
        raise InputError(
            f"a round must have at least 10 configurations, got {configs} for {rounds} rounds: take fewer rounds"
        )
    return [configs // rounds + (place < configs % rounds) for place in range(rounds)]


def joined(columns: list[Configs]) -> dict[str, np.ndarray]:
    """Columns below each other."""
    return {name: np.concatenate([own[name] for own in columns]) for name in columns[0]}


def _finer(space: Space, results: list[Result], keep: float) -> Space:
    scores = np.concatenate([result.scores for result in results])
    if not np.isfinite(scores).any():
        return space  # all diverged: the next round tries other places
    return refine(space, (joined([result.configs for result in results]), scores), keep=keep)


def _with_all(drawn: Configs, space: Space, count: int) -> dict[str, Any]:
    """All names of the first space; what a finer one has no more does not exist."""
    return {name: drawn[name] if name in drawn else np.full(count, np.nan) for name in space}
