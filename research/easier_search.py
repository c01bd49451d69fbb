"""Batch norm makes the search easier: a decade more of rates and of initial scales works, and twice as many guesses.

Networks of three hidden layers with ReLU, with and without batch norm, by gradient descent with momentum 0.9 and by
Adam. For each the best learning rate and initial scale (a factor of all initial weights of He et al. 2015) are
chosen on a grid, with other seeds. Then six decades of learning rates at that scale, and six of scales at that rate,
half a decade apart, train with 32 seeds each; a value works if its mean accuracy on the validation part is at most
1 % below the best of its axis. Last, random learning rates and scales from the same six decades each train once with
and once without batch norm, from the same seed: a guess works if it is at most 1 % below the best of either axis.

Held: with every optimiser the whole 95 % intervals are above 1 for the decades of rates and of scales that work
with batch norm less those without (seeds resampled), and above 2 for how many times as many guesses work (guesses
resampled). Not held: none is. Else it depends on those that are.
"""

import itertools

import jax
import numpy as np
from arms import configs_of
from common import COLOURS, Finding, Interval, bootstrap, main, mean, share, verdict_of

import jbn

OPTIMIZERS = ("sgd", "adam")
SPACING = 0.5  # decades
RATES = {"sgd": 10 ** np.arange(-4, 2.1, SPACING), "adam": 10 ** np.arange(-5, 1.1, SPACING)}
SCALES = 10 ** np.arange(-3, 3.1, SPACING)
NORM = (False, True)
SEEDS = 32
GUESSES = 256
WITHIN = 0.01
MORE_DECADES = 1
TIMES_GUESSES = 2
UNITS = 32


def accuracies(task, rows, options, key, seeds):
    """Validation accuracy of all configurations, `[configurations, seeds]`; 0 where training diverges."""
    epochs = options.size(20, 5)
    result = jbn.sweep(task, configs_of(rows), epochs=epochs, key=key, seeds=seeds)
    return np.nan_to_num(result.last("validation_accuracy"))


def config(optimizer, norm, rate, scale):
    """One configuration."""
    place = "before" if norm else "none"
    return {"optimizer": optimizer, "batch_norm": place, "learning_rate": rate, "initial_scale": scale}


def best(task, rivals, options):
    """The best rate and scale of every rival, on every other value of both."""
    grids = [list(itertools.product(RATES[optimizer][::2], SCALES[::2])) for optimizer, _ in rivals]
    rows = [config(*rival, *pair) for rival, grid in zip(rivals, grids, strict=True) for pair in grid]
    found = accuracies(task, rows, options, jax.random.key(0), options.size(4, 1)).mean(axis=1)
    places = found.reshape(len(rivals), -1).argmax(axis=1)
    return [grid[place] for grid, place in zip(grids, places, strict=True)]


def axes_of(task, rivals, centres, options):
    """Accuracy along both axes through the best of every rival, `[rivals, axes, values, seeds]`."""
    rows = []
    for (optimizer, norm), (rate, scale) in zip(rivals, centres, strict=True):
        rows += [config(optimizer, norm, own, scale) for own in RATES[optimizer]]
        rows += [config(optimizer, norm, rate, own) for own in SCALES]
    found = accuracies(task, rows, options, jax.random.key(1), options.size(SEEDS, 3))
    return found.reshape(len(rivals), 2, len(SCALES), -1)


def guesses(task, rivals, options):
    """Accuracy of the same random rates and scales of every rival, `[rivals, guesses]`."""
    count, spaces = options.size(GUESSES, 32), {}
    for optimizer in {own for own, _ in rivals}:
        low, high = RATES[optimizer][[0, -1]]
        space = jbn.Space(
            learning_rate=jbn.log_uniform(low, high), initial_scale=jbn.log_uniform(SCALES[0], SCALES[-1])
        )
        spaces[optimizer] = jbn.search.random(space, count, key=jax.random.key(2))
    rows = [
        config(optimizer, norm, *pair)
        for optimizer, norm in rivals
        for pair in zip(spaces[optimizer]["learning_rate"], spaces[optimizer]["initial_scale"], strict=True)
    ]
    return accuracies(task, rows, options, jax.random.key(3), 1).reshape(len(rivals), count)


def decades(values):
    """Of an axis that work: `values` is `[seeds, values]`."""
    own = values.mean(axis=0)
    return SPACING * np.sum(own >= own.max() - WITHIN)


def measure(options):
    """Chooses the middle, trains both axes and the guesses, compares."""
    data = jbn.data.digits()
    optimizers = OPTIMIZERS[: options.size(2, 1)]
    task = jbn.Task(model=jbn.mlp(layers=3, hidden_units=UNITS), data=data, optimizer=optimizers)
    rivals = list(itertools.product(optimizers, NORM))
    centres = best(task, rivals, options)
    along = axes_of(task, rivals, centres, options)
    highest = along.mean(axis=-1).max(axis=(1, 2))
    works = guesses(task, rivals, options) >= highest[:, None] - WITHIN
    table = []
    for index in range(0, len(rivals), 2):
        pair = slice(index, index + 2)
        table += compared(rivals[pair], centres[pair], along[pair], works[pair])
    curves = {
        f"{optimizer}, {'with' if norm else 'without'}": [[mean(own) for own in axis] for axis in values]
        for (optimizer, norm), values in zip(rivals, along, strict=True)
    }
    return judge(table, {"data": data.name, "axes": curves})


def compared(rivals, centres, along, works):
    """Two rows: without batch norm, and with it and how much more works."""
    rows = []
    for (optimizer, norm), (rate, scale), values, own in zip(rivals, centres, along, works, strict=True):
        rows.append(
            {
                "optimiser": optimizer,
                "batch_norm": norm,
                "rate": rate,
                "scale": scale,
                "accuracy": mean(values.mean(axis=-1).max(axis=1)).mean,
                "decades_of_rates": bootstrap(values[0].T, decades),
                "decades_of_scales": bootstrap(values[1].T, decades),
                "guesses": share(int(own.sum()), len(own)),
                "more_decades_of_rates": more_decades(along[:, 0]) if norm else "",
                "more_decades_of_scales": more_decades(along[:, 1]) if norm else "",
                "times_guesses": times(works) if norm else "",
            }
        )
    return rows


def more_decades(pair):
    """Decades that work with batch norm less those without; `[rivals, values, seeds]`."""
    return bootstrap(pair.transpose(2, 0, 1), lambda own: decades(own[:, 1]) - decades(own[:, 0]))


def times(works) -> Interval:
    """How many times as many guesses work with batch norm; one is added to both, so that none is no infinity."""
    return bootstrap(works.T, lambda own: (own[:, 1].sum() + 1) / (own[:, 0].sum() + 1))


def judge(table, more):
    """Which of the three are large enough, by optimiser."""
    limits = {
        "more_decades_of_rates": MORE_DECADES,
        "more_decades_of_scales": MORE_DECADES,
        "times_guesses": TIMES_GUESSES,
    }
    own = [row for row in table if row["batch_norm"]]
    good = {
        f"{row['optimiser']} {name.replace('_', ' ')}": row[name].low > limit
        for row in own
        for name, limit in limits.items()
    }
    verdict = verdict_of(good.values())
    condition = f"True for {', '.join(n for n, own in good.items() if own)}. " if verdict == "depends" else ""
    said = "; ".join(
        f"{row['optimiser']}: " + ", ".join(f"{name.replace('_', ' ')} {row[name]}" for name in limits)
        for row in own
    )
    return Finding(table, verdict, condition + said, more)


def draw(figure, finding):
    """Accuracy along both axes, one row an optimiser."""
    own = finding.more["axes"]
    names = list(dict.fromkeys(label.split(",")[0] for label in own))
    axes = figure.subplots(len(names), 2, sharey=True, squeeze=False)
    for row, name in zip(axes, names, strict=True):
        for number, kind in enumerate(("without", "with")):
            both = zip(row, own[f"{name}, {kind}"], (RATES[name], SCALES), strict=True)
            for axis, values, places in both:
                middle, low, high = np.array([value[:3] for value in values]).T
                style = {"color": COLOURS[1 - number], "marker": "so"[number], "ls": ("--", "-")[number]}
                axis.plot(places, middle, ms=2.5, label=f"{kind} batch norm", **style)
                axis.fill_between(places, low, high, color=style["color"], alpha=0.2, lw=0)
                axis.set(xscale="log", ylim=(0, 1))
        row[0].set_ylabel(f"accuracy, {name}")
    axes[-1, 0].set_xlabel("learning rate")
    axes[-1, 1].set_xlabel("initial scale")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)


if __name__ == "__main__":
    main(__file__, measure, draw, size=(8.0, 7.5))
