import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from jbn.nn import counter

KEY = jax.random.key(3)
SHAPE = (128, 512)
KEYS = 4
UNIT = np.sqrt(3)  # symmetric draws have variance 1/3
STANDARD_ERRORS = 4.5  # a fair generator exceeds it once in 150,000 draws


@functools.cache
def sample(name):
    """Draws of several keys, `[keys, rows, columns]`, in float64; symmetric ones of unit variance."""
    draw = functools.partial(getattr(counter, name), shape=SHAPE)
    draws = np.asarray(jax.jit(jax.vmap(draw))(jax.random.split(KEY, KEYS))).astype(np.float64)
    return draws * UNIT if name == "symmetric" else draws


def correlations(values):
    """Between all pairs of rows, in standard errors."""
    unit = values - values.mean(1, keepdims=True)
    unit /= np.sqrt((unit**2).mean(1, keepdims=True))
    return (unit @ unit.T)[np.triu_indices(len(values), 1)] / np.sqrt(values.shape[1])


def assert_independent(standard_errors):
    assert np.abs(standard_errors).max() < np.sqrt(2 * np.log(standard_errors.size)) + STANDARD_ERRORS
    excess = (standard_errors**2).mean() - 1
    assert abs(excess) < STANDARD_ERRORS * np.sqrt(2 / standard_errors.size)


# places


@pytest.mark.parametrize("name", ["bits", "uniform", "symmetric"])
def test_a_smaller_array_is_the_corner_of_a_larger_one(name):
    draw = jax.jit(getattr(counter, name), static_argnames=("shape", "stream"))
    large = draw(KEY, (9, 7), stream=2)
    for shape in [(4, 3), (1, 7)]:
        assert_array_equal(draw(KEY, shape, stream=2), large[: shape[0], : shape[1]])
    assert len(np.unique(large)) == large.size


def test_a_key_may_be_typed_or_its_words():
    draw = jax.jit(functools.partial(counter.bits, shape=(3, 5)))
    assert_array_equal(draw(KEY), draw(jax.random.key_data(KEY)))


def test_jit_and_vmap_change_nothing():
    keys = jax.random.split(KEY, 3)
    draw = functools.partial(counter.bits, shape=(3, 5), stream=1)
    jitted = jax.jit(draw)
    loop = np.stack([jitted(key) for key in keys])
    chex.assert_type(jitted(keys[0]), jnp.uint32)
    assert_array_equal(draw(keys[1]), loop[1])
    assert_array_equal(jax.jit(jax.vmap(draw))(keys), loop)


def test_both_float_types_hold_the_same_draws():
    both = jax.jit(lambda: [draw(KEY, (3, 5)) for draw in (counter.uniform, counter.symmetric)])
    draws = both()
    chex.assert_type(draws, jnp.float32)
    with jax.enable_x64(True):
        wide = both()
        chex.assert_type(wide, jnp.float64)
    chex.assert_trees_all_close(jax.tree.map(np.float64, draws), jax.tree.map(np.asarray, wide), atol=1e-6)


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("word", [0, 0xFFFFFFFF])
def test_both_ends_are_excluded_whatever_the_bits(monkeypatch, word, x64):
    monkeypatch.setattr(counter, "bits", lambda key, shape, *, stream=0: jnp.full(shape, word, jnp.uint32))
    with jax.enable_x64(x64):
        assert 0 < float(counter.uniform(KEY, (1, 1))[0, 0]) < 1
        assert 0.999 < abs(float(counter.symmetric(KEY, (1, 1))[0, 0])) < 1


# distributions


def test_every_bit_is_set_half_of_the_time():
    words = sample("bits").astype(np.uint32)
    shares = np.array([((words >> bit) & 1).mean((1, 2)) for bit in range(32)])
    errors = (shares - 0.5) / (0.5 / np.sqrt(words[0].size))
    assert np.abs(errors).max() < STANDARD_ERRORS


def test_moments_of_uniform_draws():
    draws, n = sample("uniform"), np.prod(SHAPE)
    assert draws.min() > 0
    assert draws.max() < 1
    assert np.all(np.abs(draws.mean((1, 2)) - 1 / 2) < STANDARD_ERRORS * np.sqrt(1 / 12 / n))
    assert np.all(np.abs(draws.var((1, 2)) - 1 / 12) < STANDARD_ERRORS * np.sqrt(1 / 180 / n))


def test_moments_of_symmetric_draws():
    draws, n = sample("symmetric") / UNIT, np.prod(SHAPE)
    for power in (1, 2, 3, 4):
        expected = 0 if power % 2 else 1 / (power + 1)
        variance = 1 / (2 * power + 1) - expected**2
        error = (draws**power).mean((1, 2)) - expected
        assert np.all(np.abs(error) < STANDARD_ERRORS * np.sqrt(variance / n))


@pytest.mark.parametrize(("name", "low", "width"), [("uniform", 0, 1), ("symmetric", -UNIT, 2 * UNIT)])
def test_distribution_by_kolmogorov_and_smirnov(name, low, width):
    n = np.prod(SHAPE)
    for draws in sample(name):
        shares = np.sort((draws - low) / width, axis=None)
        distance = max(np.max(np.arange(1, n + 1) / n - shares), np.max(shares - np.arange(n) / n))
        assert np.sqrt(n) * distance < 2.3  # exceeded with a probability of 2 exp(-2 * 2.3^2), 5e-5


# independence


def test_rows_and_columns_are_uncorrelated():
    for draws in sample("symmetric"):
        assert_independent(correlations(draws))
        assert_independent(correlations(draws.T))


def test_no_row_is_a_shift_of_another():
    spectrum = np.fft.fft(sample("symmetric")[0], axis=1)
    lagged = np.fft.ifft(spectrum[:-1] * spectrum[1:].conj(), axis=1).real / np.sqrt(SHAPE[1])
    assert_independent(lagged.ravel())


def test_words_repeat_as_often_as_chance_has_it():
    """Were a row or a column a shifted copy of another, all that they share would come twice."""
    n = 2**22
    words = np.sort(np.asarray(jax.jit(lambda: counter.bits(KEY, (2**12, 2**10)))()), axis=None)
    repeats, expected = np.count_nonzero(words[1:] == words[:-1]), n * (n - 1) / 2 / 2**32
    assert abs(repeats - expected) < STANDARD_ERRORS * np.sqrt(expected)


def test_keys_are_uncorrelated():
    assert_independent(correlations(sample("symmetric").reshape(KEYS, -1)))


def test_streams_are_uncorrelated_also_those_of_neighbouring_keys():
    draw = jax.jit(counter.symmetric, static_argnames=("shape", "stream"))
    draws = [draw(jax.random.key(seed), SHAPE, stream=stream) for seed in (0, 1) for stream in (0, 1, 65536)]
    assert_independent(correlations(np.stack([np.asarray(each, np.float64).ravel() for each in draws])))


def test_folded_keys_give_fresh_draws_at_the_same_place():
    keys = jax.vmap(jax.random.fold_in, (None, 0))(KEY, jnp.arange(4096))  # e.g. one a step
    draws = jax.jit(jax.vmap(lambda key: counter.symmetric(key, (1, 2))))(keys)[:, 0]
    draws = np.asarray(draws, np.float64) * UNIT
    assert len(np.unique(draws)) > 0.999 * draws.size
    assert_allclose(draws.mean(0), 0, atol=STANDARD_ERRORS / np.sqrt(len(draws)))
    products = np.array([(draws[:-lag] * draws[lag:]).sum(0) for lag in range(1, 20)]) / np.sqrt(len(draws))
    assert_independent(products.ravel())


def test_neighbouring_seeds_differ_in_half_of_the_bits():
    draw = jax.jit(lambda seed: counter.bits(jax.random.key(seed), (16, 64)))
    words = [np.asarray(draw(seed)) for seed in range(3)]
    for one, other in [(0, 1), (1, 2), (0, 2)]:
        share = np.unpackbits((words[one] ^ words[other]).view(np.uint8)).mean()
        assert abs(share - 0.5) < STANDARD_ERRORS * 0.5 / np.sqrt(32 * 16 * 64)
