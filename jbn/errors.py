"""What goes wrong because of what the caller gave: one error class, and words that help to mend it."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """A value, name or file from the caller cannot be used.

    The message says which invariant fails, what came, and what to do instead; the command line prints it
    as it stands and ends with exit code 2.
    """


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The nearest of the known names as a hint, and all of them.

    >>> did_you_mean("learning_rat", ["learning_rate", "beta1"])
    "did you mean 'learning_rate'? Known are: beta1, learning_rate"
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}Known are: {', '.join(names)}"
