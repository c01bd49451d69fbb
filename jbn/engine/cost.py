"""What training and compiling cost on a kind of device, in seconds; enough to weigh one against the other.

The rates were measured once and are part of the version: a plan follows from them, not from the mood of a machine.
"""

from collections.abc import Sequence
from typing import NamedTuple

from jbn.engine.arithmetic import Arithmetic, arithmetic
from jbn.engine.cohorts import Program
from jbn.task.hyper import Structure
from jbn.task.task import Task

ROUND_TRIP = 3  # products of a training step: forward, and two backward, for the input and for the kernel


class Rates(NamedTuple):
    """Seconds that things take on one core, or on one accelerator with a full tile.

    Args:
        step: a training step, whatever it computes.
        product: each matrix product of it with all that surrounds it.
        multiply_add: each multiply-add of a product.
        activation: each number that a product gives: batch norm, activation function and their gradients.
        parameter: each parameter, in the optimiser.
        program: tracing and compiling a training program, whatever it holds.
        layer: each matrix product of an inference in it.
        companion: the same for the programs that initialise and evaluate.
        call: a segment of a chunk, whatever it trains.
        moved: each byte of a chunk that is put together of others' members.
    """

    step: float
    product: float
    multiply_add: float
    activation: float
    parameter: float
    program: float
    layer: float
    companion: float
    call: float
    moved: float


_CPU = (
    Rates(  # least squares over 19 shapes on one core of an AMD EPYC (Zen 5); 0.8 to 1.2 of what was measured
        step=5.0e-6,
        product=3.2e-6,
        multiply_add=9.0e-12,
        activation=2.3e-9,
        parameter=4.6e-10,
        program=0.4,
        layer=0.19,
        companion=0.1,
        call=4e-4,
        moved=8e-10,
    )
)
_ACCELERATOR = Rates(  # not measured: orders of magnitude
    step=2e-6,
    product=1e-6,
    multiply_add=2e-13,
    activation=1e-11,
    parameter=1e-11,
    program=1.5,
    layer=0.5,
    companion=0.3,
    call=1e-4,
    moved=2e-10,
)


def rates(platform: str) -> Rates:
    """The rates of a kind of device: "cpu" or the name of an accelerator."""
    return _CPU if platform == "cpu" else _ACCELERATOR


def step_seconds(one: Arithmetic, batch_size: int, own: Rates) -> float:
    """A training step of one member with a batch of that size."""
    return (
        own.step
        + own.product * one.products
        + own.multiply_add * ROUND_TRIP * one.multiply_adds * batch_size
        + own.activation * one.activations * batch_size
        + own.parameter * one.parameters
    )


def train_program_seconds(structures: Sequence[Arithmetic], own: Rates) -> float:
    """Tracing and compiling one program that trains these structures."""
    return own.program + own.layer * sum(one.products for one in structures)


def companion_seconds(structures: Sequence[Arithmetic], own: Rates) -> float:
    """Tracing and compiling the programs that initialise and evaluate these structures."""
    return own.program + own.companion * sum(one.products for one in structures)


def evaluation_seconds(one: Arithmetic, rows: int, own: Rates) -> float:
    """One evaluation of a member on so many rows."""
    return own.step + rows * (own.multiply_add * one.multiply_adds + own.activation / 3 * one.activations)


def compile_seconds(task: Task, programs: Sequence[Program], own: Rates) -> float:
    """Tracing and compiling all programs."""
    shapes = [tuple(arithmetic(task, cohort.structure) for cohort in cohorts) for cohorts in programs]
    shared = {
        tuple(cohort.structure.without("batch_size") for cohort in cohorts): s
        for cohorts, s in zip(programs, shapes, strict=True)
    }
    train = sum((train_program_seconds(own_shapes, own) for own_shapes in shapes), 0.0)
    return train + sum(companion_seconds(own_shapes, own) for own_shapes in shared.values())


def epoch_seconds(task: Task, programs: Sequence[Program], own: Rates) -> float:
    """One epoch of every configuration, on one core."""
    return sum(
        len(cohort.rows) * member_seconds(task, cohort.structure, own)
        for cohorts in programs
        for cohort in cohorts
        if len(cohort.rows)
    )


def member_seconds(task: Task, structure: Structure, own: Rates) -> float:
    """One epoch of one member: its training steps and its evaluation."""
    one, arrays = arithmetic(task, structure), task.arrays()
    batch_size = dict(structure.values)["batch_size"]
    steps = task.steps(batch_size)
    judged = [part.y.shape[0] for part in (arrays.validation, arrays.test) if part is not None]
    return steps * step_seconds(one, batch_size, own) + sum(evaluation_seconds(one, n, own) for n in judged)


def chunk_seconds(task: Task, structures: Sequence[Structure], slots: int, own: Rates) -> float:
    """Putting a chunk of so many slots for each structure together."""
    return own.moved * slots * sum(arithmetic(task, structure).state_bytes for structure in structures)
