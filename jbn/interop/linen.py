"""flax.linen: its modules as models, and layers in place of its own."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, PRNGKeyArray, PyTree

from jbn.errors import InputError
from jbn.interop import adapter
from jbn.interop.convolution import conv_general_dilated
from jbn.interop.layers import FLAX_DROPOUT, check_inexact, dropped, normalized
from jbn.interop.products import dot_general
from jbn.nn.model import Hyper, Model

_PROVIDED = ("outputs",)
_MODES = {  # how modules are told that they are trained
    "train": True,
    "training": True,
    "is_training": True,
    "deterministic": False,
    "use_running_average": False,
}


@functools.lru_cache(maxsize=256)
def from_linen(factory: Callable[..., nn.Module], *, name: str = "linen") -> Model:
    """A model from a function that makes a flax.linen module.

    The factory's arguments are hyper-parameters that a space may vary: numbers with a decimal point are traced,
    whole numbers, names and switches give programs their shapes. An argument without a default must be in the space;
    `outputs`, if there is one, is the number of outputs that the task needs.

    The module's `__call__` takes the rows and, by any of their usual names, whether it is trained: `train`,
    `training`, `is_training`, `deterministic` or `use_running_average`. All its collections but the parameters are
    running statistics; every training step has new random streams.

    flax's own convolutions compute as matrix products, which are several times faster on CPU, and its dense layers
    with a faster gradient; its own `Dropout` takes no traced rate, `jbn.linen.Dropout` does.

    Args:
        factory: `factory(**hyperparameters)` returns a module.
        name: for tables and messages.

    Raises:
        InputError: a factory whose arguments have no names; at trace time: one that returns no module.

    >>> import jax, jbn
    >>> from flax import linen as nn
    >>> class Net(nn.Module):
    ...     hidden_units: int
    ...     rate: float
    ...     outputs: int
    ...     @nn.compact
    ...     def __call__(self, x, train):
    ...         x = nn.relu(jbn.linen.BatchNorm(not train)(nn.Dense(self.hidden_units)(x)))
    ...         x = jbn.linen.Dropout(self.rate, deterministic=not train)(x)
    ...         return nn.Dense(self.outputs)(x)
    >>> model = jbn.from_linen(lambda hidden_units, rate, outputs: Net(hidden_units, rate, outputs))
    >>> task = jbn.Task(model=model, data=jbn.data.digits())
    >>> space = jbn.Space(hidden_units=jbn.choice(8, 16), rate=jbn.uniform(0.0, 0.3))
    >>> configs = jbn.search.random(space, 4, key=jax.random.key(0))
    >>> result = jbn.sweep(task, configs, epochs=1, key=jax.random.key(1))
    >>> result.best().stats["batch_stats"]["BatchNorm_0"]["mean"].shape[0] in (8, 16)
    True
    """
    made = adapter.factory(factory, provided=_PROVIDED, kind=(nn.Module, "flax.linen.Module"))
    return _Linen(made).model(made.entries, name)


class _Linen(adapter.Adapter):
    """Modules of a factory, with variables from outside."""

    def __init__(self, factory: adapter.Factory):
        self._factory = factory

    def init(self, key: PRNGKeyArray, hyper: Hyper, x_spec: jax.ShapeDtypeStruct) -> tuple[PyTree, PyTree]:
        """The variables, apart."""
        module, rows = self._factory(hyper), jnp.zeros((2, *x_spec.shape[1:]), x_spec.dtype)
        with nn.intercept_methods(_intercepted):
            variables = module.init(key, rows, **_mode(module, trained=False))
        return variables.get("params", {}), {own: variables[own] for own in variables if own != "params"}

    def applied(
        self, params: PyTree, stats: PyTree, x: Array, hyper: Hyper, key: PRNGKeyArray | None
    ) -> tuple[Array, PyTree]:
        """The module applied; in training all state may change."""
        module, variables = self._factory(hyper), {"params": params, **stats}
        trained = key is not None
        with nn.intercept_methods(_intercepted):
            y, updated = module.apply(
                variables,
                x,
                **_mode(module, trained=trained),
                mutable=list(stats) if trained else [],
                rngs={"params": key} if trained else None,  # all other streams, dropout's too, come from this
            )
        return y, {**stats, **updated}


def _mode(module: nn.Module, *, trained: bool) -> dict[str, Any]:
    """Whether it is trained, by the names that its `__call__` has for it."""
    taken = inspect.signature(type(module).__call__).parameters
    return {name: trained is value for name, value in _MODES.items() if name in taken}


def _intercepted(
    method: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext
) -> Any:
    """Convolutions and dense layers by matrix products of this library; a clear word about flax's own dropout."""
    module = context.module
    if isinstance(module, nn.Dropout) and not isinstance(module, Dropout) and _traced(module.rate):
        raise InputError(FLAX_DROPOUT.format(flax="flax.linen.Dropout", ours="jbn.linen.Dropout"))
    if isinstance(module, nn.Conv):
        _compute(module, "conv_general_dilated", conv_general_dilated)
    elif isinstance(module, nn.Dense | nn.DenseGeneral):
        _compute(module, "dot_general", dot_general)
    return method(*args, **kwargs)


def _compute(module: nn.Module, name: str, function: Callable[..., Array]) -> None:
    """Gives the module the function to compute with, unless it was told which."""
    if getattr(module, name) is None and getattr(module, f"{name}_cls") is None:
        object.__setattr__(module, name, function)  # flax modules are frozen


def _traced(value: Any) -> bool:
    return isinstance(value, jax.Array)  # tracers too; and what is computed inside a trace is traced


class Dropout(nn.Dropout):
    """`flax.linen.Dropout` that takes a traced rate; the same arguments.

    >>> import jax, jax.numpy as jnp
    >>> layer = Dropout(0.5, deterministic=False)
    >>> y = jax.jit(lambda key: layer.apply({}, jnp.ones((4, 8)), rngs={"dropout": key}))(jax.random.key(0))
    >>> sorted(set(y.ravel().tolist()))
    [0.0, 2.0]
    """

    @nn.compact
    def __call__(
        self, inputs: Array, deterministic: bool | None = None, rng: PRNGKeyArray | None = None
    ) -> Array:
        """The remaining inputs, divided by the share of those that remain."""
        if nn.merge_param("deterministic", self.deterministic, deterministic):
            return inputs
        if not _traced(self.rate) and self.rate == 0:
            return inputs
        key = self.make_rng(self.rng_collection) if rng is None else rng
        return dropped(key, inputs, self.rate, self.broadcast_dims)


class BatchNorm(nn.BatchNorm):
    """`flax.linen.BatchNorm` with exact statistics; the same arguments, variables and checkpoints.

    The variance is never a difference of large numbers, whatever `use_fast_variance` says, derivatives are by hand,
    and masked entries may hold NaN. What this library keeps to differs from flax in one place: a channel whose
    batch statistics are not finite keeps its running ones.

    >>> import jax, jax.numpy as jnp
    >>> layer = BatchNorm(use_running_average=False, momentum=0.5)
    >>> x = 1e4 + jnp.array([[-1.0], [1.0]])
    >>> y, updated = layer.apply(layer.init(jax.random.key(0), x), x, mutable=["batch_stats"])
    >>> y[:, 0].round(3).tolist(), updated["batch_stats"]["var"].tolist()
    ([-1.0, 1.0], [1.0])
    """

    @nn.compact
    def __call__(
        self, x: Array, use_running_average: bool | None = None, *, mask: Array | None = None
    ) -> Array:
        """Normalises with the statistics of the batch, or with the running ones."""
        check_inexact(x)
        running = nn.merge_param("use_running_average", self.use_running_average, use_running_average)
        axes = (self.axis,) if isinstance(self.axis, int) else tuple(self.axis)
        channels = tuple(sorted(axis % x.ndim for axis in axes))
        shape = tuple(x.shape[axis] for axis in channels)
        wide = jnp.float32 if self.force_float32_reductions else self.param_dtype
        mean = self.variable("batch_stats", "mean", lambda: jnp.zeros(shape, wide))
        var = self.variable("batch_stats", "var", lambda: jnp.ones(shape, wide))
        scale = self.param("scale", self.scale_init, shape, self.param_dtype) if self.use_scale else None
        bias = self.param("bias", self.bias_init, shape, self.param_dtype) if self.use_bias else None
        first = self.is_initializing()
        y, statistics = normalized(
            x,
            scale,
            bias,
            (mean.value, var.value),
            momentum=self.momentum,
            epsilon=self.epsilon,
            channels=channels,
            mask=mask,
            axis_name=None if first else self.axis_name,
            groups=self.axis_index_groups,
            dtype=self.dtype,
            running=running,
        )
        if not running and not first:
            mean.value, var.value = statistics
        return y
