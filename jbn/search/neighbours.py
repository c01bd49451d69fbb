"""Configurations near one: small steps on every dimension's own scale."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import numpy.typing as npt

from jbn.errors import InputError
from jbn.search.conditions import base, missing, switched_off
from jbn.search.configs import Configs
from jbn.search.dimensions import Constant, Dimension
from jbn.search.sampling import integer_seed
from jbn.search.space import Space
from jbn.search.values import at_least_one, is_finite_number


def neighbours(
    space: Space,
    config: Mapping[str, Any],
    n: int,
    *,
    key: jax.Array | npt.NDArray[np.uint32] | int,
    width: float = 0.1,
) -> Configs:
    """Random configurations near one of a space.

    With u the place of a value on its axis, in [0, 1], an ordered dimension takes the value at `u + width * z`, z
    standard normal, reflected at both ends: a step on a logarithmic axis is a factor, on one of whole numbers a few
    of them. Options without an order are drawn anew with probability `width`. What `config` does not have, since a
    condition switched it off, is drawn from its axis where it exists.

    Args:
        space: the axes.
        config: the configuration, names to values; other names than the space's do not count.
        n: how many neighbours.
        key: one JAX key, or an int seed.
        width: of a step, as a share of the axis, in (0, 1].

    Returns:
        n configurations.

    Raises:
        InputError: n below 1, a width outside (0, 1], or a value that is not on its axis.

    >>> from jbn.search import log_uniform
    >>> space = Space(learning_rate=log_uniform(1e-4, 1.0), batch_size=64)
    >>> near = neighbours(space, {"learning_rate": 0.01}, 100, key=0, width=0.05)
    >>> bool((abs(np.log10(near["learning_rate"]) + 2) < 0.05 * 4 * 4).all())
    True
    """
    if not is_finite_number(width) or not 0 < width <= 1:
        raise InputError(f"width must be a share of the axis in (0, 1], got {width!r}")
    count = at_least_one(n, what="neighbours")
    columns = {
        name: _near(axis, config.get(name), count, integer_seed(key, f"neighbours {name}"), width)
        for name, axis in space.items()
    }
    return Configs(switched_off(space, columns), space=space)


def _near(axis: Dimension, value: Any, count: int, seed: int, width: float) -> npt.NDArray[Any]:
    generator = np.random.default_rng(seed)
    anew, steps = generator.random(count), width * generator.standard_normal(count)
    if isinstance(base(axis), Constant) or _absent(value):
        return axis.from_unit(anew)
    place = float(axis.to_unit([value])[0])
    if axis.ordered:
        return axis.from_unit(_reflected(place + steps))
    return axis.from_unit(np.where(generator.random(count) < width, anew, place))


def _absent(value: Any) -> bool:
    return bool(missing(np.array([value], object))[0])


def _reflected(places: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Places outside [0, 1] mirrored into it."""
    folded = np.abs(places) % 2
    return np.where(folded > 1, 2 - folded, folded)
