"""What eleven frameworks really computed, step by step, against what their weights do here."""

import functools
import json
import pathlib

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose

from jbn import batch_norm
from jbn.interop import weights
from jbn.interop.weights import Settings

RECORDINGS = pathlib.Path(__file__).parents[3] / ".." / "shared" / "data" / "batch_norm_frameworks"
FRAMEWORKS = {
    "caffe_eval_scaled": "caffe",
    "caffe_eval_tiny_negative_variance": "caffe",
    "caffe2_4d": "caffe2",
    "cntk_2d": "cntk",
    "cntk_4d": "cntk",
    "keras2_2d": "keras2",
    "keras2_4d": "keras2",
    "keras3_2d": "keras3",
    "keras3_4d": "keras3",
    "lasagne_2d": "lasagne",
    "lasagne_4d": "lasagne",
    "mxnet_gluon_2d": "mxnet",
    "mxnet_gluon_4d": "mxnet",
    "mxnet_op_fix_gamma_4d": "mxnet",
    "paddle_2d": "paddle",
    "paddle_4d": "paddle",
    "pytorch_2d": "pytorch",
    "pytorch_4d": "pytorch",
    "pytorch_cumulative": "pytorch",
    "pytorch_options": "pytorch",
    "tensorflow_fused_4d": "tensorflow",
    "tensorflow_nn_4d": "tensorflow",
    "theano_2d": "theano",
    "theano_4d": "theano",
}
ONLY_INFERENCE = {"caffe_eval_scaled", "caffe_eval_tiny_negative_variance", "tensorflow_nn_4d"}

every = pytest.mark.parametrize("case", FRAMEWORKS)
trained = pytest.mark.parametrize("case", [case for case in FRAMEWORKS if case not in ONLY_INFERENCE])
train = jax.jit(Settings.train, static_argnums=0)
infer = jax.jit(Settings.infer, static_argnums=0)


@functools.cache
def recorded(case):
    path = RECORDINGS / f"{case}.npz"
    if not path.exists():
        pytest.skip(f"no {path.name} in ../shared/data/batch_norm_frameworks")
    with np.load(path) as arrays:
        everything = {name: arrays[name] for name in arrays.files}
    return everything, json.loads(str(everything.pop("meta")))["arguments"]


def state(case, step):
    arrays, arguments = recorded(case)
    prefix = f"state{step}/"
    own = {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
    return own, arguments


def load(case, step):
    arrays, arguments = state(case, step)
    return weights.load(FRAMEWORKS[case], arrays, **arguments)


def from_the_start(case):
    """The layer before its first batch, as its framework makes it."""
    arrays, arguments = state(case, 0)
    initial = {"mean": 0.0, "running_mean": 0.0, "var": 1.0, "num_batches_tracked": 0}
    initial |= {name: 0.0 for name in ("moving_mean", "_mean", "rm", "aggregate_mean", "aggregate_count")}
    initial |= {name: 1.0 for name in ("moving_variance", "moving_var", "running_var", "_variance", "riv")}
    initial |= {"inv_std": 1.0, "variance": 1.0, "aggregate_variance": 0.0}
    fresh = {
        name: np.full_like(value, initial[name]) if name in initial else value
        for name, value in arrays.items()
    }
    return weights.load(FRAMEWORKS[case], fresh, **arguments)


def steps(case, layer, first):
    """Outputs, statistics, and the layer recorded after the step."""
    stats = layer.stats
    for step in range(first, 3):
        after = load(case, step)
        y, stats = train(layer.settings, after.params, stats, recorded(case)[0][f"x{step}"])
        yield step, y, stats, after


@every
def test_inference(case):
    layer, (arrays, _) = load(case, 2), recorded(case)
    y = infer(layer.settings, layer.params, layer.stats, arrays["x_eval"])
    assert_allclose(y, arrays["y_eval"], rtol=1e-5, atol=1e-6)


@every
def test_inference_by_the_functions_of_batch_norm_alone(case):
    layer, (arrays, _) = load(case, 2), recorded(case)
    function = functools.partial(batch_norm.infer, channel_axis=layer.settings.channel_axis)
    y = jax.jit(function)(layer.params, layer.stats, arrays["x_eval"], epsilon=layer.settings.epsilon)
    assert_allclose(y, arrays["y_eval"], rtol=1e-5, atol=1e-6)


@trained
@pytest.mark.parametrize("first", [0, 1])
def test_training_goes_on(case, first):
    layer = load(case, 0) if first else from_the_start(case)
    for step, y, stats, after in steps(case, layer, first):
        assert_allclose(y, recorded(case)[0][f"y{step}"], rtol=1e-5, atol=1e-5)
        assert_allclose(stats.mean, after.stats.mean, rtol=1e-5, atol=1e-6)
        assert_allclose(stats.var, after.stats.var, rtol=1e-5)
        assert_allclose(stats.count, after.stats.count, rtol=1e-5)


@trained
def test_what_is_saved_after_training_is_what_the_framework_had(case):
    layer = load(case, 0)
    *_, (_, _, stats, after) = steps(case, layer, 1)
    saved = weights.save(after.params, stats, layer.settings, steps=2)
    arrays, _ = state(case, 2)
    for name, value in arrays.items():
        assert_allclose(saved[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
        assert (saved[name].shape, saved[name].dtype) == (value.shape, value.dtype)


@every
def test_saved_as_loaded(case):
    arrays, _ = state(case, 2)
    layer = load(case, 2)
    saved = weights.save(layer)
    assert list(saved) == list(arrays)
    for name, value in arrays.items():
        assert (saved[name].shape, saved[name].dtype) == (value.shape, value.dtype)
        role = dict(layer.settings.form.arrays)[name]
        converted = role in ("mean", "var") and layer.settings.form.divided
        if converted or (role == "var" and not layer.settings.form.stored.as_it_is):
            assert_allclose(saved[name], value, rtol=1e-6)
        else:
            assert saved[name].tobytes() == value.tobytes()


@pytest.mark.parametrize("case", [case for case in FRAMEWORKS if case.startswith("pytorch")])
def test_gradients_of_pytorch(case):
    layer, arrays = from_the_start(case), recorded(case)[0]
    stats = layer.stats
    for step in range(3):
        params, x = load(case, step).params, arrays[f"x{step}"]

        def output(params, x, stats=stats):
            return layer.settings.train(params, stats, x)

        def back(params, x, dy, output=output):
            _, vjp, after = jax.vjp(output, params, x, has_aux=True)
            return vjp(dy), after

        (dparams, dx), stats = jax.jit(back)(params, x, arrays[f"dy{step}"])
        assert_allclose(dx, arrays[f"dx{step}"], rtol=1e-5, atol=1e-5)
        assert_allclose(dparams.scale, arrays[f"dweight{step}"], rtol=1e-5, atol=1e-5)
        assert_allclose(dparams.bias, arrays[f"dbias{step}"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "case", ["keras2_4d", "pytorch_cumulative", "tensorflow_fused_4d", "mxnet_op_fix_gamma_4d"]
)
def test_plain_rules_are_arguments_of_batch_norm(case):
    layer, after, (arrays, _) = load(case, 0), load(case, 1), recorded(case)
    arguments = layer.settings.arguments(arrays["x1"])
    y, stats = jax.jit(functools.partial(batch_norm.train, **arguments))(
        after.params, layer.stats, arrays["x1"]
    )
    assert_allclose(y, arrays["y1"], rtol=1e-5, atol=1e-5)
    assert_allclose(stats.mean, after.stats.mean, rtol=1e-5, atol=1e-6)
    assert_allclose(stats.var, after.stats.var, rtol=1e-5)


def test_a_scale_that_is_fixed_is_kept_as_it_was_and_has_no_gradient():
    layer, arrays = load("mxnet_op_fix_gamma_4d", 0), recorded("mxnet_op_fix_gamma_4d")[0]
    gradient = jax.grad(lambda params: layer.settings.train(params, layer.stats, arrays["x1"])[0].sum())
    assert (layer.params.scale == 1).all()
    assert not np.asarray(gradient(jax.tree.map(jax.numpy.asarray, layer.params)).scale).any()
    assert weights.save(layer)["gamma"].tobytes() == arrays["state0/gamma"].tobytes()


def test_a_slightly_negative_variance_is_accepted():
    assert load("caffe_eval_tiny_negative_variance", 2).stats.var[0] < 0
