"""Who runs the jobs: threads of one device, or several devices."""

import os
import subprocess
import sys
import threading

import jax
import pytest

from jbn.engine.workers import Workers, finish

SEVERAL = """
import jax, numpy as np, jbn
from jbn.engine.engine import Engine
from jbn.engine.plan import plan
from jbn.engine.workers import Workers

task = jbn.Task(model=jbn.mlp(), data=jbn.data.digits())
space = jbn.Space(learning_rate=jbn.log_uniform(1e-3, 1e-1), layers=jbn.integers(1, 2), hidden_units=16)
configs = jbn.search.random(space, 40, key=0)
alive = np.arange(40) % 7 != 0
losses = []
for devices in (jax.devices(), jax.devices()[:1]):
    workers = Workers(devices=devices)
    layout = plan(task, configs, platform="cpu")._replace(tile=3, slots=8)
    engine = Engine(task, configs, layout, key=jax.random.key(1), seeds=2, workers=workers)
    places = {chunk.device for chunk in engine._chunks}
    assert places == set(range(len(devices))), places
    engine.advance(0, np.ones(80, bool))
    losses.append(engine.advance(1, np.repeat(alive, 2)).metrics.train_loss)
    for chunk in engine._chunks:
        assert all(leaf.devices() == {devices[chunk.device]} for leaf in jax.tree.leaves(chunk.populations))
    workers.close()
assert np.isnan(losses[0]).tolist() == (~np.repeat(alive, 2)).tolist()
np.testing.assert_array_equal(*losses)
"""


def test_several_devices_give_what_one_gives():
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
    environment = {**os.environ, "XLA_FLAGS": flags}
    done = subprocess.run(
        [sys.executable, "-c", SEVERAL],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


def test_on_a_cpu_there_is_a_thread_for_each_core_and_one_device():
    workers = Workers(2)
    assert workers.devices == jax.local_devices()[:1]
    both = threading.Barrier(2, timeout=30)
    finish([workers.submit(0, both.wait) for _ in range(2)])  # passes only if both run at once
    workers.close()


def test_the_first_failure_is_raised_when_nothing_runs_any_more():
    workers, ended = Workers(2), []

    def slow():
        threading.Event().wait(0.2)
        ended.append(True)

    def fail():
        raise ValueError("this one")

    futures = [workers.submit(0, job) for job in (slow, fail)]
    with pytest.raises(ValueError, match="this one"):
        finish(futures)
    assert ended == [True]
    workers.close()
