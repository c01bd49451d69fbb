import gzip
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from jbn.errors import InputError
from jbn.task.data import digits, load, mnist, npz

REAL_MNIST = Path(__file__).parents[4] / "shared/data/mnist"
FILES = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}


def tiny(rows=20, classes=2):
    x = np.arange(rows * 6, dtype=np.uint8).reshape(rows, 2, 3)
    return x, (np.arange(rows) % classes).astype(np.uint8)


def idx(values):
    head = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    return head + values.tobytes()


def write_mnist(directory, *, rename=lambda name: name, pack=lambda content: content):
    for (key, name), part in zip(FILES.items(), [*tiny(), *tiny(4)], strict=True):
        assert key[0] == ("x" if part.ndim == 3 else "y")
        (directory / rename(name)).write_bytes(pack(idx(part)))
    return directory


def write_npz(path, **arrays):
    np.savez_compressed(path, **arrays)
    return path


def refused(read, *words):
    with pytest.raises(InputError) as raised:
        read()
    for word in words:
        assert str(word) in str(raised.value)


class TestMnist:
    @pytest.mark.parametrize("dot", ["-", "."])
    @pytest.mark.parametrize(
        ("suffix", "pack"), [("", bytes), (".gz", gzip.compress), (".gz", bytes), ("", gzip.compress)]
    )
    def test_all_usual_copies_are_read(self, tmp_path, dot, suffix, pack):
        write_mnist(tmp_path, rename=lambda name: name.replace("-idx", f"{dot}idx") + suffix, pack=pack)
        data = mnist(tmp_path)
        assert (
            repr(data) == "Data('mnist': 16 training, 4 validation, 4 test rows of 2x3 features, 2 classes)"
        )
        assert data.train.x.dtype == np.uint8
        np.testing.assert_array_equal(data.test.x, tiny(4)[0])
        np.testing.assert_array_equal(data.test.y, tiny(4)[1])
        parts = np.concatenate([data.train.x, data.validation.x])
        np.testing.assert_array_equal(parts[np.argsort(parts[:, 0, 0])], tiny()[0])

    def test_a_folder_with_the_name_of_a_file_is_passed_over(self, tmp_path):
        write_mnist(tmp_path, rename=lambda name: name.replace("-idx", ".idx"))
        (tmp_path / FILES["x_train"]).mkdir()
        assert len(mnist(str(tmp_path)).train.y) == 16

    def test_the_home_directory_is_known(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(write_mnist(tmp_path)))
        assert mnist("~").classes == 2

    def test_a_missing_directory(self, tmp_path):
        missing = tmp_path / "nowhere"
        refused(lambda: mnist(missing), f"{missing} must be a directory", "train-images-idx3-ubyte")

    @pytest.mark.parametrize("name", FILES.values())
    def test_a_missing_file_is_named_with_all_that_was_looked_for(self, tmp_path, name):
        (write_mnist(tmp_path) / name).unlink()
        dotted = name.replace("-idx", ".idx")
        refused(lambda: mnist(tmp_path), tmp_path, f"{name}, {dotted}, {name}.gz, {dotted}.gz, but has none")

    @pytest.mark.parametrize("length", [0, 3])
    def test_a_file_without_a_magic_number(self, tmp_path, length):
        path = write_mnist(tmp_path) / FILES["x_train"]
        path.write_bytes(path.read_bytes()[:length])
        refused(
            lambda: mnist(tmp_path),
            path,
            "begins with 00000803",
            f"begins with {'000008' if length else 'nothing'}",
        )

    @pytest.mark.parametrize(("length", "expected"), [(6, 16), (16, 136), (135, 136)])
    def test_a_truncated_file(self, tmp_path, length, expected):
        path = write_mnist(tmp_path) / FILES["x_train"]
        path.write_bytes(path.read_bytes()[:length])
        refused(lambda: mnist(tmp_path), path, f"must have {expected} bytes", f"but has {length}")

    def test_a_file_with_more_than_its_header_says(self, tmp_path):
        path = write_mnist(tmp_path) / FILES["y_test"]
        path.write_bytes(path.read_bytes() + b"\0")
        refused(lambda: mnist(tmp_path), path, "must have 12 bytes", "but has 13")

    @pytest.mark.parametrize(
        "damage", [lambda c: c[:-9], lambda c: c[:5], lambda c: c[:20] + b"\xff" * 9 + c[29:]]
    )
    def test_a_damaged_gzip_file(self, tmp_path, damage):
        write_mnist(tmp_path, pack=gzip.compress)
        path = tmp_path / FILES["x_train"]
        path.write_bytes(damage(path.read_bytes()))
        refused(lambda: mnist(tmp_path), path, "must be a whole file that can be read")

    def test_labels_in_the_place_of_images(self, tmp_path):
        write_mnist(tmp_path)
        path = tmp_path / FILES["x_test"]
        path.write_bytes((tmp_path / FILES["y_test"]).read_bytes())
        refused(lambda: mnist(tmp_path), path, "in 3 dimensions", "begins with 00000801")

    def test_files_that_do_not_fit_each_other_are_named(self, tmp_path):
        write_mnist(tmp_path)
        path = tmp_path / FILES["y_train"]
        path.write_bytes(idx(tiny(19)[1]))
        refused(
            lambda: mnist(tmp_path),
            f"y_train ({path})",
            f"x_train ({tmp_path / FILES['x_train']})",
            "20 and 19",
        )

    @pytest.mark.skipif(not REAL_MNIST.is_dir(), reason=f"no MNIST files in {REAL_MNIST}")
    def test_the_real_files(self):
        data = load("mnist", data_dir=REAL_MNIST)
        assert repr(data) == (
            "Data('mnist': 48000 training, 12000 validation, 10000 test rows of 28x28 features, 10 classes)"
        )
        # The published numbers of digits in the two files, and the mean that everybody normalises with.
        trained = np.bincount(data.train.y) + np.bincount(data.validation.y)
        assert trained.tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
        assert np.bincount(data.test.y).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
        total = sum(int(part.x.sum(dtype=np.int64)) for part in (data.train, data.validation))
        assert total / (60000 * 784 * 255) == pytest.approx(0.1307, abs=5e-5)
        assert data.test.y[:5].tolist() == [7, 2, 1, 0, 4]


class TestNpz:
    def test_three_parts(self, tmp_path):
        (x, y), (x2, y2) = tiny(), tiny(4)
        path = write_npz(
            tmp_path / "a.npz",
            x_train=x,
            y_train=y,
            x_validation=x2,
            y_validation=y2,
            x_test=x2[:2],
            y_test=y2[:2],
        )
        data = npz(path)
        assert (
            repr(data) == "Data('a.npz': 20 training, 4 validation, 2 test rows of 2x3 features, 2 classes)"
        )
        np.testing.assert_array_equal(data.train.x, x)

    def test_missing_parts_are_split_off_by_the_seed(self, tmp_path):
        x, y = tiny()
        path = write_npz(tmp_path / "a.npz", x_train=x, y_train=y)
        first, other = npz(path), npz(str(path), seed=1)
        assert [len(part.y) for part in (first.train, first.validation, first.test)] == [12, 4, 4]
        assert not np.array_equal(first.train.x, other.train.x)

    def test_other_arrays_are_not_read(self, tmp_path):
        x, y = tiny()
        objects = np.array([{}], dtype=object)
        path = write_npz(tmp_path / "a.npz", x_train=x, y_train=y, meta=objects)
        assert npz(path).classes == 2

    @pytest.mark.parametrize("name", ["x_val", "y_valid", "x_dev"])
    def test_almost_right_names_are_not_passed_over(self, tmp_path, name):
        x, y = tiny()
        path = write_npz(tmp_path / "a.npz", x_train=x, y_train=y, **{name: x})
        refused(lambda: npz(path), f"{path} has an array {name}", f"call it {name[0]}_validation")

    def test_a_missing_file(self, tmp_path):
        refused(lambda: npz(tmp_path / "no.npz"), tmp_path / "no.npz", "there is none", "np.savez")

    @pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n"])
    def test_a_foreign_file(self, tmp_path, content):
        path = tmp_path / "a.npz"
        path.write_bytes(content)
        refused(lambda: npz(path), f"{path} cannot be read", "damaged or no .npz", "BadZipFile")

    def test_a_single_array(self, tmp_path):
        path = tmp_path / "a.npz"
        with path.open("wb") as file:
            np.save(file, tiny()[0])
        refused(lambda: npz(path), f"{path} cannot be read", "damaged or no .npz")

    @pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
    def test_a_truncated_file(self, tmp_path, share):
        path = write_npz(tmp_path / "a.npz", x_train=tiny()[0], y_train=tiny()[1])
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        refused(lambda: npz(path), path, "damaged or no .npz")

    def test_a_damaged_array_is_named(self, tmp_path):
        path = tmp_path / "a.npz"
        np.savez(path, x_train=tiny()[0], y_train=tiny()[1])
        content = path.read_bytes()
        path.write_bytes(content.replace(tiny()[0].tobytes(), tiny()[0].tobytes()[::-1]))
        refused(lambda: npz(path), f"x_train ({path}) cannot be read", "BadZipFile: Bad CRC-32")

    def test_a_foreign_zip_archive(self, tmp_path):
        path = tmp_path / "a.npz"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("readme.txt", "hello")
        refused(lambda: npz(path), "x_train and y_train must be there", f"{path} has readme.txt")

    def test_nothing_is_unpickled(self, tmp_path):
        x, y = tiny()
        path = write_npz(tmp_path / "a.npz", x_train=x.astype(object), y_train=y)
        refused(lambda: npz(path), f"x_train ({path}) must hold numbers", "pickled Python objects")

    def test_the_training_part_is_needed(self, tmp_path):
        path = write_npz(tmp_path / "a.npz", X=tiny()[0], y_train=tiny()[1])
        refused(lambda: npz(path), "x_train and y_train must be there", f"{path} has X, y_train")

    def test_an_empty_archive(self, tmp_path):
        path = write_npz(tmp_path / "a.npz")
        refused(lambda: npz(path), f"{path} has no arrays")

    def test_features_without_labels(self, tmp_path):
        x, y = tiny()
        path = write_npz(tmp_path / "a.npz", x_train=x, y_train=y, x_test=x)
        refused(
            lambda: npz(path), "x_test and y_test must come together", f"{path} has x_train, y_train, x_test"
        )

    def test_wrong_arrays_are_named_with_their_file(self, tmp_path):
        x, y = tiny()
        path = write_npz(tmp_path / "a.npz", x_train=x, y_train=y + 1)
        refused(lambda: npz(path), f"y_train ({path}) must have the classes 0 to K-1")


class TestLoad:
    def test_digits(self):
        np.testing.assert_array_equal(load("digits", seed=2).test.x, digits(seed=2).test.x)

    def test_mnist_in_its_directory(self, tmp_path):
        write_mnist(tmp_path)
        first, second = load("mnist", data_dir=tmp_path, seed=3), mnist(tmp_path, seed=3)
        np.testing.assert_array_equal(first.train.x, second.train.x)

    def test_mnist_without_its_directory(self):
        refused(lambda: load("mnist"), "mnist must have data_dir", "directory with its four IDX files")

    @pytest.mark.parametrize("name", ["a.npz", "A.NPZ"])
    def test_a_path(self, tmp_path, name):
        path = tmp_path / name
        with path.open("wb") as file:
            np.savez(file, x_train=tiny()[0], y_train=tiny()[1])
        assert load(path).name == load(str(path), seed=1).name == name

    def test_a_missing_path(self, tmp_path):
        refused(lambda: load(tmp_path / "a.npz"), tmp_path / "a.npz", "there is none")

    def test_an_unknown_name(self):
        words = (
            "'digit' is neither a known name nor a file",
            "did you mean 'digits'?",
            "Known are: digits, mnist",
        )
        refused(lambda: load("digit"), *words, "a path that ends in .npz")

    def test_a_file_of_another_kind(self, tmp_path):
        path = tmp_path / "table.txt"
        path.write_text("1,2")
        refused(
            lambda: load(path),
            f"{str(path)!r} exists, but is no .npz file, table or folder",
            "a path that ends in .npz",
        )
