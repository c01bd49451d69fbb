"""Batch norm regularises slightly: its noise narrows the gap by more than 0, by less than dropout does, and fades.

Networks of two hidden layers with and without batch norm train by Adam with batches of 16, 64, 256 and 512 rows for
equal numbers of steps; without batch norm the same batches show what mini-batches do alone. Ghost batches of 16 and
64 rows in batches of 256 have the noise of small batches with the gradients of large ones. Dropout of 20 % trains
against and together with batch norm at 64 rows. Every arm has the learning rate with which it is most accurate on
the validation part, chosen with other seeds; ghost batches have that of whole batches of 256, so that the noise is
all that differs. 32 seeds each are pairs of equal initial weights and batches.

The gap is the mean loss on the test part less that on the training part, both with the population statistics of the
training part. The noise is the variance of a batch's mean and of its variance about the population's, the one over
the variance and the other over its square, summed, and averaged over layers and units.

Held: the whole 95 % interval is above 0 for four differences of gaps: without less with batch norm (64 rows); with
batch norm less with dropout alone; of 256 rows less of ghost batches of 16 in them; and the first of these at the
fewest rows less at the most. Not held: for none. Else it depends on those for which it is. The last of the four
hangs on the rates: with one rate for all arms without batch norm, chosen at 64 rows, 16 rows did not converge there,
and it was above 0.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from arms import configs_of, points, tuned
from common import COLOURS, Finding, main, mean, paired, verdict_of
from networks import forward, infer, init, normalizing
from networks import train as train_pass

import jbn

SIZES = (16, 64, 256, 512)
GHOSTS = (16, 64)
GHOSTS_IN = 256
USUAL = 64
DROPPED = 0.2
STEPS, EPOCHS = 67, 8  # of an epoch, which is once through the training part with batches of 16
RATES = (0.0003, 0.001, 0.003, 0.01, 0.03)
SEEDS = 32
BATCHES = 32  # that the noise is measured on


def apply(params, x, stats, train, key, ghost=0, dropped=0.0):
    """The network with batch norm of groups of `ghost` rows (0: of all), and dropout of this share."""
    whole, moved = normalizing(params, stats, train)

    def normalize(name, z):
        if not (train and ghost):
            return whole(name, z)
        own = params[name]["batch_norm"]
        y, moved[name] = jbn.batch_norm.train_ghost(own, stats[name], z, group_size=ghost)
        return y

    def after(name, a):
        return jbn.dropout(key, a, dropped, layer=int(name.split("_")[1]))

    outputs, _ = forward(params, x, normalize, after=after)
    return outputs, moved if train else stats


def arms_of(options):
    """Every arm: with and without at each size, ghost batches, dropout."""
    sizes = SIZES[1:3] if options.smoke else SIZES
    rows = [arm(norm, size) for norm in (False, True) for size in sizes]
    rows += [arm(True, GHOSTS_IN, ghost=size) for size in GHOSTS[: options.size(2, 1)]]
    return rows + [arm(norm, USUAL, dropped=DROPPED) for norm in (False, True)[: options.size(2, 1)]]


def arm(norm, batch_size, ghost=0, dropped=0.0):
    """One of them."""
    return {"norm": norm, "batch_size": batch_size, "ghost": ghost, "dropped": dropped, "layers": 2}


def trained(task, arms, options):
    """All arms; ghost batches have the rate of the batches around them."""
    how = {"epochs": options.size(EPOCHS, 1)}
    own = [row for row in arms if not row["ghost"]]
    found = tuned(task, configs_of(own), RATES, key=jax.random.key(0), seeds=options.size(4, 1), **how)
    rates = {tuple(row.values()): rate for row, rate in zip(own, found["learning_rate"], strict=True)}
    configs = configs_of(
        [{**row, "learning_rate": rates[tuple({**row, "ghost": 0}.values())]} for row in arms]
    )
    seeds = options.size(SEEDS, 3)
    return jbn.sweep(task, configs, key=jax.random.key(1), seeds=seeds, keep_models=True, **how)


@jax.jit
@functools.partial(jax.vmap, in_axes=(0, 0, None, None))
def evaluated(params, stats, train, test):
    """Loss and accuracy on both parts, `[networks]` each, with the statistics of the whole training part."""
    population = whole_batch(params, stats, train[0])

    def part(x, y):
        scores, _ = infer(params, population, x)
        loss = -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(scores), y[:, None], 1))
        return loss, jnp.mean(scores.argmax(axis=1) == y)

    return part(*train), part(*test)


def whole_batch(params, stats, x):
    """The statistics of all rows as one batch."""
    fresh = {name: own._replace(count=jnp.zeros_like(own.count)) for name, own in stats.items()}
    return train_pass(params, fresh, x)[2]


@jax.jit
def noise(params, stats, x, batches):
    """How far the statistics of batches are from the population's, relative, of every network."""

    def one(network):
        population = whole_batch(*network, x)
        own = jax.lax.map(lambda rows: whole_batch(*network, x[rows]), batches)
        found = [
            (own[name].mean - true.mean) ** 2 / true.var + (own[name].var / true.var - 1) ** 2
            for name, true in population.items()
        ]
        return jnp.mean(jnp.stack([layer.mean() for layer in found]))

    return jax.lax.map(one, (params, stats))


def measure(options):
    """Trains all arms, evaluates, compares."""
    data = jbn.data.digits()
    task = jbn.Task(model=jbn.model(init, apply), data=data, steps_per_epoch=options.size(STEPS, 16))
    arms = arms_of(options)
    result = trained(task, arms, options)
    train, test = (result.best().rows(part.x, part.y)[:2] for part in (data.train, data.test))
    gaps, table = {}, []
    for index, own in enumerate(arms):
        networks = result.stacked(index)[:2]
        (loss, right), (test_loss, test_right) = (
            np.array(part) for part in evaluated(*networks, train, test)
        )
        gaps[tuple(own.values())] = test_loss - loss
        table.append(
            {
                "batch_norm": own["norm"],
                "batch_size": own["batch_size"],
                "ghost": own["ghost"],
                "dropout_percent": 100 * own["dropped"],
                "rate": float(result.configs["learning_rate"][index]),
                "steps": int(np.nanmax(result.curve("steps")[:, index])),
                "noise": noise_of(networks, train[0], own) if own["norm"] else "",
                "training_loss": mean(loss),
                "gap": mean(test_loss - loss),
                "gap_points": points(mean(right - test_right)),
                "test_accuracy_points": points(mean(test_right)),
            }
        )
    return judge(table, gaps, {"data": data.name})


def noise_of(networks, x, own):
    """The noise of an arm: that of its batches, or of their groups."""
    size, draw = own["ghost"] or own["batch_size"], np.random.default_rng(0)
    batches = np.stack([draw.choice(len(x), size, replace=False) for _ in range(BATCHES)])
    return mean(noise(*networks, x, batches))


def differences(gaps):
    """The four differences of gaps by what they say, and further ones that decide nothing."""

    def gap(*own, **more):
        return gaps[tuple(arm(*own, **more).values())]

    sizes = sorted({own[1] for own in gaps})
    effects = {size: gap(False, size) - gap(True, size) for size in sizes}
    decisive = {
        "narrower with batch norm": mean(effects[USUAL]),
        "narrower with dropout than with batch norm": paired(
            gap(True, USUAL), gap(False, USUAL, dropped=DROPPED)
        ),
        "narrower with the noise of 16 rows": paired(gap(True, GHOSTS_IN), gap(True, GHOSTS_IN, ghost=16)),
        f"less narrower at {sizes[-1]} than at {sizes[0]} rows": paired(
            effects[sizes[0]], effects[sizes[-1]]
        ),
    }
    other = {f"narrower with batch norm, {size} rows": mean(own) for size, own in effects.items()}
    other[f"narrower without batch norm at {sizes[0]} than at {sizes[-1]} rows"] = paired(
        gap(False, sizes[-1]), gap(False, sizes[0])
    )
    if tuple(arm(True, USUAL, dropped=DROPPED).values()) in gaps:
        both = gap(True, USUAL, dropped=DROPPED)
        other["narrower with both than with dropout"] = paired(gap(False, USUAL, dropped=DROPPED), both)
    return decisive, other


def judge(table, gaps, more):
    """Which of the four differences are above 0."""
    decisive, other = differences(gaps)
    good = {name: own.low > 0 for name, own in decisive.items()}
    verdict = verdict_of(good.values())
    condition = f"True: {'; '.join(n for n, own in good.items() if own)}. " if verdict == "depends" else ""
    said = "; ".join(f"{name} {own}" for name, own in decisive.items())
    rest = "; ".join(f"{name} {own}" for name, own in other.items())
    return Finding(table, verdict, f"{condition}Differences of gaps: {said}. Besides: {rest}", more)


def draw(figure, finding):
    """Left: the gap by batch size; right: by the noise."""
    left, right = figure.subplots(1, 2, sharey=True)
    plain = [row for row in finding.rows if not row["ghost"] and not row["dropout_percent"]]
    ghosts = [row for row in finding.rows if row["ghost"]]
    dropped = [row for row in finding.rows if row["dropout_percent"]]
    for number, norm in enumerate((False, True)):
        own = [row for row in plain if row["batch_norm"] == norm]
        colour, label = COLOURS[1 - number], "batch norm" if norm else "no batch norm"
        bars(left, own, "batch_size", color=colour, marker="so"[number], label=label)
        own = [row for row in dropped if row["batch_norm"] == norm]
        label = f"{label}, dropout"
        bars(left, own, "batch_size", shift=1.25, color=colour, marker="v^"[number], ls="none", label=label)
    bars(left, ghosts, "batch_size", color=COLOURS[2], marker="D", ls="none", label="ghost batches in 256")
    whole = [row for row in plain if row["batch_norm"]]
    bars(right, whole, "noise", color=COLOURS[0], marker="o", ls="none")
    bars(right, ghosts, "noise", color=COLOURS[2], marker="D", ls="none")
    left.set_xscale("log")
    left.set_xticks([row["batch_size"] for row in whole], [str(row["batch_size"]) for row in whole])
    left.minorticks_off()
    left.set(xlabel="batch size (rows)", ylabel="generalisation gap (nats)")
    right.set(xscale="log", xlabel="noise of statistics")
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=2, fontsize=6)


def bars(axis, rows, column, shift=1.0, **style):
    """Gaps with intervals over a column."""
    places = [shift * (own.mean if hasattr(own, "mean") else own) for own in (row[column] for row in rows)]
    own = [row["gap"] for row in rows]
    errors = np.abs([[one.low - one.mean, one.high - one.mean] for one in own]).T
    axis.errorbar(places, [one.mean for one in own], yerr=errors, ms=3, capsize=1.5, lw=1, **style)


if __name__ == "__main__":
    main(__file__, measure, draw, size=(8.0, 7.0))
