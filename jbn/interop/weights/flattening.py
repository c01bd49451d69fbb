"""Dense layers on flattened images: PyTorch counts their inputs by channel, this library and flax by pixel."""

from collections.abc import Mapping, Sequence

from jbn.errors import InputError, did_you_mean
from jbn.interop.weights.matching import numbered
from jbn.interop.weights.sources import Source


def in_pixel_order(
    layers: Sequence[Source], flattened: Mapping[str, int] | None, *, ordered: bool
) -> list[Source]:
    """The layers, their inputs by pixel and then channel where they are those of an image.

    Args:
        layers: of a PyTorch network.
        flattened: channels of the image by the name of the layer; None to find the layer.
        ordered: whether the layers stand in the order in which they were made.

    Raises:
        InputError: a name that is no dense layer, inputs that are no multiple of channels, an unknown order.
    """
    channels = _found(layers, ordered=ordered) if flattened is None else _checked(layers, flattened)
    return [_by_pixel(layer, channels.get(layer.name, 0)) for layer in layers]


def _checked(layers: Sequence[Source], flattened: Mapping[str, int]) -> Mapping[str, int]:
    dense = {layer.name: layer.shape[0] for layer in layers if layer.kind == "dense"}
    for name, channels in flattened.items():
        if name not in dense:
            raise InputError(
                f"flattened names {name!r}, which is no dense layer; {did_you_mean(name, dense)}"
            )
        whole = isinstance(channels, int) and not isinstance(channels, bool) and channels > 0
        if not whole or dense[name] % channels:
            raise InputError(
                f"dense layer {name!r} has {dense[name]} inputs, no multiple of channels {channels!r} in flattened"
            )
    return flattened


def _found(layers: Sequence[Source], *, ordered: bool) -> dict[str, int]:
    """The first dense layer, if it has several inputs for each channel of the convolution before it."""
    dense = [(place, layer) for place, layer in enumerate(layers) if layer.kind == "dense"]
    images = [(place, layer) for place, layer in enumerate(layers) if layer.kind == "convolution"]
    if not dense or not images:
        return {}
    place, first = dense[0]
    before = [layer for own, layer in images if own < place or not ordered]
    channels = (before or [layer for _, layer in images])[-1].shape[-1]
    known = ordered or (numbered([layer for _, layer in dense]) and numbered([layer for _, layer in images]))
    if not known:
        _refuse_unknown(layers, channels)
        return {}
    return {first.name: channels} if _has_pixels(first, channels) else {}


def _has_pixels(layer: Source, channels: int) -> bool:
    return layer.shape[0] > channels and layer.shape[0] % channels == 0


def _refuse_unknown(layers: Sequence[Source], channels: int) -> None:
    sizes = {layer.shape[-1] for layer in layers if layer.kind == "convolution"}
    possible = [
        layer.name
        for layer in layers
        if layer.kind == "dense" and any(_has_pixels(layer, size) for size in sizes)
    ]
    if possible:
        raise InputError(
            f"dense layers {', '.join(map(repr, possible))} may be on a flattened image, but the file does not tell "
            f"the order of layers; pass flattened={{{possible[0]!r}: {channels}}}, or flattened={{}} if none is"
        )


def _by_pixel(layer: Source, channels: int) -> Source:
    if channels in (0, layer.shape[0]) or layer.kernel is None:
        return layer
    inputs, outputs = layer.kernel.shape
    kernel = layer.kernel.reshape(channels, inputs // channels, outputs).swapaxes(0, 1)
    done = f"{layer.done}, inputs by pixel, then {channels} channels"
    return layer._replace(kernel=kernel.reshape(inputs, outputs), done=done)
