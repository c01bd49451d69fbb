"""Parameters and running statistics as the arrays of the framework that they came from."""

from typing import Any

import numpy as np

from jbn.errors import InputError
from jbn.interop.weights.counting import counter, divisor
from jbn.interop.weights.loading import Loaded
from jbn.interop.weights.settings import Settings, Stored
from jbn.nn.batch_norm import BatchNormParams, BatchNormStats


def save(*layer: Any, steps: int = 0) -> dict[str, np.ndarray]:
    """The arrays of a layer under its framework's own names, in the shapes and types that it was loaded in.

    What is stored as it is comes back bit for bit; what was converted (inverse and log10 deviations, sums with a
    scale factor) is converted back in float64.

    Args:
        *layer: what `load` returned, or its three parts `params, stats, settings`, with other values after training.
        steps: of training since it was loaded, for counters that the statistics do not tell
            (`num_batches_tracked`, haiku's and equinox's counters).

    Returns:
        NumPy arrays in the order in which they were loaded.

    Raises:
        InputError: parameters or statistics that are not those of the layer; values that are not finite, or that the
            framework cannot store.

    >>> import numpy as np
    >>> from jbn.interop.weights import load
    >>> arrays = {"mean": np.zeros((1, 2)), "inv_std": np.array([[0.5, 2.0]])}
    >>> save(load("lasagne", arrays))["inv_std"].tolist()
    [[0.5, 2.0]]
    """
    if len(layer) not in (1, 3):
        raise InputError(
            f"save takes what load returned, or params, stats and settings, but got {len(layer)} values"
        )
    params, stats, settings = layer if len(layer) == 3 else Loaded(*layer[0])
    if not isinstance(settings, Settings):
        raise InputError(f"save takes the settings that load returned, but got {type(settings).__name__}")
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 0:
        raise InputError(f"steps must be a whole number of at least 0, but got steps={steps!r}")
    if (stats is not None) != settings.tracked:
        raise InputError(
            f"{settings.label}: it keeps {'' if settings.tracked else 'no '}running statistics, "
            f"but got stats={'something' if stats is not None else None}"
        )
    return _Saving(params, stats, settings, steps).arrays()


class _Saving:
    """One layer on its way out."""

    def __init__(
        self,
        params: BatchNormParams | None,
        stats: BatchNormStats | None,
        settings: Settings,
        steps: int,
    ):
        self._settings = settings
        self._values: dict[str, np.ndarray] = {}
        for part in (params, stats):
            if part is not None:
                given = {name: value for name, value in part._asdict().items() if value is not None}
                self._values |= {name: np.asarray(value) for name, value in given.items()}
        self._check_constants()
        self._counter = None if stats is None else counter(settings, float(self._values["count"]), steps)

    def arrays(self) -> dict[str, np.ndarray]:
        return {stored.name: self._array(stored) for stored in self._settings.layout}

    def _array(self, stored: Stored) -> np.ndarray:
        if stored.role == "counter":
            return np.asarray(self._counter, np.float64).reshape(stored.shape).astype(stored.dtype)
        if stored.data:
            return np.frombuffer(stored.data, stored.dtype).reshape(stored.shape).copy()
        value = self._converted(stored)
        if value.size != np.prod(stored.shape):
            raise self._error(stored, f"has {np.prod(stored.shape):g} entries, but got {list(value.shape)}")
        value = value.reshape(stored.shape).astype(stored.dtype)
        if not np.isfinite(value.astype(np.float64)).all():
            raise self._error(stored, f"must be finite, but {stored.role} gives what is not")
        return value

    def _converted(self, stored: Stored) -> np.ndarray:
        """The value in the form in which the framework has it."""
        name = stored.role.removeprefix("hidden ")
        if name not in self._values:
            raise self._error(stored, f"is {name}, but the parameters have none")
        value, form = self._values[name], self._settings.form
        scaled = (form.divided and name in ("mean", "var")) or stored.role.startswith("hidden")
        converted = stored.role.endswith("var") and not form.stored.as_it_is
        if not scaled and not converted:
            return value
        value = value.astype(np.float64)
        if converted:
            with np.errstate(all="ignore"):
                value = form.stored.save(value, self._settings.epsilon)
        return value * divisor(self._settings, self._counter) if scaled else value

    def _check_constants(self) -> None:
        for name, number in self._settings.constants:
            if name in self._values and not (self._values[name] == number).all():
                raise InputError(
                    f"{self._settings.label}: its {name} is always {number:g}, but got another one; "
                    f"train with the settings' own train, which keeps it"
                )

    def _error(self, stored: Stored, words: str) -> InputError:
        return InputError(f"{self._settings.label}: array {stored.name!r} {words}")
