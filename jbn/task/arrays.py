"""A data set as programs take it: normalised by statistics of the training rows alone, on the device."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from jbn.nn import normalizer
from jbn.nn.normalizer import Normalizer
from jbn.task.data import Blocks, Data, Folds, Part
from jbn.task.member import Rows


class Fold(NamedTuple):
    """One fold of cross-validation, as programs take it.

    Args:
        train: row numbers that it trains on.
        validation: row numbers that it validates on.
        normalizer: of its own training rows, or the identity.
        targets: of their targets, where these are standardised.
        unit: the same for targets as they are in the data, for metrics.
    """

    train: Int[Array | np.ndarray, " train_rows"]
    validation: Int[Array | np.ndarray, " validation_rows"]
    normalizer: Normalizer
    targets: Normalizer | None
    unit: Normalizer | None

    def rows(self, pool: Rows, places: Int[Array | np.ndarray, " rows"]) -> Rows:
        """These rows, normalised by the statistics of the fold's training rows. Pure."""
        x, y = self.normalizer.apply(pool.x[places]), pool.y[places]
        if self.targets is None:
            return Rows(x, y)
        return Rows(x, self.targets.apply(_table(y)).reshape(y.shape), self.unit)


@dataclasses.dataclass(frozen=True)
class Arrays:
    """Rows and what they were normalised with.

    Args:
        train: what is trained on; with cross-validation the rows that all folds are made of. A training part that
            is read in blocks has none.
        validation: the validation part; with cross-validation that of the first fold.
        normalizer: of the training part, with cross-validation of the first fold's; or the identity.
        statistics: of the training part, whether features are normalised by them or not.
        folds: all folds of cross-validation.
        test: the test part, with cross-validation normalised like `train`; None where nobody measures on it.
    """

    train: Rows
    validation: Rows
    normalizer: Normalizer
    statistics: Normalizer
    folds: tuple[Fold, ...] = ()
    test: Rows | None = None

    def fitted(self, fold: int = 0) -> tuple[Normalizer, Normalizer | None]:
        """What features and targets (where they are standardised) as they are in the data are normalised with."""
        if not self.folds:
            return self.normalizer, self.train.unit
        own = self.folds[fold]
        return self.normalizer.then(own.normalizer), own.unit


def arrays(data: Data, *, standardized: bool, normalize: bool = True, test: bool = False) -> Arrays:
    """The training and validation part on the default device, and the test part where it is asked for.

    Args:
        data: a data set.
        standardized: whether its targets, which are numbers, are normalised too.
        normalize: whether its features are; else they stay as they are.
        test: whether the test part is among them.
    """
    train = data.train
    plain = None if normalize else normalizer.identity(math.prod(data.features))
    if isinstance(train, Blocks):
        unit = train.unit if standardized else None
        own = plain or train.normalizer
        validation, tested = _rows(own, unit, data.validation), _rows(own, unit, data.test) if test else None
        none = jax.tree.map(lambda rows: rows[:0], validation._replace(unit=None))
        return Arrays(none._replace(unit=unit), validation, own, train.normalizer, test=tested)
    statistics = normalizer.fit(train.x)
    fitted = plain or statistics
    unit = normalizer.fit(_table(train.y)) if standardized else None
    validation = _rows(fitted, unit, data.validation)
    tested = _rows(fitted, unit, data.test) if test else None
    if data.folds is None:
        return Arrays(_rows(fitted, unit, train), validation, fitted, statistics, test=tested)
    pool = _rows(fitted, unit, data.folds.rows)
    tested = None if tested is None else tested._replace(unit=None)
    folds = _folds(data.folds, pool, plain)
    return Arrays(pool._replace(unit=None), validation, fitted, statistics, folds, tested)


def _rows(fitted: Normalizer, unit: Normalizer | None, part: Part) -> Rows:
    if unit is not None:
        return Rows(fitted.apply(part.x), unit.apply(_table(part.y)).reshape(part.y.shape), unit)
    dtype = jnp.int32 if part.y.dtype == np.int32 else float
    return Rows(fitted.apply(part.x), jnp.asarray(part.y, dtype))


def _folds(folds: Folds, pool: Rows, plain: Normalizer | None) -> tuple[Fold, ...]:
    """All folds; the pool is normalised already, by float64 arithmetic, and each fold's statistics are of that."""
    x, y = np.asarray(pool.x), np.asarray(pool.y)

    def fold(train: np.ndarray, validation: np.ndarray) -> Fold:
        targets = None if pool.unit is None else normalizer.fit(_table(y[train]))
        unit = None if pool.unit is None or targets is None else pool.unit.then(targets)
        fitted = plain or normalizer.fit(x[train])
        return Fold(train.astype(np.int32), validation.astype(np.int32), fitted, targets, unit)

    return tuple(fold(*own) for own in zip(folds.train, folds.validation, strict=True))


def _table(y: Any) -> Any:
    """Targets as `[rows, numbers]`."""
    return y.reshape(len(y), -1)
