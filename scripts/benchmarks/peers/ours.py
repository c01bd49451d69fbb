"""This library, as the throughput benchmark takes it; and the problems, whose weights are drawn by it."""

import time

import jax
import jax.numpy as jnp
import numpy as np
from peers import problem as problems
from peers.problem import BATCH, NETWORKS, Problem

import jbn
from jbn.engine.engine import Engine
from jbn.engine.plan import plan
from jbn.engine.workers import Workers
from jbn.search import Configs
from jbn.task import member as members
from jbn.task.hyper import Structure, bind, numbers
from jbn.task.streams import order, streams

KEY = 1
JUDGED = 16  # rows of the validation part: what is measured is training


def model(name):
    """The network of that name."""
    if name.startswith("CNN"):
        return jbn.cnn(layers=2)
    return jbn.mlp(layers=2, hidden_units=NETWORKS[name].kernels[0][1])


def sizes(own):
    """Sizes that are no defaults of the model."""
    return {"channels_1": 16, "channels_2": 32} if own.model.name == "cnn" else {}


def write(name, folder, data_dir):
    """Writes the problem of a network."""
    network = NETWORKS[name]
    raw, labels = _rows(network, data_dir)
    key = streams(jax.random.key(KEY))
    orders = np.stack([np.array(order(key.order, epoch, len(labels))) for epoch in range(network.epochs)])
    own = task(name, raw, labels)
    x, kernels = np.array(own.arrays().train.x), _kernels(own, network, key.initial)
    problems.save(Problem(name, network, raw, x, labels, orders, kernels), folder)


def task(name, raw, labels):
    """The task; what it is judged by is small."""
    few = (raw[:JUDGED], labels[:JUDGED])
    data = jbn.data.arrays(
        raw, labels, x_validation=few[0], y_validation=few[1], x_test=few[0], y_test=few[1]
    )
    return jbn.Task(model=model(name), data=data)


def _rows(network, data_dir):
    if network.features == (64,):
        part = jbn.data.digits().train
        return part.x[: network.rows].astype(np.float32), part.y[: network.rows]
    if data_dir:
        part = jbn.data.load("mnist", data_dir=data_dir).train
        x = part.x[: network.rows].astype(np.float32)
        return x.reshape(-1, *network.features), part.y[: network.rows]
    x = np.random.default_rng(0).normal(size=(network.rows, *network.features)).astype(np.float32)
    return x, (np.arange(network.rows) % 10).astype(np.int32)


def _kernels(own, network, key):
    """Initial kernels."""
    params = _initial(own, key).params
    names = ("layer_1", "layer_2", "output")
    pairs = zip(names, network.kernels, strict=True)
    return [np.array(params[name]["kernel"]).reshape(shape) for name, shape in pairs]


def _hyper(own, rate):
    known = own.hyperparameters
    values = own.defaults() | sizes(own)
    fixed = {name: value for name, value in values.items() if known[name].kind != "traced"}
    return Structure(tuple(sorted(fixed.items()))), numbers(known, {"learning_rate": rate})


def _initial(own, key):
    structure, traced = _hyper(own, 1e-3)
    return members.init(own.problem, bind(structure, traced), key, own.arrays().train)


class Ours:
    """All configurations by the engine, as a sweep without a policy runs them."""

    def __init__(self, problem, count):
        self._problem, self.configurations = problem, count
        self._task = task(problem.name, problem.raw, problem.y)
        columns = {key: [value] * count for key, value in sizes(self._task).items()}
        self._configs = Configs({"learning_rate": problems.rates(count), **columns})
        self._workers = Workers()
        layout = plan(self._task, self._configs, platform=self._workers.platform)
        self._engine = lambda: Engine(
            self._task, self._configs, layout, key=jax.random.key(KEY), workers=self._workers
        )
        self.settings = f"tile of {layout.tile}"

    def train(self, epochs):
        """Seconds of `epochs` epochs after a first one from the initial weights, and the losses of all."""
        engine, alive = self._engine(), np.ones(self.configurations, bool)
        losses = [engine.advance(0, alive).metrics.train_loss]
        start = time.perf_counter()
        losses += [segment.metrics.train_loss for segment in engine.segments(1, 1 + epochs, alive)]
        return time.perf_counter() - start, np.stack(losses, 1)

    def first_losses(self, steps, count):
        """Losses of the first steps, `[count, steps]`, by the functions that the engine compiles."""
        rows, own = self._task.arrays().train, self._task
        key = streams(jax.random.key(KEY))
        structure, _ = _hyper(own, 1e-3)

        @jax.jit
        def run(traced, rows):
            def step(member, batch):
                return members.train_segment(own.problem, bind(structure, traced), member, batch, key.noise)

            return jax.lax.scan(
                step, members.init(own.problem, bind(structure, traced), key.initial, rows), rows_of(rows)
            )[1]

        def rows_of(rows):
            place = jnp.asarray(self._problem.orders[0][: steps * BATCH])
            return jax.tree.map(lambda a: a[place].reshape(steps, BATCH, *a.shape[1:]), rows)

        return np.stack([np.array(run(_hyper(own, rate)[1], rows)) for rate in problems.rates(count)])
