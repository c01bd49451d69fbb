"""One member of a population: its state, one segment of training, one evaluation. All pure."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from jbn.nn.model import Hyper, Model
from jbn.task.losses import Loss, accuracy
from jbn.task.optimizers import Optimizer, decayed


class Problem(NamedTuple):
    """What compiled programs depend on besides shapes; hashable."""

    model: Model
    optimizer: Optimizer
    loss: Loss
    outputs: int


class Rows(NamedTuple):
    """Features, normalised, and labels, on the device."""

    x: Float[Array, "rows *features"]
    y: Int[Array, " rows"]


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
    """What a segment is judged by: losses in nats, accuracy as a share of 1."""

    train_loss: Float[Array | np.ndarray, "..."]
    validation_loss: Float[Array | np.ndarray, "..."]
    validation_accuracy: Float[Array | np.ndarray, "..."]


def init(problem: Problem, hyper: Hyper, key: PRNGKeyArray, rows: Rows) -> Member:
    """A member before its first step; `key` is the stream of initial weights."""
    x_spec = jax.ShapeDtypeStruct((1, *rows.x.shape[1:]), rows.x.dtype)
    params, stats = problem.model.init(key, _for_model(problem, hyper), x_spec)
    opt_state = _transform(problem, hyper, jnp.zeros((), jnp.int32)).init(params)
    return Member(params, stats, opt_state, step=jnp.zeros((), jnp.int32))


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
        batch = jax.tree.map(
            lambda a: jax.lax.dynamic_slice_in_dim(a, index * size, size, allow_negative_indices=False), rows
        )
        return _train_step(problem, hyper, member, batch, key, epoch=member.step // steps)

    places = jnp.arange(steps)
    # all keys at once: one key in every step would cost more than half of a small step
    keys = jax.vmap(functools.partial(jax.random.fold_in, noise))(member.step + places)
    member, losses = jax.lax.scan(step, member, (places, keys))
    return member, jnp.mean(losses)


def infer(
    problem: Problem, hyper: Hyper, params: PyTree, stats: PyTree, x: Array
) -> Float[Array, "rows outputs"]:
    """What the network puts out for normalised features, with the running statistics."""
    return problem.model.infer(params, stats, x, hyper=_for_model(problem, hyper))


def evaluate(
    problem: Problem, hyper: Hyper, params: PyTree, stats: PyTree, rows: Rows
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Mean loss and accuracy at inference, with the running statistics."""
    outputs = infer(problem, hyper, params, stats, rows.x)
    return jnp.mean(problem.loss(outputs, rows.y)), jnp.mean(accuracy(outputs, rows.y))


def _train_step(
    problem: Problem, hyper: Hyper, member: Member, batch: Rows, key: PRNGKeyArray, epoch: Int[Array, ""]
) -> tuple[Member, Float[Array, ""]]:
    def loss(params: PyTree) -> tuple[Float[Array, ""], PyTree]:
        outputs, stats = problem.model.train(
            params, member.stats, batch.x, key=key, hyper=_for_model(problem, hyper), mask=None
        )
        return jnp.mean(problem.loss(outputs, batch.y)), stats

    (value, stats), gradient = jax.value_and_grad(loss, has_aux=True)(member.params)
    transform = _transform(problem, hyper, epoch)
    updates, opt_state = transform.update(gradient, member.opt_state, member.params)
    params = optax.apply_updates(member.params, updates)
    return Member(params, stats, opt_state, member.step + 1), value


def _transform(problem: Problem, hyper: Hyper, epoch: Int[Array, ""]) -> optax.GradientTransformation:
    return problem.optimizer.transform(hyper, decayed(hyper, epoch))


def _for_model(problem: Problem, hyper: Hyper) -> dict[str, Any]:
    names = {entry.name for entry in problem.model.hyperparameters}
    return {name: value for name, value in hyper.items() if name in names} | {"outputs": problem.outputs}
