"""Weights of a whole network of another framework in the parameters and statistics of one here."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jbn.errors import InputError
from jbn.interop.weights.flattening import in_pixel_order
from jbn.interop.weights.matching import Pairs, match
from jbn.interop.weights.settings import Settings
from jbn.interop.weights.sources import Source, read
from jbn.interop.weights.targets import Path, Target, find
from jbn.nn.batch_norm import BatchNormParams, BatchNormStats


class Row(NamedTuple):
    """One layer of the report.

    Args:
        source: its name in the other framework.
        target: its name here, keys joined by "/".
        kind: "dense", "convolution" or "batch norm".
        shape: of the kernel here, or of one entry a channel.
        done: what was done to its arrays.
    """

    source: str
    target: str
    kind: str
    shape: tuple[int, ...]
    done: str


class Report(tuple[Row, ...]):
    """Which layer became which, and what was done to it; printed as a table."""

    __slots__ = ()

    def __str__(self) -> str:
        """One line a layer."""
        rows = [(row.source, row.target, row.kind, str(list(row.shape)), row.done) for row in self]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
        return "\n".join(
            f"{source} -> {target}  {kind}  {shape}  {done}".rstrip()
            for source, target, kind, shape, done in lines
        )


class Network(NamedTuple):
    """A network with the weights of another.

    Args:
        params: in the structure that was given, JAX arrays at its ends.
        stats: the same.
        settings: of every batch norm layer, by its name here.
        report: what became of every layer.
    """

    params: Any
    stats: Any
    settings: dict[str, Settings]
    report: Report

    @property
    def hyper(self) -> dict[str, float]:
        """Epsilon and momentum for `jbn.mlp` and `jbn.cnn`, which have one of each for all layers.

        Raises:
            InputError: layers that differ.
        """
        values = {(own.epsilon, own.momentum) for own in self.settings.values()}
        if len(values) > 1:
            listed = ", ".join(
                f"{name} {own.epsilon:g} and {own.momentum:g}" for name, own in self.settings.items()
            )
            raise InputError(
                f"jbn.mlp and jbn.cnn have one epsilon and one momentum for all layers, but here are: {listed}; "
                "pass epsilon to load_network, which brings variances to one, or take a flax model"
            )
        names = ("batch_norm_epsilon", "batch_norm_momentum")
        return {name: value for pair in values for name, value in zip(names, pair, strict=True)}


def load_network(
    framework: str,
    source: Any,
    params: Any,
    stats: Any,
    *,
    names: Mapping[str, str] | None = None,
    arguments: Mapping[str, Any] | None = None,
    flattened: Mapping[str, int] | None = None,
    epsilon: float | None = None,
) -> Network:
    """The weights of a trained MLP or CNN with batch norm, in a network of this library or of flax.

    Convolutions are ordinary ones (a state dict does not tell transposed ones), Keras's with channels last.

    Layers are matched by name, else by order within their kind, and every pair must agree in shape; what order and
    shape do not tell is an error, never a guess. Kernels come into the form `[*window, inputs, outputs]`. A dense
    layer on a flattened image has its inputs by channel in PyTorch and by pixel here: they are brought in order.
    Where this network has no bias before batch norm, the running mean takes it in: `mean' = mean - bias`. So
    inference is the same; training goes on under the rule of the network here.

    Args:
        framework: "pytorch", "keras2" or "keras3".
        source: PyTorch's state dict as a mapping of arrays, or the .safetensors or .npz file of one; Keras's
            .weights.h5, .keras or .h5 file, or a mapping of `layer/variable`. Pickled files are refused.
        params: parameters of the network that takes them, as its `init` makes them: `jbn.mlp`'s and `jbn.cnn`'s, a
            flax.linen module's or a flax.nnx module's state. flax's layers are taken in the order of their calls,
            where a mapping was sorted (by `jit`, or in nnx) in that of the numbers in their names.
        stats: its statistics; flax.linen's with or without the collection `batch_stats`.
        names: counterparts that are given, from a layer there to one here.
        arguments: the batch norm layers' own arguments, which a state dict does not have, for all of them or by the
            name of a layer: `{"eps": 1e-3}`, `{"bn1": {"eps": 1e-3}}`. A .keras or .h5 file has its own.
        flattened: channels of the image that a dense layer of PyTorch gets flattened, by the name of the layer. By
            default those of the convolution before, for the first dense layer, if its inputs are a multiple.
        epsilon: of the batch norm layers here, where it is another than there: variances take the difference in.

    Returns:
        The network, with the settings of its batch norm layers and the report of what became of what.

    Raises:
        InputError: what cannot be read or matched, with the layer and the array.

    >>> import jax, jbn
    >>> import numpy as np
    >>> from jbn.interop import weights
    >>> state = {"0.weight": np.ones((4, 2)), "1.running_mean": np.zeros(4), "1.running_var": np.ones(4)}
    >>> state |= {"1.weight": np.ones(4), "1.bias": np.zeros(4), "3.weight": np.ones((3, 4)), "3.bias": np.ones(3)}
    >>> model, hyper = jbn.mlp(layers=1, hidden_units=4), {"outputs": 3}
    >>> made = model.init(jax.random.key(0), hyper, jax.ShapeDtypeStruct((1, 2), "float32"))
    >>> network = weights.load_network("pytorch", state, *made)
    >>> print(network.report)
    0 -> layer_1             dense       [2, 4]  kernel [out, in] transposed
    1 -> layer_1/batch_norm  batch norm  [4]     epsilon 1e-05, momentum 0.9
    3 -> output              dense       [4, 3]  kernel [out, in] transposed
    >>> x = jax.numpy.ones((5, 2))
    >>> model.infer(network.params, network.stats, x, hyper={**hyper, **network.hyper}).shape
    (5, 3)
    """
    layers, ordered = read(framework, source, arguments or {})
    if framework == "pytorch":
        layers = in_pixel_order(layers, flattened, ordered=ordered)
    pairs = match(layers, find(params, stats), names or {}, ordered=ordered)
    return _Filling(pairs, epsilon).network(params, stats)


class _Filling:
    """Values on their way into the structure of a network."""

    def __init__(self, pairs: Pairs, epsilon: float | None):
        self._pairs, self._epsilon = pairs, epsilon
        self._params: dict[Path, dict[str, np.ndarray]] = {}
        self._stats: dict[Path, dict[str, np.ndarray]] = {}
        self._settings: dict[str, Settings] = {}
        self._taken = {  # biases that a running mean takes in
            target.path: (source.name, source.bias)
            for source, target in pairs
            if target.ours and source.bias is not None and "bias" not in target.shapes
        }
        self._rows = [self._row(source, target) for source, target in pairs]

    def network(self, params: Any, stats: Any) -> Network:
        """The structures with these values."""
        return Network(
            _filled(params, (), self._params),
            _filled(stats, (), self._stats),
            self._settings,
            Report(self._rows),
        )

    def _row(self, source: Source, target: Target) -> Row:
        done = self._norm(source, target) if source.norm is not None else self._affine(source, target)
        return Row(source.name, target.name, source.kind, target.shapes.get("kernel", target.shape), done)

    def _affine(self, source: Source, target: Target) -> str:
        assert source.kernel is not None
        values = {"kernel": source.kernel.reshape(target.shapes["kernel"])}
        done = [source.done]
        if "bias" in target.shapes:
            values["bias"] = (
                np.zeros(target.shapes["bias"], source.kernel.dtype) if source.bias is None else source.bias
            )
            done += ["bias 0"] * (source.bias is None)
        elif source.bias is not None:
            followed = any(other.before == target.path for _, other in self._pairs)
            if not followed:
                raise InputError(
                    f"layer {source.name!r} has a bias, but its counterpart {target.name!r} has none; "
                    "give that one a bias"
                )
            done.append("bias into the running mean")
        self._params[target.path] = values
        return ", ".join(done)

    def _norm(self, source: Source, target: Target) -> str:
        assert source.norm is not None
        assert target.stats is not None
        params, stats, settings = source.norm
        if stats is None:
            raise InputError(
                f"batch norm layer {source.name!r} keeps no running statistics, but {target.name!r} does; "
                "load it by itself"
            )
        mean, var, count = (np.asarray(value) for value in stats)
        done = [f"epsilon {settings.epsilon:g}, momentum {settings.momentum:g}"]
        done += ["frozen there"] * settings.frozen
        if target.before in self._taken:
            name, bias = self._taken[target.before]
            mean = (mean.astype(np.float64) - bias).astype(mean.dtype)
            done.append(f"mean less the bias of {name}")
        if self._epsilon is not None and self._epsilon != settings.epsilon:
            wide = np.promote_types(var.dtype, np.float32)
            var = (var.astype(np.float64) + (settings.epsilon - self._epsilon)).astype(wide)
            settings = dataclasses.replace(settings, epsilon=self._epsilon)
            done.append(f"variance for epsilon {self._epsilon:g}")
        self._stats[target.stats] = {"mean": mean, "var": var, "count": count}
        self._params[target.path] = self._affine_part(source, target, params, mean)
        self._settings[target.name] = settings
        return ", ".join(done)

    def _affine_part(
        self, source: Source, target: Target, params: BatchNormParams | None, like: Any
    ) -> dict[str, np.ndarray]:
        """Scale and bias as far as the network has them."""
        own = {}
        for name, neutral in (("scale", 1.0), ("bias", 0.0)):
            value = np.full_like(like, neutral) if params is None else np.asarray(getattr(params, name))
            if name in target.shapes:
                own[name] = value
            elif (value != neutral).any():
                raise InputError(
                    f"batch norm layer {source.name!r} has a {name}, but its counterpart {target.name!r} has none; "
                    f"give that one a {name}"
                )
        return own


def _filled(tree: Any, path: Path, values: Mapping[Path, dict[str, np.ndarray]]) -> Any:
    """The same structure with other arrays; every array must have one."""
    if path in values and isinstance(tree, BatchNormParams | BatchNormStats):
        return tree._replace(**{name: jnp.asarray(value) for name, value in values[path].items()})
    if not isinstance(tree, Mapping):
        raise InputError(
            f"{'/'.join(map(str, path)) or 'the network'} has no counterpart among the weights; "
            "check the network, or load it by yourself"
        )
    own = values.get(path, {})
    return {
        key: jnp.asarray(own[key]) if key in own else _filled(child, (*path, key), values)
        for key, child in tree.items()
    }
