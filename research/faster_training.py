"""Batch norm makes training faster: half the steps to 95 % accuracy, at the best rate and at 5 and 30 times it.

Networks of 2, 6 and 16 hidden layers with ReLU and sigmoid, with and without batch norm, train by gradient descent
with momentum 0.9 and batches of 128. With and without batch norm each has the learning rate with which it comes
first to 95 % on the validation part, chosen with other seeds; then both train at that rate and at 5 and 30 times it,
and batch norm also at 1, 5 and 30 times the rate that is best without it (as in Ioffe and Szegedy 2015), with 32
seeds each in pairs of equal initial weights and batches. Steps are counted in epochs of 8; what does not come to
95 % within 320 counts as 320, so that a factor is too near to 1, if anything.

Held: in every network the whole 95 % interval of the factor between the median steps, at 1, 5 and 30 times the own
best rate, is at least 2. Not held: for none of these. Else it depends on those for which it is.
"""

import functools
import itertools

import jax
import numpy as np
from arms import configs_of, crossed, rows_of, soonness, times_fewer, tuned
from common import COLOURS, MARKERS, Finding, bootstrap, main, until, verdict_of
from pictures import ticks

import jbn

ACTIVATIONS = ("relu", "sigmoid")
LAYERS = (2, 6, 16)
TIMES = (1, 5, 30)
RATES = 10 ** np.arange(-3, 1.6, 0.5)
SEEDS = 32
TARGET = 0.95
FEWER = 2
BATCH_SIZE = 128
UNITS = 32
RIVALS = ("without", "with", "with, at rate without")


def measure(options):
    """Chooses learning rates, trains all arms, compares."""
    data = jbn.data.digits()
    task = jbn.Task(model=jbn.mlp(hidden_units=UNITS), data=data, optimizer="sgd")
    epochs, each = options.size(40, 10), data.rows // BATCH_SIZE
    fixed = {"batch_size": (BATCH_SIZE,)}
    depths = LAYERS[: options.size(3, 1)]
    arms = crossed(activation=ACTIVATIONS, layers=depths, batch_norm=("none", "before"), **fixed)
    score = functools.partial(soonness, target=TARGET)
    few = options.size(4, 1)
    best = tuned(task, arms, RATES, epochs=epochs, key=jax.random.key(0), seeds=few, score=score)
    configs = multiplied(rows_of(best))
    result = jbn.sweep(task, configs, epochs=epochs, key=jax.random.key(1), seeds=options.size(SEEDS, 4))
    steps = until(result.curve("validation_accuracy"), TARGET, steps=each)
    return judge(tabled(rows_of(configs), steps, epochs * each), {"data": data.name, "limit": epochs * each})


def multiplied(best):
    """For every network its rivals at all multiples of their rates; without and with batch norm alternate."""
    rows = []
    for without, with_ in zip(best[::2], best[1::2], strict=True):
        for arm, of in ((without, without), (with_, with_), (with_, without)):
            rows += [{**arm, "learning_rate": times * of["learning_rate"]} for times in TIMES]
    return configs_of(rows)


def tabled(configs, steps, limit):
    """Rows of the table; each is compared with no batch norm, at the same multiple of a rate or at the best one."""
    each, table = len(RIVALS) * len(TIMES), []
    for index, (config, (rival, times)) in enumerate(
        zip(configs, itertools.cycle(itertools.product(RIVALS, TIMES)), strict=False)
    ):
        first = index - index % each
        own, plain = steps[index], steps[first if rival == RIVALS[2] else first + TIMES.index(times)]
        table.append(
            {
                "activation": config["activation"],
                "layers": int(config["layers"]),
                "batch_norm": rival,
                "times_rate": times,
                "rate": config["learning_rate"],
                "median_steps": bootstrap(np.minimum(own, limit), np.median),
                "reached": float(np.isfinite(own).mean()),
                "times_fewer_than_without": times_fewer(plain, own, limit),
            }
        )
    return table


def judge(table, more):
    """In which networks, and at which multiples of the rate, the factor is large enough."""
    own = [row for row in table if row["batch_norm"] == RIVALS[1]]
    good = {named(row): row["times_fewer_than_without"].low >= FEWER for row in own}
    verdict = verdict_of(good.values())
    condition = f"True for {', '.join(n for n, own in good.items() if own)}. " if verdict == "depends" else ""
    said = ", ".join(f"{named(row)}: {row['times_fewer_than_without']}" for row in own)
    rest = [row for row in table if row["batch_norm"] == RIVALS[2]]
    other = ", ".join(f"{named(row)}: {row['times_fewer_than_without']}" for row in rest)
    because = (
        f"{condition}Times fewer steps: {said}. At the rate without against its best: {other}{edges(table)}"
    )
    return Finding(table, verdict, because, more)


def named(row):
    """Network and multiple of the rate."""
    return f"{row['activation']} {row['layers']} x{row['times_rate']}"


def edges(table):
    """Which best rates are at the edge of those tried."""
    own = [row for row in table if row["times_rate"] == 1 and row["batch_norm"] in RIVALS[:2]]
    at = [f"{named(r)} {r['batch_norm']}" for r in own if np.isclose(r["rate"], RATES[[0, -1]]).any()]
    return f". The best rate is at the edge of those tried: {', '.join(at)}" if at else ""


def draw(figure, finding):
    """Steps to the target by depth, one panel an activation."""
    names = list(dict.fromkeys(row["activation"] for row in finding.rows))
    axes = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    depths = sorted({row["layers"] for row in finding.rows})
    for axis, name in zip(axes, names, strict=True):
        for number, (rival, times) in enumerate(itertools.product(RIVALS[:2], TIMES)):
            own = [
                row["median_steps"]
                for row in finding.rows
                if (row["activation"], row["batch_norm"], row["times_rate"]) == (name, rival, times)
            ]
            middle = np.array([one.mean for one in own])
            bars = np.abs([[one.low - one.mean, one.high - one.mean] for one in own]).T
            style = {
                "color": COLOURS[number // 3],
                "marker": MARKERS[number % 3],
                "ls": ("--", "-")[number // 3],
            }
            places = np.arange(len(depths)) + 0.08 * (number - 2.5)
            label = f"{rival}, x{times}"
            axis.errorbar(places, middle, yerr=bars, ms=3, capsize=1.5, lw=0.9, label=label, **style)
        axis.axhline(finding.more["limit"], color="black", lw=0.8, ls=":")
        axis.set(title=name, yscale="log", xlabel="hidden layers")
        axis.set_xticks(range(len(depths)), depths)
    ticks(axes[0].yaxis, (10, 20, 40, 80, 160, 320))
    axes[0].set_ylabel(f"median steps to {TARGET:.0%}")
    handles = axes[0].get_legend_handles_labels()
    figure.legend(*handles, title="batch norm, times its best rate", loc="outside upper center", ncols=2)


if __name__ == "__main__":
    main(__file__, measure, draw, size=(8.0, 7.5))
