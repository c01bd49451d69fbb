"""The state of a population as named arrays, and back; where members are laid out may differ in between."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import jax
import numpy as np

from jbn.engine.arithmetic import member_shapes
from jbn.engine.layout import Chunk
from jbn.engine.population import Population
from jbn.task.task import Task

Arrays = Mapping[str, np.ndarray]
_MEMBERS = "members"


def snapshot(chunks: Iterable[Chunk]) -> Iterator[dict[str, np.ndarray]]:
    """What members are in, part by part: their numbers, and every array of their state.

    An array's name is the part's number, that of the array and its path, separated by points.
    """
    number = 0
    for chunk in chunks:
        if chunk.populations is None:
            continue
        for part, population in zip(chunk.parts, chunk.populations, strict=True):
            there = np.flatnonzero(part.members >= 0)
            if len(there):
                own = slice(len(there)) if there[-1] < len(there) else there  # a slice copies nothing
                yield {f"{number}.{_MEMBERS}": part.members[there]} | {
                    f"{number}.{place}.{_path(path)}": _plain(leaf)[own]
                    for place, (path, leaf) in enumerate(
                        jax.tree_util.tree_leaves_with_path(population.on_host().views())
                    )
                }
                number += 1


def restore(task: Task, chunks: Sequence[Chunk], saved: Iterable[Arrays]) -> None:
    """Gives members the state that they had.

    Args:
        task: what is trained.
        chunks: the same members, in whatever chunks.
        saved: what `snapshot` gave, in pieces that hold whole parts.

    Raises:
        ValueError: a member or an array is missing, or has another shape.
    """
    places = {
        int(member): (number, place, slot)
        for number, chunk in enumerate(chunks)
        for place, part in enumerate(chunk.parts)
        for slot, member in enumerate(part.members)
    }
    filled = [
        tuple(Population.zeros(member_shapes(task, part.structure), chunk.slots) for part in chunk.parts)
        for chunk in chunks
    ]
    leaves = [[jax.tree.leaves(own.views()) for own in populations] for populations in filled]
    for arrays in saved:
        for members, own in _parts(arrays):
            for row, member in enumerate(members.tolist()):
                number, place, slot = places.pop(member)
                _fill(leaves[number][place], slot, own, row)
    if places:
        raise ValueError(f"the states of {len(places)} members are missing")
    for chunk, populations in zip(chunks, filled, strict=True):
        chunk.populations = populations


def _parts(arrays: Arrays) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    """Members of each part, and their arrays in the order of the leaves."""
    found: dict[str, dict[int, np.ndarray]] = {}
    members = {}
    for name, values in arrays.items():
        number, rest = name.split(".", 1)
        if rest == _MEMBERS:
            members[number] = values
        else:
            found.setdefault(number, {})[int(rest.split(".", 1)[0])] = values
    for number, own in found.items():
        yield members[number], [own[place] for place in sorted(own)]


def _fill(leaves: Sequence[np.ndarray], slot: int, saved: Sequence[np.ndarray], row: int) -> None:
    for leaf, values in zip(leaves, saved, strict=True):
        if (leaf.shape[1:], leaf.itemsize) != (values.shape[1:], values.itemsize):
            raise ValueError(
                f"an array is {values.dtype}{list(values.shape[1:])}, not {leaf.dtype}{list(leaf.shape[1:])}"
            )
        leaf[slot] = values[row].view(leaf.dtype)


def _plain(leaf: jax.Array | np.ndarray) -> np.ndarray:
    """The array with a type that every format knows: what other packages have registered, as whole numbers."""
    array = np.asarray(leaf)
    own = array.dtype.isbuiltin == 1
    return array if own else array.view(np.dtype(f"u{array.dtype.itemsize}"))


def _path(path: tuple[object, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
