"""Coarse to fine beats random search at equal budget: the loss of what it finds is at least 5 % lower.

48 searches of each kind in six dimensions (learning rate, beta1, beta2, epsilon, decay rate, hidden units), with 48
points in two and in three rounds, and with 96 in three: `jbn.coarse_to_fine`, which fills the space and then what
`jbn.search.refine` makes of it, against as many random points. As it draws its points evenly and not at random,
evenly drawn points without any refining are compared too: what refining does is the difference to these. Every
search has a key of its own, by which all kinds start from the same weights and see the same batches. It chooses by
the validation loss of one run a point, and that network is judged by its test loss.

Held: at all budgets and numbers of rounds the whole 95 % interval of the loss of coarse to fine over random
search's, a geometric mean over pairs, is below 0.95. Not held: at none. Else it depends on those at which it is.
"""

from typing import NamedTuple

import jax
import numpy as np
from arms import factor, points
from common import COLOURS, Finding, main, mean, paired, verdict_of
from searches import AXES, best_so_far, final

import jbn

SPACE = jbn.Space(**AXES)
WAYS = ((48, 2), (48, 3), (96, 3))  # points and rounds
SEARCHES = 48
MARGIN = 0.95


class Search(NamedTuple):
    """Test loss and accuracy of the best of the first 1, 2, ... points; which share of learning rates is left."""

    loss: np.ndarray
    accuracy: np.ndarray
    left: float = 1.0


def measure(options):
    """Searches in all ways, and compares in pairs."""
    model = jbn.mlp(layers=1, hidden_units=32)
    task = jbn.Task(model=model, data=jbn.data.digits(), objective="loss", test_curves=True)
    epochs, searches = options.size(12, 1), options.size(SEARCHES, 3)
    ways = WAYS[: options.size(3, 2)]
    found = [searched(task, ways, epochs, jax.random.key(number)) for number in range(searches)]
    table, curves = [], {}
    for budget, rounds in ways:
        own, random, even = (
            [search[kind] for search in found] for kind in ((budget, rounds), "random", "evenly drawn")
        )
        over_random, over_even = relative(own, random, budget), relative(own, even, budget)
        curves[f"{budget} points in {rounds} rounds"] = [factor(row) for row in over_random.T]
        accuracies = [[search.accuracy[budget - 1] for search in kind] for kind in (own, random)]
        table.append(
            {
                "points": budget,
                "rounds": rounds,
                "test_loss": factor(np.log([search.loss[-1] for search in own])),
                "over_random": factor(over_random[:, -1]),
                "over_evenly_drawn": factor(over_even[:, -1]),
                "evenly_drawn_over_random": factor(relative(even, random, budget)[:, -1]),
                "more_accurate_than_random_points": points(paired(*accuracies)),
                "learning_rate_axis_left": mean([search.left for search in own]),
            }
        )
    more = {"data": task.data.name, "epochs": epochs, "searches": searches, "best_so_far": curves}
    return judge(table, more)


def searched(task, ways, epochs, key):
    """A search of every kind with the same key."""
    most, run = max(budget for budget, _ in ways), {"epochs": epochs, "key": key}
    # the training's key and that of the points must differ
    drawing = jax.random.fold_in(key, 1)
    drawn = {
        "random": jbn.search.random(SPACE, most, key=drawing),
        "evenly drawn": jbn.search.quasi_random(SPACE, most, key=drawing),
    }
    found = {kind: seen([jbn.sweep(task, configs, **run)]) for kind, configs in drawn.items()}
    for budget, rounds in ways:
        own = jbn.coarse_to_fine(task, SPACE, configs=budget, rounds=rounds, **run)
        axis, whole = own.spaces[-1]["learning_rate"], SPACE["learning_rate"]
        left = np.log(axis.high / axis.low) / np.log(whole.high / whole.low)
        found[budget, rounds] = seen(own.results)._replace(left=float(left))
    return found


def seen(results):
    """What a search has found after every point."""
    chosen, loss, accuracy = (
        np.concatenate([final(result, *measured)[:, 0] for result in results])
        for measured in (("validation", "loss"), ("test", "loss"), ("test", "accuracy"))
    )
    return Search(best_so_far(chosen, loss), best_so_far(chosen, accuracy))


def relative(own, other, budget):
    """Logarithms of the losses of one kind of search over another's, `[searches, points]`."""
    first, second = (np.log([search.loss[:budget] for search in kind]) for kind in (own, other))
    return first - second


def judge(table, more):
    """At which budgets and numbers of rounds coarse to fine beats random search by the margin."""
    good = [row["over_random"].high < MARGIN for row in table]
    named = [f"{row['points']} points in {row['rounds']} rounds" for row in table]
    verdict = verdict_of(good)
    true = "; ".join(name for name, own in zip(named, good, strict=True) if own)
    condition = f"True for {true}. " if verdict == "depends" else ""
    said = "; ".join(
        f"{name} {row['over_random']}, over evenly drawn points {row['over_evenly_drawn']}"
        for name, row in zip(named, table, strict=True)
    )
    return Finding(table, verdict, f"{condition}Test loss over random search's: {said}", more)


def draw(figure, finding):
    """The best so far over random search's, over the points."""
    axis = figure.subplots()
    for number, (name, curve) in enumerate(finding.more["best_so_far"].items()):
        values, places = np.array([one[:3] for one in curve]), np.arange(1, len(curve) + 1)
        axis.plot(places, values[:, 0], color=COLOURS[number], ls=("-", "--", "-.")[number], label=name)
        axis.fill_between(places, values[:, 1], values[:, 2], color=COLOURS[number], alpha=0.15, lw=0)
    axis.axhline(1, color="black", lw=0.8)
    axis.axhline(MARGIN, color="black", lw=0.8, ls=":")
    axis.set(xlabel="points", ylabel="test loss of the best so far\nover random search's", ylim=(0.5, 1.5))
    figure.legend(*axis.get_legend_handles_labels(), loc="outside upper center", ncols=2)


if __name__ == "__main__":
    main(__file__, measure, draw)
