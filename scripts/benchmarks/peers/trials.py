"""Short trials of a peer's settings."""

import os

QUICK = "JBN_BENCHMARK_QUICK"  # in the environment: two options are enough of a trial
_best = {}


def fastest(key, options, seconds):
    """The option of least `seconds(option)`, tried once for a key; an option that fails is left out."""
    if key not in _best:
        options = options[:2] if QUICK in os.environ else options
        taken = {}
        for index, option in enumerate(options if len(options) > 1 else ()):
            try:
                taken[index] = seconds(option)
            except Exception as error:  # whatever a library raises: the others may still do
                reason = (str(error).splitlines() or [""])[0]
                print(f"    {key}: {option} fails: {type(error).__name__}: {reason}", flush=True)
        if len(options) > 1 and not taken:
            raise RuntimeError("no setting works")
        _best[key] = options[min(taken, key=taken.get) if taken else 0]
    return _best[key]
