"""A network as an ordinary single model: what it predicts, how good it is, how it is saved."""

import dataclasses
import functools
import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num, PyTree

from jbn.nn.normalizer import Normalizer
from jbn.task.member import Problem, Rows, evaluate, for_model, in_data_unit, infer
from jbn.task.metrics import predicted

Constants = tuple[tuple[str, Any], ...]  # hyper-parameters that a program is compiled for


@dataclasses.dataclass(frozen=True)
class Best:
    """The winner of a sweep as an ordinary single model.

    Args:
        config_id: which row of the sweep's configurations it is.
        seed: its seed index.
        config: its hyper-parameters, defaults included, without what its optimiser ignores.
        params: its parameters, without padding.
        stats: its running statistics, without padding, of the last segment.
        normalizer: what its input features are normalised with.
        problem: model, optimiser and loss.
        unit: what the targets were standardised with, where they are numbers.
        classes: how many there are; None where the targets are numbers.
        features: shape of a row of the data.
        folded: batch norm was folded away.
    """

    config_id: int
    seed: int
    config: dict[str, Any]
    params: PyTree
    stats: PyTree
    normalizer: Normalizer = dataclasses.field(repr=False)
    problem: Problem = dataclasses.field(repr=False)
    unit: Normalizer | None = dataclasses.field(default=None, repr=False)
    classes: int | None = None
    features: tuple[int, ...] = ()
    folded: bool = False

    def outputs(self, x: Num[Array | np.ndarray, "rows *features"]) -> Float[Array, "rows outputs"]:
        """What the network puts out for features as they are in the data, not normalised; numbers standardised."""
        state = self.params, self.stats
        return _outputs(self.problem, *self.constants_and_numbers, state, self.normalizer.apply(x))

    def predict(self, x: Num[Array | np.ndarray, "rows *features"]) -> Num[Array, "rows *numbers"]:
        """The class of every row; or its numbers, `[rows]` where there is one a row.

        Numbers are in the unit of the data where the loss has them standardised, else as the network puts them out.
        """
        outputs = self.outputs(x)
        outputs = outputs[:, 0] if outputs.shape[1] == 1 else outputs
        if self.classes is None:
            return in_data_unit(outputs, self.unit)
        return predicted(outputs)

    def evaluate(
        self, x: Num[Array | np.ndarray, "rows *features"], y: Num[Array | np.ndarray, "rows *numbers"]
    ) -> dict[str, float]:
        """The loss and every metric of the task for features and targets as they are in the data."""
        state = self.params, self.stats
        measured = _evaluated(self.problem, *self.constants_and_numbers, state, self.rows(x, y))
        return {name: float(measured[name]) for name in self.problem.measured}

    def save(self, path: str | os.PathLike[str], *, folded: bool = False) -> None:
        """Writes the network to one file of safetensors, whole or not at all; `jbn.load` reads it.

        Args:
            path: the file; nothing is added to its name.
            folded: without batch norm, which is folded into the affine maps around it: the same at inference.

        Raises:
            InputError: the disk refuses, or a model that cannot be folded.
        """
        from jbn.runs.saved import save

        save(self, path, folded=folded)

    def without_batch_norm(self) -> "Best":
        """The same network at inference, with batch norm folded into its affine maps.

        Raises:
            InputError: a model that cannot be folded.
        """
        from jbn.runs.saved import without_batch_norm

        return without_batch_norm(self)

    def rows(
        self, x: Num[Array | np.ndarray, "rows *features"], y: Num[Array | np.ndarray, "rows *numbers"]
    ) -> Rows:
        """Features and targets as they are in the data, as the network and its loss take them."""
        targets: Any = np.asarray(y)
        if self.unit is not None:
            targets = self.unit.apply(targets.reshape(len(targets), -1)).reshape(targets.shape)
        dtype = jnp.int32 if self.classes else float
        return Rows(self.normalizer.apply(x), jnp.asarray(targets, dtype), self.unit)

    def accuracy(self, x: Num[Array | np.ndarray, "rows *features"], y: Int[np.ndarray, " rows"]) -> float:
        """Share of the rows whose class is right."""
        return float(np.mean(np.asarray(self.predict(x)) == y))

    @property
    def hyper(self) -> dict[str, Any]:
        """What the functions of its model take as `hyper`, e.g. `jbn.mlp().train(params, stats, x, hyper=...)`."""
        return for_model(self.problem, self.config)

    @property
    def constants_and_numbers(self) -> tuple[Constants, dict[str, float]]:
        """The hyper-parameters that a program is compiled for, and those that it takes as arguments."""
        numbers = {name: value for name, value in self.config.items() if isinstance(value, float)}
        return tuple(item for item in self.config.items() if item[0] not in numbers), numbers


@functools.partial(jax.jit, static_argnums=(0, 1))
def _evaluated(
    problem: Problem, constants: Constants, numbers: Mapping[str, Any], state: PyTree, rows: Rows
) -> dict[str, Float[Array, ""]]:
    params, stats = state
    return evaluate(problem, {**dict(constants), **numbers}, params, stats, rows)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _outputs(
    problem: Problem, constants: Constants, numbers: Mapping[str, Any], state: PyTree, x: Array
) -> Float[Array, "rows outputs"]:
    params, stats = state
    return infer(problem, {**dict(constants), **numbers}, params, stats, x)
