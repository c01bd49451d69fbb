"""Normalised inputs train faster: at most half the steps to the target, the Hessian's condition a tenth or less.

Inputs as they are, less their mean, divided by the standard deviation, and divided by the variance (as is
sometimes written), on two data sets: the digits, whose inputs have one unit, and cell nuclei of breast cancer,
whose 30 inputs have several. Softmax regression and networks of two hidden layers train by gradient descent, the
network also by Adam, and with batch norm. Every arm has the learning rate with which it comes first to the target
(95 % of the validation part), chosen with other seeds; then all arms train with 32 seeds each in pairs of
equal initial weights and batches. What never gets there counts as the last step, so factors are too near to 1.

The condition is the largest over the smallest eigenvalue of the Hessian of softmax regression before the first
step, at weights of 0, in float64. There it is `(I - 1/K) / K` of K classes times, by Kronecker, the block of one
class, so that this block has its condition over all directions but those that change no output; inputs that are
constant are left out. What is below 1e-13 of the largest eigenvalue is rounding: conditions are at most 1e13.

Held: for every data set and network without batch norm, mean and standard deviation take the condition to a tenth
or less, and the whole interval of the factor of the steps is at least 2. Not held: for none. Else it depends on
those for which they do.
"""

import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from arms import soonness, times_fewer, tuned
from common import COLOURS, MARKERS, Finding, main, until, verdict_of
from networks import apply, init

import jbn

ARMS = {
    "none": (0.0, 0.0),
    "mean": (1.0, 0.0),
    "mean, deviation": (1.0, 1.0),
    "mean, variance": (1.0, 2.0),
}  # (inputs as they are - centre * mean) / deviation^power
SEEDS = 32
RATES = 10 ** np.arange(-8, 2.1, 0.5)
UNITS = 32
TARGET = 0.95
STEPS = 2
CONDITION = 10
ZERO = 1e-13  # of the largest eigenvalue


class Network(NamedTuple):
    """What is trained, and how."""

    name: str
    optimizer: str
    layers: int
    norm: bool


NETWORKS = (
    Network("regression", "sgd", 0, norm=False),
    Network("network", "sgd", 2, norm=False),
    Network("network, Adam", "adam", 2, norm=False),
    Network("network, batch norm", "sgd", 2, norm=True),
)


class Source(NamedTuple):
    """A data set and the batch size for it."""

    data: jbn.data.Data
    batch_size: int


def sources(options):
    """The data sets; one in a smoke."""
    from sklearn.datasets import load_breast_cancer

    cells = load_breast_cancer(return_X_y=True)
    both = (
        Source(jbn.data.digits(), 256),
        Source(jbn.data.arrays(*cells, name="breast cancer"), 64),
    )
    return both[: options.size(2, 1)]


def rescaled(data, x, centre, power):
    """What an arm makes of inputs as they are; constant inputs are 0."""
    mean, deviation = data.train.x.mean(axis=0), data.train.x.std(axis=0)
    varies = deviation > 0
    mean, deviation = (jnp.asarray(own, x.dtype) for own in (mean, np.where(varies, deviation, 1)))
    return jnp.where(varies, (x - centre * mean) / deviation**power, 0)


@functools.cache
def model(data):
    """The networks, on inputs that `centre` and `power` say."""

    def rescaling(params, x, stats, train, centre=1.0, power=1.0):
        return apply(params, rescaled(data, x, centre, power), stats, train)

    return jbn.model(init, rescaling)


def configurations(networks, batch_size):
    """Every arm of every network, the arms varying fastest."""
    rows = list(itertools.product(networks, ARMS.values()))
    return {
        "optimizer": np.array([own.optimizer for own, _ in rows], object),
        "layers": np.array([own.layers for own, _ in rows]),
        "norm": np.array([own.norm for own, _ in rows]),
        "centre": np.array([centre for _, (centre, _) in rows]),
        "power": np.array([power for _, (_, power) in rows]),
        "optimizer_momentum": np.zeros(len(rows)),
        "batch_size": np.full(len(rows), batch_size),
        "units": np.full(len(rows), UNITS),
    }


def condition(data, centre, power):
    """The largest over the smallest eigenvalue of the Hessian of softmax regression at weights of 0."""
    varies = data.train.x.std(axis=0) > 0
    with jax.enable_x64(True):
        y = jnp.asarray(data.train.y)
        x = rescaled(data, jnp.asarray(data.train.x, float), centre, power)[:, varies]

        @jax.hessian
        def hessian(unit):
            scores = jnp.zeros((len(x), data.classes)).at[:, 0].set(x @ unit[:-1] + unit[-1])
            return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(scores), y[:, None], 1))

        eigenvalues = np.linalg.eigvalsh(hessian(jnp.zeros(x.shape[1] + 1)))
    return float(eigenvalues[-1] / max(eigenvalues[0], ZERO * eigenvalues[-1]))


def measure(options):
    """Chooses learning rates, trains all arms, compares; once a data set."""
    networks = NETWORKS[: options.size(4, 2)]
    table = [row for source in sources(options) for row in compared(source, networks, options)]
    return judge(table, {"target": TARGET})


def compared(source, networks, options):
    """The rows of one data set."""
    data, epochs, seeds = source.data, options.size(60, 15), options.size(SEEDS, 4)
    optimizers = tuple({own.optimizer for own in networks})
    task = jbn.Task(model=model(data), data=data, optimizer=optimizers, normalize=False)
    configs = tuned(
        task,
        configurations(networks, source.batch_size),
        RATES,
        epochs=epochs,
        key=jax.random.key(0),
        seeds=options.size(3, 1),
        score=functools.partial(soonness, target=TARGET),
    )
    result = jbn.sweep(task, configs, epochs=epochs, key=jax.random.key(1), seeds=seeds)
    each = data.rows // source.batch_size
    steps = until(result.curve("validation_accuracy"), TARGET, steps=each)
    known = {arm: condition(data, *how) for arm, how in ARMS.items()}
    return [
        row(data.name, network, arm, configs, steps, known, epochs * each)
        for network, arm in itertools.product(networks, ARMS)
    ]


def row(source, network, arm, configs, steps, known, limit):
    """An arm of a network against inputs as they are."""
    place = NETWORKS.index(network) * len(ARMS)
    index = place + list(ARMS).index(arm)
    return {
        "data": source,
        "network": network.name,
        "normalised_by": arm,
        "rate": float(configs["learning_rate"][index]),
        "median_steps": float(np.median(steps[index])),
        "reached": float(np.isfinite(steps[index]).mean()),
        "times_fewer_steps": times_fewer(steps[place], steps[index], limit),
        "condition": known[arm],
        "times_better_condition": known["none"] / known[arm],
    }


def judge(table, more):
    """For which data and networks both factors are large enough."""
    own = [r for r in table if r["normalised_by"] == "mean, deviation"]
    good = {
        named(r): r["times_fewer_steps"].low >= STEPS and r["times_better_condition"] >= CONDITION
        for r in own
        if "batch norm" not in r["network"]
    }
    verdict = verdict_of(good.values())
    condition = f"True for {'; '.join(n for n, right in good.items() if right)}. "
    said = "; ".join(f"{named(r)}: {factors(r)}" for r in own)
    variance = "; ".join(f"{named(r)}: {factors(r)}" for r in table if r["normalised_by"] == "mean, variance")
    because = f"By mean and deviation: {said}. By mean and variance: {variance}"
    return Finding(table, verdict, (condition if verdict == "depends" else "") + because + edges(table), more)


def named(row):
    """Data and network of a row."""
    return f"{row['data']}, {row['network']}"


def factors(row):
    """Both factors in words."""
    steps, conditioned = row["times_fewer_steps"], row["times_better_condition"]
    return f"{steps} times fewer steps, {conditioned:.3g} times better conditioned"


def edges(table):
    """Which arms have a rate at the edge of those tried."""
    own = [f"{named(r)}, {r['normalised_by']}" for r in table if np.isclose(r["rate"], RATES[[0, -1]]).any()]
    return f". The rate is at the edge of those tried: {'; '.join(own)}" if own else ""


def draw(figure, finding):
    """Above the condition, below how many times fewer steps; one column a data set."""
    names = list(dict.fromkeys(row["data"] for row in finding.rows))
    axes = figure.subplots(2, len(names), sharex=True, sharey="row", squeeze=False)
    for (above, below), data in zip(axes.T, names, strict=True):
        for number, network in enumerate(dict.fromkeys(row["network"] for row in finding.rows)):
            own = [row for row in finding.rows if (row["data"], row["network"]) == (data, network)]
            places, factors = np.arange(len(own)), [row["times_fewer_steps"] for row in own]
            bars = np.abs([[f.low - f.mean, f.high - f.mean] for f in factors]).T
            style = {"color": COLOURS[number], "fmt": MARKERS[number], "ms": 3, "capsize": 1.5, "lw": 1}
            offset = 0.16 * (number - 1.5)
            below.errorbar(places + offset, [f.mean for f in factors], yerr=bars, label=network, **style)
        above.plot(places, [row["condition"] for row in own], "kX", ms=4)
        below.axhline(STEPS, color="black", lw=0.8, ls=":")
        above.set(title=data, yscale="log")
        below.set(yscale="log")
        below.set_xticks(places, list(ARMS), rotation=40, ha="right")
    axes[0, 0].set_ylabel("condition of Hessian")
    axes[1, 0].set_ylabel("times fewer steps\nthan with none")
    figure.legend(*axes[1, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)


if __name__ == "__main__":
    main(__file__, measure, draw, size=(8.0, 9.0))
