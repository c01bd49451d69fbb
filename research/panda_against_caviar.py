"""A panda wins with little compute, caviar with much: at 1 run the panda's loss is 5 % lower, at 256 runs caviar's.

A run is 10 epochs of one network. Caviar with a budget of B runs trains B random configurations (learning rate,
beta1, beta2, epsilon, decay rate) for 10 epochs each. The panda has one network at a time and watches it: after
every epoch it raises the learning rate by a tenth if the validation loss has improved and halves it if not, so that
its own hand takes the place of the decay, and it ends after 10 epochs without a new best. It begins with
caviar's configurations, in their order. "One" panda is the first network alone: what is left of the budget when it
has ended is not used. "One after the other" then begins with the next, so that its budget is used up as caviar's is.
Both count member-epochs, the same arithmetic, keep the network of the best epoch by the validation loss, and are
judged by the test loss of that. 32 pairs; each has a key and 256 configurations of its own, and is the mean over 20
random orders of these, the same for caviar and panda.

Held: both kinds of panda have a loss at least 5 % below caviar's at 1 run, and caviar one at least 5 % below theirs
at 256 (the whole 95 % interval of the geometric mean over pairs). Depends: this is true of one kind. Not held: of
neither.

A first full run had a single order of each pair's networks: the loss was 0.90 (0.79 to 1.02) of caviar's at 1 run,
and the verdict "not held". Orders were averaged after that; the rule is the same.
"""

import jax
import numpy as np
from arms import factor
from common import COLOURS, MARKERS, Finding, bootstrap, main, mean, verdict_of
from pictures import ticks
from searches import AXES, best_so_far

import jbn

SPACE = jbn.Space(**{name: axis for name, axis in AXES.items() if name != "hidden_units"})
EPOCHS, RUNS, PAIRS = 10, 256, 32
ORDERS = 20
PANDAS, LONGEST = 96, 100  # networks a pair, and epochs of each at most
RAISED, LOWERED, PATIENCE = 1.1, 0.5, 10
MARGIN = 0.95
CAVIAR, ONE, SUCCESSION = "caviar", "one", "one after the other"


def babysit(history, key):
    """Raises the learning rate of what improves, lowers it of what does not, and ends what stands still."""
    del key
    loss = np.where(np.isnan(history.validation_loss), np.inf, history.validation_loss)
    if len(loss) < 2:
        return jbn.Edits()
    ended = loss.argmin(axis=0) < len(loss) - PATIENCE
    factors = np.where(loss[-1] < loss[-2], RAISED, LOWERED)
    rates = np.where(history.took_part(len(loss) - 1), factors * history.configs["learning_rate"], np.nan)
    return jbn.Edits(stop=np.flatnonzero(ended), values={"learning_rate": rates})


def measure(options):
    """Trains caviars and pandas, and compares them in pairs at every budget."""
    model = jbn.mlp(layers=1, hidden_units=32)
    task = jbn.Task(model=model, data=jbn.data.digits(), objective="loss", test_curves=True)
    pairs, runs = options.size(PAIRS, 3), options.size(RUNS, 16)
    found = [trained(task, runs, options, jax.random.key(number)) for number in range(pairs)]
    losses = {kind: np.array([pair[kind] for pair in found]) for kind in (CAVIAR, ONE, SUCCESSION)}
    relative = {kind: losses[kind] - losses[CAVIAR] for kind in (ONE, SUCCESSION)}
    table = [
        {
            "runs": budget,
            **{f"{kind}_test_loss": factor(own[:, budget - 1]) for kind, own in losses.items()},
            **{f"{kind}_over_caviar": factor(own[:, budget - 1]) for kind, own in relative.items()},
        }
        for budget in 2 ** np.arange(int(np.log2(runs)) + 1)
    ]
    more = {
        "data": task.data.name,
        "pairs": pairs,
        "epochs_of_a_panda": mean(np.concatenate([pair["epochs"] for pair in found])),
        "runs_pandas_filled": min(sum(pair["epochs"]) for pair in found) / EPOCHS,
        "caviar_better_from_runs": {kind: bootstrap(own, crossing) for kind, own in relative.items()},
    }
    return judge(table, more)


def trained(task, runs, options, key):
    """Logarithms of test losses at every budget in runs, of caviar and of both kinds of panda with the same key."""
    configs = jbn.search.random(SPACE, runs, key=jax.random.fold_in(key, 1))
    caviar = networks(jbn.sweep(task, configs, epochs=EPOCHS, key=key))
    babies = {name: values[: options.size(PANDAS, 8)] for name, values in configs.items()}
    babies["decay_rate"] = np.zeros_like(babies["decay_rate"])
    longest = options.size(LONGEST, 25)
    pandas = networks(jbn.sweep(task, babies, epochs=longest, key=key, policy=babysit))
    rng, found = np.random.default_rng(0), {CAVIAR: [], ONE: [], SUCCESSION: []}
    for _ in range(ORDERS):
        order = rng.permutation(len(pandas))
        others = len(pandas) + rng.permutation(runs - len(pandas))
        found[CAVIAR].append(at_budgets([caviar[own] for own in [*order, *others]], runs))
        found[ONE].append(at_budgets([pandas[order[0]]], runs))
        found[SUCCESSION].append(at_budgets([pandas[own] for own in order], runs))
    epochs = [own.shape[1] for own in pandas]
    return {kind: np.mean(own, axis=0) for kind, own in found.items()} | {"epochs": epochs}


def networks(result):
    """The validation and the test loss of every network in the epochs that it trained, `[2, epochs]` each."""
    both = np.stack([result.curve(f"{part}_loss")[:, :, 0] for part in ("validation", "test")])
    trained = ~np.isnan(result.history.train_loss)
    return [np.nan_to_num(both[:, own, place], nan=np.inf) for place, own in enumerate(trained.T)]


def at_budgets(networks, runs):
    """The logarithm of the test loss of the best after 1, 2, ... runs, one network after the other.

    Where the last has ended, what they found stays.
    """
    line = best_so_far(*np.concatenate(networks, axis=1))
    ends = EPOCHS * np.arange(1, runs + 1) - 1
    return np.log(line[np.minimum(ends, len(line) - 1)])


def crossing(relative):
    """The fewest runs from which on caviar is better; one more than all where it never is."""
    worse = np.flatnonzero(relative.mean(axis=0) <= 0)
    return float(worse[-1] + 2) if len(worse) else 1.0


def judge(table, more):
    """Whether pandas are better with one run, and caviar with all of them."""
    first, last = table[0], table[-1]
    good = {
        kind: first[f"{kind}_over_caviar"].high < MARGIN and last[f"{kind}_over_caviar"].low > 1 / MARGIN
        for kind in (ONE, SUCCESSION)
    }
    verdict = verdict_of(good.values())
    condition = f"True of {next(k for k, own in good.items() if own)} alone. " if verdict == "depends" else ""
    said = "; ".join(
        f"{kind} {first[f'{kind}_over_caviar']} at {first['runs']} and {last[f'{kind}_over_caviar']} at "
        f"{last['runs']} runs, caviar better from {more['caviar_better_from_runs'][kind]} on"
        for kind in good
    )
    return Finding(table, verdict, f"{condition}Test loss over caviar's: {said}", more)


def draw(figure, finding):
    """Test losses over the budget."""
    axis = figure.subplots()
    budgets = [row["runs"] for row in finding.rows]
    for number, kind in enumerate((CAVIAR, ONE, SUCCESSION)):
        values = np.array([row[f"{kind}_test_loss"][:3] for row in finding.rows])
        style = {
            "color": COLOURS[number],
            "marker": MARKERS[number],
            "ms": 3,
            "ls": ("-", "--", "-.")[number],
        }
        axis.plot(budgets, values[:, 0], label=kind if kind == CAVIAR else f"panda: {kind}", **style)
        axis.fill_between(budgets, values[:, 1], values[:, 2], color=COLOURS[number], alpha=0.15, lw=0)
    axis.set(xscale="log", yscale="log", xlabel=f"budget (runs of {EPOCHS} epochs)")
    axis.set_ylabel("test loss\n(nats, 95 % interval)")
    axis.set_xticks(budgets[::2], [str(budget) for budget in budgets[::2]])
    axis.minorticks_off()
    ticks(axis.yaxis, (0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 1.0))
    figure.legend(*axis.get_legend_handles_labels(), loc="outside upper center", ncols=2)


if __name__ == "__main__":
    main(__file__, measure, draw)
