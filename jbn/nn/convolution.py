"""Convolution and pooling of images as matrix products and elementwise maxima.

XLA's own convolution is slow inside a loop on CPU, and over several members (`vmap`) it becomes a grouped
convolution, slow everywhere. Here shifted copies of the image are multiplied by the kernel as a matrix; derivatives
of shifts and products are shifts and products again, so JAX's own are fast, in every mode.
"""

import itertools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

_OFFSETS = (-1, 0, 1)


def convolve(
    x: Float[Array, "batch height width inputs"], kernel: Float[Array, "3 3 inputs outputs"]
) -> Float[Array, "batch height width outputs"]:
    """Convolution with a 3x3 kernel, stride 1, zeros around the image.

    `y[n, i, j, o] = sum_(u, v, c) x[n, i + u - 1, j + v - 1, c] kernel[u, v, c, o]`, with x = 0 outside.

    Args:
        x: images.
        kernel: rows, columns, input channels, output channels.

    >>> import jax.numpy as jnp
    >>> convolve(jnp.ones((1, 2, 3, 1)), jnp.ones((3, 3, 1, 1)))[0, :, :, 0].tolist()
    [[4.0, 6.0, 4.0], [4.0, 6.0, 4.0]]
    """
    return _of_one_channel(x, kernel) if x.shape[-1] == 1 else _of_rows(x, kernel)


def _of_one_channel(x: Array, kernel: Array) -> Array:
    """All nine shifts as rows of a matrix: side by side they would be copied number by number."""
    image = x[..., 0]
    taps = [
        _shifted(_shifted(image, 1, row), 2, column) for row, column in itertools.product(_OFFSETS, repeat=2)
    ]
    products = jnp.stack(taps).reshape(9, -1).T @ kernel.reshape(9, -1)
    return products.reshape(*image.shape, -1)


def _of_rows(x: Array, kernel: Array) -> Array:
    """Columns are shifted before the product and rows after it: a third of the memory of all nine shifts."""
    inputs, outputs = kernel.shape[2:]
    neighbours = jnp.concatenate([_shifted(x, 2, column) for column in _OFFSETS], axis=-1)
    matrix = kernel.transpose(1, 2, 0, 3).reshape(3 * inputs, 3 * outputs)
    products = (neighbours.reshape(-1, 3 * inputs) @ matrix).reshape(*x.shape[:3], 3 * outputs)
    # split, not sliced: the transpose of a split is one concatenation
    upper, middle, lower = jax.lax.split(products, (outputs,) * 3, axis=3)
    return _shifted(upper, 1, -1) + middle + _shifted(lower, 1, 1)


def _shifted(a: Array, axis: int, by: int) -> Array:
    """Entry i has what entry i + by had, 0 where that is outside."""
    edges = [(0, 0, 0)] * a.ndim
    edges[axis] = (-by, by, 0)
    return jax.lax.pad(a, jnp.zeros((), a.dtype), edges) if by else a


def max_pool(
    x: Float[Array, "batch height width channels"], *, falling: Bool[Array, " channels"] | None = None
) -> Float[Array, "batch rows columns channels"]:
    """The largest value of every 2x2 window, stride 2; the smallest in channels that are `falling`.

    `y[n, i, j, c] = max x[n, 2i:2i+2, 2j:2j+2, c]`. An odd last row or column is dropped; a side of 1 stays 1.

    The maximum of a function of x is that function of the maximum where it rises and of the minimum where it
    falls. So a monotone function can follow the pooling in the place of going before it, with the same result
    and a quarter of the work.

    The derivative is that of the first of equal values, row by row.

    Args:
        x: images.
        falling: channels that a falling function will follow; none if not given.

    >>> import jax.numpy as jnp
    >>> x = jnp.array([[1.0, 3.0, 9.0], [2.0, 0.0, 9.0]])[None, :, :, None]
    >>> max_pool(x)[0, :, :, 0].tolist(), max_pool(x, falling=jnp.array([True]))[0, :, :, 0].tolist()
    ([[3.0]], [[0.0]])
    """
    batch, height, width, channels = x.shape
    (rows, high), (columns, wide) = _halved(height), _halved(width)
    inside = x[:, : rows * high, : columns * wide]
    return _extreme(inside.reshape(batch, rows, high, columns, wide, channels), falling)


def pooled_shape(height: int, width: int) -> tuple[int, int]:
    """Rows and columns that `max_pool` leaves.

    >>> pooled_shape(7, 1)
    (3, 1)
    """
    return _halved(height)[0], _halved(width)[0]


def _halved(length: int) -> tuple[int, int]:
    """How many windows there are, and how long each is."""
    return (length // 2, 2) if length > 1 else (length, 1)


@jax.custom_jvp
def _extreme(
    windows: Float[Array, "batch rows high columns wide channels"], falling: Bool[Array, " channels"] | None
) -> Float[Array, "batch rows columns channels"]:
    """The largest (or smallest) value of every window; by JAX's own rule equal ones would share the gradient."""
    best, *others = _entries(windows)
    for other in others:
        best = _better(best, other, falling)
    return best


@_extreme.defjvp
def _extreme_jvp(
    primals: tuple[Array, Array | None], tangents: tuple[Array, Array | None]
) -> tuple[Array, Array]:
    windows, falling = primals
    best = _extreme(windows, falling)
    place = _first(windows, best)
    _, _, high, _, wide, _ = windows.shape
    places = jnp.arange(high * wide).reshape(1, 1, high, 1, wide, 1)
    chosen = jnp.where(places == jnp.expand_dims(place, (2, 4)), tangents[0], 0)
    return best, jnp.sum(chosen, axis=(2, 4))


def _entries(windows: Array) -> list[Array]:
    """The entries of all windows: all first ones, all second ones, ..."""
    _, _, high, _, wide, _ = windows.shape
    return [windows[:, :, row, :, column] for row, column in itertools.product(range(high), range(wide))]


def _better(a: Array, b: Array, falling: Array | None) -> Array:
    larger = jnp.maximum(a, b)
    if falling is None:
        return larger
    return jnp.where(jax.lax.expand_dims(falling, range(3)), jnp.minimum(a, b), larger)


def _first(windows: Array, best: Array) -> Int[Array, "batch rows columns channels"]:
    """The place of the first entry that is the best; the last place where none is (NaN)."""
    entries = _entries(windows)
    place = jnp.full(best.shape, len(entries) - 1)
    for index in reversed(range(len(entries) - 1)):
        place = jnp.where(entries[index] == best, index, place)
    return place
