"""Training data in files: which rows a block has, what is loaded, and what is refused."""

import itertools
import zipfile

import numpy as np
import pytest

from jbn.errors import InputError
from jbn.nn import normalizer
from jbn.task.data import Blocks, arrays, load, memory_map, shards
from jbn.task.data.blocks import default_rows

ROWS = 60


def numbered(rows=ROWS, *, features=3, dtype=np.float32):
    """Every row has its own number in all features; class = number % 4."""
    x = np.repeat(np.arange(rows)[:, None], features, axis=1).astype(dtype)
    return x, np.arange(rows) % 4


def held(rows=8):
    x, y = numbered(rows)
    return {"x_validation": x, "y_validation": y, "x_test": x, "y_test": y}


def write_pairs(folder, sizes, *, x=None, y=None):
    x, y = numbered(sum(sizes)) if x is None else (x, y)
    for name, part in enumerate(np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])):
        np.save(folder / f"x_{name:02}.npy", x[part])
        np.save(folder / f"y_{name:02}.npy", y[part])


def write_archives(folder, sizes):
    x, y = numbered(sum(sizes))
    for name, part in enumerate(np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])):
        np.savez(folder / f"{name:02}.npz", x=x[part], y=y[part])


def read(data, epoch=0, seed=5):
    """The row numbers of every block, and their labels."""
    found = [(part.x[part.place][:, 0], part.y[part.place]) for part in data.train.read(epoch, seed)]
    return [x.astype(int).tolist() for x, _ in found], [y.tolist() for _, y in found]


def flat(lists):
    return list(itertools.chain.from_iterable(lists))


def refused(make, *words):
    with pytest.raises(InputError) as raised:
        make()
    for word in words:
        assert str(word) in str(raised.value)


@pytest.mark.parametrize("write", [write_pairs, write_archives])
@pytest.mark.parametrize("sizes", [[60], [20, 40], [1, 2, 3, 50, 4]])
@pytest.mark.parametrize("block_rows", [60, 59, 7, 1])
def test_an_epoch_has_every_row_once_with_its_label(tmp_path, write, sizes, block_rows):
    write(tmp_path, sizes)
    np.savez(tmp_path / "validation.npz", x=numbered(8)[0], y=numbered(8)[1])
    np.savez(tmp_path / "test.npz", x=numbered(4)[0], y=numbered(4)[1])
    data = shards(tmp_path, block_rows=block_rows)
    assert isinstance(data.train, Blocks)
    assert (data.rows, len(data.validation.y), len(data.test.y)) == (60, 8, 4)
    blocks, labels = read(data)
    assert sorted(flat(blocks)) == list(range(60))
    assert flat(labels) == [row % 4 for row in flat(blocks)]
    assert max(map(len, blocks)) == data.train.capacity <= block_rows
    assert max(map(len, blocks)) - min(map(len, blocks)) <= 1
    assert all(block == list(range(min(block), max(block) + 1)) for block in blocks)  # stretches of the files


def test_every_epoch_and_every_seed_has_another_order_of_blocks_and_the_same_has_the_same():
    data = memory_map(*numbered(), **held(), block_rows=4)
    orders = [read(data, epoch, seed)[0] for epoch, seed in ((0, 5), (1, 5), (0, 6))]
    assert orders[0] == read(data, 0, 5)[0]
    assert orders[0] != orders[1]
    assert orders[0] != orders[2]
    assert sorted(orders[0]) == sorted(orders[1])


@pytest.mark.parametrize("block_rows", [100, 7])
def test_what_is_split_off_is_what_is_split_off_arrays(tmp_path, block_rows):
    write_pairs(tmp_path, [25, 35])
    expected = arrays(*numbered(), seed=3)
    data = shards(tmp_path, seed=3, block_rows=block_rows)
    for part in ("validation", "test"):
        np.testing.assert_array_equal(getattr(data, part).x, getattr(expected, part).x)
        np.testing.assert_array_equal(getattr(data, part).y, getattr(expected, part).y)
    blocks, labels = read(data)
    assert sorted(flat(blocks)) == sorted(expected.train.x[:, 0])
    assert flat(labels) == [row % 4 for row in flat(blocks)]
    if block_rows == 100:
        assert blocks[0] == expected.train.x[:, 0].tolist()  # one block: also in the same order


def test_the_share_that_is_split_off_is_the_stated_one():
    x, y = numbered(400)
    data = memory_map(x, y, share=0.05, block_rows=50)
    assert (data.rows, len(data.validation.y), len(data.test.y)) == (360, 20, 20)
    data = memory_map(x, y, x_test=x[:4], y_test=y[:4], share=0.1)
    assert (data.rows, len(data.validation.y), len(data.test.y)) == (360, 40, 4)


@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.float64, ">f4", np.int16])
def test_the_statistics_are_those_of_the_training_rows_alone(tmp_path, dtype):
    x = np.random.default_rng(0).normal(0, 30, (200, 2, 3)).clip(0).astype(dtype)
    y = np.arange(200) % 4
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    data = memory_map(tmp_path / "x.npy", tmp_path / "y.npy", block_rows=16)
    rows = np.concatenate([part.x[part.place] for part in data.train.read(0, 0)])
    expected = normalizer.fit(rows)
    np.testing.assert_allclose(data.train.normalizer.mean, expected.mean, rtol=1e-12)
    np.testing.assert_allclose(data.train.normalizer.factor, expected.factor, rtol=1e-9)
    assert len(rows) == 120


def test_small_data_are_loaded_and_equal_arrays(tmp_path):
    write_pairs(tmp_path, [20, 40])
    expected, data = arrays(*numbered(), seed=2), shards(tmp_path, seed=2)
    for part in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(data, part).x, getattr(expected, part).x)
        np.testing.assert_array_equal(getattr(data, part).y, getattr(expected, part).y)
    (tmp_path / "x_00.npy").unlink()  # nothing is read any more
    assert data.train.x.sum() > 0


def test_what_is_larger_than_256_mb_as_float32_is_not_loaded(tmp_path):
    path, y = tmp_path / "x.npy", np.arange(6_600) % 2
    x = np.lib.format.open_memmap(path, "w+", np.uint8, (6_600, 10_000))  # a sparse file: 66 MB of zeros
    del x
    data = memory_map(path, y)
    assert isinstance(data.train, Blocks)
    assert data.train.capacity <= 12_800
    assert not isinstance(memory_map(*numbered()).train, Blocks)


def test_default_blocks_follow_from_the_size_of_a_row():
    assert default_rows((784,)) * 784 * 4 == pytest.approx(64e6, rel=1e-3)
    assert default_rows((10_000,)) == 50 * 256
    assert default_rows((10**9,)) == 1


def test_a_folder_of_x_train_and_the_like(tmp_path):
    x, y = numbered()
    for part, rows in {"train": slice(0, 40), "validation": slice(40, 50), "test": slice(50, 60)}.items():
        np.save(tmp_path / f"x_{part}.npy", x[rows])
        np.save(tmp_path / f"y_{part}.npy", y[rows])
    for data in (memory_map(tmp_path), shards(str(tmp_path)), load(tmp_path)):
        assert (data.name, data.rows) == (tmp_path.name, 40)
        np.testing.assert_array_equal(data.test.x, x[50:])
    assert memory_map(tmp_path, block_rows=10, name="mine").name == "mine"


def test_shards_come_in_the_order_of_their_names(tmp_path):
    for name, start in {"b": 20, "a": 0, "c": 40}.items():
        np.savez(tmp_path / f"{name}.npz", x=numbered()[0][start : start + 20], y=numbered()[1][:20])
    np.savez(tmp_path / "validation.npz", x=numbered(8)[0], y=numbered(8)[1])
    np.savez(tmp_path / "test.npz", x=numbered(8)[0], y=numbered(8)[1])
    assert read(shards(tmp_path, block_rows=100))[0] == [list(range(60))]


def test_arrays_in_the_order_of_columns_and_of_both_npy_versions(tmp_path):
    x, y = numbered()
    np.save(tmp_path / "x.npy", np.asfortranarray(x))
    with (tmp_path / "y.npy").open("wb") as file:
        np.lib.format.write_array(file, y, version=(2, 0))
    data = memory_map(tmp_path / "x.npy", tmp_path / "y.npy", **held(), block_rows=7)
    blocks, labels = read(data)
    assert sorted(flat(blocks)) == list(range(60))
    assert flat(labels) == [row % 4 for row in flat(blocks)]


@pytest.mark.parametrize("block_rows", [None, 7])
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
class TestNotFinite:
    def test_the_message_has_the_shard_and_the_row(self, tmp_path, wrong, block_rows):
        x, y = numbered()
        x[33, 2] = wrong
        write_pairs(tmp_path, [20, 40], x=x, y=y)
        refused(
            lambda: shards(tmp_path, block_rows=block_rows),
            f"x ({tmp_path / 'x_01.npy'}) has a {wrong} in row 13, column 2; features must be finite",
        )

    def test_also_in_what_is_split_off(self, wrong, block_rows):
        for row in range(0, 60, 7):
            x, y = numbered()
            x[row] = wrong
            refused(
                lambda x=x, y=y: memory_map(x, y, block_rows=block_rows),
                f"x_train has a {wrong} in row {row}, column 0 (and 2 more not finite)",
            )

    def test_also_in_the_other_parts(self, wrong, block_rows):
        given = held()
        given["x_test"] = np.where(np.arange(8)[:, None] == 5, wrong, given["x_test"])
        refused(
            lambda: memory_map(*numbered(), **given, block_rows=block_rows),
            f"x_test has a {wrong} in row 5, column 0",
        )


class TestRefused:
    def test_files_that_are_missing_or_damaged(self, tmp_path):
        x, y = numbered()
        gone, bad = tmp_path / "gone.npy", tmp_path / "x_bad.npy"
        refused(lambda: memory_map(gone, y), gone, "there is none", "np.save")
        for content in (b"no array", b"\x93NUMPY\x09\x00", b""):
            bad.write_bytes(content)
            refused(lambda: memory_map(bad, y), f"x_train ({bad}) cannot be read", "damaged")
        np.save(bad, x)
        bad.write_bytes(bad.read_bytes()[:-1])
        refused(lambda: memory_map(bad, y), f"x_train ({bad}) cannot be read", "damaged")
        np.save(bad, np.array([{}, {}]), allow_pickle=True)
        refused(lambda: memory_map(bad, y), f"x_train ({bad}) must hold numbers, but holds Python objects")

    def test_parts_without_their_other_half(self):
        x, y = numbered()
        refused(lambda: memory_map(x), "x_train and y_train must come together")
        refused(lambda: memory_map(x, y, y_test=y), "x_test and y_test must come together")

    @pytest.mark.parametrize("share", [0, -0.1, 0.26, float("nan")])
    def test_shares(self, share):
        refused(lambda: memory_map(*numbered(), share=share), "share must be above 0 and at most 0.25", share)

    @pytest.mark.parametrize("rows", [0, -1, 2.5, "many"])
    def test_block_rows(self, rows):
        refused(
            lambda: memory_map(*numbered(), block_rows=rows),
            f"block_rows must be a whole number of at least 1, but got {rows!r}",
        )

    @pytest.mark.parametrize("block_rows", [None, 7])
    def test_arrays_that_do_not_fit(self, tmp_path, block_rows):
        x, y = numbered()

        def of(x, y, **more):
            return lambda: memory_map(x, y, **more, block_rows=block_rows)

        refused(of(x, y[:-1]), "x_train and y_train must have the same number of rows")
        refused(of(x[:0], y[:0]), "x_train must have at least one row")
        refused(of(x.astype(str), y), "x_train must hold real numbers")
        refused(of(x, y + 0.5), "y_train must be whole numbers, but has 0.5 in row 0")
        refused(of(x, y + 1), "y_train must have the classes 0 to K-1")
        refused(of(x, 0 * y), "at least two classes")
        refused(of(x, y, **{**held(), "x_test": x[:8, :2]}), "x_test must have the features of x_train")
        refused(
            of(x, y, **{**held(), "y_test": y[:8] + 1}), "y_test must have no class that is never in y_train"
        )

    def test_folders(self, tmp_path):
        x, y = numbered()
        refused(lambda: shards(tmp_path / "gone"), tmp_path / "gone", "must be a folder", "there is none")
        refused(lambda: shards(tmp_path), "must have training shards", "has none")
        np.save(tmp_path / "x_test.npy", x)
        refused(lambda: shards(tmp_path), f"{tmp_path / 'x_test.npy'} must have y_test.npy beside it")
        np.save(tmp_path / "y_test.npy", y)
        refused(lambda: shards(tmp_path), "must have training shards", "has none")
        np.save(tmp_path / "means.npy", x)
        refused(
            lambda: shards(tmp_path), f"{tmp_path / 'means.npy'} must begin with x (features) or y (labels)"
        )

    @pytest.mark.parametrize("name", ["val", "valid", "dev"])
    def test_parts_by_other_names_are_not_trained_on(self, tmp_path, name):
        write_pairs(tmp_path, [60])
        np.save(tmp_path / f"x_{name}.npy", numbered()[0])
        np.save(tmp_path / f"y_{name}.npy", numbered()[1])
        refused(lambda: shards(tmp_path), f"x_{name}.npy", "call the part validation")

    def test_the_same_part_twice(self, tmp_path):
        write_pairs(tmp_path, [60])
        for name in ("x_test.npy", "y_test.npy"):
            np.save(tmp_path / name, numbered()[name[0] == "y"])
        np.savez(tmp_path / "test.npz", x=numbered()[0], y=numbered()[1])
        refused(lambda: shards(tmp_path), "must have only one test part, but x_test.npy is a second one")

    def test_archives(self, tmp_path):
        x, y = numbered()
        np.savez(tmp_path / "a.npz", x_train=x, y_train=y)
        refused(lambda: shards(tmp_path), f"{tmp_path / 'a.npz'} must have arrays x and y, but has x_train")
        np.savez_compressed(tmp_path / "a.npz", x=x, y=y)
        refused(lambda: shards(tmp_path), f"x ({tmp_path / 'a.npz'}) must be uncompressed", "np.savez")
        (tmp_path / "a.npz").write_bytes(b"no archive")
        refused(lambda: shards(tmp_path), f"{tmp_path / 'a.npz'} cannot be read", "BadZipFile")

    def test_shards_that_differ(self, tmp_path):
        write_pairs(tmp_path, [30, 30])
        np.save(tmp_path / "x_01.npy", numbered(30)[0].astype(np.float64))
        refused(lambda: shards(tmp_path), "x_01.npy) must have the dtype of", "float64 and float32")
        np.save(tmp_path / "x_01.npy", numbered(30, features=2)[0])
        refused(lambda: shards(tmp_path), "x_01.npy) must have the features of", "(2,) and (3,)")
        np.save(tmp_path / "x_01.npy", numbered(29)[0])
        refused(lambda: shards(tmp_path), "x_01.npy) and y", "30")


def test_archives_are_mapped_whatever_their_headers_have(tmp_path):
    """Local headers have fields of any length in front of the bytes."""
    x, y = numbered()
    np.savez(tmp_path / "plain.npz", x=x, y=y)
    with zipfile.ZipFile(tmp_path / "plain.npz") as plain, zipfile.ZipFile(tmp_path / "a.npz", "w") as padded:
        for info in plain.infolist():
            member = zipfile.ZipInfo(info.filename)
            member.extra = b"\x99\x99\x05\x00abcde"
            padded.writestr(member, plain.read(info))
    (tmp_path / "plain.npz").unlink()
    assert sorted(flat(read(shards(tmp_path, block_rows=9))[0])) == sorted(arrays(x, y).train.x[:, 0])
