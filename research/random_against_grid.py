"""Random search beats the grid at 25 points: the loss of its best is at least 5 % lower, with new values every time.

64 searches of each kind with 25 points in two dimensions (learning rate and epsilon), and 24 in three (and beta1)
and six (and hidden units, decay rate, beta2), where no grid has 25: random points, and grids of 5 x 5, 4 x 3 x 2 and
3 x 2 x 2 x 2 x 1 x 1 points, shifted as a whole by a random part of a cell on every axis. The learning rate has the
most values, as everybody would do it who knows what matters. A third kind draws one point in every cell of that
grid: it is spread like the grid, but every point tries a new value, so that it shows whether that is the reason.
Beside them the grid with its points in the middle of the cells. Every search has a key of its own, by which all
kinds start from the same weights and see the same batches. It chooses by the validation loss of one run a point, and
that network is judged by its test loss: what the user of a search gets.

Held: in all spaces the whole 95 % interval of the loss of random search over the grid's, a geometric mean over
pairs, is below 0.95. Not held: in none. Else it depends on those in which it is.
"""

import math

import jax
import numpy as np
from arms import factor, points
from common import COLOURS, Finding, main, paired, verdict_of
from searches import AXES, best_so_far, final

import jbn

GRIDS = {
    2: {"learning_rate": 5, "epsilon": 5},
    3: {"learning_rate": 4, "beta1": 3, "epsilon": 2},
    6: {"learning_rate": 3, "beta1": 2, "hidden_units": 2, "decay_rate": 2, "beta2": 1, "epsilon": 1},
}
KINDS = ("random", "grid", "one in every cell", "centred grid")
SEARCHES = 64
MARGIN = 0.95


def measure(options):
    """Searches every space in all ways, and compares in pairs."""
    data = jbn.data.digits()
    model = jbn.mlp(layers=1, hidden_units=32)
    task = jbn.Task(model=model, data=data, objective="loss", test_curves=True)
    epochs, searches = options.size(15, 2), options.size(SEARCHES, 3)
    table, curves = [], {}
    for dimensions in list(GRIDS)[: options.size(3, 2)]:
        grid = GRIDS[dimensions]
        losses, accuracies = searched(task, grid, epochs, searches)
        curves[dimensions] = {
            kind: [factor(row) for row in np.log(own).T]
            for kind, own in losses.items()
            if kind != "centred grid"
        }
        values = distinct(grid)
        for kind in KINDS:
            relative = np.log(losses[kind][:, -1]) - np.log(losses["grid"][:, -1])
            table.append(
                {
                    "dimensions": dimensions,
                    "points": math.prod(grid.values()),
                    "kind": kind,
                    "learning_rates": values[kind],
                    "test_loss": factor(np.log(losses[kind][:, -1])),
                    "over_grid": factor(relative),
                    "more_accurate_points": points(paired(accuracies[kind], accuracies["grid"])),
                }
            )
    more = {"data": data.name, "epochs": epochs, "searches": searches, "best_so_far": curves}
    return judge(table, more)


def searched(task, grid, epochs, searches):
    """Test losses of the best so far `[searches, points]` and accuracies of the best, by the kind of search."""
    count = math.prod(grid.values())
    losses, accuracies = {kind: [] for kind in KINDS}, {kind: [] for kind in KINDS}
    for number in range(searches):
        parts = [placed(grid, kind, number) for kind in KINDS]
        configs = {name: np.concatenate([part[name] for part in parts]) for name in grid}
        result = jbn.sweep(task, configs, epochs=epochs, key=jax.random.key(number))
        chosen, judged, right = (
            final(result, *measured).reshape(len(KINDS), count)
            for measured in (("validation", "loss"), ("test", "loss"), ("test", "accuracy"))
        )
        for kind, own, other, accuracy in zip(KINDS, chosen, judged, right, strict=True):
            losses[kind].append(best_so_far(own, other))
            accuracies[kind].append(accuracy[own.argmin()])
    return {kind: np.array(own) for kind, own in losses.items()}, accuracies


def placed(grid, kind, number):
    """The configurations of a search, in random order; the same search has the same number."""
    rng = np.random.default_rng([number, KINDS.index(kind)])
    shape = tuple(grid.values())
    if kind == "centred grid":
        own = jbn.search.grid(jbn.Space(**{name: AXES[name] for name in grid}), grid, ends=False)
        order = rng.permutation(own.count)
        return {name: values[order] for name, values in own.items()}
    cells = rng.permutation(np.stack(np.unravel_index(np.arange(math.prod(shape)), shape), axis=1))
    if kind == "random":
        places = rng.random(cells.shape)
    else:
        shift = rng.random(cells.shape if kind == "one in every cell" else len(shape))
        places = (cells + shift) / shape
    return {name: AXES[name].from_unit(own) for name, own in zip(grid, places.T, strict=True)}


def distinct(grid):
    """How many learning rates a search of each kind tries."""
    return {kind: len(set(placed(grid, kind, 0)["learning_rate"].tolist())) for kind in KINDS}


def judge(table, more):
    """In which spaces random search beats the grid by the margin, and whether one point in every cell does, too."""
    rows = {kind: [row for row in table if row["kind"] == kind] for kind in KINDS}
    good = {row["dimensions"]: row["over_grid"].high < MARGIN for row in rows["random"]}
    verdict = verdict_of(good.values())
    true = ", ".join(str(dimensions) for dimensions, own in good.items() if own)
    condition = f"True in {true} dimensions. " if verdict == "depends" else ""
    said = "; ".join(
        f"in {own['dimensions']} dimensions {own['over_grid']} with {own['learning_rates']} learning rates against "
        f"{grid['learning_rates']}, one point in every cell {cell['over_grid']}"
        for own, grid, cell in zip(rows["random"], rows["grid"], rows["one in every cell"], strict=True)
    )
    return Finding(
        table, verdict, f"{condition}Test loss of random search's best over the grid's: {said}", more
    )


def draw(figure, finding):
    """The best so far over the points of a search."""
    own = finding.more["best_so_far"]
    axes = figure.subplots(1, len(own), sharey=True)
    lowest = min(one.mean for kinds in own.values() for curve in kinds.values() for one in curve)
    for axis, (dimensions, kinds) in zip(axes, own.items(), strict=True):
        for number, (kind, curve) in enumerate(kinds.items()):
            values, places = np.array([one[:3] for one in curve]), np.arange(1, len(curve) + 1)
            style = {"color": COLOURS[number], "ls": ("-", "--", ":")[number]}
            axis.plot(places, values[:, 0], label=kind, **style)
            axis.fill_between(places, values[:, 1], values[:, 2], color=COLOURS[number], alpha=0.15, lw=0)
        axis.set(title=f"{dimensions} axes", xlabel="points", xticks=[1, 10, 20])
    axes[0].set(ylabel="test loss of the best so far\n(nats, 95 % interval)", ylim=(0.9 * lowest, 2 * lowest))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)


if __name__ == "__main__":
    main(__file__, measure, draw)
