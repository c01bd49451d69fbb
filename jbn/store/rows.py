"""What a run hands to its database: the rows of a segment, and what a policy did."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

JsonValue: TypeAlias = "bool | int | float | str | Sequence[JsonValue] | Mapping[str, JsonValue] | None"


class SegmentRows(NamedTuple):
    """What one segment measured: arrays [rows], one row per configuration and seed that took part.

    `validation` has one array for each name that the store was made to measure. `spreads` has the lowest, mean and
    highest channel of running statistics by their names, [rows, 3] each, NaN where a row has none; or nothing.

    >>> one = np.zeros(1)
    >>> SegmentRows(config_id=np.array([7]), seed=np.array([0]), steps=np.array([100]), train_loss=one,
    ...             validation={"accuracy": one, "loss": one}).config_id
    array([7])
    """

    config_id: npt.NDArray[np.integer]
    seed: npt.NDArray[np.integer]
    steps: npt.NDArray[np.integer]
    train_loss: npt.NDArray[np.floating]
    validation: Mapping[str, npt.NDArray[np.floating]]
    spreads: Mapping[str, npt.NDArray[np.floating]] = MappingProxyType({})


class EventRow(NamedTuple):
    """What a policy did to one configuration and seed after a segment.

    `event` is "stopped", "copied" or "set"; `detail` who was copied (`config_id`, `seed`), or what was set.

    >>> EventRow(2, 7, 0, "set", {"learning_rate": 0.1}).event
    'set'
    """

    segment: int
    config_id: int
    seed: int
    event: str
    detail: Mapping[str, JsonValue]
