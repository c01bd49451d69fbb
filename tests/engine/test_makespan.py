"""Turns of chunks on workers against schedules worked out by hand."""

import pytest

from jbn.engine.makespan import makespan


@pytest.mark.parametrize(
    ("seconds", "workers", "segments", "expected"),
    [
        ([], 2, 3, 0.0),
        ([2.0], 1, 1, 2.0),
        ([2.0], 4, 5, 10.0),  # a chunk's segments follow one another
        ([3.0, 2.0, 2.0], 2, 1, 4.0),  # 3 | 2 2
        ([1.0, 1.0, 1.0], 2, 1, 2.0),
        # first round: A 0-1, B 0-1, C 1-2 beside A 1-2; then B 2-3, C 2-3: no worker is ever idle
        ([1.0, 1.0, 1.0], 2, 2, 3.0),
        # 4 and 1: the short one waits for nobody
        ([4.0, 1.0], 2, 3, 12.0),
        ([1.0] * 6, 3, 10, 20.0),
    ],
)
def test_by_hand(seconds, workers, segments, expected):
    assert makespan(seconds, workers, segments=segments) == pytest.approx(expected)


def test_many_turns_are_worked_out_in_part():
    """1,000 equal chunks on 2 workers: half of the work each, whatever is simulated."""
    assert makespan([0.5] * 1000, 2, segments=70) == pytest.approx(0.5 * 500 * 70)
