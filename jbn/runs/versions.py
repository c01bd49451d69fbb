"""The versions of what a run computes with."""

import functools
import importlib.metadata

_VERSIONED = ("jbn", "jax", "jaxlib", "numpy", "optax")


def versions() -> dict[str, str]:
    """The installed versions by the names of their packages.

    >>> sorted(versions())
    ['jax', 'jaxlib', 'jbn', 'numpy', 'optax']
    """
    return {name: _version(name) for name in _VERSIONED}


_version = functools.cache(importlib.metadata.version)
