"""Every function of batch norm under every transformation of JAX; and eight traps that others fell into."""

import functools
import itertools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from numpy.testing import assert_allclose, assert_array_equal

from jbn import batch_norm
from jbn.nn.batch_norm import BatchNormParams, BatchNormStats, Moments

CHANNELS, ROWS, BATCHES = 3, 8, 4


class Arguments(NamedTuple):
    """All that the functions below take from; any of it may be mapped, traced and different next time."""

    params: BatchNormParams
    stats: BatchNormStats
    x: np.ndarray
    mask: np.ndarray
    momentum: np.ndarray
    epsilon: np.ndarray
    limit: np.ndarray
    batches: Moments
    kernel: np.ndarray


def arguments(seed=0, dtype=np.float32, state=np.float32):
    rng = np.random.default_rng(seed)
    scale, var = rng.uniform(0.5, 2, (2, CHANNELS)).astype(state)
    bias, mean = rng.normal(size=(2, CHANNELS)).astype(state)
    wide = np.float64 if state == np.float64 else np.float32
    means, squares = rng.normal(size=(BATCHES, CHANNELS)), rng.uniform(1, 9, (BATCHES, CHANNELS))
    numbers = (rng.uniform(0.1, 0.9), rng.uniform(1e-3, 0.1), rng.uniform(0.1, 0.9))
    counts = rng.integers(2, 9, BATCHES)
    return Arguments(
        BatchNormParams(scale, bias),
        BatchNormStats(mean, var, np.array(rng.uniform(1, 9), state)),
        rng.normal([0.0, 5.0, -20.0], [1.0, 0.5, 9.0], (ROWS, CHANNELS)).astype(dtype),
        np.arange(ROWS) != rng.integers(ROWS),
        *(np.array(number, wide) for number in numbers),
        Moments(*(np.asarray(a, wide) for a in (counts, means, squares, np.zeros_like(means)))),
        rng.normal(size=(2, CHANNELS, CHANNELS)).astype(state),
    )


def numbers(a):
    return {"momentum": a.momentum, "epsilon": a.epsilon}


FUNCTIONS = {
    "train": lambda a: batch_norm.train(a.params, a.stats, a.x, mask=a.mask, **numbers(a)),
    "infer": lambda a: batch_norm.infer(a.params, a.stats, a.x, epsilon=a.epsilon),
    "moments": lambda a: batch_norm.moments(a.x, mask=a.mask),
    "update": lambda a: batch_norm.update(
        a.stats, jax.tree.map(lambda values: values[0], a.batches), momentum=a.momentum, ddof=1
    ),
    "normalize": lambda a: batch_norm.normalize(None, a.x, a.stats.mean, a.stats.var, epsilon=a.epsilon),
    "train_ghost": lambda a: batch_norm.train_ghost(
        a.params, a.stats, a.x, group_size=3, mask=a.mask, **numbers(a)
    ),
    "train_renormalized": lambda a: batch_norm.train_renormalized(
        a.params, a.stats, a.x, r_max=1 + a.limit, d_max=a.limit, mask=a.mask, **numbers(a)
    ),
    "fold": lambda a: batch_norm.fold(a.params, a.stats, a.kernel, a.params.bias, epsilon=a.epsilon),
    "fold_into_next": lambda a: batch_norm.fold_into_next(a.params, a.stats, a.kernel, epsilon=a.epsilon),
    "population": lambda a: batch_norm.population(a.batches, ddof=1),
    "average": lambda a: batch_norm.average(a.batches),
    "replay": lambda a: batch_norm.replay(a.stats, a.batches, momentum=a.momentum, last=3),
}
TRAINING = {"train", "train_ghost", "train_renormalized"}
functions = pytest.mark.parametrize("name", FUNCTIONS)


@functools.cache
def jitted(name):
    return jax.jit(FUNCTIONS[name])


def on_device(tree):
    return jax.tree.map(jnp.asarray, tree)


# every function has every property


@functions
def test_jit_equals_eager(name):
    a = on_device(arguments())
    chex.assert_trees_all_close(jitted(name)(a), FUNCTIONS[name](a), rtol=1e-5, atol=2e-6)


@functions
def test_vmap_equals_a_loop_with_every_argument_mapped(name):
    members = [arguments(seed) for seed in range(3)]
    mapped = jax.jit(jax.vmap(FUNCTIONS[name]))(jax.tree.map(lambda *leaves: np.stack(leaves), *members))
    for i, member in enumerate(members):
        own = jax.tree.map(lambda leaf, i=i: leaf[i], mapped)
        chex.assert_trees_all_close(own, jitted(name)(member), rtol=1e-5, atol=1e-5)


@functions
def test_new_values_are_not_traced_anew(name):
    chex.clear_trace_counter()
    traced = jax.jit(chex.assert_max_traces(FUNCTIONS[name], n=1))
    results = [jax.tree.leaves(traced(arguments(seed))) for seed in range(3)]
    for one, other in itertools.pairwise(results):
        assert any(np.any(np.asarray(a) != np.asarray(b)) for a, b in zip(one, other, strict=True))


NUMBERS = [
    *((name, "momentum") for name in (*sorted(TRAINING), "update", "replay")),
    *((name, "epsilon") for name in (*sorted(TRAINING), "infer", "normalize", "fold", "fold_into_next")),
    ("train_renormalized", "limit"),
]


@pytest.mark.parametrize(("name", "number"), NUMBERS)
def test_numbers_are_not_traced_anew_and_make_a_difference(name, number):
    chex.clear_trace_counter()
    traced = jax.jit(chex.assert_max_traces(FUNCTIONS[name], n=1))
    results = [traced(arguments()._replace(**{number: np.float32(value)})) for value in (0.2, 0.7)]
    leaves = zip(*map(jax.tree.leaves, results), strict=True)
    assert any(np.any(np.asarray(a) != np.asarray(b)) for a, b in leaves)


@functions
def test_shapes_alone_are_enough(name):
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), arguments())
    abstract = jax.eval_shape(FUNCTIONS[name], shapes)
    chex.assert_trees_all_equal_shapes_and_dtypes(abstract, jitted(name)(arguments()))


TYPES = [
    (jnp.float32, jnp.float32),
    (jnp.bfloat16, jnp.float32),
    (jnp.float16, jnp.float32),
    (jnp.bfloat16, jnp.bfloat16),
    (jnp.float16, jnp.float16),
    (jnp.float64, jnp.float64),
]


@pytest.mark.parametrize(("dtype", "state"), TYPES, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("name", sorted(TRAINING | {"update"}))
def test_types_and_shapes_are_stable_under_scan(name, dtype, state):
    def step(stats, x):
        result = FUNCTIONS[name](a._replace(stats=stats, x=x))
        return result[::-1] if name in TRAINING else (result, x)

    with jax.enable_x64(dtype == jnp.float64):
        a = on_device(arguments(dtype=dtype, state=state))
        after, ys = jax.jit(lambda stats, xs: jax.lax.scan(step, stats, xs))(a.stats, jnp.stack([a.x, -a.x]))
        chex.assert_trees_all_equal_shapes_and_dtypes(after, a.stats)
        chex.assert_trees_all_equal_shapes_and_dtypes(ys, jnp.stack([a.x, a.x]))
        chex.assert_tree_all_finite((after, ys))


@pytest.mark.parametrize(("dtype", "state"), TYPES, ids=lambda dtype: dtype.__name__)
def test_outputs_have_the_type_of_the_inputs_and_sums_are_wider(dtype, state):
    with jax.enable_x64(dtype == jnp.float64):
        a = on_device(arguments(dtype=dtype, state=state))
        for name in ("train", "infer", "normalize"):
            y = jax.tree.leaves(jax.eval_shape(FUNCTIONS[name], a))[0]
            assert (y.shape, y.dtype) == (a.x.shape, a.x.dtype)
        wide = jnp.promote_types(dtype, jnp.float32)
        chex.assert_type(list(jax.eval_shape(FUNCTIONS["moments"], a)), wide)


# eight traps


def test_trap_1_a_synchronised_mask_weighs_members_by_what_counts():
    """30 values with mean 1 and 2 values with mean 9 make 1.5; the mean of the means would be 5."""
    x = np.full((3, 30, 1), np.nan, np.float32)
    x[0, :, 0], x[1, :2, 0] = np.tile([0, 2], 15), [8, 10]
    mask = ~np.isnan(x[..., 0])  # nothing counts in the last member
    train = functools.partial(batch_norm.train, *batch_norm.init(1), axis_name="device")
    y, after = jax.jit(jax.vmap(lambda x, mask: train(x, mask=mask), axis_name="device"))(x, mask)
    assert_allclose(after.mean, np.full((3, 1), 1.5), rtol=1e-6)
    assert_allclose(after.var, np.full((3, 1), 4.75), rtol=1e-6)  # (15 * 4 + 64 + 100) / 32 - 1.5^2
    assert_allclose(y[0, :2, 0], np.array([-1.5, 0.5]) / np.sqrt(4.75), rtol=1e-5)
    assert_array_equal(y[2], np.zeros((30, 1)))


def test_trap_2_the_variance_is_right_far_from_zero():
    x = np.random.default_rng(0).normal(1000, 0.1, (4096, 8)).astype(np.float32)
    exact = x.astype(np.float64).var(0)
    one_pass = np.mean(x**2, 0) - np.mean(x, 0) ** 2
    assert np.abs(one_pass / exact - 1).min() > 0.1  # what E[x^2] - E[x]^2 is worth here
    params, stats = batch_norm.init(8)
    y, after = jax.jit(batch_norm.train)(params, stats, x)
    assert_allclose(after.var, exact, rtol=1e-5)
    assert_allclose(np.asarray(y, np.float64).std(0), np.sqrt(exact / (exact + 1e-5)), rtol=1e-4)


def test_trap_3_one_step_is_enough_for_inference():
    x = np.random.default_rng(1).normal(3, 0.2, (256, CHANNELS)).astype(np.float32)
    params, stats = batch_norm.init(CHANNELS)
    _, stats = jax.jit(batch_norm.train)(params, stats, x, momentum=0.99)
    y = np.asarray(jax.jit(batch_norm.infer)(params, stats, x))
    assert_allclose(y.std(0), np.ones(CHANNELS), atol=1e-3)
    assert_allclose(y.mean(0), np.zeros(CHANNELS), atol=1e-3)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_trap_4_16_bit_inputs_meet_float32_running_statistics(dtype):
    """In bfloat16 a mean of 100.3 would be 100.5, and 101 - 100.5 is 0.5."""
    params, stats = batch_norm.init(1)
    stats = stats._replace(mean=jnp.array([100.3]))
    y = jax.jit(batch_norm.infer)(params, stats, jnp.array([[101.0]], dtype), epsilon=0.0)
    chex.assert_type(y, dtype)
    assert_allclose(np.float64(y), [[0.7]], rtol=2**-8)


def test_trap_5_three_configurations_are_one_trace():
    @jax.jit
    @chex.assert_max_traces(n=1)
    def step(config, params, stats, x):
        def loss(params):
            y, after = batch_norm.train(
                params, stats, x, momentum=config["momentum"], epsilon=config["epsilon"]
            )
            return jnp.mean((y - 1) ** 2), after

        gradients, after = jax.grad(loss, has_aux=True)(params)
        return jax.tree.map(lambda p, g: p - config["learning_rate"] * g, params, gradients), after

    a = arguments()
    biases, counts = [], []
    for learning_rate, momentum in [(0.1, 0.9), (0.2, 0.8), (0.3, 0.7)]:
        config = {"learning_rate": learning_rate, "momentum": momentum, "epsilon": learning_rate / 100}
        params, after = step(config, a.params, a.stats, a.x)
        biases.append(np.asarray(params.bias))
        counts.append(float(after.count))
    first = (a.params.bias - biases[0]) / 0.1
    for learning_rate, bias in zip((0.2, 0.3), biases[1:], strict=True):
        assert_allclose((a.params.bias - bias) / learning_rate, first, rtol=1e-3, atol=1e-5)
    assert_allclose(counts, np.array([0.9, 0.8, 0.7]) * a.stats.count + 1, rtol=1e-6)


def trained(member, length=3):
    """A few steps of gradient descent on one layer."""

    def step(carry, x):
        params, stats = carry

        def loss(params):
            y, after = batch_norm.train(params, stats, x, momentum=member.momentum, epsilon=member.epsilon)
            return jnp.mean(jnp.sin(y)), (after, y)

        gradients, (after, y) = jax.grad(loss, has_aux=True)(params)
        return (jax.tree.map(lambda p, g: p - 0.1 * g, params, gradients), after), y

    xs = jnp.stack([member.x * (i + 1) for i in range(length)])
    return jax.lax.scan(step, (member.params, member.stats), xs)


def test_trap_6_a_member_is_its_solo_run_up_to_rounding():
    members = [arguments(seed) for seed in range(4)]
    together = jax.jit(jax.vmap(trained))(jax.tree.map(lambda *leaves: np.stack(leaves), *members))
    alone = jax.jit(trained)
    for i, member in enumerate(members):
        own = jax.tree.map(lambda leaf, i=i: leaf[i], together)
        chex.assert_trees_all_close(own, alone(member), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("axes", [("d",), (None, "d")], ids=["batch", "channels"])
@pytest.mark.parametrize("masked", [False, True])
def test_trap_7_an_explicit_mesh_works(axes, masked):
    a = arguments()
    mask = a.mask if masked else None
    mesh = jax.make_mesh((1,), ("d",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        x = jax.device_put(a.x, NamedSharding(mesh, PartitionSpec(*axes)))
        assert tuple(jax.typeof(x).sharding.spec)[: len(axes)] == axes
        y, after = jax.jit(batch_norm.train)(a.params, a.stats, x, mask=mask)
        inferred = jax.jit(batch_norm.infer)(a.params, after, x)
    expected = jax.jit(batch_norm.train)(a.params, a.stats, a.x, mask=mask)
    chex.assert_trees_all_close(jax.device_get((y, after)), expected, rtol=1e-5, atol=1e-5)
    assert_allclose(
        jax.device_get(inferred), jax.jit(batch_norm.infer)(a.params, expected[1], a.x), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("garbage", [np.nan, np.inf, 3e38])
def test_trap_8_a_diverging_member_leaves_the_others_alone(garbage):
    healthy = [arguments(seed) for seed in range(3)]
    diverging = [healthy[0], healthy[1]._replace(x=np.full_like(healthy[1].x, garbage)), healthy[2]]
    run = jax.jit(jax.vmap(trained))
    expected, results = (
        run(jax.tree.map(lambda *leaves: np.stack(leaves), *members)) for members in (healthy, diverging)
    )
    for i in (0, 2):
        own, same = (jax.tree.map(lambda leaf, i=i: leaf[i], tree) for tree in (results, expected))
        chex.assert_trees_all_close(own, same, rtol=1e-4, atol=1e-5)
        chex.assert_tree_all_finite(own)
    (_, stats), y = jax.tree.map(lambda leaf: leaf[1], results)
    chex.assert_tree_all_finite(stats)
    if not np.isfinite(garbage):
        assert np.all(np.isnan(y))  # it shows where it belongs
        assert_array_equal([stats.mean, stats.var], [healthy[1].stats.mean, healthy[1].stats.var])
