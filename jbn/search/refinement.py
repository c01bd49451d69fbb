"""Coarse to fine: a smaller space around the region where the good configurations are."""

import math
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from jbn.errors import InputError
from jbn.search.conditions import Conditional, base, missing, that_can_exist
from jbn.search.configs import Configs
from jbn.search.dimensions import Choice, Constant, Dimension, FloatArray
from jbn.search.space import Space
from jbn.search.values import is_finite_number

_SHARE = 0.8  # of the weight of the good ones that the region holds: a lucky outlier does not stretch it
_DOUBT, _OF_ROWS = (
    0.2,
    8.0,
)  # the most that chance is allowed to mislead, and how soon it is less: see `_doubt`
_LEAST = 5  # good ones


class Scored(Protocol):
    """Configurations with their scores, higher is better: the result of a sweep, say."""

    @property
    def configs(self) -> Mapping[str, npt.NDArray[Any]]:
        """Names to arrays, one entry a configuration."""

    @property
    def scores(self) -> npt.NDArray[np.floating]:
        """One a configuration; NaN where it diverged."""


def refine(
    space: Space, result: Scored | tuple[Mapping[str, npt.ArrayLike], npt.ArrayLike], *, keep: float = 0.1
) -> Space:
    """A smaller space around the region where the good configurations are.

    Configuration i with rank r_i weighs `max(0, log(2 keep n) - log(r_i))`, so that those up to the best `keep` have
    most of the weight. An ordered dimension that matters becomes the shortest stretch of its own scale with 80 % of
    the weight, and half a typical distance of the good ones at both ends. Of options without an order those that
    are not worse than the best one by a Mann-Whitney test stay. An ordered dimension matters where the places of
    the best quarter are distributed otherwise than those of the rest, or the scores differ from quarter to quarter
    of it, by a Cramér-von Mises and a Kruskal-Wallis test; all others stay as they are. One that does not matter is
    taken for one that does with a probability of at most 8 / n, and of 20 % where n is below 40.

    Args:
        space: where the configurations come from; those outside it do not count.
        result: anything with `configs` and `scores`, or a pair of them; scores are finite and higher is better, or
            NaN or infinite for a configuration that diverged, which counts as the worst.
        keep: share of the configurations that is good, in (0, 1].

    Returns:
        A space with the same names in the same order, each dimension a part of the old one, on the same scale; those
        under a condition that no option meets any more are left out.

    Raises:
        InputError: no configuration inside the space that did not diverge, lengths that differ, a name that is
            missing, or a `keep` outside (0, 1].

    >>> import numpy as np
    >>> from jbn.search import log_uniform, quasi_random, uniform
    >>> space = Space(rate=log_uniform(1e-4, 1.0), noise=uniform(0, 1))
    >>> configs = quasi_random(space, 64, key=0)
    >>> finer = refine(space, (configs, -np.abs(np.log10(configs["rate"]) + 2)))
    >>> 1e-3 < finer["rate"].low < 1e-2 < finer["rate"].high < 1e-1, finer["noise"]
    (True, uniform(0.0, 1.0))
    """
    if not is_finite_number(keep) or not 0 < keep <= 1:
        raise InputError(f"keep must be a share in (0, 1], got {keep!r}")
    configs, scores = columns_of(space, result)
    inside = _inside(space, configs)
    finite = np.isfinite(scores)
    if not (inside & finite).any():
        raise InputError(
            f"a space can be refined where a configuration inside it has a score, but of {len(scores)} "
            f"{int(inside.sum())} are inside and {int(finite.sum())} have one: "
            f"{'lower the learning rates, say' if inside.any() else 'take the space that they came from'}"
        )
    scores = np.where(finite, scores, -np.inf)
    refined = {name: _refined(axis, configs[name], scores, inside, keep) for name, axis in space.items()}
    return Space(**that_can_exist(refined))


def matters(places: FloatArray, scores: FloatArray) -> bool:
    """Whether good scores lie at other places than bad ones, for all that chance can say."""
    from scipy import stats

    if np.ptp(places) == 0 or np.ptp(stats.rankdata(scores)) == 0:
        return False
    ranks, best = stats.rankdata(scores), max(_LEAST, len(scores) // 4)
    order = np.argsort(-ranks, kind="stable")
    chances = []
    if len(scores) - best >= _LEAST:
        good, rest = places[order[:best]], places[order[best:]]
        chances.append(stats.cramervonmises_2samp(good, rest, method="asymptotic").pvalue)
    quarters = np.minimum(stats.rankdata(places) / (len(places) + 1) * 4, 3).astype(int)
    groups = [ranks[quarters == quarter] for quarter in range(4) if (quarters == quarter).sum() > 1]
    if len(groups) > 1:
        chances.append(stats.kruskal(*groups).pvalue)
    return bool(chances) and min(chances) * len(chances) <= _doubt(len(scores))


def _doubt(rows: int) -> float:
    """How often a dimension that does not matter may look as if it did.

    With few rows one in five: a dimension that matters must not be missed. With n rows at most 8 / n, since many
    rows tell one from the other anyway.
    """
    return min(_DOUBT, _OF_ROWS / rows)


def columns_of(space: Space, result: Any) -> tuple[Configs, FloatArray]:
    """The configurations and the scores of a result, or of a pair; all of a space's names are there."""
    given, scores = result if isinstance(result, tuple) else (result.configs, result.scores)
    configs, scores = Configs(given), np.asarray(scores, np.float64)
    if scores.shape != (configs.count,):
        raise InputError(
            f"there must be one score a configuration, got {scores.shape} for {configs.count} configurations"
        )
    if lacking := [name for name in space if name not in configs]:
        raise InputError(f"configurations must have all of a space's names, but lack {', '.join(lacking)}")
    return configs, scores


def _inside(space: Space, configs: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.bool_]:
    """Rows whose values all lie on the axes; what does not exist, or is ignored, lies anywhere."""
    inside = np.ones(len(next(iter(configs.values()))), bool)
    for name, axis in space.items():
        there = configs[name][~missing(configs[name])].tolist()
        if not _on(axis, there):
            for value in {value for value in there if not _on(axis, [value])}:
                inside &= configs[name] != value
    return inside


def _on(axis: Dimension, values: list[Any]) -> bool:
    """Whether all of them lie on the axis."""
    try:
        axis.to_unit(values)
    except InputError:
        return False
    return True


def _refined(
    axis: Dimension, values: npt.NDArray[Any], scores: FloatArray, inside: npt.NDArray[np.bool_], keep: float
) -> Dimension:
    rows = inside & ~missing(values)
    if isinstance(base(axis), Constant) or rows.sum() < 2 * _LEAST:
        return axis
    own = scores[rows]
    places = axis.to_unit(values[rows].tolist())
    if not axis.ordered:
        return _of_options(axis, values[rows], own)
    if not matters(places, own):
        return axis
    start, stop = _stretch(places, _weights(own, keep))
    return axis.narrowed(start, stop)


def _weights(scores: FloatArray, keep: float) -> FloatArray:
    """Of the ranks, those in CMA-ES's manner (Hansen 2016); equal scores have equal weights. They sum to 1."""
    from scipy import stats

    good = max(_LEAST, 2 * keep * len(scores))
    weights = np.maximum(0.0, math.log(good + 0.5) - np.log(stats.rankdata(-scores)))
    weights = np.where(np.isfinite(scores), weights, 0.0)
    return weights / weights.sum() if weights.sum() > 0 else np.full(len(scores), 1 / len(scores))


def _stretch(places: FloatArray, weights: FloatArray) -> tuple[float, float]:
    """The shortest stretch with most of the weight, and half a typical distance more at both ends, in [0, 1]."""
    order = np.argsort(places, kind="stable")
    x, sums = places[order], np.concatenate([[0.0], np.cumsum(weights[order])])
    last = np.searchsorted(sums, sums[:-1] + _SHARE - 1e-12)
    starts = np.flatnonzero(last <= len(x))
    first = starts[np.argmin(x[last[starts] - 1] - x[starts])]
    start, stop = float(x[first]), float(x[last[first] - 1])
    # 1 / sum of squares: how many good ones there are
    margin = 0.5 * (stop - start) * float(np.sum(weights**2))
    return max(0.0, start - margin), min(1.0, stop + margin)


def _of_options(axis: Dimension, values: npt.NDArray[Any], scores: FloatArray) -> Dimension:
    """Without the options that are worse than the best one beyond chance, in their better half."""
    from scipy import stats

    ranks = stats.rankdata(scores)
    groups = {
        option: ranks[[value == option for value in values.tolist()]] for option in set(values.tolist())
    }
    usual = {option: own for option, own in groups.items() if len(own) >= _LEAST}
    if len(usual) < 2:
        return axis
    best = max(usual, key=lambda option: float(np.median(usual[option])))
    doubt = _doubt(len(scores)) / 2 / (len(usual) - 1)
    worse = {
        option
        for option, own in usual.items()
        if option != best and stats.mannwhitneyu(own, usual[best], alternative="less").pvalue <= doubt
    }
    inner = base(axis)
    assert isinstance(inner, Choice)
    kept = inner.only([option for option in inner.options if option not in worse])
    return Conditional(kept, axis.requires) if isinstance(axis, Conditional) else kept
