"""Changes of a population between segments: who copies whom, and which numbers are set."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int, PyTree

from jbn.engine.layout import Chunk, Part, Place
from jbn.task.hyper import numbers
from jbn.task.task import Task


def place_of(chunks: Sequence[Chunk], member: int) -> Place:
    """The chunk, the part of it and the slot of a member."""
    for chunk in chunks:
        for number, part in enumerate(chunk.parts):
            if len(slots := np.flatnonzero(part.members == member)):
                return Place(chunk, number, int(slots[0]))
    raise KeyError(member)


def state_of(place: Place) -> PyTree:
    """A copy of a member's state on the host, padding included."""
    if place.chunk.populations is None:
        raise RuntimeError("a member has no state yet: advance the population first")
    return place.chunk.populations[place.part].member(place.slot)


def copy_states(chunks: Sequence[Chunk], copies: Int[np.ndarray, "copies 2"]) -> None:
    """Every target gets the state that its source has now."""
    states = {target: state_of(place_of(chunks, source)) for source, target in copies.tolist()}
    put_states(chunks, states)


def put_states(chunks: Sequence[Chunk], states: Mapping[int, PyTree]) -> None:
    """Members get states, of the shapes that theirs have; chunks that change go on from the host."""
    places = {member: place_of(chunks, member) for member in states}
    for chunk in {id(place.chunk): place.chunk for place in places.values()}.values():
        chunk.populations = jax.tree.map(np.array, chunk.populations)
    for member, (chunk, part, slot) in places.items():
        assert chunk.populations is not None
        views = chunk.populations[part].views()
        jax.tree.map(lambda a, v, at=slot: a.__setitem__(at, v), views, states[member])


def set_numbers(
    task: Task,
    chunks: Sequence[Chunk],
    devices: Sequence[Any],
    values: Mapping[str, Float[np.ndarray, " members"]],
) -> None:
    """Members get other hyper-parameters that programs take as arguments; NaN leaves one as it is."""
    for chunk in chunks:
        parts = [_with_numbers(task, part, values, devices[chunk.device]) for part in chunk.parts]
        chunk.parts = tuple(parts)


def _with_numbers(task: Task, part: Part, values: Mapping[str, np.ndarray], device: Any) -> Part:
    known, traced = task.with_optimizer(part.structure.optimizer).hyperparameters, dict(part.traced)
    for name, own in values.items():
        at = part.live(~np.isnan(own))
        if len(at):
            new = numbers({name: known[name]}, {name: own[part.members[at]]})[name]
            changed = jax.tree.map(lambda old, value, at=at: _put(old, at, value), traced[name], new)
            traced[name] = jax.device_put(changed, device)
    return part._replace(traced=traced)


def _put(old: Any, at: np.ndarray, value: Any) -> np.ndarray:
    new = np.array(old)
    new[at] = value
    return new
