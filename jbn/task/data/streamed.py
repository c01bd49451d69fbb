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
    targets: str = "classes",
    rows: int | None = None,
    classes: int | None = None,
    normalizer: Normalizer | None = None,
    shuffle: bool = True,
    name: str = "stream",
    seed: int = 0,
    block_rows: int | None = None,
) -> Data:
    """Data whose training part comes from an iterator of batches `(features, targets)` of any number of rows.

    Batches are gathered into blocks, 64 MB as float32 each, and trained on while the next block is read. What must
    be known of all rows (how many, their classes, the statistics that features and numbers are normalised with) is
    found in one pass over epoch 0, as far as it is not given.

    Args:
        source: `factory(epoch, seed)`, which returns the iterator of an epoch: epochs count from 0, and `seed` is a
            whole number below 2^31 that follows from the sweep's key and the seed index. Or something that can be
            iterated over again and again, such as a list of batches or a grain DataLoader. Or a single iterator:
            it goes on from epoch to epoch, needs `rows` and `classes` (unless targets are numbers), cannot be read
            twice, and so neither serves several seeds nor lets a run resume.
        x_validation: features of the validation part, `[rows, ...features]`; it is held in memory.
        y_validation: its targets, `[rows]`, or `[rows, numbers]`.
        x_test: features of the test part; by default half of the rows of the validation part are.
        y_test: its targets.
        targets: "classes", or "numbers": any finite ones, for regression.
        rows: an epoch is so many rows; default: as many as come. Needed where the iterators have no end.
        classes: labels are 0 to `classes` - 1.
        normalizer: of the features, e.g. `jbn.nn.normalizer.fit_stream(...)`; without it, and always for numbers,
            a single iterator's first block is fitted.
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
    _check_no_classes(checks.check_kind(targets), classes)
    held = _held({"validation": (x_validation, y_validation), "test": (x_test, y_test)}, targets, seed)
    numbers = held["validation"].y.shape[1:] if targets == "numbers" else None
    opened = _Source(source, name, Kind(held["validation"].x.shape[1:], classes=classes, numbers=numbers))
    if opened.once:
        _check_once(rows, opened.kind, name)
    found = _found(opened, rows, normalizer, block_rows)
    if found.classes is not None:
        _check_known(held, found.classes, name)
    blocks = IteratorBlocks(opened, found, shuffle=shuffle, block_rows=block_rows)
    return Data(name, blocks, held["validation"], held["test"], found.classes)


class IteratorBlocks(Blocks):
    """Rows of an iterator an epoch, in its order."""

    def __init__(self, source: "_Source", found: "_Found", *, shuffle: bool, block_rows: int | None):
        features, numbers = source.kind.features, source.kind.numbers
        super().__init__(
            found.rows, features, block_rows=block_rows, shuffle=shuffle, once=source.once, numbers=numbers
        )
        source.kind = source.kind._replace(classes=found.classes)
        self._source, self.normalizer, self.unit = source, found.normalizer, found.unit

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
    """What must be known beforehand: of the targets the number of classes, or the statistics of numbers."""

    rows: int
    classes: int | None
    normalizer: Normalizer
    unit: Normalizer | None


def _found(
    source: _Source, rows: int | None, normalizer: Normalizer | None, block_rows: int | None
) -> _Found:
    """What was given, and what one pass over epoch 0 finds; of a single iterator its first block is read."""
    classes, piece = source.kind.classes, block_rows or default_rows(source.kind.features)
    if rows is not None and classes is not None and normalizer is not None:
        return _Found(rows, classes, normalizer, None)
    if rows is not None and source.once:
        x, y = _first_block(source, min(rows, piece))
        return _Found(rows, classes, normalizer or normalizers.fit(x), _unit(source.kind, y))
    with source.opened(0, 0) as batches:
        seen: list[npt.NDArray] = []
        fitted = normalizers.fit_stream(_noted(_pieces(batches, piece, rows), seen))
        y = np.concatenate(seen)
        if source.kind.numbers is None and classes is None:
            classes = checks.count_classes({"train": Named(f"the labels of {source.name!r}", y)})
        return _Found(batches.rows, classes, normalizer or fitted, _unit(source.kind, y))


def _unit(kind: Kind, y: npt.NDArray) -> Normalizer | None:
    return None if kind.numbers is None else normalizers.fit(y)


def _noted(
    pieces: Iterator[tuple[npt.NDArray, npt.NDArray]], seen: list[npt.NDArray]
) -> Iterator[npt.NDArray]:
    """The features; of the targets what is needed afterwards: all numbers, but every class only once a piece."""
    for x, y in pieces:
        seen.append(np.unique(y) if y.dtype == np.int32 else y)
        yield x


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


def _first_block(source: _Source, rows: int) -> tuple[npt.NDArray, npt.NDArray]:
    """It is there to be read all the same."""
    with source.opened(0, 0) as batches:
        x, y = batches.take(rows)
        if len(y) < rows:
            raise _ended(batches, rows, len(y))
        batches.put_back(x, y)
    return x, y


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


def _held(given: Mapping[str, tuple[Any, Any]], targets: str, seed: int) -> dict[str, Part]:
    """The validation and the test part; if there is no test part, half of the rows of the other become it."""
    parts = {
        part: _part(part, x, y, targets) for part, (x, y) in given.items() if not (x is None and y is None)
    }
    if "validation" not in parts:
        raise InputError("x_validation and y_validation must be there, but are None; give rows to compare on")
    x, y = parts["validation"]
    if "test" not in parts:
        numbered = np.unique(checks.strata(y), return_inverse=True)[1]
        chosen = split(numbered, {"validation": 1, "test": 1}, seed=seed, purpose="test")
        parts = {part: Part(x[rows], y[rows]) for part, rows in chosen.items()}
    checks.check_same_features({"train": named("x_validation", x), "test": named("x_test", parts["test"].x)})
    checks.check_same_numbers({"train": named("y_validation", y), "test": named("y_test", parts["test"].y)})
    return parts


def _part(part: str, x: Any, y: Any, targets: str) -> Part:
    if x is None or y is None:
        raise InputError(f"x_{part} and y_{part} must come together, but only one of them came; give both")
    features, own = named(f"x_{part}", x), named(f"y_{part}", y)
    checks.check_targets(own, targets)
    checks.check_features(features)
    checks.check_same_rows(features, own)
    return Part(features.values, own.values.astype(checks.target_dtype(targets)))


def _check_known(held: Mapping[str, Part], classes: int, name: str) -> None:
    known = Named(f"{name!r}", np.arange(classes))
    checks.count_classes({"train": known, **{p: Named(f"y_{p}", part.y) for p, part in held.items()}})


def _check_no_classes(targets: str, classes: int | None) -> None:
    if targets == "numbers" and classes is not None:
        raise InputError(f"numbers must have no classes, but classes={classes} came; leave one of them out")


def _check_once(rows: int | None, kind: Kind, name: str) -> None:
    if rows is None or (kind.numbers is None and kind.classes is None):
        needed = "rows (of an epoch)" + (" and classes" if kind.numbers is None else "")
        raise InputError(
            f"a single iterator must come with {needed}, as it cannot be read twice; give what is missing, or a "
            f"factory(epoch, seed) that makes iterators"
        )
    warnings.warn(
        f"{name!r} comes from a single iterator, which cannot be read again: a run on it cannot resume; "
        f"a factory(epoch, seed) can",
        stacklevel=3,
    )


def _check_whole(name: str, value: int | None, low: int) -> None:
    if value is not None and not (isinstance(value, int | np.integer) and value >= low):
        raise InputError(f"{name} must be a whole number of at least {low}, but got {value!r}")
