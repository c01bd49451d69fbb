"""The default sweep for five seeds: how good the winners are on the test part, how long it takes, how much memory.

Every run is a process of its own with an empty compilation cache.
"""

import contextlib
import json
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import write

ACCURACY, SECONDS, COMPILING, GIGABYTES = 0.97, 60, 15, 2


def run(seed):
    """One sweep; its settings as recorded, with the time and memory of the whole process."""
    with tempfile.TemporaryDirectory() as place:
        environment = {**os.environ, "XDG_CACHE_HOME": str(Path(place) / "cache")}
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)
        command = [
            sys.executable,
            "-m",
            "jbn",
            "sweep",
            "--seed",
            str(seed),
            "--out",
            str(Path(place) / "run"),
        ]
        start = time.perf_counter()
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - start
        with contextlib.closing(sqlite3.connect(Path(place) / "run" / "sweep.sqlite")) as database:
            settings = dict(database.execute("SELECT name, value FROM settings"))
    timings = json.loads(settings["timings"])
    return {
        "seed": seed,
        "test_accuracy": json.loads(settings["test_accuracy"]),
        "process_seconds": round(seconds, 1),
        "tracing_seconds": round(timings["trace"], 1),
        "compiling_seconds": round(timings["compile"], 1),
        "programs": timings["programs"],
    }


def main():
    """Prints a row a seed and what was to be reached."""
    rows = []
    for seed in range(5):
        rows.append(run(seed))
        print(", ".join(f"{name} {value}" for name, value in rows[-1].items()), flush=True)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    mean = sum(row["test_accuracy"] for row in rows) / len(rows)
    slowest = max(row["process_seconds"] for row in rows)
    compiling = max(row["tracing_seconds"] + row["compiling_seconds"] for row in rows)
    print(f"mean test accuracy {mean:.4f} (at least {ACCURACY})")
    print(
        f"slowest process {slowest} s (below {SECONDS}), tracing and compiling {compiling:.1f} s (below {COMPILING})"
    )
    print(f"peak memory {peak:.2f} GB (below {GIGABYTES})")
    summary = {"mean_test_accuracy": mean, "peak_gigabytes": peak}
    write("quality", {"runs": rows, **summary})
    return 0 if mean >= ACCURACY and slowest < SECONDS and compiling < COMPILING and peak < GIGABYTES else 1


if __name__ == "__main__":
    sys.exit(main())
