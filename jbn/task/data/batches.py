"""Batches of any size from an iterator, checked one by one and cut into blocks."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from jbn.errors import InputError
from jbn.task.data import checks
from jbn.task.data.checks import Named, named


class Kind(NamedTuple):
    """What all batches have in common.

    Args:
        features: shape of a row.
        dtype: of the features; None as long as no batch has been seen.
        classes: how many; None as long as that is not known.
        numbers: shape of a row's target where that is numbers; None: targets are classes.
    """

    features: tuple[int, ...]
    dtype: np.dtype | None = None
    classes: int | None = None
    numbers: tuple[int, ...] | None = None

    @property
    def targets(self) -> str:
        """What targets are."""
        return "classes" if self.numbers is None else "numbers"

    def no_targets(self, rows: int) -> npt.NDArray:
        """Room for as many."""
        return np.empty((rows, *(self.numbers or ())), checks.target_dtype(self.targets))


class Batches:
    """The rows of an iterator of batches.

    Args:
        iterator: gives pairs of features and targets.
        title: what messages call it.
        kind: what its batches must be.

    Attributes:
        rows: how many have been taken.
        kind: the same with the dtype of the first batch.
        title: the same.
    """

    def __init__(self, iterator: Iterator[Any], title: str, kind: Kind):
        self.kind, self.rows = kind, 0
        self.title, self._iterator, self._number = title, iterator, 0
        self._rest: tuple[npt.NDArray, npt.NDArray] | None = None

    def take(self, rows: int) -> tuple[npt.NDArray, npt.NDArray]:
        """The next rows, features and targets; fewer where it ends."""
        x, y, filled = None, self.kind.no_targets(rows), 0
        while filled < rows and (batch := self._next()) is not None:
            if x is None:
                x = np.empty((rows, *batch[0].shape[1:]), batch[0].dtype)
            count = min(rows - filled, len(batch[1]))
            part = slice(filled, filled + count)
            # copied at once: some iterators put every batch into the same memory
            x[part], y[part] = batch[0][:count], batch[1][:count]
            self._keep(batch, count)
            filled += count
        self.rows += filled
        whole = np.empty((0, *self.kind.features), self.kind.dtype) if x is None else x
        return whole[:filled], y[:filled]

    def put_back(self, x: npt.NDArray, y: npt.NDArray) -> None:
        """What was taken comes once more."""
        if self._rest is not None:
            x, y = np.concatenate([x, self._rest[0]]), np.concatenate([y, self._rest[1]])
        self._rest, self.rows = (x, y), self.rows - len(y)

    def close(self) -> None:
        """Lets a generator clean up."""
        if hasattr(self._iterator, "close"):
            self._iterator.close()

    def _keep(self, batch: tuple[npt.NDArray, npt.NDArray], count: int) -> None:
        """What is left of a batch."""
        own = batch is self._rest
        x, y = batch[0][count:], batch[1][count:]
        self._rest = None if not len(y) else (x, y) if own else (x.copy(), y.copy())

    def _next(self) -> tuple[npt.NDArray, npt.NDArray] | None:
        """What is left of the last batch, or the next one; None at the end."""
        if self._rest is not None:
            return self._rest
        try:
            batch = next(self._iterator)
        except StopIteration:
            return None
        except Exception as error:
            error.add_note(f"in batch {self._number} of {self.title}")
            raise
        x, y = self._checked(batch)
        self._number += 1
        return (x, y) if len(y) else self._next()

    def _checked(self, batch: Any) -> tuple[npt.NDArray, npt.NDArray]:
        where = f"batch {self._number} of {self.title}"
        if isinstance(batch, Mapping) or not hasattr(batch, "__len__") or len(batch) != 2:
            size = f" of {len(batch)}" if hasattr(batch, "__len__") else ""
            raise InputError(
                f"{where} must be a pair (features, labels), but is a {type(batch).__name__}{size}; "
                f"make pairs of what your iterator gives"
            )
        what = "labels" if self.kind.numbers is None else "targets"
        x, y = named(f"the features of {where}", batch[0]), named(f"the {what} of {where}", batch[1])
        if x.values.shape[:1] == (0,) == y.values.shape[:1]:
            return np.empty((0, *self.kind.features)), self.kind.no_targets(0)
        checks.check_targets(y, self.kind.targets)
        checks.check_features(x)
        checks.check_same_rows(x, y)
        self._check_features(x)
        self._check_targets(y)
        return x.values, y.values.astype(checks.target_dtype(self.kind.targets))

    def _check_features(self, x: Named) -> None:
        self.kind = self.kind._replace(dtype=self.kind.dtype or x.values.dtype)
        features, dtype = self.kind.features, self.kind.dtype
        if x.values.shape[1:] != features or x.values.dtype != dtype:
            raise InputError(
                f"{x.title} must have rows like those before and those of x_validation, {dtype}{list(features)}, "
                f"but have {x.values.dtype}{list(x.values.shape[1:])}; give all batches alike"
            )

    def _check_targets(self, y: Named) -> None:
        numbers, classes = self.kind.numbers, self.kind.classes
        if numbers is not None:
            if y.values.shape[1:] != numbers:
                raise InputError(
                    f"{y.title} must have rows of the shape of those of y_validation, {list(numbers)}, but have "
                    f"{list(y.values.shape[1:])}; give all batches alike"
                )
            return
        low, high = int(y.values.min()), int(y.values.max())
        if low < 0 or (classes is not None and high >= classes):
            raise InputError(
                f"{y.title} must be classes 0 to {'K' if classes is None else classes}-1, but go from {low} to "
                f"{high}; {checks.RENUMBER} numbers them so, y being all labels together"
            )
