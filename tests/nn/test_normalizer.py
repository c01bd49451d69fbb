import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from jbn.nn import normalizer
from jbn.nn.normalizer import fit, fit_stream

SHAPE = (40, 6)


def example(seed=0):
    return np.random.default_rng(seed).normal([0, 5, -20, 1e3, 0, 7], [1, 0.1, 9, 1, 1e-6, 1e6], SHAPE)


def textbook(x, rows):
    return (rows - x.mean(0)) / x.std(0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_equals_numpy(dtype):
    x, rows = (example(seed)[:, :3].astype(dtype) for seed in (0, 1))
    expected = textbook(x.astype(np.float64), rows.astype(np.float64))
    y = fit(x).apply(rows)
    chex.assert_type(y, jnp.float32)
    assert_allclose(y, expected, atol=1e-6 * np.abs(expected).max())


def test_features_of_very_different_size_all_get_unit_deviation():
    x = example()
    y = np.asarray(fit(x).apply(x), np.float64)
    assert_allclose(y.mean(0), 0, atol=1e-6)
    assert_allclose(y.std(0), 1, rtol=1e-6)


def test_bytes_as_images_keep_their_shape():
    x = np.random.default_rng(2).integers(0, 256, (20, 4, 3), np.uint8)
    y = fit(x).apply(x[:7])
    assert y.shape == (7, 4, 3)
    assert_allclose(y, textbook(x.astype(float), x[:7]), atol=1e-5)


def test_numpy_and_jax_arrays_are_as_good():
    x = example().astype(np.float32)
    fitted = fit(x)
    host, device, traced = fitted.apply(x), fitted.apply(jnp.asarray(x)), jax.jit(fitted.apply)(x)
    chex.assert_type([host, device, traced], jnp.float32)
    chex.assert_trees_all_close((device, traced), (host, host), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, -1e4, 1e15, 255.0])
@pytest.mark.parametrize("rows", [1, 37])
def test_a_constant_feature_becomes_0(value, rows):
    x = np.random.default_rng(3).normal(size=(rows, 2))
    x[:, 1] = value
    y = np.asarray(fit(x).apply(x))
    chex.assert_tree_all_finite(y)
    assert np.all(y[:, 1] == 0)


def test_a_feature_constant_in_training_is_0_also_where_it_is_not():
    assert fit(np.full((5, 1), 0.1)).apply(np.array([[0.1], [3.0], [-1e6]])).tolist() == [[0], [0], [0]]


def test_a_small_deviation_is_not_a_constant():
    x = 1e6 + np.array([[0.0], [0.125]])
    assert fit(x).apply(x).tolist() == [[-1], [1]]


@pytest.mark.parametrize("rows", [1, 7, 40])
def test_blocks_merge_to_the_whole(monkeypatch, rows):
    x = np.sort(example(), axis=0)  # blocks with means of their own
    x[:, 4] = 0.1
    whole = fit(x)
    monkeypatch.setattr(normalizer, "_BLOCK_VALUES", rows * SHAPE[1])
    chex.assert_trees_all_close(fit(x), whole, rtol=1e-10)
    assert float(fit(x).factor[4]) == 0


def test_float64_where_jax_has_it():
    with jax.enable_x64(True):
        x = example()
        fitted = fit(x)
        chex.assert_type(list(fitted), jnp.float64)
        assert_allclose(fitted.apply(x), textbook(x, x), atol=1e-9)


def test_time_stamps_are_not_rounded_to_float32():
    x = 1.7e9 + np.arange(10.0)[:, None]  # seconds; float32 steps by 128 there
    assert_allclose(fit(x).apply(x), textbook(x, x), atol=1e-6)


def test_large_whole_numbers_do_not_wrap_around():
    x = 2**40 + 2**38 * np.arange(4)[:, None]
    assert_allclose(fit(x).apply(x), textbook(x.astype(float), x), atol=1e-5)


def test_it_divides_by_the_standard_deviation_and_not_by_the_variance():
    x = np.array([[0.0], [200.0]])  # deviation 100, variance 10,000
    assert fit(x).apply(x)[:, 0].tolist() == [-1.0, 1.0]


@pytest.mark.parametrize("sizes", [[1] * 40, [7, 0, 30, 3], [40]])
def test_batch_by_batch_it_is_the_same_as_in_one_go(sizes):
    x = example()
    ends = np.cumsum(sizes)
    streamed, whole = fit_stream(iter(np.split(x, ends[:-1]))), fit(x)
    assert_allclose(streamed.mean, x.mean(0), rtol=1e-12)
    assert_allclose(1 / streamed.factor, x.std(0), rtol=1e-9)
    chex.assert_trees_all_close(streamed, whole, rtol=1e-6)


def test_a_feature_that_is_constant_over_the_stream_becomes_0():
    batches = [np.full((size, 1), 0.1) for size in (3, 1, 11)]
    assert fit_stream(batches).factor.tolist() == [0.0]


@pytest.mark.parametrize("convert", [np.asarray, jnp.asarray, lambda y: np.asarray(y, np.float64)])
def test_invert_undoes_apply(convert):
    x = example()[:, :4].reshape(40, 2, 2)
    fitted = fit(x)
    back = fitted.invert(convert(fitted.apply(x)))
    assert back.shape == x.shape
    spread = np.abs(x - x.mean(0)).max(0)
    assert np.all(np.abs(np.asarray(back) - x) <= 1e-6 * spread + 1e-7 * np.abs(x))


def test_invert_gives_a_constant_feature_back():
    x = np.array([[1.0, 5.0], [3.0, 5.0]])
    fitted = fit(x)
    assert fitted.invert(fitted.apply(x)).tolist() == x.tolist()


def test_invert_keeps_a_time_stamp_that_float32_would_not():
    x = 1.7e9 + np.arange(5.0)[:, None]
    back = fit(x).invert(np.asarray(fit(x).apply(x)))
    assert_allclose(back, x, rtol=0, atol=1e-5)


@pytest.mark.parametrize("batches", [[], [np.zeros((0, 2))]])
def test_without_rows_there_is_nothing_to_fit(batches):
    with pytest.raises(ValueError, match="a normalizer needs at least one row to fit, but got none"):
        fit_stream(batches)


def test_batches_of_different_features_are_refused():
    with pytest.raises(
        ValueError, match=r"all batches have the same features, but got shapes \(2,\) and \(3,\)"
    ):
        fit_stream([np.ones((4, 2)), np.ones((4, 3))])
