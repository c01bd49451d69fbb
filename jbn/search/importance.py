"""What mattered: how much of the scores each hyper-parameter explains, as Optuna implements it."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import numpy.typing as npt

from jbn.errors import InputError, did_you_mean
from jbn.search.ask_tell import load_optuna
from jbn.search.conditions import base, missing
from jbn.search.configs import Configs
from jbn.search.dimensions import Constant, Dimension, FloatArray
from jbn.search.refinement import Scored, columns_of
from jbn.search.sampling import integer_seed
from jbn.search.space import Space

METHODS = ("ped_anova", "fanova")
_FEWEST = 10


class Importance(NamedTuple):
    """Shares of the hyper-parameters, the largest first; they sum to 1.

    Args:
        names: those that vary and that every configuration has.
        shares: `[names]`.
        low: the 2.5 % quantile over bootstrap resamples, `[names]`; NaN where there was none.
        high: the 97.5 % quantile.
        draws: the shares in every resample, `[resamples, names]`, for intervals of what is made of several shares;
            `[0, names]` where there was none.
    """

    names: tuple[str, ...]
    shares: FloatArray
    low: FloatArray
    high: FloatArray
    draws: FloatArray


def importance(
    result: Scored | tuple[Mapping[str, npt.ArrayLike], npt.ArrayLike],
    space: Space | None = None,
    *,
    method: Literal["ped_anova", "fanova"] = "ped_anova",
    resamples: int = 40,
    key: jax.Array | npt.NDArray[np.uint32] | int = 0,
) -> Importance:
    """How much each hyper-parameter matters, by the scores of a finished search.

    PED-ANOVA (Watanabe et al. 2023) compares where the best tenth lies in each dimension with where all do. fANOVA
    (Hutter et al. 2014) asks a random forest which share of the variance of the scores each dimension explains; it
    takes seconds a fit. Dimensions are compared on their own scales.

    Args:
        result: anything with `configs` and `scores`, or a pair of them; higher is better, not finite where a
            configuration diverged, which counts as the worst that there is.
        space: where the configurations come from; by default `configs` know it.
        method: "ped_anova" or "fanova".
        resamples: bootstrap resamples for the quantiles; 0 for none. fANOVA is fitted once and has none.
        key: as in `random`; it draws the resamples.

    Returns:
        The shares. A hyper-parameter that some configurations do not have, or ignore, has none. The draws are of
        the same resample in a row: `draws[:, 0] - draws[:, 1]` says how far the first two are apart.

    Raises:
        InputError: an unknown method, no space, fewer than 10 configurations with a score, or Optuna (the extra
            `jbn[optuna]`) is not installed.

    >>> import numpy as np
    >>> from jbn.search import log_uniform, random, uniform
    >>> configs = random(Space(rate=log_uniform(1e-4, 1.0), noise=uniform(0, 1)), 100, key=0)
    >>> found = importance((configs, -np.abs(np.log10(configs["rate"]) + 2)), resamples=0)
    >>> found.names, bool(found.shares[0] > 0.8)
    (('rate', 'noise'), True)
    >>> again = importance((configs, -np.abs(np.log10(configs["rate"]) + 2)), resamples=20)
    >>> bool(np.quantile(again.draws[:, 0] - again.draws[:, 1], 0.025) > 0)  # the whole interval
    True
    """
    if method not in METHODS:
        raise InputError(f"unknown method {method!r}: {did_you_mean(str(method), METHODS)}")
    own = space if space is not None else _space_of(result)
    configs, scores = columns_of(own, result)
    usable = np.isfinite(scores)
    if usable.sum() < _FEWEST:
        raise InputError(
            f"importance needs at least {_FEWEST} configurations with a score, but {int(usable.sum())} of "
            f"{len(scores)} have one: try more"
        )
    scores = np.where(usable, scores, scores[usable].min())
    axes = {
        name: base(axis)
        for name, axis in own.items()
        if not missing(configs[name]).any() and _varies(base(axis), configs[name])
    }
    if not axes:
        raise InputError("importance needs a hyper-parameter that varies, but all are constant")
    trials = _Trials(axes, configs, scores)
    rng = np.random.default_rng(integer_seed(key, "importance"))
    shares = trials.shares(np.arange(len(scores)), method)
    again = [
        trials.shares(rng.integers(len(scores), size=len(scores)), method)
        for _ in range(resamples if method == "ped_anova" else 0)
    ]
    order = np.argsort(-shares, kind="stable")
    names, draws = tuple(axes), np.reshape(again, (len(again), len(axes)))[:, order]
    low, high = np.quantile(draws, [0.025, 0.975], axis=0) if again else np.full((2, len(axes)), np.nan)
    return Importance(tuple(names[place] for place in order), shares[order], low, high, draws)


class _Trials:
    """Configurations and scores as trials of Optuna's."""

    def __init__(self, axes: Mapping[str, Dimension], configs: Configs, scores: FloatArray):
        self._optuna = load_optuna()
        found = {name: _as_optuna(self._optuna, axis, configs[name]) for name, axis in axes.items()}
        kinds = {name: kind for name, (kind, _) in found.items()}
        self._names, self._scores = list(axes), scores
        self._trials = [
            self._optuna.trial.create_trial(
                params={name: values[row] for name, (_, values) in found.items()},
                distributions=kinds,
                value=score,
            )
            for row, score in enumerate(scores.tolist())
        ]

    def shares(self, rows: npt.NDArray[np.int64], method: str) -> FloatArray:
        """Of every axis; equal ones where nothing explains anything."""
        evaluators = self._optuna.importance
        study = self._optuna.create_study(direction="maximize")
        study.add_trials([self._trials[row] for row in rows])
        evaluator = (
            evaluators.PedAnovaImportanceEvaluator()
            if method == "ped_anova"
            else evaluators.FanovaImportanceEvaluator(seed=0)
        )
        if len(self._names) == 1:
            return np.ones(1)
        if len(set(self._scores[rows].tolist())) == 1:
            return np.full(len(self._names), 1 / len(self._names))
        found = evaluators.get_param_importances(study, evaluator=evaluator)
        values = np.array([max(0.0, found.get(name, 0.0)) for name in self._names])
        return values / values.sum() if values.sum() > 0 else np.full(len(values), 1 / len(values))


def _as_optuna(own: Any, axis: Dimension, values: npt.NDArray[Any]) -> tuple[Any, list[Any]]:
    """A distribution over the places of the unit interval, or over options, and where the values lie in it."""
    places = axis.to_unit(values.tolist())
    if not axis.ordered:
        options = tuple(getattr(axis, "options", ()))
        return own.distributions.CategoricalDistribution(options), values.tolist()
    return own.distributions.FloatDistribution(0.0, 1.0), places.tolist()


def _varies(axis: Dimension, values: npt.NDArray[Any]) -> bool:
    return not isinstance(axis, Constant) and len(set(values.tolist())) > 1


def _space_of(result: Any) -> Space:
    configs = result[0] if isinstance(result, tuple) else result.configs
    space = getattr(configs, "space", None)
    if space is None:
        raise InputError(
            "importance needs the space that configurations come from, for its scales, but these know none: "
            "pass it beside them"
        )
    return space
