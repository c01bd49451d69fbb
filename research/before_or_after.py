"""Batch norm belongs before the activation: it is at least as accurate there as after it, to half a point.

Networks of two and of six hidden layers with ReLU, sigmoid and tanh, batch norm before or after the activation.
Every arm has the learning rate that it does best with on the validation part, chosen with other seeds; then all
arms train with 32 seeds each in pairs of equal initial weights and batches, and are compared on the test part.
A second number is how soon each comes to 95 % on the validation part.

Held: wherever it is put before the activation, the whole 95 % interval of the difference is above minus half a
point. Not held: in no network. Else it depends on those in which it is.
"""

import jax
import numpy as np
from arms import crossed, points, rows_of, tested, tuned
from common import COLOURS, MARKERS, Finding, digits_or_mnist, main, mean, paired, until, verdict_of

import jbn

ACTIVATIONS = ("relu", "sigmoid", "tanh")
LAYERS = (2, 6)
SEEDS = 32
RATES = (0.001, 0.003, 0.01, 0.03)
MARGIN = 0.5  # points
TARGET = 0.95


def measure(options):
    """Chooses learning rates, trains all arms, compares."""
    data = digits_or_mnist(options)
    task = jbn.Task(model=jbn.mlp(hidden_units=64), data=data)
    layers = LAYERS[: options.size(2, 1)]
    activations = ACTIVATIONS[: options.size(3, 1)]
    epochs, seeds = options.size(20, 3), options.size(SEEDS, 4)
    arms = crossed(activation=activations, layers=layers, batch_norm=("before", "after"))
    configs = tuned(task, arms, RATES, epochs=epochs, key=jax.random.key(0), seeds=options.size(4, 1))
    result = jbn.sweep(task, configs, epochs=epochs, key=jax.random.key(1), seeds=seeds, keep_models=True)
    accuracy, soon = tested(result), until(result.curve("validation_accuracy"), TARGET)
    table = []
    for index, row in list(enumerate(rows_of(configs)))[::2]:
        table.append(
            {
                "activation": row["activation"],
                "layers": int(row["layers"]),
                "rate_before": row["learning_rate"],
                "rate_after": float(configs["learning_rate"][index + 1]),
                "accuracy_before": points(mean(accuracy[index])),
                "accuracy_after": points(mean(accuracy[index + 1])),
                "before_less_after_points": points(paired(accuracy[index], accuracy[index + 1])),
                "epochs_to_95_before": float(np.median(soon[index])),
                "epochs_to_95_after": float(np.median(soon[index + 1])),
            }
        )
    return judge(table, {"data": data.name, "epochs": epochs, "seeds": seeds})


def undecided(row):
    """Whether the interval has the margin in it."""
    own = row["before_less_after_points"]
    return own.low <= -MARGIN <= own.high


def judge(table, more):
    """Where batch norm before the activation loses less than half a point."""
    good = [row["before_less_after_points"].low > -MARGIN for row in table]
    named = [f"{row['activation']} with {row['layers']} layers" for row in table]
    verdict = verdict_of(good)
    where = [name for name, own in zip(named, good, strict=True) if own]
    said = ", ".join(
        f"{name} {row['before_less_after_points'].mean:+.2f} ({row['before_less_after_points'].low:+.2f} to "
        f"{row['before_less_after_points'].high:+.2f})"
        for name, row in zip(named, table, strict=True)
    )
    open_ = [name for name, row in zip(named, table, strict=True) if undecided(row)]
    condition = f"Shown for {', '.join(where)}; " if verdict == "depends" else ""
    condition += f"undecided for {', '.join(open_) or 'none'}. "
    return Finding(table, verdict, f"{condition}Points of accuracy before less after: {said}", more)


def draw(figure, finding):
    """The difference by activation and depth."""
    axis = figure.subplots()
    depths = sorted({row["layers"] for row in finding.rows})
    names = list(dict.fromkeys(row["activation"] for row in finding.rows))
    for number, depth in enumerate(depths):
        own = [row["before_less_after_points"] for row in finding.rows if row["layers"] == depth]
        places = np.arange(len(own)) + 0.2 * (number - (len(depths) - 1) / 2)
        low, high = ([abs(one[end] - one.mean) for one in own] for end in (1, 2))
        axis.errorbar(
            places,
            [one.mean for one in own],
            yerr=[low, high],
            fmt=MARKERS[number],
            color=COLOURS[number],
            ms=4,
            capsize=2,
            label=f"{depth} hidden layers",
        )
    axis.axhline(0, color="black", lw=0.8)
    axis.axhline(-MARGIN, color="black", lw=0.8, ls=":")
    axis.set(
        ylabel="test accuracy, before less after\n(points, 95 % interval)", xlim=(-0.5, len(names) - 0.5)
    )
    axis.set_xticks(range(len(names)), names)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside upper center", ncols=2)


if __name__ == "__main__":
    main(__file__, measure, draw)
