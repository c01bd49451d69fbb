"""Who took part and what a policy did, counted by hand; and a member's way, against that of the policies."""

import datetime

import numpy as np
import pandas as pd
import pytest

from jbn.policies import Event, schedule_of
from jbn.report.timeline import lineage, timeline
from jbn.store import EventRow, Record, read


def test_counts_by_segment(tmp_path, recorded):
    record = read(recorded(tmp_path / "run", configs=9, segments=4, seeds=2, diverged=0.2, halved=(1,)))
    found = timeline(record)
    assert found["segment"] == [1, 2, 3, 4]
    assert found["alive"] == [18, 6, 6 - found["diverged"][1], 6 - found["diverged"][1]]
    assert found["stopped"] == [12, 0, 0, 0]
    assert found["copied"] == found["set"] == [0] * 4
    assert found["round"] == [1] * 4
    start = datetime.datetime.fromisoformat(record.settings["started"]).timestamp()
    assert found["time"] == [start + 2.5, start + 5, start + 7.5, start + 10]


def test_what_diverged_is_counted_where_it_did(tmp_path, recorded):
    found = timeline(read(recorded(tmp_path / "run", configs=10, segments=3, diverged=0.3)))
    assert found["alive"] == [10, 10, 7]
    assert found["diverged"] == [0, 3, 0]


def test_before_the_first_segment_there_is_nothing(tmp_path, recorded):
    found = timeline(read(recorded(tmp_path / "run", ended=False, written=0)))
    assert all(values == [] for values in found.values())


def test_rounds_come_after_each_other(tmp_path, recorded):
    events = [EventRow(0, 1, 0, "stopped", {})]
    recorded(tmp_path / "round-1", configs=4, segments=2, events=events)
    recorded(tmp_path / "round-2", configs=3, segments=1)
    found = timeline(read(tmp_path))
    assert found["round"] == [1, 1, 2]
    assert found["segment"] == [1, 2, 1]
    assert found["alive"] == [4, 4, 3]
    assert found["stopped"] == [1, 0, 0]


def record_of(events):
    rows = [
        (event.segment, event.member, 0, event.kind,
         {"config_id": event.source, "seed": 0} if event.kind == "copied" else dict(event.values))
        for event in events
    ]  # fmt: skip
    columns = ["segment", "config_id", "seed", "event", "detail"]
    return Record({}, pd.DataFrame(), pd.DataFrame(), pd.DataFrame(rows, columns=columns))


@pytest.mark.parametrize("seed", range(5))
def test_a_way_has_the_changes_of_the_schedule(seed):
    """Random populations: what the winner lived through is what the policies say it was."""
    rng, events = np.random.default_rng(seed), []
    for segment in range(8):
        for target in rng.permutation(6)[:2]:
            source = int(rng.choice([one for one in range(6) if one != target]))
            events.append(Event(segment, int(target), "copied", source))
        chosen = rng.permutation(6)[:3].tolist()
        events += [Event(segment, target, "set", None, {"rate": float(rng.random())}) for target in chosen]
    for member in range(6):
        schedule = schedule_of(member, events, {one: {"rate": 0.0, "who": one} for one in range(6)})
        way = lineage(record_of(events), member, 0)
        found = {change.segment - 1: change.values for change in way.changes if change.values}
        assert found == schedule.changes
        assert way.member(0)[0] == schedule.config["who"]
        assert way.member(8) == (member, 0)


def test_a_way_follows_the_source_as_it_was_then():
    events = [
        Event(1, 2, "copied", 5),
        Event(3, 0, "copied", 2),
        Event(3, 0, "set", None, {"rate": 0.5}),
        Event(4, 2, "set", None, {"rate": 9.0}),  # after the copy: none of it
    ]
    way = lineage(record_of(events), 0, 0)
    assert [way.member(segment)[0] for segment in range(6)] == [5, 5, 2, 2, 0, 0]
    assert [(change.segment, change.copied, change.values) for change in way.changes] == [
        (2, (5, 0), {}),
        (4, (2, 0), {}),
        (4, None, {"rate": 0.5}),
    ]
