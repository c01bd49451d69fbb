"""The settings that a member of a population lived through, and how to live through them again."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import PRNGKeyArray

from jbn.policies.interface import Edits, Event, History


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Settings over time; a policy that sets them for every member after the same segments.

    Args:
        config: the settings of the first segment.
        changes: by the number of a segment, counted from 0, what was set after it.

    >>> schedule = Schedule({"learning_rate": 0.1}, {0: {"learning_rate": 0.05}, 2: {"learning_rate": 0.01}})
    >>> schedule.at(1), schedule.at(3)
    ({'learning_rate': 0.05}, {'learning_rate': 0.01})
    """

    config: Mapping[str, Any]
    changes: Mapping[int, Mapping[str, float]]

    def __call__(self, history: History, key: PRNGKeyArray) -> Edits:
        """What was set after the segment that has just ended."""
        del key
        now = self.changes.get(len(history.steps) - 1, {})
        return Edits(values={name: np.full(len(history.status), value) for name, value in now.items()})

    def next_decision(self, segments: int) -> int | None:
        """The next segment after which something was set."""
        return min((place + 1 for place in self.changes if place >= segments), default=None)

    def at(self, segment: int) -> dict[str, Any]:
        """The settings during a segment."""
        found = dict(self.config)
        for place in sorted(place for place in self.changes if place < segment):
            found |= self.changes[place]
        return found


def schedule_of(member: int, events: Sequence[Event], config_of: Mapping[int, Mapping[str, Any]]) -> Schedule:
    """What a member lived through: where it copied another, what that one lived through before.

    Args:
        member: who.
        events: all of the run, in their order.
        config_of: the settings that every member began with.

    >>> events = [Event(0, 1, "copied", 0), Event(0, 1, "set", None, {"learning_rate": 0.2})]
    >>> schedule_of(1, events, {0: {"learning_rate": 0.1}, 1: {"learning_rate": 9.0}})
    Schedule(config={'learning_rate': 0.1}, changes={0: {'learning_rate': 0.2}})
    """
    changes: dict[int, dict[str, float]] = {}
    before = np.inf  # what is copied is the source as it was before the edits of that segment
    for event in reversed(events):
        if event.member != member or event.segment >= before:
            continue
        if event.kind == "set":
            changes[event.segment] = dict(event.values)
        elif event.source is not None:
            member, before = event.source, event.segment
    return Schedule(dict(config_of[member]), dict(sorted(changes.items())))
