"""Model-based search by Optuna's samplers, in whole batches: ask for configurations, tell their scores."""

import functools
import importlib.util
import warnings
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import numpy.typing as npt

from jbn.errors import InputError, did_you_mean
from jbn.search.conditions import base, check, exists
from jbn.search.configs import Configs
from jbn.search.dimensions import Dimension, Integers, Options, Uniform
from jbn.search.quantized import Quantized
from jbn.search.refinement import Scored, columns_of
from jbn.search.sampling import integer_seed
from jbn.search.space import Space
from jbn.search.values import at_least_one, plain

SAMPLERS = ("tpe", "gp", "cma_es", "nsga_ii", "random", "qmc")


def optuna(
    space: Space,
    *,
    sampler: Any = "tpe",
    n: int = 32,
    key: jax.Array | npt.NDArray[np.uint32] | int = 0,
    known: Scored | tuple[Mapping[str, npt.ArrayLike], npt.ArrayLike] | None = None,
) -> "Batches":
    """A search that learns from the scores of its configurations, by a sampler of Optuna's.

    Optuna (Akiba et al. 2019) sees the places of the unit interval that values have on their own scale, and the
    options of a choice as categories. Within a batch, configurations that have no score yet count as TPE's
    constant liar has them.

    Args:
        space: where to search.
        sampler: "tpe" (Bergstra et al. 2011), "gp", "cma_es", "nsga_ii", "random", "qmc"; or a sampler of Optuna's.
        n: configurations of a batch.
        key: as in `random`; it seeds a sampler that is given by name.
        known: configurations with their scores, as `refine` takes them: of an earlier sweep, or of a study by
            `from_optuna`. The sampler learns from those that lie in the space; their scores must be of the same kind
            as those that are told.

    Returns:
        What to `ask` for a batch and to `tell` its result.

    Raises:
        InputError: an unknown sampler, n below 1, what is known lacks a name or a score, or Optuna (the extra
            `jbn[optuna]`) is not installed.

    >>> import numpy as np
    >>> from jbn.search import log_uniform
    >>> search = optuna(Space(rate=log_uniform(1e-4, 1.0)), sampler="tpe", n=8, key=1)
    >>> for _ in range(4):
    ...     configs = search.ask()
    ...     search.tell(-np.abs(np.log10(configs["rate"]) + 2))
    >>> search.configs.count, 1e-3 < search.best()["rate"] < 1e-1
    (32, True)
    """
    search = Batches(space, _sampler(sampler, key), at_least_one(n, what="configs"))
    if known is not None:
        search.learn(*columns_of(space, known))
    return search


class Batches:
    """A search in batches: `ask` gives configurations, `tell` takes their scores; in turn.

    Attributes:
        space: where it searches.
        configs: all configurations that have been told.
        scores: their scores, higher is better; NaN where they diverged.
    """

    def __init__(self, space: Space, sampler: Any, n: int):
        own = load_optuna()
        self.space, self._n, self._order = space, n, check(space)
        self._study = own.create_study(direction="maximize", sampler=sampler)
        self._asked: list[tuple[Any, dict[str, Any]]] = []
        self._told: list[tuple[dict[str, Any], float]] = []

    @property
    def configs(self) -> Configs:
        """All that have been told, in their order."""
        return columns_of_rows(self.space, [row for row, _ in self._told])

    @property
    def scores(self) -> npt.NDArray[np.float64]:
        """One for each of `configs`."""
        return np.array([score for _, score in self._told])

    def ask(self, n: int | None = None) -> Configs:
        """The next configurations to try.

        Args:
            n: how many; default: those of a batch.

        Raises:
            InputError: the last batch has not been told.
        """
        if self._asked:
            raise InputError(
                f"a batch must be told before the next is asked for, but {len(self._asked)} have no score: call tell"
            )
        count = self._n if n is None else at_least_one(n, what="configs")
        for _ in range(count):
            trial = self._study.ask()
            self._asked.append((trial, self._suggested(trial)))
        return columns_of_rows(self.space, [row for _, row in self._asked])

    def tell(self, result: Any) -> None:
        """The scores of the last batch.

        Args:
            result: a result of a sweep over it, or its scores, `[n]`: higher is better, not finite where a
                configuration diverged.

        Raises:
            InputError: no batch was asked for, or there is not one score for each of its configurations.
        """
        try:
            scores = np.asarray(getattr(result, "scores", result), np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(f"scores must be numbers, got {result!r}: give one a configuration") from error
        if scores.shape != (len(self._asked),) or not self._asked:
            raise InputError(
                f"scores must be those of the last batch, one for each of {len(self._asked)} configurations, got "
                f"{scores.shape}: ask, train, tell"
            )
        states = load_optuna().trial.TrialState
        for (trial, row), score in zip(self._asked, scores.tolist(), strict=True):
            if np.isfinite(score):
                self._study.tell(trial, score)
            else:
                self._study.tell(trial, state=states.FAIL)
            self._told.append((row, score if np.isfinite(score) else float("nan")))
        self._asked = []

    def learn(self, configs: Configs, scores: npt.NDArray[np.float64]) -> None:
        """Tell of configurations that nobody asked for; those outside the space are left out.

        Args:
            configs: with all names of the space.
            scores: one for each, as for `tell`; they count for the sampler alone, not as `configs` and `scores`.
        """
        own = load_optuna()
        for place, score in enumerate(scores.tolist()):
            params = self._places(configs.row(place))
            if params is None:
                continue
            distributions = {name: _distribution(base(self.space[name])) for name in params}
            states, there = own.trial.TrialState, np.isfinite(score)
            self._study.add_trial(
                own.trial.create_trial(
                    state=states.COMPLETE if there else states.FAIL,
                    value=score if there else None,
                    params=params,
                    distributions=distributions,
                )
            )

    def best(self) -> dict[str, Any]:
        """The configuration with the highest score.

        Raises:
            InputError: none has one.
        """
        scores = self.scores
        if not np.isfinite(scores).any():
            raise InputError(f"a best configuration must have a score, but none of {len(scores)} has one")
        return self.configs.row(int(np.nanargmax(scores)))

    def _suggested(self, trial: Any) -> dict[str, Any]:
        row: dict[str, Any] = {}
        for name in self._order:
            axis = self.space[name]
            row[name] = suggest(trial, name, base(axis)) if exists(axis, row) else None
        return row

    def _places(self, row: Mapping[str, Any]) -> dict[str, Any] | None:
        """What Optuna has in the place of a configuration; None if it does not lie in the space."""
        try:
            return {
                name: _stored(base(self.space[name]), row[name])
                for name in self._order
                if exists(self.space[name], row)
            }
        except (InputError, TypeError):  # outside, or missing
            return None


def suggest(trial: Any, name: str, axis: Dimension) -> Any:
    """A value on the axis, as Optuna wants it."""
    if isinstance(axis, Options) and not axis.ordered:
        return plain(trial.suggest_categorical(name, axis.options))
    cells = _equal_cells(axis)
    if not cells:
        return plain(axis.from_unit(np.array([trial.suggest_float(name, 0.0, 1.0)]))[0])
    place = (trial.suggest_int(name, 0, cells - 1) + 0.5) / cells
    return plain(axis.from_unit(np.array([place]))[0])


def _distribution(axis: Dimension) -> Any:
    """That which `suggest` draws from."""
    kinds = load_optuna().distributions
    if isinstance(axis, Options) and not axis.ordered:
        return kinds.CategoricalDistribution(axis.options)
    cells = _equal_cells(axis)
    return kinds.IntDistribution(0, cells - 1) if cells else kinds.FloatDistribution(0.0, 1.0)


def _stored(axis: Dimension, value: Any) -> Any:
    """The draw of `suggest` that gives a value.

    Raises:
        InputError: it does not lie on the axis.
    """
    place = axis.to_unit([value])[0]
    if isinstance(axis, Options) and not axis.ordered:
        return axis.options[int(place * len(axis.options))]
    cells = _equal_cells(axis)
    return int(place * cells) if cells else float(place)


def _equal_cells(axis: Dimension) -> int:
    """How many values share the unit interval equally, where they are not too many to count; else 0."""
    if isinstance(axis, Options):
        return len(axis.options)
    even = isinstance(axis, Integers) or (isinstance(axis, Quantized) and isinstance(axis.inner, Uniform))
    return getattr(axis, "cells", 0) if even and getattr(axis, "cells", 0) <= 2**31 else 0


def columns_of_rows(space: Space, rows: list[dict[str, Any]]) -> Configs:
    """Rows as columns; a name that is None in a row does not exist there, among numbers it is NaN."""
    columns = {}
    for name, axis in space.items():
        values = [row[name] for row in rows]
        if any(value is None for value in values) and _of_numbers(base(axis)):
            values = [float("nan") if value is None else float(value) for value in values]
        columns[name] = values
    return Configs(columns, space=space)


def _of_numbers(axis: Dimension) -> bool:
    return not isinstance(axis, Options) or all(kind in (int, float) for kind in axis.types)


def _sampler(given: Any, key: Any) -> Any:
    own = load_optuna()
    if not isinstance(given, str):
        if not isinstance(given, own.samplers.BaseSampler):
            raise InputError(
                f"a sampler must be a name or one of Optuna's, got {given!r}; {did_you_mean('', SAMPLERS)}"
            )
        return given
    if given not in SAMPLERS:
        raise InputError(f"unknown sampler {given!r}: {did_you_mean(given, SAMPLERS)}")
    if given == "gp" and importlib.util.find_spec("torch") is None:
        raise InputError(
            'the sampler "gp" needs PyTorch, which is not installed: install torch, or take "tpe"'
        )
    kinds = own.samplers
    seed = integer_seed(key, given) % 2**32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", own.exceptions.ExperimentalWarning)
        if given == "tpe":
            return kinds.TPESampler(seed=seed, multivariate=False, constant_liar=True)
        made = {
            "gp": functools.partial(kinds.GPSampler, warn_independent_sampling=False),
            "cma_es": functools.partial(kinds.CmaEsSampler, warn_independent_sampling=False),
            "nsga_ii": kinds.NSGAIISampler,
            "random": kinds.RandomSampler,
            "qmc": functools.partial(
                kinds.QMCSampler,
                scramble=True,
                warn_independent_sampling=False,
                warn_asynchronous_seeding=False,
            ),
        }[given]
        return made(seed=seed)


def load_optuna(*, quiet: bool = True) -> Any:
    """Optuna, by default with its notes for interactive use switched off."""
    try:
        import optuna as own
    except ImportError as error:
        raise InputError(
            "this needs Optuna, which is not installed: install the extra jbn[optuna], or search with refine"
        ) from error
    if quiet:
        own.logging.set_verbosity(own.logging.WARNING)
    return own
