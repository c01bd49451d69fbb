"""The compiled programs: what initialises, trains and evaluates a chunk of slots.

A chunk has a fixed number of slots for each of a few cohorts. One call trains its live slots for one segment: a
sequential loop over tiles of `tile` members, `vmap` within a tile. Which slots are live, and how many, are
arguments, so neither the number of configurations nor what a policy stops changes a compiled shape.

Several cohorts in one program cost little more to compile than one: XLA compiles equal kernels once a program.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from jbn.engine.population import Population
from jbn.nn.model import Hyper
from jbn.task import member as members
from jbn.task.hyper import Structure, Traced, bind
from jbn.task.member import Block, Course, Member, Problem, Rows


class Trained(NamedTuple):
    """What came of a segment of a cohort, one entry a slot.

    Args:
        loss: NaN where a slot is not live; where an epoch comes in blocks, what a block adds to the mean.
        step: steps taken since the beginning; 0 where a slot is not live.
    """

    loss: Float[Array, " slots"]
    step: Int[Array, " slots"]


class Live(NamedTuple):
    """Which slots of a cohort take part.

    Args:
        order: slots, the live ones first, `[slots]`.
        size: how many are live.
    """

    order: Int[Array | np.ndarray, " slots"]
    size: Int[Array | np.ndarray, ""]


@functools.lru_cache(maxsize=256)
def init_program(problem: Problem, structures: tuple[Structure, ...]) -> Callable[..., Any]:
    """`init(traced, key, rows) -> populations`: every slot at its initial state, one population a cohort.

    Initial states do not depend on the batch size. The same arguments give the same program, compiled on demand.
    """

    def init(traced: tuple[Traced, ...], key: PRNGKeyArray, rows: Rows) -> tuple[Population, ...]:
        def populate(structure: Structure, numbers: Traced) -> Population:
            each = jax.vmap(lambda own: members.init(problem, bind(structure, own), key, rows))
            return Population.of(each(numbers))

        return tuple(populate(*cohort) for cohort in zip(structures, traced, strict=True))

    return jax.jit(init)


@functools.lru_cache(maxsize=256)
def train_program(
    problem: Problem,
    structures: tuple[Structure, ...],
    tile: int,
    donate: bool = True,
    course: Course | None = None,
) -> Callable[..., Any]:
    """`train(populations, traced, live, rows, noise) -> populations, trained`: one segment, cohort by cohort.

    The populations are updated in place if they are donated. Where an epoch comes in blocks, `rows` is one; where
    epochs differ between cohorts, it is a tuple of each one's.
    """

    def pass_over(hyper: Hyper, member: Member, rows: Rows | Block, noise: PRNGKeyArray) -> Any:
        if isinstance(rows, Rows):
            return members.train_segment(problem, hyper, member, rows, noise)
        assert course is not None
        return members.train_block(problem, hyper, member, rows, noise, course)

    def train(
        populations: tuple[Population, ...],
        traced: tuple[Traced, ...],
        live: tuple[Live, ...],
        rows: Rows | Block | tuple[Rows, ...],
        noise: PRNGKeyArray,
    ) -> tuple[tuple[Population, ...], tuple[Trained, ...]]:
        def cohort(
            structure: Structure, population: Population, numbers: Traced, live: Live, rows: Rows | Block
        ) -> tuple[Any, Any]:
            def one(member: Member, own: Traced) -> tuple[Member, Trained]:
                member, loss = pass_over(bind(structure, own), member, rows, noise)
                return member, Trained(loss, member.step)

            nothing = Trained(_unknown(live), jnp.zeros(live.order.shape, jnp.int32))
            return over_tiles(one, population, numbers, nothing, live, tile)

        each = (rows,) * len(structures) if isinstance(rows, Rows | Block) else rows
        trained = [cohort(*own) for own in zip(structures, populations, traced, live, each, strict=True)]
        return tuple(population for population, _ in trained), tuple(own for _, own in trained)

    return jax.jit(train, donate_argnums=(0,) if donate else ())


@functools.lru_cache(maxsize=256)
def evaluate_program(problem: Problem, structures: tuple[Structure, ...], tile: int) -> Callable[..., Any]:
    """`evaluate(populations, traced, live, rows) -> ({"loss": losses, ...}, ...)`, one entry a slot.

    It does not depend on the batch size.
    """

    def evaluate(
        populations: tuple[Population, ...],
        traced: tuple[Traced, ...],
        live: tuple[Live, ...],
        rows: Rows,
    ) -> tuple[dict[str, Float[Array, " slots"]], ...]:
        def cohort(structure: Structure, population: Population, numbers: Traced, live: Live) -> Any:
            def one(state: None, own: tuple[Member, Traced]) -> tuple[None, PyTree]:
                member, traced = own
                hyper = bind(structure, traced)
                return None, members.evaluate(problem, hyper, member.params, member.stats, rows)

            unknown = {name: _unknown(live) for name in problem.measured}
            return over_tiles(one, None, (population, numbers), unknown, live, tile)[1]

        return tuple(cohort(*own) for own in zip(structures, populations, traced, live, strict=True))

    return jax.jit(evaluate)


def over_tiles(
    one: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]],
    states: PyTree,
    inputs: PyTree,
    outputs: PyTree,
    live: Live,
    tile: int,
) -> tuple[PyTree, PyTree]:
    """Applies `one(state, input) -> state, output` to the live slots, tile by tile; all others stay as they are.

    The last tile may be ragged: its surplus entries compute something that is written nowhere.

    Args:
        one: what is done to a slot.
        states: what changes, `[slots, ...]`; where it is a population, a state is a member.
        inputs: what does not, the same.
        outputs: what stands for the output of a slot that is not live, `[slots, ...]`.
        live: which slots take part.
        tile: slots that one iteration takes side by side.

    Returns:
        The new states and the outputs.

    >>> import jax.numpy as jnp
    >>> live = Live(jnp.array([2, 0, 1]), jnp.array(2))
    >>> start, step, unknown = jnp.zeros(3), jnp.ones(3), jnp.full(3, -1.0)
    >>> states, outputs = over_tiles(lambda s, x: (s + x, s), start, step, unknown, live, 2)
    >>> states.tolist(), outputs.tolist()
    ([1.0, 0.0, 1.0], [0.0, -1.0, 0.0])
    """
    slots = live.order.shape[0]
    places = jnp.where(jnp.arange(slots) < live.size, live.order, slots)
    places = jnp.concatenate([places, jnp.full(-slots % tile, slots, places.dtype)])

    def body(index: Int[Array, ""], carry: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
        place = jax.lax.dynamic_slice_in_dim(places, index * tile, tile)
        own = _take((carry[0], inputs), place)
        return _put(carry, one(*own) if tile == 1 else jax.vmap(one)(*own), place)

    return jax.lax.fori_loop(0, (live.size + tile - 1) // tile, body, (states, outputs))


def _unknown(live: Live) -> Float[Array, " slots"]:
    return jnp.full(live.order.shape, jnp.nan)


def _take(tree: PyTree, place: Int[Array, " tile"]) -> PyTree:
    """The entries at these places; for a tile of one without the axis: XLA treats a batch of one worse than none."""

    def taken(own: Array | Population) -> Any:
        if isinstance(own, Population):
            return own.take(place)
        if place.shape[0] == 1:
            return jax.lax.dynamic_index_in_dim(own, place[0], keepdims=False)
        return own.at[place].get(mode="clip")

    return jax.tree.map(taken, tree, is_leaf=_is_population)


def _put(tree: PyTree, values: PyTree, place: Int[Array, " tile"]) -> PyTree:
    """Writes what `_take` took; a tile of one is never ragged, in others surplus places are dropped."""

    def written(own: Array | Population, value: Any) -> Any:
        if isinstance(own, Population):
            return own.put(value, place)
        if place.shape[0] == 1:
            return jax.lax.dynamic_update_index_in_dim(own, value, place[0], 0)
        return own.at[place].set(value, mode="drop")

    return jax.tree.map(written, tree, values, is_leaf=_is_population)


def _is_population(own: Any) -> bool:
    return isinstance(own, Population)
