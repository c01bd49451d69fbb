"""One member of a population: its state, one segment of training, one evaluation. All pure."""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Num, PRNGKeyArray, PyTree

from jbn.errors import InputError
from jbn.nn.model import Hyper, Model
from jbn.nn.normalizer import Normalizer
from jbn.task.losses import Loss
from jbn.task.metrics import Metric, of_test
from jbn.task.optimizers import Optimizer
from jbn.task.schedules import scheduled
from jbn.task.transforms import clipped

_AUGMENT = 1 << 20  # its stream is none of the model's


class Problem(NamedTuple):
    """What compiled programs depend on besides shapes; hashable."""

    model: Model
    optimizer: Optimizer
    loss: Loss
    outputs: int
    augment: Callable[..., Array] | None = None
    metrics: tuple[Metric, ...] = ()
    weights: tuple[float, ...] | None = None

    @property
    def measured(self) -> tuple[str, ...]:
        """What a member is judged by on the validation part, by name: the metrics, then the loss."""
        return (*(metric.name for metric in self.metrics), "loss")


class Rows(NamedTuple):
    """Features, normalised, and targets, on the device.

    Args:
        x: features.
        y: class numbers; or numbers, as the loss takes them.
        unit: what y was standardised with; None where it was not.
    """

    x: Float[Array, "rows *features"]
    y: Num[Array, "rows *numbers"]
    unit: Normalizer | None = None


class Block(NamedTuple):
    """Some of an epoch's rows, in its order: those that are new, behind the last of those before.

    Rows are numbered within the epoch. Older rows are there for batches that lie across the border.

    Args:
        rows: on the device; what is in them before the epoch's first row and behind `end` does not matter.
        first: number of the first of `rows`; negative at the beginning of an epoch.
        start: number of the first new row.
        end: number of the row after the last.
    """

    rows: Rows
    first: Int[Array | np.ndarray, ""]
    start: Int[Array | np.ndarray, ""]
    end: Int[Array | np.ndarray, ""]


class Course(NamedTuple):
    """How an epoch that comes in blocks goes: its rows, and the most new rows of a block."""

    rows: int
    block_rows: int


class Member(NamedTuple):
    """What the next step needs, and nothing else.

    Args:
        params: what the optimiser changes.
        stats: running statistics of the batch norm layers.
        opt_state: optax's state.
        step: optimiser steps taken.
    """

    params: PyTree
    stats: PyTree
    opt_state: PyTree
    step: Int[Array, ""]


class Metrics(NamedTuple):
    """What a segment is judged by.

    Args:
        train_loss: mean of the batches' losses, as it was minimised.
        validation: "loss" and every metric of the task by name, on the validation part; where the task has
            `test_curves`, behind them "test/loss", ..., see `test`.
    """

    train_loss: Float[Array | np.ndarray, "..."]
    validation: Mapping[str, Float[Array | np.ndarray, "..."]]

    @property
    def validation_loss(self) -> Any:
        """The loss on the validation part."""
        return self.validation["loss"]

    @property
    def validation_accuracy(self) -> Any:
        """The accuracy on the validation part, a share of 1, where it is one of the task's metrics."""
        return self.validation["accuracy"]

    @property
    def test(self) -> dict[str, Any]:
        """The same on the test part by name, where the task has `test_curves`; else nothing."""
        return of_test(self.validation)


def init(problem: Problem, hyper: Hyper, key: PRNGKeyArray, rows: Rows) -> Member:
    """A member before its first step; `key` is the stream of initial weights."""
    x_spec = jax.ShapeDtypeStruct((1, *rows.x.shape[1:]), rows.x.dtype)
    params, stats = problem.model.init(key, for_model(problem, hyper), x_spec)
    start = jnp.zeros((), jnp.int32)
    return Member(params, stats, optimizer_state(problem, hyper, params), step=start)


def optimizer_state(problem: Problem, hyper: Hyper, params: PyTree) -> PyTree:
    """The state of the optimiser before its first step."""
    return _transform(problem, hyper, jnp.zeros((), jnp.int32), 1).init(params)


def shapes_of(problem: Problem, config: Hyper, features: tuple[int, ...]) -> tuple[PyTree, PyTree]:
    """Shapes and types of the parameters and running statistics of one configuration; nothing is computed."""
    x_spec = jax.ShapeDtypeStruct((1, *features), jnp.zeros(()).dtype)
    key = jax.eval_shape(lambda: jax.random.key(0))
    return jax.eval_shape(lambda key: problem.model.init(key, for_model(problem, config), x_spec), key)


def train_segment(
    problem: Problem, hyper: Hyper, member: Member, rows: Rows, noise: PRNGKeyArray
) -> tuple[Member, Float[Array, ""]]:
    """One pass over the rows in batches, in their order; an incomplete last batch is dropped.

    Args:
        problem: model, optimiser and loss.
        hyper: the member's own; `batch_size` is a Python int.
        member: the state before.
        rows: the training part in the order of this epoch.
        noise: the stream of noise during training; every step folds its number in.

    Returns:
        The state after, and the mean of the batches' losses.
    """
    size = hyper["batch_size"]
    steps = rows.x.shape[0] // size

    def step(member: Member, place: tuple[Int[Array, ""], PRNGKeyArray]) -> tuple[Member, Float[Array, ""]]:
        index, key = place
        batch = Rows(_slice(rows.x, index * size, size), _slice(rows.y, index * size, size))
        return _train_step(problem, hyper, member, batch, key, steps)

    places = jnp.arange(steps)
    # all keys at once: one key in every step would cost more than half of a small step
    keys = jax.vmap(functools.partial(jax.random.fold_in, noise))(member.step + places)
    member, losses = jax.lax.scan(step, member, (places, keys))
    return member, jnp.mean(losses)


def train_block(
    problem: Problem, hyper: Hyper, member: Member, block: Block, noise: PRNGKeyArray, course: Course
) -> tuple[Member, Float[Array, ""]]:
    """The part of `train_segment` that a block is: all batches that end in it.

    With b the batch size, these are the batches `start // b` to `end // b - 1` of the epoch. All blocks of an epoch
    after each other are one pass over its rows; no row is left out at a border.

    Args:
        problem: model, optimiser and loss.
        hyper: the member's own; `batch_size` is a Python int.
        member: the state before.
        block: its rows.
        noise: the stream of noise during training; every step folds its number in.
        course: of the epoch.

    Returns:
        The state after, and what the block adds to the mean of the epoch's losses.
    """
    size = hyper["batch_size"]
    steps, most = course.rows // size, -(-course.block_rows // size)
    first, until = block.start // size, block.end // size
    keys = jax.vmap(functools.partial(jax.random.fold_in, noise))(member.step + jnp.arange(most))

    def step(
        index: Int[Array, ""], carry: tuple[Member, Float[Array, " most"]]
    ) -> tuple[Member, Float[Array, " most"]]:
        member, losses = carry
        place = (first + index) * size - block.first
        batch = jax.tree.map(
            lambda a: jax.lax.dynamic_slice_in_dim(a, place, size, allow_negative_indices=False), block.rows
        )
        member, value = _train_step(problem, hyper, member, batch, keys[index], steps)
        return member, losses.at[index].set(value)

    member, losses = jax.lax.fori_loop(0, until - first, step, (member, jnp.zeros(min(most, steps))))
    return member, jnp.sum(losses) / steps


def update_ratios(
    problem: Problem, hyper: Hyper, member: Member, rows: Rows, key: PRNGKeyArray, steps: int
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """The loss of the next step, and how far it would move each kernel: `|w' - w| / |w|`, by its path.

    Args:
        problem: model, optimiser and loss.
        hyper: the member's own.
        member: the state, which stays as it is.
        rows: the batch of that step.
        key: its noise.
        steps: of an epoch.
    """
    moved, loss = _train_step(problem, hyper, member, rows, key, steps)
    before, after = (dict(_kernels(own.params)) for own in (member, moved))
    return loss, {path: _norm(after[path] - own) / _norm(own) for path, own in before.items()}


def _kernels(params: PyTree) -> Iterator[tuple[str, Array]]:
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if leaf.ndim > 1:
            yield jax.tree_util.keystr(path, simple=True, separator="/"), leaf


def _norm(values: Array) -> Float[Array, ""]:
    return jnp.sqrt(jnp.sum(jnp.square(values)))


def infer(
    problem: Problem, hyper: Hyper, params: PyTree, stats: PyTree, x: Array
) -> Float[Array, "rows outputs"]:
    """What the network puts out for normalised features, with the running statistics."""
    return problem.model.infer(params, stats, x, hyper=for_model(problem, hyper))


def evaluate(
    problem: Problem, hyper: Hyper, params: PyTree, stats: PyTree, rows: Rows
) -> dict[str, Float[Array, ""]]:
    """Mean loss and every metric at inference, with the running statistics; metrics in the unit of the data."""
    outputs = fitting(infer(problem, hyper, params, stats, rows.x), rows.y)
    loss = jnp.mean(problem.loss.values(hyper, outputs, rows.y, training=False))
    in_unit = [in_data_unit(values, rows.unit) for values in (outputs, rows.y)]
    return {metric.name: metric.value(*in_unit) for metric in problem.metrics} | {"loss": loss}


def fitting(outputs: Float[Array, "rows outputs"], targets: Num[Array, "rows *numbers"]) -> Array:
    """Outputs as losses and metrics take them: `[rows]` where there is one a row and the targets are `[rows]`."""
    return outputs[:, 0] if targets.ndim == 1 and outputs.shape[1] == 1 else outputs


def in_data_unit(values: Num[Array, "rows *numbers"], unit: Normalizer | None) -> Num[Array, "rows *numbers"]:
    """Numbers in the unit of the data, from standardised ones."""
    if unit is None:
        return values
    factor = jnp.asarray(unit.factor, values.dtype)[None, :]
    deviation = jnp.where(factor == 0, 0, 1 / jnp.where(factor == 0, 1, factor))
    flat = values.reshape(len(values), -1) * deviation + jnp.asarray(unit.mean, values.dtype)[None, :]
    return flat.reshape(values.shape)


def _slice(values: Array, start: Int[Array, ""], size: int) -> Array:
    return jax.lax.dynamic_slice_in_dim(values, start, size, allow_negative_indices=False)


def _train_step(
    problem: Problem, hyper: Hyper, member: Member, batch: Rows, key: PRNGKeyArray, steps: int
) -> tuple[Member, Float[Array, ""]]:
    x = _augmented(problem, batch.x, key)

    def loss(params: PyTree) -> tuple[Float[Array, ""], PyTree]:
        outputs, stats = problem.model.train(
            params, member.stats, x, key=key, hyper=for_model(problem, hyper), mask=None
        )
        _check_outputs(problem, outputs, batch.y)
        _check_stats(problem, member.stats, stats)
        losses = problem.loss.values(hyper, fitting(outputs, batch.y), batch.y, training=True)
        return jnp.mean(_weighted(problem, losses, batch.y)), stats

    (value, stats), gradient = jax.value_and_grad(loss, has_aux=True)(member.params)
    if "clip_norm" in hyper:
        gradient = clipped(gradient, hyper["clip_norm"])
    transform = _transform(problem, hyper, member.step, steps)
    updates, opt_state = transform.update(gradient, member.opt_state, member.params)
    params = optax.apply_updates(member.params, updates)
    return Member(params, stats, opt_state, member.step + 1), value


def _augmented(problem: Problem, x: Array, key: PRNGKeyArray) -> Array:
    """The batch as it is trained on."""
    if problem.augment is None:
        return x
    changed = problem.augment(jax.random.fold_in(key, _AUGMENT), x)
    if jnp.shape(changed) != x.shape or jnp.result_type(changed) != x.dtype:
        raise InputError(
            f"augment must keep the shape and type of a batch, {x.dtype}{list(x.shape)}, but returned "
            f"{jnp.result_type(changed)}{list(jnp.shape(changed))}"
        )
    return changed


def _weighted(problem: Problem, losses: Float[Array, " rows"], targets: Array) -> Float[Array, " rows"]:
    return losses if problem.weights is None else losses * jnp.asarray(problem.weights, losses.dtype)[targets]


def _check_outputs(problem: Problem, outputs: Array, targets: Array) -> None:
    expected = (targets.shape[0], problem.outputs)
    if getattr(outputs, "shape", None) != expected:
        raise InputError(
            f"a model must put out {expected[1]} numbers a row here, {list(expected)} for a batch of "
            f"{expected[0]} rows, but {problem.model.name!r} puts out "
            f"{list(outputs.shape) if hasattr(outputs, 'shape') else type(outputs).__name__}; take `outputs` as an "
            f"argument where it is made"
        )


def _check_stats(problem: Problem, before: PyTree, after: PyTree) -> None:
    """Training must leave structure, shapes and types of the state as they are."""
    old, new = (
        {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(stats)}
        for stats in (before, after)
    )
    for path in [*old, *new]:
        left, right = (_described(stats.get(path)) for stats in (old, new))
        if left != right:
            raise InputError(
                f"training must not change what the state of a model is, but in that of {problem.model.name!r} "
                f"stats{path} was {left} before a step and is {right} after it; return it in the same place, "
                f"shape and type"
            )


def _described(leaf: Any) -> str:
    return "missing" if leaf is None else f"{jnp.result_type(leaf)}{list(jnp.shape(leaf))}"


def _transform(
    problem: Problem, hyper: Hyper, step: Int[Array, ""], steps: int
) -> optax.GradientTransformation:
    """The optimiser of a step; an epoch has so many."""
    epoch = step // steps
    within = (step - epoch * steps + 0.5) / steps  # neither a first nor a last step has a rate of 0
    return problem.optimizer.transform(hyper, scheduled(hyper, epoch, within))


def for_model(problem: Problem, hyper: Hyper) -> dict[str, Any]:
    """What of a configuration the model has, and the number of outputs."""
    names = {entry.name for entry in problem.model.hyperparameters}
    return {name: value for name, value in hyper.items() if name in names} | {"outputs": problem.outputs}
