"""Batch norm needs its scale and shift parameters: without them accuracy falls by at least half a point.

Batch norm before the activation with both parameters, with scale or shift alone, and with neither, with sigmoid
and with ReLU, in networks of two and four hidden layers. Every arm has the learning rate that it does best with
on the validation part, chosen with other seeds; then all arms train with 32 seeds each in pairs of equal
initial weights and batches, and are compared on the test part.

Held: in every network the whole 95 % interval of what is lost without both is above half a point. Not held: in
none. Else it depends on those in which it is.
"""

import jax
import numpy as np
from arms import crossed, points, rows_of, tested, tuned
from common import COLOURS, MARKERS, Finding, digits_or_mnist, main, mean, paired, verdict_of

import jbn

AFFINE = {  # by whether there is a scale, and a shift
    (True, True): "both",
    (True, False): "scale",
    (False, True): "shift",
    (False, False): "neither",
}
ACTIVATIONS = ("sigmoid", "relu")
LAYERS = (2, 4)
RATES = (0.001, 0.003, 0.01, 0.03, 0.1)
SEEDS = 32
MARGIN = 0.5  # points


def measure(options):
    """Chooses learning rates, trains all arms, compares."""
    data = digits_or_mnist(options)
    task = jbn.Task(model=jbn.mlp(hidden_units=64), data=data)
    epochs, seeds = options.size(20, 3), options.size(SEEDS, 4)
    arms = crossed(
        activation=ACTIVATIONS[: options.size(2, 1)],
        layers=LAYERS[: options.size(2, 1)],
        batch_norm_scale=(True, False),
        batch_norm_bias=(True, False),
    )
    configs = tuned(task, arms, RATES, epochs=epochs, key=jax.random.key(0), seeds=options.size(4, 1))
    result = jbn.sweep(task, configs, epochs=epochs, key=jax.random.key(1), seeds=seeds, keep_models=True)
    accuracy, loss, table = tested(result), result.last("validation_loss"), []
    for index, row in enumerate(rows_of(configs)):
        full = index - index % len(AFFINE)
        table.append(
            {
                "activation": row["activation"],
                "layers": int(row["layers"]),
                "parameters": AFFINE[row["batch_norm_scale"], row["batch_norm_bias"]],
                "learning_rate": row["learning_rate"],
                "accuracy_points": points(mean(accuracy[index])),
                "lost_points": points(paired(accuracy[full], accuracy[index])),
                "validation_loss": mean(loss[index]),
                "scale_learned": mean(learned(result, index, "scale", 1.0)),
                "shift_learned": mean(learned(result, index, "bias", 0.0)),
            }
        )
    return judge(table, {"data": data.name, "epochs": epochs, "seeds": seeds})


def learned(result, config, part, neutral):
    """The mean of a parameter of batch norm over units and layers, of every network; `neutral` without it."""
    layers = [own["batch_norm"] for own in result.stacked(config).params.values() if "batch_norm" in own]
    values = [getattr(own, part) for own in layers]
    return [neutral] * result.seeds if values[0] is None else np.mean(values, axis=(0, 2))


def judge(table, more):
    """In which networks accuracy falls by more than the margin without both."""
    without = [row for row in table if row["parameters"] == "neither"]
    good = {
        f"{row['activation']}, {row['layers']} layers": row["lost_points"].low > MARGIN for row in without
    }
    verdict = verdict_of(good.values())
    condition = f"True for {'; '.join(n for n, own in good.items() if own)}. " if verdict == "depends" else ""
    rates = [row["learning_rate"] for row in table if row["parameters"] == "both"]
    said = ", ".join(
        f"{name} {row['lost_points']} at rates of {rate:g} with and {row['learning_rate']:g} without"
        for name, row, rate in zip(good, without, rates, strict=True)
    )
    edge = [
        name
        for name, row in zip(good, without, strict=True)
        if row["learning_rate"] in RATES[:: len(RATES) - 1]
    ]
    at_edge = f". The rate without both is at the edge of those tried: {'; '.join(edge)}" if edge else ""
    return Finding(table, verdict, f"{condition}Points of accuracy lost without both: {said}{at_edge}", more)


def draw(figure, finding):
    """What is lost by what is left out."""
    axis = figure.subplots()
    families = list(dict.fromkeys((row["activation"], row["layers"]) for row in finding.rows))
    shown = list(AFFINE.values())[1:]
    for number, (activation, layers) in enumerate(families):
        own = {
            row["parameters"]: row["lost_points"]
            for row in finding.rows
            if (row["activation"], row["layers"]) == (activation, layers)
        }
        values = [own[name] for name in shown]
        places = np.arange(len(shown)) + 0.15 * (number - (len(families) - 1) / 2)
        errors = [[one.mean - one.low for one in values], [one.high - one.mean for one in values]]
        style = {"fmt": MARKERS[number], "color": COLOURS[number], "ms": 4, "capsize": 2}
        label = f"{activation}, {layers} layers"
        axis.errorbar(places, [one.mean for one in values], yerr=errors, label=label, **style)
    axis.axhline(0, color="black", lw=0.8)
    axis.axhline(MARGIN, color="black", lw=0.8, ls=":")
    axis.set(ylabel="test accuracy lost\n(points, 95 % interval)", xlim=(-0.5, len(shown) - 0.5))
    axis.set_xticks(range(len(shown)), ["scale alone", "shift alone", "neither"])
    figure.legend(*axis.get_legend_handles_labels(), loc="outside upper center", ncols=2)


if __name__ == "__main__":
    main(__file__, measure, draw)
