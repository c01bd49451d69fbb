"""The search space: names and their axes, as written in Python or in a specification's table."""

import json
import math
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from jbn.errors import InputError, did_you_mean
from jbn.search import conditions
from jbn.search.dimensions import Dimension
from jbn.search.scales import (
    BUILDERS,
    choice,
    constant,
    integers,
    log_uniform,
    quantized,
    reverse_log_uniform,
    when,
)
from jbn.search.values import Scalar


class Space(Mapping[str, Dimension]):
    """The hyper-parameters of a sweep by name, each with its axis; a plain value is a constant.

    An immutable mapping, hashable. Two spaces are equal if their names, axes and order are: the order is
    that of a grid's rows.

    Args:
        **dimensions: axes such as `uniform(0, 1)`, or numbers, strings and bools that do not vary.

    Raises:
        InputError: if the space is empty, a name is no identifier, a value is neither axis nor constant, or a
            condition is on something that no configuration has.

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
        conditions.check(self._dimensions)

    @classmethod
    def from_spec(cls, table: Mapping[str, Any]) -> "Space":
        """The space of a specification's `[space]` table, the inverse of `to_spec`.

        Args:
            table: names with a scale and its bounds, `{"log_uniform": [1e-4, 1.0]}`, or with a constant. Beside the
                scale may stand `log` (of integers), `step`, `ordered` (of a choice) and `when`, a table of
                names with the values that they must have.

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

    def to_json(self) -> str:
        """The space as JSON, the inverse of `from_json`.

        >>> Space(layers=integers(2, 4), epsilon=1e-8).to_json()
        '{"layers": {"integers": [2, 4]}, "epsilon": 1e-08}'
        """
        return json.dumps(self.to_spec())

    @classmethod
    def from_json(cls, text: str) -> "Space":
        """The space that JSON describes, as `from_spec` takes it.

        Raises:
            InputError: as `from_spec`, and if the text is no JSON or has a name twice.
        """
        try:
            return cls.from_spec(json.loads(text, object_pairs_hook=_all_different))
        except json.JSONDecodeError as error:
            raise InputError(f"a space's description must be JSON, but is not: {error}") from error

    def to_toml(self) -> str:
        """The space as TOML, the inverse of `from_toml`; also the `[space]` table of a sweep's specification.

        >>> print(Space(layers=integers(2, 4), epsilon=1e-8).to_toml())
        layers = {integers = [2, 4]}
        epsilon = 1e-08
        <BLANKLINE>
        """
        return "".join(f"{_toml_key(name)} = {_toml(entry)}\n" for name, entry in self.to_spec().items())

    @classmethod
    def from_toml(cls, text: str) -> "Space":
        """The space that TOML describes, as `from_spec` takes it.

        Raises:
            InputError: as `from_spec`, and if the text is no TOML, as where a name comes twice.
        """
        try:
            return cls.from_spec(tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            raise InputError(f"a space's description must be TOML, but is not: {error}") from error

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
    extras = {key: value for key, value in entry.items() if key in _EXTRAS}
    scales = {key: value for key, value in entry.items() if key not in _EXTRAS}
    if len(scales) != 1:
        raise InputError(
            f"{name}: one scale must be named, got {dict(entry)}: write {{uniform = [low, high]}}"
        )
    [(scale, arguments)] = scales.items()
    if scale == "constant":
        return _conditional_constant(name, _named(name, arguments), extras)
    if scale not in BUILDERS:
        raise InputError(f"{name}: unknown scale {scale!r}; {did_you_mean(str(scale), BUILDERS)}")
    try:
        return _with_extras(scale, _arguments(scale, arguments), extras)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error


_EXTRAS: Mapping[str, type | tuple[type, ...]] = {
    "log": bool,
    "ordered": bool,
    "step": (int, float),
    "when": Mapping,
}
_FOR = {"log": "integers", "ordered": "choice"}


def _with_extras(scale: str, arguments: list[Any], extras: Mapping[str, Any]) -> Dimension:
    """The axis of a scale, and what stands beside it."""
    for key, value in extras.items():
        if not isinstance(value, _EXTRAS[key]) or (key == "step" and isinstance(value, bool)):
            words = {"when": "a table of names and values", "step": "a number"}.get(key, "true or false")
            raise InputError(f"{key} must be {words}, got {value!r}")
        if _FOR.get(key, scale) != scale:
            raise InputError(f"{key} must stand beside {_FOR[key]}, got it beside {scale}: leave it out")
    axis = BUILDERS[scale](*arguments, **{key: extras[key] for key in _FOR if key in extras})
    axis = quantized(axis, extras["step"]) if "step" in extras else axis
    return when(axis, **extras["when"]) if "when" in extras else axis


def _conditional_constant(name: str, axis: Dimension, extras: Mapping[str, Any]) -> Dimension:
    if not extras:
        return axis
    parents = extras.get("when")
    if len(extras) > 1 or not isinstance(parents, Mapping):
        raise InputError(
            f"{name}: only when, a table of names and values, may stand beside constant, got {extras}"
        )
    return when(axis, **parents)


def _arguments(scale: str, arguments: Any) -> list[Any]:
    if not isinstance(arguments, list | tuple):
        raise InputError(f"{scale} takes a list, got {arguments!r}: write {scale} = [{arguments!r}, ...]")
    if scale != "choice" and len(arguments) != 2:
        raise InputError(f"{scale} takes 2 bounds, [low, high], got {len(arguments)}: {list(arguments)}")
    return list(arguments)


def _all_different(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object as a dict; JSON itself allows a name twice, and the last one would win."""
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"names must differ, got {name!r} twice: leave one of them out")
    return dict(pairs)


def _toml_key(name: str) -> str:
    """A name as a key: bare where it is ASCII."""
    return name if name.isascii() else json.dumps(name, ensure_ascii=False)


def _toml(entry: Any) -> str:
    """A plain value in TOML."""
    if isinstance(entry, Mapping):
        return "{" + ", ".join(f"{_toml_key(key)} = {_toml(value)}" for key, value in entry.items()) + "}"
    if isinstance(entry, list):
        return "[" + ", ".join(map(_toml, entry)) + "]"
    if isinstance(entry, float) and not math.isfinite(entry):
        return "inf" if entry > 0 else "-inf"
    return json.dumps(entry, ensure_ascii=False).replace("\x7f", "\\u007f")
