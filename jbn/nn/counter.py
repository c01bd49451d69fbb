"""Random numbers from a counter: the value at a place depends on the key and the place alone.

A draw for `[row, unit]` is the same whatever the size of the array around it, so padding changes nothing, and
it costs a few integer operations, which XLA compiles in no time and fuses into what uses them.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer, PRNGKeyArray, UInt32


@functools.partial(jax.jit, static_argnames="shape")  # traced once a shape: tracing takes longer than drawing
def bits(
    key: PRNGKeyArray | UInt32[Array, " words"],
    shape: tuple[int, int],
    *,
    stream: int | Integer[Array, ""] = 0,
) -> UInt32[Array, "rows columns"]:
    """32 random bits for every place of a `[rows, columns]` array.

    Every word (key, stream, row, column) is added to a state that is then mixed by two rounds of
    multiply and xor-shift ("lowbias32", Wellons 2018), whose bias is below that of a hash with three
    random multiplications.

    Args:
        key: a typed JAX key or its words.
        shape: rows and columns; a larger array has a smaller one as its corner.
        stream: separates draws for different purposes under one key, e.g. layers.
    """
    words = jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key
    state = jnp.uint32(0x9E3779B9)
    for word in [*words.reshape(-1), jnp.asarray(stream, jnp.uint32)]:
        state = _mix(state + word)
    state = jax.lax.optimization_barrier(state)  # one kernel then serves all layers of a shape
    rows = _mix(state + jax.lax.iota(jnp.uint32, shape[0]))
    columns = _mix(jax.lax.iota(jnp.uint32, shape[1]))  # mixed: no two rows are shifts of one another
    return _mix(rows[:, None] + columns[None, :])


def uniform(
    key: PRNGKeyArray | UInt32[Array, " words"], shape: tuple[int, int], *, stream: int = 0
) -> Float[Array, "rows columns"]:
    """Uniform draws inside (0, 1), both ends excluded: multiples of 2^-23 plus half a step, exact in float32."""
    return ((bits(key, shape, stream=stream) >> 9).astype(float) + 0.5) * 2.0**-23


def symmetric(
    key: PRNGKeyArray | UInt32[Array, " words"], shape: tuple[int, int], *, stream: int = 0
) -> Float[Array, "rows columns"]:
    """Uniform draws inside (-1, 1), of mean 0 and variance 1/3, exact in float32.

    >>> import jax
    >>> small, large = (symmetric(jax.random.key(0), (2, n)) for n in (3, 5))
    >>> bool((small == large[:, :3]).all())
    True
    """
    return 2 * uniform(key, shape, stream=stream) - 1


def _mix(state: UInt32[Array, "..."]) -> UInt32[Array, "..."]:
    state = (state ^ (state >> 16)) * jnp.uint32(0x7FEB352D)
    state = (state ^ (state >> 15)) * jnp.uint32(0x846CA68B)
    return state ^ (state >> 16)
