"""Training data from an iterator: a factory of one for every epoch, something to iterate over, or one iterator."""

import contextlib
import inspect
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from jbn.errors import InputError
from jbn.nn import normalizer as normalizers
from jbn.nn.normalizer import Normalizer
from jbn.task.data import checks
from jbn.task.data.batches import Batches, Kind
from jbn.task.data.blocks import Blocks, Stretch, check_block_rows, default_rows
from jbn.task.data.checks import Named, named
from jbn.task.data.parts import Data, Part
from jbn.task.data.splitting import split

Factory = Callable[[int, int], Iterable[Any]]


def stream(
    source: Factory | Iterable[Any],
    *,
    x_validation: npt.ArrayLike,
    y_validation: npt.ArrayLike,
    x_test: npt.ArrayLike | None = None,
    y_test: npt.ArrayLike | None = None,
    rows: int | None = None,
    classes: int | None = None,
    normalizer: Normalizer | None = None,
    shuffle: bool = True,
    name: str = "stream",
    seed: int = 0,
    block_rows: int | None = None,
) -> Data:
    """Data whose training part comes from an iterator of batches `(features, labels)` of any number of rows.

    Batches are gathered into blocks, 64 MB as float32 each, and trained on while the next block is read. What must
    be known of all rows (how many, their classes, the statistics that features are normalised with) is found in
    one pass over epoch 0, as far as it is not given.

    Args:
        source: `factory(epoch, seed)`, which returns the iterator of an epoch: epochs count from 0, and `seed` is a
            whole number below 2^31 that follows from the sweep's key and the seed index. Or something that can be
            iterated over again and again, such as a list of batches or a grain DataLoader. Or a single iterator:
            it goes on from epoch to epoch, needs `rows` and `classes`, cannot be read twice, and so neither
            serves several seeds nor lets a run resume.
        x_validation: features of the validation part, `[rows, ...features]`; it is held in memory.
        y_validation: its labels, `[rows]`.
        x_test: features of the test part; by default half of the rows of the validation part are.
        y_test: its labels.
        rows: an epoch is so many rows; default: as many as come. Needed where the iterators have no end.
        classes: labels are 0 to `classes` - 1.
        normalizer: e.g. `jbn.nn.normalizer.fit_stream(...)`; without it a single iterator's first block is fitted.
        shuffle: shuffle the rows within every block; where False, the order is that of the iterator.
        name: what to call the data set.
        seed: fixes the split.
        block_rows: read blocks of at most so many rows.

    Returns:
        The data set.

    Raises:
        InputError: an argument or a batch is not as described. While training: an iterator that ends early, a batch
            of another shape, dtype or class than before, a number that is not finite; with epoch and batch.

    >>> import numpy as np
    >>> from jbn.task import data
    >>> def batches(epoch, seed):
    ...     draws = np.random.default_rng([epoch, seed])
    ...     return ((draws.normal(size=(7, 3)), np.arange(7) % 2) for _ in range(4))
    >>> data.stream(batches, x_validation=np.zeros((6, 3)), y_validation=[0, 1] * 3, block_rows=10)
    Data('stream': 28 training (in 3 blocks), 3 validation, 3 test rows of 3 features, 2 classes)
    """
    check_block_rows(block_rows)
    _check_whole("rows", rows, 1)
    _check_whole("classes", classes, 2)
    held = _held({"validation": (x_validation, y_validation), "test": (x_test, y_test)}, seed)
    opened = _Source(source, name, Kind(held["validation"].x.shape[1:], classes=classes))
    if opened.once:
        _check_once(rows, classes, name)
    found = _found(opened, rows, normalizer, block_rows)
    _check_known(held, found.classes, name)
    blocks = IteratorBlocks(opened, found, shuffle=shuffle, block_rows=block_rows)
    return Data(name, blocks, held["validation"], held["test"], found.classes)


class IteratorBlocks(Blocks):
    """Rows of an iterator an epoch, in its order."""

    def __init__(self, source: "_Source", found: "_Found", *, shuffle: bool, block_rows: int | None):
        features = source.kind.features
        super().__init__(found.rows, features, block_rows=block_rows, shuffle=shuffle, once=source.once)
        source.kind = source.kind._replace(classes=found.classes)
        self._source, self.normalizer = source, found.normalizer

    def read(self, epoch: int, seed: int) -> Generator[Stretch, None, None]:
        """The blocks of an epoch; what the iterator has beyond its rows is not read."""
        with self._source.opened(epoch, seed) as batches:
            for block, rows in enumerate(np.diff(self.bounds).tolist()):
                x, y = batches.take(rows)
                if len(y) < rows:
                    came = self.bounds[block] + len(y)
                    raise _ended(batches, self.rows, came, f"epoch {epoch}, block {block} of {self.count}")
                yield Stretch(x, y, np.arange(rows))

    def first(self, rows: int) -> tuple[npt.NDArray, npt.NDArray]:
        """Of the first block, which may have fewer."""
        with self._source.opened(0, 0) as batches:
            x, y = batches.take(min(rows, self.capacity))
            if self.once:
                batches.put_back(x, y)
        return x, y


class _Source:
    """What batches come from; `once` if it is a single iterator."""

    def __init__(self, source: Any, name: str, kind: Kind):
        self.name, self.kind, self.once = name, kind, isinstance(source, Iterator)
        self._factory = _factory(source)
        self._single: Batches | None = None
        if self.once:
            self._single = Batches(source, f"the iterator of {name!r}", kind)

    @contextlib.contextmanager
    def opened(self, epoch: int, seed: int) -> Iterator[Batches]:
        """The batches of an epoch; a single iterator goes on where it is."""
        batches = self._single or self._made(epoch, seed)
        try:
            yield batches
        finally:
            self.kind = self.kind._replace(dtype=batches.kind.dtype)
            if not self.once:
                batches.close()

    def _made(self, epoch: int, seed: int) -> Batches:
        made = self._factory(epoch, seed)
        if not isinstance(made, Iterable):
            raise InputError(
                f"the factory of {self.name!r} must return an iterator of batches, but returned a "
                f"{type(made).__name__}"
            )
        return Batches(iter(made), f"epoch {epoch} of {self.name!r}", self.kind)


class _Found(NamedTuple):
    """What must be known beforehand."""

    rows: int
    classes: int
    normalizer: Normalizer


def _found(
    source: _Source, rows: int | None, normalizer: Normalizer | None, block_rows: int | None
) -> _Found:
    """What was given, and what one pass over epoch 0 finds; of a single iterator its first block is read."""
    classes, piece = source.kind.classes, block_rows or default_rows(source.kind.features)
    if rows is not None and classes is not None:
        if normalizer is not None:
            return _Found(rows, classes, normalizer)
        if source.once:
            return _Found(rows, classes, _of_first_block(source, min(rows, piece)))
    labels = np.zeros(0, np.int32)
    with source.opened(0, 0) as batches:

        def noted() -> Iterator[npt.NDArray]:
            nonlocal labels
            for x, y in _pieces(batches, piece, rows):
                labels = np.union1d(labels, y)
                yield x

        fitted = normalizers.fit_stream(noted())
        known = Named(f"the labels of {source.name!r}", labels)
        return _Found(batches.rows, classes or checks.count_classes({"train": known}), normalizer or fitted)


def _pieces(batches: Batches, piece: int, rows: int | None) -> Iterator[tuple[npt.NDArray, npt.NDArray]]:
    """All rows, piece by piece."""
    while rows is None or batches.rows < rows:
        x, y = batches.take(piece if rows is None else min(piece, rows - batches.rows))
        if len(y):
            yield x, y
        elif batches.rows and rows is None:
            return
        else:
            raise _ended(batches, rows or 1, batches.rows)


def _of_first_block(source: _Source, rows: int) -> Normalizer:
    with source.opened(0, 0) as batches:
        x, y = batches.take(rows)
        if len(y) < rows:
            raise _ended(batches, rows, len(y))
        batches.put_back(x, y)
    return normalizers.fit(x)


def _ended(batches: Batches, rows: int, came: int, where: str = "") -> InputError:
    return InputError(
        f"{batches.title} must give {rows} row{'s' if rows != 1 else ''}, but ended after {came}"
        f"{f' ({where})' if where else ''}; give as many in every epoch, or set rows="
    )


def _factory(source: Any) -> Factory:
    """What opens an iterator for every epoch."""
    if isinstance(source, Iterable):
        return lambda epoch, seed: source
    if not callable(source):
        raise InputError(
            f"a stream must be a factory(epoch, seed), an iterable or an iterator, but is a {type(source).__name__}"
        )
    try:
        inspect.signature(source).bind(0, 0)
    except TypeError as error:
        raise InputError(
            f"the factory of a stream must take two arguments, epoch and seed, but does not ({error}); "
            f"lambda epoch, seed: ... does"
        ) from error
    except ValueError:  # a function that does not tell
        pass
    return source


def _held(given: Mapping[str, tuple[Any, Any]], seed: int) -> dict[str, Part]:
    """The validation and the test part; if there is no test part, half of the rows of the other become it."""
    parts = {part: _part(part, x, y) for part, (x, y) in given.items() if not (x is None and y is None)}
    if "validation" not in parts:
        raise InputError("x_validation and y_validation must be there, but are None; give rows to compare on")
    x, y = parts["validation"]
    if "test" not in parts:
        numbered = np.unique(y, return_inverse=True)[1]
        chosen = split(numbered, {"validation": 1, "test": 1}, seed=seed, purpose="test")
        parts = {part: Part(x[rows], y[rows]) for part, rows in chosen.items()}
    checks.check_same_features({"train": named("x_validation", x), "test": named("x_test", parts["test"].x)})
    return parts


def _part(part: str, x: Any, y: Any) -> Part:
    if x is None or y is None:
        raise InputError(f"x_{part} and y_{part} must come together, but only one of them came; give both")
    features, labels = named(f"x_{part}", x), named(f"y_{part}", y)
    checks.check_labels(labels)
    checks.check_features(features)
    checks.check_same_rows(features, labels)
    return Part(features.values, labels.values.astype(np.int32))


def _check_known(held: Mapping[str, Part], classes: int, name: str) -> None:
    known = Named(f"{name!r}", np.arange(classes))
    checks.count_classes({"train": known, **{p: Named(f"y_{p}", part.y) for p, part in held.items()}})


def _check_once(rows: int | None, classes: int | None, name: str) -> None:
    if rows is None or classes is None:
        raise InputError(
            "a single iterator must come with rows (of an epoch) and classes, as it cannot be read twice; give "
            "both, or a factory(epoch, seed) that makes iterators"
        )
    warnings.warn(
        f"{name!r} comes from a single iterator, which cannot be read again: a run on it cannot resume; "
        f"a factory(epoch, seed) can",
        stacklevel=3,
    )


def _check_whole(name: str, value: int | None, low: int) -> None:
    if value is not None and not (isinstance(value, int | np.integer) and value >= low):
        raise InputError(f"{name} must be a whole number of at least {low}, but got {value!r}")
