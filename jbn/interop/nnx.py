"""flax.nnx: its modules as models, and layers in place of its own."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx
from jaxtyping import Array, PRNGKeyArray, PyTree

from jbn.errors import InputError
from jbn.interop import adapter
from jbn.interop.convolution import conv_general_dilated
from jbn.interop.layers import FLAX_DROPOUT, check_inexact, dropped, normalized
from jbn.interop.products import dot_general
from jbn.nn.model import Hyper, Model

_PROVIDED = ("rngs", "features", "outputs")


@functools.lru_cache(maxsize=256)
def from_nnx(factory: Callable[..., nnx.Module], *, name: str = "nnx") -> Model:
    """A model from a function that makes a flax.nnx module.

    The factory's arguments are hyper-parameters that a space may vary: numbers with a decimal point are traced,
    whole numbers, names and switches give programs their shapes. An argument without a default must be in the space.
    Three names are provided instead, where the factory takes them: `rngs`, an `nnx.Rngs`; `features`, how many
    features a row of the data has; `outputs`, how many outputs the task needs.

    The module is made anew wherever it is traced and takes in the member's state: `nnx.Param`s are parameters, all
    other variables but those of random streams are running statistics. It is in training mode for training
    (`module.train()`) and in evaluation mode otherwise; every training step has new random streams. No
    transformation of nnx is used, or needed.

    flax's own convolutions compute as matrix products, which are several times faster on CPU; its own `Dropout`
    takes no traced rate, `jbn.nnx.Dropout` does.

    Args:
        factory: `factory(rngs=..., **hyperparameters)` returns a module.
        name: for tables and messages.

    Raises:
        InputError: a factory whose arguments have no names; at trace time: one that returns no module.

    >>> import jax, jbn
    >>> from flax import nnx
    >>> class Net(nnx.Module):
    ...     def __init__(self, hidden_units, rate, features, outputs, rngs):
    ...         self.hidden = nnx.Linear(features, hidden_units, rngs=rngs)
    ...         self.norm = jbn.nnx.BatchNorm(hidden_units, rngs=rngs)
    ...         self.dropout = jbn.nnx.Dropout(rate, rngs=rngs)
    ...         self.output = nnx.Linear(hidden_units, outputs, rngs=rngs)
    ...     def __call__(self, x):
    ...         return self.output(self.dropout(nnx.relu(self.norm(self.hidden(x)))))
    >>> task = jbn.Task(model=jbn.from_nnx(Net), data=jbn.data.digits())
    >>> space = jbn.Space(hidden_units=jbn.choice(8, 16), rate=jbn.uniform(0.0, 0.3))
    >>> configs = jbn.search.random(space, 4, key=jax.random.key(0))
    >>> result = jbn.sweep(task, configs, epochs=1, key=jax.random.key(1))
    >>> result.best().params["hidden"]["kernel"].shape[1] in (8, 16)
    True
    """
    made = adapter.factory(factory, provided=_PROVIDED, kind=(nnx.Module, "flax.nnx.Module"))
    return _Nnx(made).model(made.entries, name)


class _Nnx(adapter.Adapter):
    """Modules of a factory, filled with state from outside."""

    def __init__(self, factory: adapter.Factory):
        self._factory = factory

    def init(self, key: PRNGKeyArray, hyper: Hyper, x_spec: jax.ShapeDtypeStruct) -> tuple[PyTree, PyTree]:
        """The module's own state, apart."""
        module = self._module(key, hyper, x_spec.shape[1:])
        return _state(module, nnx.Param), _state(module, _is_statistic)

    def applied(
        self, params: PyTree, stats: PyTree, x: Array, hyper: Hyper, key: PRNGKeyArray | None
    ) -> tuple[Array, PyTree]:
        """The module with this state, called; what it drew when it was made is not used, and so not computed."""
        module = self._module(jax.random.key(0) if key is None else key, hyper, x.shape[1:])
        for which, values in ((nnx.Param, params), (_is_statistic, stats)):
            state = nnx.state(module, which)
            nnx.replace_by_pure_dict(state, values)
            nnx.update(module, state)
        module.eval() if key is None else module.train()
        return module(x), _state(module, _is_statistic)

    def _module(self, key: PRNGKeyArray, hyper: Hyper, row: tuple[int, ...]) -> Any:
        features = row[0] if len(row) == 1 else row
        module = self._factory({**hyper, "rngs": nnx.Rngs(key), "features": features})
        for _, part in nnx.iter_modules(module):
            if isinstance(part, nnx.Dropout) and not isinstance(part, Dropout) and _traced(part.rate):
                raise InputError(FLAX_DROPOUT.format(flax="flax.nnx.Dropout", ours="jbn.nnx.Dropout"))
            if isinstance(part, nnx.Conv) and part.conv_general_dilated is jax.lax.conv_general_dilated:
                part.conv_general_dilated = conv_general_dilated
            elif isinstance(part, nnx.Linear | nnx.LinearGeneral) and _by_default(part):
                part.dot_general = dot_general
        return module


def _by_default(layer: Any) -> bool:
    """Whether a dense layer was not told what to multiply with."""
    return layer.dot_general in (None, jax.lax.dot_general) and not getattr(layer, "dot_general_cls", None)


def _is_statistic(path: Any, value: Any) -> bool:
    """Whether something is state that training changes other than by gradients."""
    del path
    kind = getattr(value, "type", type(value))
    return issubclass(kind, nnx.Variable) and not issubclass(kind, nnx.Param | nnx.RngState)


def _state(module: Any, which: Any) -> PyTree:
    return nnx.to_pure_dict(nnx.state(module, which))


def _traced(value: Any) -> bool:
    return isinstance(value, jax.Array)  # tracers too; and what is computed inside a trace is traced


class Dropout(nnx.Dropout):
    """`flax.nnx.Dropout` that takes a traced rate; the same arguments.

    >>> import jax.numpy as jnp
    >>> from flax import nnx
    >>> layer = Dropout(0.5, rngs=nnx.Rngs(0))
    >>> sorted(set(layer(jnp.ones((4, 8))).ravel().tolist()))
    [0.0, 2.0]
    """

    def __call__(self, inputs: Array, *, deterministic: bool | None = None, rngs: Any = None) -> Array:
        """The remaining inputs, divided by the share of those that remain."""
        off = self.deterministic if deterministic is None else deterministic
        if off or (not _traced(self.rate) and self.rate == 0):
            return inputs
        source = self.rngs if rngs is None else rngs
        if source is None:
            raise InputError("dropout in training needs rngs: Dropout(rate, rngs=nnx.Rngs(0))")
        stream = source[self.rng_collection] if isinstance(source, nnx.Rngs) else source
        key = stream if isinstance(stream, jax.Array) else stream()
        return dropped(key, inputs, self.rate, self.broadcast_dims)


class BatchNorm(nnx.BatchNorm):
    """`flax.nnx.BatchNorm` with exact statistics; the same arguments, variables and checkpoints.

    The variance is never a difference of large numbers, whatever `use_fast_variance` says, derivatives are by hand,
    and masked entries may hold NaN. What this library keeps to differs from flax in one place: a channel whose
    batch statistics are not finite keeps its running ones.

    >>> import jax.numpy as jnp
    >>> from flax import nnx
    >>> layer = BatchNorm(1, momentum=0.5, rngs=nnx.Rngs(0))
    >>> layer(1e4 + jnp.array([[-1.0], [1.0]])).round(3)[:, 0].tolist(), layer.var[...].tolist()
    ([-1.0, 1.0], [1.0])
    """

    def __call__(
        self, x: Array, use_running_average: bool | None = None, *, mask: Array | None = None
    ) -> Array:
        """Normalises with the statistics of the batch, or with the running ones."""
        check_inexact(x)
        running = self.use_running_average if use_running_average is None else use_running_average
        if running is None:
            raise InputError(
                "batch norm must know which statistics it uses: pass use_running_average, or call the module's "
                "train() or eval()"
            )
        scale, bias = (None if own is None else own[...] for own in (self.scale, self.bias))
        x, _, _, scale, bias = self.promote_dtype(
            (x, self.mean[...], self.var[...], scale, bias), dtype=self.dtype
        )
        y, statistics = normalized(
            x,
            scale,
            bias,
            (self.mean[...], self.var[...]),
            momentum=self.momentum,
            epsilon=self.epsilon,
            channels=tuple(sorted(axis % x.ndim for axis in _several(self.axis))),
            mask=mask,
            axis_name=self.axis_name,
            groups=self.axis_index_groups,
            dtype=self.dtype,
            running=running,
        )
        if not running:
            self.mean.set_value(statistics[0])  # complex numbers do not fit into a real mean
            self.var[...] = statistics[1]
        return y


def _several(axis: Any) -> tuple[int, ...]:
    return (axis,) if isinstance(axis, int) else tuple(axis)
