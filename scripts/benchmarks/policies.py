"""What stopping early costs and gains, and how often a re-test is right (scripts/bench retest alone does that too).

The price: a run of 256 configurations of the default space with successive halving, 27 epochs, against the sum of
its members' step times: each cohort alone gives the seconds of a worker for a member and an epoch. On the digits,
and with --data-dir on MNIST, where an epoch has 44 times as many rows. A run on the digits takes 0.9 s: of 0.12 s
beyond its members' steps 0.02 s are planning and the winner, 0.01 s workers wait at the ends of rungs, 0.03 s are
162 calls (0.2 ms each, whatever they train, and as much in Python), 0.015 s memory that is touched for the first
time, and in the rest programs with few members a call take longer side by side on two cores.

The gain, with --data-dir DIRECTORY of MNIST's files: 48 configurations with halving (1, 3, 9 epochs) against a plain
sweep of 16 for 9 epochs, which is more arithmetic: the best validation accuracy of each, for seeds 0 to 4, and how
good the winners are on the test part. Beside it, a population of 16 of one structure against their plain sweep.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import jax
import numpy as np
import retest
from common import median, write

import jbn
from jbn.engine.plan import plan
from jbn.engine.workers import Workers
from jbn.policies import expected_epochs
from jbn.search import Configs

PRICE, EPOCHS, CONFIGS = 1.15, 27, 256
ROUNDS, AT_LEAST_SECONDS = 3, 150


def price(name, data, *, members, measured):
    """Time of a run with halving, over what its members' steps take.

    Args:
        name: of the data.
        data: what is trained on.
        members: a worker has of a cohort alone.
        measured: epochs of these.
    """
    task = jbn.Task(model=jbn.mlp(), data=data)
    configs = jbn.search.random(jbn.search.defaults(all=True), CONFIGS, key=0)

    def run(**more):
        return jbn.sweep(task, configs, epochs=EPOCHS, key=jax.random.key(1), policy=jbn.halving(), **more)

    seconds_each(task, configs, members=2, measured=1)  # compiles
    run(on_segment=lambda now: True)
    rows, begun = [], time.perf_counter()
    # one after the other, since a machine is not always equally fast; single rounds differ by a fifth
    while len(rows) < ROUNDS or time.perf_counter() - begun < AT_LEAST_SECONDS:
        each, cores = seconds_each(task, configs, members=members, measured=measured)
        result = run()
        epochs = (~np.isnan(result.history.train_loss)).sum(axis=0)
        steps = float((epochs * each).sum()) / cores
        rows.append({"seconds": result.seconds, "steps_seconds": steps, "programs": result.timings.programs})
    ratio, interval = median([row["seconds"] / row["steps_seconds"] for row in rows])
    whole = float(each.sum()) * EPOCHS / cores
    trained = int(epochs.sum())
    whole_epochs = CONFIGS * EPOCHS
    print(
        f"halving, {name}: {trained} of {whole_epochs} epochs, {ratio:.2f} of its members' step times "
        f"({interval[0]:.2f} to {interval[1]:.2f}, {len(rows)} rounds)",
        flush=True,
    )
    return {
        "ratio": ratio,
        "interval": interval,
        "at_most": PRICE,
        "epochs": trained,
        "plain_seconds": whole,
        "rows": rows,
    }


def seconds_each(task, configs, *, members, measured):
    """Seconds of a worker for one epoch of every configuration: those of its cohort, trained alone."""
    workers = Workers()
    average = expected_epochs(jbn.halving(), EPOCHS)
    layout = plan(task, configs, platform=workers.platform, epochs=average)
    workers.close()
    each = np.zeros(configs.count)
    for cohort in (cohort for program in layout.programs for cohort in program if len(cohort.rows)):
        # of one cohort so many that all workers are busy to the end
        rows = np.resize(cohort.rows, members * workers.count)
        own = Configs({name: values[rows] for name, values in configs.items()}, space=configs.space)
        result = jbn.sweep(task, own, epochs=measured, key=jax.random.key(1), max_programs=None)
        took_part = (~np.isnan(result.history.train_loss)).sum()
        each[cohort.rows] = result.run_seconds / took_part
    return each, workers.count


def gain(directory):
    """Halving over three times as many configurations, and a population, against the plain sweep."""
    space = jbn.search.defaults(all=True)
    one = jbn.Space(**{**space, "layers": 2, "hidden_units": 100, "batch_size": 64})  # one population
    ways = {
        "plain": (space, 16, None),
        "halving": (space, 48, jbn.halving()),
        "plain, one structure": (one, 16, None),
        "pbt, one structure": (one, 16, jbn.pbt(one)),
    }
    rows = []
    for seed in range(5):
        task = jbn.Task(model=jbn.mlp(), data=jbn.data.load("mnist", data_dir=directory, seed=seed))
        rows.append({"seed": seed, **{way: trained(task, *own, seed=seed) for way, own in ways.items()}})
        shown = {way: (round(rows[-1][way]["best"], 4), rows[-1][way]["epochs"]) for way in ways}
        print(f"seed {seed}: {shown}", flush=True)
    medians = {way: statistics.median(row[way]["best"] for row in rows) for way in ways}
    print("median of the best validation accuracy:", medians)
    return {"medians": medians, "rows": rows}


def trained(task, space, count, policy, *, seed):
    """The best of a sweep of nine epochs, and what it took."""
    configs = jbn.search.random(space, count, key=jax.random.key(seed))
    result = jbn.sweep(task, configs, epochs=9, key=jax.random.key(seed), policy=policy)
    return {
        "best": float(result.table().validation_accuracy[0]),
        "test": result.test_accuracy,
        "epochs": int((~np.isnan(result.history.train_loss)).sum()),
        "seconds": result.seconds,
    }


def main():
    """Both, and one result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-dir", help="with MNIST's files")
    parser.add_argument("--without-retests", action="store_true", help="leave out what takes longest")
    parser.add_argument("--without-gain", action="store_true", help="keep the gain as it was measured before")
    options = parser.parse_args()
    before = json.loads(Path(__file__).with_name("results").joinpath("policies.json").read_text())
    kept = {name: before[name] for name in ("price_mnist", "gain") if name in before}  # without MNIST's files
    result = {"price": price("digits", jbn.data.digits(), members=16, measured=4), **kept}
    if options.data_dir:
        mnist = jbn.data.load("mnist", data_dir=options.data_dir)
        result["price_mnist"] = price("mnist", mnist, members=8, measured=3)
        if not options.without_gain:
            result["gain"] = gain(options.data_dir)
    write("policies", result)
    if not options.without_retests:
        retest.main(["--data-dir", options.data_dir] if options.data_dir else [])


if __name__ == "__main__":
    main()
