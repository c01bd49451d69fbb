import os
import resource
import signal
from contextlib import contextmanager

import pytest

from jbn.errors import InputError
from jbn.store.files import write_whole


@contextmanager
def largest_file(size):
    """The system itself refuses to write more than so many bytes to a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_file_and_its_folders(tmp_path):
    path = tmp_path / "a" / "b" / "file"
    write_whole(path, lambda stream: stream.write(b"first"))
    write_whole(str(path), lambda stream: stream.write(b"2nd"))
    assert path.read_bytes() == b"2nd"
    assert os.listdir(path.parent) == ["file"]


def test_the_old_file_is_there_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write(stream):
        stream.write(b"new")
        stream.flush()
        assert path.read_bytes() == b"old"

    write_whole(path, write)
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, RuntimeError])
def test_an_exception_passes_on_and_leaves_no_partial_file(tmp_path, error):
    def write(stream):
        stream.write(b"half")
        raise error("in the middle")

    with pytest.raises(error, match="in the middle") as caught:
        write_whole(tmp_path / "file", write)
    assert caught.type is error
    assert os.listdir(tmp_path) == []


def test_a_disk_that_is_full(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with (
        largest_file(1000),
        pytest.raises(InputError, match=r"cannot write '.*file' \(File too large\); pick a writable place"),
    ):
        write_whole(path, lambda stream: stream.write(bytes(100_000)))
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_folder_is_not_replaced(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=r"cannot write '.*folder' \(Is a directory\); pick"):
        write_whole(tmp_path / "folder", lambda stream: stream.write(b"x"))
    assert os.listdir(tmp_path) == ["folder"]


def test_a_file_where_the_folder_should_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write '.*picture'"):
        write_whole(tmp_path / "file" / "picture", lambda stream: stream.write(b"x"))


def test_the_longest_name_a_folder_can_hold(tmp_path):
    write_whole(tmp_path / ("a" * 255), lambda stream: stream.write(b"x"))
    with pytest.raises(InputError, match=r"\(File name too long\)"):
        write_whole(tmp_path / ("a" * 256), lambda stream: stream.write(b"x"))
    assert os.listdir(tmp_path) == ["a" * 255]


@pytest.mark.parametrize("path", ["", ".", "/", "a\0b"])
def test_paths_without_a_name(path):
    with pytest.raises(InputError, match=r"a file to write needs a name, but '.*' has none; give a path"):
        write_whole(path, lambda stream: stream.write(b"x"))
