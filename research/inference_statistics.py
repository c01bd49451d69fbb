"""At test time any sensible estimate of the statistics will do: all are within half a point of a population pass.

The running average with momentum 0.9, 0.99 and 0.999, corrected for its start and as most frameworks keep it
(from mean 0 and variance 1), the equal-weight average of the batches of one pass, and that pass's population
statistics, of the same networks after 1, 3, 10 and 30 epochs with batches of 16, 64 and 256, 32 seeds each.
Beside them the statistics of the test batch itself: of 2 to 128 rows in random order, of 32 rows of one class,
and of a single row, whose batch statistics leave nothing of it.

Held: the corrected averages of every momentum and the equal-weight average are within half a point of the
population pass everywhere (whole 95 % interval of the mean over pairs). Depends: somewhere; the condition is
the momenta, batch sizes and steps where all that is later is within it, too. Not held: nowhere.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from arms import crossed, points
from common import Finding, digits_or_mnist, main, paired, verdict_of
from pictures import error_bars

import jbn

MOMENTA = (0.9, 0.99, 0.999)
BATCH_SIZES = (16, 64, 256)
EPOCHS = (1, 3, 10, 30)
TEST_BATCHES = (2, 4, 8, 32, 128)
SEEDS = 32
MARGIN = 0.5  # points
LEARNING_RATE = 0.003
EPSILON = 1e-5


class Setting:
    """A model with one batch size: accuracies of several networks on the test part under different statistics."""

    def __init__(self, task, model, batch_size):
        self._train = functools.partial(task.model.train, key=jax.random.key(0), hyper=model.hyper)
        self._infer = functools.partial(task.model.infer, hyper=model.hyper)
        train, test = (model.rows(part.x, part.y) for part in (task.data.train, task.data.test))
        self.steps = len(train.y) // batch_size
        order = np.random.default_rng(0).permutation(len(train.y))[: self.steps * batch_size]
        self._batches = jnp.asarray(train.x)[order.reshape(self.steps, batch_size)]
        self._x, self.y = jnp.asarray(test.x), np.asarray(test.y)
        self._outputs = jax.jit(jax.vmap(lambda params, stats: self._infer(params, stats, self._x)))

    def accuracy(self, params, stats):
        """With these running statistics, of every network."""
        return right(self._outputs(params, stats), self.y)

    def passes(self, params, stats):
        """Statistics of one pass over the training part by the name of how they are put together."""

        @jax.jit
        @jax.vmap
        def one(params, stats):
            def train(own, x):
                return self._train(params, own, x)[1]

            found = jbn.batch_norm.collect(train, stats, self._batches)
            return jbn.batch_norm.population(found), jbn.batch_norm.average(found)

        return dict(zip(("population pass", "equal-weight average"), one(params, stats), strict=True))

    def by_batch(self, params, stats, order, size):
        """With the statistics of test batches of this size in this order; first rows fill up the last."""
        whole = np.resize(order, -(-len(order) // size) * size).reshape(-1, size)

        @jax.jit
        @jax.vmap
        def one(params, stats):
            return jax.vmap(lambda rows: self._train(params, stats, self._x[rows])[0])(whole)

        outputs = np.asarray(one(params, stats))
        outputs = outputs.reshape(len(outputs), whole.size, -1)[:, : len(order)]
        return right(outputs, self.y[order])

    def alone(self, params, stats):
        """With the batch statistics of a single row each: the second row of a batch is masked."""
        mask = jnp.array([True, False])

        @jax.jit
        @jax.vmap
        def one(params, stats):
            return jax.vmap(lambda x: self._train(params, stats, jnp.stack([x, x]), mask=mask)[0][0])(self._x)

        return right(one(params, stats), self.y)


def right(outputs, y):
    """The share of rows that every network is right about."""
    return (np.asarray(outputs).argmax(-1) == y).reshape(len(outputs), -1).mean(axis=1)


def uncorrected(stats, momentum, steps):
    """What an average that started from mean 0 and variance 1 would be: `m^n start + (1 - m^n) corrected`."""
    kept = momentum**steps
    return {
        name: own._replace(mean=(1 - kept) * own.mean, var=kept + (1 - kept) * own.var)
        for name, own in stats.items()
    }


def estimates(result, task, batch_size, epochs, settings):
    """Accuracy of every estimate for the networks of a batch size, one a seed, by name."""
    place = [row for row, size in enumerate(result.configs["batch_size"]) if size == batch_size]
    families = [result.stacked(row)[:2] for row in place]
    if batch_size not in settings:
        settings[batch_size] = Setting(task, result.best(), batch_size)
    setting, networks = settings[batch_size], families[0]
    found = {name: setting.accuracy(networks[0], own) for name, own in setting.passes(*networks).items()}
    for momentum, (params, stats) in zip(MOMENTA, families, strict=True):
        started = uncorrected(stats, momentum, epochs * setting.steps)
        found[f"corrected, {momentum}"] = setting.accuracy(params, stats)
        found[f"uncorrected, {momentum}"] = setting.accuracy(params, started)
    return found, setting, networks


def by_test_batch(setting, networks):
    """Accuracy under the statistics of the test batch, one a network, by what the batch is."""
    mixed = np.random.default_rng(1).permutation(len(setting.y))
    one_class = np.concatenate([np.flatnonzero(setting.y == c)[:32] for c in range(setting.y.max() + 1)])
    found = {f"test batch of {size}": setting.by_batch(*networks, mixed, size) for size in TEST_BATCHES}
    found["test batch of 32, one class"] = setting.by_batch(*networks, one_class, 32)
    found["a single row"] = setting.alone(*networks)
    return found


def measure(options):
    """Trains for each length, applies every estimate, compares with the population pass."""
    data = digits_or_mnist(options)
    task = jbn.Task(model=jbn.mlp(layers=2, hidden_units=64), data=data)
    sizes, lengths = BATCH_SIZES[-options.size(3, 1) :], EPOCHS[: options.size(4, 1)]
    configs = {
        **crossed(batch_size=sizes, batch_norm_momentum=MOMENTA),
        "learning_rate": np.full(len(sizes) * len(MOMENTA), LEARNING_RATE),
    }
    table, settings = [], {}
    for epochs in lengths:
        seeds = options.size(SEEDS, 2)
        key = jax.random.key(0)  # the same: a longer run begins as a shorter one
        result = jbn.sweep(task, configs, epochs=epochs, key=key, seeds=seeds, keep_models=True)
        for batch_size in sizes:
            found, setting, networks = estimates(result, task, batch_size, epochs, settings)
            if epochs == lengths[-1] and batch_size == sizes[len(sizes) // 2]:
                found |= by_test_batch(setting, networks)
            table += compared(found, batch_size, epochs * setting.steps)
    return judge(table, {"data": data.name, "margin_points": MARGIN})


def compared(found, batch_size, steps):
    """Rows of the table: every estimate less the population pass, in pairs."""
    reference = found["population pass"]
    return [
        {
            "batch_size": batch_size,
            "steps": steps,
            "statistics": name,
            "accuracy_points": 100 * float(np.mean(values)),
            "less_population_pass_points": points(paired(values, reference)),
        }
        for name, values in found.items()
        if name != "population pass"
    ]


def inside(row):
    """Whether the whole interval is within the margin."""
    own = row["less_population_pass_points"]
    return own.low > -MARGIN and own.high < MARGIN


def judge(table, more):
    """Which of the sensible estimates are within the margin, and from how many steps on."""
    names = ["equal-weight average", *(f"corrected, {momentum}" for momentum in MOMENTA)]
    sensible = [row for row in table if row["statistics"] in names]
    good = [inside(row) for row in sensible]
    said = [f"{name}: {since(name, table)}" for name in [*names, *(f"uncorrected, {m}" for m in MOMENTA)]]
    verdict = verdict_of(good)
    worst = min(sensible, key=lambda row: row["less_population_pass_points"].mean)
    because = (
        f"{sum(good)} of {len(good)} cases of sensible estimates are within {MARGIN} points; the worst is "
        f"{worst['statistics']} after {worst['steps']} steps of {worst['batch_size']} rows, "
        f"{worst['less_population_pass_points'].mean:+.2f} points. Within it at "
    )
    return Finding(table, verdict, because + "; ".join(said), more)


def since(name, table):
    """From how many steps on an estimate is within the margin, by batch size."""
    said = []
    for size in dict.fromkeys(row["batch_size"] for row in table):
        own = [row for row in table if row["statistics"] == name and row["batch_size"] == size]
        outside = [row["steps"] for row in own if not inside(row)]
        later = [row["steps"] for row in own if not outside or row["steps"] > max(outside)]
        said.append(f"{size}: from {min(later)} steps" if later else f"{size}: never")
    return "(" + ", ".join(said) + ")"


def draw(figure, finding):
    """Left: the averages over the steps; right: the statistics of the test batch."""
    left, right = figure.subplots(1, 2)
    size = (
        finding.rows[-1]["batch_size"] if len({r["batch_size"] for r in finding.rows}) < 2 else BATCH_SIZES[1]
    )
    shown = [
        "equal-weight average",
        *(f"{kind}, {m}" for m in MOMENTA[1:] for kind in ("corrected", "uncorrected")),
    ]
    for number, name in enumerate(shown):
        own = [row for row in finding.rows if row["statistics"] == name and row["batch_size"] == size]
        bars(left, [row["steps"] for row in own], own, number, name)
    left.set(xscale="log", xlabel="steps", ylabel="accuracy less that of the\npopulation pass (points)")
    ticks(left, sorted({row["steps"] for row in finding.rows if row["batch_size"] == size}))
    left.set_ylim(-30, 1)
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=2, fontsize=6)
    own = [
        row
        for row in finding.rows
        if row["statistics"].startswith("test batch") and "class" not in row["statistics"]
    ]
    bars(right, [int(row["statistics"].split()[-1]) for row in own], own, 0, None)
    right.set(xscale="log", xlabel="rows of test batch")
    ticks(right, TEST_BATCHES)
    right.set_ylim(-100, 1)


def ticks(axis, places):
    """Marks these places, and points of accuracy on a scale that is linear around 0."""
    axis.set_xticks(places, [str(place) for place in places])
    axis.set_yscale("symlog", linthresh=1)
    axis.set_yticks([-100, -30, -10, -3, -1, 0, 1], ["-100", "-30", "-10", "-3", "-1", "0", "1"])
    axis.minorticks_off()


def bars(axis, places, rows, number, label):
    """Means with intervals over places."""
    error_bars(axis, places, [row["less_population_pass_points"] for row in rows], number, label=label)


if __name__ == "__main__":
    main(__file__, measure, draw, size=(8.0, 6.5))
