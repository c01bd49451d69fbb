"""What comes out of a sweep: the table, the winner, the curves."""

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num, PyTree

from jbn.engine.forecast import Forecast
from jbn.engine.trainer import Timings
from jbn.errors import InputError
from jbn.nn.normalizer import Normalizer
from jbn.policies import History, rank
from jbn.runs.table import Standing, ranked, standing
from jbn.search import Configs
from jbn.store import STANDARD_ERRORS
from jbn.task.member import Problem, infer
from jbn.task.task import Task

if TYPE_CHECKING:
    import pandas as pd


@dataclasses.dataclass(frozen=True)
class Best:
    """The winner of a sweep as an ordinary single model.

    Args:
        config_id: which row of the sweep's configurations it is.
        seed: its seed index.
        config: its hyper-parameters, defaults included.
        params: its parameters, without padding.
        stats: its running statistics, without padding, of the last segment.
        normalizer: what its input features are normalised with.
        problem: model, optimiser and loss.
    """

    config_id: int
    seed: int
    config: dict[str, Any]
    params: PyTree
    stats: PyTree
    normalizer: Normalizer = dataclasses.field(repr=False)
    problem: Problem = dataclasses.field(repr=False)

    def outputs(self, x: Num[Array | np.ndarray, "rows *features"]) -> Float[Array, "rows outputs"]:
        """What the network puts out for features as they are in the data, not normalised."""
        return self._outputs(self.params, self.stats, self.normalizer.apply(x))

    def predict(self, x: Num[Array | np.ndarray, "rows *features"]) -> Int[Array, " rows"]:
        """The class of every row."""
        return jnp.argmax(self.outputs(x), axis=-1)

    def accuracy(self, x: Num[Array | np.ndarray, "rows *features"], y: Int[np.ndarray, " rows"]) -> float:
        """Share of the rows whose class is right."""
        return float(np.mean(np.asarray(self.predict(x)) == y))

    @functools.cached_property
    def _outputs(self) -> Any:
        return jax.jit(functools.partial(infer, self.problem, self.config))


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """A sweep that has ended.

    Args:
        task: what was trained.
        configs: the configurations, names to arrays.
        history: losses and accuracy of every member after every segment.
        seeds: seed indices of every configuration; member = configuration * seeds + seed.
        timings: what tracing and compiling took.
        seconds: wall-clock time of the sweep.
        interrupted: it was stopped before its last segment.
        winner: the best member; None if all diverged.
        test_accuracy: of the winner, on the test part, which nothing is selected on; NaN without a winner.
        run_seconds: how long compiled programs ran, all workers together.
        forecast: what was expected of the plan; None where nobody asked.
    """

    task: Task
    configs: Configs
    history: History
    seeds: int
    timings: Timings
    seconds: float
    interrupted: bool
    winner: Best | None = dataclasses.field(repr=False)
    test_accuracy: float
    run_seconds: float = 0.0
    forecast: Forecast | None = dataclasses.field(default=None, repr=False)

    @functools.cached_property
    def standing(self) -> Standing:
        """Status, steps and last metrics of every configuration, in the order of `configs`."""
        return standing(self.history, self.seeds)

    @property
    def scores(self) -> Float[np.ndarray, " configurations"]:
        """Higher is better: validation accuracy of the last segment, NaN where diverged."""
        return self.standing.validation_accuracy

    def table(self) -> "pd.DataFrame":
        """One row per configuration, best first: `config_id`, hyper-parameters, status, metrics, steps.

        With several seed indices the metrics are means over them, and the columns
        `validation_accuracy_standard_error` and `validation_loss_standard_error` follow: what the means would
        scatter by if the sweep were run again with other seeds, `std(ddof=1) / sqrt(seeds)`.

        Ties in validation accuracy are broken by validation loss, then by `config_id`.
        """
        import pandas as pd

        now = self.standing
        columns: dict[str, Any] = {
            "config_id": np.arange(self.configs.count),
            **self.configs,
            "status": now.status,
            "validation_accuracy": now.validation_accuracy,
            "validation_loss": now.validation_loss,
            "steps": now.steps,
        }
        if self.seeds > 1:
            columns |= {name: getattr(now, name) for name in STANDARD_ERRORS}
        return ranked(pd.DataFrame(columns))

    def best(self) -> Best:
        """The winner: highest validation accuracy, ties by validation loss, then by `config_id`.

        Raises:
            InputError: every configuration diverged.
        """
        if self.winner is None:
            raise InputError(
                f"a winner needs a configuration that did not diverge, but all {self.configs.count} did; "
                "lower the learning rates"
            )
        return self.winner


def best_member(history: History, seeds: int) -> int | None:
    """The best seed index of the best configuration, as a member; None if all diverged."""
    now = standing(history, seeds)
    usable = now.status != "diverged"
    if not usable.any():
        return None
    config = int(rank(now.validation_accuracy, now.validation_loss, usable)[0])
    own = slice(config * seeds, (config + 1) * seeds)
    alone = standing(
        history._replace(**{name: getattr(history, name)[..., own] for name in History._fields}), 1
    )
    return config * seeds + int(
        rank(alone.validation_accuracy, alone.validation_loss, np.ones(seeds, bool))[0]
    )
