import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from jbn.nn import layers
from jbn.nn.model import Padded

KEY = jax.random.key(0)
SETTINGS = {
    "layers": 2,
    "units": 5,
    "activation": "relu",
    "batch_norm": "after",
    "initial_scale": 0.5,
    "batch_norm_scale": True,
    "batch_norm_bias": True,
    "bias": True,
    "outputs": 3,
}


def initial(window=(), positions=(), inputs=2, **changed):
    settings = {**SETTINGS, **changed}
    run = jax.jit(
        lambda: layers.init(settings, KEY, inputs=inputs, size="units", window=window, positions=positions)
    )
    return run()


def test_kernels_have_the_window_and_the_positions_in_front():
    params, stats = initial(window=(3, 2), positions=(4,), units_2=6)
    assert params["layer_1"]["kernel"].shape == (3, 2, 2, 5)
    assert params["layer_2"]["kernel"].shape == (3, 2, 5, 6)
    assert params["output"]["kernel"].shape == (4, 6, 3)
    assert [params[name]["bias"].shape for name in params] == [(5,), (6,), (3,)]
    assert {name: running.mean.shape for name, running in stats.items()} == {"layer_1": (5,), "layer_2": (6,)}


def test_padded_kernels_have_the_exact_ones_as_their_corner_and_0_elsewhere():
    arguments = {"window": (3, 3), "positions": (4,)}
    exact, _ = initial(**arguments)
    padded, _ = initial(**arguments, units=Padded(jnp.asarray(5), 8))
    for name, layer in exact.items():
        own, large = np.asarray(layer["kernel"]), np.array(padded[name]["kernel"])
        corner = tuple(slice(size) for size in own.shape)
        assert_allclose(large[corner], own, rtol=1e-6)
        large[corner] = 0
        assert_array_equal(large, np.zeros_like(large))
        assert np.unique(own).size == own.size


def test_the_fan_in_counts_window_and_positions():
    params, _ = initial(window=(3, 3), positions=(16,), inputs=7, units=40, outputs=60)
    for name, deviation in [
        ("layer_1", np.sqrt(2 / (9 * 7))),
        ("layer_2", np.sqrt(2 / (9 * 40))),
        ("output", np.sqrt(1 / (16 * 40))),
    ]:
        kernel = np.asarray(params[name]["kernel"], np.float64) / (0.5 * deviation)
        # 4.5 standard errors; a uniform distribution's fourth moment is 9/5
        assert abs(kernel.mean()) < 4.5 / np.sqrt(kernel.size)
        assert abs((kernel**2).mean() - 1) < 4.5 * np.sqrt(0.8 / kernel.size)


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_padding_is_0_along_the_last_axis_alone(rank):
    a = jnp.full((2,) * (rank - 1) + (4,), jnp.nan)
    kept = layers.keep(a, Padded(jnp.asarray(3), 4))
    assert jnp.isnan(kept[..., :3]).all()
    assert (kept[..., 3] == 0).all()
    assert layers.keep(a, 4) is a


def test_without_batch_norm_nothing_else_is_lost_and_the_original_stays():
    params = {"layer_1": {"kernel": 1, "batch_norm": 2}, "output": {"kernel": 3, "bias": 4}}
    assert layers.without_batch_norm(params) == {"layer_1": {"kernel": 1}, "output": {"kernel": 3, "bias": 4}}
    assert params["layer_1"] == {"kernel": 1, "batch_norm": 2}


def test_masked_rows_are_0_whatever_they_hold():
    x = jnp.array([[[1.0]], [[jnp.nan]]])
    assert layers.without_masked(x, jnp.array([True, False])).ravel().tolist() == [1, 0]
    assert layers.without_masked(x, None) is x
