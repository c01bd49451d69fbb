"""How a search space stands in an Optuna study, and what a study tells of a space."""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from jbn.errors import InputError
from jbn.search.ask_tell import columns_of_rows, load_optuna
from jbn.search.conditions import base, missing
from jbn.search.configs import Configs
from jbn.search.dimensions import (
    Dimension,
    FloatArray,
    Integers,
    Interval,
    LogUniform,
    Options,
    ReverseLogUniform,
)
from jbn.search.quantized import Quantized
from jbn.search.scales import (
    choice,
    constant,
    integers,
    log_uniform,
    quantized,
    reverse_log_uniform,
    uniform,
    when,
)
from jbn.search.space import Space
from jbn.search.values import plain

SPACE = "jbn_space"  # the attribute of a study with the space: distributions know no order and no condition
_REVERSED = re.compile(r"1 - (\w+)")


class Parameter(NamedTuple):
    """How a hyper-parameter stands in a study.

    Args:
        name: there; "1 - beta1" where the distance to 1 is on a log axis.
        distribution: Optuna's.
        reversed: whether 1 - value stands there.
    """

    name: str
    distribution: Any
    reversed: bool = False

    def stored(self, value: Any) -> Any:
        """A value as it stands in the study."""
        own = plain(value)
        if type(self.distribution).__name__ == "IntDistribution":
            return int(own)
        if isinstance(own, list | dict):
            return json.dumps(own)
        if type(self.distribution).__name__ == "FloatDistribution":  # 5 * 0.1 may lie just above 0.5
            there = 1.0 - own if self.reversed else float(own)
            return min(max(there, self.distribution.low), self.distribution.high)
        return own


def parameters(
    space: Mapping[str, Dimension], columns: Mapping[str, npt.NDArray[Any]]
) -> dict[str, Parameter]:
    """How the hyper-parameters of configurations stand in a study.

    A scale is a distribution: `uniform` and `log_uniform` are a FloatDistribution, `reverse_log_uniform` is one of
    1 - x with log=True, `integers` are an IntDistribution, with steps where these are linear (Optuna has none on
    log axes), a choice and a constant are a CategoricalDistribution.

    Args:
        space: axes by name; where a name has none, or a value does not lie on it, the values are the range.
        columns: for each hyper-parameter its values, [configurations]; NaN or None where there is none.

    Returns:
        By name; a hyper-parameter that no configuration has is left out.

    Raises:
        InputError: Optuna (the extra `jbn[optuna]`) is not installed.

    >>> from jbn.search import reverse_log_uniform
    >>> space = Space(beta1=reverse_log_uniform(0.9, 0.999))
    >>> own = parameters(space, {"beta1": np.array([0.99])})["beta1"]
    >>> own.name, own.distribution.log, round(own.stored(0.99), 12)
    ('1 - beta1', True, 0.01)
    """
    found = {}
    for name, values in columns.items():
        there = values[~missing(values)]
        if len(there):
            axis = space.get(name)
            on_axis = axis is not None and _lies_on(axis, there)
            found[name] = _of_axis(name, base(axis)) if axis and on_axis else _of_values(name, there)
    return found


@dataclass(frozen=True)
class Observed:
    """What is known of a space; `jbn.search.refine`, `importance` and `optuna` take it as they take a result.

    Args:
        space: where the configurations come from.
        configs: the configurations, with NaN or None where one does not have a hyper-parameter.
        scores: their scores, [configurations], float64, higher is better; NaN where one failed.
    """

    space: Space
    configs: Configs
    scores: FloatArray


def from_optuna(study: Any, *, names: Mapping[str, str] | None = None) -> Observed:
    """What an Optuna study knows, to go on from: its space, its configurations and their scores.

    A FloatDistribution is `uniform`, `log_uniform` or has steps; one with log=True that is named "1 - beta1" is
    `reverse_log_uniform` of `beta1`. An IntDistribution is `integers`, a CategoricalDistribution a choice, or a
    constant where it has one choice. Where it changed from trial to trial, the axis spans all of them. A
    hyper-parameter that finished trials have just where a categorical one has certain values gets this condition. A
    study that `jbn export` wrote gives the very space of the run.

    Args:
        study: of Optuna, with one objective. Trials that are complete, pruned (their last value counts) or
            failed (their score is NaN) are taken.
        names: what the study calls otherwise: its name of a parameter, and that of the hyper-parameter,
            `{"lr": "learning_rate"}`.

    Returns:
        `space`, `configs`, `scores`; a score is the value, or minus the value where the study minimizes.

    Raises:
        InputError: no study of Optuna's or one with several objectives, no trial that has ended, a name that is no
            identifier or comes twice, or an axis that a space cannot have.

    >>> import optuna, jbn
    >>> study = optuna.create_study(direction="maximize")
    >>> study.optimize(lambda trial: -abs(trial.suggest_float("lr", 1e-4, 1.0, log=True) - 0.01), n_trials=40)
    >>> known = from_optuna(study, names={"lr": "learning_rate"})
    >>> known.space["learning_rate"], known.configs.count
    (log_uniform(0.0001, 1.0), 40)
    >>> finer = jbn.search.refine(known.space, known)  # for jbn.coarse_to_fine, or random and quasi_random
    >>> search = jbn.search.optuna(known.space, known=known)  # asks for what the study would try next
    """
    trials, state = _ended(study), load_optuna(quiet=False).trial.TrialState
    called = _called(trials, names or {})
    rows = [_row(trial, called) for trial in trials]
    usual = [row for row, trial in zip(rows, trials, strict=True) if trial.state != state.FAIL]
    axes = _axes(study, called, usual or rows)
    rows = [{name: row.get(name) for name in axes} for row in rows]
    sign = 1.0 if study.direction.name == "MAXIMIZE" else -1.0
    scores = np.array([sign * _value(trial, failed=trial.state == state.FAIL) for trial in trials])
    space = Space(**axes)
    return Observed(space, columns_of_rows(space, rows), scores)


def _ended(study: Any) -> list[Any]:
    """The trials of a study that have ended, complete or not."""
    own = load_optuna(quiet=False)
    if not isinstance(study, own.Study):
        raise InputError(
            f"a study must be one of Optuna's, got {study!r}: give optuna.load_study(study_name=..., storage=...)"
        )
    if len(study.directions) > 1:
        raise InputError(
            f"a study must have one objective, got one with {len(study.directions)}: say which by a study of its own"
        )
    state = own.trial.TrialState
    ended = (state.COMPLETE, state.PRUNED, state.FAIL)
    trials = [trial for trial in study.get_trials(deepcopy=False, states=ended) if trial.params]
    if not trials:
        raise InputError("a study must have a trial that has ended, got none: run some first")
    return trials


def _lies_on(axis: Dimension, values: npt.NDArray[Any]) -> bool:
    try:
        axis.to_unit(values.tolist())
    except InputError:
        return False
    return True


def _of_axis(name: str, axis: Dimension) -> Parameter:
    kinds = load_optuna(quiet=False).distributions
    if isinstance(axis, Options):
        return Parameter(name, kinds.CategoricalDistribution(axis.options))
    if isinstance(axis, Integers):
        return Parameter(name, kinds.IntDistribution(axis.low, axis.high))
    assert isinstance(axis, Interval | Quantized)
    scale, step = (axis.inner, axis.step) if isinstance(axis, Quantized) else (axis, None)
    if isinstance(scale, ReverseLogUniform):
        return Parameter(
            f"1 - {name}", kinds.FloatDistribution(1.0 - axis.high, 1.0 - axis.low, log=True), True
        )
    log = isinstance(scale, LogUniform)
    step = None if log else step  # Optuna has no steps on a log axis
    if isinstance(axis, Quantized) and axis.whole:
        return Parameter(name, kinds.IntDistribution(axis.low, axis.high, log=log, step=int(step or 1)))
    return Parameter(name, kinds.FloatDistribution(axis.low, axis.high, log=log, step=step))


def _of_values(name: str, values: npt.NDArray[Any]) -> Parameter:
    """By their range, where they are different numbers; else by what they are."""
    kinds = load_optuna(quiet=False).distributions
    numbers = values.dtype.kind in "if" and np.isfinite(values).all() and values.min() < values.max()
    if numbers:
        build = kinds.IntDistribution if values.dtype.kind == "i" else kinds.FloatDistribution
        return Parameter(name, build(values.min().item(), values.max().item()))
    options = [json.dumps(value) if isinstance(value, list | dict) else value for value in values.tolist()]
    return Parameter(name, kinds.CategoricalDistribution(list(dict.fromkeys(options))))


def _called(trials: Sequence[Any], names: Mapping[str, str]) -> dict[str, Parameter]:
    """The parameters of a study by their names there, each with the name of its hyper-parameter."""
    by_name: dict[str, list[Any]] = {}
    for trial in trials:
        for key, distribution in trial.distributions.items():
            by_name.setdefault(key, []).append(distribution)
    found: dict[str, Parameter] = {}
    for key, distributions in by_name.items():
        whole = _union(distributions)
        match = _REVERSED.fullmatch(key) if getattr(whole, "log", False) else None
        own = names.get(key, match[1] if match else key)
        if not own.isidentifier():
            raise InputError(
                f"names must be identifiers, got {key!r}: say which it is, names={{{key!r}: 'learning_rate'}}"
            )
        if own in (other.name for other in found.values()):
            raise InputError(f"names must differ, but two parameters of the study are {own!r}: rename one")
        found[key] = Parameter(own, whole, match is not None)
    return found


def _union(distributions: Sequence[Any]) -> Any:
    """One distribution that spans all; a study takes no others of one name than these."""
    first = distributions[0]
    if hasattr(first, "choices"):
        return first
    low, high = min(own.low for own in distributions), max(own.high for own in distributions)
    log = all(own.log for own in distributions)
    steps = {own.step for own in distributions} if not log else {None}
    apart = any((own.low - low) % (own.step or 1) for own in distributions)
    one = None if len(steps) > 1 or apart else steps.pop()
    if type(first).__name__ == "IntDistribution":
        return type(first)(low, high, log=log, step=one or 1)
    return type(first)(low, high, log=log, step=one)


def _axes(
    study: Any, called: Mapping[str, Parameter], rows: Sequence[Mapping[str, Any]]
) -> dict[str, Dimension]:
    """The axes as the study says them, or as distributions and the rows of finished trials tell them."""
    described = study.user_attrs.get(SPACE)
    said: Mapping[str, Dimension] = Space.from_spec(described) if described else {}
    found = {own.name: _axis(own) for own in called.values() if own.name not in said}
    return {**said, **{name: _conditional(name, axis, found, rows) for name, axis in found.items()}}


def _axis(own: Parameter) -> Dimension:
    distribution = own.distribution
    try:
        if hasattr(distribution, "choices"):
            options = distribution.choices
            return constant(options[0]) if len(options) == 1 else choice(*options)
        low, high, step = distribution.low, distribution.high, distribution.step
        if own.reversed:
            return reverse_log_uniform(1.0 - high, 1.0 - low)
        if type(distribution).__name__ == "IntDistribution":
            whole = integers(low, high, log=distribution.log)
            return whole if step == 1 else quantized(whole, step)
        axis = log_uniform(low, high) if distribution.log else uniform(low, high)
        return axis if step is None else quantized(axis, step)
    except InputError as error:
        raise InputError(f"{own.name}: {error}") from error


def _conditional(
    name: str, axis: Dimension, axes: Mapping[str, Dimension], rows: Sequence[Mapping[str, Any]]
) -> Dimension:
    """The axis with the condition under which the rows have it, where one other choice tells."""
    having = [row for row in rows if name in row]
    lacking = [row for row in rows if name not in row]
    for other, parent in axes.items():
        if not lacking or other == name or not isinstance(parent, Options):
            continue
        values, others = _values(other, having), _values(other, lacking)
        if None not in values and not values & others:
            kept = [option for option in parent.options if option in values]
            return when(axis, **{other: kept})
    return axis


def _values(name: str, rows: Iterable[Mapping[str, Any]]) -> set[Any]:
    return {row.get(name) for row in rows}


def _row(trial: Any, called: Mapping[str, Parameter]) -> dict[str, Any]:
    """The hyper-parameters of a trial by name, those that it has."""
    row = {}
    for key, value in trial.params.items():
        name, _, is_reversed = called[key]
        exact = trial.user_attrs.get(name)
        if is_reversed:  # 1 - (1 - x) may be another number than x
            row[name] = exact if isinstance(exact, float) and 1.0 - exact == value else 1.0 - value
        else:
            row[name] = value
    return row


def _value(trial: Any, *, failed: bool) -> float:
    """The value of a trial, or the last one that it reported; NaN where there is none."""
    if failed:
        return math.nan
    if trial.value is not None:
        return float(trial.value)
    reported = [value for _, value in sorted(trial.intermediate_values.items()) if math.isfinite(value)]
    return float(reported[-1]) if reported else math.nan
