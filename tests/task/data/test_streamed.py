"""Training data from iterators: which rows a block has, what is found out beforehand, and what is refused."""

import collections
import functools
import itertools

import numpy as np
import pytest

from jbn.errors import InputError
from jbn.nn import normalizer
from jbn.task.data import stream

X = (np.arange(60)[:, None] * [1, 2, 3]).astype(np.float32)
Y = np.arange(60) % 4
HELD = {"x_validation": X[:12], "y_validation": Y[:12], "x_test": X[12:16], "y_test": Y[12:16]}


def batches(*sizes, x=X, y=Y):
    """The rows in batches of these sizes, the last one with all that is left."""
    places = np.split(np.arange(len(y)), np.cumsum(sizes))
    return [(x[place], y[place]) for place in places]


def read(data, epoch=0, seed=0):
    return [
        (part.x[part.place][:, 0].tolist(), part.y[part.place].tolist())
        for part in data.train.read(epoch, seed)
    ]


def refused(make, *words):
    with pytest.raises(InputError) as raised:
        make()
    for word in words:
        assert str(word) in str(raised.value)


@pytest.mark.parametrize("sizes", [(), (60,), (1, 2, 3, 40), (20, 0, 20), (7,) * 8])
@pytest.mark.parametrize("block_rows", [100, 60, 59, 8, 1])
def test_batches_of_any_size_become_blocks_in_their_order(sizes, block_rows):
    data = stream(batches(*sizes), **HELD, block_rows=block_rows)
    blocks = read(data)
    assert [row for x, _ in blocks for row in x] == X[:, 0].tolist()
    assert [label for _, y in blocks for label in y] == Y.tolist()
    assert max(len(y) for _, y in blocks) == data.train.capacity <= block_rows
    assert len(blocks) == data.train.count
    assert (data.rows, data.classes) == (60, 4)
    fitted, expected = data.train.normalizer, normalizer.fit(X)
    np.testing.assert_allclose(fitted.mean, expected.mean, rtol=1e-13)
    np.testing.assert_allclose(fitted.factor, expected.factor, rtol=1e-13)


def test_iterators_that_put_every_batch_into_the_same_memory():
    def reusing(epoch, seed):
        x, y = np.zeros((7, 3), np.float32), np.zeros(7, int)
        for start in range(0, 56, 7):
            x[:], y[:] = X[start : start + 7], Y[start : start + 7]
            yield x, y

    assert [row for x, _ in read(stream(reusing, **HELD, block_rows=10)) for row in x] == X[:56, 0].tolist()


def test_a_factory_is_asked_for_every_epoch_with_the_seed():
    asked = []

    def factory(epoch, seed):
        asked.append((epoch, seed))
        return iter([(X + epoch + 10 * seed, Y)])

    data = stream(factory, **HELD)
    assert asked == [(0, 0)]
    assert read(data, 2, 7)[0][0] == (X[:, 0] + 72).tolist()
    assert asked == [(0, 0), (2, 7)]
    stream(factory, **HELD, rows=60, classes=4, normalizer=normalizer.fit(X))
    assert len(asked) == 2  # all is known


def test_an_epoch_has_as_many_rows_as_are_wanted():
    def endless(epoch, seed):
        return ((X[row % 60 : row % 60 + 1], Y[row % 60 : row % 60 + 1]) for row in itertools.count())

    data = stream(endless, **HELD, rows=130, block_rows=50)
    assert (data.rows, data.train.count) == (130, 3)
    assert [row for x, _ in read(data) for row in x] == [row % 60 for row in range(130)]
    np.testing.assert_allclose(data.train.normalizer.mean, [np.mean(np.arange(130) % 60)] * np.arange(1, 4))


class Loader:
    """A grain DataLoader as its documentation has it: iterated over anew every time, an iterator with a state."""

    def __init__(self, epochs):
        self.epochs = epochs

    def __iter__(self):
        return LoaderIterator(itertools.chain.from_iterable([batches(16, 16)] * self.epochs))


class LoaderIterator(collections.abc.Iterator):
    def __init__(self, own):
        self.own = own

    def __next__(self):
        return next(self.own)

    def get_state(self):
        return b""

    def set_state(self, state):
        raise AssertionError("nobody sets it")


def test_a_grain_loader_is_taken_as_it_is():
    data = stream(Loader(1), **HELD, block_rows=25)
    assert data.rows == 60
    assert [row for x, _ in read(data, 1) for row in x] == X[:, 0].tolist()
    assert stream(Loader(2), **HELD).rows == 120
    assert stream(Loader(2), **HELD, rows=60).rows == 60


def test_a_real_grain_loader():
    grain = pytest.importorskip("grain")

    class Source:
        def __len__(self):
            return 60

        def __getitem__(self, row):
            return X[row], Y[row]

    sampler = grain.samplers.IndexSampler(60, shuffle=True, seed=3, num_epochs=1)
    loader = grain.DataLoader(
        data_source=Source(), sampler=sampler, operations=[grain.transforms.Batch(16)], worker_count=0
    )
    data = stream(loader, **HELD, block_rows=25)
    rows = [row for x, _ in read(data) for row in x]
    assert rows != X[:, 0].tolist()
    assert sorted(rows) == X[:, 0].tolist()


@pytest.mark.parametrize("block_rows", [100, 25])
def test_a_single_iterator_goes_on_from_epoch_to_epoch_and_a_warning_says_what_that_costs(block_rows):
    with pytest.warns(UserWarning, match="a run on it cannot resume; a factory"):
        data = stream(iter(batches(16, 16)), **HELD, rows=20, classes=4, block_rows=block_rows)
    assert data.train.once
    np.testing.assert_allclose(data.train.normalizer.mean[0], np.mean(np.arange(20)))
    assert data.train.first(5)[0][:, 0].tolist() == [
        0,
        1,
        2,
        3,
        4,
    ]  # of its first block, which is not used up
    for epoch in range(3):
        assert [row for x, _ in read(data, epoch) for row in x] == list(range(20 * epoch, 20 * epoch + 20))
    refused(lambda: read(data, 3), "must give 20 rows, but ended after 0 (epoch 3, block 0 of 1)")


def test_half_of_the_validation_part_becomes_a_test_part_that_is_missing():
    held = {"x_validation": X[:13], "y_validation": np.where(Y[:13] == 1, 3, Y[:13])}  # a class is missing
    data = stream(batches(), **held)
    assert (len(data.validation.y), len(data.test.y)) in {(6, 7), (7, 6)}
    assert sorted([*data.validation.x[:, 0], *data.test.x[:, 0]]) == list(range(13))
    again = stream(batches(), **held)
    np.testing.assert_array_equal(data.test.x, again.test.x)
    assert stream(batches(), **held, seed=1).test.x.tolist() != data.test.x.tolist()


def test_the_iterator_of_an_epoch_is_closed_whether_it_came_to_its_end_or_not():
    closed = []

    def factory(epoch, seed):
        try:
            yield from batches(10, 10, 10)
        finally:
            closed.append(epoch)

    data = stream(factory, **HELD, block_rows=10)
    assert closed == [0]
    reading = data.train.read(1, 0)
    next(reading)
    reading.close()
    assert closed == [0, 1]


def with_nan(row, column, value=np.nan):
    x = X[40:].copy()
    x[row, column] = value
    return x


BAD = {
    "NaN": ((with_nan(3, 1), Y[40:]), "has a nan in row 3, column 1"),
    "infinity": ((with_nan(3, 1, np.inf), Y[40:]), "has a inf in row 3, column 1"),
    "shape": ((X[40:, :2], Y[40:]), "must have rows like those before", "float32[3], but have float32[2]"),
    "dtype": ((X[40:].astype(np.float64), Y[40:]), "float32[3], but have float64[3]"),
    "no numbers": ((X[40:].astype(str), Y[40:]), "must hold real numbers"),
    "rows": ((X[40:], Y[41:]), "must have the same number of rows, but have 20 and 19"),
    "one-hot": ((X[40:], np.eye(4)[Y[40:]]), "must be one-dimensional"),
    "halves": ((X[40:], Y[40:] + 0.5), "must be whole numbers"),
    "negative class": ((X[40:], Y[40:] - 1), "must be classes 0 to", "from -1 to 2"),
    "triple": ((X[40:], Y[40:], Y[40:]), "must be a pair (features, labels), but is a tuple of 3"),
    "dict": ({"x": X[40:], "y": Y[40:]}, "must be a pair (features, labels), but is a dict of 2"),
    "number": (7, "must be a pair (features, labels), but is a int"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("epoch", [0, 5])
def test_a_bad_batch_says_which_it_is(name, epoch):
    """In epoch 0 beforehand, in later ones while it is read."""
    batch, *words = BAD[name]

    def factory(now, seed):
        return iter([*batches(20, 20)[:2], batch] if now == epoch else batches(20, 20))

    where = f"batch 2 of epoch {epoch} of 'stream'"
    if epoch == 0:
        refused(lambda: stream(factory, **HELD), where, *words)
    else:
        data = stream(factory, **HELD)
        refused(lambda: read(data, epoch), where, *words)


def test_a_class_that_was_not_there_before():
    data = stream(lambda epoch, seed: batches(y=Y + (epoch > 2)), **HELD)
    refused(lambda: read(data, 3), "the labels of batch 0 of epoch 3", "classes 0 to 4-1, but go from 1 to 4")


def test_an_iterator_that_ends_early_says_where():
    def factory(epoch, seed):
        return batches(20, 20)[: 2 if epoch == 3 else 3]

    data = stream(factory, **HELD, block_rows=15)
    assert len(read(data, 2)) == 4
    refused(
        lambda: read(data, 3),
        "epoch 3 of 'stream' must give 60 rows, but ended after 40 (epoch 3, block 2 of 4)",
        "give as many in every epoch, or set rows=",
    )
    refused(lambda: stream(factory, **HELD, rows=61), "must give 61 rows, but ended after 60")
    refused(lambda: stream([], **HELD), "must give 1 row, but ended after 0")
    single = functools.partial(stream, iter([]), **HELD, rows=9, classes=4)
    with pytest.warns(UserWarning, match="single iterator"):
        refused(single, "the iterator of 'stream' must give 9 rows, but ended after 0")


def test_an_error_of_the_iterator_itself_comes_through_and_says_where():
    def factory(epoch, seed):
        yield batches(30)[0]
        raise KeyError("own")

    with pytest.raises(KeyError, match="own") as raised:
        stream(factory, **HELD)
    assert raised.value.__notes__ == ["in batch 1 of epoch 0 of 'stream'"]


class TestRefused:
    def test_sources(self):
        refused(
            lambda: stream(7, **HELD),
            "must be a factory(epoch, seed), an iterable or an iterator, but is a int",
        )
        refused(lambda: stream(lambda epoch: batches(), **HELD), "must take two arguments, epoch and seed")
        refused(
            lambda: stream(lambda epoch, seed: 7, **HELD),
            "must return an iterator of batches, but returned a int",
        )

    @pytest.mark.parametrize("given", [{}, {"rows": 60}, {"classes": 4}])
    def test_a_single_iterator_without_what_cannot_be_found_out(self, given):
        refused(
            lambda: stream(iter(batches()), **HELD, **given), "must come with rows (of an epoch) and classes"
        )

    @pytest.mark.parametrize("given", [{"rows": 0}, {"rows": 1.5}, {"classes": 1}, {"block_rows": 0}])
    def test_numbers(self, given):
        name, value = next(iter(given.items()))
        refused(
            lambda: stream(batches(), **HELD, **given), f"{name} must be a whole number", f"got {value!r}"
        )

    def test_classes(self):
        refused(
            lambda: stream(batches(y=Y + 1), **HELD), "the labels of 'stream' must have the classes 0 to K-1"
        )
        refused(lambda: stream(batches(), **HELD, classes=3), "classes 0 to 3-1, but go from 0 to 3")
        held = {**HELD, "y_test": [0, 1, 2, 4]}
        refused(
            lambda: stream(batches(), **held),
            "y_test must have no class that is never in 'stream', but has 4",
        )

    def test_held_parts(self):
        def of(**more):
            return lambda: stream(batches(), **{**HELD, **more})

        refused(of(y_test=None), "x_test and y_test must come together")
        refused(of(x_validation=None, y_validation=None), "x_validation and y_validation must be there")
        refused(of(x_test=X[:4, :2]), "x_test must have the features of x_validation")
        refused(of(x_validation=with_nan(0, 0)[:12]), "x_validation has a nan in row 0, column 0")
        refused(of(y_validation=Y[:11]), "x_validation and y_validation must have the same number of rows")


class TestNumbers:
    Z = X[:, 0].astype(float) * 3 + 1e5

    def of(self, source=None, **more):
        given = {
            **HELD,
            "y_validation": np.arange(len(HELD["y_validation"])) / 2,
            "targets": "numbers",
            **more,
        }
        given["y_test"] = given.get("y_test") if "y_test" in more else np.arange(len(HELD["y_test"])) / 2
        return stream(source or batches(y=self.Z), **given)

    @pytest.mark.parametrize("known", [{}, {"rows": len(X)}])
    def test_their_statistics_are_those_of_all_rows(self, known):
        own = self.of(block_rows=7, **known).train
        np.testing.assert_allclose(own.unit.mean, [self.Z.mean()], rtol=1e-12)
        np.testing.assert_allclose(own.unit.factor, [1 / self.Z.std()], rtol=1e-9)

    def test_they_come_as_they_are(self):
        stretches = list(self.of(block_rows=7).train.read(0, 0))
        y = np.concatenate([stretch.y[stretch.place] for stretch in stretches])
        assert y.dtype == np.float64
        np.testing.assert_array_equal(y, self.Z)

    def test_refused(self):
        refused(lambda: self.of(classes=3), "numbers must have no classes, but classes=3 came")
        refused(lambda: self.of(targets="text"), 'targets must be "classes" or "numbers"')
        refused(lambda: self.of(iter(batches(y=self.Z))), "must come with rows (of an epoch), as")
        refused(
            lambda: self.of(batches(y=self.Z[:, None])),
            "the targets of batch 0 of epoch 0 of 'stream' must have rows of the shape of those of y_validation, []",
            "but have [1]",
        )
        wrong = np.where(np.arange(len(X)) == len(X) - 1, np.nan, self.Z)
        refused(lambda: self.of(batches(y=wrong)), "must be finite, but has nan in row")
        refused(
            lambda: self.of(y_test=np.zeros((len(HELD["x_test"]), 2))),
            "y_test must have the numbers of y_validation",
        )
