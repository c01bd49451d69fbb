"""Checkpoints on the disk: whole or not at all, the last two kept, damage named."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from jbn.errors import InputError
from jbn.store import checkpoints, create, read, reopen

PARTS = [{"0.members": np.arange(3), "0.0.w": np.ones((3, 2), np.float32)}, {"1.members": np.array([7])}]


def new(folder):
    return create(folder, settings={}, configs={"rate": np.ones(2)}, seeds=1)


def joined(files):
    return {name: array for own in files for name, array in own.items()}


def test_arrays_come_back_and_other_libraries_read_them(tmp_path):
    own = checkpoints.write(tmp_path, 5, PARTS)
    back = joined(checkpoints.read(tmp_path, own))
    assert {name: (array.dtype, array.tolist()) for name, array in back.items()} == {
        name: (array.dtype, array.tolist()) for name, array in joined(PARTS).items()
    }
    folder = tmp_path / "checkpoints" / "segment-000005"
    assert set(load_file(folder / "0.safetensors")) == set(back)
    assert own.bytes == sum(path.stat().st_size for path in folder.iterdir())
    checkpoints.check(tmp_path, own)


def test_large_ones_are_several_files(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "_FILE_BYTES", 30)
    own = checkpoints.write(tmp_path, 1, PARTS)
    assert sorted(own.digests) == ["0.safetensors", "1.safetensors"]
    assert set(joined(checkpoints.read(tmp_path, own))) == set(joined(PARTS))


def test_the_last_two_are_kept(tmp_path):
    with new(tmp_path) as store:
        for segment in (2, 4, 9):
            store.write_checkpoint(checkpoints.write(tmp_path, segment, PARTS))
    assert [own.segment for own in read(tmp_path).checkpoints] == [4, 9]
    assert sorted(os.listdir(tmp_path / "checkpoints")) == ["segment-000004", "segment-000009"]


def test_what_a_kill_left_half_written_goes_with_the_next(tmp_path):
    with new(tmp_path) as store:
        (tmp_path / "checkpoints" / "segment-000003.partial").mkdir(parents=True)
        (tmp_path / "checkpoints" / "segment-000003").mkdir()  # there, but not in the database
        assert read(tmp_path).checkpoints == ()
        store.write_checkpoint(checkpoints.write(tmp_path, 3, PARTS))
    assert os.listdir(tmp_path / "checkpoints") == ["segment-000003"]
    checkpoints.check(tmp_path, read(tmp_path).checkpoints[0])


def test_reopening_forgets_what_came_after(tmp_path):
    with new(tmp_path) as store:
        for segment in (2, 4):
            store.write_checkpoint(checkpoints.write(tmp_path, segment, PARTS))
    reopen(tmp_path, segments=3).close()
    assert [own.segment for own in read(tmp_path).checkpoints] == [2]
    assert os.listdir(tmp_path / "checkpoints") == ["segment-000002"]


@pytest.mark.parametrize("kind", ["altered", "truncated", "missing"])
def test_damage_is_named(tmp_path, kind):
    own = checkpoints.write(tmp_path, 5, PARTS)
    path = tmp_path / "checkpoints" / "segment-000005" / "0.safetensors"
    content = bytearray(path.read_bytes())
    if kind == "altered":
        content[-1] ^= 1
    path.write_bytes(content[:-1] if kind == "truncated" else content)
    if kind == "missing":
        path.unlink()
    reason = "cannot read the checkpoint's file" if kind == "missing" else "was altered or truncated"
    with pytest.raises(InputError, match=rf"segment-000005.0\.safetensors'.*|{reason}") as caught:
        checkpoints.check(tmp_path, own)
    assert reason in str(caught.value)
    with pytest.raises(InputError, match="safetensors'"):
        list(checkpoints.read(tmp_path, own))


def test_a_full_disk_leaves_nothing_and_the_old_one_stays(tmp_path, monkeypatch):
    old = checkpoints.write(tmp_path, 1, PARTS)

    def full(number):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        InputError, match=r"cannot write the checkpoint .* \(No space left.*free some disk space"
    ):
        checkpoints.write(tmp_path, 2, PARTS)
    assert os.listdir(tmp_path / "checkpoints") == ["segment-000001"]
    checkpoints.check(tmp_path, old)


def test_nothing_else_is_removed(tmp_path):
    checkpoints.clean(tmp_path, [])  # no folder of checkpoints at all
    (tmp_path / "notes.txt").write_text("mine")
    checkpoints.write(tmp_path, 1, PARTS)
    checkpoints.clean(tmp_path, [])
    assert sorted(path.name for path in Path(tmp_path).iterdir()) == ["checkpoints", "notes.txt"]


def test_a_folder_that_another_process_has_is_not_reopened(tmp_path):
    with new(tmp_path), pytest.raises(InputError, match=rf"is written to by process {os.getpid()}"):
        reopen(tmp_path, segments=0)
    reopen(tmp_path, segments=0).close()
