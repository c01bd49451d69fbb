"""What the difference of two settings is, where both seeds and rows are samples."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jbn.errors import InputError


class Effect(NamedTuple):
    """A mean difference with its uncertainty.

    Args:
        mean: over seeds and rows.
        low: lower end of the confidence interval.
        high: upper end of it.
        standard_error: of the mean.
        degrees_of_freedom: of the t distribution that the interval is from.
    """

    mean: float
    low: float
    high: float
    standard_error: float
    degrees_of_freedom: float


def paired_effect(
    differences: Float[np.ndarray, "seeds groups"], *, mean: float | None = None, confidence: float = 0.95
) -> Effect:
    """The mean of differences that were measured with the same seeds on the same groups of rows.

    Both seeds and rows are drawn at random and crossed: `d_sg = mu + a_s + b_g + e_sg`. With S seeds, G groups and
    the mean squares of the analysis of variance, `MS_s = G sum_s (d_s. - d..)^2 / (S - 1)`, `MS_g` alike and `MS_e`
    of what is left, the variance of `d..` is estimated by `(MS_s + MS_g - MS_e) / (S G)`, at least by the larger of
    its first two terms alone. The interval is `d.. +- t * standard_error` with the degrees of freedom of
    Satterthwaite 1946. It is the analysis of readers and cases of Dorfman, Berbaum and Metz 1992, with seeds as
    readers.

    Args:
        differences: one a seed and a group of rows; or jackknife pseudo-values, see `pseudo_values`.
        mean: the estimate of mu, where it is more than the mean of the pseudo-values.
        confidence: of the interval, in (0, 1).

    Returns:
        The effect and its interval.

    Raises:
        InputError: fewer than 2 seeds or 2 groups, which tell no spread.

    >>> effect = paired_effect(np.array([[1.0, 2.0, 3.0], [2.0, 3.0, 4.0]]))
    >>> round(effect.mean, 3), round(effect.standard_error, 3)
    (2.5, 0.764)
    """
    from scipy import stats

    seeds, groups = differences.shape
    if min(seeds, groups) < 2:
        raise InputError(f"an interval needs at least 2 seeds and 2 groups of rows, got {seeds} and {groups}")
    by_seed, by_group, rest = _mean_squares(differences)
    both = by_seed + by_group - rest
    if both > max(by_seed, by_group):
        total = both
        terms = by_seed**2 / (seeds - 1) + by_group**2 / (groups - 1) + rest**2 / ((seeds - 1) * (groups - 1))
    else:
        total, freedom = max((by_seed, seeds - 1), (by_group, groups - 1))
        terms = total**2 / freedom
    error = float(np.sqrt(total / (seeds * groups)))
    freedom = total**2 / terms if terms > 0 else seeds - 1
    center = float(differences.mean()) if mean is None else mean
    half = float(stats.t.ppf((1 + confidence) / 2, freedom)) * error
    return Effect(center, center - half, center + half, error, float(freedom))


def pseudo_values(
    whole: Float[np.ndarray, " seeds"], without: Float[np.ndarray, "seeds groups"]
) -> Float[np.ndarray, "seeds groups"]:
    """What every group of rows adds to a statistic of all rows, whatever statistic it is (Tukey 1958).

    `p_sg = G T_s - (G - 1) T_s(-g)` with T of all rows and T(-g) of those outside group g; for a mean over groups of
    equal size it is the group's own mean.

    >>> pseudo_values(np.array([2.0]), np.array([[3.0, 1.0]])).tolist()
    [[1.0, 3.0]]
    """
    groups = without.shape[1]
    return groups * whole[:, None] - (groups - 1) * without


def _mean_squares(values: Float[np.ndarray, "seeds groups"]) -> tuple[float, float, float]:
    """Of seeds, of groups, and of what neither explains."""
    seeds, groups = values.shape
    by_seed, by_group, grand = values.mean(axis=1), values.mean(axis=0), values.mean()
    rest = values - by_seed[:, None] - by_group[None, :] + grand
    return (
        float(groups * by_seed.var(ddof=1)),
        float(seeds * by_group.var(ddof=1)),
        float((rest**2).sum() / ((seeds - 1) * (groups - 1))),
    )
