"""Small leaves of a tree as one vector, for transformations that treat every entry alike.

A network has many small parameters (scales, biases), and an operation on one costs a program about as much to
compile and to start as one on a large kernel.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

_SMALL = 1024  # entries


class Packed(NamedTuple):
    """A tree's leaves: the small ones end to end, the large ones as they are."""

    small: Float[Array, " entries"]
    large: tuple[Array, ...]


def pack(tree: PyTree) -> Packed:
    """Packs a tree of floating leaves; small ones of several types take the widest.

    >>> import jax.numpy as jnp
    >>> packed = pack({"bias": jnp.zeros(3), "kernel": jnp.zeros((64, 64)), "scale": jnp.ones(2)})
    >>> packed.small.tolist(), len(packed.large)
    ([0.0, 0.0, 0.0, 1.0, 1.0], 1)
    """
    leaves = jax.tree.leaves(tree)
    small = [leaf.reshape(-1) for leaf in leaves if leaf.size <= _SMALL]
    return Packed(
        jnp.concatenate(small) if small else jnp.zeros(0), tuple(a for a in leaves if a.size > _SMALL)
    )


def unpack(packed: Packed, like: PyTree) -> PyTree:
    """The tree that was packed; `like` has its structure and shapes."""
    large, start, leaves = iter(packed.large), 0, []
    for leaf in jax.tree.leaves(like):
        if leaf.size > _SMALL:
            leaves.append(next(large))
        elif leaf.size == 0:
            leaves.append(jnp.zeros(leaf.shape, leaf.dtype))
        else:
            stop = start + math.prod(leaf.shape)
            leaves.append(packed.small[start:stop].reshape(leaf.shape).astype(leaf.dtype))
            start = stop
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def packed(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """The same transformation on packed trees; `inner` must treat every entry alike, whatever its leaf."""

    def init(params: optax.Params) -> Any:
        return inner.init(pack(params))

    def update(gradient: optax.Updates, state: Any, params: optax.Params | None = None) -> tuple[Any, Any]:
        own = None if params is None else pack(params)
        updates, state = inner.update(pack(gradient), state, own)
        return unpack(updates, gradient), state

    return optax.GradientTransformation(init, update)
