import os
import pickle
import zipfile
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jbn.errors import InputError
from jbn.store import load_weights, save_weights


class Stats(NamedTuple):
    mean: np.ndarray
    var: np.ndarray
    count: np.ndarray | None = None


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def test_a_nested_tree_comes_back_bit_for_bit(tmp_path):
    random = np.random.default_rng(0)
    bits = random.integers(0, 2**32, 6, dtype=np.uint32)
    mean = np.append(bits, np.uint32(0x7FC0_1234)).view(np.float32)  # a NaN with a payload
    stats = Stats(mean=mean, var=np.array([-0.0, np.inf]), count=np.float32(3))
    tree = {
        "params": {"layer_1": {"kernel": random.normal(size=(3, 4)), "bias": None}, "file": np.zeros((0, 2))},
        "stats": {"layer_1": stats, "layer_2": Stats(np.ones(1), np.ones(1))},
        "opt_state": (np.int64(7), [np.array(True), jnp.arange(3)]),
    }
    path = tmp_path / "best.npz"
    save_weights(path, tree)
    loaded = load_weights(path)
    assert set(loaded) == {
        "params/file",
        "params/layer_1/kernel",
        "stats/layer_1/mean",
        "stats/layer_1/var",
        "stats/layer_1/count",
        "stats/layer_2/mean",
        "stats/layer_2/var",
        "opt_state/0",
        "opt_state/1/0",
        "opt_state/1/1",
    }
    assert same(loaded["params/layer_1/kernel"], tree["params"]["layer_1"]["kernel"])
    assert same(loaded["params/file"], tree["params"]["file"])
    assert same(loaded["stats/layer_1/mean"], mean)
    assert same(loaded["stats/layer_1/var"], stats.var)
    assert same(loaded["stats/layer_1/count"], np.asarray(stats.count))
    assert same(loaded["opt_state/0"], np.asarray(np.int64(7)))
    assert same(loaded["opt_state/1/0"], np.array(True))
    assert same(loaded["opt_state/1/1"], np.asarray(jnp.arange(3)))


@settings(max_examples=40, deadline=None)
@given(
    hnp.arrays(
        st.sampled_from(["f2", "f4", ">f8", "i1", "u8", "c8", "?"]), hnp.array_shapes(min_dims=0, min_side=0)
    )
)
def test_any_array_comes_back(tmp_path_factory, array):
    path = tmp_path_factory.mktemp("weights") / "w.npz"
    save_weights(path, {"turned": array.T, "it": array})
    loaded = load_weights(path)
    assert same(loaded["turned"], array.T)
    assert same(loaded["it"], array)


def test_numpy_reads_the_file_too(tmp_path):
    save_weights(tmp_path / "w.npz", {"a": {"b": np.arange(3)}})
    with np.load(tmp_path / "w.npz", allow_pickle=False) as archive:
        assert archive.files == ["a/b"]
        assert archive["a/b"].tolist() == [0, 1, 2]


def test_a_file_of_numpy_can_be_read(tmp_path):
    np.savez_compressed(tmp_path / "w.npz", a=np.arange(3))
    assert load_weights(tmp_path / "w.npz")["a"].tolist() == [0, 1, 2]


def test_equal_weights_give_equal_files_and_folders_are_made(tmp_path):
    tree = {"a": np.arange(3.0)}
    save_weights(tmp_path / "x" / "one", tree)
    save_weights(str(tmp_path / "x" / "two"), tree)
    assert sorted(os.listdir(tmp_path / "x")) == ["one", "two"]
    assert (tmp_path / "x" / "one").read_bytes() == (tmp_path / "x" / "two").read_bytes()


def test_the_time_of_writing_is_not_in_the_file(tmp_path):
    save_weights(tmp_path / "w.npz", {"a": np.arange(3)})
    with zipfile.ZipFile(tmp_path / "w.npz") as archive:
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_an_empty_tree(tmp_path):
    save_weights(tmp_path / "w.npz", {"a": None, "b": ()})
    assert load_weights(tmp_path / "w.npz") == {}


@pytest.mark.parametrize("failing", ["write_array", "fsync", "replace"])
def test_a_failure_leaves_the_old_file_and_no_partial_one(tmp_path, monkeypatch, failing):
    def interrupt(*args, **more):
        raise KeyboardInterrupt

    path = tmp_path / "w.npz"
    save_weights(path, {"a": np.arange(3)})
    before = path.read_bytes()
    place = {"write_array": "numpy.lib.format.write_array", "fsync": "os.fsync", "replace": "os.replace"}
    with monkeypatch.context() as patch:
        patch.setattr(place[failing], interrupt)
        with pytest.raises(KeyboardInterrupt):
            save_weights(path, {"a": np.arange(4)})
    assert os.listdir(tmp_path) == ["w.npz"]
    assert path.read_bytes() == before
    save_weights(path, {"a": np.arange(4)})
    assert len(load_weights(path)["a"]) == 4


def test_a_full_disk(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(
        InputError, match=r"cannot write '.*w.npz' \(No space left on device\); pick a writable"
    ):
        save_weights(tmp_path / "w.npz", {"a": np.arange(3)})
    assert os.listdir(tmp_path) == []


def test_a_file_where_the_folder_should_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write '.*w.npz'"):
        save_weights(tmp_path / "file" / "w.npz", {"a": np.arange(3)})


@pytest.mark.parametrize(
    "leaf",
    [
        np.ones(2, jnp.bfloat16),
        np.ones(2, jnp.float8_e5m2),
        jnp.ones(2, jnp.float8_e4m3fn),
        jax.random.key(0),
        object(),
        np.array([1, None], object),
    ],
    ids=["bfloat16", "float8_e5m2", "float8_e4m3fn", "key", "object", "objects"],
)
def test_dtypes_that_npz_cannot_keep(tmp_path, leaf):
    with pytest.raises(InputError, match=r"'a/b' has dtype .*, which .npz cannot keep; save it as float32"):
        save_weights(tmp_path / "w.npz", {"a": {"b": leaf}})
    assert os.listdir(tmp_path) == []


def test_two_arrays_of_one_path(tmp_path):
    with pytest.raises(InputError, match=r"two arrays have the path 'a/b'; use names without '/'"):
        save_weights(tmp_path / "w.npz", {"a/b": np.ones(1), "a": {"b": np.ones(1)}})


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
def test_an_unprintable_path(tmp_path, name):
    with pytest.raises(InputError, match=r"an array needs a printable path, not .*; rename its key"):
        save_weights(tmp_path / "w.npz", {name: np.ones(1)})
    assert os.listdir(tmp_path) == []


def test_missing_weights(tmp_path):
    with pytest.raises(
        InputError, match=r"no weights at '.*w.npz' \(No such file or directory\); name a file"
    ):
        load_weights(tmp_path / "w.npz")
    with pytest.raises(InputError, match=r"no weights at"):
        load_weights(tmp_path)


def pickled(path: Path):
    np.savez(path, a=np.array([1, None], object))


def other_members(path: Path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")


FOREIGN = {
    "text": lambda path: path.write_text("hello"),
    "empty": lambda path: path.write_bytes(b""),
    "npy": lambda path: path.write_bytes(b"\x93NUMPY\x01\x00"),
    "pickle": lambda path: path.write_bytes(pickle.dumps({"a": 1})),
    "objects": pickled,
    "zip": other_members,
}


@pytest.mark.parametrize("make", FOREIGN.values(), ids=FOREIGN)
def test_foreign_weights(tmp_path, make):
    make(tmp_path / "w.npz")
    with pytest.raises(
        InputError, match=r"w.npz' is not a whole .npz file of plain arrays .*; name a file"
    ) as caught:
        load_weights(tmp_path / "w.npz")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kept", [10, 200, 0.5, -1])
def test_truncated_weights(tmp_path, kept):
    path = tmp_path / "w.npz"
    save_weights(path, {"a": np.arange(1000.0), "b": np.arange(1000.0)})
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    with pytest.raises(InputError, match=r"is not a whole .npz file"):
        load_weights(path)


def test_a_flipped_bit_is_found(tmp_path):
    path = tmp_path / "w.npz"
    save_weights(path, {"a": np.arange(1000.0)})
    content = bytearray(path.read_bytes())
    content[4000] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"Bad CRC-32"):
        load_weights(path)


def test_a_jitted_result_can_be_donated_after_saving(tmp_path):
    value = jax.jit(lambda x: x + 1)(jnp.zeros(4))
    save_weights(tmp_path / "w.npz", {"a": value})
    add = jax.jit(lambda x: x + 1, donate_argnums=0)
    pointer = value.unsafe_buffer_pointer()
    assert add(value).unsafe_buffer_pointer() == pointer
