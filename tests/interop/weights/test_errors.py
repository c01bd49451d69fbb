"""What cannot be right is an error that names the layer and the array."""

import numpy as np
import pytest

import jbn
from jbn.errors import InputError
from jbn.interop import weights

ONES, ZEROS = np.ones(3, np.float32), np.zeros(3, np.float32)


def pytorch(**changes):
    arrays = {"weight": ONES, "bias": ZEROS, "running_mean": ZEROS, "running_var": ONES}
    arrays = {**arrays, "num_batches_tracked": np.array(3)}
    return {name: value for name, value in {**arrays, **changes}.items() if value is not None}


def caffe(factor):
    return {
        f"BatchNorm.blobs[{place}]": value for place, value in enumerate((ZEROS, ONES, np.array([factor])))
    }


def bad(place, value):
    array = ONES.copy()
    array[place] = value
    return array


HAIKU = {
    "mean_ema/average": ONES,
    "mean_ema/hidden": 0.1 * ONES,
    "mean_ema/counter": np.array(1, np.int32),
    "var_ema/average": ONES,
    "var_ema/hidden": 0.1 * ONES,
    "var_ema/counter": np.array(1, np.int32),
}

LOADING = [
    # names
    ("torch", pytorch(), {}, "unknown framework 'torch': did you mean"),
    ("pytorch", pytorch(running_men=ZEROS), {}, "unknown array 'running_men'; did you mean 'running_mean'"),
    ("pytorch", pytorch(running_var=None), {}, "array 'running_var' is missing; it has weight, bias"),
    ("pytorch", pytorch(running_mean=None, running_var=None), {}, "array 'running_mean' is missing"),
    ("pytorch", {}, {}, "array 'running_mean' is missing; it has none"),
    ("pytorch", pytorch(bias=None), {}, "it has 'weight' but not the other of scale and bias"),
    ("pytorch", pytorch(), {"affine": False}, "affine=False, but array 'weight' is there; leave it out"),
    (
        "pytorch",
        pytorch(weight=None, bias=None),
        {"affine": True},
        "affine=True, but array 'weight' is missing",
    ),
    (
        "pytorch",
        pytorch(),
        {"track_running_stats": False},
        "track_running_stats=False, but array 'running_mean'",
    ),
    (
        "keras3",
        {"moving_mean": ZEROS, "moving_variance": ONES},
        {"scale": True},
        "scale=True, but array 'gamma'",
    ),
    (
        "caffe",
        {"BatchNorm.blobs[0]": ZEROS, "BatchNorm.blobs[1]": ONES},
        {},
        r"'BatchNorm.blobs\[2\]' is missing",
    ),
    (
        "haiku",
        {"mean_ema/average": ZEROS, "var_ema/average": ONES},
        {"decay_rate": 0.9},
        "counter' is missing",
    ),
    (
        "dl4j",
        {"gamma": ONES, "mean": ZEROS, "log10stdev": ZEROS},
        {"lockGammaBeta": True},
        "has numbers in place of 'gamma'",
    ),
    # values
    (
        "pytorch",
        pytorch(running_var=bad(1, np.nan)),
        {},
        r"'running_var' must be finite, but is nan at \[1\]",
    ),
    ("pytorch", pytorch(weight=bad(2, np.inf)), {}, r"'weight' must be finite, but is inf at \[2\]"),
    (
        "pytorch",
        pytorch(running_var=bad(1, -0.2)),
        {},
        r"'running_var' must give .* at \[1\] the variance is -0.2",
    ),
    (
        "pytorch",
        pytorch(running_var=bad(0, -1e-5)),
        {},
        "'running_var' must give a finite variance above -eps",
    ),
    ("pytorch", pytorch(running_var=bad(0, 0.0)), {"eps": 0.0}, "with eps=0"),
    (
        "pytorch",
        pytorch(running_var=np.ones(3, int)),
        {},
        "'running_var' must have floating-point .* type int64",
    ),
    ("pytorch", pytorch(running_var="ones"), {}, "'running_var' must have floating-point numbers"),
    ("pytorch", pytorch(running_var=[[1.0], [1.0, 2.0]]), {}, "'running_var' must be an array of numbers"),
    (
        "pytorch",
        pytorch(running_mean=ONES.astype(complex)),
        {},
        "'running_mean' must have floating-point numbers",
    ),
    (
        "pytorch",
        pytorch(num_batches_tracked=np.array(-1)),
        {},
        "'num_batches_tracked' must be .* at least 0, but is -1",
    ),
    ("pytorch", pytorch(num_batches_tracked=np.ones(2)), {}, "'num_batches_tracked' must be a single number"),
    ("caffe", caffe(0.0), {}, r"scale factor 'BatchNorm.blobs\[2\]' is 0: nothing was ever summed"),
    ("caffe", caffe(-2.0), {}, r"'BatchNorm.blobs\[2\]' must be finite and at least 0, but is -2"),
    ("caffe", caffe(np.nan), {}, r"'BatchNorm.blobs\[2\]' must be finite"),
    ("lasagne", {"mean": ZEROS, "inv_std": bad(1, -1.0)}, {}, "'inv_std' holds .* positive, but is -1"),
    ("lasagne", {"mean": ZEROS, "inv_std": bad(1, 0.0)}, {}, r"'inv_std' holds 1 / sqrt\(var \+ epsilon\)"),
    ("dl4j", {"mean": ZEROS, "log10stdev": bad(1, 400.0)}, {}, "'log10stdev' must give a finite variance"),
    ("haiku", HAIKU, {"decay_rate": 0.99}, "'mean_ema/hidden' must be .* pass the layer's own decay_rate"),
    (
        "haiku",
        HAIKU | {"var_ema/counter": np.array(2)},
        {"decay_rate": 0.9},
        "'var_ema/counter' must count what",
    ),
    (
        "pytorch",
        pytorch(num_batches_tracked=None),
        {"momentum": None},
        "'num_batches_tracked' is missing, without",
    ),
    (
        "pytorch",
        {"num_batches_tracked": np.array(1)},
        {"track_running_stats": False},
        "keeps no running statistics",
    ),
    # shapes
    ("pytorch", pytorch(running_var=np.ones(4)), {}, r"shape \[3\] and 'running_var' \[4\]"),
    (
        "pytorch",
        pytorch(weight=np.ones((3, 2))),
        {},
        r"'weight' must have one entry a channel.* shape \[3, 2\]",
    ),
    (
        "pytorch",
        pytorch(weight=np.ones(0)),
        {},
        r"'weight' must have at least one entry, but has shape \[0\]",
    ),
    # arguments
    ("pytorch", pytorch(), {"epss": 1e-3}, "unknown argument 'epss'; did you mean 'eps'"),
    ("pytorch", pytorch(), {"eps": -1.0}, "eps must be a number at least 0, but got eps=-1.0"),
    ("pytorch", pytorch(), {"eps": "small"}, "eps must be a number at least 0"),
    ("pytorch", pytorch(), {"momentum": 1.5}, r"momentum must be a number in \[0, 1\], but got momentum=1.5"),
    ("haiku", HAIKU, {}, "decay_rate has no default; pass the layer's own decay_rate"),
    ("haiku", HAIKU, {"decay_rate": 1}, "decay_rate must be below 1"),
    ("haiku", HAIKU, {"decay_rate": 0.9, "data_format": "up"}, "data_format must name the axes"),
    (
        "keras3",
        {"moving_mean": ZEROS, "moving_variance": ONES},
        {"renorm": True},
        "renorm=True is another recurrence",
    ),
    ("keras2", {"moving_mean": ZEROS, "moving_variance": ONES}, {"virtual_batch_size": 4}, "train_ghost"),
    (
        "keras3",
        {"moving_mean": ZEROS, "moving_variance": ONES},
        {"axis": "last"},
        "axis must be a whole number",
    ),
    ("dl4j", {"mean": ZEROS, "var": ONES}, {"useLogStd": True}, "useLogStd=True, but array 'var' is there"),
    (
        "cntk",
        {"aggregate_mean": ZEROS, "aggregate_variance": ONES},
        {"map_rank": 2},
        "map_rank must be None or 1",
    ),
    (
        "cntk",
        {"aggregate_mean": ZEROS, "aggregate_variance": ONES},
        {"blend_time_constant": -1},
        "blend_time_constant must be at least 0",
    ),
    (
        "cntk",
        {"aggregate_mean": ZEROS, "aggregate_variance": ONES},
        {"normalization_time_constant": "long"},
        "normalization_time_constant must be a number",
    ),
    ("theano", {"running_mean": ZEROS, "running_var": ONES}, {"axes": "all"}, "axes must be a known word"),
    (
        "equinox",
        {"batch_state_index/0": ZEROS, "batch_state_index/1": ONES, "batch_counter": np.array(1)},
        {"mode": "ema"},
        "these are the arrays of mode='batch', but got mode='ema'",
    ),
]


@pytest.mark.parametrize(("framework", "arrays", "arguments", "words"), LOADING)
def test_loading(framework, arrays, arguments, words):
    with pytest.raises(InputError, match=words) as error:
        weights.load(framework, arrays, name="bn1", **arguments)
    if not words.startswith("unknown framework"):
        assert "batch norm 'bn1'" in str(error.value)


def test_loading_what_is_no_mapping():
    with pytest.raises(InputError, match="takes a mapping of names to arrays, but got list"):
        weights.load("pytorch", [ONES])


def changed(layer, **parts):
    return weights.save(layer._replace(**parts))


def test_saving():
    layer = weights.load("pytorch", pytorch(), name="bn1")
    with pytest.raises(InputError, match="array 'running_var' has 3 entries, but got"):
        changed(layer, stats=layer.stats._replace(var=np.ones(4)))
    with pytest.raises(InputError, match="'running_mean' must be finite, but mean gives what is not"):
        changed(layer, stats=layer.stats._replace(mean=bad(0, np.nan)))
    with pytest.raises(InputError, match="array 'weight' is scale, but the parameters have none"):
        changed(layer, params=None)
    with pytest.raises(InputError, match="it keeps running statistics, but got stats=None"):
        changed(layer, stats=None)
    with pytest.raises(InputError, match="save takes what load returned, or params, stats and settings"):
        weights.save(layer.params, layer.stats)
    with pytest.raises(InputError, match="takes the settings that load returned, but got dict"):
        weights.save(layer.params, layer.stats, {})
    with pytest.raises(InputError, match="steps must be a whole number of at least 0, but got steps=-1"):
        weights.save(layer, steps=-1)


def test_saving_what_the_framework_cannot_store():
    layer = weights.load("dl4j", {"mean": ZEROS, "log10stdev": ZEROS})
    with pytest.raises(InputError, match="'log10stdev' must be finite, but var gives what is not"):
        changed(layer, stats=layer.stats._replace(var=bad(0, -1e-6)))


def test_saving_a_constant_that_was_changed():
    arrays = {"gamma": ONES, "beta": ZEROS, "moving_mean": ZEROS, "moving_var": ONES}
    layer = weights.load("mxnet", arrays)
    with pytest.raises(InputError, match="its scale is always 1, but got another one"):
        changed(layer, params=layer.params._replace(scale=bad(1, 2.0)))


def test_saving_a_counter_that_the_steps_do_not_explain():
    layer = weights.load("haiku", HAIKU, decay_rate=0.9)
    count = np.float32(1 + 0.9 + 0.81)
    with pytest.raises(
        InputError, match=r"after 1 steps the count .* is 1, but it is 2.71, which about 3 steps make"
    ):
        changed(layer, stats=layer.stats._replace(count=count))
    saved = weights.save(layer.params, layer.stats._replace(count=count), layer.settings, steps=2)
    assert saved["mean_ema/counter"] == 3


def test_arguments_of_a_rule_that_is_no_average_of_variances():
    layer = weights.load("lasagne", {"mean": ZEROS, "inv_std": ONES})
    with pytest.raises(InputError, match=r"no single average of variances.* call the settings' own train"):
        layer.settings.arguments()
    with pytest.raises(InputError, match="depends on how many axes x has; pass x"):
        weights.load("keras2", {"moving_mean": ZEROS, "moving_variance": ONES}).settings.arguments()


def test_weights_are_reachable_by_the_package():
    assert jbn.interop.weights.load is weights.load
    assert "weights" in dir(jbn.interop)
    with pytest.raises(AttributeError, match="no attribute 'weigths'"):
        jbn.interop.weigths  # noqa: B018
