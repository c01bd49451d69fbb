import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from jbn.nn import batch_norm
from jbn.nn.batch_norm import BatchNormParams, BatchNormStats
from jbn.nn.mlp import mlp

EPSILON = 1e-3
IMAGES, INPUTS, OUTPUTS = (2, 7, 6), 4, 6
WINDOWS = {"dense": (), "1x1": (1, 1), "3x2": (3, 2)}
fold, fold_into_next = jax.jit(batch_norm.fold), jax.jit(batch_norm.fold_into_next, static_argnames="padding")


@functools.partial(jax.jit, static_argnames=("padding", "strides", "groups"))
def layer(x, kernel, bias=None, *, padding="VALID", strides=(1, 1), groups=1):
    """A dense layer, or a convolution of images, by the window of the kernel."""
    if kernel.ndim == 2:
        y = jnp.tensordot(x, kernel, 1)
    else:
        layout = ("NHWC", "HWIO", "NHWC")
        y = jax.lax.conv_general_dilated(
            x, kernel, strides, padding, dimension_numbers=layout, feature_group_count=groups
        )
    return y if bias is None else y + bias.reshape((1,) * (y.ndim - 1) + (-1,))


def draws(seed, channels, window=(), inputs=INPUTS):
    """Batch norm over so many channels, an input, and a layer's kernel and bias."""
    rng = np.random.default_rng(seed)
    norm = (
        BatchNormParams(
            rng.choice([-1, 1], channels) * rng.uniform(0.5, 2, channels), rng.normal(size=channels)
        ),
        BatchNormStats(rng.normal(size=channels), rng.uniform(0.2, 3, channels), np.array(5.0)),
    )
    shape = IMAGES[:1] if window == () else IMAGES
    values = (
        rng.normal(size=(*shape, INPUTS)),
        rng.normal(size=(*window, inputs, OUTPUTS)),
        rng.normal(size=OUTPUTS),
    )
    return jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), (*norm, *values))


def textbook(params, stats, z, epsilon=EPSILON):
    """Inference in float64."""
    scale, bias = (1.0, 0.0) if params is None else (np.asarray(a, np.float64) for a in params)
    mean, var, z = (np.asarray(a, np.float64) for a in (stats.mean, stats.var, z))
    return (scale * (z - mean) / np.sqrt(var + epsilon) + bias).astype(np.float32)


def assert_same(actual, expected):
    assert_allclose(actual, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


# into the layer before


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("has_params", [True, False])
@pytest.mark.parametrize("window", WINDOWS)
def test_the_folded_layer_is_the_layer_with_batch_norm_behind_it(window, has_params, has_bias):
    params, stats, x, kernel, bias = draws(0, OUTPUTS, WINDOWS[window])
    params, bias = params if has_params else None, bias if has_bias else None
    folded, shift = fold(params, stats, kernel, bias, epsilon=EPSILON)
    assert (folded.shape, shift.shape) == (kernel.shape, (OUTPUTS,))
    assert_same(layer(x, folded, shift), textbook(params, stats, layer(x, kernel, bias)))


@pytest.mark.parametrize(
    "options",
    [dict(padding="SAME"), dict(strides=(2, 1)), dict(padding="SAME", strides=(2, 2)), dict(groups=2)],
)
def test_padding_strides_and_groups_make_no_difference_to_the_layer_before(options):
    groups = options.get("groups", 1)
    params, stats, x, kernel, bias = draws(1, OUTPUTS, (3, 2), INPUTS // groups)
    folded, shift = fold(params, stats, kernel, bias, epsilon=EPSILON)
    expected = textbook(params, stats, layer(x, kernel, bias, **options))
    assert_same(layer(x, folded, shift, **options), expected)


# into the layer after


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("has_params", [True, False])
@pytest.mark.parametrize("window", WINDOWS)
def test_the_folded_layer_is_the_layer_with_batch_norm_in_front_of_it(window, has_params, has_bias):
    params, stats, x, kernel, bias = draws(2, INPUTS, WINDOWS[window])
    params, bias = params if has_params else None, bias if has_bias else None
    folded, shift = fold_into_next(params, stats, kernel, bias, epsilon=EPSILON)
    assert (folded.shape, shift.shape) == (kernel.shape, (OUTPUTS,))
    assert_same(layer(x, folded, shift), layer(textbook(params, stats, x), kernel, bias))


def test_strides_make_no_difference_to_the_layer_after():
    params, stats, x, kernel, bias = draws(3, INPUTS, (3, 2))
    folded, shift = fold_into_next(params, stats, kernel, bias, epsilon=EPSILON)
    expected = layer(textbook(params, stats, x), kernel, bias, strides=(2, 1))
    assert_same(layer(x, folded, shift, strides=(2, 1)), expected)


@pytest.mark.parametrize("window", ["dense", "1x1"])
def test_a_window_of_one_entry_has_no_border_to_pad(window):
    params, stats, x, kernel, bias = draws(4, INPUTS, WINDOWS[window])
    folded, shift = fold_into_next(params, stats, kernel, bias, epsilon=EPSILON, padding="SAME")
    expected = layer(textbook(params, stats, x), kernel, bias, padding="SAME", strides=(2, 2))
    assert_same(layer(x, folded, shift, padding="SAME", strides=(2, 2)), expected)


@pytest.mark.parametrize("window", [(3, 2), (1, 2), (2,)])
def test_padded_windows_cannot_be_folded(window):
    kernel = jnp.ones((*window, INPUTS, OUTPUTS))
    with pytest.raises(ValueError, match="folds exactly only where no window is padded") as error:
        batch_norm.fold_into_next(*batch_norm.init(INPUTS), kernel, padding="SAME")
    assert f"got padding='SAME' and a kernel of shape {kernel.shape}" in str(error.value)
    assert "you might need to keep batch norm, or fold it into the layer before it" in str(error.value)


def test_the_borders_are_why():
    params, stats, x, kernel, _ = draws(5, INPUTS, (3, 3))
    folded, shift = fold_into_next(params, stats, kernel, epsilon=EPSILON)
    actual = np.asarray(layer(x, folded, shift, padding="SAME"))
    expected = np.asarray(layer(textbook(params, stats, x), kernel, padding="SAME"))
    assert_same(actual[:, 1:-1, 1:-1], expected[:, 1:-1, 1:-1])
    assert np.abs(actual - expected)[:, 0].min() > 1e-3


# values by hand, and values that are special


def test_by_hand():
    params = BatchNormParams(jnp.array([6.0]), jnp.array([10.0]))
    stats = BatchNormStats(jnp.array([5.0]), jnp.array([3.0]), jnp.array(1.0))  # a = 6 / sqrt(3 + 1) = 3
    before = fold(params, stats, jnp.array([[2.0], [-1.0]]), jnp.array([7.0]), epsilon=1.0)
    assert jax.tree.map(lambda a: a.tolist(), before) == ([[6.0], [-3.0]], [16.0])  # (7 - 5) * 3 + 10
    after = fold_into_next(params, stats, jnp.array([[2.0, -1.0]]), jnp.array([7.0, 0.0]), epsilon=1.0)
    assert jax.tree.map(lambda a: a.tolist(), after) == ([[6.0, -3.0]], [-3.0, 5.0])  # 7 + (10 - 15) * 2


def test_the_default_epsilon_is_that_of_inference():
    params, stats, x, kernel, bias = draws(6, OUTPUTS)
    stats = stats._replace(var=1e-5 * stats.var)
    expected = textbook(params, stats, layer(x, kernel, bias), epsilon=1e-5)
    assert_same(layer(x, *fold(params, stats, kernel, bias)), expected)
    params, stats, x, kernel, bias = draws(6, INPUTS)
    stats = stats._replace(var=1e-5 * stats.var)
    expected = layer(textbook(params, stats, x, epsilon=1e-5), kernel, bias)
    assert_same(layer(x, *fold_into_next(params, stats, kernel, bias)), expected)


@pytest.mark.parametrize("scale", [0.0, -1.5])
def test_any_scale_can_be_folded(scale):
    params, stats, x, kernel, bias = draws(7, OUTPUTS, (3, 2))
    params = params._replace(scale=params.scale.at[1].set(scale))
    folded, shift = fold(params, stats, kernel, bias, epsilon=EPSILON)
    assert_same(layer(x, folded, shift), textbook(params, stats, layer(x, kernel, bias)))
    assert_allclose(jnp.sign(folded[..., 1]), np.sign(scale) * jnp.sign(kernel[..., 1]))

    params, stats, x, kernel, bias = draws(8, INPUTS, (3, 2))
    params = params._replace(scale=params.scale.at[1].set(scale))
    folded, shift = fold_into_next(params, stats, kernel, bias, epsilon=EPSILON)
    assert_same(layer(x, folded, shift), layer(textbook(params, stats, x), kernel, bias))
    assert_allclose(jnp.sign(folded[..., 1, :]), np.sign(scale) * jnp.sign(kernel[..., 1, :]))


def test_a_constant_channel_comes_out_as_its_bias():
    params, stats, x, kernel, bias = draws(9, OUTPUTS)
    stats = stats._replace(var=stats.var.at[2].set(0.0))
    y = layer(x, *fold(params, stats, kernel, bias, epsilon=0.0))
    assert_array_equal(y[:, 2], jnp.full(len(x), params.bias[2]))
    assert_same(y, batch_norm.infer(params, stats, layer(x, kernel, bias), epsilon=0.0))


# whole networks


def test_a_convolutional_network_without_batch_norm_is_the_one_with_it():
    """Convolution, norm, ReLU, convolution, ReLU, norm, convolution: folded back, and folded ahead."""
    first, first_stats, x, kernel_1, bias_1 = draws(10, OUTPUTS, (3, 2))
    *_, kernel_2, bias_2 = draws(11, OUTPUTS, (2, 2), OUTPUTS)
    last, last_stats, _, kernel_3, bias_3 = draws(12, OUTPUTS, (3, 3), OUTPUTS)

    a = np.maximum(textbook(first, first_stats, layer(x, kernel_1, bias_1, padding="SAME")), 0)
    a = np.maximum(layer(a, kernel_2, bias_2, padding="SAME"), 0)
    expected = layer(textbook(last, last_stats, a), kernel_3, bias_3)

    a = jax.nn.relu(layer(x, *fold(first, first_stats, kernel_1, bias_1, epsilon=EPSILON), padding="SAME"))
    a = jax.nn.relu(layer(a, kernel_2, bias_2, padding="SAME"))
    assert_same(layer(a, *fold_into_next(last, last_stats, kernel_3, bias_3, epsilon=EPSILON)), expected)


def test_one_layer_takes_batch_norm_from_both_sides():
    front, front_stats, x, kernel, bias = draws(13, INPUTS, (3, 2))
    back, back_stats, *_ = draws(14, OUTPUTS, (3, 2))
    expected = textbook(back, back_stats, layer(textbook(front, front_stats, x), kernel, bias))
    folded = fold_into_next(front, front_stats, kernel, bias, epsilon=EPSILON)
    assert_same(layer(x, *fold(back, back_stats, *folded, epsilon=EPSILON)), expected)


@pytest.mark.parametrize("place", ["before", "after"])
def test_a_trained_perceptron_is_a_plain_one(place):
    model = mlp(layers=2, hidden_units=5, batch_norm=place, batch_norm_epsilon=EPSILON)
    key, hyper = jax.random.key(0), {"outputs": 3}
    spec = jax.ShapeDtypeStruct((1, INPUTS), jnp.float32)
    params, stats = jax.jit(lambda key: model.init(key, hyper, spec))(key)
    rng = np.random.default_rng(15)
    params = jax.tree.map(lambda a: jnp.asarray(np.float32(a + 0.3 * rng.normal(size=a.shape))), params)
    x = jnp.asarray(rng.normal(1, 2, (9, INPUTS)), jnp.float32)
    _, stats = jax.jit(functools.partial(model.train, hyper=hyper))(params, stats, x, key=key)

    plain = {name: (values["kernel"], values.get("bias")) for name, values in params.items()}
    for name, following in (("layer_1", "layer_2"), ("layer_2", "output")):
        norm = params[name]["batch_norm"], stats[name]
        function, target = (fold, name) if place == "before" else (fold_into_next, following)
        plain[target] = function(*norm, *plain[target], epsilon=EPSILON)
    a = x
    for name in ("layer_1", "layer_2"):
        a = jax.nn.relu(layer(a, *plain[name]))
    assert_same(layer(a, *plain["output"]), model.infer(params, stats, x, hyper=hyper))


def test_members_of_a_population_are_folded_one_by_one():
    members = [draws(seed, OUTPUTS) for seed in range(16, 19)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
    mapped = jax.jit(jax.vmap(batch_norm.fold))(*stacked[:2], *stacked[3:])
    for i, (params, stats, _, *kernel) in enumerate(members):
        own = jax.tree.map(lambda a, i=i: a[i], mapped)
        chex.assert_trees_all_close(own, fold(params, stats, *kernel), rtol=1e-6)


# misuse


@pytest.mark.parametrize("name", ["scale", "bias", "mean", "var"])
@pytest.mark.parametrize("size", [1, 5])
@pytest.mark.parametrize(
    ("function", "axis", "channels"), [("fold", 3, OUTPUTS), ("fold_into_next", 2, INPUTS)]
)
def test_parameters_and_statistics_must_fit_the_kernel(function, axis, channels, name, size):
    params, stats = batch_norm.init(channels)
    wrong = {name: jnp.ones(size)}
    params = params._replace(**wrong) if name in params._fields else params
    stats = stats._replace(**wrong) if name in stats._fields else stats
    message = rf"batch norm's {name} must fit channel axis {axis} of \(3, 2, 4, 6\)"
    with pytest.raises(AssertionError, match=message):
        getattr(batch_norm, function)(params, stats, jnp.ones((3, 2, INPUTS, OUTPUTS)))


def test_depthwise_kernels_cannot_take_it_from_the_front():
    params, stats = batch_norm.init(OUTPUTS)
    with pytest.raises(AssertionError, match=r"batch norm's mean must fit channel axis 2 of \(3, 2, 1, 6\)"):
        batch_norm.fold_into_next(params, stats, jnp.ones((3, 2, 1, OUTPUTS)))


@pytest.mark.parametrize("function", ["fold", "fold_into_next"])
def test_epsilon_is_not_negative(function):
    with pytest.raises(ValueError, match=r"epsilon must be at least 0, but got epsilon=-0.1"):
        getattr(batch_norm, function)(*batch_norm.init(3), jnp.ones((3, 3)), epsilon=-0.1)


@pytest.mark.parametrize("function", [fold, fold_into_next])
def test_the_folded_layer_keeps_the_type_of_the_kernel(function):
    params, stats, _, kernel, bias = draws(0, 6, inputs=6)
    small = function(params, stats, kernel.astype(jnp.bfloat16), bias)
    chex.assert_type(small, jnp.bfloat16)
    for own, exact in zip(small, function(params, stats, kernel, bias), strict=True):
        assert_allclose(own.astype(jnp.float32), exact, atol=0.03 * np.abs(exact).max())


@pytest.mark.parametrize("function", [batch_norm.fold, batch_norm.fold_into_next])
def test_the_bias_must_fit_the_kernel(function):
    params, stats, _, kernel, _ = draws(0, 6, inputs=6)
    with pytest.raises((AssertionError, TypeError), match="bias"):
        function(params, stats, kernel, jnp.ones(1))
