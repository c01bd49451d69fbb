"""Throughput of two workers against one, in a process in which JAX already runs; pairs in turn."""

import sys
import time

import jax
import numpy as np
from common import write

import jbn
from jbn.engine.engine import Engine
from jbn.engine.plan import plan
from jbn.engine.workers import Workers

PAIRS, EPOCHS, LEAST = 5, 5, 1.7


def main():
    """Prints the ratio of every pair and their median."""
    jax.block_until_ready(jax.jit(lambda x: x @ x)(jax.numpy.ones((256, 256))))  # JAX runs
    task = jbn.Task(model=jbn.mlp(), data=jbn.data.digits())
    configs = jbn.search.random(jbn.search.defaults(all=True), 256, key=0)
    alive, engines = np.ones(256, bool), {}
    for count in (1, 2):
        workers = Workers(count)
        layout = plan(task, configs, platform=workers.platform)
        engines[count] = Engine(task, configs, layout, key=jax.random.key(1), workers=workers)
        engines[count].advance(0, alive)  # compiles
    ratios = []
    for pair in range(PAIRS):
        seconds = {}
        for count, engine in engines.items():
            start = time.perf_counter()
            for epoch in range(EPOCHS):
                engine.advance(1 + pair * EPOCHS + epoch, alive)
            seconds[count] = time.perf_counter() - start
        ratios.append(seconds[1] / seconds[2])
        print(f"one worker {seconds[1]:.2f} s, two {seconds[2]:.2f} s, ratio {ratios[-1]:.2f}", flush=True)
    median = float(np.median(ratios))
    print(f"median ratio {median:.2f} (at least {LEAST})")
    write("workers", {"ratios": ratios, "median": median, "configurations": 256, "epochs": EPOCHS})
    return 0 if median >= LEAST else 1


if __name__ == "__main__":
    sys.exit(main())
