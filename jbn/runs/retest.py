"""Re-test after drift: whether the settings that once won are still good on new data."""

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from jbn import store
from jbn.errors import InputError
from jbn.nn.drift import LayerDrift
from jbn.policies import rank
from jbn.runs.judgement import check_test_part, drift_of, effect_on_test
from jbn.runs.loop import Progress
from jbn.runs.paired import Effect
from jbn.runs.result import Result
from jbn.runs.rounds import joined
from jbn.runs.sweep import sweep
from jbn.runs.winner import Run, Winner, winner_of
from jbn.search import Configs, Space, neighbours, quasi_random
from jbn.search.conditions import active, only
from jbn.search.values import at_least_one, is_finite_number
from jbn.store.files import write_whole
from jbn.task.metrics import SHARES
from jbn.task.optimizer_choice import with_defaults
from jbn.task.task import Task

if TYPE_CHECKING:
    import pandas as pd

KEEP, RETUNE = "keep", "retune"
CANDIDATES, COMPARISON, EXTENDED = "candidates", "comparison", "extended-comparison"
SUMMARY = "retest.json"
OLD, NEAR, FRESH = "old winner", "neighbour", "fresh"
_ERROR = 0.05
_OF_SHARES, _OF_OTHERS = 0.01, 0.05
_DRAWS, _FIRST, _SECOND, _DRIFT = range(4)  # purposes of the key


@dataclasses.dataclass(frozen=True, eq=False)
class Retest:
    """Whether old settings are still good on new data.

    Args:
        verdict: "keep" or "retune"; None where it was interrupted or everything diverged.
        effect: what the challenger is better by on the test part, in the unit of `metric`, positive is better; NaN
            where one of the two diverged.
        interval: its confidence interval, over seeds and rows.
        confidence: of the interval: 0.95, or 0.975 where a second look was to be had; so both looks err in 5 %.
        minimal_effect: what the lower end must exceed for "retune".
        metric: what both are judged by.
        old: the settings of the old winner, as they were trained on the new data.
        challenger: the settings that were best on the validation part of all others; None if there are none.
        scores: the metric of the old winner and of the challenger on the test part, means over seeds.
        drift: how far input and hidden layers moved, by the old network and without training.
        roles: of every candidate: "old winner", "neighbour" or "fresh".
        candidates: the sweep that chose the challenger.
        comparison: the sweep of the two, the extended one if there is one; None where it did not come to that.
        interrupted: whether it was stopped before its end.
    """

    verdict: Literal["keep", "retune"] | None
    effect: float
    interval: tuple[float, float]
    confidence: float
    minimal_effect: float
    metric: str
    old: dict[str, Any]
    challenger: dict[str, Any] | None
    scores: tuple[float, float]
    drift: tuple[LayerDrift, ...]
    roles: tuple[str, ...]
    candidates: Result = dataclasses.field(repr=False)
    comparison: Result | None = dataclasses.field(repr=False)
    interrupted: bool = False

    def table(self) -> "pd.DataFrame":
        """The candidates, best on the validation part first, as `Result.table`, with the `role` of each."""
        table = self.candidates.table()
        table.insert(1, "role", [self.roles[config_id] for config_id in table["config_id"]])
        return table


def retest(
    run: Run,
    task: Task,
    *,
    key: PRNGKeyArray,
    epochs: int | None = None,
    seeds: int = 12,
    further_seeds: int | None = None,
    neighbouring: int = 8,
    fresh: int = 24,
    selection_seeds: int = 3,
    width: float = 0.1,
    minimal_effect: float | None = None,
    out: str | Path | None = None,
    on_segment: Callable[[Progress], bool | None] | None = None,
    settings: Mapping[str, Any] | None = None,
    **options: Any,
) -> Retest:
    """Trains the old winner and others on new data, and says whether its settings are still good.

    In two stages, so that what chooses the challenger does not test it. First the old winner, its neighbours and
    fresh samples of the space are one population; the best of the others on the validation part is the challenger.
    Then the two are trained with other seeds, in pairs that share initial draws and the order of the data, and
    compared on the test part. With d_sr the difference for seed s and row r, the effect is the mean of d_sr, and its
    interval counts seeds and rows as random, see `jbn.runs.paired.paired_effect`. The verdict is "retune" where the
    lower end of the interval is above `minimal_effect`: somewhat better settings exist nearly always. Where
    `minimal_effect` lies within the interval, the two are trained with further seeds and compared once more; so that
    two looks err no more often than one, each interval then has 97.5 % instead of 95 %.

    Features are normalised by the new training part. A batch size above its rows counts as all of them. The test
    part must be one that nothing was chosen by.

    Args:
        run: the result of a sweep, or the folder of a recorded one or of the rounds of a search.
        task: the run's model, optimiser, loss and metrics, with the new data.
        key: a JAX key.
        epochs: passes over the training part; default: those of the run.
        seeds: seed indices of the comparison, at least 2.
        further_seeds: how many more where these do not decide; default: three times as many; 0: never more.
        neighbouring: how many neighbours of the old winner, see `jbn.search.neighbours`.
        fresh: how many samples of the space.
        selection_seeds: seed indices that choose the challenger.
        width: of a neighbour's step, a share of each axis.
        minimal_effect: in the unit of the objective's metric; default: 0.01 of an accuracy or r2 (one point of a
            hundred), of others 5 % of what the old winner has.
        out: a folder for the sweeps, `candidates`, `comparison` and maybe `extended-comparison`, and `retest.json`
            with the verdict.
        on_segment: as for `jbn.sweep`; where it returns True no verdict is found.
        settings: more to record, as for `jbn.sweep`.
        **options: as for `jbn.sweep`: `workers`, `max_programs`, ...

    Returns:
        The verdict, with effect, interval, challenger, and how far statistics have moved.

    Raises:
        InputError: no run in the folder, one without a winner or a space, data with other features or classes,
            another model, fewer than 2 seeds, a test part of fewer than 2 rows, or as for `jbn.sweep`. Nothing is
            written then.

    >>> import jax, jbn
    >>> task = jbn.Task(model=jbn.mlp(layers=1, hidden_units=8), data=jbn.data.digits())
    >>> space = jbn.Space(learning_rate=jbn.log_uniform(1e-3, 1e-1), batch_size=256)
    >>> configs = jbn.search.random(space, 4, key=jax.random.key(0))
    >>> run = jbn.sweep(task, configs, epochs=2, key=jax.random.key(1))
    >>> later = jbn.Task(model=task.model, data=jbn.data.digits(seed=1))
    >>> found = jbn.retest(run, later, key=jax.random.key(2), fresh=2, neighbouring=2, seeds=2, further_seeds=0)
    >>> found.verdict in ("keep", "retune"), [layer.layer for layer in found.drift]
    (True, ['input', 'layer_1'])
    """
    further_seeds = 3 * seeds if further_seeds is None else further_seeds
    _check_numbers(
        seeds=seeds,
        further_seeds=further_seeds,
        selection_seeds=selection_seeds,
        minimal_effect=minimal_effect,
    )
    check_test_part(task)
    folder = None if out is None else _free(Path(out))
    winner = winner_of(run, task)
    configs, roles = _candidates(winner, task, near=neighbouring, fresh=fresh, width=width, key=key)
    wish = _Wish(on_segment)
    shared = {"epochs": winner.epochs if epochs is None else epochs, "on_segment": wish, **options}
    drift = drift_of(winner, task, key=jax.random.fold_in(key, _DRIFT))

    def trained(stage: str, purpose: int, configs: Configs, **more: Any) -> Result:
        own, said = jax.random.fold_in(key, purpose), {**(settings or {}), "retest": stage}
        place = None if folder is None else folder / stage
        return sweep(task, configs, key=own, out=place, settings=said, **shared, **more)

    first = trained(CANDIDATES, _FIRST, configs, seeds=selection_seeds)
    ended = first.interrupted or wish.granted
    chosen, second = None if ended else _challenger(first), None
    judged = functools.partial(
        _judged, task, first, least=minimal_effect, confidence=1 - _ERROR / (1 + bool(further_seeds))
    )
    found = judged(None, ended=ended)
    # the seeds of the first comparison are among those of the second
    stages = {COMPARISON: seeds} | ({EXTENDED: seeds + further_seeds} if further_seeds else {})
    for stage, count in stages.items() if chosen is not None else ():
        pair = _rows(configs, np.array([0, chosen]))
        second = trained(stage, _SECOND, pair, seeds=count, keep_models=True)
        ended = second.interrupted
        found = judged(second, ended=ended)
        if ended or not _undecided(found):
            break
    challenger = None if chosen is None else configs.row(chosen)
    whole = Retest(
        **found,
        old=configs.row(0),
        challenger=challenger,
        drift=drift,
        roles=roles,
        candidates=first,
        comparison=second,
        interrupted=ended,
    )
    if folder is not None:
        write_whole(folder / SUMMARY, lambda stream: stream.write(summary(whole).encode()))
    return whole


def summary(found: Retest) -> str:
    """The verdict and what it is from, as JSON; what is not finite is null."""
    names = (
        "verdict",
        "effect",
        "interval",
        "confidence",
        "minimal_effect",
        "metric",
        "old",
        "challenger",
        "scores",
    )
    plain = {name: _plain(getattr(found, name)) for name in names}
    drift = [_plain(layer._asdict()) for layer in found.drift]
    return json.dumps({**plain, "drift": drift, "interrupted": found.interrupted}, indent=1) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(own) for name, own in value.items()}
    if isinstance(value, tuple):
        return [_plain(own) for own in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _check_numbers(
    *, seeds: int, further_seeds: int, selection_seeds: int, minimal_effect: float | None
) -> None:
    at_least_one(selection_seeds, what="selection_seeds")
    if further_seeds:
        at_least_one(further_seeds, what="further_seeds")
    if at_least_one(seeds, what="seeds") < 2:
        raise InputError(
            f"seeds must be at least 2, which tell how far chance goes, but got {seeds}; take 12, say"
        )
    if minimal_effect is not None and not (is_finite_number(minimal_effect) and minimal_effect >= 0):
        raise InputError(f"minimal_effect must be a number of at least 0, but got {minimal_effect!r}")


def _free(out: Path) -> Path:
    """The folder, if nothing would be lost there."""
    for folder in (out, out / CANDIDATES, out / COMPARISON, out / EXTENDED):
        store.check_free(folder)
    if (out / SUMMARY).exists():
        raise InputError(
            f"the folder {str(out)!r} already holds a retest ({SUMMARY}); pick another with --out"
        )
    return out


def _candidates(
    winner: Winner, task: Task, *, near: int, fresh: int, width: float, key: PRNGKeyArray
) -> tuple[Configs, tuple[str, ...]]:
    """The old winner, its neighbours and fresh samples, and the role of each."""
    own, space = jax.random.fold_in(key, _DRAWS), winner.space
    near, fresh = at_least_one(near, what="neighbouring"), at_least_one(fresh, what="fresh")
    old = _as_columns(winner.config, space)
    given = {name: values[0] for name, values in old.items()}
    around = neighbours(space, given, near, key=own, width=width)
    parts = [old, around, quasi_random(space, fresh, key=own)]
    columns = joined(parts)
    if "batch_size" in columns:
        columns["batch_size"] = np.minimum(columns["batch_size"], task.data.rows)
    configs = Configs(columns, space=space)
    task.check(with_defaults(task, configs))
    return configs, (OLD, *[NEAR] * near, *[FRESH] * fresh)


def _as_columns(config: Mapping[str, Any], space: Space) -> Configs:
    """A configuration as one row of its space, without what a condition switches off."""
    lacking = [name for name in space if name not in config]
    columns = {name: space[name].from_unit([0.0]) if name in lacking else [config[name]] for name in space}
    row = Configs(columns, space=space)
    there = active(space, row)
    off = {name: only(v, there[name] & np.array([name not in lacking])) for name, v in row.items()}
    return Configs(off, space=space)


def _rows(configs: Configs, rows: np.ndarray) -> Configs:
    return Configs({name: values[rows] for name, values in configs.items()}, space=configs.space)


def _challenger(result: Result) -> int | None:
    """The best candidate that is not the old winner itself; None if all diverged."""
    now, first = result.standing, result.configs.row(0)
    same = np.array([repr(result.configs.row(i)) == repr(first) for i in range(result.configs.count)])
    usable = (now.status != "diverged") & ~same
    if not usable.any():
        return None
    return int(rank(now.scores, now.validation["loss"], usable)[0])


def _undecided(found: Mapping[str, Any]) -> bool:
    """Whether the least effect that counts lies within the interval."""
    low, high = found["interval"]
    return bool(low <= found["minimal_effect"] < high)


def _judged(
    task: Task,
    first: Result,
    second: Result | None,
    *,
    least: float | None,
    confidence: float,
    ended: bool,
) -> dict[str, Any]:
    """The verdict and the numbers that it is from."""
    metric, nan = task.judged_by.metric, float("nan")
    effect, scores = Effect(nan, nan, nan, nan, nan), (nan, nan)
    verdict = None if ended else _by_status(first, second)
    if second is not None and not ended and (second.standing.status != "diverged").all():
        effect, scores = effect_on_test(task, second, confidence=confidence)
    least = _minimal(metric, scores[0]) if least is None else least
    if np.isfinite(effect.mean):
        verdict = RETUNE if effect.low > least else KEEP
    return {
        "verdict": verdict,
        "effect": effect.mean,
        "interval": (effect.low, effect.high),
        "confidence": confidence,
        "minimal_effect": least,
        "metric": metric,
        "scores": scores,
    }


def _by_status(first: Result, second: Result | None) -> str | None:
    """The verdict where one of the two diverged; None if neither or both did."""
    status = (first if second is None else second).standing.status
    old = status[0] != "diverged"
    other = second is not None and status[1] != "diverged"
    if old == other:
        return None
    return KEEP if old else RETUNE


class _Wish:
    """What is asked after every segment: whether to end; once granted it stays so."""

    def __init__(self, on_segment: Callable[[Progress], bool | None] | None):
        self._on_segment, self.granted = on_segment, False

    def __call__(self, state: Progress) -> bool:
        self.granted = self.granted or bool(self._on_segment is not None and self._on_segment(state))
        return self.granted


def _minimal(metric: str, old: float) -> float:
    return _OF_SHARES if metric in (*SHARES, "r2") else _OF_OTHERS * abs(old)
