"""The versions of what a run computes with."""

import importlib.metadata

_VERSIONED = ("jbn", "jax", "jaxlib", "numpy", "optax")


def versions() -> dict[str, str]:
    """The installed versions by the names of their packages.

    >>> sorted(versions())
    ['jax', 'jaxlib', 'jbn', 'numpy', 'optax']
    """
    return {name: importlib.metadata.version(name) for name in _VERSIONED}
