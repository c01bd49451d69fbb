"""By which number configurations are compared."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from jbn.errors import InputError, did_you_mean
from jbn.task.metrics import Metric

Over = Literal["last", "best"]
_TEST = ("test_", "test/")  # how what is measured on the test part begins


class Objective(NamedTuple):
    """What a configuration is judged by; hashable.

    Args:
        metric: its name: "loss" or one of the task's metrics, on the validation part.
        maximize: whether more is better; None: as the metric says.
        smoothing: weight of the old value in an exponentially weighted average over the segments; 0: none.
        over: "last" segment, or "best" so far.
    """

    metric: str
    maximize: bool | None = None
    smoothing: float = 0.0
    over: Over = "last"

    @property
    def plain(self) -> bool:
        """Whether it is the metric of the last segment as it is."""
        return self.smoothing == 0 and self.over == "last"

    def values(self, curve: Float[np.ndarray, "segments members"]) -> Float[np.ndarray, " members"]:
        """The objective from the metric after every segment, NaN where a member did not take part.

        With b = `smoothing` and v_t the metric after segment t, `s_t = sum_i b^(t - i) v_i / sum_i b^(t - i)` over
        the segments i that a member took part in: the average corrected for its start. Then the last s, or the best.

        >>> import numpy as np
        >>> smooth = Objective("loss", maximize=False, smoothing=0.5, over="best")
        >>> smooth.values(np.array([[3.0], [0.0], [3.0]])).tolist()
        [1.0]
        """
        return last(self.along(curve))

    def along(self, curve: Float[np.ndarray, "segments members"]) -> Float[np.ndarray, "segments members"]:
        """The objective as it was after every segment; NaN where a member did not take part.

        >>> import numpy as np
        >>> Objective("accuracy", maximize=True, over="best").along(np.array([[0.5], [0.25], [0.75]])).tolist()
        [[0.5], [0.5], [0.75]]
        """
        smooth = curve if self.smoothing == 0 else _smoothed(curve, self.smoothing)
        if self.over == "last":
            return smooth
        best = np.fmax if self.maximize else np.fmin
        return np.where(np.isnan(smooth), np.nan, best.accumulate(smooth, axis=0))

    def scores(self, values: Float[np.ndarray, " members"]) -> Float[np.ndarray, " members"]:
        """Higher is better."""
        return values if self.maximize else -values


def objective(
    metric: str, *, maximize: bool | None = None, smoothing: float = 0.0, over: Over = "last"
) -> Objective:
    """By which number configurations are compared, for `jbn.Task(objective=...)`.

    Args:
        metric: "loss" or the name of one of the task's metrics, on the validation part.
        maximize: whether more is better; needed only for a metric of one's own that does not say.
        smoothing: weight of the old value, 0 <= smoothing < 1, in an exponentially weighted average over the
            segments, corrected for its start: a lucky last epoch counts for less.
        over: "last": after the last segment that a configuration took part in; "best": the best after any. The
            winner's weights are those of the last segment either way.

    Raises:
        InputError: a smoothing outside [0, 1), or neither "last" nor "best".

    >>> import jbn
    >>> jbn.objective("loss", smoothing=0.8)
    Objective(metric='loss', maximize=None, smoothing=0.8, over='last')
    """
    if not 0 <= smoothing < 1:
        raise InputError(f"smoothing must be at least 0 and below 1, but got {smoothing}; 0 is none")
    if over not in ("last", "best"):
        raise InputError(f'over must be "last" or "best", but got {over!r}')
    return Objective(metric, maximize, float(smoothing), over)


def settled(chosen: str | Objective | None, metrics: Sequence[Metric]) -> Objective:
    """The objective with its direction; None: the first metric if it is an accuracy, else the loss.

    Raises:
        InputError: an unknown metric, or one of which nobody knows whether more is better.
    """
    known = {one.name: one.maximize for one in metrics} | {"loss": False}
    if chosen is None:
        chosen = metrics[0].name if metrics and metrics[0].name == "accuracy" else "loss"
    own = Objective(chosen) if isinstance(chosen, str) else chosen
    beside = own.metric.startswith(_TEST) and own.metric[len(_TEST[0]) :] in known
    if own.metric not in known and beside:
        raise InputError(
            f"the objective must be measured on the validation part, but {own.metric!r} is of the test part: "
            f"choosing by it would make it a validation part; take {own.metric[len(_TEST[0]) :]!r}"
        )
    if own.metric not in known:
        raise InputError(
            f"the objective must be the loss or a metric of the task, but {own.metric!r} is none: "
            f"{did_you_mean(own.metric, known)}"
        )
    maximize = known[own.metric] if own.maximize is None else own.maximize
    if maximize is None:
        raise InputError(
            f"whether more or less of {own.metric!r} is better must be said: "
            f"jbn.objective({own.metric!r}, maximize=True)"
        )
    return own._replace(maximize=maximize)


def last(curve: Float[np.ndarray, "segments members"]) -> Float[np.ndarray, " members"]:
    """The last value of each column that is not NaN."""
    if not len(curve):
        return np.full(curve.shape[1], np.nan)
    place = len(curve) - 1 - np.argmax(~np.isnan(curve[::-1]), axis=0)
    return curve[place, np.arange(curve.shape[1])]


def _smoothed(
    curve: Float[np.ndarray, "segments members"], weight: float
) -> Float[np.ndarray, "segments members"]:
    total, count = np.zeros(curve.shape[1:]), np.zeros(curve.shape[1:])
    result = np.full(curve.shape, np.nan)
    for segment, values in enumerate(curve):
        seen = ~np.isnan(values)
        total = np.where(seen, weight * total + np.nan_to_num(values), total)
        count = np.where(seen, weight * count + 1, count)
        result[segment, seen] = total[seen] / count[seen]
    return result
