"""Layers that nobody recorded, against their recurrences written out in NumPy's float64."""

import math

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose

from jbn.interop import weights
from jbn.interop.weights import Settings

CHANNELS = 3
EPSILON = 1e-2  # large enough to be seen wherever it goes
rng = np.random.default_rng(7)
GAMMA, BETA = rng.uniform(0.5, 1.5, CHANNELS), rng.normal(size=CHANNELS)
MEAN, VAR = rng.normal(size=CHANNELS), rng.uniform(0.5, 2.0, CHANNELS)
BATCHES = [rng.normal(1.0, 2.0, (rows, CHANNELS, 2, 2)) for rows in (6, 7, 6)]
AXES = (0, 2, 3)
train = jax.jit(Settings.train, static_argnums=0)


def f32(**arrays):
    return {name: np.asarray(value, np.float32) for name, value in arrays.items()}


def wide(vector):
    return np.reshape(vector, (1, -1, 1, 1))


def normalized(x, mean, var, epsilon=EPSILON):
    return wide(GAMMA) * (x - wide(mean)) / np.sqrt(wide(var) + epsilon) + wide(BETA)


def unbiased(x):
    n = x.size // CHANNELS
    return x.var(AXES) * n / (n - 1)


def trained(framework, arrays, *, steps=None, **arguments):
    """Outputs of training, and what is saved after it."""
    layer = weights.load(framework, arrays, **arguments)
    stats, outputs = layer.stats, []
    for x in BATCHES[:steps]:
        y, stats = train(layer.settings, layer.params, stats, x.astype(np.float32))
        outputs.append(y)
    return outputs, weights.save(layer.params, stats, layer.settings)


def close(saved, **expected):
    for name, value in expected.items():
        assert_allclose(saved[name].reshape(-1), value, rtol=1e-5, atol=1e-6, err_msg=name)


def test_caffe_sums():
    fraction, total = 0.9, 2.5
    names = {
        f"BatchNorm.blobs[{place}]": value for place, value in enumerate((MEAN * total, VAR * total, [total]))
    }
    names |= {"Scale.blobs[0]": GAMMA, "Scale.blobs[1]": BETA}
    outputs, saved = trained("caffe", f32(**names), moving_average_fraction=fraction, eps=EPSILON)
    mean, var = MEAN * total, VAR * total
    for x, y in zip(BATCHES, outputs, strict=True):
        mean, var = fraction * mean + x.mean(AXES), fraction * var + unbiased(x)
        total = fraction * total + 1
        assert_allclose(y, normalized(x, x.mean(AXES), x.var(AXES)), rtol=1e-5, atol=1e-5)
    close(saved, **{"BatchNorm.blobs[0]": mean, "BatchNorm.blobs[1]": var, "BatchNorm.blobs[2]": total})


def test_caffe_with_global_statistics_stays():
    names = {"BatchNorm.blobs[0]": MEAN, "BatchNorm.blobs[1]": VAR, "BatchNorm.blobs[2]": [1.0]}
    arrays = f32(**names, **{"Scale.blobs[0]": GAMMA, "Scale.blobs[1]": BETA})
    outputs, saved = trained("caffe", arrays, use_global_stats=True, eps=EPSILON)
    assert_allclose(outputs[0], normalized(BATCHES[0], MEAN, VAR), rtol=1e-5, atol=1e-5)
    assert all(saved[name].tobytes() == value.tobytes() for name, value in arrays.items())


def moving(decay, variance, var=VAR):
    mean = MEAN
    for x in BATCHES:
        mean, var = decay * mean + (1 - decay) * x.mean(AXES), decay * var + (1 - decay) * variance(x)
    return mean, var


def test_dl4j_log10_deviations():
    arrays = f32(gamma=[GAMMA], beta=[BETA], mean=[MEAN], log10stdev=[np.log10(VAR) / 2])
    outputs, saved = trained("dl4j", arrays, eps=EPSILON, decay=0.7)
    mean, var = moving(0.7, lambda x: x.var(AXES))
    assert_allclose(
        outputs[2], normalized(BATCHES[2], BATCHES[2].mean(AXES), BATCHES[2].var(AXES)), atol=1e-5
    )
    close(saved, mean=mean, log10stdev=np.log10(var) / 2)
    assert saved["log10stdev"].shape == (1, CHANNELS)


def test_dl4j_variances_that_hold_epsilon():
    """Up to 1.0.0-beta3 what is averaged is var + epsilon, and nothing is added at inference."""
    arrays = f32(gamma=[GAMMA], beta=[BETA], mean=[MEAN], var=[VAR])
    layer = weights.load("dl4j", arrays, eps=EPSILON)
    y = layer.settings.infer(layer.params, layer.stats, BATCHES[0].astype(np.float32))
    assert_allclose(y, normalized(BATCHES[0], MEAN, VAR, epsilon=0), rtol=1e-5, atol=1e-5)
    _, saved = trained("dl4j", arrays, eps=EPSILON, decay=0.7)
    close(saved, var=moving(0.7, lambda x: x.var(AXES) + EPSILON)[1])


def test_dl4j_variances_of_later_releases():
    arrays = f32(gamma=[GAMMA], beta=[BETA], mean=[MEAN], var=[VAR])
    layer = weights.load("dl4j", arrays, eps=EPSILON, useLogStd=False)
    y = layer.settings.infer(layer.params, layer.stats, BATCHES[0].astype(np.float32))
    assert_allclose(y, normalized(BATCHES[0], MEAN, VAR), rtol=1e-5, atol=1e-5)


def test_dl4j_without_minibatches_keeps_the_last_batch():
    arrays = f32(gamma=GAMMA, beta=BETA, mean=MEAN, var=VAR)
    _, saved = trained("dl4j", arrays, useLogStd=False, minibatch=False)
    close(saved, mean=BATCHES[2].mean(AXES), var=BATCHES[2].var(AXES))


@pytest.mark.parametrize(
    ("gamma", "beta", "affine"), [(2.0, 3.0, True), (2.0, 0.0, False), (1.0, 3.0, False)]
)
def test_dl4j_locked_numbers(gamma, beta, affine):
    layer = weights.load(
        "dl4j", f32(mean=MEAN, log10stdev=np.zeros(3)), lockGammaBeta=True, gamma=gamma, beta=beta
    )
    assert set(layer.params.scale.tolist()) == {gamma if affine else 1.0}
    assert set(layer.params.bias.tolist()) == {beta if affine else 0.0}
    assert list(weights.save(layer)) == ["mean", "log10stdev"]


def test_torch7_second_generation():
    arrays = f32(weight=GAMMA, bias=BETA, running_mean=MEAN, running_var=VAR, save_mean=MEAN, save_std=VAR)
    _, saved = trained("torch7", arrays, momentum=0.3, eps=EPSILON)
    mean, var = moving(0.7, unbiased)
    close(saved, running_mean=mean, running_var=var, save_std=VAR)


@pytest.mark.parametrize(
    ("framework", "names", "new"),
    [
        ("torch7", ("weight", "bias", "running_mean", "running_std"), {"momentum": 0.3, "eps": EPSILON}),
        ("lasagne", ("gamma", "beta", "mean", "inv_std"), {"alpha": 0.3, "epsilon": EPSILON}),
    ],
)
def test_averages_of_inverse_deviations(framework, names, new):
    start = 1 / np.sqrt(VAR + EPSILON)
    arrays = f32(**dict(zip(names, (GAMMA, BETA, MEAN, start), strict=True)))
    _, saved = trained(framework, arrays, **new)
    mean, inverse = moving(0.7, lambda x: 1 / np.sqrt(x.var(AXES) + EPSILON), start)
    close(saved, **{names[2]: mean, names[3]: inverse})


def test_torch7_normalises_a_single_sample_with_running_statistics():
    layer = weights.load(
        "torch7", f32(weight=GAMMA, bias=BETA, running_mean=MEAN, running_var=VAR), eps=EPSILON
    )
    x = BATCHES[0][:1]
    y, stats = layer.settings.train(layer.params, layer.stats, x.astype(np.float32))
    assert_allclose(y, normalized(x, MEAN, VAR), rtol=1e-5, atol=1e-5)
    assert (np.asarray(stats.var) == layer.stats.var).all()


def cntk(seen, *, time, blend=0.0):
    """CNTK's own lines: the factor of a batch by its samples, and a blend of what normalises."""
    mean, var, outputs = MEAN, VAR, []
    for x in BATCHES:
        n = len(x)
        factor = 1.0 if not seen or not time else n / (n + seen) if time < 0 else 1 - math.exp(-n / time)
        share = 0.0 if not seen or not blend else 1.0 if math.isinf(blend) else blend / (blend + n)
        mean, var = (1 - factor) * mean + factor * x.mean(AXES), (1 - factor) * var + factor * unbiased(x)
        inverse = share / np.sqrt(var + EPSILON) + (1 - share) / np.sqrt(x.var(AXES) + EPSILON)
        center = share * mean + (1 - share) * x.mean(AXES)
        outputs.append(wide(GAMMA) * (x - wide(center)) * wide(inverse) + wide(BETA))
        seen += n
    return outputs, mean, var, seen


@pytest.mark.parametrize(
    ("seen", "time", "blend"),
    [
        (0, 5000.0, 0.0),
        (40, 20.0, 0.0),
        (40, 0.0, 0.0),
        (0, -1.0, 0.0),
        (40, -1.0, 0.0),
        (0, math.inf, 0.0),
        (40, math.inf, math.inf),
        (0, 20.0, 10.0),
        (40, 20.0, math.inf),
    ],
)
def test_cntk_time_constants(seen, time, blend):
    """Batches differ in size, and so do their weights."""
    names = dict(scale=GAMMA, bias=BETA, aggregate_mean=MEAN, aggregate_variance=VAR, aggregate_count=seen)
    constants = dict(normalization_time_constant=time, blend_time_constant=blend, epsilon=EPSILON)
    outputs, saved = trained("cntk", f32(**names), map_rank=1, **constants)
    expected, mean, var, count = cntk(seen, time=time, blend=blend)
    for y, own in zip(outputs, expected, strict=True):
        assert_allclose(y, own, rtol=1e-5, atol=1e-5)
    close(saved, aggregate_mean=mean, aggregate_variance=var, aggregate_count=count)


def test_cntk_counts_samples_that_are_not_masked():
    names = dict(scale=GAMMA, bias=BETA, aggregate_mean=MEAN, aggregate_variance=VAR, aggregate_count=40)
    layer = weights.load("cntk", f32(**names), map_rank=1, normalization_time_constant=50.0)
    x = BATCHES[0].astype(np.float32)
    padded = np.concatenate([x, np.full_like(x[:2], np.nan)])
    y, stats = layer.settings.train(layer.params, layer.stats, padded, mask=np.arange(8) < 6)
    own, alone = layer.settings.train(layer.params, layer.stats, x)
    assert_allclose(y[:6], own, rtol=1e-5, atol=1e-6)
    for masked, expected in zip(stats, alone, strict=True):
        assert_allclose(masked, expected, rtol=1e-5, atol=1e-6)


def test_cntk_before_cudnn_5_averages_inverse_deviations():
    start = 1 / np.sqrt(VAR + EPSILON)
    arrays = f32(scale=GAMMA, bias=BETA, runMean=MEAN, runInvStdDev=start)
    layer = weights.load("cntk", arrays, map_rank=1, epsilon=EPSILON, normalization_time_constant=20)
    assert_allclose(layer.stats.var, VAR, rtol=1e-5)
    _, stats = layer.settings.train(layer.params, layer.stats, BATCHES[0].astype(np.float32))
    weight = 1 - math.exp(-6 / 20)
    inverse = (1 - weight) * start + weight / np.sqrt(BATCHES[0].var(AXES) + EPSILON)
    close(weights.save(layer.params, stats, layer.settings), runInvStdDev=inverse)


def test_statistics_pooled_over_a_mapped_axis():
    """Two halves on an axis are one batch, also for recurrences that count samples or invert."""
    x = BATCHES[0].astype(np.float32)
    names = dict(scale=GAMMA, bias=BETA, aggregate_mean=MEAN, aggregate_variance=VAR, aggregate_count=40)
    layer = weights.load(
        "cntk", f32(**names), map_rank=1, normalization_time_constant=50.0, blend_time_constant=3
    )

    def half(x):
        return layer.settings.train(layer.params, layer.stats, x, axis_name="half")

    y, stats = jax.vmap(half, axis_name="half")(x.reshape(2, 3, *x.shape[1:]))
    own, alone = layer.settings.train(layer.params, layer.stats, x)
    assert_allclose(y.reshape(x.shape), own, rtol=1e-5, atol=1e-5)
    for pooled, expected in zip(stats, alone, strict=True):
        assert_allclose(pooled[0], expected, rtol=1e-5, atol=1e-6)


def test_theano_deviations_of_the_first_function():
    arrays = f32(gamma=wide(GAMMA), beta=wide(BETA), mean=wide(MEAN), std=wide(np.sqrt(VAR)))
    layer = weights.load("theano", arrays)
    y = layer.settings.infer(layer.params, layer.stats, BATCHES[0].astype(np.float32))
    assert_allclose(y, normalized(BATCHES[0], MEAN, VAR, epsilon=0), rtol=1e-5, atol=1e-5)
    close(weights.save(layer), std=np.sqrt(VAR))


@pytest.mark.parametrize(
    ("framework", "shape", "arguments"),
    [
        ("theano", (1, 3, 2, 2), {}),
        ("theano", (3, 2, 2), {}),
        ("theano", (1, 3, 2, 2), {"axes": (0,)}),
        ("cntk", (3, 2, 2), {}),
        ("lasagne", (3, 2, 2), {"axes": 0}),
    ],
)
def test_every_activation_by_itself(framework, shape, arguments):
    names = {
        "theano": ("running_mean", "running_var"),
        "cntk": ("aggregate_mean", "aggregate_variance"),
        "lasagne": ("mean", "inv_std"),
    }[framework]
    mean, var = rng.normal(size=shape), rng.uniform(0.5, 2, shape)
    stored = 1 / np.sqrt(var + 1e-4) if framework == "lasagne" else var
    layer = weights.load(framework, f32(**dict(zip(names, (mean, stored), strict=True))), **arguments)
    epsilon = layer.settings.epsilon
    x = BATCHES[0].astype(np.float32)
    assert layer.settings.channel_axis == (1, 2, 3)
    assert_allclose(
        layer.settings.infer(layer.params, layer.stats, x),
        (x - mean) / np.sqrt(var + epsilon),
        rtol=1e-4,
        atol=1e-5,
    )
    y, _ = layer.settings.train(layer.params, layer.stats, x)
    assert_allclose(y, (x - x.mean(0)) / np.sqrt(x.var(0) + epsilon), rtol=1e-4, atol=1e-5)
    assert weights.save(layer)[names[0]].shape == shape


@pytest.mark.parametrize(
    ("framework", "shape", "arguments", "axis"),
    [
        ("keras3", (3,), {"axis": [1]}, 1),
        ("paddle", (3,), {"data_format": "NHWC"}, -1),
        ("paddle", (3,), {"data_format": None}, 1),
        ("caffe2", (3,), {"order": "NHWC"}, -1),
        ("tensorflow", (3,), {"data_format": "NCHW"}, 1),
        ("haiku", (1, 3, 1, 1), {"data_format": "NC...", "decay_rate": 0.9}, 1),
        ("haiku", (1, 1, 1, 3), {"axis": [0, 1, 2], "decay_rate": 0.9}, 3),
        ("lasagne", (3,), {"axes": (0, 1, 2)}, 3),
        ("lasagne", (1, 3, 1, 1), {}, 1),
        ("theano", (1, 3, 1, 1), {"axes": (0, 2, 3)}, 1),
        ("cntk", (3, 1), {"map_rank": 1}, 1),
        ("flax_linen", (3,), {"axis": 1}, 1),
    ],
)
def test_channels_stand_where_the_arguments_say(framework, shape, arguments, axis):
    mean, var = {
        "keras3": ("moving_mean", "moving_variance"),
        "paddle": ("_mean", "_variance"),
        "caffe2": ("rm", "riv"),
        "tensorflow": ("mean", "variance"),
        "haiku": ("mean_ema/average", "var_ema/average"),
        "lasagne": ("mean", "inv_std"),
        "theano": ("running_mean", "running_var"),
        "cntk": ("aggregate_mean", "aggregate_variance"),
        "flax_linen": ("mean", "var"),
    }[framework]
    arrays = f32(**{mean: np.zeros(shape), var: np.ones(shape)})
    if framework == "haiku":
        arrays["mean_ema/counter"] = np.array(3, np.int32)
    layer = weights.load(framework, arrays, **arguments)
    assert layer.settings.channel_axis == axis
    assert layer.stats.mean.shape == (3,)
    assert weights.save(layer)[mean].shape == shape


@pytest.mark.parametrize(
    ("arguments", "shape", "ddof"),
    [
        ({}, (8, 3), 0),
        ({}, (2, 4, 3), 0),
        ({}, (2, 2, 2, 3), 1),
        ({}, (2, 2, 2, 2, 3), 1),
        ({"axis": 3}, (2, 2, 2, 3, 2), 0),
        ({"fused": False}, (2, 2, 2, 3), 0),
        ({"synchronized": True}, (2, 2, 2, 3), 0),
        ({"dtype": "float64"}, (2, 2, 2, 3), 0),
    ],
)
def test_keras_2_is_unbiased_where_its_kernel_is_fused(arguments, shape, ddof):
    settings = weights.load("keras2", f32(moving_mean=MEAN, moving_variance=VAR), **arguments).settings
    assert settings.ddof_of(np.zeros(shape)) == ddof


@pytest.mark.parametrize(
    ("framework", "arguments", "names"),
    [
        ("keras3", {"trainable": False}, ("gamma", "beta", "moving_mean", "moving_variance")),
        ("mxnet", {"use_global_stats": True}, ("gamma", "beta", "running_mean", "running_var")),
        ("paddle", {"use_global_stats": True}, ("weight", "bias", "_mean", "_variance")),
    ],
)
def test_frozen_layers_normalise_with_running_statistics_in_training(framework, arguments, names):
    axis = {"axis": 1} if framework == "keras3" else {}
    values = f32(**dict(zip(names, (GAMMA, BETA, MEAN, VAR), strict=True)))
    layer = weights.load(framework, values, epsilon=EPSILON, **arguments, **axis)
    y, stats = layer.settings.train(layer.params, layer.stats, BATCHES[0].astype(np.float32))
    assert_allclose(y, normalized(BATCHES[0], MEAN, VAR), rtol=1e-5, atol=1e-5)
    assert (np.asarray(stats.mean) == layer.stats.mean).all()


def test_a_bias_that_gluon_does_not_train_has_no_gradient():
    arrays = f32(gamma=GAMMA, beta=BETA, running_mean=MEAN, running_var=VAR)
    layer = weights.load("mxnet", arrays, center=False)
    params = jax.tree.map(jax.numpy.asarray, layer.params)
    x = BATCHES[0].astype(np.float32)
    gradient = jax.grad(lambda params: (layer.settings.train(params, layer.stats, x)[0] ** 2).sum())(params)
    assert not np.asarray(gradient.bias).any()
    assert np.asarray(gradient.scale).any()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_types_are_kept(dtype):
    own = jax.numpy.dtype(dtype)
    arrays = {"running_mean": MEAN.astype(own), "running_var": VAR.astype(own)}
    arrays |= {"weight": GAMMA.astype(own), "bias": BETA.astype(own)}
    layer = weights.load("pytorch", arrays)
    assert layer.params.scale.dtype == layer.stats.var.dtype == own
    for name, value in weights.save(layer).items():
        assert value.dtype == own
        assert value.tobytes() == arrays[name].tobytes()


def test_64_bits_are_kept_where_jax_has_them():
    arrays = {"mean": MEAN, "inv_std": 1 / np.sqrt(VAR + 1e-4)}
    with jax.enable_x64(True):
        layer = weights.load("lasagne", arrays)
        y = layer.settings.infer(layer.params, layer.stats, BATCHES[0])
        assert_allclose(y, (BATCHES[0] - wide(MEAN)) / np.sqrt(wide(VAR) + 1e-4), rtol=1e-12)


def test_settings_are_static_under_jit_and_tell_layers_apart():
    arrays = f32(running_mean=MEAN, running_var=VAR)
    one, same = (weights.load("pytorch", arrays, affine=False).settings for _ in range(2))
    other = weights.load("pytorch", arrays, affine=False, momentum=0.2).settings
    assert hash(one) == hash(same)
    assert one == same
    assert one != other
