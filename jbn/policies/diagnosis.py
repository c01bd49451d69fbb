"""What a learning curve and the sizes of the updates say about a training, with the evidence; it changes nothing."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

_RISE, _PART = (
    1.5,
    0.1,
)  # a loss diverges at so many times its lowest, and so much of its whole fall above that
_APART = 1.05  # two losses that differ by less are the same
_PATIENCE = 5  # segments of overfitting
_PLATEAU, _STILL = 5, 0.01  # segments, and by how much less a loss must have become over them
_LARGE, _SMALL = 0.3, 3e-4  # updates beside weights: above, a loss is thrown about; below, it creeps
_CREEPS, _LEARNED = (
    0.05,
    0.25,
)  # it changes by no more in a segment, and is not down to this share of the first yet


class Watched(NamedTuple):
    """What is looked at, one entry a segment, oldest first.

    Args:
        train_loss: mean loss of the batches.
        validation_loss: on the validation part.
        ratios: `|update| / |weights|` of the first step, the median over the kernels.
        first_loss: of a batch before the first step of all.
        since: number of the first segment, from 0, with the learning rate that holds now.
    """

    train_loss: Float[np.ndarray, " segments"]
    validation_loss: Float[np.ndarray, " segments"]
    ratios: Float[np.ndarray, " segments"]
    first_loss: float
    since: int = 0


class Finding(NamedTuple):
    """Something that a person should know.

    Args:
        kind: "diverged", "diverging", "overfitting", "learning rate too high", "learning rate too low" or "plateau".
        evidence: the numbers behind it, as a sentence.
    """

    kind: str
    evidence: str


def diagnose(watched: Watched) -> tuple[Finding, ...]:
    r"""What there is to say after the last segment; nothing where all is well.

    With L the training loss, V the validation loss, r the ratio of update to weights, F the loss before training:

    - diverged: L or V of the last segment is not finite; nothing else is said then.
    - diverging: L rose twice in a row, to more than 1.5 times its lowest, by more than a tenth of its whole fall.
    - learning rate too high: r was above 0.3 in a segment with this learning rate, and since then L rose by more
      than 5 % from one segment to the next, or is above F, or creeps.
    - learning rate too low: r below 3e-4, and L creeps: it changed by less than 5 % in each of the last two segments
      and is still above a quarter of F.
    - overfitting: V was lowest five or more segments ago and is 5 % above in the last three, while L fell by 5 %.
    - plateau: in five segments neither the lowest L nor the lowest V became 1 % less.

    The ratio is a rule of thumb of practice (Karpathy, CS231n, 2015: about 1e-3 a step for SGD; higher with Adam and
    batch norm, whose scale does not see the length of the weights); so it counts only together with the curve.

    Args:
        watched: all segments so far.

    >>> import numpy as np
    >>> falls = np.array([1.0, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05])
    >>> rises = np.array([1.0, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1])
    >>> print(*diagnose(Watched(falls, rises, np.full(7, 1e-2), 2.3)), sep="\n")
    Finding(kind='overfitting', evidence='validation loss was lowest, 0.6, after segment 2 and is 1.1 now, while ...
    """
    if not len(watched.train_loss):
        return ()
    last = (watched.train_loss[-1], watched.validation_loss[-1])
    if not np.isfinite(last).all():
        return (Finding("diverged", f"training loss is {last[0]:.4g}, validation loss {last[1]:.4g}"),)
    found = {kind: words for kind, look in _LOOKS if (words := look(watched)) is not None}
    explained = [kind for cause in found for kind in _EXPLAINS.get(cause, ())]
    return tuple(Finding(kind, words) for kind, words in found.items() if kind not in explained)


def _diverging(w: Watched) -> str | None:
    loss, lowest = w.train_loss, w.train_loss.min()
    if len(loss) < 3 or not loss[-3] < loss[-2] < loss[-1]:
        return None
    if loss[-1] <= max(_RISE * lowest, lowest + _PART * (loss[0] - lowest)):
        return None
    return f"training loss rose twice, {_row(loss[-3:])}; its lowest was {lowest:.4g}"


def _too_high(w: Watched) -> str | None:
    ratio, loss = w.ratios[w.since :].max(initial=0), w.train_loss[w.since :]
    rises = (loss[1:] > _APART * loss[:-1]).any()
    if ratio <= _LARGE or not (rises or loss[-1] > w.first_loss or _creeps(w)):
        return None
    return f"steps moved the weights by up to {ratio:.0%} of their length, and training loss went {_row(loss[-5:])}"


def _too_low(w: Watched) -> str | None:
    ratio = w.ratios[-1]
    if ratio >= _SMALL or not _creeps(w):
        return None
    loss = _row(w.train_loss[-3:])
    return f"a step moves the weights by {ratio:.2g} of their length, and training loss creeps: {loss}"


def _creeps(w: Watched) -> bool:
    loss = w.train_loss
    slow = len(loss) >= 3 and bool((np.abs(1 - loss[-2:] / loss[-3:-1]) <= _CREEPS).all())
    return slow and bool(loss[-1] > _LEARNED * w.first_loss)


def _overfitting(w: Watched) -> str | None:
    loss, lowest = w.validation_loss, int(np.argmin(w.validation_loss))
    before, now = w.train_loss[lowest], w.train_loss[-1]
    if len(loss) - 1 - lowest < _PATIENCE or _APART * now >= before:
        return None
    if (loss[-3:] <= _APART * loss[lowest]).any():
        return None
    return (
        f"validation loss was lowest, {loss[lowest]:.4g}, after segment {lowest + 1} and is {loss[-1]:.4g} now, "
        f"while training loss fell from {before:.4g} to {now:.4g}"
    )


def _plateau(w: Watched) -> str | None:
    if len(w.train_loss) <= _PLATEAU:
        return None
    for loss in (w.train_loss, w.validation_loss):
        if loss[-_PLATEAU:].min() < (1 - _STILL) * loss[:-_PLATEAU].min():
            return None
    return (
        f"in {_PLATEAU} segments neither training loss, {_row(w.train_loss[-_PLATEAU:])}, nor validation loss, "
        f"{_row(w.validation_loss[-_PLATEAU:])}, became 1 % less"
    )


_LOOKS: Sequence[tuple[str, Callable[[Watched], str | None]]] = (
    ("diverging", _diverging),
    ("learning rate too high", _too_high),
    ("learning rate too low", _too_low),
    ("overfitting", _overfitting),
    ("plateau", _plateau),
)

_EXPLAINS = {
    "learning rate too high": ("learning rate too low", "overfitting", "plateau"),
    "learning rate too low": ("plateau",),
    "overfitting": ("plateau",),
    "diverging": ("plateau",),
}


def _row(values: np.ndarray) -> str:
    return ", ".join(f"{value:.4g}" for value in values)
