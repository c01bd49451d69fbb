"""A task: model, data, loss and optimiser, checked against each other and ready for the device."""

import dataclasses
import functools
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from jbn.errors import InputError
from jbn.nn.model import HyperParameter, Model, check_values, settled
from jbn.task import hyper as hyper_module
from jbn.task import losses, metrics, objectives
from jbn.task.arrays import Arrays, arrays
from jbn.task.data import Blocks, Data
from jbn.task.losses import Kind, Loss
from jbn.task.member import Problem
from jbn.task.metrics import Metric
from jbn.task.objectives import Objective
from jbn.task.optimizer_choice import check_chosen, offered, pick, several
from jbn.task.optimizers import Optimizer

_LENGTH = "schedule_epochs"
BATCH_SIZE = HyperParameter("batch_size", "compiled", 64, low=2, whole=True)


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """What is to be trained, except for the hyper-parameters.

    Args:
        model: three pure functions, e.g. `jbn.mlp()`.
        data: training, validation and test part, e.g. `jbn.data.digits()`.
        optimizer: "adam", "adamw", "lion", "rmsprop" or "sgd", or one of your own, made by `jbn.optimizer`. A space
            that has `optimizer` may choose any of these five instead, and this one, by their names; a list or tuple
            says which it may choose among. Where there is no choice, the first of them is taken.
        loss: "cross_entropy" or "binary_cross_entropy" of classes, "mean_squared_error" or "huber" of numbers, a
            function `loss(outputs, targets) -> [rows]`, or what `jbn.loss` makes of one; default: cross entropy, or
            the squared error. Numbers are standardised like features, with the mean and deviation of the training
            part: a squared error of 1 is what the mean of the targets would do.
        augment: `augment(key, x) -> x` changes every training batch, with a new key each: features `[batch, ...]` as
            the model sees them, normalised. A pure function, traced into the program; members with the same batch
            size and seed index see the same.
        metrics: what to judge by on the validation part besides the loss: names ("accuracy", "balanced_accuracy"; of
            numbers "mean_absolute_error", "mean_squared_error", "root_mean_squared_error", "r2", in the unit of the
            data), functions of outputs and targets, or what `jbn.metric` makes of one.
        objective: by which of them configurations are compared: a name, "loss", or what `jbn.objective` makes of
            it; default: the accuracy where it is the first metric, else the loss.
        class_weights: what the loss of a row of each class is multiplied by in training, `[classes]`; "balanced":
            `rows / (classes * rows of the class)`.
        normalize: features are standardised by the mean and deviation of the training part; False: the network gets
            them as they are in the data.
        test_curves: loss and metrics are measured on the test part, too, of every member after every segment, for
            research on searching: `history.test`, columns `test_loss`, ... Nothing is chosen by them.
        steps_per_epoch: optimiser steps of an epoch, whatever the batch size, at least 1: batches follow one another
            through the training part, in another order each time. So curves, schedules, policies and the length of a
            sweep go by steps, and members of different batch sizes are as far at the end of each segment. Default:
            as many batches as the training part has.
        epochs: what `schedule_epochs` is where a space does not say; a run sets it to its own length.

    Raises:
        InputError: an unknown optimiser or loss, two optimisers with one name, or a hyper-parameter of an optimiser
            with the name of one of the model.

    >>> import jbn
    >>> task = jbn.Task(model=jbn.mlp(), data=jbn.data.digits(), optimizer="adam", loss="cross_entropy")
    >>> sorted(task.defaults())[:4]
    ['activation', 'batch_norm', 'batch_norm_bias', 'batch_norm_epsilon']
    """

    model: Model
    data: Data
    optimizer: str | Optimizer | Sequence[str | Optimizer] = "adam"
    loss: str | Loss | Callable[..., Array] | None = None
    augment: Callable[..., Array] | None = None
    metrics: Sequence[str | Metric | Callable[..., Array]] | None = None
    objective: str | Objective | None = None
    class_weights: str | Sequence[float] | None = None
    normalize: bool = dataclasses.field(default=True, kw_only=True)
    test_curves: bool = dataclasses.field(default=False, kw_only=True)
    steps_per_epoch: int | None = dataclasses.field(default=None, kw_only=True)
    epochs: float = dataclasses.field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        _check_steps(self.steps_per_epoch, self.data)
        model = {entry.name for entry in self.model.hyperparameters} | {BATCH_SIZE.name}
        if "optimizer" in model:
            raise InputError(
                "the hyper-parameter 'optimizer' is the task's, but the model has one of this name; "
                "give the model's own another name where it is made"
            )
        if several(self.optimizer):
            for name in self.optimizers:
                self.with_optimizer(name)
            return
        for owner in ("optimizer", "loss"):
            for entry in getattr(self.problem, owner).hyperparameters:
                if entry.name in model | {"optimizer"}:
                    raise InputError(
                        f"hyper-parameter {entry.name!r} of the {owner} is also one of the model or the data; "
                        f"give it another name where the one or the other is made"
                    )
                model.add(entry.name)
        objectives.settled(self.objective, self.problem.metrics)  # one that is none is said now

    @functools.cached_property
    def optimizers(self) -> dict[str, Optimizer]:
        """Those that a space may choose among, by name, the default first."""
        return offered(self.optimizer)

    @functools.cached_property
    def problem(self) -> Problem:
        """What compiled programs depend on besides shapes; of several optimisers it has the default."""
        optimizer = next(iter(self.optimizers.values()))
        own = losses.named(self.loss, self.data.classes)
        usual = self.kind == "classes" or own.standardized
        return Problem(
            self.model,
            optimizer,
            own,
            own.outputs or self.data.classes or self.data.numbers,
            self.augment,
            metrics.chosen(self.metrics, self.kind, usual=usual),
            _weights(self.class_weights, self.data),
        )

    @property
    def measured(self) -> tuple[str, ...]:
        """What every member is measured by after every segment: on the validation part, then on the test part."""
        own = self.problem.measured
        return own if not self.test_curves else (*own, *map(metrics.on_test, own))

    @property
    def kind(self) -> Kind:
        """What the targets are."""
        return "numbers" if self.data.classes is None else "classes"

    @functools.cached_property
    def judged_by(self) -> Objective:
        """The objective, with its direction."""
        return objectives.settled(self.objective, self.problem.metrics)

    def with_optimizer(self, name: Any) -> "Task":
        """The task with the optimiser of that name alone; itself where the name is None.

        Raises:
            InputError: one that the task does not offer, or that has a hyper-parameter of the model's name.
        """
        if name is None:
            return self
        optimizer = pick(self.optimizers, name)
        if name not in self._alone:
            self._alone[name] = self._sharing_arrays(optimizer=optimizer)
        return self._alone[name]

    @functools.cached_property
    def _alone(self) -> "dict[str, Task]":
        return {}

    @functools.cached_property
    def hyperparameters(self) -> dict[str, HyperParameter]:
        """Everything that a search space may vary besides `optimizer`, by name."""
        rows = self.data.rows
        entries = (
            BATCH_SIZE._replace(high=rows),
            *self.problem.optimizer.hyperparameters,
            *self.problem.loss.hyperparameters,
            *self.model.hyperparameters,
        )
        return {entry.name: self._of_length(entry) for entry in entries}

    def _of_length(self, entry: HyperParameter) -> HyperParameter:
        return entry._replace(default=self.epochs) if entry.name == _LENGTH else entry

    def defaults(self) -> dict[str, Any]:
        """The value of every hyper-parameter that a configuration does not mention."""
        known = self.hyperparameters.values()
        defaults = {entry.name: entry.default for entry in known if entry.default is not None}
        return defaults | {"batch_size": min(BATCH_SIZE.default, self.data.rows)}

    def settled(self, configs: Mapping[str, Any], *, epochs: int) -> "Task":
        """The task of a run: what depends on its configurations or its length is settled.

        Args:
            configs: names to values; they decide the kind of the model's open hyper-parameters.
            epochs: what schedules are made for where the space does not say.

        Raises:
            InputError: a hyper-parameter without a default that the configurations do not have.
        """
        entries = tuple(settled(entry, configs.get(entry.name)) for entry in self.model.hyperparameters)
        model = (
            self.model
            if entries == self.model.hyperparameters
            else self.model._replace(hyperparameters=entries)
        )
        return self._sharing_arrays(model=model, epochs=float(epochs))

    def _sharing_arrays(self, **changed: Any) -> "Task":
        task = dataclasses.replace(self, **changed)
        task.__dict__["_arrays"] = self._arrays  # the data are the same
        return task

    def check(self, configs: Mapping[str, Sequence[Any] | np.ndarray]) -> None:
        """Every name must be known and every value allowed; `configs` maps names to values or arrays of them.

        Where they choose an `optimizer`, all that any of the chosen ones has is known, and every configuration's own
        says what is allowed: what it does not have it ignores.

        Raises:
            InputError: what is wrong, and what is known or allowed.
        """
        if "optimizer" in configs:
            check_chosen(self, configs)
            return
        hyper_module.check_names([*self.hyperparameters, "optimizer"], list(configs))
        for name, values in configs.items():
            if name == "batch_size":
                self._check_batch_size(values)
            check_values(self.hyperparameters[name], values)

    def steps(self, batch_size: int) -> int:
        """Optimiser steps of an epoch."""
        own = self.steps_per_epoch
        return self.data.rows // batch_size if own is None else own

    def rows_in_order(self, batch_sizes: Collection[int]) -> int:
        """Rows that an epoch takes in order, for members of all these batch sizes."""
        own = self.steps_per_epoch
        return self.data.rows if own is None else own * sum(batch_sizes)

    def _check_batch_size(self, values: Any) -> None:
        given, rows = np.asarray(values), self.data.rows
        largest = (
            given.max() if np.issubdtype(given.dtype, np.number) else 0
        )  # what is no number is said later
        if largest > rows:
            raise InputError(
                f"batch_size must be at most the {rows} rows of the training part, but got {largest:g}; "
                f"take smaller batches or more data"
            )

    @functools.cached_property
    def known(self) -> dict[Hashable, Any]:
        """What others have worked out about it, by keys of theirs; it lives as long as the task."""
        return {}

    @functools.cached_property
    def _arrays(self) -> dict[np.dtype, Arrays]:
        return {}

    def arrays(self) -> Arrays:
        """The data on the default device, made once for each floating type."""
        dtype = jax.dtypes.canonicalize_dtype(float)
        if dtype not in self._arrays:
            standardized = self.kind == "numbers" and self.problem.loss.standardized
            self._arrays[dtype] = arrays(
                self.data, standardized=standardized, normalize=self.normalize, test=self.test_curves
            )
        return self._arrays[dtype]


def _check_steps(steps: int | None, data: Data) -> None:
    if steps is None:
        return
    if isinstance(steps, bool) or not isinstance(steps, int | np.integer) or steps < 1:
        raise InputError(f"steps_per_epoch must be a whole number of at least 1, but got {steps!r}")
    if isinstance(data.train, Blocks):
        raise InputError(
            f"steps_per_epoch needs a training part in memory, but it is {data.train}; leave it out: an epoch is "
            "then all of its blocks"
        )


def _weights(given: str | Sequence[float] | None, data: Data) -> tuple[float, ...] | None:
    """One weight a class."""
    if given is None:
        return None
    if data.classes is None:
        raise InputError(
            "class_weights need classes, but the targets of the data are numbers; leave them out"
        )
    if isinstance(given, str):
        if given != "balanced":
            raise InputError(f'class_weights must be "balanced" or one number a class, but got {given!r}')
        if isinstance(data.train, Blocks):
            raise InputError('class_weights must be numbers where data is read in blocks, but is "balanced"')
        rows = np.bincount(data.train.y, minlength=data.classes)
        return tuple((rows.sum() / (data.classes * rows)).tolist())
    weights = np.asarray(given, np.float64)
    if weights.shape != (data.classes,) or not (np.isfinite(weights) & (weights >= 0)).all():
        raise InputError(
            f"class_weights must be one finite number of at least 0 for each of {data.classes} classes, "
            f"but got {given!r}"
        )
    return tuple(weights.tolist())
