"""How often a re-test says keep and retune, on new data of five kinds, of which one truth is known.

Every seed draws its own old and new rows from a pool of images, without a row in common, runs a sweep on the old
ones and re-tests its winner on: fresh rows of the same kind, the same inverted, rotated by 90 degrees, with 40 % of
all labels replaced at random, and with a training part 50 times smaller. The first three are the same problem for a
normalised network (keep), the last two are others (retune).

Whether other settings are really better there is measured apart: all configurations of the sweep train on the new
data with six seeds, and the best on the validation part is compared with the old winner by 24 other seeds on rows
that the re-test has not seen: they are where the lower end of the t interval of the differences is above 0.01.

With MNIST's files (--data-dir) images are averaged to 14 x 14 pixels; without, the digits are the pool, of which
every training image is there five times, shifted by up to a pixel.
"""

import argparse
import concurrent.futures
import multiprocessing
import os
import time
from typing import NamedTuple

import jax
import numpy as np
from common import write
from scipy import stats

import jbn
from jbn.search import Configs
from jbn.task.data.splitting import split

KEEP, RETUNE = ("same", "inverted", "rotated"), ("labels", "small")
NOISE, SMALLER = 0.4, 50
EPOCHS, LEAST = 14, 0.01
TARGETS = {"keep": 0.95, "retune": 0.80}


class Pool(NamedTuple):
    """Images `[rows, height, width]` and their labels."""

    x: np.ndarray
    y: np.ndarray


class Size(NamedTuple):
    """Rows drawn for each part, and how the sweeps are; training rows are there once for every shift."""

    train: int
    validation: int
    test: int
    hidden_units: int
    epochs: int
    configs: int = 40
    shifts: tuple[tuple[int, int], ...] = ((0, 0),)
    batches: tuple[int, ...] = (16, 32, 64, 128)

    @property
    def space(self):
        return jbn.Space(
            learning_rate=jbn.log_uniform(1e-4, 1.0),
            decay_rate=jbn.log_uniform(1e-3, 1.0),
            batch_size=jbn.choice(*self.batches, ordered=True),
        )

    @property
    def parts(self):
        return np.cumsum([self.train, self.validation])


MNIST = Size(1600, 2000, 10000, hidden_units=48, epochs=EPOCHS)
SHIFTS = ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0))
DIGITS = Size(320, 160, 418, hidden_units=48, epochs=EPOCHS, configs=24, shifts=SHIFTS, batches=(32, 64, 128))


def mnist(directory):
    """All of MNIST, 14 x 14."""
    data = jbn.data.mnist(directory)
    parts = (data.train, data.validation, data.test)
    x = np.concatenate([part.x for part in parts])
    x = x.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4), dtype=np.float32)
    return Pool(x, np.concatenate([part.y for part in parts]))


def digits():
    """The digits, 8 x 8."""
    data = jbn.data.digits()
    parts = (data.train, data.validation, data.test)
    x = np.concatenate([part.x for part in parts])
    return Pool(x.reshape(-1, 8, 8), np.concatenate([part.y for part in parts]))


def drawn(pool, size, seed):
    """Rows of the old and of the new data, without one in common."""
    order = np.random.default_rng(seed).permutation(len(pool.y))
    each = size.train + size.validation + size.test
    return [Pool(pool.x[rows], pool.y[rows]) for rows in (order[:each], order[each : 2 * each])]


def changed(kind, pool, size, seed):
    """The new data of a kind, in three parts."""
    rng = np.random.default_rng([seed, 1])
    x, y = pool.x, pool.y.copy()
    if kind == "inverted":
        x = x.max() - x
    if kind == "rotated":
        x = np.rot90(x, axes=(1, 2))
    if kind == "labels":
        wrong = rng.random(len(y)) < NOISE
        y[wrong] = rng.integers(0, 10, wrong.sum())
    (x_train, *xs), (y_train, *ys) = np.split(x, size.parts), np.split(y, size.parts)
    x_train = np.concatenate([np.roll(x_train, shift, axis=(1, 2)) for shift in size.shifts])
    y_train = np.tile(y_train, len(size.shifts))
    if kind == "small":  # in proportion of the classes
        kept = split(y_train, {"rest": SMALLER - 1, "kept": 1}, seed=0)["kept"]
        x_train, y_train = x_train[kept], y_train[kept]
    given = {"x_validation": xs[0], "y_validation": ys[0], "x_test": xs[1], "y_test": ys[1]}
    return jbn.data.arrays(x_train, y_train, **given, name=kind)


def task(kind, pool, size, seed):
    """The problem of a kind of data."""
    model = jbn.mlp(layers=3, hidden_units=size.hidden_units)
    return jbn.Task(model=model, data=changed(kind, pool, size, seed))


def measure(pool, size, repetitions, kinds=(*KEEP, *RETUNE), workers=None, with_truth=True, **options):
    """A row for every seed and kind of new data: verdict, effect, interval, drift.

    Args:
        pool: images to draw from.
        size: of the parts and the sweeps.
        repetitions: their seeds.
        kinds: of new data.
        workers: threads.
        with_truth: whether to measure if other settings are really better; the pool must have rows left for it.
        **options: of `jbn.retest`.
    """
    rows = []
    for seed in repetitions:
        old, new = drawn(pool, size, seed)
        configs = jbn.search.quasi_random(size.space, size.configs, key=jax.random.key(seed))
        key = jax.random.fold_in(jax.random.key(seed), 1)
        run = jbn.sweep(task("same", old, size, seed), configs, epochs=size.epochs, key=key, workers=workers)
        for place, kind in enumerate(kinds):
            start, own = time.perf_counter(), jax.random.fold_in(key, 2 + place)
            found = jbn.retest(run, task(kind, new, size, seed), key=own, workers=workers, **options)
            row = {"seed": seed, "kind": kind, **described(found), "seconds": time.perf_counter() - start}
            if kind in RETUNE and with_truth:
                row |= truth(
                    task(kind, new, size, seed),
                    configs,
                    found.old,
                    unseen(kind, pool, size, seed),
                    own,
                    workers,
                )
            rows.append(row)
    return rows


def unseen(kind, pool, size, seed):
    """Rows of a kind that neither the old nor the new data have."""
    order = np.random.default_rng(seed).permutation(len(pool.y))
    rows = order[2 * (size.train + size.validation + size.test) :][: size.test]
    y = pool.y[rows].copy()
    if kind == "labels":
        rng = np.random.default_rng([seed, 2])
        wrong = rng.random(len(y)) < NOISE
        y[wrong] = rng.integers(0, 10, wrong.sum())
    return pool.x[rows], y


def truth(task, configs, old, part, key, workers):
    """By how much the best of all configurations is better than the old winner, and whether beyond the noise."""
    columns = {name: np.append(values, old[name]) for name, values in configs.items()}
    columns["batch_size"] = np.minimum(columns["batch_size"], task.data.rows)
    everyone = Configs(columns, space=configs.space)
    options = {"epochs": EPOCHS, "workers": workers}
    chosen = (
        jbn.sweep(task, everyone, key=jax.random.fold_in(key, 100), seeds=6, **options).table().config_id[0]
    )
    pair = Configs({name: values[[-1, chosen]] for name, values in everyone.items()}, space=configs.space)
    result = jbn.sweep(task, pair, key=jax.random.fold_in(key, 101), seeds=24, keep_models=True, **options)
    before, after = np.array([0.0 if m is None else m.accuracy(*part) for m in result.models]).reshape(2, -1)
    interval = stats.ttest_rel(after, before).confidence_interval(0.95)
    return {"really": float((after - before).mean()), "really_better": bool(interval.low > LEAST)}


def described(found):
    """What of a re-test is written."""
    low, high = found.interval
    return {
        "verdict": found.verdict,
        "effect": found.effect,
        "low": low,
        "high": high,
        "old": found.scores[0],
        "configs": [found.old, found.challenger],
        "drift": {own.layer: [round(own.shift, 4), round(own.log_ratio, 4)] for own in found.drift},
    }


def rates(rows):
    """For every kind: how often the verdict was the right one, and how often it may be (95 %, Clopper-Pearson)."""
    found = {}
    for kind in dict.fromkeys(row["kind"] for row in rows):
        own = [row for row in rows if row["kind"] == kind]
        wanted = "keep" if kind in KEEP else "retune"
        right = sum(row["verdict"] == wanted for row in own)
        interval = stats.binomtest(right, len(own)).proportion_ci()
        better = [row for row in own if row.get("really_better")]
        told = sum(row["verdict"] == "retune" for row in better)
        found[kind] = {
            "wanted": wanted,
            "rate": right / len(own),
            "really_better": len(better),
            "told_of_these": told / len(better) if better else None,
            "interval": [interval.low, interval.high],
            "effects": np.quantile([row["effect"] for row in own], [0.25, 0.5, 0.75]).tolist(),
        }
    return found


def missed(found):
    """Kinds whose rate is below its target."""
    shares = {
        kind: own["rate"] if kind in KEEP else own["told_of_these"] or 0.0 for kind, own in found.items()
    }
    return [kind for kind, own in found.items() if shares[kind] < TARGETS[own["wanted"]]]


def in_processes(pool, size, seeds, count):
    """`measure`, each seed by one of so many processes of one thread each."""
    context, rows = multiprocessing.get_context("spawn"), []
    with concurrent.futures.ProcessPoolExecutor(count, mp_context=context) as processes:
        jobs = [processes.submit(measure, pool, size, [seed], workers=1) for seed in seeds]
        for job in concurrent.futures.as_completed(jobs):
            own = job.result()
            rows += own
            verdicts = ", ".join(f"{row['kind']} {row['verdict']}" for row in own)
            print(f"seed {own[0]['seed']}: {verdicts}", flush=True)
    return sorted(rows, key=lambda row: row["seed"])


def show(rows, found):
    """Prints rates, effects and drift."""
    for kind, own in found.items():
        low, high = own["interval"]
        quartiles = ", ".join(f"{100 * effect:.1f}" for effect in own["effects"])
        print(
            f"{kind:9s} {own['wanted']:6s} in {own['rate']:.1%} ({low:.1%} to {high:.1%}), effect in points "
            f"(quartiles) {quartiles}"
        )
        if kind in RETUNE:
            print(f"{'':9s} really better in {own['really_better']}, of these told in {own['told_of_these']}")
        mine = [row["drift"] for row in rows if row["kind"] == kind]
        layers = [
            f"{n} {np.median([d[n][0] for d in mine]):.2f}/{np.median([d[n][1] for d in mine]):.2f}"
            for n in mine[0]
        ]
        print(f"{'':9s} drift (shift/log ratio): {', '.join(layers)}")


def main(arguments=None):
    """Prints the rates and writes everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--data-dir", help="with MNIST's files")
    given = parser.parse_args(arguments)
    pool, size = (mnist(given.data_dir), MNIST) if given.data_dir else (digits(), DIGITS)
    start = time.perf_counter()
    rows = in_processes(pool, size, list(range(given.seeds)), len(os.sched_getaffinity(0)))
    found = rates(rows)
    show(rows, found)
    seconds = time.perf_counter() - start
    print(
        f"{len(rows)} re-tests, median {np.median([row['seconds'] for row in rows]):.1f} s each, "
        f"{seconds:.0f} s in all"
    )
    about = {
        "pool": "mnist" if given.data_dir else "digits",
        "size": size._asdict(),
        "space": size.space.to_spec(),
    }
    write("retest", {**about, "seeds": given.seeds, "rates": found, "seconds": round(seconds), "rows": rows})
    wrong = missed(found)
    if wrong:
        print(f"below their targets: {', '.join(wrong)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
