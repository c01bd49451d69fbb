"""What a framework counts, and the count of the running statistics that follows from it."""

import math

import numpy as np

from jbn.errors import InputError
from jbn.interop.weights.settings import Settings, Stored, uncorrected


def counted(settings: Settings) -> float | None:
    """The number in the layer's counter; None if it has none."""
    for stored in settings.layout:
        if stored.role == "counter":
            return float(_number(stored))
    return None


def _number(stored: Stored) -> np.ndarray:
    return np.frombuffer(stored.data, stored.dtype).reshape(())


def check_counters(settings: Settings) -> None:
    """Counters agree, and there is one where statistics mean nothing without it.

    Raises:
        InputError: with the arrays.
    """
    counters = [stored for stored in settings.layout if stored.role == "counter"]
    different = [stored.name for stored in counters if _number(stored) != _number(counters[0])]
    if different:
        raise InputError(
            f"{settings.label}: array {different[0]!r} must count what {counters[0].name!r} counts, which is "
            f"{_number(counters[0]):g}, but is another number"
        )
    if settings.cumulative and not counters:
        name = settings.form.named("counter")[0]
        raise InputError(
            f"{settings.label}: array {name!r} is missing, without which an average over all batches "
            "cannot go on; add it"
        )


def divisor(settings: Settings, counter: float | None = None) -> float:
    """What stored means and variances are divided by: the scale factor, or `1 - momentum ** counter`.

    Args:
        settings: of the layer.
        counter: in place of the layer's.
    """
    number = counted(settings) if counter is None else counter
    if number is None or settings.form.counter not in ("sums", "debiased"):
        return 1.0
    if settings.form.counter == "sums":
        return number
    if number == 0:  # equinox then shows what it starts from; haiku's hidden values are 0
        return 1.0 if settings.form.divided else 0.0
    return -math.expm1(number * math.log(settings.momentum)) if settings.momentum > 0 else 1.0


def count(settings: Settings) -> float:
    """The weight behind the running statistics."""
    number, form = counted(settings), settings.form
    if form.counter == "sums":
        return number or 0.0
    if form.counter == "samples":
        return 1.0 if number is None else number
    if form.counter == "first":
        return 0.0 if number else uncorrected(settings.momentum)
    if form.counter == "debiased":
        return divisor(settings) * uncorrected(settings.momentum) if number else 0.0
    if settings.cumulative:
        return number or 0.0
    return uncorrected(settings.momentum)


def counter(settings: Settings, weight: float, steps: int) -> float:
    """What the layer's counter says after training.

    Args:
        settings: of the layer.
        weight: the count of its statistics.
        steps: of training since it was loaded, for counters that the count does not tell.

    Raises:
        InputError: steps with which the count cannot be.
    """
    number, form = counted(settings) or 0.0, settings.form
    if form.counter in ("sums", "samples") or settings.cumulative:
        return weight
    if form.counter == "first":
        return float(weight == 0)
    after = number + steps
    if form.counter == "debiased":
        _check_steps(settings, weight, after)
    return after


def _check_steps(settings: Settings, weight: float, after: float) -> None:
    whole = uncorrected(settings.momentum)
    expected = whole * divisor(settings, after) if after else 0.0
    if abs(expected - weight) > 1e-4 * max(weight, 1e-6):
        rest = 1 - weight / whole
        means = f"about {round(math.log(rest) / math.log(settings.momentum))}" if rest > 0 else "many"
        raise InputError(
            f"{settings.label}: after {after:g} steps the count of its statistics is {expected:g}, but it is "
            f"{weight:g}, which {means} steps make; pass how many were trained since it was loaded, as in steps=100"
        )
