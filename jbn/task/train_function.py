"""The whole run of one configuration as a pure function, for people who write their own transformations."""

import functools
import operator
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

from jbn.errors import InputError
from jbn.nn.model import HyperParameter, check_values
from jbn.task import member as members
from jbn.task.data import Blocks
from jbn.task.hyper import Structure, bind, check_names, numbers
from jbn.task.member import Member, Metrics, Rows
from jbn.task.metrics import on_test
from jbn.task.optimizer_choice import names_of, pick
from jbn.task.streams import order, order_of_steps, streams
from jbn.task.task import Task

TrainFunction = Callable[[Mapping[str, Any], PRNGKeyArray], tuple[Metrics, PyTree, PyTree]]


def train_function(task: Task, *, epochs: int, capacity: Mapping[str, int] | None = None) -> TrainFunction:
    """`train(config, key) -> metrics, params, stats`: pure, safe under `jit`, `vmap` and `grad`.

    `train` runs the same experiment as the member of a sweep with this configuration, the same key and seed
    index 0. Numbers such as the learning rate may be traced: map over them, differentiate through them. What
    gives arrays their shapes (`layers`, `batch_size`, ...) must be Python numbers, and `optimizer` a Python string:
    close over them. What only other optimisers of the task have is ignored where there is an `optimizer`.

    Args:
        task: what is trained.
        epochs: how many, at least 1.
        capacity: sizes for padded hyper-parameters, e.g. `{"hidden_units": 100}`, so that these may be traced
            too: smaller members are padded to it, exactly.

    Returns:
        The function. Its `config` maps names of hyper-parameters to scalars, its `key` is that of a sweep. It
        returns `Metrics` with one entry an epoch (`[epochs]`), the final parameters and running statistics.

    Raises:
        InputError: fewer than 1 epoch, a training part that is read in blocks; by `train`: an unknown name, a
            value that is not allowed, or a traced value where a Python number is needed, at trace time.

    >>> import jax, jbn
    >>> task = jbn.Task(model=jbn.mlp(layers=1, hidden_units=8), data=jbn.data.digits())
    >>> train = jbn.train_function(task, epochs=2)
    >>> rates = jax.numpy.array([1e-4, 1e-2])
    >>> run = jax.vmap(lambda rate, key: train({"learning_rate": rate, "batch_size": 256}, key), (0, None))
    >>> metrics, params, stats = jax.jit(run)(rates, jax.random.key(0))
    >>> metrics.validation_loss.shape
    (2, 2)
    """
    if epochs < 1:
        raise InputError(f"epochs must be at least 1, but got {epochs}")
    if isinstance(task.data.train, Blocks):
        raise InputError(
            f"a pure function must have its data in memory, but the training part is {task.data.train}; "
            f"give jbn.data.arrays(...), or train with jbn.sweep"
        )
    arrays, sizes = task.arrays(), dict(capacity or {})

    def train(config: Mapping[str, Any], key: PRNGKeyArray) -> tuple[Metrics, PyTree, PyTree]:
        own, config = _of_its_optimizer(task, config)
        check_names([*own.hyperparameters, "optimizer"], [*config, *sizes])
        own.check({name: value for name, value in config.items() if not isinstance(value, jax.core.Tracer)})
        own = own.settled(config, epochs=epochs)
        structure, traced = split(own, config, sizes)
        hyper = bind(structure, traced)
        keys, rows, size = streams(key), len(arrays.train.y), hyper["batch_size"]
        place = functools.partial(order, rows=rows)
        if (steps := own.steps_per_epoch) is not None:
            place = functools.partial(order_of_steps, rows=rows, batch_size=size, steps=steps)

        def epoch(member: Member, index: Int[Array, ""]) -> tuple[Member, Metrics]:
            shuffled = _take(arrays.train, place(keys.order, index))
            member, loss = members.train_segment(own.problem, hyper, member, shuffled, keys.noise)
            judged = functools.partial(members.evaluate, own.problem, hyper, member.params, member.stats)
            test = {} if arrays.test is None else judged(arrays.test)
            tested = {on_test(name): value for name, value in test.items()}
            return member, Metrics(loss, judged(arrays.validation) | tested)

        start = members.init(own.problem, hyper, keys.initial, arrays.train)
        final, metrics = jax.lax.scan(epoch, start, jnp.arange(epochs))
        return metrics, final.params, final.stats

    return train


def _of_its_optimizer(task: Task, config: Mapping[str, Any]) -> tuple[Task, Mapping[str, Any]]:
    """The task with the optimiser of a configuration, and what of the configuration is not another one's."""
    if "optimizer" not in config:
        return task, config
    own = task.with_optimizer(pick(task.optimizers, config["optimizer"]).name)
    others = names_of(task.optimizers.values()) - own.hyperparameters.keys() | {"optimizer"}
    return own, {name: value for name, value in config.items() if name not in others}


def _take(rows: Rows, order: Int[Array, " rows"]) -> Rows:
    return rows._replace(x=rows.x[order], y=rows.y[order])


def split(
    task: Task, config: Mapping[str, Any], sizes: Mapping[str, int] = MappingProxyType({})
) -> tuple[Structure, dict[str, Any]]:
    """Structure and traced numbers of one configuration; sizes given as capacities are traced."""
    known = task.hyperparameters
    full = {**task.defaults(), **config}
    fixed = {
        name: sizes[name] if name in sizes else _static(known[name], value)
        for name, value in full.items()
        if known[name].kind != "traced"
    }
    traced = numbers(known, config)
    for name, size in sizes.items():
        check_values(known[name], size)
        traced[name] = jnp.asarray(full[name], jnp.int32)
    return Structure(tuple(sorted(fixed.items())), tuple(sorted(sizes))), traced


def _static(entry: HyperParameter, value: Any) -> Any:
    """A Python value of something that programs are built for."""
    if isinstance(value, jax.core.Tracer):
        hint = f', or pass capacity={{"{entry.name}": ...}}' if entry.kind == "padded" else ""
        raise InputError(
            f"{entry.name} gives arrays their shapes and must be a Python value, but a traced one came; "
            f'close over it: lambda rate, key: train({{"{entry.name}": ..., "learning_rate": rate}}, key){hint}'
        )
    if entry.whole:
        return operator.index(int(value))
    return value.item() if hasattr(value, "item") else value
