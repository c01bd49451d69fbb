import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from jbn.nn.batch_norm import BatchNormParams, BatchNormStats
from jbn.nn.mlp import mlp
from jbn.nn.model import Padded

FEATURES, OUTPUTS, ROWS = 6, 4, 9


def network(batch_norm, bias, hyper, **options):
    """A network none of whose parameters and statistics has its initial value."""
    model = mlp(layers=3, hidden_units=5, activation="tanh", batch_norm=batch_norm, bias=bias, **options)
    hyper = {"outputs": OUTPUTS, "batch_norm_epsilon": jnp.float32(1e-3), **hyper}
    rng = np.random.default_rng(0)
    x = jax.ShapeDtypeStruct((1, FEATURES), "float32")
    params, stats = jax.jit(lambda key: model.init(key, hyper, x))(jax.random.key(0))

    def moved(node):
        if isinstance(node, BatchNormParams):
            return jax.tree.map(lambda leaf: rng.normal(1, 0.5, leaf.shape).astype(np.float32), node)
        if isinstance(node, BatchNormStats):
            mean, var = rng.normal(0, 1, node.mean.shape), rng.uniform(0.2, 2, node.var.shape)
            return BatchNormStats(mean.astype(np.float32), var.astype(np.float32), node.count)
        return node

    def is_layer(node):
        return isinstance(node, BatchNormParams | BatchNormStats)

    params, stats = jax.tree.map(moved, (params, stats), is_leaf=is_layer)
    return model, params, stats, hyper, rng.normal(size=(ROWS, FEATURES)).astype(np.float32)


SIZES = {"exact": {}, "padded": {f"hidden_units_{i}": Padded(jnp.asarray(3 + i), 8) for i in (1, 2, 3)}}


@pytest.mark.parametrize("batch_norm", ["before", "after"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("sizes", SIZES)
def test_a_folded_network_has_no_batch_norm_and_the_same_outputs(batch_norm, bias, sizes):
    assert_folds(*network(batch_norm, bias, SIZES[sizes]))


@pytest.mark.parametrize("batch_norm", ["before", "after"])
@pytest.mark.parametrize("there", ["scale", "bias", "none"])
def test_so_has_one_whose_batch_norm_has_not_all_parameters(batch_norm, there):
    parts = {"batch_norm_scale": there == "scale", "batch_norm_bias": there == "bias"}
    assert_folds(*network(batch_norm, True, {}, **parts))


def assert_folds(model, params, stats, hyper, x):
    @jax.jit
    def outputs(params, stats, x):
        folded, plain = model.fold(params, stats, hyper=hyper)
        assert plain["batch_norm"] == "none"
        assert all(set(layer) <= {"kernel", "bias"} for layer in folded.values())
        assert any("batch_norm" in layer for layer in params.values())  # what came in is as it was
        return model.infer(folded, {}, x, hyper=plain), model.infer(params, stats, x, hyper=hyper)

    y, expected = jax.device_get(outputs(params, stats, x))
    assert_allclose(y, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    assert np.abs(expected).max() > 0.1


def test_a_network_without_batch_norm_folds_to_itself():
    model, params, _, hyper, _ = network("none", True, {})
    folded, _ = model.fold(params, {}, hyper=hyper)
    jax.tree.map(np.testing.assert_array_equal, folded, params)
