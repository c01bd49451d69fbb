"""Time per configuration and step, and peak memory, against the number of configurations.

Every count is a process of its own; they take turns. MLP 64-64-64-10, batch size 64, on the digits.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from headline import entry, finish, options

COUNTS = (16, 64, 256, 1024, 4096)
NAME, STEPS = "MLP 64-64-64-10", 1 << 18  # configurations times steps that a measurement takes at least
FLAT = 1.10


def child(count, steps):
    """Measures in this process; prints seconds a configuration and step, and bytes."""
    from peers import ours, problem

    with tempfile.TemporaryDirectory() as folder:
        ours.write(NAME, folder, None)
        own = problem.load(folder)
    trained = ours.Ours(own, count)
    before = peak()
    epochs = max(1, min(own.network.epochs - 1, -(-steps // (count * own.steps))))
    seconds, _ = trained.train(epochs)
    answer = {"seconds": seconds / epochs / own.steps / count, "epochs": epochs}
    print(json.dumps(answer | {"peak": peak(), "before": before}))


def peak():
    """Bytes this process needed at most so far."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure(count, steps):
    """One process."""
    command = [sys.executable, __file__, "child", str(count), str(steps)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    """Prints a row a count."""
    if sys.argv[1:2] == ["child"]:
        child(int(sys.argv[2]), int(sys.argv[3]))
        return 0
    given = options(__doc__.splitlines()[0])
    counts, steps = (COUNTS[:3], STEPS // 16) if given.quick else (COUNTS, STEPS)
    measured = {count: [] for count in counts}
    for _ in range(given.rounds):
        for count, own in measured.items():
            own.append(measure(count, steps))
            time.sleep(0.5)
    rows = [summary(count, own) for count, own in measured.items()]
    for row in rows:
        print(
            f"{row['configurations']:5d} configurations: {1e6 * row['seconds']:6.1f} us a configuration and step, "
            f"peak {row['peak'] / 1e6:6.0f} MB, {row['added'] / 1e6:6.0f} MB of it since the data were there"
        )
    finish("scaling", {"rows": rows, "table": table(rows), "rounds": given.rounds}, given)
    return 0


def summary(count, own):
    """Medians of a count's processes."""
    seconds, peaks, before = (
        float(np.median([row[name] for row in own])) for name in ("seconds", "peak", "before")
    )
    return {
        "configurations": count,
        "seconds": seconds,
        "peak": peaks,
        "added": peaks - before,
        "all_seconds": [row["seconds"] for row in own],
    }


def table(rows):
    """The lines of the table."""
    times = [row["seconds"] for row in rows]
    span = f"{rows[0]['configurations']} to {rows[-1]['configurations']}"
    found = [
        entry(f"configurations {span}: slowest step / fastest step", max(times) / min(times), FLAT, most=True)
    ]
    for row in rows:
        what = f"{row['configurations']} configurations"
        found.append(entry(f"{what}: a configuration and step", 1e6 * row["seconds"], unit=" us"))
        found.append(entry(f"{what}: peak memory", row["peak"] / 1e9, unit=" GB"))
    return found


if __name__ == "__main__":
    sys.exit(main())
