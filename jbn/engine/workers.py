"""Who runs the jobs of a segment: one thread per core on a CPU, one per device elsewhere, all on one queue each."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import Any

import jax


class Workers:
    """Threads that run jobs; a job is bound to a device.

    On a CPU all threads share the one device and take jobs from one queue; every job runs a compiled program on
    its own data, so that they never wait for one another. Elsewhere every device has a thread of its own.

    Args:
        count: threads on a CPU; default: one for each core this process may use.
        devices: where to run; each then has one thread. Default: the CPU, or all local accelerators.

    The attribute `count` is the number of threads, of all devices together.
    """

    def __init__(self, count: int | None = None, *, devices: Sequence[Any] | None = None):
        local = jax.local_devices() if devices is None else devices
        self.platform: str = local[0].platform
        shared = self.platform == "cpu" and devices is None
        self.devices = list(local[:1] if shared else local)
        each = (count or _cores()) if shared else 1
        self.count = each * len(self.devices)
        self._pools = [ThreadPoolExecutor(each, thread_name_prefix="jbn-worker") for _ in self.devices]

    def submit(self, device: int, job: Callable[..., Any], *arguments: Any) -> Future:
        """Puts a job on the queue of a device."""
        return self._pools[device].submit(job, *arguments)

    def close(self) -> None:
        """Lets running jobs finish and drops the waiting ones."""
        for pool in self._pools:
            pool.shutdown(wait=True, cancel_futures=True)


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def finish(futures: Sequence[Future]) -> list[Any]:
    """The results of all; the first failure is raised once nothing is running any more."""
    wait(futures, return_when=FIRST_EXCEPTION)
    for future in futures:
        future.cancel()
    wait(futures)
    return [future.result() for future in futures]
