"""Models of one's own against the built-in one of the same shape: training, and the time to the first segment.

MLP 64-64-64-10 with batch norm, batch size 64, on the digits, 64 configurations; in turn, in one process. Then a
linen model of a million parameters with 64 members, in a process with nothing cached.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np
from common import write
from flax import linen as nn
from flax import nnx

import jbn
from jbn.engine.engine import Engine
from jbn.engine.plan import plan
from jbn.engine.workers import Workers
from jbn.search import Configs

ROUNDS, EPOCHS, COUNT, MOST = 5, 10, 64, 1.10
FIRST = 10.0  # seconds


class Linen(nn.Module):
    units: int = 64
    outputs: int = 10

    @nn.compact
    def __call__(self, x, train):
        for _ in range(2):
            x = nn.Dense(self.units, use_bias=False)(x)
            x = nn.relu(jbn.linen.BatchNorm(not train, momentum=0.9)(x))
        return nn.Dense(self.outputs)(x)


class FlaxNorm(nn.Module):
    outputs: int = 10

    @nn.compact
    def __call__(self, x, train):
        for _ in range(2):
            x = nn.Dense(64, use_bias=False)(x)
            x = nn.relu(nn.BatchNorm(not train, momentum=0.9)(x))
        return nn.Dense(self.outputs)(x)


class Nnx(nnx.Module):
    def __init__(self, features, outputs, rngs):
        self.first = nnx.Linear(features, 64, use_bias=False, rngs=rngs)
        self.second = nnx.Linear(64, 64, use_bias=False, rngs=rngs)
        self.norms = nnx.List(jbn.nnx.BatchNorm(64, momentum=0.9, rngs=rngs) for _ in range(2))
        self.output = nnx.Linear(64, outputs, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norms[0](self.first(x)))
        return self.output(nnx.relu(self.norms[1](self.second(x))))


def init(key, x, outputs):
    return jbn.mlp().init(key, {"outputs": outputs}, jax.ShapeDtypeStruct(x.shape, x.dtype))


def apply(params, x, stats, train, key):
    model = jbn.mlp()
    if train:
        return model.train(params, stats, x, key=key, hyper={"outputs": 10}, mask=None)
    return model.infer(params, stats, x, hyper={"outputs": 10}), stats


MODELS = {
    "jbn.mlp": jbn.mlp(),
    "from_linen, jbn.linen.BatchNorm": jbn.from_linen(Linen),
    "from_linen, flax's own": jbn.from_linen(FlaxNorm),
    "from_nnx, jbn.nnx.BatchNorm": jbn.from_nnx(Nnx),
    "model(init, apply)": jbn.model(init, apply),
}


def engine(model, workers):
    """An engine that has compiled."""
    task = jbn.Task(model=model, data=jbn.data.digits())
    configs = Configs({"learning_rate": np.logspace(-4, -1, COUNT)})
    task = task.settled(configs, epochs=EPOCHS)
    layout = plan(task, configs, platform=workers.platform)
    own = Engine(task, configs, layout, key=jax.random.key(1), workers=workers)
    own.advance(0, np.ones(COUNT, bool))
    return own


def first():
    """Seconds to the first segment, in this process; prints them."""
    task = jbn.Task(model=jbn.from_linen(Linen), data=jbn.data.digits())
    configs = {"learning_rate": np.logspace(-4, -1, 64), "units": [944] * 64, "batch_size": [256] * 64}
    seen, start = [], time.perf_counter()

    def after(state):
        seen.append(time.perf_counter() - start)
        return True

    result = jbn.sweep(task, configs, epochs=2, key=jax.random.key(0), on_segment=after)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(result.best().params))
    print(json.dumps({"seconds": seen[0], "parameters": parameters}))


def main():
    """Prints every ratio."""
    if sys.argv[1:] == ["first"]:
        first()
        return 0
    workers, seconds = Workers(), {name: [] for name in MODELS}
    engines = {name: engine(model, workers) for name, model in MODELS.items()}
    for turn in range(ROUNDS):
        for name, own in engines.items():
            start, at = time.perf_counter(), 1 + turn * EPOCHS
            for _ in own.segments(at, at + EPOCHS, np.ones(COUNT, bool)):
                pass
            seconds[name].append(time.perf_counter() - start)
    ratios = {
        name: statistics.median(own / base for own, base in zip(times, seconds["jbn.mlp"], strict=True))
        for name, times in seconds.items()
    }
    for name, ratio in ratios.items():
        print(f"{name:34s} {ratio:.2f} of the time of jbn.mlp")
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "XDG_CACHE_HOME": cache}
        done = subprocess.run(
            [sys.executable, __file__, "first"],
            env=environment,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
    began = json.loads(done.stdout.splitlines()[-1])
    print(
        f"linen, {began['parameters']} parameters, 64 members: first segment after {began['seconds']:.1f} s"
    )
    write(
        "own_models", {"ratios": ratios, "seconds": seconds, "first_segment": began, "configurations": COUNT}
    )
    ours = [ratio for name, ratio in ratios.items() if "flax's own" not in name]
    return 0 if max(ours) <= MOST and began["seconds"] <= FIRST else 1


if __name__ == "__main__":
    sys.exit(main())
