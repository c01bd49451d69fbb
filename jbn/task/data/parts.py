"""What every data source becomes."""

import math
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Int, Shaped

if TYPE_CHECKING:
    from jbn.task.data.columns import Columns
    from jbn.task.data.series import Value

from jbn.task.data.blocks import Blocks

_CHECKED = 4096  # training rows of a checksum


class Part(NamedTuple):
    """Rows of one part of the data.

    Args:
        x: features, `[rows, ...features]`, of the real dtype they came with (also bool and integers).
        y: class numbers `0 ... classes - 1`, `[rows]`, int32; or numbers, `[rows]` or `[rows, numbers]`, floats.

    >>> import numpy as np
    >>> Part(np.zeros((3, 2)), np.zeros(3, np.int32)).x.shape
    (3, 2)
    """

    x: Shaped[np.ndarray, " rows *features"]
    y: Shaped[np.ndarray, " rows *numbers"]


class Folds(NamedTuple):
    """Folds of cross-validation.

    Args:
        rows: what they are made of.
        train: row numbers that each trains on, `[folds, rows]`.
        validation: row numbers that each validates on, disjoint, `[folds, rows]`.
    """

    rows: Part
    train: Int[np.ndarray, "folds train_rows"]
    validation: Int[np.ndarray, "folds validation_rows"]


@dataclass(frozen=True, eq=False, repr=False)
class Data:
    """A data set; two are equal only if they are the same object.

    Args:
        name: where it comes from, for people.
        train: what is trained on: in memory, or read in blocks.
        validation: what configurations are compared on.
        test: what is looked at once, at the end.
        classes: number of classes; each has at least one row in the training part. None where targets are numbers.
        class_names: what the classes are called where the data come from, `[classes]`, if they have names there:
            `np.array(class_names)[labels]`.
        columns: what makes features of the rows of a table, if they come from one.
        folds: of cross-validation, where it is done; `train` and `validation` are those of the first.

    >>> from jbn.task import data
    >>> data.digits()
    Data('digits': 1078 training, 359 validation, 360 test rows of 64 features, 10 classes)
    """

    name: str
    train: Part | Blocks
    validation: Part
    test: Part
    classes: int | None
    class_names: "tuple[Value, ...] | None" = None
    columns: "Columns | None" = None
    folds: Folds | None = None

    @property
    def rows(self) -> int:
        """Rows of the training part."""
        return self.train.rows if isinstance(self.train, Blocks) else len(self.train.y)

    @property
    def features(self) -> tuple[int, ...]:
        """Shape of a row."""
        return self.validation.x.shape[1:]

    def first(self, rows: int) -> Part:
        """The first rows of the training part; of one that is read in blocks no more than a block has."""
        if isinstance(self.train, Blocks):
            return Part(*self.train.first(rows))
        return Part(self.train.x[:rows], self.train.y[:rows])

    @property
    def checksum(self) -> int:
        """A number that other rows hardly have: the CRC-32 of the validation part and of training rows in memory."""
        parts = (
            [self.validation] if isinstance(self.train, Blocks) else [self.validation, self.first(_CHECKED)]
        )
        found = 0
        for part in parts:
            for array in (part.x, part.y):
                found = zlib.crc32(np.ascontiguousarray(array).tobytes(), found)
        return found

    def __repr__(self) -> str:
        blocks = f" (in {self.train.count} blocks)" if isinstance(self.train, Blocks) else ""
        rows = (
            f"{self.rows} training{blocks}, {len(self.validation.y)} validation, {len(self.test.y)} test rows"
        )
        features = "x".join(map(str, self.features))
        folds = "" if self.folds is None else f", {len(self.folds.train)} folds"
        numbers = "a number" if self.numbers == 1 else f"{self.numbers} numbers"
        targets = f"{numbers} a row" if self.classes is None else f"{self.classes} classes"
        return f"Data({self.name!r}: {rows} of {features} features, {targets}{folds})"

    @property
    def numbers(self) -> int:
        """How many numbers a row has as its target; for classes 1."""
        return math.prod(self.validation.y.shape[1:])
