"""What comes out of a sweep: the table, the winner, the curves."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Array, Float, Num

from jbn.engine.forecast import Forecast
from jbn.engine.trainer import Timings
from jbn.errors import InputError, did_you_mean
from jbn.policies import Event, History, Schedule, schedule_of
from jbn.runs.best import Best
from jbn.runs.course import Course, course_of_history, curves_of_history
from jbn.runs.dataset import dataset
from jbn.runs.lineage import lineage_table
from jbn.runs.table import Standing, ranked, standing
from jbn.runs.versions import versions
from jbn.search import Configs, importance
from jbn.store import column, standard_error
from jbn.task.objectives import last
from jbn.task.task import Task

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from jbn.runs.kept import Snapshot, Stacked


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """A sweep that has ended.

    Args:
        task: what was trained.
        configs: the configurations, names to arrays; NaN or None where a configuration's optimiser ignores one.
        history: losses and metrics of every member after every segment.
        seeds: members of every configuration, seed indices times folds; member = configuration * seeds + fold * its
            seed indices + seed index.
        timings: what tracing and compiling took.
        seconds: wall-clock time of the sweep.
        interrupted: it was stopped before its last segment.
        winner: the best member; None if all diverged.
        test: loss and metrics of the winner by name, on the test part, which nothing is selected on; empty without
            a winner.
        run_seconds: how long compiled programs ran, all workers together.
        forecast: what was expected of the plan; None where nobody asked.
        folds: of cross-validation; 1 is none.
        events: what the policy did, in its order.
        models: every member as a single model, None where it diverged; empty where nobody asked.
        snapshots: the same after fewer epochs, with the history of then, by how many; see `at`.

    >>> import jax, jbn
    >>> task = jbn.Task(model=jbn.mlp(layers=1, hidden_units=8), data=jbn.data.digits())
    >>> configs, key = {"learning_rate": [0.001, 0.01, 0.1]}, jax.random.key(0)
    >>> result = jbn.sweep(task, configs, epochs=2, key=key, seeds=4, keep_models=True)
    >>> result.curve("train_loss").shape, result.last("validation_accuracy").shape
    ((2, 3, 4), (3, 4))
    >>> measured = result.evaluate(task.data.test.x, task.data.test.y)
    >>> {name: values.shape for name, values in measured.items()}
    {'accuracy': (3, 4), 'loss': (3, 4)}
    >>> result.stacked(config_id=1).params["output"]["kernel"].shape
    (4, 8, 10)
    """

    task: Task
    configs: Configs
    history: History
    seeds: int
    timings: Timings
    seconds: float
    interrupted: bool
    winner: Best | None = dataclasses.field(repr=False)
    test: Mapping[str, float]
    run_seconds: float = 0.0
    forecast: Forecast | None = dataclasses.field(default=None, repr=False)
    folds: int = 1
    events: tuple[Event, ...] = dataclasses.field(default=(), repr=False)
    models: tuple[Best | None, ...] = dataclasses.field(default=(), repr=False)
    snapshots: Mapping[int, "Snapshot"] = dataclasses.field(default_factory=dict, repr=False)

    @functools.cached_property
    def standing(self) -> Standing:
        """Status, steps and last metrics of every configuration, in the order of `configs`."""
        return standing(self.history, self.seeds, self.folds)

    @property
    def scores(self) -> Float[np.ndarray, " configurations"]:
        """The objective, higher is better, by default the last validation accuracy; NaN where diverged."""
        return self.standing.scores

    @property
    def test_accuracy(self) -> float:
        """The winner's accuracy on the test part, where it is one of the task's metrics; NaN without a winner."""
        return self.test.get("accuracy", float("nan"))

    def table(self) -> "pd.DataFrame":
        """One row per configuration, best first: `config_id`, hyper-parameters, status, metrics, steps.

        With several seed indices the metrics are means over them, and columns like
        `validation_loss_standard_error` follow: what the means would scatter by if the sweep were run again with
        other seeds, `std(ddof=1) / sqrt(seeds)`; with several folds, `std(ddof=1) / sqrt(folds)` of their means. An
        objective that is more than a metric of the last segment has a column of its own, `objective`.

        Ties in the objective are broken by validation loss, then by `config_id`.
        """
        import pandas as pd

        now = self.standing
        columns: dict[str, Any] = {
            "config_id": np.arange(self.configs.count),
            **self.configs,
            "status": now.status,
            **{column(name): values for name, values in now.validation.items()},
            "steps": now.steps,
        }
        if self.seeds > 1:
            columns |= {standard_error(name): values for name, values in now.standard_errors.items()}
        judged_by = self.history.objective
        table = ranked(
            pd.DataFrame(columns | {"objective": now.objective}), maximize=bool(judged_by.maximize)
        )
        return table.drop(columns="objective") if judged_by.plain else table

    def curves(self) -> "xr.Dataset":
        """All learning curves, with the dimensions `configuration`, `seed` and `segment`.

        What `jbn export DIR --to netcdf` writes: variables `steps`, `train_loss`, `validation_loss` and the other
        metrics, NaN where a member did not take part, `status` and `objective` of every configuration;
        hyper-parameters are coordinates, `configuration` is `config_id`. `curves().validation_loss.mean("seed")` is
        an average over the seeds, `curves().sel(configuration=3)` one configuration.

        Raises:
            InputError: xarray (the extra `jbn[netcdf]`) is not installed, or a hyper-parameter has the name of a
                dimension or a curve.
        """
        return dataset(self.course)

    def curve(self, name: str) -> Float[np.ndarray, "segments configurations seeds"]:
        """One learning curve of all members, NaN where one did not take part or what it measured was not finite.

        Args:
            name: as in the table and in `curves()`: "train_loss", "validation_loss", another metric of the task such
                as "validation_accuracy" (with `test_curves` also "test_loss", ...), or "steps", taken until then.

        Raises:
            InputError: no curve of that name.
        """
        if name not in self._curves:
            raise InputError(f"unknown curve {name!r}: {did_you_mean(name, self._curves)}")
        return np.moveaxis(self._curves[name], 2, 0)

    def last(self, name: str) -> Float[np.ndarray, "configurations seeds"]:
        """What each member measured in the last segment that it took part in; NaN where it diverged.

        Args:
            name: of a curve, as for `curve`.

        Raises:
            InputError: no curve of that name.
        """
        curve = self.curve(name)
        found = last(curve.reshape(len(curve), -1))
        return np.where(self.history.diverged, np.nan, found).reshape(-1, self.seeds)

    @functools.cached_property
    def _curves(self) -> dict[str, Float[np.ndarray, "configurations seeds segments"]]:
        return curves_of_history(self.history, self.seeds)

    @property
    def course(self) -> Course:
        """The sweep as arrays, as a run records it."""
        now, about = self.standing, self.history.objective._asdict()
        settings = {"objective": about, "seconds": self.seconds, "test": self.test, "versions": versions()}
        table = {"status": now.status, "objective": now.objective}
        return course_of_history(
            self.configs, self.history, table, seeds=self.seeds, folds=self.folds, settings=settings
        )

    def importance(self, **options: Any) -> "pd.DataFrame":
        """What mattered: one row per hyper-parameter that varies, the most important first.

        Columns: `share` of what the hyper-parameters explain of the objective, and the 2.5 and 97.5 % quantiles
        `low` and `high` over bootstrap resamples.

        Args:
            **options: as for `jbn.search.importance`: `method`, `resamples`, `key`.

        Raises:
            InputError: as `jbn.search.importance`.
        """
        return important(self, **options)

    def lineage(self) -> "pd.DataFrame":
        """What the policy did to whom, one row an event in its order.

        Columns: `segment`, after which it was, counted from 0; `config_id` and `seed`, of whom; `event`: "stopped",
        "copied" (another's state) or "set" (hyper-parameters); `source_config_id` and `source_seed`, of who was
        copied, else -1; the hyper-parameters that were set, NaN where they were not.
        """
        return lineage_table(self.events, self.seeds)

    def schedule(self, config_id: int | None = None, seed: int = 0) -> Schedule:
        """The settings that a member lived through, with those whose state it copied; by default the winner.

        It is a policy: a sweep of its `config` with it as policy and with the key of this one trains a fresh network
        in the same way; bit for bit where programs are the same (give `jbn.search.Configs` the space of this one).

        Raises:
            InputError: no such configuration or seed index, or by default, no winner.
        """
        if config_id is None:
            config_id, seed = self.best().config_id, self.best().seed
        if not (0 <= config_id < self.configs.count and 0 <= seed < self.seeds):
            raise InputError(
                f"a member must be one of {self.configs.count} configurations with {self.seeds} seeds, counted from "
                f"0, got config_id {config_id} and seed {seed}"
            )
        members = range(self.configs.count * self.seeds)
        rows = {member: self.configs.row(member // self.seeds) for member in members}
        return schedule_of(config_id * self.seeds + seed, self.events, rows)

    def evaluate(
        self, x: Num[Array | np.ndarray, "rows *features"], y: Num[Array | np.ndarray, "rows *numbers"]
    ) -> dict[str, Float[np.ndarray, "configurations seeds"]]:
        """The loss and every metric of every member, for features and targets as they are in the data.

        Needs `keep_models=True`. The numbers are those of each model's own `evaluate`, with its own fold's
        normaliser; one program measures all models that are built alike. NaN where a member diverged.

        Raises:
            InputError: the sweep has not kept its models.
        """
        from jbn.runs.kept import evaluated

        return evaluated(self, x, y)

    def stacked(self, config_id: int | None = None) -> "Stacked":
        """Parameters and running statistics on a leading axis, of the models of one configuration or of all.

        Needs `keep_models=True`. `jax.vmap` takes them; `.seed` and `.config_id` say whose they are. Members that
        diverged are left out.

        Raises:
            InputError: the sweep has not kept its models, there is no such configuration, all its members
                diverged, or arrays of several configurations have other shapes.
        """
        from jbn.runs.kept import stacked

        return stacked(self, config_id)

    def at(self, epochs: int) -> "Result":
        """The sweep as it was after so many epochs, with all models, `best()` and `test` of then.

        Needs `snapshots=(epochs, ...)`. Members that went on are "running" in its table.

        Raises:
            InputError: no snapshot was kept then.
        """
        from jbn.runs.kept import at

        return at(self, epochs)

    def best(self) -> Best:
        """The winner: best by the objective, ties by validation loss, then by `config_id`.

        Raises:
            InputError: every configuration diverged.
        """
        if self.winner is None:
            raise InputError(
                f"a winner needs a configuration that did not diverge, but all {self.configs.count} did; "
                "lower the learning rates"
            )
        return self.winner


def important(result: Any, **options: Any) -> "pd.DataFrame":
    """What mattered in a result with configurations and scores, as a table."""
    import pandas as pd

    found = importance(result, **options)
    columns = {"share": found.shares, "low": found.low, "high": found.high}
    return pd.DataFrame(columns, index=pd.Index(found.names, name="hyper-parameter"))
