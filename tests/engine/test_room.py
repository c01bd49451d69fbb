"""Programs of earlier sweeps make room for those of the next."""

import gc
from pathlib import Path

import jax
import pytest

import jbn
from jbn.engine import room

needs_proc = pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="no /proc on this system")


def sweep():
    task = jbn.Task(jbn.mlp(layers=1, hidden_units=8), jbn.data.digits())
    return jbn.sweep(task, {"batch_size": [256]}, epochs=1, key=jax.random.key(0))


def maps():
    gc.collect()
    return Path("/proc/self/maps").read_bytes().count(b"\n")


@needs_proc
def test_programs_go_only_where_half_of_the_maps_are_used(tmp_path, monkeypatch):
    room.forget()
    sweep()
    assert sweep().timings.programs == 0  # there is room
    before, limit = maps(), tmp_path / "max_map_count"
    limit.write_text("100")
    monkeypatch.setattr(room, "_MOST_MAPS", limit)
    room.make_room()
    assert maps() < before - 100
    assert sweep().timings.programs > 0


def test_on_a_system_that_does_not_tell_nothing_is_forgotten(tmp_path, monkeypatch):
    sweep()
    monkeypatch.setattr(room, "_MAPS", tmp_path / "none")
    room.make_room()
    assert sweep().timings.programs == 0
