"""Batches that are spread over eight devices come out as on one.

Where there are fewer devices, one test runs this file again with eight of the CPU, and the others are skipped.
"""

import functools
import os
import re
import subprocess
import sys
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from numpy.testing import assert_allclose, assert_array_equal

from jbn.interop import linen
from jbn.nn import batch_norm
from jbn.nn.batch_norm import BatchNormParams, BatchNormStats
from jbn.nn.moments import Moments

DEVICES, ROWS, CHANNELS, EPSILON, MOMENTUM = 8, 16, 2, 1e-3, 0.8
BOTH = [True, False]
UNEQUAL = np.random.default_rng(1).random(ROWS) < 0.6
UNEQUAL[:4] = False, False, True, True  # nothing counts on the first device, everything on the second


def test_everything_in_this_file_passes_on_eight_devices():
    if jax.device_count() >= DEVICES:
        pytest.skip("the other tests run right here")
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={DEVICES}"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", __file__],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    counts = re.search(r"(\d+) passed, 1 skipped", done.stdout)
    assert counts is not None, done.stdout
    assert int(counts[1]) >= 20


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


@functools.cache
def mesh_of(shape, axes, kind):
    return jax.make_mesh(shape, axes, axis_types=(kind,) * len(axes))


@pytest.fixture
def mesh():
    if jax.device_count() < DEVICES:
        pytest.skip("needs eight devices")
    return mesh_of((DEVICES,), ("device",), AxisType.Auto)


def example():
    rng = np.random.default_rng(0)
    params = BatchNormParams(rng.uniform(0.5, 2, CHANNELS), rng.normal(size=CHANNELS))
    return jax.tree.map(jnp.asarray, (params, rng.normal([1, -20], [1, 5], (ROWS, CHANNELS))))


def running():
    return BatchNormStats(jnp.array([0.3, -0.5]), jnp.array([0.7, 1.9]), jnp.array(3.0))


def one_device(params, x, mask=None):
    """The formulas over all rows that count."""
    counts = np.ones(len(x), bool) if mask is None else np.asarray(mask)
    mean = jnp.sum(x[counts], 0) / counts.sum()
    var = jnp.sum((x[counts] - mean[None]) ** 2, 0) / counts.sum()
    y = params.scale[None] * (x - mean[None]) / jnp.sqrt(var + EPSILON)[None] + params.bias[None]
    old, count = running(), MOMENTUM * running().count + 1
    after = BatchNormStats(old.mean + (mean - old.mean) / count, old.var + (var - old.var) / count, count)
    return jnp.where(counts[:, None], y, 0), after


def train(params, x, mask=None, axis_name="device"):
    return batch_norm.train(
        params, running(), x, momentum=MOMENTUM, epsilon=EPSILON, mask=mask, axis_name=axis_name
    )


def sharded(mesh, check_vma, mask=None):
    """`train` of the whole batch, a part on every device."""
    rows = P(mesh.axis_names)
    function = functools.partial(train, axis_name=mesh.axis_names)
    mapped = jax.shard_map(
        function, mesh=mesh, in_specs=(P(), rows, rows), out_specs=(rows, P()), check_vma=check_vma
    )
    return lambda params, x: mapped(params, x, None if mask is None else jnp.array(mask))


def score_of_y(y, weights):
    return jnp.sum(weights * jnp.sin(y))


def score_of_stats(stats):
    return jnp.sum(jnp.sin(stats.mean)) + jnp.sum(jnp.cos(stats.var))


WEIGHTS = np.cos(np.arange(ROWS * CHANNELS)).reshape(ROWS, CHANNELS)


def all_of(function):
    """Outputs, statistics and derivatives of both orders of a function of parameters and inputs.

    Of the Hessian its product with a direction in which everything changes.
    """

    def score(params, x):
        y, after = function(params, x)
        return score_of_y(y, jnp.array(WEIGHTS)) + score_of_stats(after)

    gradient = jax.grad(score, (0, 1))

    @jax.jit
    def results(params, x):
        direction = jax.tree.map(jnp.cos, (params, x))
        return {
            "values": function(params, x),
            "gradient": gradient(params, x),
            "jvp": jax.jvp(score, (params, x), direction)[1],
            "hessian": jax.jvp(gradient, (params, x), direction)[1],
        }

    return jax.device_get(results(*example()))


@functools.cache
def expected(masked):
    return all_of(functools.partial(one_device, mask=UNEQUAL if masked else None))


@functools.cache
def actual(mesh, masked, check_vma):
    return all_of(sharded(mesh, check_vma, UNEQUAL if masked else None))


def assert_close(own, other, tolerance=1e-12):
    """Relative to the largest number."""
    chex.assert_trees_all_equal_structs(own, other)
    for leaf, exact in zip(jax.tree.leaves(own), jax.tree.leaves(other), strict=True):
        assert_allclose(leaf, exact, rtol=0, atol=tolerance * max(1, np.abs(exact).max()))


# pooled over all devices


@pytest.mark.parametrize("check_vma", BOTH)
@pytest.mark.parametrize("masked", BOTH)
@pytest.mark.parametrize("result", ["values", "gradient", "jvp", "hessian"])
def test_what_comes_out_of_a_sharded_batch_is_what_one_device_computes(mesh, masked, check_vma, result):
    assert_close(actual(mesh, masked, check_vma)[result], expected(masked)[result])
    if masked and result == "values":
        assert not np.any(actual(mesh, masked, check_vma)["values"][0][~UNEQUAL])


@pytest.mark.parametrize("check_vma", BOTH)
@pytest.mark.parametrize("masked", BOTH)
def test_gradients_taken_on_every_device_add_up(mesh, masked, check_vma):
    """Each device scores its rows, and its share of the statistics, which all have.

    JAX sums the gradients of what the devices have in common if it checks which values vary; without the check
    that is left to the caller.
    """
    mask = jnp.array(UNEQUAL) if masked else None

    def gradient(params, x, weights, mask):
        def share(params, x):
            y, after = train(params, x, mask)
            return score_of_y(y, weights) + score_of_stats(after) / DEVICES

        dparams, dx = jax.grad(share, (0, 1))(params, x)
        return dparams if check_vma else jax.lax.psum(dparams, "device"), dx

    rows = P("device")
    mapped = jax.shard_map(
        gradient, mesh=mesh, in_specs=(P(), rows, rows, rows), out_specs=(P(), rows), check_vma=check_vma
    )
    own = jax.jit(mapped)(*example(), jnp.array(WEIGHTS), mask)
    assert_close(own, expected(masked)["gradient"])


def test_the_gradient_of_a_summed_score_is_whole_on_every_device(mesh):
    def gradient(params, x, weights, mask):
        def whole(params, x):
            y, after = train(params, x, mask)
            return jax.lax.psum(score_of_y(y, weights), "device") + score_of_stats(after)

        return jax.grad(whole, (0, 1))(params, x)

    rows = P("device")
    mapped = jax.shard_map(gradient, mesh=mesh, in_specs=(P(), rows, rows, rows), out_specs=(P(), rows))
    own = jax.jit(mapped)(*example(), jnp.array(WEIGHTS), jnp.array(UNEQUAL))
    assert_close(own, expected(True)["gradient"])


def test_float32_is_exact_far_from_zero_and_where_every_device_has_its_own_mean(mesh):
    shift = np.repeat(np.linspace(9e3, 1.1e4, DEVICES), ROWS // DEVICES)[:, None] * [1, 0] + [0, 1e4]
    params, x = jax.tree.map(lambda a: a.astype(jnp.float32), (example()[0], example()[1] + shift))
    y, after = jax.jit(sharded(mesh, True))(params, x)
    chex.assert_type([y, after.var], [jnp.float32, jnp.float64])
    exact_y, exact = one_device(jax.tree.map(jnp.float64, params), x.astype(jnp.float64))
    assert_allclose(y, exact_y, atol=1e-5)
    assert_allclose(after.var, exact.var, rtol=1e-6)


@pytest.mark.parametrize("check_vma", BOTH)
def test_members_of_a_vmap_inside_and_outside_are_sharded_alike(mesh, check_vma):
    params, x = example()
    several = jnp.stack([x, 3 - x, 1e3 + x])
    outside = jax.vmap(sharded(mesh, check_vma), (None, 0))
    rows = P(None, "device")
    inside = jax.shard_map(
        jax.vmap(train, (None, 0)),
        mesh=mesh,
        in_specs=(P(), rows),
        out_specs=(rows, P()),
        check_vma=check_vma,
    )
    for result in jax.jit(lambda *args: (outside(*args), inside(*args)))(params, several):
        for i, member in enumerate(several):
            own = jax.tree.map(lambda a, i=i: a[i], result)
            assert_close(own, one_device(params, member), 1e-11)


# other ways to spread a batch


@pytest.mark.parametrize("check_vma", BOTH)
def test_without_an_axis_name_every_device_has_its_own_statistics(mesh, check_vma):
    """Far from zero on every other device: each decides alone how it sums."""
    params, x = example()
    x = 10 * x + jnp.repeat(jnp.array([0.0, 1e3] * (DEVICES // 2)), ROWS // DEVICES)[:, None]

    def parts(params, x):
        y, after = [], []
        for part in jnp.split(x, DEVICES):
            for results, result in zip((y, after), one_device(params, part), strict=True):
                results.append(result)
        return jnp.concatenate(y), jax.tree.map(lambda *leaves: jnp.stack(leaves), *after)

    def own(params, x):
        y, after = train(params, x, axis_name=None)
        return y, jax.tree.map(lambda leaf: leaf[None], after)

    mapped = jax.shard_map(
        own, mesh=mesh, in_specs=(P(), P("device")), out_specs=P("device"), check_vma=check_vma
    )

    def results(function):
        def score(params, x):
            y, after = function(params, x)
            return score_of_y(y, jnp.array(WEIGHTS)) + score_of_stats(after)

        return jax.jit(lambda *args: (function(*args), jax.grad(score, (0, 1))(*args)))(params, x)

    assert_close(results(mapped), results(parts), 1e-10)


@pytest.mark.parametrize("check_vma", BOTH)
def test_two_mesh_axes_are_pooled_together(mesh, check_vma):
    several = mesh_of((4, 2), ("outer", "inner"), AxisType.Auto)
    own = jax.jit(sharded(several, check_vma, UNEQUAL))(*example())
    assert_close(own, expected(True)["values"])


@pytest.mark.parametrize("check_vma", BOTH)
def test_one_of_two_mesh_axes_can_be_pooled_alone(mesh, check_vma):
    several = mesh_of((4, 2), ("outer", "inner"), AxisType.Auto)

    def own(params, x):
        y, after = train(params, x, axis_name="outer")
        return y, jax.tree.map(lambda leaf: leaf[None], after)

    mapped = jax.shard_map(
        own,
        mesh=several,
        in_specs=(P(), P("outer", "inner")),
        out_specs=(P("outer", "inner"), P("inner")),
        check_vma=check_vma,
    )
    params, x = example()
    y, after = jax.jit(mapped)(params, x.reshape(4, 4, CHANNELS))
    for i in range(2):
        group = np.s_[:, 2 * i : 2 * i + 2]
        exact_y, exact = one_device(params, x.reshape(4, 4, CHANNELS)[group].reshape(8, CHANNELS))
        assert_close(y[group].reshape(8, CHANNELS), exact_y)
        assert_close(jax.tree.map(lambda leaf, i=i: leaf[i], after), exact)


@pytest.mark.parametrize("check_vma", BOTH)
@pytest.mark.parametrize("shape", [(DEVICES,), (4, 2)])
def test_psum_gives_the_moments_of_all_devices_as_one_set(mesh, shape, check_vma):
    several = mesh_of(shape, ("outer", "inner")[: len(shape)], AxisType.Auto)
    rows = P(several.axis_names)
    mapped = jax.shard_map(
        lambda x, mask: Moments.of(x, mask).psum(several.axis_names),
        mesh=several,
        in_specs=(rows, rows),
        out_specs=P(),
        check_vma=check_vma,
    )
    x = example()[1] + 1e3
    pooled = jax.jit(mapped)(x, jnp.array(UNEQUAL))
    exact = np.asarray(x)[UNEQUAL]
    assert float(pooled.count) == UNEQUAL.sum()
    assert_allclose(pooled.mean, exact.mean(0), rtol=1e-14)
    assert_allclose(pooled.variance(), exact.var(0), rtol=1e-12)
    nothing = jax.jit(mapped)(x, jnp.zeros(ROWS, bool))
    assert_array_equal(jnp.stack([nothing.mean, nothing.m2]), np.zeros((2, CHANNELS)))


# without shard_map: the compiler, or the types of the arrays, spread the work


def whole(params, x, mask=None):
    return train(params, x, mask, axis_name=None)


@pytest.mark.parametrize("masked", BOTH)
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
def test_a_jitted_batch_in_parts_has_the_statistics_of_the_whole(mesh, kind, masked):
    spread = NamedSharding(mesh_of((DEVICES,), ("device",), kind), P("device"))
    params, x = example()
    x, mask, weights = (jax.device_put(jnp.array(a), spread) for a in (x, UNEQUAL, WEIGHTS))
    mask = mask if masked else None

    @jax.jit
    def results(params, x):
        def score(params, x):
            y, after = whole(params, x, mask)
            return score_of_y(y, weights) + score_of_stats(after)

        return whole(params, x, mask), jax.grad(score, (0, 1))(params, x)

    own = results(params, x)
    assert own[0][0].sharding.is_equivalent_to(spread, 2)
    assert_close(jax.device_get(own), (expected(masked)["values"], expected(masked)["gradient"]))


@pytest.mark.parametrize("check_vma", BOTH)
def test_explicit_axes_need_no_mesh_to_be_set_if_the_batch_is_already_in_parts(mesh, check_vma):
    explicit = jax.make_mesh((DEVICES,), ("device",))
    assert explicit.axis_types == (AxisType.Explicit,)
    params, x = example()
    x, mask, weights = (
        jax.device_put(jnp.array(a), NamedSharding(explicit, P("device"))) for a in (x, UNEQUAL, WEIGHTS)
    )
    rows = P("device")
    mapped = jax.shard_map(
        train, mesh=explicit, in_specs=(P(), rows, rows), out_specs=(rows, P()), check_vma=check_vma
    )

    @jax.jit
    def results(params, x):
        def score(params, x):
            y, after = mapped(params, x, mask)
            return score_of_y(y, weights) + score_of_stats(after)

        return mapped(params, x, mask), jax.grad(score, (0, 1))(params, x)

    own = jax.device_get(results(params, x))
    assert_close(own, (expected(True)["values"], expected(True)["gradient"]))


def test_explicit_axes_do_not_take_a_batch_that_is_still_whole(mesh):
    explicit = jax.make_mesh((DEVICES,), ("device",))
    with pytest.raises(ValueError, match="does not match the specs of the input"):
        jax.jit(sharded(explicit, True))(*example())


def test_the_layer_in_place_of_flaxs_pools_groups_of_devices(mesh):
    """As flax's does, which `axis_index_groups` is an argument of."""
    groups, x = [[0, 1, 2, 3], [4, 5, 6, 7]], example()[1]
    layer = linen.BatchNorm(
        use_running_average=False, momentum=0.0, axis_name="device", axis_index_groups=groups
    )
    variables = layer.init(jax.random.key(0), x[:2])

    def own(x):
        y, updated = layer.apply(variables, x, mutable=["batch_stats"])
        return y, updated["batch_stats"]["mean"][None]

    rows = P("device")
    # JAX has no rule for groups where it checks which values vary
    mapped = jax.shard_map(own, mesh=mesh, in_specs=rows, out_specs=(rows, rows), check_vma=False)
    y, means = jax.device_get(mapped(x))
    for group, half in zip(groups, np.split(np.asarray(x), 2), strict=True):
        assert_allclose(means[group], np.broadcast_to(half.mean(0), (4, CHANNELS)), rtol=1e-6)
        expected = (half - half.mean(0)) / np.sqrt(half.var(0) + 1e-5)
        assert_allclose(np.split(y, 2)[group[0] // 4], expected, rtol=1e-5, atol=1e-6)
