"""How a network that is not ours becomes the three functions of a model."""

import abc
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from jbn.errors import InputError
from jbn.interop.arguments import accepted, hyperparameters
from jbn.nn.model import Hyper, HyperParameter, Model


class Adapter(abc.ABC):
    """A network as `init` and one function for training and inference; a subclass has these two."""

    @abc.abstractmethod
    def init(self, key: PRNGKeyArray, hyper: Hyper, x_spec: jax.ShapeDtypeStruct) -> tuple[PyTree, PyTree]:
        """Parameters and state; `x_spec` is that of one row."""

    @abc.abstractmethod
    def applied(
        self, params: PyTree, stats: PyTree, x: Array, hyper: Hyper, key: PRNGKeyArray | None
    ) -> tuple[Array, PyTree]:
        """Outputs and state after it; in training with the key of the step, at inference with None."""

    def model(self, entries: tuple[HyperParameter, ...], name: str) -> Model:
        """The model with these hyper-parameters."""
        return Model(self.init, self._train, self._infer, entries, name)

    def _train(
        self,
        params: PyTree,
        stats: PyTree,
        x: Float[Array, "batch *features"],
        *,
        key: PRNGKeyArray,
        hyper: Hyper,
        mask: Bool[Array, " batch"] | None = None,
    ) -> tuple[Float[Array, "batch outputs"], PyTree]:
        if mask is not None:
            raise InputError(
                "this model takes no mask of rows, its network knows none; pass complete batches"
            )
        return self.applied(params, stats, x, hyper, key)

    def _infer(
        self, params: PyTree, stats: PyTree, x: Float[Array, "batch *features"], *, hyper: Hyper
    ) -> Float[Array, "batch outputs"]:
        return self.applied(params, stats, x, hyper, None)[0]


class Factory(NamedTuple):
    """A function or class that makes modules.

    Args:
        function: it.
        names: which values it takes.
        entries: those of them that are hyper-parameters.
        kind: the class of the modules, and what it is called in messages.
    """

    function: Callable[..., Any]
    names: tuple[str, ...]
    entries: tuple[HyperParameter, ...]
    kind: tuple[type, str]

    def __call__(self, values: Hyper) -> Any:
        """A module made from the values that it takes."""
        module, (kind, called) = self.function(**{name: values[name] for name in self.names}), self.kind
        if not isinstance(module, kind):
            raise InputError(
                f"the factory of a model must return a {called}, but returned {type(module).__name__}"
            )
        return module


def factory(function: Callable[..., Any], *, provided: Collection[str], kind: tuple[type, str]) -> Factory:
    """The factory with the hyper-parameters that it takes; what is provided are none.

    Raises:
        InputError: arguments without names.
    """
    entries = hyperparameters({"the factory": function}, positional=0, provided=provided)
    names = accepted(function, [*(entry.name for entry in entries), *provided])
    return Factory(function, names, entries, kind)
