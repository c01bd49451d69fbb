"""What arrays must be like before anything trains on them."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from jbn.errors import InputError

RENUMBER = "np.unique(y, return_inverse=True)[1]"


class Named(NamedTuple):
    """An array and what error messages call it."""

    title: str
    values: npt.NDArray


def named(title: str, values: npt.ArrayLike) -> Named:
    """The values as a NumPy array in the machine's byte order."""
    try:
        array = np.asarray(values)
    except (ValueError, TypeError) as error:
        raise InputError(f"{title} must be an array, but NumPy cannot make one of it: {error}") from error
    return Named(title, array.astype(array.dtype.newbyteorder("="), copy=False))


def check_features(x: Named) -> None:
    """Features are finite real numbers, `[rows, ...features]`, at least one row and one feature."""
    check_real(x)
    check_finite(x)


def check_real(x: Named) -> None:
    """Features are real numbers, `[rows, ...features]`, at least one row and one feature; no value is read."""
    dtype, shape = x.values.dtype, x.values.shape
    if not _floating(x) and dtype.kind not in "biu":
        raise InputError(
            f"{x.title} must hold real numbers, but its dtype is {dtype}; make numbers of it first"
        )
    if len(shape) < 2:
        raise InputError(
            f"{x.title} must be [rows, ...features], but its shape is {shape}; "
            "x[:, None] makes a column of a single feature"
        )
    if not all(shape):
        raise InputError(f"{x.title} must have at least one row and one feature, but its shape is {shape}")


def check_labels(y: Named) -> None:
    """Labels are whole numbers, one a row, of any integer, boolean or floating dtype."""
    dtype, shape = y.values.dtype, y.values.shape
    if dtype.kind not in "biuf":
        raise InputError(
            f"{y.title} must be whole numbers, but its dtype is {dtype}; {RENUMBER} numbers the classes"
        )
    if len(shape) != 1:
        raise InputError(
            f"{y.title} must be one-dimensional, a class number a row, but its shape is {shape}; "
            "y.argmax(axis=1) turns one-hot rows into class numbers, y.ravel() flattens a column"
        )
    whole = np.isfinite(y.values) & (np.floor(y.values) == y.values)
    if not whole.all():
        row = whole.argmin()
        raise InputError(
            f"{y.title} must be whole numbers, but has {y.values[row]} in row {row}; "
            f'{RENUMBER} numbers the classes, targets="numbers" says that they are no classes'
        )


def check_kind(targets: str) -> str:
    """What the targets may be."""
    if targets not in ("classes", "numbers"):
        raise InputError(f'targets must be "classes" or "numbers", but got {targets!r}')
    return targets


def check_targets(y: Named, targets: str) -> None:
    """Labels, or numbers."""
    if check_kind(targets) == "classes":
        check_labels(y)
    else:
        check_numbers(y)


def target_dtype(targets: str) -> npt.DTypeLike:
    """What targets are held in."""
    return np.int32 if targets == "classes" else np.float64


def strata(y: npt.NDArray) -> npt.NDArray[np.int32]:
    """What a split keeps the shares of: classes; numbers are split without regard to them."""
    return y if y.dtype == np.int32 else np.zeros(len(y), np.int32)


def check_numbers(y: Named) -> None:
    """Targets are finite real numbers, `[rows]` or `[rows, numbers]`."""
    dtype, shape = y.values.dtype, y.values.shape
    if dtype.kind not in "biuf":
        raise InputError(f"{y.title} must be numbers, but its dtype is {dtype}; make numbers of it first")
    if len(shape) not in (1, 2) or not all(shape):
        raise InputError(f"{y.title} must be [rows] or [rows, numbers], but its shape is {shape}")
    finite = np.isfinite(y.values)
    if not finite.all():
        row = np.unravel_index(finite.argmin(), shape)[0]
        raise InputError(
            f"{y.title} must be finite, but has {y.values[row]} in row {row}; leave such rows out"
        )


def check_same_numbers(ys: Mapping[str, Named]) -> None:
    """Rows of all parts have as many numbers as in the training part."""
    train = ys["train"]
    for y in ys.values():
        if y.values.shape[1:] != train.values.shape[1:]:
            raise InputError(
                f"{y.title} must have the numbers of {train.title}, but their rows have the shapes "
                f"{y.values.shape[1:]} and {train.values.shape[1:]}; prepare all parts alike"
            )


def check_same_rows(x: Named, y: Named) -> None:
    """Every row has its label."""
    if len(x.values) != len(y.values):
        raise InputError(
            f"{x.title} and {y.title} must have the same number of rows, "
            f"but have {len(x.values)} and {len(y.values)}; give one label for each row"
        )


def check_same_features(xs: Mapping[str, Named]) -> None:
    """Rows of all parts have the shape that they have in the training part."""
    train = xs["train"]
    for x in xs.values():
        if x.values.shape[1:] != train.values.shape[1:]:
            raise InputError(
                f"{x.title} must have the features of {train.title}, but their rows have the shapes "
                f"{x.values.shape[1:]} and {train.values.shape[1:]}; prepare all parts alike"
            )


def count_classes(ys: Mapping[str, Named]) -> int:
    """The number of classes, at least two: in the training part all of `0 ... K - 1`, elsewhere no others."""
    train = ys["train"]
    known = np.unique(train.values)
    for y in ys.values():
        strange = np.setdiff1d(y.values, known)
        if len(strange):
            raise InputError(
                f"{y.title} must have no class that is never in {train.title}, but has {_listing(strange)}, "
                f"where that has {_listing(known)}; leave such rows out, or move some of them there"
            )
    if known[0] != 0 or known[-1] != len(known) - 1:
        raise InputError(
            f"{train.title} must have the classes 0 to K-1, but its smallest label is {known[0]}, "
            f"its largest {known[-1]}, and {len(known)} are distinct; {RENUMBER} numbers them so, "
            "y being the labels of all parts together"
        )
    if len(known) < 2:
        raise InputError(
            f"{train.title} must have at least two classes, but all {len(train.values)} labels are 0"
        )
    return len(known)


def check_finite(x: Named) -> None:
    """Every number is finite; the message says which is not."""
    blocks = _not_finite(x.values) if _floating(x) else iter(())
    start, wrong = next(blocks, (0, None))
    if wrong is None:
        return
    row, *place = map(int, np.unravel_index(wrong.argmax(), wrong.shape))
    count = wrong.sum() + sum(wrong.sum() for _, wrong in blocks)
    position = f"column {place[0]}" if len(place) == 1 else f"position {tuple(place)}"
    raise InputError(
        f"{x.title} has a {x.values[start + row, *place]} in row {start + row}, {position}"
        f"{f' (and {count - 1} more not finite)' if count > 1 else ''}; "
        "features must be finite: leave such rows out or fill them in"
    )


def is_finite(x: npt.NDArray) -> bool:
    """Whether every number is finite."""
    return next(_not_finite(x), None) is None


def _floating(x: Named) -> bool:
    """To NumPy bfloat16 and its kin are no floats; JAX knows them."""
    return bool(jnp.issubdtype(x.values.dtype, np.floating))


def _not_finite(x: npt.NDArray, *, block: int = 2**22) -> Iterator[tuple[int, npt.NDArray[np.bool_]]]:
    """First row and mask of every block of rows with values that are not finite.

    In blocks of about 4 million values, so that no mask as large as the data is made.
    """
    rows = max(1, block // x[0].size)
    for start in range(0, len(x), rows):
        wrong = ~np.isfinite(x[start : start + rows])
        if wrong.any():
            yield start, wrong


def _listing(values: npt.NDArray, *, most: int = 10) -> str:
    """The first of the values in words."""
    more = f" and {len(values) - most} more" if len(values) > most else ""
    return ", ".join(map(str, values[:most].tolist())) + more
