"""Compiled programs, each traced and compiled once a process, whichever thread needs it first."""

import threading
import time
from collections.abc import Callable, Hashable
from typing import Any

import jax
from jaxtyping import PyTree

# XLA compiles one program on several cores: two at once take longer than one after the other.
_compiling = threading.Lock()


class Executable:
    """A program for fixed shapes: traced at once, compiled by the first thread that calls it.

    Tracing happens where the object is made, so that settings of that thread hold; compiling where it is first
    called, beside the training of what is compiled already.
    """

    def __init__(self, program: Any, arguments: tuple[PyTree, ...], device: jax.Device):
        sharding = jax.sharding.SingleDeviceSharding(device)
        shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), arguments)
        start = time.perf_counter()
        self._lowered: Any = program.lower(*shapes)
        self.trace_seconds = time.perf_counter() - start
        self.result: PyTree = self._lowered.out_info
        self.compile_seconds = 0.0
        self._compiled: Any = None
        self._lock = threading.Lock()

    def __call__(self, *arguments: PyTree) -> Any:
        """Runs the program, compiled first if it is not yet."""
        self.compile()
        return self._compiled(*arguments)

    @property
    def compiled(self) -> bool:
        """Whether it is."""
        return self._compiled is not None

    @property
    def working_bytes(self) -> int:
        """What the program needs while it runs, besides arguments and results; 0 where the device does not tell."""
        self.compile()
        found = self._compiled.memory_analysis()
        return 0 if found is None else int(found.temp_size_in_bytes)

    def compile(self) -> None:
        """Compiles the program if it is not yet."""
        with self._lock:
            if self._compiled is None:
                with _compiling:
                    start = time.perf_counter()
                    self._compiled, self._lowered = self._lowered.compile(), None
                    self.compile_seconds = time.perf_counter() - start


_KEPT = 512  # executables hold memory: the one unused for longest goes first (see also `room`)
_known: dict[Hashable, Executable] = {}


def forget() -> None:
    """Lets go of all executables."""
    _known.clear()


def executable(
    program: Callable[..., Any], arguments: tuple[PyTree, ...], device: jax.Device
) -> tuple[Executable, bool]:
    """The executable of a program for arguments of these shapes on that device, and whether it is new."""
    leaves, tree = jax.tree.flatten(arguments)
    key = (program, tree, tuple((leaf.shape, leaf.dtype) for leaf in leaves), device)
    known = _known.pop(key, None)
    _known[key] = known or Executable(program, arguments, device)
    while len(_known) > _KEPT:
        del _known[next(iter(_known))]
    return _known[key], known is None
