"""A training part that is read in blocks against the same in memory; and one that is larger than the memory.

MLP 784-128-128-10 with batch norm, batch size 64, images of MNIST's size (MNIST itself with --data-dir), 1 and 64
configurations: an array in memory, a memory map, a folder of shards and an iterator of batches take turns in one
process. Then a set that as float32 is larger than the machine's memory trains for an epoch in a process of its own.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import jax
import numpy as np
from common import write

import jbn
from jbn.engine.engine import Engine
from jbn.engine.plan import plan
from jbn.engine.workers import Workers
from jbn.search import Configs
from jbn.task.data.blocks import default_rows

EPOCHS = {1: 10, 64: 1}  # of a turn
BATCH, LEAST, SHARDS = 64, 0.9, 8
LARGE_SHARE, LARGE_BATCH = 1.1, 256  # of the machine's memory, as float32


def images(data_dir):
    """Arrays by part; of random numbers where there are no files."""
    if data_dir is not None:
        data = jbn.data.mnist(data_dir)
        return {part: getattr(data, part) for part in ("train", "validation", "test")}
    draws = np.random.default_rng(0)
    sizes = {"train": 48_000, "validation": 12_000, "test": 10_000}
    return {
        part: (draws.integers(0, 256, (rows, 28, 28), dtype=np.uint8), np.arange(rows) % 10)
        for part, rows in sizes.items()
    }


def sources(parts, folder):
    """The same data in every way."""
    (folder / "map").mkdir()
    (folder / "shards").mkdir()
    for part, (x, y) in parts.items():
        for name, values in {"x": x, "y": y}.items():
            np.save(folder / "map" / f"{name}_{part}.npy", values)
            pieces = np.array_split(values, SHARDS) if part == "train" else [values]
            for number, piece in enumerate(pieces):
                place = f"{number:02}" if part == "train" else part
                np.save(folder / "shards" / f"{name}_{place}.npy", piece)
    held = {f"{axis}_{part}": parts[part][axis == "y"] for part in ("validation", "test") for axis in "xy"}
    x, y = (np.load(folder / "map" / f"{name}_train.npy", mmap_mode="r") for name in "xy")

    def batches(epoch, seed):
        return ((x[start : start + 512], y[start : start + 512]) for start in range(0, len(y), 512))

    rows = default_rows(x.shape[1:])
    return {
        "in memory": jbn.data.arrays(*parts["train"], **held),
        "memory map": jbn.data.memory_map(folder / "map", block_rows=rows),
        "shards": jbn.data.shards(folder / "shards", block_rows=rows),
        "iterator": jbn.data.stream(batches, **held),
    }


def engine(data, count, workers):
    """An engine that has compiled."""
    configs = Configs({"learning_rate": np.geomspace(1e-4, 1e-2, count), "batch_size": np.full(count, BATCH)})
    task = jbn.Task(model=jbn.mlp(layers=2, hidden_units=128), data=data).settled(configs, epochs=10)
    layout = plan(task, configs, platform=workers.platform)
    own = Engine(task, configs, layout, key=jax.random.key(1), workers=workers)
    own.advance(0, np.ones(count, bool))
    return own


def measure(found, count, rounds, workers):
    """Seconds a configuration and step, of every source and round."""
    engines = {name: engine(data, count, workers) for name, data in found.items()}
    seconds = {name: [] for name in found}
    epochs, rows = EPOCHS[count], found["in memory"].rows
    for turn in range(rounds):
        for name, own in engines.items():
            at, start = 1 + turn * epochs, time.perf_counter()
            for _ in own.segments(at, at + epochs, np.ones(count, bool)):
                pass
            each = epochs * (rows // BATCH) * count
            seconds[name].append((time.perf_counter() - start) / each)
    return seconds


def large(path):
    """Trains on the images in a folder; prints what it took."""
    peak, done = [0], threading.Event()

    def watch():
        while not done.wait(0.05):
            peak[0] = max(peak[0], memory("/proc/self/status", "RssAnon:"))

    threading.Thread(target=watch, daemon=True).start()
    start = time.perf_counter()
    data = jbn.data.memory_map(path, share=0.002)
    read = time.perf_counter() - start
    task = jbn.Task(model=jbn.mlp(layers=2, hidden_units=128), data=data)
    result = jbn.sweep(
        task, {"batch_size": [LARGE_BATCH], "learning_rate": [1e-3]}, epochs=1, key=jax.random.key(0)
    )
    done.set()
    steps = int(result.history.steps[-1, 0])
    print(
        json.dumps(
            {
                "data": repr(data),
                "bytes_as_float32": 4 * data.rows * int(np.prod(data.features)),
                "peak_anonymous_bytes": peak[0],
                "first_pass_seconds": read,
                "sweep_seconds": result.seconds,
                "steps": steps,
                "test_accuracy": result.test_accuracy,
            }
        )
    )


def write_large(folder, total):
    """Noisy copies of ten images, so many that they are more than that as float32."""
    rows = int(LARGE_SHARE * total / (4 * 784))
    draws = np.random.default_rng(0)
    y = np.arange(rows, dtype=np.uint8) % 10
    base, noise = (
        draws.integers(0, 200, (10, 784), dtype=np.uint8),
        draws.integers(0, 56, 2**24, dtype=np.uint8),
    )
    x = np.lib.format.open_memmap(folder / "x_train.npy", "w+", np.uint8, (rows, 784))
    for start in range(0, rows, 10_000):
        own = slice(start, min(start + 10_000, rows))
        shift = int(draws.integers(0, 2**24 - 784 * 10_000))
        x[own] = base[y[own]] + noise[shift : shift + 784 * len(y[own])].reshape(-1, 784)
    x.flush()
    np.save(folder / "y_train.npy", y)


def memory(path, name):
    """Bytes that the system tells."""
    line = next(line for line in Path(path).read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


def larger_than_memory():
    """The outcome of `large` in a process of its own."""
    total = memory("/proc/meminfo", "MemTotal:")
    with tempfile.TemporaryDirectory() as folder:
        write_large(Path(folder), total)
        done = subprocess.run(
            [sys.executable, __file__, "large", folder], check=True, stdout=subprocess.PIPE, text=True
        )
    return {**json.loads(done.stdout.splitlines()[-1]), "machine_bytes": total}


def main():
    """Prints the ratios."""
    if sys.argv[1:2] == ["large"]:
        large(sys.argv[2])
        return 0
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", help="a folder with MNIST's files")
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    workers, result = Workers(), {"rounds": given.rounds, "mnist": given.data_dir is not None}
    with tempfile.TemporaryDirectory() as folder:
        found = sources(images(given.data_dir), Path(folder))
        for count in EPOCHS:
            seconds = measure(found, count, given.rounds, workers)
            base = seconds["in memory"]
            ratios = {
                name: statistics.median(one / own for one, own in zip(base, times, strict=True))
                for name, times in seconds.items()
            }
            for name, ratio in ratios.items():
                each = 1e6 * statistics.median(seconds[name])
                print(
                    f"{count:3d} configurations, {name:10s} {each:6.1f} us a step, {ratio:.3f} of that in memory"
                )
            result[str(count)] = {"ratios": ratios, "seconds": seconds}
    workers.close()
    own = result["larger_than_memory"] = larger_than_memory()
    sizes = [own[name] / 1e9 for name in ("bytes_as_float32", "machine_bytes", "peak_anonymous_bytes")]
    print("{:.1f} GB as float32, machine {:.1f} GB, peak {:.2f} GB".format(*sizes))
    print(f"first pass {own['first_pass_seconds']:.0f} s, sweep {own['sweep_seconds']:.0f} s")
    write("streaming", result)
    return 0 if min(min(result[str(count)]["ratios"].values()) for count in EPOCHS) >= LEAST else 1


if __name__ == "__main__":
    sys.exit(main())
