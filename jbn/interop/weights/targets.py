"""Layers of a network of this library or of flax, found in its parameters and statistics."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from jbn.errors import InputError
from jbn.interop.weights.sources import Kind
from jbn.nn.batch_norm import BatchNormParams, BatchNormStats

Path = tuple[Any, ...]
_OURS = re.compile(r"layer_\d+|output")


class Target(NamedTuple):
    """One layer.

    Args:
        path: keys to its parameters.
        kind: what it is.
        shapes: of its parameters and statistics, by name.
        stats: keys to its statistics; None for other than batch norm.
        ours: whether it is one of `jbn.mlp` or `jbn.cnn`.
        before: of those: the path of the layer whose values it normalises.
    """

    path: Path
    kind: Kind
    shapes: Mapping[str, tuple[int, ...]]
    stats: Path | None = None
    ours: bool = False
    before: Path | None = None

    @property
    def name(self) -> str:
        """The path in words."""
        return "/".join(map(str, self.path))

    @property
    def shape(self) -> tuple[int, ...]:
        """By which it is told apart."""
        if self.kind == "batch norm":
            return self.shapes["mean"]
        kernel = self.shapes["kernel"]
        # the output layer of jbn.cnn has its inputs by pixel and channel
        return (_product(kernel[:-1]), kernel[-1]) if self.kind == "dense" else kernel


def _product(sizes: tuple[int, ...]) -> int:
    product = 1
    for size in sizes:
        product *= size
    return product


def find(params: Any, stats: Any) -> list[Target]:
    """All layers, in the order of the parameters; those of this library's models in that of the network.

    Args:
        params: nested mappings with arrays at their ends.
        stats: the same.

    Raises:
        InputError: parameters or statistics that belong to no layer of a known kind.
    """
    ours = bool(params) and all(_OURS.fullmatch(str(name)) for name in params)
    norms = {path: node for path, node in _nodes(stats, ()) if _is_statistics(node)}
    by_path = {_of_params(path, ours): path for path in norms}
    found = [
        _target(path, node, by_path, norms, ours) for path, node in _nodes(params, ()) if _is_layer(node)
    ]
    placed = {target.stats for target in found}
    found += [
        Target(params_path, "batch norm", _shapes(norms[path]), path)
        for params_path, path in by_path.items()
        if path not in placed
    ]
    if ours:
        found.sort(key=lambda target: (target.path[0] == "output", _number(target.path[0])))
    return found


def _number(name: Any) -> int:
    return int(re.sub(r"\D", "", str(name)) or 0)


def _of_params(path: Path, ours: bool) -> Path:
    """Where the parameters stand of what has its statistics here."""
    if ours:
        return (*path, "batch_norm")
    return path[1:] if path[:1] == ("batch_stats",) else path


def _nodes(tree: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    """Every inner node."""
    if _is_layer(tree) or _is_statistics(tree):
        yield path, tree
    if isinstance(tree, Mapping):
        for key, child in tree.items():
            yield from _nodes(child, (*path, key))


def _is_array(node: Any) -> bool:
    return hasattr(node, "shape") and hasattr(node, "dtype")


def _is_layer(node: Any) -> bool:
    return isinstance(node, BatchNormParams) or (
        isinstance(node, Mapping) and any(_is_array(child) for child in node.values())
    )


def _is_statistics(node: Any) -> bool:
    return isinstance(node, BatchNormStats) or (
        isinstance(node, Mapping) and set(node) == {"mean", "var"} and all(map(_is_array, node.values()))
    )


def _shapes(node: Any) -> dict[str, tuple[int, ...]]:
    items = node._asdict() if hasattr(node, "_asdict") else node
    return {str(name): tuple(value.shape) for name, value in items.items() if _is_array(value)}


def _target(
    path: Path, node: Any, by_path: Mapping[Path, Path], norms: Mapping[Path, Any], ours: bool
) -> Target:
    shapes = _shapes(node)
    if path in by_path:
        place = by_path[path]
        before = path[:-1] if ours else None
        return Target(path, "batch norm", {**shapes, **_shapes(norms[place])}, place, ours, before)
    if "kernel" not in shapes or set(shapes) - {"kernel", "bias"}:
        listed = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
        raise InputError(
            f"the network's {'/'.join(map(str, path))!r} is no dense, convolutional or batch norm layer: "
            f"it has {listed}"
        )
    dense = len(shapes["kernel"]) == 2 or (ours and path[0] == "output")
    return Target(path, "dense" if dense else "convolution", shapes, None, ours)
