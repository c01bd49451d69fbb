"""What every data source becomes."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32, Shaped


class Part(NamedTuple):
    """Rows of one part of the data.

    Args:
        x: features, `[rows, ...features]`, of the real dtype they came with (also bool and integers).
        y: labels `0 ... classes - 1`, `[rows]`, int32.

    >>> import numpy as np
    >>> Part(np.zeros((3, 2)), np.zeros(3, np.int32)).x.shape
    (3, 2)
    """

    x: Shaped[np.ndarray, " rows *features"]
    y: Int32[np.ndarray, " rows"]


@dataclass(frozen=True, eq=False, repr=False)
class Data:
    """A classification data set in host memory; two are equal only if they are the same object.

    Args:
        name: where it comes from, for people.
        train: what is trained on.
        validation: what configurations are compared on.
        test: what is looked at once, at the end.
        classes: number of classes; each has at least one row in the training part.

    >>> from jbn.task import data
    >>> data.digits()
    Data('digits': 1078 training, 359 validation, 360 test rows of 64 features, 10 classes)
    """

    name: str
    train: Part
    validation: Part
    test: Part
    classes: int

    def __repr__(self) -> str:
        rows = (
            f"{len(self.train.y)} training, {len(self.validation.y)} validation, {len(self.test.y)} test rows"
        )
        features = "x".join(map(str, self.train.x.shape[1:]))
        return f"Data({self.name!r}: {rows} of {features} features, {self.classes} classes)"
