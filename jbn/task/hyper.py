"""From configurations to what compiled programs take: a static structure and traced numbers."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jbn.errors import InputError, did_you_mean
from jbn.nn.model import Hyper, HyperParameter, Padded
from jbn.task.transforms import Beta

Traced = Mapping[str, Any]


class Structure(NamedTuple):
    """The part of a configuration that programs are built for; hashable.

    Args:
        values: (name, value) of every compiled and structural hyper-parameter, and the capacity of padded ones.
        padded: names of those whose own size is a traced number below that capacity.
    """

    values: tuple[tuple[str, Any], ...]
    padded: tuple[str, ...] = ()

    @property
    def optimizer(self) -> str | None:
        """The name of the optimiser; None where configurations do not choose it."""
        return dict(self.values).get("optimizer")

    def without(self, name: str) -> "Structure":
        """The same for everything but one hyper-parameter."""
        return self._replace(values=tuple(entry for entry in self.values if entry[0] != name))

    def sized(self, sizes: Mapping[str, int]) -> "Structure":
        """Exact sizes in the place of padded ones."""
        return Structure(tuple((name, sizes.get(name, value)) for name, value in self.values))


def bind(structure: Structure, traced: Traced) -> Hyper:
    """What a model and an optimiser see: structure and traced numbers under one roof."""
    fixed = dict(structure.values)
    sizes = {name: Padded(traced[name], fixed[name]) for name in structure.padded}
    return {**fixed, **traced, **sizes}


def numbers(known: Mapping[str, HyperParameter], config: Mapping[str, Any]) -> dict[str, Any]:
    """The traced numbers of a configuration (or of many: arrays with a leading axis), defaults filled in.

    Host numbers keep float64 until here: 1 - beta is taken in float64, then both are rounded to JAX's default
    float. Tracers pass through, so that gradients with respect to them are what they should be.
    """
    given = {
        name: config.get(name, entry.default)
        for name, entry in known.items()
        if entry.kind == "traced" and (name in config or entry.default != entry.off)
    }
    return {name: _number(known[name], value) for name, value in given.items()}


def _number(entry: HyperParameter, value: Any) -> Any:
    host = value if isinstance(value, jax.Array) else np.asarray(value, np.float64)
    if entry.complement:
        return Beta(_rounded(host), _rounded(1 - host))
    return _rounded(host)


def _rounded(value: Any) -> Any:
    dtype = (
        jnp.zeros((), float).dtype if isinstance(value, jax.Array) else jax.dtypes.canonicalize_dtype(float)
    )
    return value.astype(dtype)


def check_names(known: Collection[str], names: Sequence[str]) -> None:
    """Every name must be a hyper-parameter of the task."""
    for name in names:
        if name not in known:
            raise InputError(f"unknown hyper-parameter {name!r}: {did_you_mean(name, _readable(known))}")


def _readable(known: Collection[str]) -> list[str]:
    """The names; of a row of numbered ones only the first."""
    numbered = re.compile(r".*_(?!1$)\d+")
    return [name for name in known if not numbered.fullmatch(name)]
