"""Models of other libraries, and plain functions, as models that sweeps can train."""

from typing import Any as _Any


def __getattr__(name: str) -> _Any:
    """`weights`, which few need."""
    import importlib

    if name != "weights":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module("jbn.interop.weights")


def __dir__() -> list[str]:
    return sorted([*globals(), "weights"])
