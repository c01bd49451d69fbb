"""Which layer of a network is which of another: by name, by order, by shape; never by chance."""

import re
from collections.abc import Mapping, Sequence

from jbn.errors import InputError, did_you_mean
from jbn.interop.weights.files import natural
from jbn.interop.weights.sources import Kind, Source
from jbn.interop.weights.targets import Target

Pairs = list[tuple[Source, Target]]
_KINDS: tuple[Kind, ...] = ("convolution", "dense", "batch norm")


def match(
    sources: Sequence[Source], targets: Sequence[Target], names: Mapping[str, str], *, ordered: bool
) -> Pairs:
    """Every layer with its counterpart.

    Those that `names` gives; then those with one name; then, among layers of a kind, in their order. Where the order
    is not known (files that sort by name, networks that do), only where shapes tell layers apart, or names that
    differ by nothing but numbers.

    Args:
        sources: layers of the other framework.
        targets: layers of the network that takes them.
        names: counterparts that are given, from source to target.
        ordered: whether the sources stand in the order in which they were made.

    Raises:
        InputError: layers without a counterpart, shapes that differ, an order that cannot be known.
    """
    pairs = _given(sources, targets, names)
    pairs += _namesakes(*_rest(sources, targets, pairs))
    for kind in _KINDS:
        left, right = _rest(sources, targets, pairs)
        pairs += _of_kind(
            kind, [s for s in left if s.kind == kind], [t for t in right if t.kind == kind], ordered
        )
    place = {id(source): index for index, source in enumerate(sources)}
    return sorted(pairs, key=lambda pair: place[id(pair[0])])


def _rest(
    sources: Sequence[Source], targets: Sequence[Target], pairs: Pairs
) -> tuple[list[Source], list[Target]]:
    left, right = {id(source) for source, _ in pairs}, {id(target) for _, target in pairs}
    return [s for s in sources if id(s) not in left], [t for t in targets if id(t) not in right]


def _given(sources: Sequence[Source], targets: Sequence[Target], names: Mapping[str, str]) -> Pairs:
    by_source = {source.name: source for source in sources}
    by_target = {target.name: target for target in targets}
    pairs = []
    for one, other in names.items():
        for name, known in ((one, by_source), (other, by_target)):
            if name not in known:
                raise InputError(f"names has an unknown layer {name!r}; {did_you_mean(name, known)}")
        pairs.append((by_source[one], by_target[other]))
    if len({id(target) for _, target in pairs}) < len(pairs):
        raise InputError("names gives one layer of the network several counterparts; each has one")
    for source, target in pairs:
        _check(source, target)
    return pairs


def _namesakes(sources: list[Source], targets: list[Target]) -> Pairs:
    by_name = {_spelled(target.name): target for target in targets}
    pairs = [(source, by_name.get(_spelled(source.name))) for source in sources]
    return [(s, t) for s, t in pairs if t is not None and t.kind == s.kind and _fits(s, t)]


def _spelled(name: str) -> str:
    return re.sub(r"[./]", "/", name).lower()


def _of_kind(kind: Kind, sources: list[Source], targets: list[Target], ordered: bool) -> Pairs:
    if len(sources) != len(targets):
        raise InputError(
            f"both networks must have the same {kind} layers, but there are {len(sources)} ({_listed(sources)}) for "
            f"{len(targets)} ({_listed(targets)}); leave out what has no counterpart, or check the network"
        )
    if (ordered or numbered(sources)) and _in_order(targets):
        if _by_name(targets):  # else they stand in the order in which the network calls them
            targets = sorted(targets, key=_place)
        for source, target in zip(sources, targets, strict=True):
            _check(source, target)
        return list(zip(sources, targets, strict=True))
    return _by_shape(kind, sources, targets)


def _by_shape(kind: Kind, sources: list[Source], targets: list[Target]) -> Pairs:
    pairs: Pairs = []
    for shape in dict.fromkeys(source.shape for source in sources):
        left = [source for source in sources if source.shape == shape]
        right = [target for target in targets if _fits(left[0], target)]
        if len(left) != len(right):
            raise InputError(
                f"{kind} layers {_listed(left)} must have as many counterparts of shape {list(shape)}, "
                f"but there are {len(right)}; check the network"
            )
        if len(left) > 1 and not (numbered(left) and numbered(right)):
            raise InputError(
                f"{kind} layers {_listed(left)} all fit {_listed(right)}, and neither order nor numbers tell which "
                f"is which; pass names={{{left[0].name!r}: {right[0].name!r}, ...}}"
            )
        pairs += zip(left, sorted(right, key=_place), strict=True)
    return pairs


def numbered(layers: Sequence[Source] | Sequence[Target]) -> bool:
    """Names that differ by nothing but numbers have an order."""
    kinds = {re.sub(r"\d+", "#", re.sub(r"_\d+$", "", layer.name)) for layer in layers}
    return len(kinds) < 2


def _in_order(targets: Sequence[Target]) -> bool:
    """Whether the order of the targets is that of the network."""
    return numbered(targets) or not _by_name(targets)


def _by_name(targets: Sequence[Target]) -> bool:
    """Whether the targets may have been sorted by name, as JAX sorts mappings."""
    names = [target.name for target in targets]
    return not all(target.ours for target in targets) and names == sorted(names)


def _place(target: Target) -> list[tuple[int, object]]:
    return [] if target.ours else natural(target.name)


def _fits(source: Source, target: Target) -> bool:
    return source.kind == target.kind and source.shape in (target.shape, ())


def _check(source: Source, target: Target) -> None:
    if not _fits(source, target):
        raise InputError(
            f"{source.kind} layer {source.name!r} has shape {list(source.shape)}, but its counterpart "
            f"{target.name!r}, a {target.kind} layer, has {list(target.shape)}; check the network, or pass names"
        )


def _listed(layers: Sequence[Source] | Sequence[Target]) -> str:
    return ", ".join(repr(layer.name) for layer in layers) or "none"
