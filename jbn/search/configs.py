"""The table of configurations: one host array per hyper-parameter, one row per configuration."""

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from jbn.errors import InputError
from jbn.search.space import Space
from jbn.search.values import column, plain


class Configs(dict[str, npt.NDArray[Any]]):
    """Configurations as a dict of equally long host arrays, which remembers the space they came from.

    `len` is that of a dict, the number of hyper-parameters; `count` is the number of configurations.

    Args:
        columns: for each hyper-parameter its values, shape `[count]`. Integers become int64, floats float64,
            all else object.
        space: the space they were drawn from, if any.

    Raises:
        InputError: if the columns are not all of one length, or not one-dimensional.

    >>> configs = Configs({"layers": [2, 3], "activation": ["relu", "tanh"]})
    >>> len(configs), configs.count, configs.row(1)
    (2, 2, {'layers': 3, 'activation': 'tanh'})
    """

    space: Space | None = None

    def __init__(self, columns: Mapping[str, npt.ArrayLike], *, space: Space | None = None) -> None:
        super().__init__({name: column(values) for name, values in columns.items()})
        self.space = space
        shapes = {name: values.shape for name, values in self.items()}
        if any(len(shape) != 1 for shape in shapes.values()) or len(set(shapes.values())) > 1:
            raise InputError(f"columns must be one-dimensional and of one length, got the shapes {shapes}")

    @property
    def count(self) -> int:
        """The number of configurations."""
        return len(next(iter(self.values()), ()))

    def row(self, i: int) -> dict[str, Any]:
        """Configuration number i as Python scalars; a negative i counts from the end.

        Raises:
            InputError: if there is no such row.

        >>> Configs({"learning_rate": [0.1, 0.01]}).row(-1)
        {'learning_rate': 0.01}
        """
        if not -self.count <= i < self.count:
            raise InputError(f"a row must be one of {self.count} configurations, got {i}: they count from 0")
        return {name: plain(values[i]) for name, values in self.items()}
