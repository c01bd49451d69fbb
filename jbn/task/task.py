"""A task: model, data, loss and optimiser, checked against each other and ready for the device."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jbn.errors import InputError
from jbn.nn import normalizer
from jbn.nn.model import HyperParameter, Model, check_values, settled
from jbn.task import hyper as hyper_module
from jbn.task.data import Data, Part
from jbn.task.losses import Loss, loss
from jbn.task.member import Problem, Rows
from jbn.task.optimizers import Optimizer, named

_LENGTH = "schedule_epochs"
BATCH_SIZE = HyperParameter("batch_size", "compiled", 64, low=2, whole=True)


@dataclasses.dataclass(frozen=True)
class Arrays:
    """A task's data as programs take it: normalised with the statistics of the training part only."""

    train: Rows
    validation: Rows
    normalizer: normalizer.Normalizer


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """What is to be trained, except for the hyper-parameters.

    Args:
        model: three pure functions, e.g. `jbn.mlp()`.
        data: training, validation and test part, e.g. `jbn.data.digits()`.
        optimizer: "adam", "adamw", "lion", "rmsprop" or "sgd", or one of your own, made by `jbn.optimizer`.
        loss: "cross_entropy", or a function `loss(outputs, labels) -> [rows]` of outputs `[rows, classes]` and class
            numbers `[rows]`: pure, differentiable by JAX, one number a row, whose mean is minimised.
        augment: `augment(key, x) -> x` changes every training batch, with a new key each: features `[batch, ...]` as
            the model sees them, normalised. A pure function, traced into the program; members with the same batch
            size and seed index see the same.
        epochs: what `schedule_epochs` is where a space does not say; a run sets it to its own length.

    Raises:
        InputError: an unknown optimiser or loss, or an optimiser with a hyper-parameter of the model's name.

    >>> import jbn
    >>> task = jbn.Task(model=jbn.mlp(), data=jbn.data.digits(), optimizer="adam", loss="cross_entropy")
    >>> sorted(task.defaults())[:4]
    ['activation', 'batch_norm', 'batch_norm_epsilon', 'batch_norm_momentum']
    """

    model: Model
    data: Data
    optimizer: str | Optimizer = "adam"
    loss: str | Loss = "cross_entropy"
    augment: Callable[..., Array] | None = None
    epochs: float = dataclasses.field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        model = {entry.name for entry in self.model.hyperparameters} | {BATCH_SIZE.name}
        for entry in self.problem.optimizer.hyperparameters:
            if entry.name in model:
                raise InputError(
                    f"hyper-parameter {entry.name!r} of the optimizer is also one of the model or the data; "
                    f"give it another name where the one or the other is made"
                )

    @functools.cached_property
    def problem(self) -> Problem:
        """What compiled programs depend on besides shapes."""
        optimizer = named(self.optimizer)
        return Problem(self.model, optimizer, loss(self.loss), self.data.classes, self.augment)

    @functools.cached_property
    def hyperparameters(self) -> dict[str, HyperParameter]:
        """Everything that a search space may vary, by name."""
        rows = len(self.data.train.y)
        entries = (
            BATCH_SIZE._replace(high=rows),
            *self.problem.optimizer.hyperparameters,
            *self.model.hyperparameters,
        )
        return {entry.name: self._of_length(entry) for entry in entries}

    def _of_length(self, entry: HyperParameter) -> HyperParameter:
        return entry._replace(default=self.epochs) if entry.name == _LENGTH else entry

    def defaults(self) -> dict[str, Any]:
        """The value of every hyper-parameter that a configuration does not mention."""
        known = self.hyperparameters.values()
        defaults = {entry.name: entry.default for entry in known if entry.default is not None}
        return defaults | {"batch_size": min(BATCH_SIZE.default, len(self.data.train.y))}

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
        task = dataclasses.replace(self, model=model, epochs=float(epochs))
        task.__dict__["_arrays"] = self._arrays  # the data are the same
        return task

    def check(self, configs: Mapping[str, Sequence[Any] | np.ndarray]) -> None:
        """Every name must be known and every value allowed; `configs` maps names to values or arrays of them.

        Raises:
            InputError: what is wrong, and what is known or allowed.
        """
        hyper_module.check_names(self.hyperparameters, list(configs))
        for name, values in configs.items():
            if name == "batch_size":
                self._check_batch_size(values)
            check_values(self.hyperparameters[name], values)

    def _check_batch_size(self, values: Any) -> None:
        given, rows = np.asarray(values), len(self.data.train.y)
        largest = (
            given.max() if np.issubdtype(given.dtype, np.number) else 0
        )  # what is no number is said later
        if largest > rows:
            raise InputError(
                f"batch_size must be at most the {rows} rows of the training part, but got {largest:g}; "
                f"take smaller batches or more data"
            )

    @functools.cached_property
    def _arrays(self) -> dict[str, Arrays]:
        return {}

    def arrays(self) -> Arrays:
        """The training and validation part on the default device, made once for each floating type."""
        dtype = str(jax.dtypes.canonicalize_dtype(float))
        if dtype not in self._arrays:
            fitted = normalizer.fit(self.data.train.x)
            parts = [_rows(fitted, part) for part in (self.data.train, self.data.validation)]
            self._arrays[dtype] = Arrays(parts[0], parts[1], fitted)
        return self._arrays[dtype]


def _rows(fitted: normalizer.Normalizer, part: Part) -> Rows:
    return Rows(fitted.apply(part.x), jnp.asarray(part.y, jnp.int32))
