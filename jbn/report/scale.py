"""An axis of accuracies on which 0.99 and 0.995 are as far apart as 0.8 and 0.9, and 1 still has a place."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

# The errors (1 - accuracy) that may be labelled, the most telling first.
_LABELLED = (
    *(1.0, 0.0),
    *(digit * 10.0**-place for digit in (1, 5, 2) for place in range(1, 6)),
    *(0.9, 0.8, 0.7, 0.6, 0.3, 0.4),
)


class AccuracyScale(NamedTuple):
    """Places accuracies by the logarithm of their error, -log(1 - accuracy + offset).

    The offset keeps an accuracy of 1, which a finite validation set allows, on the axis.

    Attributes:
        offset: About the smallest error above 0 that the data can show.

    >>> scale = AccuracyScale(0.01)
    >>> np.round(scale.forward([0.0, 0.9, 0.99, 1.0]), 2)
    array([-0.01,  2.21,  3.91,  4.61])
    """

    offset: float

    @classmethod
    def of(cls, accuracy: FloatArray) -> "AccuracyScale":
        """The scale for these accuracies (any shape, NaN left out).

        >>> AccuracyScale.of(np.array([0.25, 0.875, 1.0]))
        AccuracyScale(offset=0.1)
        >>> AccuracyScale.of(np.array([0.25, 0.9375, 1.0]))
        AccuracyScale(offset=0.0625)
        """
        error = 1 - accuracy[np.isfinite(accuracy)]
        above = error[error > 1e-9]
        return cls(float(np.clip(above.min(), 1e-5, 0.1)) if len(above) else 0.01)

    def forward(self, accuracy: npt.ArrayLike) -> FloatArray:
        """The place on the axis of each accuracy."""
        return -np.log(np.maximum(1 - np.asarray(accuracy, np.float64) + self.offset, 1e-12))

    def inverse(self, place: npt.ArrayLike) -> FloatArray:
        """The accuracy at each place on the axis."""
        return 1 + self.offset - np.exp(-np.asarray(place, np.float64))

    def limits(self, accuracy: FloatArray) -> tuple[float, float]:
        """The ends of an axis that shows all of these accuracies, with a margin, a wider one below.

        >>> low, high = AccuracyScale(0.01).limits(np.array([0.1, 1.0]))
        >>> low < 0.1, 1.0 < high < 1.01
        (True, True)
        """
        places = self.forward(accuracy[np.isfinite(accuracy)])
        margin = max(0.04 * float(np.ptp(places)), 0.02)
        low, high = self.inverse([places.min() - 2 * margin, places.max() + margin])
        return float(low), float(high)

    def ticks(self, low: float, high: float, *, apart: float = 0.05) -> list[float]:
        """The accuracies to label between two ends, ascending: round ones that do not touch each other.

        Args:
            low: One end.
            high: The other.
            apart: How far they are from each other at least, as a share of the axis. A range too narrow for four of
                them is labelled in even steps.

        >>> AccuracyScale(0.01).ticks(0.0, 1.001)
        [0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 1.0]
        """
        bottom, top = self.forward([low, high])
        chosen: list[float] = []
        for accuracy in (round(1 - error, 9) for error in _LABELLED):
            near = np.abs(self.forward(chosen) - self.forward(accuracy)) < apart * (top - bottom)
            if low <= accuracy <= high and not near.any():
                chosen.append(accuracy)
        return sorted(chosen) if len(chosen) > 3 else _even_steps(low, high)


def _even_steps(low: float, high: float) -> list[float]:
    from matplotlib.ticker import MaxNLocator

    steps = MaxNLocator(6, steps=[1, 2, 5, 10]).tick_values(low, high)
    return [float(step) for step in np.round(steps, 9) if low <= step <= min(high, 1)]
