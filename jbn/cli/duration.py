"""A time as a person writes it: 2h, 90m, 30s, 1h30m."""

import re

from jbn.errors import InputError

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0}
_PATTERN = re.compile(r"(?:(?P<h>\d+(?:\.\d+)?)h)?(?:(?P<m>\d+(?:\.\d+)?)m)?(?:(?P<s>\d+(?:\.\d+)?)s)?")


def seconds_of(text: str, *, name: str) -> float:
    """The seconds of a time in hours, minutes and seconds.

    Args:
        text: such as 2h, 90m, 30s, 1h30m or 1.5h.
        name: what the time is, for the message.

    Raises:
        InputError: anything else, or no time at all.

    >>> seconds_of("1h30m", name="--budget"), seconds_of("30s", name="--budget")
    (5400.0, 30.0)
    """
    found = _PATTERN.fullmatch(text.strip().replace(" ", "").lower())
    own = {} if found is None else {unit: float(n) for unit, n in found.groupdict().items() if n is not None}
    seconds = sum(_UNITS[unit] * number for unit, number in own.items())
    if seconds <= 0:
        raise InputError(f"{name} must be a time above 0 such as 2h, 90m, 30s or 1h30m, but got {text!r}")
    return float(seconds)


def clock(seconds: float) -> str:
    """A time in at most two units, as short as can be.

    >>> clock(0.0123), clock(0.52), clock(41.6), clock(5400), clock(125), clock(7200)
    ('12 ms', '0.5 s', '42 s', '1 h 30 min', '2 min 5 s', '2 h')
    """
    if seconds < 0.1:
        return f"{1000 * seconds:.2g} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds) if seconds < 3600 else 60 * round(seconds / 60)
    (hours, rest), names = divmod(whole, 3600), ("h", "min", "s")
    numbers = (hours, *divmod(rest, 60))
    return " ".join(f"{number} {name}" for number, name in zip(numbers, names, strict=True) if number)
