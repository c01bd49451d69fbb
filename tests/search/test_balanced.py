"""Sobol, Halton and Latin hypercubes: balanced, inside, and where it is promised the same for more samples."""

import jax
import numpy as np
import pytest
from scipy import stats

from jbn import search
from jbn.errors import InputError
from jbn.search import Space, choice, integers, log_uniform, reverse_log_uniform, uniform

SPACE = Space(
    rate=log_uniform(1e-4, 1.0),
    beta=reverse_log_uniform(0.9, 0.999),
    dropout=uniform(0.0, 0.5),
    layers=integers(1, 4),
    size=choice(32, 64),
    epsilon=1e-8,
)
SEQUENCES = pytest.mark.parametrize("sequence", ["sobol", "halton"])


@SEQUENCES
def test_asking_for_more_keeps_the_first_ones(sequence):
    few, many = (search.quasi_random(SPACE, n, key=5, sequence=sequence) for n in (7, 100))
    for name in SPACE:
        np.testing.assert_array_equal(few[name], many[name][:7])
    other = search.quasi_random(SPACE, 7, key=6, sequence=sequence)
    assert not np.array_equal(few["rate"], other["rate"])


def test_sobol_has_one_sample_in_every_cell_of_every_dimension():
    configs = search.quasi_random(SPACE, 64, key=jax.random.key(1))
    for name in ("rate", "beta", "dropout"):
        cells = np.floor(SPACE[name].to_unit(configs[name]) * 64).astype(int)
        assert sorted(np.minimum(cells, 63)) == list(range(64))
    assert np.bincount(configs["layers"])[1:].tolist() == [16] * 4
    assert np.unique(configs["size"], return_counts=True)[1].tolist() == [32, 32]
    assert set(configs["epsilon"].tolist()) == {1e-8}


def test_a_latin_hypercube_has_one_sample_in_every_nth_part():
    configs = search.latin_hypercube(SPACE, 37, key=2)
    for name in ("rate", "beta", "dropout"):
        cells = np.floor(SPACE[name].to_unit(configs[name]) * 37).astype(int)
        assert sorted(cells) == list(range(37))


@SEQUENCES
def test_marginals_follow_the_scale_better_than_chance(sequence):
    configs = search.quasi_random(SPACE, 512, key=0, sequence=sequence)
    for sample, low, high in ((configs["rate"], 1e-4, 1.0), (1 - configs["beta"], 1e-3, 0.1)):
        assert stats.kstest(sample, "loguniform", args=(low, high)).statistic < 0.01  # 0.06 by chance


def test_samples_fill_space_more_evenly_than_independent_ones():
    space = Space(**{name: uniform(0, 1) for name in "abcd"})
    found = []
    for draw in (search.quasi_random, search.random):
        configs = draw(space, 256, key=3)
        found.append(stats.qmc.discrepancy(np.stack(list(configs.values()), 1)))
    assert found[0] < found[1] / 5


def test_nothing_that_varies_is_no_error():
    assert search.quasi_random(Space(a=1), 3, key=0)["a"].tolist() == [1, 1, 1]


def test_many_samples():
    assert search.quasi_random(search.defaults(all=True), 2**17, key=0).count == 2**17


def test_what_is_refused():
    with pytest.raises(InputError, match="'sobol' or 'halton', got 'niederreiter'"):
        search.quasi_random(SPACE, 3, key=0, sequence="niederreiter")
    with pytest.raises(InputError, match="configs must be at least 1, got 0"):
        search.latin_hypercube(SPACE, 0, key=0)
    many = Space(**{f"x{i}": uniform(0, 1) for i in range(21202)})
    with pytest.raises(InputError, match="at most 21201 dimensions, but 21202 vary: take 'halton'"):
        search.quasi_random(many, 1, key=0)
