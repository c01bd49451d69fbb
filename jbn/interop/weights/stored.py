"""What a framework writes down in place of a running variance, and the way back."""

import dataclasses
from collections.abc import Callable

import numpy as np

Transform = Callable[[np.ndarray, float], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Stored:
    """One way to write a variance down.

    Args:
        words: what is stored, in symbols.
        load: `load(stored, epsilon) -> variance`, in float64.
        save: `save(variance, epsilon) -> stored`, in float64.
        positive: what is stored must be above 0.

    >>> float(INVERSE.load(np.array(0.5), 1.0)), float(INVERSE.save(np.array(3.0), 1.0))
    (3.0, 0.5)
    """

    words: str
    load: Transform
    save: Transform
    positive: bool = False

    @property
    def as_it_is(self) -> bool:
        """Whether the variance itself is stored."""
        return self is VARIANCE


VARIANCE = Stored("var", lambda stored, epsilon: stored, lambda var, epsilon: var)
WITH_EPSILON = Stored(
    "var + epsilon", lambda stored, epsilon: stored - epsilon, lambda var, epsilon: var + epsilon
)
INVERSE = Stored(
    "1 / sqrt(var + epsilon)",
    lambda stored, epsilon: stored**-2.0 - epsilon,
    lambda var, epsilon: 1 / np.sqrt(var + epsilon),
    positive=True,
)
DEVIATION = Stored(
    "sqrt(var + epsilon)",
    lambda stored, epsilon: stored**2.0 - epsilon,
    lambda var, epsilon: np.sqrt(var + epsilon),
    positive=True,
)
LOG10 = Stored(
    "log10(sqrt(var))", lambda stored, epsilon: 10.0 ** (2 * stored), lambda var, epsilon: np.log10(var) / 2
)
