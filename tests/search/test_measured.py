"""Coarse to fine on measured problems, at a size that a test can afford; `scripts/bench search` has all of it."""

import functools
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

SEEDS, BUDGET = 12, 128
pytestmark = [  # the package of the problems leaves its files open
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def bench():
    """The benchmark's own searches."""
    folder = Path(__file__).parents[2] / "scripts" / "benchmarks"
    sys.path.insert(0, str(folder))
    try:
        spec = importlib.util.spec_from_file_location("search_benchmark", folder / "search.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(folder))
    return module


@pytest.fixture(scope="module")
def median(bench):
    @functools.cache
    def of(name, method):
        return float(np.median(bench.regrets(name, method, BUDGET, SEEDS)))

    return of


@pytest.mark.parametrize("name", ["phoneme", "kc1", "blood_transfusion"])
def test_it_has_a_lower_regret_than_random_search(median, name):
    assert median(name, "coarse to fine") < 0.9 * median(name, "random")


def test_every_method_spends_its_budget(bench):
    for method in set(bench.METHODS) - {"TPE"}:
        own = bench.Measured("kc1", 0)
        bench.METHODS[method](own, 64, 0)
        assert len(own.scores) <= 64
        assert len(own.scores) >= 48  # a grid has as many points as fit
        assert own.regret(64) >= 0
