"""The right scale: the best of 16 points comes within 1 % of the optimum at least 0.2 more often on a log axis.

Learning rates between 0.0001 and 1 are drawn on a log axis and on a linear one, values of beta1 between 0.9 and
0.999 with 1 - beta1 on a log axis and on a linear one, 512 points each, while the other hyper-parameter stays at the
best combination of a small grid. Every point trains with 12 seeds in pairs of equal initial weights and batches. A
search chooses the best of 16 points by the validation accuracy of a single run, as a person would; the chosen point
is judged by its mean test accuracy with eight other seeds. The optimum is judged by these eight too: it is the mean
of the 16 best points of both axes by the four seeds that choose, so that luck in choosing counts neither for it nor
for a search. The probability over all sets of 16 is exact; its 95 % interval is from resampled points and seeds.

Held: for both hyper-parameters the whole interval of the difference of the probabilities is above 0.2. Not held: for
none. Else it depends on those for which it is.
"""

import jax
import numpy as np
from arms import crossed
from common import COLOURS, Finding, main, percentiles, verdict_of
from searches import final

import jbn

AXES = {
    "learning_rate": {"log": jbn.log_uniform(1e-4, 1.0), "linear": jbn.uniform(1e-4, 1.0)},
    "beta1": {"log": jbn.reverse_log_uniform(0.9, 0.999), "linear": jbn.uniform(0.9, 0.999)},
}
SCALES = ("log", "linear")
RATES, BETAS = (0.001, 0.003, 0.01, 0.03, 0.1), (0.9, 0.97, 0.99, 0.997, 0.999)
POINTS, CHOOSING, JUDGING = 512, 4, 8
SIZES = (1, 2, 4, 8, 16, 32, 64)  # of a search
SEARCH = 16
WITHIN = 0.01
MARGIN = 0.2


def measure(options):
    """Trains all points with all seeds, and counts searches that come near the optimum."""
    data = jbn.data.digits()
    model = jbn.mlp(layers=1, hidden_units=32)
    task = jbn.Task(model=model, data=data, objective="loss", test_curves=True)
    epochs, points = options.size(10, 2), options.size(POINTS, 64)
    others = best_of_grid(task, epochs, seeds=options.size(8, 1))
    configs, pools = drawn(points, others)
    result = jbn.sweep(task, configs, epochs=epochs, key=jax.random.key(1), seeds=CHOOSING + JUDGING)
    chosen, judged = (final(result, part, "accuracy") for part in ("validation", "test"))
    table, curves = [], {}
    for name in AXES:
        pool = {
            scale: (chosen[rows, :CHOOSING], judged[rows, CHOOSING:]) for scale, rows in pools[name].items()
        }
        found = with_intervals(pool, draws=options.size(1000, 50))
        curves[name] = {scale: dict(zip(SIZES, found[scale], strict=True)) for scale in SCALES}
        place = SIZES.index(SEARCH)
        table.append(
            {
                "axis": name,
                "other": ", ".join(f"{key} {value:g}" for key, value in others.items() if key != name),
                "optimum_accuracy": found["optimum"],
                "near_it_one_log": found["log"][0],
                "near_it_one_linear": found["linear"][0],
                "best_of_16_log": found["log"][place],
                "best_of_16_linear": found["linear"][place],
                "log_less_linear": found["difference"][place],
            }
        )
    more = {"data": data.name, "epochs": epochs, "points": points, "curves": curves}
    return judge(table, more)


def best_of_grid(task, epochs, seeds):
    """The best combination of a few learning rates and values of beta1, by seeds of its own."""
    grid = crossed(learning_rate=RATES, beta1=BETAS)
    result = jbn.sweep(task, grid, epochs=epochs, key=jax.random.key(0), seeds=seeds)
    row = final(result, "validation", "accuracy").mean(axis=1).argmax()
    return {name: float(values[row]) for name, values in grid.items()}


def drawn(points, others):
    """Configurations of all axes below each other, and which rows are whose."""
    parts, pools, first = [], {name: {} for name in AXES}, 0
    for name, scales in AXES.items():
        for number, scale in enumerate(SCALES):
            own = jbn.search.random(jbn.Space(**{name: scales[scale]}), points, key=number)
            parts.append({other: np.full(points, value) for other, value in others.items()} | own)
            pools[name][scale] = slice(first, first + points)
            first += points
    return {name: np.concatenate([part[name] for part in parts]) for name in AXES}, pools


def probabilities(chosen, judged, optimum):
    """That the best of so many points by a single run is near the optimum; the mean over the runs, `[sizes]`."""
    count = len(judged)
    good = judged.mean(axis=1) >= (1 - WITHIN) * optimum
    ranks, sizes = np.arange(count), np.array(SIZES)[:, None]
    # that none of the points drawn is better, and not all of them are worse
    best = (1 - ranks / count) ** sizes - (1 - (ranks + 1) / count) ** sizes
    orders = [np.argsort(-run, kind="stable") for run in chosen.T]
    return np.mean([best @ good[order] for order in orders], axis=0)


def near(pool):
    """The optimum of an axis, and the probabilities of both scales and their difference."""
    chosen, judged = (np.concatenate(values) for values in zip(*pool.values(), strict=True))
    top = np.argsort(-chosen.mean(axis=1), kind="stable")[:SEARCH]
    optimum = judged[top].mean()
    found = {scale: probabilities(*own, optimum) for scale, own in pool.items()}
    return {"optimum": optimum, **found, "difference": found["log"] - found["linear"]}


def with_intervals(pool, draws):
    """`near` with percentiles of resampled points, runs that choose and runs that judge."""
    rng = np.random.default_rng(0)
    found, again = near(pool), [near(resampled(pool, rng)) for _ in range(draws)]
    count = len(pool["log"][1])
    return {name: intervals(value, [own[name] for own in again], count) for name, value in found.items()}


def intervals(value, again, count):
    """A number, or each of several, with its interval."""
    if np.ndim(value) == 0:
        return percentiles(value, again, count)
    return [percentiles(own, draws, count) for own, draws in zip(value, np.transpose(again), strict=True)]


def resampled(pool, rng):
    """Points of each scale drawn again, and seeds, the same ones for both."""
    first, second = (rng.integers(seeds, size=seeds) for seeds in (CHOOSING, JUDGING))
    again = {}
    for scale, (chosen, judged) in pool.items():
        rows = rng.integers(len(judged), size=len(judged))
        again[scale] = chosen[rows][:, first], judged[rows][:, second]
    return again


def judge(table, more):
    """For which hyper-parameters the right scale is better by more than the margin."""
    good = {row["axis"]: row["log_less_linear"].low > MARGIN for row in table}
    verdict = verdict_of(good.values())
    true = ", ".join(name for name, own in good.items() if own)
    condition = f"True for {true} alone. " if verdict == "depends" else ""
    said = "; ".join(
        f"{row['axis']} {row['best_of_16_log'].mean:.2f} on the log axis, {row['best_of_16_linear'].mean:.2f} on "
        f"the linear one, difference {row['log_less_linear']}"
        for row in table
    )
    return Finding(table, verdict, f"{condition}Best of {SEARCH} within 1 % of the optimum: {said}", more)


def draw(figure, finding):
    """The probability over the number of points."""
    axes = figure.subplots(1, len(AXES), sharey=True)
    for axis, (name, own) in zip(axes, finding.more["curves"].items(), strict=True):
        for number, scale in enumerate(SCALES):
            sizes, values = list(own[scale]), np.array([one[:3] for one in own[scale].values()])
            style = {"color": COLOURS[number], "ls": ("-", "--")[number]}
            axis.plot(sizes, values[:, 0], label=f"{scale} axis", **style)
            axis.fill_between(sizes, values[:, 1], values[:, 2], color=COLOURS[number], alpha=0.2, lw=0)
        axis.axvline(SEARCH, color="black", lw=0.8, ls=":")
        axis.set(title=name.replace("_", " "), xscale="log", xlabel="random points", ylim=(0, 1.02))
        axis.set_xticks(SIZES[::2], [str(size) for size in SIZES[::2]])
        axis.minorticks_off()
    axes[0].set_ylabel("probability that the best\nis within 1 % of the optimum")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)


if __name__ == "__main__":
    main(__file__, measure, draw)
