import functools
import inspect

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from jbn.nn import batch_norm
from jbn.nn.batch_norm import BatchNormParams, BatchNormStats

CHANNELS = 3
EPSILON = 1e-3
R_MAX, D_MAX = 2.0, 0.5
VARIANTS = {
    "ghost": functools.partial(batch_norm.train_ghost, group_size=5),
    "renormalized": functools.partial(batch_norm.train_renormalized, r_max=R_MAX, d_max=D_MAX),
}
LAYOUTS = {  # 10 samples each
    "dense": ((10, CHANNELS), -1),
    "NHWC": ((10, 2, 2, CHANNELS), -1),
    "NCHW": ((10, CHANNELS, 2, 2), 1),
}


def compiled(function):
    """Every option is always given, so that few programs are compiled."""
    static = {"group_size", "channel_axis", "ddof"} & set(inspect.signature(function).parameters)
    jitted = jax.jit(function, static_argnames=sorted(static))
    options = dict(momentum=0.9, epsilon=EPSILON, mask=None, channel_axis=-1, ddof=0)
    return lambda params, stats, x, **given: jitted(params, stats, x, **{**options, **given})


train = compiled(batch_norm.train)
ghost = compiled(batch_norm.train_ghost)
renormalized = compiled(batch_norm.train_renormalized)


def example(layout="dense", dtype=np.float32):
    shape, axis = LAYOUTS[layout]
    rng = np.random.default_rng(0)
    params = BatchNormParams(rng.uniform(0.5, 2, CHANNELS), rng.normal(size=CHANNELS))
    stats = BatchNormStats(rng.normal(size=CHANNELS), rng.uniform(0.5, 2, CHANNELS), np.array(3.0))
    last = rng.normal([0.0, 5.0, -20.0], [1.0, 0.1, 9.0], (*np.delete(shape, axis), CHANNELS))
    last += rng.normal(size=(10, *[1] * (last.ndim - 2), CHANNELS))  # samples differ, so groups do
    return jax.tree.map(lambda a: np.asarray(a, dtype), (params, stats, np.moveaxis(last, -1, axis)))


def float64(tree):
    return jax.tree.map(lambda a: np.asarray(a, np.float64), tree)


def arrays(tree):
    return jax.tree.map(jnp.asarray, tree)


class Group:
    """The textbook statistics of what counts in `[samples, ..., channels]`, in float64."""

    def __init__(self, x, mask):
        self.counts = np.ones(x.shape[:-1], bool) if mask is None else mask
        self.rows = x[self.counts].reshape(-1, x.shape[-1])
        self.size = len(self.rows)
        self.mean, self.var = (self.rows.mean(0), self.rows.var(0)) if self.size else (0, 0)

    def output(self, params, x, r=1.0, d=0.0):
        y = params.scale * ((x - self.mean) / np.sqrt(self.var + EPSILON) * r + d) + params.bias
        counts = self.counts.reshape(self.counts.shape + (1,) * (x.ndim - self.counts.ndim))
        return np.where(counts, y, 0)

    def gradient(self, params, x, dy, r=1.0):
        """By hand, with r and d constant: `scale r / sigma (dy - mean(dy) - xhat mean(dy xhat))`."""
        sigma = np.sqrt(self.var + EPSILON)
        xhat = (x - self.mean) / sigma
        rows = tuple(range(x.ndim - 1))
        return params.scale * r / sigma * (dy - dy.mean(rows) - xhat * (dy * xhat).mean(rows))

    def moved(self, stats, momentum, ddof):
        if not self.size:
            return stats
        count = momentum * stats.count + 1
        var = self.var * self.size / (self.size - ddof)
        mean, var = stats.mean + (self.mean - stats.mean) / count, stats.var + (var - stats.var) / count
        return BatchNormStats(mean, var, count)


def groups_one_by_one(params, stats, x, size, *, momentum=0.9, mask=None, channel_axis=-1, ddof=0):
    params, stats, last = float64((params, stats, np.moveaxis(x, channel_axis, -1)))
    outputs = []
    for start in range(0, len(x), size):
        rows = slice(start, start + size)
        group = Group(last[rows], None if mask is None else mask[rows])
        outputs.append(group.output(params, last[rows]))
        stats = group.moved(stats, momentum, ddof)
    return np.moveaxis(np.concatenate(outputs), -1, channel_axis), stats


def assert_close(actual, expected):
    assert_allclose(actual[0], expected[0], atol=5e-6)
    chex.assert_trees_all_close(float64(actual[1]), expected[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("variant", "momentum"), [("ghost", 0.9), ("renormalized", 0.99)])
def test_defaults(variant, momentum):
    params, stats, x = arrays(example())
    named = VARIANTS[variant](params, stats, 1e-2 * x, momentum=momentum, epsilon=1e-5)  # epsilon shows
    chex.assert_trees_all_equal(VARIANTS[variant](params, stats, 1e-2 * x), named)


@pytest.mark.parametrize("variant", VARIANTS)
def test_entries_that_do_not_count_have_no_gradient_even_where_they_are_nan(variant):
    *norm, x = example()
    mask = np.arange(10) % 4 != 3
    train = functools.partial(VARIANTS[variant], mask=jnp.asarray(mask))
    gradient = jax.jit(jax.grad(lambda norm, x: jnp.sum(jnp.sin(train(*norm, x)[0])), (0, 1)))
    dirty, clean = (gradient(norm, np.where(mask[:, None], x, np.float32(value))) for value in (np.nan, 0))
    chex.assert_trees_all_equal(dirty, clean)
    assert np.all((np.asarray(dirty[1]) != 0).any(1) == mask)


# ghost batches


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [5, 4, 13], ids=["whole groups", "smaller last group", "smaller group"])
def test_every_group_is_a_batch_by_itself(layout, size):
    axis = LAYOUTS[layout][1]
    params, stats, x = example(layout)
    options = dict(momentum=0.8, channel_axis=axis, ddof=1)
    own = ghost(params, stats, x, group_size=size, **options)
    assert_close(own, groups_one_by_one(params, stats, x, size, **options))


def test_by_hand_the_last_group_weighs_as_much_as_the_others():
    _, stats = batch_norm.init(1)
    x = jnp.array([[1.0], [3.0], [10.0], [30.0], [4.0], [4.0], [-2.0], [2.0]])
    y, after = ghost(None, stats, x, group_size=2, momentum=1.0, epsilon=0.0)
    assert y[:, 0].tolist() == [-1, 1, -1, 1, 0, 0, -1, 1]
    assert_allclose([after.mean[0], after.var[0], after.count], [6.5, 26.25, 4], rtol=1e-6)


def test_running_statistics_are_the_weighted_sum_of_the_paper():
    """`(1 - eta)^G mu_run + sum_i (1 - eta)^(G - i) eta mu_i` (Hoffer et al. 2017, algorithm 1)."""
    eta = 0.3
    params, stats, x = example()
    stats = stats._replace(count=np.float32(1 / eta))  # the uncorrected average
    _, after = ghost(params, stats, x, group_size=4, momentum=1 - eta)
    parts = [float64(x[rows]) for rows in (slice(0, 4), slice(4, 8), slice(8, 10))]
    weights = [eta * (1 - eta) ** 2, eta * (1 - eta), eta]
    for actual, old, own in ((after.mean, stats.mean, np.mean), (after.var, stats.var, np.var)):
        new = sum(weight * own(part, 0) for weight, part in zip(weights, parts, strict=True))
        assert_allclose(actual, (1 - eta) ** 3 * old + new, rtol=1e-5)


@pytest.mark.parametrize("size", [10, 13])
@pytest.mark.parametrize("has_params", [True, False])
def test_one_group_of_the_whole_batch_is_plain_training(size, has_params):
    params, *rest = example("NHWC")
    params = params if has_params else None
    own = ghost(params, *rest, group_size=size)
    chex.assert_trees_all_close(own, train(params, *rest), rtol=1e-5, atol=1e-6)


def test_entries_that_do_not_count_have_no_influence_on_their_group():
    params, stats, x = example("NHWC")
    mask = np.random.default_rng(2).random(x.shape[:-1]) < 0.6
    dirty = np.where(mask[..., None], x, np.float32(np.nan))
    actual = ghost(params, stats, dirty, group_size=4, mask=mask)
    assert_close(actual, groups_one_by_one(params, stats, x, 4, mask=mask))


@pytest.mark.parametrize("empty", [slice(0, 4), slice(4, 8), slice(8, 10)])
def test_a_group_in_which_nothing_counts_is_0_and_moves_nothing(empty):
    params, stats, x = example()
    x[empty], mask = np.inf, np.ones(10, bool)
    mask[empty] = False
    y, after = ghost(params, stats, x, group_size=4, mask=mask)
    assert np.all(np.asarray(y)[empty] == 0)
    clean = np.where(mask[:, None], x, 0)
    assert_close((y, after), groups_one_by_one(params, stats, clean, 4, mask=mask))
    assert float(after.count) == pytest.approx(0.9 * (0.9 * 3 + 1) + 1)  # two groups, not three


def test_several_channel_axes():
    _, stats = batch_norm.init((CHANNELS, 2))
    x = np.random.default_rng(3).normal(1, size=(6, CHANNELS, 4, 2)).astype(np.float32)
    y, after = ghost(None, stats, x, group_size=3, channel_axis=(-1, 1))
    flat = np.moveaxis(x, 2, 1).reshape(6, 4, 6)
    unit = BatchNormParams(np.ones(6), np.zeros(6)), BatchNormStats(np.zeros(6), np.ones(6), np.array(0.0))
    after = jax.tree.map(lambda a: a.reshape(-1) if a.ndim else a, after)
    assert_close((np.moveaxis(y, 2, 1).reshape(6, 4, 6), after), groups_one_by_one(*unit, flat, 3))


def test_gradients_of_groups_know_nothing_of_each_other():
    params, stats, x = example(dtype=np.float64)
    dy = np.random.default_rng(4).normal(size=x.shape)
    second = np.where((np.arange(10) // 4 == 1)[:, None], dy, 0)
    train = functools.partial(batch_norm.train_ghost, params, group_size=4, epsilon=EPSILON)
    back = jax.jit(lambda stats, x, dy: jax.vjp(lambda x: train(stats, x)[0], x)[1](dy)[0])
    with jax.enable_x64(True):
        dx, only_second = back(stats, x, dy), back(stats, x, second)
    for rows in (slice(0, 4), slice(4, 8), slice(8, 10)):
        expected = Group(x[rows], None).gradient(params, x[rows], dy[rows])
        assert_allclose(dx[rows], expected, rtol=1e-9, atol=1e-9)
    assert_allclose(only_second[4:8], dx[4:8], rtol=1e-9)
    assert_array_equal(only_second[:4], 0)
    assert_array_equal(only_second[8:], 0)


def test_16_bit_batches_stay_16_bit_and_their_statistics_do_not():
    params, stats, x = example()
    small = jnp.asarray(x, jnp.bfloat16)
    for variant in VARIANTS.values():
        y, after = jax.jit(variant)(params, stats, small)
        chex.assert_type(y, jnp.bfloat16)
        chex.assert_type(list(after), jnp.float32)


# renormalisation


def corrections(stats, batch, r_max, d_max):
    """The r and d of Ioffe 2017, algorithm 1."""
    sigma = np.sqrt(stats.var + EPSILON)
    r = np.sqrt(batch.var + EPSILON) / sigma
    d = (batch.mean - stats.mean) / sigma
    return np.clip(r, 1 / r_max, r_max), np.clip(d, -d_max, d_max)


def clipped_example(layout="dense", dtype=np.float32):
    """A batch that is clipped above in channel 0, below in channel 1 and not at all in channel 2."""
    params, _, x = example(layout, dtype)
    batch = Group(np.moveaxis(float64(x), LAYOUTS[layout][1], -1), None)
    deviation = np.sqrt(batch.var) / np.array([4.0, 0.2, 1.3])  # r is about 4, 0.2, 1.3
    mean = batch.mean - deviation * np.array([3.0, -3.0, 0.4])  # and d 3, -3, 0.4
    stats = BatchNormStats(mean, deviation**2, np.array(3.0))
    return jax.tree.map(lambda a: np.asarray(a, dtype), (params, stats, x))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("has_mask", [False, True])
def test_renormalisation_is_the_algorithm_of_the_paper(layout, has_mask):
    axis = LAYOUTS[layout][1]
    params, stats, x = clipped_example(layout)
    mask = np.arange(10) % 4 != 3 if has_mask else None
    p, s, last = float64((params, stats, np.moveaxis(x, axis, -1)))
    batch = Group(last, mask)
    r, d = corrections(s, batch, R_MAX, D_MAX)
    assert (r[0], r[1], d[0], d[1]) == (R_MAX, 1 / R_MAX, D_MAX, -D_MAX)  # every side is clipped
    assert 1 / R_MAX < r[2] < R_MAX  # and one channel is not
    assert abs(d[2]) < D_MAX
    expected = np.moveaxis(batch.output(p, last, r, d), -1, axis)
    if has_mask:
        x[~mask] = np.nan
    options = dict(momentum=0.8, mask=mask, channel_axis=axis, ddof=1)
    actual = renormalized(params, stats, x, r_max=R_MAX, d_max=D_MAX, **options)
    assert_close(actual, (expected, batch.moved(s, 0.8, 1)))


@pytest.mark.parametrize("has_mask", [False, True])
def test_limits_of_1_and_0_are_plain_training(has_mask):
    params, stats, x = clipped_example()
    mask = np.arange(10) < 7 if has_mask else None
    own = renormalized(params, stats, x, r_max=1.0, d_max=0.0, mask=mask)
    chex.assert_trees_all_close(own, train(params, stats, x, mask=mask), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("has_params", [True, False])
def test_without_limits_it_is_inference_with_the_statistics_before_the_batch(has_params):
    params, stats, x = clipped_example()
    params = params if has_params else None
    y, _ = renormalized(params, stats, x, r_max=np.inf, d_max=np.inf)
    assert_allclose(y, batch_norm.infer(*map(arrays, (params, stats, x)), epsilon=EPSILON), atol=2e-5)


def test_a_count_of_0_leaves_nothing_to_correct_towards():
    params, stats, x = clipped_example()
    fresh = stats._replace(count=np.float32(0))
    own = renormalized(params, fresh, x, r_max=R_MAX, d_max=D_MAX)
    chex.assert_trees_all_close(own, train(params, fresh, x), rtol=1e-5, atol=1e-6)
    assert np.abs(own[0] - renormalized(params, stats, x, r_max=R_MAX, d_max=D_MAX)[0]).max() > 0.1


def test_a_batch_in_which_nothing_counts_comes_out_as_0_and_moves_nothing():
    params, stats, x = clipped_example()
    x[:], nothing = np.nan, np.zeros(10, bool)
    y, after = renormalized(params, stats, x, r_max=R_MAX, d_max=D_MAX, mask=nothing)
    assert_array_equal(y, 0)
    chex.assert_trees_all_equal(after, arrays(stats))


def backwards(r_max, d_max):
    train = functools.partial(batch_norm.train_renormalized, r_max=r_max, d_max=d_max, epsilon=EPSILON)
    return jax.jit(lambda p, stats, x, dy: jax.vjp(lambda p, x: train(p, stats, x)[0], p, x)[1](dy))


@pytest.mark.parametrize(("r_max", "d_max"), [(R_MAX, D_MAX), (np.inf, np.inf)], ids=["clipped", "free"])
def test_r_and_d_are_constants_for_derivatives(r_max, d_max):
    params, stats, x = clipped_example(dtype=np.float64)
    batch = Group(x, None)
    r, d = corrections(stats, batch, r_max, d_max)
    dy = np.random.default_rng(5).normal(size=x.shape)
    with jax.enable_x64(True):
        dparams, dx = backwards(r_max, d_max)(params, stats, x, dy)
    assert_allclose(dx, batch.gradient(params, x, dy, r), rtol=1e-9, atol=1e-9)
    xhat = (x - batch.mean) / np.sqrt(batch.var + EPSILON) * r + d
    assert_allclose(dparams.scale, (dy * xhat).sum(0), rtol=1e-9)
    assert_allclose(dparams.bias, dy.sum(0), rtol=1e-9)


def test_members_of_a_named_axis_are_renormalised_as_one_batch():
    params, stats, x = clipped_example()
    mask = np.arange(10) % 4 != 0  # 3 of the first 5 count, 4 of the others
    train = functools.partial(VARIANTS["renormalized"], epsilon=EPSILON, axis_name="device")

    pooled = jax.vmap(lambda *norm, mask: train(*norm, mask=mask), (None, None, 0), axis_name="device")
    y, after = jax.jit(pooled)(params, stats, x.reshape(2, 5, CHANNELS), mask=mask.reshape(2, 5))
    whole, whole_after = renormalized(params, stats, x, r_max=R_MAX, d_max=D_MAX, momentum=0.99, mask=mask)
    assert_allclose(y.reshape(10, CHANNELS), whole, atol=1e-5)
    for member in range(2):
        own = jax.tree.map(lambda a, i=member: a[i], after)
        chex.assert_trees_all_close(own, whole_after, rtol=1e-5, atol=1e-6)


def test_values_of_limits_momentum_and_epsilon_compile_nothing_new():
    params, stats, x = arrays(clipped_example())

    @jax.jit
    @chex.assert_max_traces(n=1)
    def traced(options):
        return batch_norm.train_renormalized(params, stats, x, **options)[0]

    first = traced(dict(r_max=1.0, d_max=0.0, momentum=0.9, epsilon=1e-3))
    other = dict(r_max=3.0, d_max=5.0, momentum=0.5, epsilon=1e-5)
    assert_allclose(traced(other), renormalized(params, stats, x, **other)[0], atol=1e-5)
    assert np.abs(first - traced(other)).max() > 0.1


# misuse

SINGLE = r"at least two values a channel, but x of shape \(1, 3\) has 1"


@pytest.mark.parametrize(
    ("variant", "options", "message"),
    [
        ("ghost", dict(group_size=0), "a group has at least one sample, but got group_size=0"),
        ("ghost", dict(channel_axis=0), "cut from the first axis, but got channel_axis=0"),
        ("ghost", dict(channel_axis=-2), "cut from the first axis, but got channel_axis=-2"),
        ("ghost", dict(channel_axis=(1, 0)), r"cut from the first axis, but got channel_axis=\(1, 0\)"),
        ("ghost", dict(group_size=1), SINGLE),
        ("ghost", dict(group_size=3), SINGLE),  # the last of 10 samples is left over
        ("renormalized", dict(r_max=0.5), "r_max must be at least 1, but got r_max=0.5"),
        ("renormalized", dict(r_max=float("nan")), "r_max must be at least 1, but got r_max=nan"),
        ("renormalized", dict(d_max=-1), "d_max must be at least 0, but got d_max=-1"),
        *(
            (variant, options, message)
            for variant in VARIANTS
            for options, message in [
                (dict(momentum=1.5), r"momentum must be in \[0, 1\], but got momentum=1.5"),
                (dict(epsilon=-1e-3), "epsilon must be at least 0, but got epsilon=-0.001"),
                (dict(channel_axis=2), "must name different axes of x, but got channel_axis=2"),
            ]
        ),
    ],
)
def test_options_that_cannot_be(variant, options, message):
    with pytest.raises(ValueError, match=message):
        VARIANTS[variant](*arrays(example()), **options)


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_sample_at_all_is_an_error(variant):
    params, stats, x = arrays(example())
    with pytest.raises(ValueError, match=r"at least two values a channel, but x of shape \(0, 3\) has 0"):
        VARIANTS[variant](params, stats, x[:0])


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("shape", [(15,), (9,), (5,), (10, 3), (5, 2)])
def test_a_mask_must_fit_the_whole_batch(variant, shape):
    with pytest.raises(ValueError, match="a mask has the shape of x without the channel axis") as error:
        VARIANTS[variant](*arrays(example()), mask=jnp.ones(shape, bool))
    assert f"x has shape (10, 3), the mask {shape}" in str(error.value)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", ["scale", "bias", "mean", "var"])
def test_parameters_and_statistics_must_fit_the_channels(variant, name):
    params, stats, x = arrays(example())
    wrong = {name: jnp.ones(1)}
    params = params._replace(**wrong) if name in params._fields else params
    stats = stats._replace(**wrong) if name in stats._fields else stats
    with pytest.raises(AssertionError, match=f"batch norm's {name} must fit channel axis 1"):
        VARIANTS[variant](params, stats, x)
