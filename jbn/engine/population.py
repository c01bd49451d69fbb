"""Members stacked on slots, as few arrays: what a call takes grows with how many arrays it gives back.

All arrays of a member that have the same type lie behind one another in a row, a member a row. Programs read and
write a member where it lies.
"""

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PyTree


class Packing(NamedTuple):
    """Where the arrays of a member lie; made by `packing`.

    Args:
        tree: their structure.
        shapes: of each.
        dtypes: of each, by name: that of their rows.
        starts: of each, in its row.
        sizes: entries of a row, by type.
    """

    tree: Any
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[str, ...]
    starts: tuple[int, ...]
    sizes: tuple[tuple[str, int], ...]


@functools.lru_cache(maxsize=4096)  # the same object again: calls compare it
def _packing(tree: Any, shapes: tuple[tuple[int, ...], ...], dtypes: tuple[str, ...]) -> Packing:
    ends, starts = dict.fromkeys(sorted(set(dtypes)), 0), []
    for shape, dtype in zip(shapes, dtypes, strict=True):
        starts.append(ends[dtype])
        ends[dtype] += math.prod(shape)
    return Packing(tree, shapes, dtypes, tuple(starts), tuple(ends.items()))


def packing(member: PyTree) -> Packing:
    """That of members whose arrays have these shapes and types.

    >>> packing({"count": jnp.zeros((), jnp.int32), "w": jnp.zeros((2, 3)), "b": jnp.zeros(3)}).sizes
    (('float32', 9), ('int32', 1))
    """
    leaves, tree = jax.tree.flatten(member)
    return _packing(tree, tuple(leaf.shape for leaf in leaves), tuple(leaf.dtype.name for leaf in leaves))


@jax.tree_util.register_pytree_node_class
class Population:
    """Members stacked on slots.

    Args:
        rows: `[slots, entries]` by type, on a device or on the host.
        packing: where the arrays of a member lie in them.

    >>> members = {"count": jnp.arange(2), "w": jnp.ones((2, 3, 4))}
    >>> population = Population.of(members)
    >>> {name: rows.shape for name, rows in population.rows.items()}
    {'float32': (2, 12), 'int32': (2, 1)}
    >>> own = population.take(jnp.array([1]))
    >>> own["count"].item(), own["w"].shape
    (1, (3, 4))
    """

    def __init__(self, rows: dict[str, Any], packing: Packing):
        self.rows, self.packing = rows, packing

    @classmethod
    def of(cls, members: PyTree) -> "Population":
        """Of members whose arrays are stacked on a leading axis of slots."""
        leaves, tree = jax.tree.flatten(members)
        dtypes = tuple(leaf.dtype.name for leaf in leaves)
        own = _packing(tree, tuple(leaf.shape[1:] for leaf in leaves), dtypes)
        flat: dict[str, list[Array]] = {name: [] for name, _ in own.sizes}
        for leaf, dtype in zip(leaves, dtypes, strict=True):
            flat[dtype].append(leaf.reshape(leaf.shape[0], math.prod(leaf.shape[1:])))
        return cls({name: jnp.concatenate(each, axis=1) for name, each in flat.items()}, own)

    @classmethod
    def zeros(cls, member: PyTree, slots: int) -> "Population":
        """Empty slots on the host, for members of these shapes and types; they cost no memory yet."""
        own = packing(member)
        return cls({name: np.zeros((slots, size), jnp.dtype(name)) for name, size in own.sizes}, own)

    def take(self, place: Int[Array, " tile"]) -> PyTree:
        """The members at these places, those beyond the last as it; the one of a tile of one without the axis.

        XLA treats a batch of one worse than none.
        """

        def one(place: Int[Array, ""]) -> PyTree:
            return self._unflatten(
                self.rows,
                lambda rows, start, shape: jax.lax.dynamic_slice(
                    rows, (place, place.dtype.type(start)), (1, math.prod(shape))
                ).reshape(shape),
            )

        return one(place[0]) if place.shape[0] == 1 else jax.vmap(one)(place)

    def put(self, members: PyTree, place: Int[Array, " tile"]) -> "Population":
        """With members that `take` took at these places; what is beyond the last, in no tile of one, is dropped."""
        rows, tile = dict(self.rows), place.shape[0]
        for leaf, (name, start, shape) in zip(jax.tree.leaves(members), self._places(), strict=True):
            size = math.prod(shape)
            own = leaf.reshape(tile, size)
            if tile == 1:
                rows[name] = jax.lax.dynamic_update_slice(
                    rows[name], own, (place[0], place.dtype.type(start))
                )
            else:
                rows[name] = rows[name].at[place, start : start + size].set(own, mode="drop")
        return Population(rows, self.packing)

    def member(self, slot: int) -> PyTree:
        """A copy of a member, on the host."""
        rows = {name: np.array(own[slot]) for name, own in self.rows.items()}
        return self._unflatten(
            rows, lambda row, start, shape: row[start : start + math.prod(shape)].reshape(shape)
        )

    def views(self) -> PyTree:
        """All members, their arrays stacked on slots: views of rows that are on the host."""
        return self._unflatten(
            self.rows,
            lambda rows, start, shape: rows[:, start : start + math.prod(shape)].reshape(len(rows), *shape),
        )

    def on_host(self) -> "Population":
        """Views of rows on a CPU, copies of those on another device.

        A view stays no longer than it is used: a buffer with a view cannot be updated in place.
        """
        return Population({name: np.asarray(rows) for name, rows in self.rows.items()}, self.packing)

    def _places(self) -> Iterator[tuple[str, int, tuple[int, ...]]]:
        own = self.packing
        return zip(own.dtypes, own.starts, own.shapes, strict=True)

    def _unflatten(self, rows: Mapping[str, Any], leaf: Callable[[Any, int, tuple[int, ...]], Any]) -> PyTree:
        """Of what is made of its row, or rows, the start and the shape of each array."""
        return jax.tree.unflatten(
            self.packing.tree, [leaf(rows[name], start, shape) for name, start, shape in self._places()]
        )

    def tree_flatten(self) -> tuple[tuple[Any, ...], Packing]:
        """For JAX."""
        return tuple(self.rows.values()), self.packing

    @classmethod
    def tree_unflatten(cls, packing: Packing, rows: Sequence[Any]) -> "Population":
        """For JAX."""
        return cls(dict(zip((name for name, _ in packing.sizes), rows, strict=True)), packing)
