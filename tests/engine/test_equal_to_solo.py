"""A member of a sweep equals the same configuration trained alone, up to reassociation of sums.

How far two runs are apart is the norm of the difference of all parameters and statistics, relative to their norm.
Some training amplifies any rounding: Adam divides gradients that are nothing but rounding (of a pixel that is
constant within a batch, say) by their own size, a ReLU's input may be 0 but for rounding, and at a learning rate
of 1 sigmoids saturate until batch norm divides by almost nothing. The measure of that are twins trained alone in
which the weights of one pixel are one unit in the last place away; where the first twin is not far enough, up to
44 are tried, and the furthest counts.

Every depth, width and batch size occurs together with every other in the sample that runs by default; in float64
each of these also with both activations, and with batch norm before and after. A network of the textbook's shape
costs a compile, so a form of it is not tried with all batch sizes; with JBN_FULL_GRID set, all combinations run.
Where JBN_RECORD names a file, what was measured is appended to it.
"""

import itertools
import json
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jbn
from jbn.engine.engine import Engine
from jbn.engine.plan import plan
from jbn.engine.workers import Workers
from jbn.task.hyper import Structure, bind, numbers
from jbn.task.member import Rows, init, train_segment
from jbn.task.streams import order, streams

KEY = jax.random.key(7)
SPACE = jbn.search.defaults(all=True)
LAYERS, UNITS, BATCH_SIZES = (2, 3, 4), (50, 77, 100), (32, 64, 128, 256)
RATES = np.geomspace(1e-4, 1.0, 5)
FORMS = list(itertools.product(("relu", "sigmoid"), ("before", "after")))
TWO_SIZES = dict(zip(FORMS, ((32, 128), (64, 256), (64, 256), (32, 128)), strict=True))
ONE_SIZE = dict(zip(FORMS, ((256,), (32,), (128,), (64,)), strict=True))  # none of the two
STEPS = 50
VARY = range(18, 62, 2)  # pixels, nearly all of which vary: the weights of an empty one do nothing
FULL = bool(os.environ.get("JBN_FULL_GRID"))


def grid(sizes=BATCH_SIZES):
    """Depth, width and batch size as columns, of these batch sizes; learning rates over all decades in turn."""
    places = itertools.product(range(len(LAYERS)), range(len(UNITS)), range(len(BATCH_SIZES)))
    rows = [(LAYERS[i], UNITS[j], BATCH_SIZES[k]) for i, j, k in places if FULL or (i + j + k) % 3 == 0]
    columns = zip(("layers", "hidden_units", "batch_size"), zip(*rows, strict=True), strict=True)
    configs = {name: np.array(values) for name, values in columns} | {
        "learning_rate": np.array([RATES[place % len(RATES)] for place in range(len(rows))]),
        "beta1": 1 - np.geomspace(0.1, 1e-3, len(rows)),
        "decay_rate": np.geomspace(1e-3, 1.0, len(rows)),
    }
    chosen = np.isin(configs["batch_size"], BATCH_SIZES if FULL else sizes)
    return {name: values[chosen] for name, values in configs.items()}


def task(activation, place, rows=None):
    digits = jbn.data.digits()
    train = digits.train.x[:rows], digits.train.y[:rows]
    data = jbn.data.arrays(
        *train,
        x_validation=digits.validation.x[:20],
        y_validation=digits.validation.y[:20],
        x_test=digits.test.x[:20],
        y_test=digits.test.y[:20],
    )
    return jbn.Task(model=jbn.mlp(activation=activation, batch_norm=place), data=data)


class Together:
    """All configurations in one engine, padded to one width."""

    def __init__(self, own, configs, tile=1):
        columns = jbn.search.Configs(configs, space=SPACE)
        self.count, self.workers, self.epoch = columns.count, Workers(), 0
        layout = plan(own, columns, platform="cpu")._replace(tile=tile)
        self.engine = Engine(own, columns, layout, key=KEY, workers=self.workers)

    def advance(self, epochs):
        for _ in range(epochs):
            self.engine.advance(self.epoch, np.ones(self.count, bool))
            self.epoch += 1


def alone(own, config, epochs):
    """The configuration with exact shapes, as a function of which pixel's weights are nudged, and which way.

    They go one unit in the last place up (1), down (-1) or stay (0).
    """
    known, full = own.hyperparameters, {**own.defaults(), **config}
    fixed = {n: full[n] for n, entry in known.items() if entry.kind != "traced" and n in full}
    hyper = bind(Structure(tuple(sorted(fixed.items()))), numbers(known, config))
    rows, keys = own.arrays().train, streams(KEY)

    @jax.jit
    def run(pixel, way):
        def segment(epoch, member):
            place = order(keys.order, epoch, len(rows.y))
            return train_segment(own.problem, hyper, member, Rows(rows.x[place], rows.y[place]), keys.noise)[
                0
            ]

        start = init(own.problem, hyper, keys.initial, rows)
        kernel = start.params["layer_1"]["kernel"]
        nudged = jnp.where(way == 0, kernel[pixel], jnp.nextafter(kernel[pixel], way * jnp.inf))
        start.params["layer_1"]["kernel"] = kernel.at[pixel].set(nudged)
        member = jax.lax.fori_loop(0, epochs, segment, start)
        return member.params, member.stats

    return run


def distance(a, b):
    """Norm of the difference, relative to the norm."""
    first, second = (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]) for tree in (a, b))
    return float(np.linalg.norm(first - second) / np.linalg.norm(second))


def compare(what, own, member, config, epochs, bound):
    """Within the bound, or no further than ten times the furthest twin (or one unit in the last place)."""
    run = alone(own, config, epochs)
    exact = run(0, 0.0)
    apart, twin, twins = distance(member, exact), float(jnp.finfo(float).eps), 0
    for pixel, way in itertools.product(VARY, (1.0, -1.0)):
        if (bound is not None and apart < bound) or apart <= 10 * twin:
            break
        twin, twins = max(twin, distance(run(pixel, way), exact)), twins + 1
    record(what, own, config, apart=apart, twin=twin, twins=twins)
    assert (bound is not None and apart < bound) or apart <= 10 * twin, (config, apart, twin)


def row(configs, index):
    return {name: values[index].item() for name, values in configs.items()}


def record(what, own, config, **numbers):
    if path := os.environ.get("JBN_RECORD"):
        form = {name: own.defaults()[name] for name in ("activation", "batch_norm")}
        with open(path, "a") as file:
            file.write(json.dumps({"test": what, **form, **config, **numbers}) + "\n")


@pytest.mark.parametrize(("activation", "place"), FORMS)
def test_in_float64_over_50_steps(activation, place):
    with jax.enable_x64(True):
        own, configs = task(activation, place), grid(TWO_SIZES[activation, place])
        together = Together(own, configs)
        for size in sorted(set(configs["batch_size"].tolist())):
            epochs = -(-STEPS // (1078 // size))
            together.advance(epochs - together.epoch)
            for index in np.flatnonzero(configs["batch_size"] == size).tolist():
                member = together.engine.member(index)
                compare("float64, 50 steps", own, member, row(configs, index), epochs, 1e-6)


@pytest.mark.parametrize(("activation", "place"), FORMS)
def test_in_float32_over_3_steps(activation, place):
    configs = grid(ONE_SIZE[activation, place])
    for size in sorted(set(configs["batch_size"].tolist())):
        own = task(activation, place, rows=3 * size)
        chosen = {name: values[configs["batch_size"] == size] for name, values in configs.items()}
        together = Together(own, chosen)
        together.advance(1)
        for index in range(together.count):
            compare("float32, 3 steps", own, together.engine.member(index), row(chosen, index), 1, 1e-4)


@pytest.mark.parametrize(("activation", "place"), FORMS)
def test_in_float32_later_on_no_further_than_ten_times_a_twin(activation, place):
    own, configs = task(activation, place), grid(ONE_SIZE[activation, place])
    together = Together(own, configs)
    together.advance(3)
    for index in range(0, together.count, 1 if FULL else 2):
        compare("float32, 3 epochs", own, together.engine.member(index), row(configs, index), 3, None)


@pytest.mark.parametrize("tile", [3, 8])
def test_with_several_members_side_by_side(tile):
    """The same for tiles of several members, ragged at the end: there are four of every depth."""
    with jax.enable_x64(True):
        own, configs = task("relu", "before"), grid()
        columns = {name: np.tile(values[configs["batch_size"] == 256], 4) for name, values in configs.items()}
        columns["learning_rate"] = np.resize(RATES, len(columns["layers"]))
        together = Together(own, columns, tile=tile)
        together.advance(2)
        for index in (0, 7, 11):
            config = row(columns, index)
            assert distance(together.engine.member(index), alone(own, config, 2)(0, 0.0)) < 1e-6, config


def test_the_same_widths_one_by_one():
    """`hidden_units_1`, `hidden_units_2` padded each to its own capacity."""
    with jax.enable_x64(True):
        own = task("relu", "before")
        configs = {"hidden_units_1": np.array([20, 33, 40]), "hidden_units_2": np.array([5, 8, 7])}
        configs["learning_rate"] = np.array([0.01, 0.1, 0.001])
        workers = Workers()
        engine = Engine(own, configs, plan(own, configs, platform="cpu"), key=KEY, workers=workers)
        engine.advance(0, np.ones(3, bool))
        for index in range(3):
            assert distance(engine.member(index), alone(own, row(configs, index), 1)(0, 0.0)) < 1e-9
        workers.close()


def test_one_alone_is_the_same_experiment_as_inside_any_sweep():
    """Its number, its place and its neighbours change nothing, bit for bit."""
    own, configs = task("relu", "before"), grid(ONE_SIZE["relu", "before"])
    many = Together(own, configs)
    many.advance(1)
    for index in range(3):
        one = Together(own, {name: values[index : index + 1] for name, values in configs.items()})
        one.advance(1)
        assert distance(one.engine.member(0), many.engine.member(index)) == 0
