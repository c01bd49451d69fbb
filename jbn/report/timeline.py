"""What happened when: who took part in every segment, what a policy did, and whose state a member has."""

import datetime
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jbn.store import Record

if TYPE_CHECKING:
    import pandas as pd

Lists = dict[str, list[Any]]


def timeline(record: Record) -> Lists:
    """One entry per segment, round by round: who took part and what became of them.

    Returns:
        Lists by name: `round`, `segment` (both counted from 1), `time` (seconds since 1970, without the pauses of a
        resumed run, None where it is not known), `alive` (members that took part), and how many of them `diverged`
        in it, or after it were `stopped`, `copied` (another's state) or `set` (hyper-parameters).
    """
    curves, events = record.curves, record.events
    first = {"round": _round_of(record)}
    curves = curves.assign(
        round=_looked_up(first, curves),
        lost=~np.isfinite(curves["train_loss"]) | ~np.isfinite(curves["validation_loss"]),
    )
    alive = curves.groupby(["round", "segment"])["lost"].agg(["size", "sum"])
    happened = events.assign(round=_looked_up(first, events)).groupby(["round", "segment", "event"]).size()
    times = _times(record)
    found: Lists = {
        "round": [int(number) for number, _ in alive.index],
        "segment": [int(segment) + 1 for _, segment in alive.index],
        "time": [times.get((int(number), int(segment))) for number, segment in alive.index],
        "alive": alive["size"].astype(int).tolist(),
        "diverged": alive["sum"].astype(int).tolist(),
    }
    for event in ("stopped", "copied", "set"):
        found[event] = [int(happened.get((*place, event), 0)) for place in alive.index]
    return found


def _round_of(record: Record) -> "pd.Series":
    """The round of every configuration, by `config_id`."""
    table = record.configurations
    rounds = table["round"] if "round" in table else table["config_id"] * 0 + 1
    return rounds.set_axis(table["config_id"])


def _looked_up(first: dict[str, "pd.Series"], rows: "pd.DataFrame") -> np.ndarray:
    return first["round"].reindex(rows["config_id"]).to_numpy()


def _times(record: Record) -> dict[tuple[int, int], float]:
    table, starts = record.segments, [_moment(own.get("started")) for own in of_rounds(record.settings)]
    rounds = table["round"].tolist() if "round" in table else [1] * len(table)
    rows = zip(rounds, table["segment"].tolist(), table["seconds"].tolist(), strict=True)
    return {
        (number, segment): start + seconds
        for number, segment, seconds in rows
        if (start := starts[number - 1]) is not None
    }


def of_rounds(settings: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The settings of every round; of a run that is no search in rounds its own."""
    return settings.get("of_rounds", [settings])


def _moment(text: str | None) -> float | None:
    """A time as runs write it, in seconds since 1970."""
    return None if text is None else datetime.datetime.fromisoformat(text).timestamp()


class Change(NamedTuple):
    """What became of a member after a segment.

    Attributes:
        segment: After which one, counted from 1.
        copied: Whose state it went on from, `(config_id, seed)`; None where it kept its own.
        values: Hyper-parameters that were set.
    """

    segment: int
    copied: tuple[int, int] | None
    values: dict[str, Any]


class Lineage(NamedTuple):
    """Whose state a member has, and what it lived through.

    Attributes:
        member: `member(segment) -> (config_id, seed)`: whose state in that segment, counted from 0, this comes from.
        changes: In their order.
    """

    member: Callable[[int], tuple[int, int]]
    changes: list[Change]


def lineage(record: Record, config_id: int, seed: int) -> Lineage:
    """The way of a member back to its start, through those whose state it copied.

    A copy after segment s is of the source as it was then, so before s + 1 the way leads on along the source.
    """
    steps: list[tuple[int, tuple[int, int]]] = []  # (last segment, whose), the latest first
    changes: list[Change] = []
    now, before = (config_id, seed), np.inf
    rows = record.events[["segment", "config_id", "seed", "event", "detail"]].itertuples(
        index=False, name=None
    )
    for segment, config, own_seed, event, detail in reversed(list(rows)):
        if (config, own_seed) != now or segment >= before:
            continue
        if event == "set":
            changes.append(Change(int(segment) + 1, None, dict(detail)))
        elif event == "copied":
            source = (int(detail["config_id"]), int(detail["seed"]))
            changes.append(Change(int(segment) + 1, source, {}))
            steps.append((int(segment), source))
            now, before = source, segment

    def member(segment: int) -> tuple[int, int]:
        own = (config_id, seed)
        for last, source in steps:
            own = source if segment <= last else own
        return own

    return Lineage(member, changes[::-1])
