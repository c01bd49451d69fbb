"""Hyper-parameters matter in tiers: each tier's mean share of what matters is at least twice that of the next.

First the learning rate; then beta1, hidden units and batch size; then layers and decay rate; last beta2 and epsilon,
which hardly matter. 512 random configurations of these eight, as in `jbn.search.defaults(all=True)`, train with four
seeds each on the digits; their score is the mean validation accuracy. `jbn.search.importance` says by PED-ANOVA
(where the best tenth lies) how much of what matters is due to each. Intervals are from resampled configurations.
Beside it is what fANOVA (a random forest of all scores) says; it does not judge.

Held: in all three steps down the tiers the whole 95 % interval of the ratio of the mean shares is above 2. Not held:
in none. Else it depends on the steps in which it is.
"""

import jax
import numpy as np
from common import COLOURS, MARKERS, Finding, main, percentiles, verdict_of

import jbn

TIERS = (
    ("learning_rate",),
    ("beta1", "hidden_units", "batch_size"),
    ("layers", "decay_rate"),
    ("beta2", "epsilon"),
)
NAMES = tuple(name for tier in TIERS for name in tier)
TIER_OF = {name: number + 1 for number, tier in enumerate(TIERS) for name in tier}
CONFIGS, SEEDS = 512, 4
FACTOR = 2
LEAST = 1e-3  # a share below it counts as it, so that ratios exist


def measure(options):
    """Trains all configurations, and compares the tiers."""
    data = jbn.data.digits()
    space = jbn.search.defaults(all=True)
    if options.smoke:
        space = jbn.Space(**{**space, "layers": jbn.integers(1, 2), "batch_size": jbn.choice(128, 256)})
    configs = jbn.search.random(space, options.size(CONFIGS, 64), key=jax.random.key(0))
    task, epochs = jbn.Task(model=jbn.mlp(), data=data), options.size(20, 2)
    run = {"epochs": epochs, "key": jax.random.key(1), "seeds": options.size(SEEDS, 1)}
    result = jbn.sweep(task, configs, **run)
    found = jbn.search.importance(result, resamples=options.size(300, 20))
    places = [found.names.index(name) for name in NAMES]
    shares, again = found.shares[places], found.draws[:, places]
    forest = jbn.search.importance(result, method="fanova")
    forest = dict(zip(forest.names, forest.shares.tolist(), strict=True))
    table = [
        {
            "hyper-parameter": name,
            "tier_claimed": TIER_OF[name],
            "share": percentiles(shares[place], again[:, place], configs.count),
            "place": int((shares > shares[place]).sum()) + 1,
            "share_by_fanova": forest[name],
        }
        for place, name in enumerate(NAMES)
    ]
    ratios = [
        percentiles(own, others, configs.count)
        for own, others in zip(steps(shares), steps(again).T, strict=True)
    ]
    more = {"data": data.name, "epochs": epochs, "configurations": configs.count, "ratios_of_tiers": ratios}
    return judge(table, more)


def steps(shares):
    """The mean share of every tier over that of the next, `[..., tiers - 1]`."""
    places = [[NAMES.index(name) for name in tier] for tier in TIERS]
    means = np.stack([np.maximum(shares, LEAST)[..., own].mean(axis=-1) for own in places], axis=-1)
    return means[..., :-1] / means[..., 1:]


def judge(table, more):
    """Between which tiers the mean share falls by the factor."""
    named = [f"tier {step + 1} over {step + 2}" for step in range(len(TIERS) - 1)]
    good = [own.low > FACTOR for own in more["ratios_of_tiers"]]
    verdict = verdict_of(good)
    true = ", ".join(name for name, own in zip(named, good, strict=True) if own)
    condition = f"True of {true} alone. " if verdict == "depends" else ""
    ratios = ", ".join(f"{name} {own}" for name, own in zip(named, more["ratios_of_tiers"], strict=True))
    order = sorted(table, key=lambda row: -row["share"].mean)
    said = ", ".join(f"{row['hyper-parameter']} {row['share'].mean:.3f}" for row in order)
    return Finding(
        table, verdict, f"{condition}Ratios of mean shares: {ratios}. The order measured: {said}", more
    )


def draw(figure, finding):
    """Shares with their intervals, a colour a tier, and fANOVA's."""
    axis, rows = figure.subplots(), finding.rows
    for number, row in enumerate(rows):
        own, colour = row["share"], COLOURS[row["tier_claimed"] - 1]
        errors = [[max(0.0, own.mean - own.low)], [max(0.0, own.high - own.mean)]]
        axis.errorbar(own.mean, number, xerr=errors, fmt=MARKERS[0], color=colour, ms=4, capsize=2)
        axis.plot(row["share_by_fanova"], number + 0.25, MARKERS[5], color="#777777", ms=3)
    axis.plot([], [], MARKERS[0], color="black", ms=4, label="PED-ANOVA, 95 % interval")
    axis.plot([], [], MARKERS[5], color="#777777", ms=3, label="fANOVA")
    labels = [f"{row['hyper-parameter'].replace('_', ' ')} ({row['tier_claimed']})" for row in rows]
    axis.set_yticks(range(len(rows)), labels)
    axis.invert_yaxis()
    axis.set_xscale("symlog", linthresh=0.01)
    axis.set(xlabel="share of what matters", ylabel="hyper-parameter (tier claimed)", xlim=(-0.001, 1.1))
    axis.set_xticks([0, 0.01, 0.1, 1], ["0", "0.01", "0.1", "1"])
    axis.minorticks_off()
    figure.legend(*axis.get_legend_handles_labels(), loc="outside upper center", ncols=2)


if __name__ == "__main__":
    main(__file__, measure, draw)
