"""What a structure computes and how many bytes a member of it has, read off shapes and one trace."""

import functools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jbn.nn.model import Hyper
from jbn.task import member as members
from jbn.task.hyper import Structure, bind, numbers
from jbn.task.member import Member, Problem, Rows
from jbn.task.task import Task

_ROWS = 16  # of a made-up batch


class Arithmetic(NamedTuple):
    """What one member of a structure is.

    Args:
        products: matrix products of an inference.
        multiply_adds: of those products, for one row.
        activations: numbers that those products give, for one row.
        parameters: how many numbers the optimiser changes.
        state_bytes: parameters, running statistics and optimiser state.
    """

    products: int
    multiply_adds: float
    activations: float
    parameters: int
    state_bytes: int


def arithmetic(task: Task, structure: Structure) -> Arithmetic:
    """What a member of this structure is, padding included; nothing is compiled for it.

    The network is traced once for all widths: a kernel is used as often for each of its entries whatever its width.
    """
    key = (arithmetic, structure, jax.dtypes.canonicalize_dtype(float))
    if key not in task.known:  # asked for hundreds of times while a sweep is planned
        problem = task.with_optimizer(structure.optimizer).problem
        own = structure.without("batch_size")._replace(padded=())
        task.known[key] = _arithmetic(problem, _row(task), own)
    return task.known[key]


@functools.lru_cache(maxsize=4096)
def _arithmetic(problem: Problem, row: jax.ShapeDtypeStruct, structure: Structure) -> Arithmetic:
    entries = problem.model.hyperparameters
    usual = {own.name: own.default for own in entries if own.kind == "padded" and own.default is not None}
    of_usual_size = structure.sized(usual)
    own, base = _kernels(problem, row, structure), _kernels(problem, row, of_usual_size)
    products, multiply_adds, activations = _products(problem, row, of_usual_size)
    return Arithmetic(
        products=products,
        multiply_adds=multiply_adds * own.entries / base.entries,
        activations=activations * own.columns / base.columns,
        parameters=own.parameters,
        state_bytes=own.state_bytes,
    )


def member_shapes(task: Task, structure: Structure) -> Member:
    """Shapes and types of a member of this structure, padding included."""
    problem = task.with_optimizer(structure.optimizer).problem
    return _member(problem, _row(task), structure._replace(padded=()))


class _Kernels(NamedTuple):
    """Entries and columns of all kernels; all parameters; bytes of a member."""

    entries: int
    columns: int
    parameters: int
    state_bytes: int


def _kernels(problem: Problem, row: jax.ShapeDtypeStruct, structure: Structure) -> _Kernels:
    member = _member(problem, row, structure)
    parameters = jax.tree.leaves(member.params)
    kernels = [leaf for leaf in parameters if len(leaf.shape) > 1]
    return _Kernels(
        entries=max(1, sum(kernel.size for kernel in kernels)),
        columns=max(1, sum(kernel.shape[-1] for kernel in kernels)),
        parameters=sum(leaf.size for leaf in parameters),
        state_bytes=sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(member)),
    )


@functools.lru_cache(maxsize=1024)
def _products(problem: Problem, row: jax.ShapeDtypeStruct, structure: Structure) -> tuple[int, float, float]:
    """How many products an inference has; their multiply-adds and results, for one row."""
    member, hyper = _member(problem, row, structure), _hyper(problem, structure)
    spec = jax.ShapeDtypeStruct((_ROWS, *row.shape), row.dtype)
    infer = functools.partial(members.infer, problem, hyper)
    traced = jax.make_jaxpr(infer)(member.params, member.stats, spec)
    products = list(_equations(traced.jaxpr, "dot_general"))
    results = sum(product.outvars[0].aval.size for product in products)
    return len(products), sum(map(_multiply_adds, products)) / _ROWS, results / _ROWS


def _row(task: Task) -> jax.ShapeDtypeStruct:
    x = task.arrays().train.x
    return jax.ShapeDtypeStruct(x.shape[1:], x.dtype)


@functools.lru_cache(maxsize=1024)
def _member(problem: Problem, row: jax.ShapeDtypeStruct, structure: Structure) -> Member:
    def init() -> Member:
        rows = Rows(jnp.zeros((1, *row.shape), row.dtype), jnp.zeros(1, jnp.int32))
        return members.init(problem, _hyper(problem, structure), jax.random.key(0), rows)

    return jax.eval_shape(init)


def _hyper(problem: Problem, structure: Structure) -> Hyper:
    entries = (*problem.optimizer.hyperparameters, *problem.model.hyperparameters)
    return bind(structure, numbers({entry.name: entry for entry in entries}, {}))


def _equations(jaxpr: Any, primitive: str) -> Iterator[Any]:
    """All equations of a primitive, also those inside other equations."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == primitive:
            yield equation
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda v: hasattr(v, "eqns")):
            own = getattr(inner, "jaxpr", inner)
            if hasattr(own, "eqns"):
                yield from _equations(own, primitive)


def _multiply_adds(equation: Any) -> float:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    return float(math.prod(equation.outvars[0].aval.shape) * math.prod(left[axis] for axis in contracted))
