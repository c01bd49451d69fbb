import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from jbn.nn import batch_norm
from jbn.nn.batch_norm import BatchNormParams, BatchNormStats, Moments
from jbn.nn.mlp import mlp

EPSILON = 1e-3
WIDTHS = (4, 5, 3)  # inputs and the units of two layers
ROWS = 8
MASKS = np.arange(ROWS) < np.array([[8], [3], [1], [6]])  # what counts in four batches of unequal sizes
population = jax.jit(batch_norm.population, static_argnames="ddof")
average = jax.jit(batch_norm.average, static_argnames="ddof")
replay = jax.jit(batch_norm.replay, static_argnames=("last", "ddof"))
moments = jax.jit(batch_norm.moments)
infer = jax.jit(batch_norm.infer)


def moments_of(x, mask):
    batches = [moments(a, mask=m) for a, m in zip(x, mask, strict=True)]
    return jax.tree.map(lambda *entries: jnp.stack(entries), *batches)


# a network of two layers, and the same in float64


@functools.cache
def parameters():
    rng = np.random.default_rng(0)
    return [
        {
            "kernel": rng.normal(size=(inputs, units)).astype(np.float32),
            "norm": BatchNormParams(*rng.uniform(0.5, 1.5, (2, units)).astype(np.float32)),
        }
        for inputs, units in itertools.pairwise(WIDTHS)
    ]


def fresh():
    first, second = (batch_norm.init(units)[1] for units in WIDTHS[1:])
    return {"first": first, "rest": [second]}


@jax.jit
def train(stats, batch):
    x, mask = batch
    first, second = jax.tree.map(jnp.asarray, parameters())
    a, one = batch_norm.train(first["norm"], stats["first"], x @ first["kernel"], mask=mask, epsilon=EPSILON)
    z = jnp.tanh(a) @ second["kernel"]
    _, two = batch_norm.train(second["norm"], stats["rest"][0], z, mask=mask, epsilon=EPSILON)
    return {"first": one, "rest": [two]}


@functools.cache
def training_set():
    """Batches whose means and deviations differ; rows that do not count hold NaN."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(len(MASKS), ROWS, WIDTHS[0])) * np.array([1, 0.5, 2, 1])[:, None, None]
    x = (x + rng.normal(size=(len(MASKS), 1, WIDTHS[0]))).astype(np.float32)
    return [(np.where(mask[:, None], a, np.float32(np.nan)), mask) for a, mask in zip(x, MASKS, strict=True)]


@functools.cache
def inputs_of_layers():
    """For each layer its input in every batch, rows that count only."""
    layers = ([], [])
    for x, mask in training_set():
        a = x[mask].astype(np.float64)
        for inputs, layer in zip(layers, parameters(), strict=True):
            z = a @ layer["kernel"]
            inputs.append(z)
            xhat = (z - z.mean(0)) / np.sqrt(z.var(0) + EPSILON)
            a = np.tanh(layer["norm"].scale * xhat + layer["norm"].bias)
    return layers


@functools.cache
def collected():
    return batch_norm.collect(train, fresh(), training_set())


def assert_layers(stats, expected):
    """`expected(inputs) -> mean, var, count` of one layer's inputs, one array a batch."""
    for own, inputs in zip((stats["first"], stats["rest"][0]), inputs_of_layers(), strict=True):
        assert isinstance(own, BatchNormStats)
        mean, var, count = expected(inputs)
        assert_allclose(own.mean, mean, rtol=1e-5, atol=1e-5)
        assert_allclose(own.var, var, rtol=1e-5)
        assert_allclose(own.count, count, rtol=1e-6)


def variances(inputs, ddof):
    """Of each batch; a single value has none under both."""
    return [z.var(0, ddof=ddof) if len(z) > ddof else np.zeros(z.shape[1]) for z in inputs]


def moving(start, inputs, momentum, ddof=0):
    mean, var, count = start
    for z, own in zip(inputs, variances(inputs, ddof), strict=True):
        count = momentum * count + 1
        mean, var = mean + (z.mean(0) - mean) / count, var + (own - var) / count
    return mean, var, count


def test_collecting_keeps_the_structure_and_has_every_batch():
    batches = collected()
    assert jax.tree.structure(batches) == jax.tree.structure(
        {"first": Moments(0, 0, 0, 0), "rest": [Moments(0, 0, 0, 0)]}
    )
    for own, inputs in zip((batches["first"], batches["rest"][0]), inputs_of_layers(), strict=True):
        assert own.count.tolist() == [8, 3, 1, 6]
        assert_allclose(own.mean, [z.mean(0) for z in inputs], rtol=1e-5, atol=1e-5)
        assert_allclose(own.m2, [len(z) * z.var(0) for z in inputs], rtol=1e-4, atol=1e-5)


def test_batches_may_come_from_a_generator_and_differ_in_shape():
    clean = [(x[mask], None) for x, mask in training_set() if mask.sum() > 1]
    batches = batch_norm.collect(train, fresh(), iter(clean))
    assert batches["first"].count.tolist() == [8, 3, 6]
    kept = jax.tree.map(lambda a: a[np.array([0, 1, 3])], collected())
    chex.assert_trees_all_close(
        (batches["first"].mean, batches["rest"][0].m2), (kept["first"].mean, kept["rest"][0].m2), rtol=1e-4
    )


def test_an_array_of_batches_goes_through_one_loop_for_every_member():
    rng, traced = np.random.default_rng(3), []
    batches = jnp.asarray(rng.normal(2.0, 3.0, (7, 8, 5)), jnp.float32)
    kernels = jnp.asarray(rng.normal(size=(3, 5, 4)), jnp.float32)
    _, stats = batch_norm.init(4)

    @jax.jit
    @jax.vmap
    def found(kernel):
        def train(stats, x):
            traced.append(x.shape)
            return batch_norm.train(None, stats, x @ kernel)[1]

        return batch_norm.population(batch_norm.collect(train, stats, batches))

    own = found(kernels)
    assert set(traced) == {(8, 5)}
    assert len(traced) < len(batches)
    for member, kernel in enumerate(np.asarray(kernels, np.float64)):
        z = np.asarray(batches, np.float64).reshape(-1, 5) @ kernel
        assert_allclose(own.mean[member], z.mean(0), rtol=1e-4, atol=1e-5)
        assert_allclose(own.var[member], z.var(0), rtol=1e-5)
        assert own.count[member] == 7


@pytest.mark.parametrize("ddof", [0, 1])
def test_population_is_the_mean_and_variance_of_all_values(ddof):
    def expected(inputs):
        values = np.concatenate(inputs)
        return np.mean(values, 0), np.var(values, 0, ddof=ddof), 4

    assert_layers(population(collected(), ddof=ddof), expected)


@pytest.mark.parametrize("ddof", [0, 1])
def test_average_weighs_all_batches_alike(ddof):
    def expected(inputs):
        return np.mean([z.mean(0) for z in inputs], 0), np.mean(variances(inputs, ddof), 0), 4

    assert_layers(average(collected(), ddof=ddof), expected)


@pytest.mark.parametrize("ddof", [0, 1])
@pytest.mark.parametrize("count", [0.0, 10.0])
def test_replay_is_one_update_after_another(ddof, count):
    stats = jax.tree.map(lambda a: a if a.ndim else jnp.asarray(count), fresh())
    own = replay(stats, collected(), momentum=0.8, ddof=ddof)
    assert_layers(own, lambda inputs: moving((0, 1, count), inputs, 0.8, ddof))


@pytest.mark.parametrize("last", [1, 2, 4, 7])
def test_a_replay_of_the_last_batches_starts_that_many_before_the_end(last):
    own = replay(fresh(), collected(), momentum=0.8, last=last)
    assert_layers(own, lambda inputs: moving((0, 1, 0), inputs[-last:], 0.8))


def test_a_replay_is_what_training_with_these_parameters_would_have_kept():
    stats = fresh()
    for batch in training_set():
        stats = train(stats, batch)
    chex.assert_trees_all_close(replay(fresh(), collected()), stats, rtol=1e-4, atol=1e-5)


def test_by_hand():
    x = jnp.array([[1.0, 3.0, 0.0, 0.0], [5.0, 5.0, 5.0, 9.0]])[..., None]
    mask = jnp.array([[True, True, False, False], [True] * 4])
    batches = moments_of(x, mask)  # means 2 and 6, variances 1 and 3
    _, stats = batch_norm.init(1)
    for own, expected in [
        (population(batches), (28 / 6, 166 / 6 - (28 / 6) ** 2, 2)),
        (average(batches), (4, 2, 2)),
        (average(batches, ddof=1), (4, 3, 2)),
        (replay(stats, batches, momentum=0.5), (14 / 3, 7 / 3, 1.5)),
        (replay(stats, batches, last=1), (6, 3, 1)),
    ]:
        assert_allclose([own.mean[0], own.var[0], own.count], expected, rtol=1e-6)


# any batches


def test_the_cut_into_batches_does_not_change_the_population():
    x = np.random.default_rng(2).normal([100.0, 0.0], [1.0, 9.0], (24, 2)).astype(np.float32)
    expected = x.astype(np.float64).mean(0), x.astype(np.float64).var(0)
    for sizes in ([1] * 2 + [22], [12, 12, 0], [5, 10, 9], [0, 0, 24]):
        batch = np.repeat(np.arange(3), sizes)
        own = population(moments_of([x] * 3, np.arange(3)[:, None] == batch))
        assert_allclose(own.mean, expected[0], rtol=1e-6, atol=1e-6)
        assert_allclose(own.var, expected[1], rtol=1e-5)
        assert float(own.count) == np.count_nonzero(sizes)


@pytest.mark.parametrize("empty", [0, 1, 3])
def test_a_batch_in_which_nothing_counts_is_none(empty):
    x, mask = np.random.default_rng(3).normal(3, 1, (4, ROWS, 2)).astype(np.float32), MASKS.copy()
    mask[empty] = False
    values = [a[m].astype(np.float64) for a, m in zip(x, mask, strict=True) if m.any()]
    batches, (_, stats) = moments_of(x, mask), batch_norm.init(2)
    together = np.concatenate(values)
    for own, expected in [
        (population(batches), (together.mean(0), together.var(0), 3)),
        (average(batches), moving((0, 0, 0), values, 1.0)),
        (replay(stats, batches, momentum=0.8), moving((0, 1, 0), values, 0.8)),
    ]:
        chex.assert_trees_all_close(tuple(own), expected, rtol=1e-5)


def test_no_value_at_all_has_finite_statistics():
    batches = moments_of(np.full((4, ROWS, 2), np.nan, np.float32), np.zeros((4, ROWS), bool))
    for own in (population(batches), average(batches)):
        chex.assert_trees_all_equal(own, BatchNormStats(jnp.zeros(2), jnp.zeros(2), jnp.zeros(())))
    _, stats = batch_norm.init(2, count=2.0)
    chex.assert_trees_all_equal(replay(stats, batches), stats)


def test_the_population_is_exact_at_mean_over_deviation_1e4():
    x = np.random.default_rng(4).normal(1e4, 1, (40, 32, 2)).astype(np.float32)
    own = population(jax.jit(jax.vmap(batch_norm.moments))(x))
    values = x.reshape(-1, 2).astype(np.float64)
    assert_allclose(own.mean, values.mean(0), rtol=6e-8)  # the nearest float32 number, or its neighbour
    assert_allclose(own.var, values.var(0), rtol=1e-5)


def test_the_population_holds_the_variance_between_batches_which_the_average_lacks():
    x = np.random.default_rng(5).normal(size=(4, ROWS, 1)) + np.array([-30.0, -10, 10, 30])[:, None, None]
    batches = moments_of(x.astype(np.float32), np.ones((4, ROWS), bool))
    assert_allclose(population(batches).var, x.var(), rtol=1e-5)
    assert_allclose(average(batches).var, x.var(1).mean(), rtol=1e-4)
    assert float(average(batches).var[0]) < 0.01 * float(population(batches).var[0])


def test_moments_written_down_without_a_rest_are_as_good():
    batches = Moments(jnp.array([2.0, 2.0]), jnp.array([[2.0], [6.0]]), jnp.array([[2.0], [2.0]]))
    for own in (batch_norm.population(batches), batch_norm.average(batches)):
        assert float(own.mean[0]) == 4


# what the statistics are for


def test_training_with_moments_in_a_scan_ends_with_the_population():
    x = np.random.default_rng(3).normal([50.0, -2.0], [1.0, 3.0], (6, 16, 2)).astype(np.float32)
    params, _ = batch_norm.init(2)

    def step(moments, batch):
        return batch_norm.train(params, moments, batch)[::-1]

    whole, y = jax.jit(lambda start, x: jax.lax.scan(step, start, x))(Moments.empty(2), x)
    chex.assert_trees_all_equal_shapes_and_dtypes(whole, Moments.empty(2))
    exact = x.reshape(-1, 2).astype(np.float64)
    assert_allclose(whole.mean, exact.mean(0), rtol=1e-6)
    assert_allclose(whole.variance(), exact.var(0), rtol=1e-5)
    assert_allclose(y[2], batch_norm.train(params, Moments.empty(2), jnp.asarray(x[2]))[0], atol=1e-5)


def test_a_layer_infers_with_any_of_them():
    z = inputs_of_layers()[0][0]
    norm = parameters()[0]["norm"]
    for stats in (population(collected()), average(collected()), replay(fresh(), collected())):
        own = stats["first"]
        y = infer(norm, own, z.astype(np.float32), epsilon=EPSILON)
        mean, var = np.asarray(own.mean, np.float64), np.asarray(own.var, np.float64)
        assert_allclose(y, norm.scale * (z - mean) / np.sqrt(var + EPSILON) + norm.bias, atol=1e-5)


def test_estimates_are_closer_to_the_truth_than_a_fast_moving_average():
    rng = np.random.default_rng(6)
    units = 32
    kernel, root = rng.normal(size=(WIDTHS[0], units)), rng.normal(size=(WIDTHS[0], WIDTHS[0]))
    mean, var = np.ones(WIDTHS[0]) @ kernel, ((root @ kernel) ** 2).sum(0)  # of z, x being normal
    z = (1 + rng.normal(size=(100, ROWS, WIDTHS[0])) @ root) @ kernel
    batches = jax.jit(jax.vmap(batch_norm.moments))(z.astype(np.float32))
    moved = replay(batch_norm.init(units)[1], batches, momentum=0.5)

    def errors(stats):  # root mean squares over channels, in deviations and in variances
        return np.array(
            [
                np.sqrt(np.mean((stats.mean - mean) ** 2 / var)),
                np.sqrt(np.mean((stats.var / var - 1) ** 2)),
            ]
        )

    assert np.all(errors(population(batches)) < 0.5 * errors(moved))  # 800 values against some 24
    assert errors(average(batches, ddof=1))[1] < 0.5 * errors(moved)[1]


def relu_layers(params, x, normalize):
    """The perceptron in float64; `normalize(name, z) -> mean, var`."""
    a = x.astype(np.float64)
    for name in ("layer_1", "layer_2"):
        z = a @ np.asarray(params[name]["kernel"], np.float64)
        mean, var = normalize(name, z)
        norm = params[name]["batch_norm"]
        a = np.maximum(
            np.asarray(norm.scale) * (z - mean) / np.sqrt(var + EPSILON) + np.asarray(norm.bias), 0
        )
    return a @ np.asarray(params["output"]["kernel"], np.float64) + np.asarray(params["output"]["bias"])


def test_the_perceptron_can_be_collected_from():
    model, key = mlp(layers=2, hidden_units=6, batch_norm_epsilon=EPSILON), jax.random.key(0)
    hyper = {"outputs": 2}
    spec = jax.ShapeDtypeStruct((1, WIDTHS[0]), jnp.float32)
    params, stats = jax.jit(lambda key: model.init(key, hyper, spec))(key)
    step = jax.jit(lambda stats, x: model.train(params, stats, x, key=key, hyper=hyper)[1])
    xs = np.random.default_rng(7).normal(1, 2, (5, ROWS, WIDTHS[0])).astype(np.float32)
    exact = population(batch_norm.collect(step, stats, xs))

    seen = {"layer_1": [], "layer_2": []}

    def in_training(name, z):
        seen[name].append(z)
        return z.mean(0), z.var(0)

    for x in xs:
        relu_layers(params, x, in_training)
    own = {name: (np.concatenate(zs).mean(0), np.concatenate(zs).var(0)) for name, zs in seen.items()}
    for name, (mean, var) in own.items():
        assert_allclose(exact[name].mean, mean, rtol=1e-5, atol=1e-5)
        assert_allclose(exact[name].var, var, rtol=1e-5)
    expected = relu_layers(params, xs[0], lambda name, z: own[name])
    infer = jax.jit(lambda params, stats, x: model.infer(params, stats, x, hyper=hyper))
    assert_allclose(infer(params, exact, xs[0]), expected, atol=1e-5)


# misuse


@pytest.mark.parametrize("batches", [[], jnp.zeros((0, 8, 5))], ids=["list", "array"])
def test_there_must_be_a_batch(batches):
    with pytest.raises(ValueError, match="statistics need at least one batch, but got none"):
        batch_norm.collect(train, fresh(), batches)


@pytest.mark.parametrize("last", [0, -1])
def test_a_replay_needs_a_batch(last):
    with pytest.raises(ValueError, match=f"a replay needs at least one batch, but got last={last}"):
        batch_norm.replay(fresh(), collected(), last=last)


def test_the_momentum_of_a_replay_is_a_weight():
    with pytest.raises(ValueError, match=r"momentum must be in \[0, 1\], but got momentum=1.1"):
        batch_norm.replay(fresh(), collected(), momentum=1.1)
