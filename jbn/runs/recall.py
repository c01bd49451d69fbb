"""A recorded run's history, as it was after any of its segments."""

from typing import TYPE_CHECKING, Any

import numpy as np

from jbn import store
from jbn.policies import DIVERGED, RUNNING, STOPPED, Event, History

if TYPE_CHECKING:
    import pandas as pd


def recalled(record: store.Record, empty: History, segments: int) -> History:
    """The history after so many segments, and after what the policy did then.

    Args:
        record: what was written.
        empty: the history of the same population before its first segment.
        segments: how many.
    """
    members = len(empty.status)
    curves = record.curves[record.curves["segment"] < segments]
    at = curves["segment"].to_numpy(), (curves["config_id"] * empty.seeds + curves["seed"]).to_numpy()

    def filled(values: "pd.Series[Any]", nothing: float) -> np.ndarray:
        own = values.to_numpy()
        whole = np.full((segments, members), nothing, own.dtype)
        whole[at] = own
        return whole

    history = empty._replace(
        train_loss=filled(curves["train_loss"], np.nan),
        validation={name: filled(curves[store.column(name)], np.nan) for name in empty.validation},
        # steps of a member that took no part are those of the segment before: they never become fewer
        steps=np.maximum.accumulate(filled(curves["steps"], 0), axis=0),
    )
    return _with_status(history, recalled_events(record, empty.seeds, segments))


def recalled_events(record: store.Record, seeds: int, segments: int) -> tuple[Event, ...]:
    """What the policy did in so many segments."""
    rows = record.events[record.events["segment"] < segments].itertuples(index=False)
    return tuple(_event(row, seeds) for row in rows)


def _event(row: Any, seeds: int) -> Event:
    member, detail = row.config_id * seeds + row.seed, dict(row.detail)
    if row.event == "copied":
        return Event(row.segment, member, row.event, detail["config_id"] * seeds + detail["seed"])
    return Event(row.segment, member, row.event, None, detail)


def _with_status(history: History, events: tuple[Event, ...]) -> History:
    """Status and hyper-parameters, by living through all segments once more."""
    status = np.full(len(history.status), RUNNING)
    configs = {name: np.array(values) for name, values in history.configs.items()}
    finite = np.isfinite(history.train_loss) & np.isfinite(history.validation_loss)
    for segment in range(len(history.steps)):
        status[history.took_part(segment) & ~finite[segment]] = DIVERGED
        for event in (own for own in events if own.segment == segment):
            if event.kind == "stopped":
                status[event.member] = STOPPED
            if event.kind == "copied":
                status[event.member] = RUNNING
            for name, value in event.values.items():
                configs[name] = configs[name].astype(np.float64)
                configs[name][event.member] = value
    return history._replace(status=status, configs=configs)
