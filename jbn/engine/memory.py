"""How much memory a sweep takes, from shapes and the compiled programs, and how much there is."""

import gc
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from jbn.engine.arithmetic import arithmetic
from jbn.engine.feed import HELD
from jbn.engine.plan import Plan
from jbn.errors import InputError
from jbn.task.data import Blocks
from jbn.task.data.blocks import row_bytes
from jbn.task.hyper import Structure
from jbn.task.task import Task

# Measured: what the first compile takes for good, and what compiling each matrix product of a network leaves.
_COMPILER_BYTES, _PROGRAM_BYTES = 140e6, 5.2e6
_WORTH_COLLECTING = 8e6
_DEVICE_SHARE = 0.7  # of an accelerator's memory that populations may fill; the rest is for programs and data


def population_bytes(task: Task, plan: Plan, *, seeds: int, workers: int) -> int:
    """Parameters, running statistics and optimiser state of all slots, empty ones included."""
    return sum(
        seeds
        * plan.chunks(program, seeds=seeds, workers=workers)
        * plan.slots
        * arithmetic(task, cohort.structure).state_bytes
        for program in plan.programs
        for cohort in program
    )


def peak_bytes(task: Task, plan: Plan, *, seeds: int, workers: int) -> int:
    """What the process will have at its peak, without what programs need while they run.

    That is what it has now, the population, data and compiled programs.

    Args:
        task: what is trained.
        plan: how it is laid out.
        seeds: members of every configuration.
        workers: who train side by side.
    """
    own = task.arrays()
    jax.block_until_ready((own.train, own.validation, own.test))
    if own.train.x.nbytes > _WORTH_COLLECTING:
        gc.collect()  # JAX lets go of the copies that rows were read from, which is seldom else
    shapes = [[arithmetic(task, cohort.structure) for cohort in cohorts] for cohorts in plan.programs]
    programs = _COMPILER_BYTES + _PROGRAM_BYTES * sum(one.products for own in shapes for one in own)
    data = _data_bytes(task, seeds, workers, rows=task.rows_in_order(plan.batch_sizes))
    population = population_bytes(task, plan, seeds=seeds, workers=workers)
    return round(resident_bytes() + population + data + programs)


def rough_working_bytes(task: Task, plan: Plan) -> int:
    """About what a worker needs while its program runs."""
    return max(looked_at_bytes(task, cohort.structure) for program in plan.programs for cohort in program)


def looked_at_bytes(task: Task, structure: Structure) -> int:
    """The results of all products of a member, for as many rows as it looks at together."""
    own = task.arrays()
    judged = [part.y.shape[0] for part in (own.validation, own.test) if part is not None]
    rows = max(*judged, dict(structure.values)["batch_size"])
    return round(4 * arithmetic(task, structure).activations * rows)


def _data_bytes(task: Task, seeds: int, workers: int, *, rows: int | None = None) -> int:
    """The training part in an order a seed, and in that of the next epoch; as it is, it is there already.

    Of one that is read in blocks, those blocks that are in memory at a time, and one as it was read. Folds are made
    of the training and the validation part together, and each has its own copy of what it is judged on. An epoch
    has so many `rows`, by default those of the training part.
    """
    train, own = task.data.train, task.arrays()
    if isinstance(train, Blocks):
        return (HELD * seeds + 1) * train.capacity * row_bytes(train.features)
    row = (own.train.x.nbytes + own.train.y.nbytes) // len(own.train.y)
    judged = len(task.data.validation.y) + (0 if own.test is None else len(own.test.y))
    validations = len(own.folds) * judged
    orders = (seeds + (workers > 1)) * (task.data.rows if rows is None else rows)
    return row * (validations + orders)


def must_wait(task: Task, plan: Plan, seeds: int, devices: Sequence[Any]) -> bool:
    """Whether the population does not fit on the accelerators, so that chunks wait on the host between segments."""
    limits = [
        (device.memory_stats() or {}).get("bytes_limit") for device in devices if device.platform != "cpu"
    ]
    known = [limit for limit in limits if limit]
    population = population_bytes(task, plan, seeds=seeds, workers=len(devices))
    return bool(known) and population > _DEVICE_SHARE * sum(known)


def check_memory(needed: int, configurations: int, available: int | None) -> None:
    """A sweep must fit into the memory there is: on a CPU the system gives no second chance.

    Raises:
        InputError: how much it needs, how much there is, and how many configurations would fit.

    >>> check_memory(1_000_000_000, 1000, 2_000_000_000)
    """
    if available is not None and needed > available:
        fits = max(1, int(configurations * available / needed))
        raise InputError(
            f"{configurations} configurations need about {needed / 1e9:.1f} GB, but {available / 1e9:.1f} GB are "
            f"available: take {fits} or fewer, smaller networks or fewer seeds"
        )


def resident_bytes() -> int:
    """What this process has in memory now; 0 where the system does not tell."""
    return _kilobytes("/proc/self/status", "VmRSS:") * 1024


def peak_resident_bytes() -> int:
    """The most that this process had in memory so far.

    The system's count for a process also knows what its parent had when it began; this one does not.
    """
    own = _kilobytes("/proc/self/status", "VmHWM:") * 1024
    if own:
        return own
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def available_bytes() -> int | None:
    """What this process may still take, by the system and by its control group; None if they do not tell."""
    free = _kilobytes("/proc/meminfo", "MemAvailable:") * 1024
    limits = [free] if free else []
    try:
        limit, used = (
            Path("/sys/fs/cgroup", name).read_text().strip() for name in ("memory.max", "memory.current")
        )
        limits += [int(limit) - int(used)] if limit != "max" else []
    except (OSError, ValueError):
        pass
    return min(limits, default=None)


def _kilobytes(path: str, name: str) -> int:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(name)), 0)
