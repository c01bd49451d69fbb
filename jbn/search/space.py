"""The search space: names and their axes, as written in Python or in a specification's table."""

from collections.abc import Iterator, Mapping
from typing import Any

from jbn.errors import InputError, did_you_mean
from jbn.search.dimensions import Dimension
from jbn.search.scales import BUILDERS, choice, constant, integers, log_uniform, reverse_log_uniform
from jbn.search.values import Scalar


class Space(Mapping[str, Dimension]):
    """The hyper-parameters of a sweep by name, each with its axis; a plain value is a constant.

    An immutable mapping, hashable. Two spaces are equal if their names, axes and order are: the order is
    that of a grid's rows.

    Args:
        **dimensions: axes such as `uniform(0, 1)`, or numbers, strings and bools that do not vary.

    Raises:
        InputError: if the space is empty, a name is no identifier, or a value is neither axis nor constant.

    >>> Space(learning_rate=log_uniform(1e-4, 1.0), beta2=0.999)
    Space(
        learning_rate=log_uniform(0.0001, 1.0),
        beta2=0.999,
    )
    """

    __slots__ = ("_dimensions",)

    def __init__(self, /, **dimensions: Dimension | Scalar) -> None:
        if not dimensions:
            raise InputError(
                "a space must have at least one dimension, got none: name one, or see defaults()"
            )
        self._dimensions = {_checked(name): _named(name, value) for name, value in dimensions.items()}

    @classmethod
    def from_spec(cls, table: Mapping[str, Any]) -> "Space":
        """The space of a specification's `[space]` table, the inverse of `to_spec`.

        Args:
            table: names with a scale and its bounds, `{"log_uniform": [1e-4, 1.0]}`, or with a constant.

        Returns:
            The space, in the order of the table.

        Raises:
            InputError: as the class and the axes do, naming the dimension, and if a scale is unknown or its
                bounds are no list or too few or many.

        >>> Space.from_spec({"layers": {"integers": [2, 4]}, "epsilon": 1e-8})
        Space(
            layers=integers(2, 4),
            epsilon=1e-08,
        )
        """
        if not isinstance(table, Mapping):
            raise InputError(f"a space's specification must be a table of names, got {table!r}")
        return cls(**{_checked(name): _from_entry(name, entry) for name, entry in table.items()})

    def to_spec(self) -> dict[str, Any]:
        """The space as a table of plain values, the inverse of `from_spec`.

        >>> Space(layers=integers(2, 4), epsilon=1e-8).to_spec()
        {'layers': {'integers': [2, 4]}, 'epsilon': 1e-08}
        """
        return {name: dimension.to_spec() for name, dimension in self.items()}

    def __getitem__(self, name: str) -> Dimension:
        return self._dimensions[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._dimensions)

    def __len__(self) -> int:
        return len(self._dimensions)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Space):
            return NotImplemented
        return list(self.items()) == list(other.items())

    def __hash__(self) -> int:
        return hash(tuple(self.items()))

    def __repr__(self) -> str:
        lines = "".join(f"    {name}={dimension!r},\n" for name, dimension in self.items())
        return f"Space(\n{lines})"


def defaults(*, all: bool = False) -> Space:
    """The classic search space of a network trained with Adam, learning-rate decay and mini-batches.

    Args:
        all: whether beta2 and epsilon vary too; otherwise they are the constants 0.999 and 1e-8.

    Returns:
        A space of eight hyper-parameters.

    >>> defaults()["learning_rate"]
    log_uniform(0.0001, 1.0)
    """
    return Space(
        learning_rate=log_uniform(1e-4, 1.0),
        beta1=reverse_log_uniform(0.9, 0.999),
        layers=integers(2, 4),
        hidden_units=integers(50, 100),
        decay_rate=log_uniform(1e-3, 1.0),
        batch_size=choice(32, 64, 128, 256),
        beta2=reverse_log_uniform(0.99, 0.9999) if all else 0.999,
        epsilon=log_uniform(1e-10, 1e-6) if all else 1e-8,
    )


def _checked(name: str) -> str:
    if not isinstance(name, str) or not name.isidentifier():
        raise InputError(f"names must be identifiers, got {name!r}: use letters, digits and _")
    return name


def _named(name: str, value: Any) -> Dimension:
    """The axis itself, or the constant that a plain value stands for."""
    if isinstance(value, Dimension):
        return value
    try:
        return constant(value)
    except InputError as error:
        raise InputError(
            f"{name}: {error}; for an axis write uniform(low, high), choice(a, b), ..."
        ) from error


def _from_entry(name: str, entry: Any) -> Dimension:
    if not isinstance(entry, Mapping):
        return _named(name, entry)
    if len(entry) != 1:
        raise InputError(
            f"{name}: one scale must be named, got {dict(entry)}: write {{uniform = [low, high]}}"
        )
    [(scale, arguments)] = entry.items()
    if scale not in BUILDERS:
        raise InputError(f"{name}: unknown scale {scale!r}; {did_you_mean(str(scale), BUILDERS)}")
    try:
        return BUILDERS[scale](*_arguments(scale, arguments))
    except InputError as error:
        raise InputError(f"{name}: {error}") from error


def _arguments(scale: str, arguments: Any) -> list[Any]:
    if not isinstance(arguments, list | tuple):
        raise InputError(f"{scale} takes a list, got {arguments!r}: write {scale} = [{arguments!r}, ...]")
    if scale != "choice" and len(arguments) != 2:
        raise InputError(f"{scale} takes 2 bounds, [low, high], got {len(arguments)}: {list(arguments)}")
    return list(arguments)
