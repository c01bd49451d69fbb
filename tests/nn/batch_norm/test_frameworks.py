"""What PyTorch's own layers computed: its momentum weighs the new value, its running variance is unbiased."""

import functools
import json
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from jbn import batch_norm
from jbn.nn.batch_norm import BatchNormParams, BatchNormStats

RECORDINGS = pathlib.Path(__file__).parents[3] / ".." / "shared" / "data" / "batch_norm_frameworks"
CHANNELS = 5
STEPS = 3

cases = pytest.mark.parametrize("case", ["2d", "4d", "cumulative", "options"])
infer = jax.jit(functools.partial(batch_norm.infer, channel_axis=1))


class Recording(NamedTuple):
    """Arrays of one layer, `[batch, channels, ...]`, and its settings in the words of this package."""

    arrays: dict[str, np.ndarray]
    momentum: float
    count: float
    epsilon: float

    def params(self, step):
        return BatchNormParams(self.arrays[f"state{step}/weight"], self.arrays[f"state{step}/bias"])


@functools.cache
def pytorch(case):
    path = RECORDINGS / f"pytorch_{case}.npz"
    if not path.exists():
        pytest.skip(f"no {path.name} in ../shared/data/batch_norm_frameworks")
    with np.load(path) as arrays:
        recorded = {name: arrays[name] for name in arrays.files}
    arguments = json.loads(str(recorded.pop("meta")))["arguments"]
    new = arguments.get("momentum", 0.1)
    cumulative = new is None
    momentum, count = (1.0, 0.0) if cumulative else (1 - new, 1 / new)
    return Recording(recorded, momentum, count, arguments.get("eps", 1e-5))


@jax.jit
def train_and_back(params, stats, x, dy, momentum, epsilon):
    def train(params, x):
        return batch_norm.train(params, stats, x, momentum=momentum, epsilon=epsilon, channel_axis=1, ddof=1)

    y, back, after = jax.vjp(train, params, x, has_aux=True)
    return y, after, back(dy)


def steps(recording):
    """What this package makes of the recorded batches, one step after another."""
    _, stats = batch_norm.init(CHANNELS, count=recording.count)
    for i in range(STEPS):
        x, dy = recording.arrays[f"x{i}"], recording.arrays[f"dy{i}"]
        settings = recording.momentum, recording.epsilon
        y, stats, gradients = train_and_back(recording.params(i), stats, x, dy, *settings)
        yield y, stats, gradients


@cases
def test_outputs_of_training(case):
    recording = pytorch(case)
    for i, (y, _, _) in enumerate(steps(recording)):
        assert_allclose(y, recording.arrays[f"y{i}"], rtol=1e-5, atol=1e-5)


@cases
def test_running_statistics(case):
    recording = pytorch(case)
    for i, (_, stats, _) in enumerate(steps(recording)):
        assert_allclose(stats.mean, recording.arrays[f"state{i}/running_mean"], rtol=1e-5, atol=1e-6)
        assert_allclose(stats.var, recording.arrays[f"state{i}/running_var"], rtol=1e-5)
        tracked = float(recording.arrays[f"state{i}/num_batches_tracked"])
        assert_allclose(stats.count, tracked if case == "cumulative" else recording.count, rtol=1e-6)


@cases
def test_gradients(case):
    recording = pytorch(case)
    for i, (_, _, (dparams, dx)) in enumerate(steps(recording)):
        assert_allclose(dx, recording.arrays[f"dx{i}"], rtol=1e-5, atol=1e-5)
        assert_allclose(dparams.scale, recording.arrays[f"dweight{i}"], rtol=1e-5, atol=1e-5)
        assert_allclose(dparams.bias, recording.arrays[f"dbias{i}"], rtol=1e-5, atol=1e-5)


@cases
def test_inference_with_own_statistics(case):
    recording = pytorch(case)
    *_, (_, stats, _) = steps(recording)
    y = infer(recording.params(2), stats, recording.arrays["x_eval"], epsilon=recording.epsilon)
    assert_allclose(y, recording.arrays["y_eval"], rtol=1e-5, atol=1e-5)


@cases
def test_inference_with_recorded_statistics(case):
    recording = pytorch(case)
    mean, var = (recording.arrays[f"state2/running_{name}"] for name in ("mean", "var"))
    stats = BatchNormStats(mean, var, np.float32(recording.count))
    y = infer(recording.params(2), stats, recording.arrays["x_eval"], epsilon=recording.epsilon)
    assert_allclose(y, recording.arrays["y_eval"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("momentum", "ddof"), [(0.9, 0), (0.1, 1), (0.1, 0)])
def test_other_conventions_are_visibly_off(momentum, ddof):
    """The biased variance, and momentum the other way round."""
    recording = pytorch("2d")
    _, stats = batch_norm.init(CHANNELS, count=1 / (1 - momentum))
    batch = batch_norm.moments(jnp.asarray(recording.arrays["x0"]))
    after = batch_norm.update(stats, batch, momentum=momentum, ddof=ddof)
    assert np.abs(after.var / recording.arrays["state0/running_var"] - 1).max() > 1e-3
