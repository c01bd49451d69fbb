"""Population-based training: the worst go on from the best, with settings a little beside theirs."""

import dataclasses
import math
from typing import Any

import numpy as np
from jaxtyping import Int, PRNGKeyArray

from jbn.errors import InputError
from jbn.policies.interface import Edits, History
from jbn.policies.ranking import rank
from jbn.policies.stopping import whole
from jbn.search import Dimension, Space
from jbn.task.objectives import last
from jbn.task.streams import number

_LAST = np.nextafter(1.0, 0.0)  # the unit interval of an axis has no end


@dataclasses.dataclass(frozen=True)
class PopulationBased:
    """Population-based training as a policy; made by `pbt`."""

    space: Space
    every: int
    share: float
    step: float
    resample: float

    def check(self, history: History) -> str | None:
        """What is to be said before the first segment: that there are several populations.

        Raises:
            InputError: nothing can be changed, or there is nobody to copy.
        """
        if not self._varied(history):
            raise InputError(
                f"pbt must have numbers to change between segments, but of {', '.join(self.space)} "
                f"{'none is one that varies' if history.changeable else 'none is an argument of the programs'}; add "
                f"e.g. learning_rate to the space"
            )
        sizes = np.unique(history.groups, return_counts=True)[1]
        least = math.ceil(1 / self.share)
        if sizes.max() < least:
            raise InputError(
                f"pbt needs {least} members of equal structure (1 / share), but the largest group has "
                f"{sizes.max()}; vary less of what programs are built for, or train more configurations"
            )
        if len(sizes) == 1:
            return None
        alone = int(sizes[sizes < least].sum())
        more = f"; {alone} members are in one too small to copy within and only train" if alone else ""
        each = f"of {sizes.min()} to {sizes.max()} members"
        return f"pbt: {len(sizes)} populations, one for each structure and seed index, {each}{more}"

    def next_decision(self, segments: int) -> int:
        """The next multiple of `every`."""
        return (segments // self.every + 1) * self.every

    def __call__(self, history: History, key: PRNGKeyArray) -> Edits:
        """Copies and new values after every so many segments."""
        if len(history.steps) % self.every:
            return Edits()
        groups = [np.flatnonzero(history.groups == group) for group in np.unique(history.groups)]
        seed = number(key)
        pairs = [pair for members in groups for pair in self._pairs(history, members, seed)]
        copies = np.array(pairs, np.int64).reshape(-1, 2)
        return Edits(copies=copies, values=self._values(history, copies, seed))

    def _pairs(self, history: History, members: np.ndarray, seed: int) -> list[tuple[int, int]]:
        """Who copies whom in one population: the worst and those that diverged, one of the best."""
        going = members[(history.running | history.diverged)[members]]
        lost = history.diverged[going]
        scores = history.scores[going]
        best_first = going[rank(scores, last(history.validation_loss[:, going]), ~lost)]
        count = math.floor(self.share * len(going))
        sources = best_first[: min(count, len(going) - int(lost.sum()))]
        if not len(sources):
            return []
        targets = best_first[len(best_first) - max(count, int(lost.sum())) :]
        drawn = [(int(_rng(seed, target, 0).choice(sources)), target) for target in targets.tolist()]
        return [pair for pair in drawn if _better(history, *pair)]

    def _values(self, history: History, copies: Int[np.ndarray, "copies 2"], seed: int) -> dict[str, Any]:
        """The sources' settings for the targets, those of the space a step aside."""
        varied, found = self._varied(history), {}
        for place, name in enumerate(history.changeable):
            own = np.full(len(history.status), np.nan)
            for source, target in copies.tolist():
                value = float(history.configs[name][source])
                if name in varied and not math.isnan(value):
                    value = self._beside(self.space[name], value, _rng(seed, target, 1 + place))
                own[target] = value
            found[name] = own
        return found if len(copies) else {}

    def _beside(self, axis: Dimension, value: float, rng: np.random.Generator) -> float:
        """A step up or down from a value on its axis, or anywhere."""
        draw, sign, anywhere = rng.random(), rng.choice((-1.0, 1.0)), rng.random()
        place = anywhere if draw < self.resample else float(axis.to_unit([value])[0]) + sign * self.step
        return float(axis.from_unit([min(max(place, 0.0), _LAST)])[0])

    def _varied(self, history: History) -> set[str]:
        """What of the space may be changed and has more than one value."""
        both = [name for name in self.space if name in history.changeable]
        return {name for name in both if len(set(self.space[name].from_unit([0.0, _LAST]).tolist())) > 1}


def pbt(
    space: Space, *, every: int = 1, share: float = 0.25, step: float = 0.1, resample: float = 0.1
) -> PopulationBased:
    """Population-based training (Jaderberg et al. 2017), with truncation selection.

    After every `every` epochs, in each population of n members, each of the worst `share * n` and of those that
    diverged goes on from one of the best `share * n`, drawn at random, if that one is better: from its parameters,
    running statistics and optimiser state, with its settings. Each of these that the space varies is moved by
    `step` up or down its own axis, on the axis's scale and never beyond its ends; with probability `resample` it is
    drawn anew. With u the place on the unit interval of the axis: `u' = clip(u +- step, 0, 1)`.

    A population is what has the same structure and the same seed index and fold: where configurations differ in what
    programs are built for (layers, units, batch size, optimiser, ...), there are several, side by side. Only numbers
    that programs take as arguments are changed; so nothing is compiled.

    Members are compared by the objective now, ties by validation loss, then by number. Draws depend on the key and
    on the member's number.

    Args:
        space: the axes; what is not on one is copied as it is.
        every: epochs between two rounds of copying, at least 1.
        share: of a population that copies, and that is copied, in (0, 0.5].
        step: part of an axis that a setting moves by, in (0, 1].
        resample: probability with which a setting is drawn anew instead, in [0, 1].

    Returns:
        A policy for `jbn.sweep(..., policy=...)`; `result.schedule()` is what the winner lived through.

    Raises:
        InputError: a number out of its range; by the sweep, before it begins: nothing that could be changed, or no
            population that is large enough.

    >>> import jax, jbn
    >>> task = jbn.Task(model=jbn.mlp(layers=1, hidden_units=8), data=jbn.data.digits())
    >>> space = jbn.Space(learning_rate=jbn.log_uniform(1e-5, 1.0), batch_size=256)
    >>> configs = jbn.search.random(space, 8, key=0)
    >>> result = jbn.sweep(task, configs, epochs=3, key=jax.random.key(0), policy=jbn.pbt(space))
    >>> sorted(set(result.lineage().event))
    ['copied', 'set']
    """
    _within("share", share, 0.5)
    _within("step", step, 1.0)
    _within("resample", resample, 1.0, open_low=False)
    return PopulationBased(space, whole("every", every, 1), share, step, resample)


def _within(name: str, value: float, high: float, *, open_low: bool = True) -> None:
    above = isinstance(value, int | float) and (value > 0 if open_low else value >= 0)
    fits = above and value <= high
    if not fits:
        raise InputError(f"{name} must be a number in {'(' if open_low else '['}0, {high:g}], got {value!r}")


def _better(history: History, source: int, target: int) -> bool:
    """Whether copying gains anything."""
    return bool(history.diverged[target] or history.scores[source] > history.scores[target])


def _rng(seed: int, member: int, purpose: int) -> np.random.Generator:
    return np.random.default_rng([seed, member, purpose])
