"""Layers of a network in another framework: which kind each is, and its arrays as this library has them."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from jbn.errors import InputError, did_you_mean
from jbn.interop.weights.files import Contents, keras_weights, natural, state_dict
from jbn.interop.weights.loading import Loaded, load

Kind = Literal["dense", "convolution", "batch norm"]
_READERS = {"pytorch": state_dict, "keras2": keras_weights, "keras3": keras_weights}


class Source(NamedTuple):
    """One layer.

    Args:
        name: in its framework.
        kind: what it is.
        kernel: `[*window, inputs, outputs]`; None for batch norm.
        bias: `[outputs]`, or None.
        norm: a batch norm layer, as `load` gives it; else None.
        done: what was done to its arrays, for the report.
    """

    name: str
    kind: Kind
    kernel: np.ndarray | None = None
    bias: np.ndarray | None = None
    norm: Loaded | None = None
    done: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """By which it is told apart: of the kernel, or of one entry a channel."""
        if self.kernel is not None:
            return self.kernel.shape
        norm = self.norm
        assert norm is not None
        return norm.stats.mean.shape if norm.stats is not None else ()


def read(framework: str, source: Any, arguments: Mapping[str, Any]) -> tuple[list[Source], bool]:
    """All layers, and whether they are in the order in which they were made.

    Args:
        framework: "pytorch", "keras2" or "keras3".
        source: a mapping or a path.
        arguments: of all batch norm layers, or of single ones by their names.

    Raises:
        InputError: what cannot be read, and layers that are no dense, convolutional or batch norm layers.
    """
    if framework not in _READERS:
        raise InputError(
            f"whole networks come from a few frameworks, not {framework!r}: {did_you_mean(str(framework), _READERS)}"
        )
    contents = _READERS[framework](source)
    own, shared = _split(arguments, contents)
    layers = [
        _layer(framework, name, arrays, {**contents.arguments.get(name, {}), **shared, **own.get(name, {})})
        for name, arrays in contents.layers.items()
    ]
    if not contents.ordered:
        layers.sort(key=lambda layer: natural(layer.name))
    return layers, contents.ordered


def _split(
    arguments: Mapping[str, Any], contents: Contents
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Those of single layers, and those of all."""
    own = {name: dict(value) for name, value in arguments.items() if isinstance(value, Mapping)}
    for name in own:
        if name not in contents.layers:
            raise InputError(
                f"arguments name a layer {name!r} that is not there; {did_you_mean(name, contents.layers)}"
            )
    return own, {name: value for name, value in arguments.items() if name not in own}


def _layer(framework: str, name: str, arrays: dict[str, np.ndarray], arguments: dict[str, Any]) -> Source:
    if framework == "pytorch":
        return _of_pytorch(name, arrays, arguments)
    return _of_keras(framework, name, arrays, arguments)


def _of_pytorch(name: str, arrays: dict[str, np.ndarray], arguments: dict[str, Any]) -> Source:
    untracked = arguments.get("track_running_stats") is False and set(arrays) <= {"weight", "bias"}
    vectors = all(array.ndim == 1 for array in arrays.values())
    if "running_mean" in arrays or "running_var" in arrays or (untracked and vectors):
        return Source(name, "batch norm", norm=load("pytorch", arrays, name=name, **arguments))
    kernel = arrays.get("weight")
    if kernel is None or set(arrays) - {"weight", "bias"} or not 2 <= kernel.ndim <= 5:
        raise _unknown("PyTorch", name, arrays)
    _check(name, arrays, kernel.shape[0])
    if kernel.ndim == 2:
        return Source(name, "dense", kernel.T, arrays.get("bias"), done="kernel [out, in] transposed")
    window = tuple(range(2, kernel.ndim))
    turned = kernel.transpose(*window, 1, 0)
    return Source(
        name, "convolution", turned, arrays.get("bias"), done="kernel [out, in, *window] transposed"
    )


def _of_keras(framework: str, name: str, arrays: dict[str, np.ndarray], arguments: dict[str, Any]) -> Source:
    numbered = all(key.isdigit() for key in arrays)
    if all(array.ndim == 1 for array in arrays.values()):
        named = _keras_names(name, arrays, arguments) if numbered else arrays
        return Source(name, "batch norm", norm=load(framework, named, **{**arguments, "name": name}))
    kernel, bias = (arrays.get(key) for key in (("0", "1") if numbered else ("kernel", "bias")))
    known = {"0", "1"} if numbered else {"kernel", "bias"}
    if kernel is None or set(arrays) - known or not 2 <= kernel.ndim <= 5:
        raise _unknown("Keras", name, arrays)
    _check(name, arrays, kernel.shape[-1])
    return Source(name, "dense" if kernel.ndim == 2 else "convolution", kernel, bias, done="kernel as it is")


def _keras_names(
    name: str, arrays: dict[str, np.ndarray], arguments: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Names for variables that are only numbered: gamma and beta come first, if they are there."""
    affine = [own for own, switch in (("gamma", "scale"), ("beta", "center")) if arguments.get(switch, True)]
    names = [*affine, "moving_mean", "moving_variance"]
    if len(arrays) == 2 and not {"scale", "center"} & set(arguments):
        names = names[2:]
    if len(names) != len(arrays):
        raise InputError(
            f"Keras layer {name!r} has {len(arrays)} vectors without names, which can only be told apart by its "
            f"arguments; pass them, as in arguments={{{name!r}: {{'scale': False}}}}, or take a .keras file"
        )
    return dict(zip(names, arrays.values(), strict=True))


def _check(name: str, arrays: Mapping[str, np.ndarray], outputs: int) -> None:
    """Finite numbers, and one bias an output."""
    for own, array in arrays.items():
        if array.dtype.kind not in "fV" or not np.isfinite(array.astype(np.float64)).all():
            raise InputError(f"layer {name!r}: array {own!r} must be finite floating-point numbers")
        if array.ndim == 1 and array.shape != (outputs,):
            raise InputError(
                f"layer {name!r}: array {own!r} must have one entry for each of {outputs} outputs, "
                f"but has shape {list(array.shape)}"
            )
        if array.ndim == 0:
            raise InputError(f"layer {name!r}: array {own!r} must have axes, but is a single number")


def _unknown(framework: str, name: str, arrays: Mapping[str, np.ndarray]) -> InputError:
    listed = ", ".join(f"{own} {list(array.shape)}" for own, array in arrays.items())
    return InputError(
        f"{framework} layer {name!r} is no dense, convolutional or batch norm layer with running statistics: "
        f"it has {listed}; leave it out and load it by yourself"
    )
