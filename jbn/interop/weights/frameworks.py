"""Every framework's batch norm as data: one entry a generation of its layer."""

import math
from collections.abc import Mapping
from dataclasses import replace

from jbn.interop.weights import adjustments, axes
from jbn.interop.weights.forms import Form, Role
from jbn.interop.weights.stored import DEVIATION, INVERSE, LOG10, WITH_EPSILON

Arrays = tuple[tuple[str, Role], ...]


def _arrays(scale: str, bias: str, mean: str, var: str, *counters: str) -> Arrays:
    counting: Arrays = tuple((name, "counter") for name in counters)
    return ((scale, "scale"), (bias, "bias"), (mean, "mean"), (var, "var"), *counting)


def _kept(*names: str) -> Arrays:
    return tuple((name, "kept") for name in names)


_CAFFE = Form(
    framework="Caffe",
    arrays=(
        ("BatchNorm.blobs[0]", "mean"),
        ("BatchNorm.blobs[1]", "var"),
        ("BatchNorm.blobs[2]", "counter"),
        ("Scale.blobs[0]", "scale"),
        ("Scale.blobs[1]", "bias"),
    ),
    epsilon=("eps", 1e-5),
    momentum=("moving_average_fraction", 0.999, "old"),
    ddof=1,
    counter="sums",
    divided=True,
    switches=(("bias_term", ("bias",)),),
    axes=axes.by_number("axis"),
    others=(("axis", 1), ("use_global_stats", False)),
    ignored=("engine", "num_axes", "filler", "bias_filler"),
    adjust=adjustments.frozen_if("use_global_stats"),
)
_CAFFE2 = Form(
    framework="Caffe2",
    arrays=_arrays("s", "b", "rm", "riv") + _kept("sm", "siv"),
    epsilon=("epsilon", 1e-5),
    momentum=("momentum", 0.9, "old"),
    axes=axes.by_format("order"),
    others=(("order", "NCHW"),),
    ignored=("is_test",),
)
_CNTK = Form(
    framework="CNTK",
    arrays=_arrays("scale", "bias", "aggregate_mean", "aggregate_variance", "aggregate_count"),
    epsilon=("epsilon", 1e-5),
    momentum=None,
    ddof=1,
    counter="samples",
    axes=axes.of_cntk,
    others=(("map_rank", None), ("normalization_time_constant", 5000), ("blend_time_constant", 0)),
    ignored=("init_scale", "use_cntk_engine", "disable_regularization"),
    adjust=adjustments.of_cntk,
)
_CNTK_BRAINSCRIPT = replace(_CNTK, arrays=_arrays("scale", "bias", "runMean", "runVariance", "runCount"))
_CNTK_1 = replace(
    _CNTK,
    arrays=_arrays("scale", "bias", "runMean", "runInvStdDev", "runCount"),
    stored=INVERSE,
    averages="inverse deviation",
    ddof=0,
)
_DL4J = Form(  # useLogStd=False
    framework="DL4J",
    arrays=_arrays("gamma", "beta", "mean", "var"),
    epsilon=("eps", 1e-5),
    momentum=("decay", 0.9, "old"),
    axes=axes.by_format("cnn2DFormat"),
    others=(
        ("lockGammaBeta", False),
        ("gamma", 1.0),
        ("beta", 0.0),
        ("minibatch", True),
        ("cnn2DFormat", "NCHW"),
        ("useLogStd", False),
    ),
    ignored=("nIn", "nOut"),
    adjust=adjustments.of_dl4j(log=False),
)
_DL4J_LOG10 = replace(
    _DL4J,
    arrays=_arrays("gamma", "beta", "mean", "log10stdev"),
    stored=LOG10,
    others=(*_DL4J.others[:-1], ("useLogStd", True)),
    adjust=adjustments.of_dl4j(log=True),
)
_DL4J_OLD = replace(_DL4J, stored=WITH_EPSILON, others=_DL4J.others[:-1])
_KERAS = Form(
    framework="Keras 3",
    arrays=_arrays("gamma", "beta", "moving_mean", "moving_variance"),
    epsilon=("epsilon", 1e-3),
    momentum=("momentum", 0.99, "old"),
    switches=(("center", ("bias",)), ("scale", ("scale",))),
    axes=axes.by_number("axis"),
    others=(("axis", -1), ("trainable", True), ("renorm", False)),
    ignored=(
        "*_initializer",
        "*_regularizer",
        "*_constraint",
        "renorm_*",
        "*input_shape",
        "autocast",
        "dtype",
        "synchronized",
    ),
    adjust=adjustments.of_keras,
)
_KERAS_2 = replace(
    _KERAS,
    framework="Keras 2",
    ddof_in_images=1,
    others=(
        *_KERAS.others,
        ("fused", None),
        ("dtype", None),
        ("synchronized", False),
        ("virtual_batch_size", None),
        ("adjustment", None),
    ),
    adjust=adjustments.of_keras2,
)
_LASAGNE = Form(
    framework="Lasagne",
    arrays=(("beta", "bias"), ("gamma", "scale"), ("mean", "mean"), ("inv_std", "var")),
    epsilon=("epsilon", 1e-4),
    momentum=("alpha", 0.1, "new"),
    stored=INVERSE,
    averages="inverse deviation",
    axes=axes.of_lasagne,
    others=(("axes", "auto"),),
    ignored=("mode", "beta", "gamma", "mean", "inv_std", "incoming"),
)
_MXNET_OPERATOR = Form(
    framework="MXNet",
    arrays=_arrays("gamma", "beta", "moving_mean", "moving_var"),
    epsilon=("eps", 1e-3),
    momentum=("momentum", 0.9, "old"),
    axes=axes.by_number("axis"),
    others=(("axis", 1), ("fix_gamma", True), ("use_global_stats", False)),
    ignored=("output_mean_var", "cudnn_off"),
    adjust=adjustments.of_mxnet_operator,
)
_MXNET_GLUON = replace(
    _MXNET_OPERATOR,
    arrays=_arrays("gamma", "beta", "running_mean", "running_var"),
    epsilon=("epsilon", 1e-5),
    others=(("axis", 1), ("scale", True), ("center", True), ("use_global_stats", False)),
    ignored=("in_channels", "*_initializer", "prefix", "params"),
    adjust=adjustments.of_mxnet_gluon,
)
_PADDLE = Form(
    framework="PaddlePaddle",
    arrays=_arrays("weight", "bias", "_mean", "_variance"),
    epsilon=("epsilon", 1e-5),
    momentum=("momentum", 0.9, "old"),
    axes=axes.by_format("data_format"),
    others=(("data_format", "NCHW"), ("use_global_stats", None)),
    ignored=("num_features", "weight_attr", "bias_attr"),
    adjust=adjustments.frozen_if("use_global_stats"),
)
_TENSORFLOW = Form(
    framework="TensorFlow",
    arrays=(("mean", "mean"), ("variance", "var"), ("offset", "bias"), ("scale", "scale")),
    epsilon=("variance_epsilon", None),
    momentum=None,
    axes=axes.by_number("axis"),
    others=(("axis", -1),),
)
_TENSORFLOW_FUSED = Form(
    framework="TensorFlow",
    arrays=_arrays("scale", "offset", "mean", "variance"),
    epsilon=("epsilon", 1e-3),
    momentum=("exponential_avg_factor", 1.0, "new"),
    ddof=1,
    axes=axes.by_format("data_format"),
    others=(("data_format", "NHWC"),),
    ignored=("is_training",),
)
_THEANO = Form(
    framework="Theano",
    arrays=_arrays("gamma", "beta", "running_mean", "running_var"),
    epsilon=("epsilon", 1e-4),
    momentum=("running_average_factor", 0.1, "new"),
    ddof=1,
    axes=axes.of_theano,
    others=(("axes", "per-activation"),),
)
_THEANO_DEVIATION = Form(
    framework="Theano",
    arrays=_arrays("gamma", "beta", "mean", "std"),
    epsilon=("epsilon", 0.0),
    momentum=None,
    stored=DEVIATION,
    axes=axes.of_broadcast,
    ignored=("mode",),
)
_TORCH7 = Form(
    framework="Torch7",
    arrays=_arrays("weight", "bias", "running_mean", "running_var") + _kept("save_mean", "save_std"),
    epsilon=("eps", 1e-5),
    momentum=("momentum", 0.1, "new"),
    ddof=1,
    switches=(("affine", ("scale", "bias")),),
    ignored=("nOutput", "nDim"),
    adjust=adjustments.of_torch7,
    apart=False,
)
_TORCH7_1 = replace(
    _TORCH7,
    arrays=_arrays("weight", "bias", "running_mean", "running_std"),
    stored=INVERSE,
    averages="inverse deviation",
    ddof=0,
)
_PYTORCH = Form(
    framework="PyTorch",
    arrays=_arrays("weight", "bias", "running_mean", "running_var", "num_batches_tracked"),
    epsilon=("eps", 1e-5),
    momentum=("momentum", 0.1, "new"),
    ddof=1,
    switches=(
        ("affine", ("scale", "bias")),
        ("bias", ("bias",)),
        ("track_running_stats", ("mean", "var")),
    ),
    ignored=("num_features", "device", "dtype", "process_group"),
    adjust=adjustments.of_pytorch,
    no_momentum=True,
    apart=False,
)
_LINEN = Form(
    framework="flax.linen",
    arrays=_arrays("scale", "bias", "mean", "var"),
    epsilon=("epsilon", 1e-5),
    momentum=("momentum", 0.99, "old"),
    switches=(("use_scale", ("scale",)), ("use_bias", ("bias",))),
    axes=axes.by_number("axis"),
    others=(("axis", -1),),
    ignored=(
        "use_running_average",
        "*dtype",
        "*_init",
        "axis_name",
        "axis_index_groups",
        "use_fast_variance",
        "force_float32_reductions",
    ),
)
_NNX = replace(_LINEN, framework="flax.nnx", ignored=(*_LINEN.ignored, "num_features", "rngs", "*_metadata"))
_EQUINOX = Form(  # mode="batch"
    framework="equinox",
    arrays=_arrays("weight", "bias", "batch_state_index/0", "batch_state_index/1", "batch_counter"),
    epsilon=("eps", 1e-5),
    momentum=("momentum", 0.99, "old"),
    counter="debiased",
    divided=True,
    switches=(("channelwise_affine", ("scale", "bias")),),
    others=(("mode", None),),
    ignored=("input_size", "axis_name", "inference", "dtype"),
    adjust=adjustments.mode("batch", {"first_batch": "adds"}),
    apart=False,
)
_EQUINOX_EMA = replace(
    _EQUINOX,
    arrays=_arrays("weight", "bias", "ema_state_index/0", "ema_state_index/1", "ema_first_time_index"),
    counter="first",
    divided=False,
    adjust=adjustments.mode("ema", {"first_batch": "replaces", "blend": math.inf}),
)
_HAIKU = Form(
    framework="haiku",
    arrays=(
        *_arrays("scale", "offset", "mean_ema/average", "var_ema/average"),
        ("mean_ema/hidden", "hidden mean"),
        ("var_ema/hidden", "hidden var"),
        ("mean_ema/counter", "counter"),
        ("var_ema/counter", "counter"),
    ),
    epsilon=("eps", 1e-5),
    momentum=("decay_rate", None, "old"),
    counter="debiased",
    switches=(("create_scale", ("scale",)), ("create_offset", ("bias",))),
    axes=axes.of_haiku,
    others=(("data_format", "channels_last"), ("axis", None)),
    ignored=("scale_init", "offset_init", "cross_replica_*"),
)

FORMS: Mapping[str, tuple[Form, ...]] = {
    "caffe": (_CAFFE,),
    "caffe2": (_CAFFE2,),
    "cntk": (_CNTK, _CNTK_BRAINSCRIPT, _CNTK_1),
    "dl4j": (_DL4J_LOG10, _DL4J_OLD, _DL4J),
    "keras2": (_KERAS_2,),
    "keras3": (_KERAS,),
    "lasagne": (_LASAGNE,),
    "mxnet": (_MXNET_OPERATOR, _MXNET_GLUON),
    "paddle": (_PADDLE,),
    "tensorflow": (_TENSORFLOW_FUSED, _TENSORFLOW),
    "theano": (_THEANO, _THEANO_DEVIATION),
    "torch7": (_TORCH7, _TORCH7_1),
    "pytorch": (_PYTORCH,),
    "flax_linen": (_LINEN,),
    "flax_nnx": (_NNX,),
    "equinox": (_EQUINOX, _EQUINOX_EMA),
    "haiku": (_HAIKU,),
}
