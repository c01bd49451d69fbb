"""Batch norm works by holding hidden inputs still: they drift half as much, and noise there costs half the speed.

Networks of three hidden layers with batch norm, with batch norm and noise behind it that puts the shift back
(Santurkar et al. 2018), and without, 32 seeds each in pairs of equal initial weights and batches, trained by SGD
with the learning rate at which each comes soonest to a validation loss of 0.25, chosen with other seeds. All parts
are of networks at these rates; at others they move further or less far:

- colouring: digits in another colouring than that trained on, read with the moving averages, and with the
  statistics of the new colouring. True: these win back more than half of what is lost, in every colouring.
- drift: how far the inputs of hidden layers 2 and 3 move between 1, 2, 4, 8 and 16 epochs, in deviations. True:
  with batch norm at most half as far as without.
- speed: steps to the target. True: noise costs more than half of what batch norm gains (on a logarithmic scale).
  Not tested where batch norm gains nothing or the noise moves the inputs less than training without batch norm.
- later layers: the kernels of layers 1 and 2 are changed at random. True: with batch norm (statistics of the batch,
  as in training) the accuracy falls by at least a point less than without.

Held: all four are true (by the whole 95 % interval). Not held: none is. Else it depends on the parts that are.
Which parts are true hangs on the rates: with batch norm at 0.1, on a coarser grid or chosen with fewer seeds, inputs
drifted 0.38 and 0.40 times as far (true), and later layers lost 0.76 (not true) and 2.2 points less (true).
Beside them: how much the gradient changes within a step of 1 % of the weights, which tells how smooth the loss is.
"""

import itertools

import jax
import numpy as np
from arms import crossed, factor, points
from common import COLOURS, Finding, main, mean, paired, verdict_of
from networks import init
from pictures import error_bars, ticks
from shifts import COLOURINGS, after_change, apply, by_statistics, drift, gradient_change, soon

import jbn

ARMS = {"batch norm": (True, 0.0), "batch norm and noise": (True, 1.0), "none": (False, 0.0)}
NORM, NOISE, NONE = ARMS
RATES = (0.01, 0.02, 0.03, 0.06, 0.1, 0.2, 0.3, 0.6)
EPOCHS = (1, 2, 4, 8, 16)
CHANGES = (0.1, 0.2, 0.4, 0.8)
SEEDS = 32
TARGET = 0.25  # validation loss
STEP = 0.01  # of the weights
MARGIN = 1.0  # points
BATCH = 64


def tuned(task, epochs, seeds):
    """The arms with the learning rate at which each is soonest at the target."""
    arms = crossed(arm=tuple(ARMS.values()), learning_rate=RATES)
    norm, shift = (np.array([own[place] for own in arms["arm"].tolist()]) for place in (0, 1))
    configs = {"norm": norm.astype(bool), "shift": shift, "learning_rate": arms["learning_rate"]}
    result = jbn.sweep(task, configs, epochs=epochs, key=jax.random.key(0), seeds=seeds)
    found = soon(result.curve("validation_loss"), TARGET)
    best = np.log(found).mean(axis=1).reshape(len(ARMS), -1).argmin(axis=1)
    rows = len(RATES) * np.arange(len(ARMS)) + best
    return {name: values[rows] for name, values in configs.items()}


def measure(options):
    """Trains all arms for each length, and does what the parts ask for."""
    data, lengths = jbn.data.digits(), EPOCHS[: options.size(len(EPOCHS), 2)]
    task = jbn.Task(model=jbn.model(init, apply), data=data, optimizer="sgd")
    configs, seeds = tuned(task, lengths[-1], options.size(SEEDS, 1)), options.size(SEEDS, 4)
    result = jbn.sweep(
        task, configs, epochs=lengths[-1], key=jax.random.key(1), seeds=seeds, snapshots=lengths
    )
    then = [result.at(epochs) for epochs in lengths]
    networks = {name: [own.stacked(index)[:2] for own in then] for index, name in enumerate(ARMS)}
    losses = result.curve("validation_loss")
    some = np.random.default_rng(0).choice(len(data.train.y), 512, replace=False)
    train = result.best().rows(data.train.x[some], data.train.y[some])
    order = np.random.default_rng(1).permutation(len(data.test.y))[: len(data.test.y) // BATCH * BATCH]
    table = [
        *coloured(networks, result.best(), data, order),
        *drifting(networks, train),
        *fast(losses, steps=len(data.train.y) // BATCH),
        *later(networks, result.best().rows(data.test.x[order], data.test.y[order])),
    ]
    shown = {name: [mean(row) for row in losses[:, index]] for index, name in enumerate(ARMS)}
    rates = dict(zip(ARMS, configs["learning_rate"].tolist(), strict=True))
    return judge(table, {"data": data.name, "seeds": seeds, "learning_rates": rates, "losses": shown})


def row(part, case, quantity, value):
    """A row of the table."""
    return {"part": part, "case": case, "quantity": quantity, "value": value}


def coloured(networks, model, data, order):
    """Accuracy on every colouring with old and new statistics, and how much more than half is won back."""
    table, plain = [], None
    for name, paint in {"as trained": lambda x: x, **COLOURINGS}.items():
        x, y, _ = model.rows(paint(data.test.x[order]), data.test.y[order])
        others = model.rows(paint(data.train.x), data.train.y).x
        batches = x.reshape(-1, BATCH, x.shape[1])
        moving, batch, population = by_statistics(networks[NORM][-1], batches, y, others)
        without = by_statistics(networks[NONE][-1], batches, y, others)[0]
        plain = np.asarray(moving) if plain is None else plain
        shown = {"moving averages": moving, "test batches": batch, "new colouring": population, NONE: without}
        table += [row("colouring", name, own, points(mean(value))) for own, value in shown.items()]
        if name != "as trained":
            lost, won = plain - np.asarray(moving), np.asarray(population) - np.asarray(moving)
            table.append(row("colouring", name, "won back less half of lost", points(mean(won - lost / 2))))
    return table


def drifting(networks, rows):
    """How far hidden inputs move between lengths, that over the same without batch norm, and smoothness."""
    table, total, turns = [], {}, {}
    for name, (_, shift) in ARMS.items():
        own = networks[name]
        moved = [drift(*two, rows.x, shift) for two in itertools.pairwise(own)]
        table += [
            row("drift", f"{name}, epoch {start} to {end}", "deviations", mean(value))
            for (start, end), value in zip(itertools.pairwise(EPOCHS), moved, strict=False)
        ]
        total[name] = np.log(np.mean(moved, axis=0))
        turns[name] = np.log([gradient_change(two, rows.x, rows.y, shift, STEP) for two in own]).mean(axis=0)
    for name in (NORM, NOISE):
        table += [
            row("drift", name, "over none", factor(total[name] - total[NONE])),
            row("smoothness", name, "change of gradient over none", factor(turns[name] - turns[NONE])),
        ]
    return table


def fast(losses, steps):
    """Steps to the target, what batch norm gains, what noise costs, and how much more that is than half."""
    logs = dict(zip(ARMS, np.log(steps * soon(losses, TARGET)), strict=True))
    gained, cost = logs[NONE] - logs[NORM], logs[NOISE] - logs[NORM]
    return [
        *(row("speed", name, "steps", factor(own)) for name, own in logs.items()),
        row("speed", NORM, "times as fast as none", factor(gained)),
        row("speed", NOISE, "steps over batch norm", factor(cost)),
        row("speed", NOISE, "cost less half of gain (log)", mean(cost - gained / 2)),
    ]


def later(networks, rows):
    """Accuracy and inputs of layer 3 after changes of layers 1 and 2."""
    table, lost = [], {}
    for name in (NORM, NONE):
        plain = after_change(networks[name][-1], rows.x, rows.y, 0.0)[1]
        found = [after_change(networks[name][-1], rows.x, rows.y, size) for size in CHANGES]
        for size, (moved, batch, running) in zip(CHANGES, found, strict=True):
            table.append(row("later layers", f"{name}, {size}", "layer 3 moved", mean(moved)))
            table.append(row("later layers", f"{name}, {size}", "accuracy", points(mean(batch))))
            if name == NORM:
                table.append(row("later layers", f"{name}, {size}", "moving averages", points(mean(running))))
        lost[name] = np.mean([np.asarray(plain - batch) for _, batch, _ in found], axis=0)
    table.append(row("later layers", "all", "lost less than none", points(paired(lost[NONE], lost[NORM]))))
    return table


def judge(table, more):
    """Which of the four parts are true."""
    own = {(one["case"], one["quantity"]): one["value"] for one in table}
    won = {name: own[name, "won back less half of lost"] for name in COLOURINGS}
    still, noise = own[NORM, "over none"], own[NOISE, "over none"]
    gained, cost = own[NORM, "times as fast as none"], own[NOISE, "cost less half of gain (log)"]
    withstood = own["all", "lost less than none"]
    tested = gained.low > 1 and noise.low > 1
    good = {
        "colouring": all(one.low > 0 for one in won.values()),
        "drift": still.high < 0.5,
        "speed": tested and cost.low > 0,
        "later layers": withstood.low > MARGIN,
    }
    verdict = verdict_of(good.values())
    condition = (
        f"True for {', '.join(n for n, is_so in good.items() if is_so)}. " if any(good.values()) else ""
    )
    back = [name for name, one in won.items() if one.low > 0]
    rates = ", ".join(f"{rate:g} ({name})" for name, rate in more["learning_rates"].items())
    said = (
        f"At learning rates of {rates}: new statistics win back more than half of what is lost in {len(back)} of "
        f"{len(won)} colourings ({', '.join(back)}); hidden inputs drift {still} times as far as without it; "
        f"it is {gained} times as fast, and noise that moves them {noise} times as far as without costs "
        f"{own[NOISE, 'steps over batch norm']} times the steps{'' if tested else ' (which tests nothing)'}; within "
        f"a step the gradient changes {own[NORM, 'change of gradient over none']} times as much, with noise "
        f"{own[NOISE, 'change of gradient over none']}; after changes of earlier layers {withstood} points less are "
        f"lost"
    )
    return Finding(table, verdict, condition + said, more)


def draw(figure, finding):
    """A panel for each part."""
    (colouring, drifted), (speed, layers) = figure.subplots(2, 2)
    draw_colourings(colouring, finding.rows)
    draw_drift(drifted, finding.rows)
    for number, (name, own) in enumerate(finding.more["losses"].items()):
        values, epochs = np.array([one[:3] for one in own]), np.arange(1, len(own) + 1)
        speed.plot(epochs, values[:, 0], color=COLOURS[number], label=name)
        speed.fill_between(epochs, values[:, 1], values[:, 2], color=COLOURS[number], alpha=0.2, lw=0)
    speed.axhline(TARGET, color="black", lw=0.8, ls=":")
    speed.set(xlabel="epochs", ylabel="validation loss", yscale="log")
    ticks(speed.yaxis, (0.06, 0.1, 0.25, 0.5, 1))
    draw_changes(layers, finding.rows)
    for axis in (colouring, drifted, speed, layers):
        own = {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": 2, "fontsize": 6}
        axis.legend(borderaxespad=0.2, columnspacing=1, handlelength=1.5, **own)


def draw_colourings(axis, rows):
    """Accuracy by colouring and statistics."""
    cases = ["as trained", *COLOURINGS]
    for number, name in enumerate(("moving averages", "test batches", "new colouring", NONE)):
        values = [one["value"] for one in rows if one["part"] == "colouring" and one["quantity"] == name]
        places = np.arange(len(cases)) + 0.15 * (number - 1.5)
        label = "no batch norm" if name == NONE else f"of {name}"
        error_bars(axis, places, values, number, ls="", label=label)
    axis.set_xticks(range(len(cases)), [name.replace(" ", "\n") for name in cases])
    axis.set_ylabel("test accuracy (points)")


def draw_drift(axis, rows):
    """How far hidden inputs move from length to length."""
    for number, name in enumerate(ARMS):
        own = [one for one in rows if one["part"] == "drift" and one["case"].startswith(f"{name}, epoch")]
        places = np.arange(len(own)) + 0.1 * (number - 1)
        error_bars(axis, places, [one["value"] for one in own], number, label=name)
    axis.set_xticks(range(len(own)), [one["case"].split("epoch ")[1] for one in own])
    axis.set(xlabel="epochs", ylabel="hidden inputs move by\n(deviations)", yscale="log")
    ticks(axis.yaxis, (0.03, 0.1, 0.3, 1))


def draw_changes(axis, rows):
    """Accuracy after changes of the first two layers."""
    shown = (
        (NORM, "accuracy", NORM),
        (NORM, "moving averages", "its moving averages"),
        (NONE, "accuracy", NONE),
    )
    for number, (name, quantity, label) in zip((0, 4, 2), shown, strict=True):
        own = [one["value"] for one in rows if one["quantity"] == quantity and name in one["case"]]
        error_bars(axis, CHANGES, own, number, label=label)
    axis.set(
        xlabel="change of layers 1 and 2 (share of weights)", ylabel="test accuracy (points)", xscale="log"
    )
    ticks(axis.xaxis, CHANGES)


if __name__ == "__main__":
    main(__file__, measure, draw, size=(16.0, 13.0))
