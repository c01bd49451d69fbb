"""One network that is trained segment by segment, with hyper-parameters that may change in between."""

import functools
import hashlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray, PyTree

from jbn.engine.arithmetic import member_shapes
from jbn.engine.cohorts import Cohort
from jbn.engine.engine import Engine
from jbn.engine.plan import Plan
from jbn.engine.workers import Workers
from jbn.errors import InputError
from jbn.task import member as members
from jbn.task.hyper import Structure, bind
from jbn.task.member import Member, Problem, Rows
from jbn.task.streams import streams
from jbn.task.task import Task
from jbn.task.train_function import split

_LENGTH = "schedule_epochs"
_ENDING = ("cosine", "one_cycle")  # schedules that need to know how long training is


class State(NamedTuple):
    """A network between two segments.

    Args:
        member: parameters, running statistics, optimiser state and steps.
        optimizer: whose state it is.
        segment: how many were trained.
    """

    member: Member
    optimizer: str
    segment: int


class Seen(NamedTuple):
    """What a segment showed.

    Args:
        train_loss: mean loss of its batches.
        validation: "loss" and every metric by name.
        first_loss: of a batch before its first step.
        ratios: `|update| / |weights|` of that step, by kernel.
    """

    train_loss: float
    validation: dict[str, float]
    first_loss: float
    ratios: dict[str, float]


class Trainee:
    """Trains one network; what it was compiled for stays while it is of use.

    Args:
        task: what is trained.
        key: of all random streams.
    """

    def __init__(self, task: Task, key: PRNGKeyArray):
        self._task, self.key = task, key
        self._workers = Workers(1)
        self._engine: Engine | None = None
        self._built: Any = None

    def task(self, config: Mapping[str, Any]) -> Task:
        """The task with the optimiser of a configuration."""
        return self._task.with_optimizer(config.get("optimizer")).settled(_own(config), epochs=1)

    def complete(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """A configuration with the defaults of everything that it leaves open, checked.

        Raises:
            InputError: an unknown name, or a value that is not allowed.
        """
        name = config.get("optimizer", next(iter(self._task.optimizers)))
        self._task.with_optimizer(name).check(_own(config))
        own = self.task({**config, "optimizer": name})
        defaults = {known: value for known, value in own.defaults().items() if known != _LENGTH}
        full = {**defaults, **_own(config), "optimizer": name}
        if _LENGTH not in full and (full["schedule"] in _ENDING or full["warmup"]):
            raise InputError(
                f"{_LENGTH} must say how long training is to be where schedule is {full['schedule']} and "
                f"warmup {full['warmup']:g}: training one network has no end of its own"
            )
        return full

    def programs(self, config: Mapping[str, Any]) -> Any:
        """What programs depend on: equal for configurations that need the same."""
        return _built_for(self.task(config), config)

    def compiled_for(self, config: Mapping[str, Any]) -> bool:
        """Whether nothing is left to compile for a configuration."""
        return self._built == self.programs(config)

    def start(self, config: Mapping[str, Any]) -> State:
        """The network before its first step."""
        self._built = None  # what was trained before is none of it
        return State(self._prepared(config).state(0), config["optimizer"], 0)

    def advance(self, state: State, config: Mapping[str, Any]) -> tuple[State, Seen]:
        """One segment more with these settings.

        Where they have another optimiser, that one begins anew; where they have another batch size, the steps so far
        count as so many epochs.
        """
        engine, task = self._prepared(config), self.task(config)
        engine.edit(np.zeros((0, 2), np.int64), _numbers(task, config))
        before = self._fitting(state, config, task)
        engine.put(0, before)
        loss, ratios = self._first_step(before, config, task)
        segment = engine.advance(state.segment, np.ones(1, bool))
        after = State(engine.state(0), config["optimizer"], state.segment + 1)
        validation = {name: float(values[0]) for name, values in segment.metrics.validation.items()}
        return after, Seen(float(segment.metrics.train_loss[0]), validation, loss, ratios)

    def shapes(self, config: Mapping[str, Any]) -> Member:
        """Shapes and types of the state of a network with these settings."""
        task = self.task(config)
        return member_shapes(task, split(task, _own(config))[0])

    def close(self) -> None:
        """Lets go of the workers."""
        self._workers.close()

    def _prepared(self, config: Mapping[str, Any]) -> Engine:
        task = self.task(config)
        built = _built_for(task, config)
        if self._engine is None or built != self._built:
            columns = {name: np.array([value]) for name, value in _own(config).items()}
            layout = Plan(((Cohort(built[0], np.arange(1)),),), tile=1, slots=1)
            self._engine = Engine(task, columns, layout, key=self.key, workers=self._workers)
            self._engine.begin()
            self._built = built
        return self._engine

    def _fitting(self, state: State, config: Mapping[str, Any], task: Task) -> Member:
        """The state for these settings: optimiser and number of steps."""
        member = state.member
        if state.optimizer != config["optimizer"]:
            structure, traced = split(task, _own(config))
            fresh = members.optimizer_state(task.problem, bind(structure, traced), member.params)
            member = member._replace(opt_state=jax.tree.map(np.array, fresh))
        steps = state.segment * task.steps(config["batch_size"])
        return member._replace(step=jnp.asarray(steps, jnp.int32))

    def _first_step(
        self, member: Member, config: Mapping[str, Any], task: Task
    ) -> tuple[float, dict[str, float]]:
        """Loss and ratios of a step with the first batch of the training part."""
        structure, traced = split(task, _own(config))
        size, own = config["batch_size"], task.arrays()
        part = task.data.first(size)
        targets = (
            part.y if own.train.unit is None else own.train.unit.apply(_table(part.y)).reshape(part.y.shape)
        )
        rows = Rows(own.normalizer.apply(part.x), jnp.asarray(targets, own.validation.y.dtype))
        key = jax.random.fold_in(streams(self.key).noise, member.step)
        steps = task.steps(size)
        loss, found = _first_step_program(task.problem, structure, steps)(member, traced, rows, key)
        return float(loss), {path: float(value) for path, value in found.items()}


def digest(state: State) -> str:
    """A number for all bits of a state, in hexadecimal digits."""
    found = hashlib.sha256(f"{state.optimizer} {state.segment}".encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(state.member):
        array = np.asarray(leaf)
        found.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        found.update(array.tobytes())
    return found.hexdigest()


@functools.lru_cache(maxsize=32)
def _first_step_program(problem: Problem, structure: Structure, steps: int) -> Callable[..., Any]:
    def look(member: Member, traced: PyTree, rows: Rows, key: PRNGKeyArray) -> Any:
        return members.update_ratios(problem, bind(structure, traced), member, rows, key, steps)

    return jax.jit(look)


def _built_for(task: Task, config: Mapping[str, Any]) -> tuple[Structure, str, tuple[str, ...]]:
    """What programs depend on."""
    structure, traced = split(task, _own(config))
    return structure, config["optimizer"], tuple(traced)


def _numbers(task: Task, config: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """What programs take as arguments."""
    full, traced = {**task.defaults(), **config}, split(task, _own(config))[1]
    return {name: np.array([full[name]], np.float64) for name in traced}


def _own(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name != "optimizer"}


def _table(y: np.ndarray) -> np.ndarray:
    return y.reshape(len(y), -1)
