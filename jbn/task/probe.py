"""Whether an optimiser can train a member inside larger arrays as if they were its own size."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PyTree

from jbn.task import member as members
from jbn.task.hyper import Structure, bind, numbers
from jbn.task.member import Problem, Rows

_SCALES = (1.0, 1e-6, 1e3, 1e-3, 1e12, 1e6)  # of the gradients, one a step: clipping acts in one of them
_TOLERANCE = 1e-5  # sums in another order are 1e-12 apart, or 1e-7 where an optimiser computes in float32
_LEARNING_RATE = 1e-2
_QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}  # it runs once


def exact_when_padded(
    problem: Problem, structure: Structure, sizes: Mapping[str, int], *, features: tuple[int, ...]
) -> bool:
    """Whether padding a member to the capacities of a structure leaves its training exact.

    Gradients are 0 in the padding. An optimiser that treats every entry alike never notices it; one that takes the
    root of a mean square, centres, or picks a rule by size does. Where that is not known of the optimiser, it
    takes six steps twice, with exact shapes and padded, on made-up gradients of sizes from 1e-6 to 1e12
    and the model's initial parameters, in float64: all updates must be equal, and what is 0 in the padding
    must stay 0. The network itself is not run: that its padding is exact is the model's promise.

    The answer is kept; the first time costs one small compile. Optimisers that change their rule by size need
    the size that is furthest from the capacity, so pass the smallest that the structure is meant for.

    Args:
        problem: model and optimiser.
        structure: with capacities in the place of padded sizes.
        sizes: name to own size, for every padded hyper-parameter of the structure.
        features: shape of one row of the data.

    Returns:
        True if it is exact; False if it is not, or if six steps moved nothing.

    >>> import jbn
    >>> task = jbn.Task(model=jbn.mlp(layers=1), data=jbn.data.digits(), optimizer="adam")
    >>> structure = Structure((("hidden_units", 100), ("layers", 1)), padded=("hidden_units",))
    >>> exact_when_padded(task.problem, structure, {"hidden_units": 50}, features=(64,))
    True
    """
    if problem.optimizer.elementwise is not None:
        return problem.optimizer.elementwise
    fixed = structure.without("batch_size")  # the optimiser never sees it
    return _probe(problem, fixed, tuple(sorted(sizes.items())), tuple(features))


@functools.lru_cache(maxsize=1024)
def _probe(
    problem: Problem, structure: Structure, sizes: tuple[tuple[str, int], ...], features: tuple[int, ...]
) -> bool:
    # on the host, whatever the session trains on: float64 is there, and the answer depends on nothing else
    with jax.enable_x64(True), jax.default_device(_host()):
        own = {name: np.asarray(size, np.int32) for name, size in sizes}
        exact = jax.eval_shape(lambda: _start(problem, structure.sized(dict(sizes)), {}, features))
        program = functools.partial(_apart, problem, structure, features)
        apart = float(jax.jit(program, compiler_options=_QUICKLY)(own, _made_up(exact)))
    return apart < _TOLERANCE


def _host() -> jax.Device | None:
    """The CPU; None (the default device) in a session that has none."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return None


def _start(
    problem: Problem, structure: Structure, sizes: Mapping[str, Any], features: tuple[int, ...]
) -> PyTree:
    """Initial parameters."""
    rows = Rows(jnp.zeros((1, *features)), jnp.zeros(1, jnp.int32))
    return members.init(
        problem, bind(structure, {**_numbers(problem), **sizes}), jax.random.key(0), rows
    ).params


def _numbers(problem: Problem) -> dict[str, Any]:
    """The default of every traced number."""
    entries = (*problem.model.hyperparameters, *problem.optimizer.hyperparameters)
    return numbers({entry.name: entry for entry in entries}, {})


def _made_up(shapes: PyTree) -> tuple[PyTree, PyTree, PyTree]:
    """A disturbance of the parameters and two directions of the gradient, with entries of very different size."""
    draws = np.random.default_rng(0)

    def draw(spec: jax.ShapeDtypeStruct) -> np.ndarray:
        sizes = 10.0 ** draws.uniform(-2, 1, spec.shape)
        return np.asarray(draws.normal(0.3, 1.0, spec.shape) * sizes, spec.dtype)

    noise, first, second = (jax.tree.map(draw, shapes) for _ in range(3))
    return jax.tree.map(lambda a: 0.1 * a, noise), first, second


def _apart(
    problem: Problem,
    structure: Structure,
    features: tuple[int, ...],
    sizes: Mapping[str, Any],
    made_up: tuple[PyTree, PyTree, PyTree],
) -> Float[Array, ""]:
    """The largest distance of two updates of a leaf; infinite if nothing moved."""
    start = _start(problem, structure, sizes, features)
    wide = [jax.tree.map(_widened, tree, start) for tree in made_up]
    params = jax.tree.map(jnp.add, start, wide[0])
    own = jax.tree.map(lambda a, like: a[tuple(map(slice, like.shape))], params, made_up[0])
    padded, exact = _updates(problem, params, *wide[1:]), _updates(problem, own, *made_up[1:])
    distances = jax.tree.leaves(jax.tree.map(_distance, padded, exact, params))
    moved = sum(jnp.sum(jnp.abs(leaf)) for leaf in jax.tree.leaves(exact))
    return jnp.where(moved > 0, jnp.max(jnp.stack(distances)), jnp.inf)


def _updates(problem: Problem, params: PyTree, first: PyTree, second: PyTree) -> PyTree:
    """The updates of all steps, `[steps, ...]` each; gradients turn from one direction to the other and on."""
    transform = problem.optimizer.transform(_numbers(problem), jnp.asarray(_LEARNING_RATE))

    def step(
        carry: tuple[PyTree, PyTree], place: tuple[Array, Array]
    ) -> tuple[tuple[PyTree, PyTree], PyTree]:
        (params, before), (angle, scale) = carry, place
        gradient = jax.tree.map(lambda a, b: scale * (jnp.cos(angle) * a + jnp.sin(angle) * b), first, second)
        updates, state = transform.update(gradient, before, params)
        return (optax.apply_updates(params, updates), jax.tree.map(_as, state, before)), updates

    places = jnp.arange(1.0, 1 + len(_SCALES)), jnp.asarray(_SCALES)
    return jax.lax.scan(step, (params, transform.init(params)), places)[1]


def _as(new: Array, old: Array) -> Array:
    """State that an optimiser keeps in float32 stays so, also beside gradients in float64."""
    return new if new.dtype == old.dtype else new.astype(old.dtype)


def _widened(leaf: Array, like: Array) -> Array:
    return jnp.pad(leaf, [(0, size - own) for own, size in zip(leaf.shape, like.shape, strict=True)])


def _distance(padded: Array, exact: Array, params: Array) -> Float[Array, ""]:
    """How far the updates of a leaf are apart, relative to the norm of the exact ones of the step.

    Padding counts only where it is 0: the scales of batch norm are 1 there, and may decay.
    """
    counts = _widened(jnp.ones(exact.shape[1:], bool), params) | (params == 0)
    wide = jax.vmap(_widened, (0, None))(exact, params)
    apart = _norms(jnp.where(counts[None], padded - wide, 0))
    return jnp.max(jnp.where(apart == 0, 0, apart / _norms(exact)))


def _norms(updates: Array) -> Float[Array, " steps"]:
    return jnp.linalg.norm(updates.reshape(len(_SCALES), -1), axis=1)
