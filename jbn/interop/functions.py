"""A model from a plain pair of functions."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray, PyTree

from jbn.interop.adapter import Adapter
from jbn.interop.arguments import accepted, hyperparameters
from jbn.nn.model import Hyper, Model

_PROVIDED = ("stats", "train", "key", "outputs")


@functools.lru_cache(maxsize=256)
def model(init: Callable[..., Any], apply: Callable[..., Any], *, name: str = "model") -> Model:
    """A model from a function that makes parameters and one that applies them.

    `init(key, x, ...)` returns parameters, any pytree of arrays; `x` is two rows of zeros in the shape of the data.
    `apply(params, x, ...)` returns the outputs, `[rows, outputs]`. What else they take by name are
    hyper-parameters that a space may vary: numbers with a decimal point are traced, whole numbers, names and
    switches give programs their shapes. An argument without a default must be in the space.

    Four names are provided instead, where a function takes them: `outputs`, how many the task needs; `train`, True
    in training and False at inference; `key`, a new one every training step and None at inference (`jbn.dropout`
    takes it as it is); and `stats`. If `apply` takes `stats`, the network has state: `init` returns `params, stats`
    and `apply(params, x, stats=...)` returns `outputs, stats`.

    Args:
        init: makes parameters.
        apply: applies them.
        name: for tables and messages.

    Raises:
        InputError: a function whose arguments have no names.

    >>> import jax, jax.numpy as jnp, jbn
    >>> def init(key, x, outputs, hidden_units):
    ...     first, second = jax.random.split(key)
    ...     kernels = jax.random.normal(first, (x.shape[1], hidden_units)), jnp.zeros((hidden_units, outputs))
    ...     return dict(zip(("hidden", "output"), kernels))
    >>> def apply(params, x, slope=0.1):
    ...     return jax.nn.leaky_relu(x @ params["hidden"], slope) @ params["output"]
    >>> task = jbn.Task(model=jbn.model(init, apply), data=jbn.data.digits())
    >>> space = jbn.Space(hidden_units=jbn.choice(8, 16), slope=jbn.uniform(0.0, 0.5))
    >>> configs = jbn.search.random(space, 4, key=jax.random.key(0))
    >>> result = jbn.sweep(task, configs, epochs=1, key=jax.random.key(1))
    >>> list(result.table().columns[:3])
    ['config_id', 'hidden_units', 'slope']
    """
    functions = {"init": init, "apply": apply}
    entries = hyperparameters(functions, positional=2, provided=_PROVIDED)
    return _Pair(init, apply).model(entries, name)


class _Pair(Adapter):
    """The two functions; `stats` are theirs if `apply` takes them."""

    def __init__(self, init: Callable[..., Any], apply: Callable[..., Any]):
        self._init, self._apply = init, apply
        self._stateful = bool(accepted(apply, ["stats"]))

    def init(self, key: PRNGKeyArray, hyper: Hyper, x_spec: jax.ShapeDtypeStruct) -> tuple[PyTree, PyTree]:
        """What `init` returns for two rows of zeros."""
        made = _called(self._init, (key, jnp.zeros((2, *x_spec.shape[1:]), x_spec.dtype)), hyper)
        return made if self._stateful else (made, {})

    def applied(
        self, params: PyTree, stats: PyTree, x: Array, hyper: Hyper, key: PRNGKeyArray | None
    ) -> tuple[Array, PyTree]:
        """What `apply` returns."""
        provided = {**hyper, "train": key is not None, "key": key, "stats": stats}
        out = _called(self._apply, (params, x), provided)
        return out if self._stateful else (out, stats)


def _called(function: Callable[..., Any], leading: tuple[Any, ...], values: Hyper) -> Any:
    return function(*leading, **{name: values[name] for name in accepted(function, values)})
