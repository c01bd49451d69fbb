"""Ways to draw configurations from a space: independent samples and full grids."""

import hashlib
import math
import warnings
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from jbn.errors import InputError, did_you_mean
from jbn.search.conditions import base, missing, switched_off
from jbn.search.configs import Configs
from jbn.search.dimensions import Constant, FloatArray, Options
from jbn.search.space import Space
from jbn.search.values import at_least_one, plain

_LARGEST_GRID = 10_000_000
_KEY_SHAPES = ((2,), (4,))


def random(space: Space, n: int, *, key: jax.Array | npt.NDArray[np.uint32] | int) -> Configs:
    """Independent samples of a space.

    Sample i of a dimension depends on the key, the dimension's name and i alone: asking for more keeps the
    first ones, and adding, removing or reordering other dimensions changes nothing.

    Args:
        space: what to draw from.
        n: how many configurations.
        key: one JAX key, typed or as uint32 words, or an int seed in [0, 2**64); a seed below 2**32 draws
            what JAX's default `jax.random.key(seed)` does.

    Returns:
        n configurations: float64, int64 and object arrays of shape `[n]`; NaN or None where a condition switches a
        dimension off.

    Raises:
        InputError: if n is no whole number of at least 1, or key is not a single key.

    >>> space = Space.from_spec({"layers": {"integers": [2, 4]}})
    >>> few, many = random(space, 2, key=jax.random.key(0)), random(space, 9, key=0)
    >>> few.count, many.count, few.row(1) == many.row(1)
    (2, 9, True)
    """
    count = at_least_one(n, what="configs")
    words = _key_words(key)
    columns = {name: axis.from_unit(_stream(words, name, count)) for name, axis in space.items()}
    return Configs(switched_off(space, columns), space=space)


def quasi_random(
    space: Space,
    n: int,
    *,
    key: jax.Array | npt.NDArray[np.uint32] | int,
    sequence: Literal["sobol", "halton"] = "sobol",
) -> Configs:
    """Samples that fill a space more evenly than independent ones: a scrambled Sobol or Halton sequence.

    Of Sobol's, every block of 2^k samples (counted from 0) has one in each of 2^k equal cells of every dimension.
    Sample i depends on the key, the number of dimensions that vary and i alone: asking for more keeps the first
    ones. A power of two is the best number of samples.

    Args:
        space: what to draw from.
        n: how many configurations.
        key: as in `random`; it scrambles the sequence.
        sequence: "sobol" (Owen's scrambling of Sobol 1967), or "halton" (Owen 2017), for any number of samples.

    Returns:
        n configurations: float64, int64 and object arrays of shape `[n]`.

    Raises:
        InputError: if n is no whole number of at least 1, key is not a single key, the sequence is unknown, or a
            Sobol sequence has not as many dimensions.

    >>> space = Space.from_spec({"dropout": {"uniform": [0.0, 1.0]}})
    >>> sorted((quasi_random(space, 4, key=0)["dropout"] * 4).astype(int).tolist())
    [0, 1, 2, 3]
    """
    if sequence not in ("sobol", "halton"):
        raise InputError(f"a sequence must be 'sobol' or 'halton', got {sequence!r}")
    return _filled(space, n, key, sequence)


def latin_hypercube(space: Space, n: int, *, key: jax.Array | npt.NDArray[np.uint32] | int) -> Configs:
    """Samples of which each dimension has one in every n-th of its scale (McKay, Beckman and Conover 1979).

    Another n gives other samples: the first ones are not kept.

    Args:
        space: what to draw from.
        n: how many configurations.
        key: as in `random`.

    Returns:
        n configurations: float64, int64 and object arrays of shape `[n]`.

    Raises:
        InputError: as `random`.

    >>> space = Space.from_spec({"layers": {"integers": [1, 5]}})
    >>> sorted(latin_hypercube(space, 5, key=0)["layers"].tolist())
    [1, 2, 3, 4, 5]
    """
    return _filled(space, n, key, "latin hypercube")


def _filled(space: Space, n: int, key: Any, method: str) -> Configs:
    """Samples that are balanced in every dimension that varies."""
    count, words = at_least_one(n, what="configs"), _key_words(key)
    varying = [name for name, axis in space.items() if not isinstance(base(axis), Constant)]
    places = _balanced(method, len(varying), count, words)
    units = dict(zip(varying, places.T, strict=True))
    columns = {name: axis.from_unit(units.get(name, np.zeros(count))) for name, axis in space.items()}
    return Configs(switched_off(space, columns), space=space)


def _balanced(method: str, dimensions: int, count: int, words: bytes) -> FloatArray:
    """Places in the unit cube, `[count, dimensions]`."""
    from scipy.stats import qmc  # takes its time to import

    if dimensions == 0:
        return np.zeros((count, 0))
    rng = np.random.default_rng(_digest(method, words))
    if method == "halton":
        return qmc.Halton(dimensions, rng=rng).random(count)
    if method == "latin hypercube":
        return qmc.LatinHypercube(dimensions, rng=rng).random(count)
    if dimensions > qmc.Sobol.MAXDIM:
        raise InputError(
            f"a Sobol sequence has at most {qmc.Sobol.MAXDIM} dimensions, but {dimensions} vary: take 'halton'"
        )
    with warnings.catch_warnings():  # of what the docstring says: a power of two is best
        warnings.filterwarnings("ignore", "The balance properties of Sobol", UserWarning)
        return qmc.Sobol(dimensions, bits=53, rng=rng).random(count)


def grid(space: Space, n: int | Mapping[str, int], *, ends: bool = True) -> Configs:
    """Every combination of evenly spaced values, the last dimension fastest.

    Args:
        space: what to lay the grid on.
        n: points per axis, for all axes or by name. Each axis spaces them on its own scale; it gives fewer if it
            has fewer values. A choice gives all its options and a constant its value: they need no number. Where a
            condition switches an axis off, its points are one.
        ends: whether both ends of an axis are among its points; otherwise they are the middles of n equal cells of
            its scale, so that every point stands for as much of the space. One point is the middle either way.

    Returns:
        The cartesian product: float64, int64 and object arrays of shape `[points]`.

    Raises:
        InputError: if a number of points is missing, is for an unknown name or is below 1, or if the grid
            would have more than 10 million points.

    >>> space = Space.from_spec({"layers": {"integers": [2, 4]}, "batch_size": {"choice": [32, 64]}})
    >>> grid(space, 2)
    {'layers': array([2, 2, 4, 4]), 'batch_size': array([32, 64, 32, 64])}
    >>> space = Space.from_spec({"learning_rate": {"log_uniform": [1e-4, 1.0]}, "units": {"integers": [1, 9]}})
    >>> grid(space, 2, ends=False)
    {'learning_rate': array([0.001, 0.001, 0.1 , 0.1 ]), 'units': array([3, 7, 3, 7])}
    """
    points = _points(space, n)
    sizes = [dimension.grid_size(points[name]) for name, dimension in space.items()]
    if math.prod(sizes) > _LARGEST_GRID:
        product = " x ".join(str(size) for size in sizes if size > 1)
        raise InputError(
            f"a grid must have at most {_LARGEST_GRID:,} points, got {product} = {math.prod(sizes):,}: "
            "give fewer points per axis, or draw random ones"
        )
    axes = {name: dimension.grid(points[name], ends=ends) for name, dimension in space.items()}
    return Configs(_without_twins(switched_off(space, _product(axes))), space=space)


def _without_twins(columns: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """Rows that differ only in what does not exist are one."""
    off = {name: missing(values) for name, values in columns.items() if values.dtype != np.int64}
    if not any(mask.any() for mask in off.values()):
        return columns
    plain_values = [
        np.array([f"{type(v).__name__} {v}" for v in values.tolist()]) if values.dtype == object else values
        for values in columns.values()
    ]
    numbers = [np.unique(values, return_inverse=True)[1] for values in plain_values]  # NaN is one value there
    _, first = np.unique(np.column_stack(numbers), axis=0, return_index=True)
    kept = np.sort(first)
    return {name: values[kept] for name, values in columns.items()}


def _key_words(key: object) -> bytes:
    """The words of a key as bytes, the same for a typed key, its raw form and the seed it was made from."""
    seed = plain(key)
    if isinstance(seed, int) and not isinstance(seed, bool):
        if not 0 <= seed < 2**64:
            raise InputError(f"a seed must be at least 0 and below 2**64, got {seed}")
        return np.array([seed >> 32, seed & 0xFFFFFFFF], dtype="<u4").tobytes()
    if not isinstance(key, jax.Array | np.ndarray):
        raise InputError(f"key must be one JAX key or an int seed, got {key!r}: give jax.random.key(0), say")
    words = jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key
    if words.dtype != np.uint32 or words.shape not in _KEY_SHAPES:
        came = f"{key.dtype} of shape {key.shape}"
        raise InputError(f"key must be one JAX key or an int seed, got {came}: take one of the keys")
    return np.asarray(words).astype("<u4").tobytes()


def integer_seed(key: object, purpose: str) -> int:
    """A whole number of 128 bits that follows from a key and a purpose, for generators of others."""
    return _digest(purpose, _key_words(key))


def _digest(name: str, words: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), key=words, digest_size=16).digest(), "little")


def _stream(words: bytes, name: str, n: int) -> FloatArray:
    """The first n numbers in [0, 1) of the stream that belongs to a key and a name."""
    bits = np.random.Philox(key=_digest(name, words)).random_raw(n)
    # NumPy promises the raw words of a bit generator for ever, but not what its Generator makes of them.
    return (bits >> np.uint64(11)) * np.float64(2.0**-53)


def _points(space: Space, n: int | Mapping[str, int]) -> dict[str, int]:
    if not isinstance(n, Mapping):
        return dict.fromkeys(space, at_least_one(n, what="points per axis"))
    for name in n:
        if name not in space:
            raise InputError(
                f"points are for a dimension of the space, got {name!r}; {did_you_mean(str(name), space)}"
            )
    missing = [name for name, axis in space.items() if name not in n and not isinstance(base(axis), Options)]
    if missing:
        raise InputError(f"every axis must have its points, got none for {', '.join(missing)}: add them to n")
    return {name: at_least_one(n.get(name, 1), what=f"points of {name}") for name in space}


def _product(axes: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    total = math.prod(len(values) for values in axes.values())
    columns, block = {}, total
    for name, values in axes.items():
        repeats = block // len(values)
        columns[name] = np.tile(np.repeat(values, repeats), total // block)
        block = repeats
    return columns
