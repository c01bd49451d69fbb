"""Policies that stop what falls behind: successive halving, Hyperband's brackets, and the median rule."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Int, PRNGKeyArray

from jbn.errors import InputError
from jbn.policies.interface import Edits, History
from jbn.policies.ranking import rank
from jbn.task.objectives import last


@dataclasses.dataclass(frozen=True)
class Halving:
    """Successive halving as a policy; made by `halving`."""

    eta: int
    min_epochs: int
    brackets: int

    def __call__(self, history: History, key: PRNGKeyArray) -> Edits:
        """Stops what is not among the best of its bracket where the segment was a rung."""
        del key
        segments, order = len(history.steps), _order(history)
        groups = np.arange(len(order)) % self.brackets
        stop = [
            self._dropped(order[groups[order] == bracket], bracket, segments)
            for bracket in range(self.brackets)
        ]
        return Edits(_running_members(history, np.concatenate(stop)))

    def next_decision(self, segments: int) -> int:
        """The next rung of any bracket."""
        edges = [self.min_epochs * self.eta**bracket for bracket in range(self.brackets)]
        while min(edges) <= segments:
            edges = [edge * self.eta if edge <= segments else edge for edge in edges]
        return min(edges)

    def expected_epochs(self, epochs: int) -> float:
        """Those of a configuration on average, where there are many: 1 / eta^k of them go on after k rungs.

        >>> halving().expected_epochs(9)  # 1 + 2 / 3 + 6 / 9
        2.333...
        """
        return float(np.mean([self._epochs(bracket, epochs) for bracket in range(self.brackets)]))

    def _epochs(self, bracket: int, epochs: int) -> float:
        found, done, share, edge = 0.0, 0, 1.0, self.min_epochs * self.eta**bracket
        while done < epochs:
            found += share * (min(edge, epochs) - done)
            done, share, edge = min(edge, epochs), share / self.eta, edge * self.eta
        return found

    def _dropped(self, best_first: np.ndarray, bracket: int, segments: int) -> np.ndarray:
        """Configurations beyond those that this rung keeps; none where it is no rung."""
        rung = self.rung(bracket, segments)
        if rung is None or not len(best_first):
            return best_first[:0]
        return best_first[max(1, len(best_first) // self.eta ** (rung + 1)) :]

    def rung(self, bracket: int, segments: int) -> int | None:
        """The number of the rung that a bracket reaches after so many segments, from 0; None if it is none."""
        edge, rung = self.min_epochs * self.eta**bracket, 0
        while edge < segments:
            edge, rung = edge * self.eta, rung + 1
        return rung if edge == segments else None


def halving(*, eta: int = 3, min_epochs: int = 1, brackets: int = 1) -> Halving:
    """Successive halving (Jamieson and Talwalkar 2016), with several brackets Hyperband (Li et al. 2018).

    After `min_epochs * eta^k` epochs, k = 0, 1, ..., the best `1 / eta^(k + 1)` of the configurations that a bracket
    began with go on, at least one; the others are stopped and keep their history. Configuration i is in bracket
    `i mod brackets`, and bracket b has its first rung `eta^b` times later: the first ones are thrifty, the last ones
    patient. Survivors go on exactly where they were.

    Configurations are compared by the objective now, the mean over their seeds; ties by validation loss, then by
    number. Those that diverged come last.

    Args:
        eta: so many times fewer go on at a rung, at least 2.
        min_epochs: epochs before the first rung, at least 1.
        brackets: how many, at least 1.

    Returns:
        A policy for `jbn.sweep(..., policy=...)`.

    Raises:
        InputError: a number that is not whole or too small.

    >>> import jax, jbn
    >>> task = jbn.Task(model=jbn.mlp(layers=1, hidden_units=8), data=jbn.data.digits())
    >>> space = jbn.Space(learning_rate=jbn.log_uniform(1e-4, 1.0), batch_size=256)
    >>> configs = jbn.search.random(space, 9, key=0)
    >>> result = jbn.sweep(task, configs, epochs=4, key=jax.random.key(0), policy=jbn.halving())
    >>> sorted(result.table().steps)
    [4, 4, 4, 4, 4, 4, 12, 12, 16]
    """
    return Halving(whole("eta", eta, 2), whole("min_epochs", min_epochs, 1), whole("brackets", brackets, 1))


@dataclasses.dataclass(frozen=True)
class MedianStopping:
    """The median rule as a policy; made by `median_stopping`."""

    min_epochs: int
    min_configs: int

    def next_decision(self, segments: int) -> int:
        """Every segment, once there are enough."""
        return max(segments + 1, self.min_epochs)

    def __call__(self, history: History, key: PRNGKeyArray) -> Edits:
        """Stops what never was as good as the median is on average."""
        del key
        if len(history.steps) < self.min_epochs:
            return Edits()
        curve = history.objective.scores(history.validation[history.objective.metric])
        whole = curve.reshape(len(curve), -1, history.seeds).mean(axis=2)
        usable = ~_diverged(history)
        if usable.sum() < self.min_configs:
            return Edits()
        with np.errstate(all="ignore"):
            averages = np.nansum(whole, axis=0) / np.maximum(1, (~np.isnan(whole)).sum(axis=0))
            best = np.fmax.reduce(whole, axis=0)
        behind = usable & (best < np.median(averages[usable]))
        return Edits(_running_members(history, np.flatnonzero(behind)))


def median_stopping(*, min_epochs: int = 5, min_configs: int = 5) -> MedianStopping:
    """Stops configurations whose best objective so far is worse than the median of all averages.

    This is the median rule of Golovin et al. (2017). The average of a configuration is that of its objective after
    every epoch that it took part in; those that were stopped count with theirs.

    Args:
        min_epochs: stop nothing before so many epochs, at least 1.
        min_configs: nor where fewer have not diverged, at least 1.

    Returns:
        A policy for `jbn.sweep(..., policy=...)`.

    Raises:
        InputError: a number that is not whole or too small.

    >>> median_stopping(min_epochs=3)
    MedianStopping(min_epochs=3, min_configs=5)
    """
    return MedianStopping(whole("min_epochs", min_epochs, 1), whole("min_configs", min_configs, 1))


def whole(name: str, value: int, low: int) -> int:
    """The value, which must be a whole number of at least `low`."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < low:
        raise InputError(f"{name} must be a whole number of at least {low}, got {value!r}")
    return int(value)


def _order(history: History) -> Int[np.ndarray, " configurations"]:
    """All configurations, best first; those that were stopped before come after those that go on."""
    scores = history.scores.reshape(-1, history.seeds).mean(axis=1)
    loss = last(history.validation_loss).reshape(-1, history.seeds).mean(axis=1)
    going = _going(history)
    return rank(np.where(going, scores, -np.inf), loss, going & ~_diverged(history))


def _going(history: History) -> Bool[np.ndarray, " configurations"]:
    return np.all(history.running.reshape(-1, history.seeds), axis=1)


def _diverged(history: History) -> Bool[np.ndarray, " configurations"]:
    return np.any(history.diverged.reshape(-1, history.seeds), axis=1)


def _running_members(
    history: History, configurations: Int[np.ndarray, " stopped"]
) -> Int[np.ndarray, " members"]:
    """Their members that are still running."""
    members = (configurations[:, None] * history.seeds + np.arange(history.seeds)).ravel()
    return np.sort(members[history.running[members]])
