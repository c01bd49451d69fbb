"""What recording a run costs: sweeps with a folder and without, in turn.

256 configurations of the digits for 50 epochs without a policy, 256 and 1,024 for 81 with successive halving; with
--data-dir DIRECTORY of MNIST's files also 16 of them. Medians of --rounds N (default 5), of more where they are
short, as single ones differ by more than what is measured; with 95 % intervals of resampled rounds.
"""

import argparse
import tempfile
import time
from pathlib import Path

import jax
from common import median, write

import jbn
from jbn import store

AT_MOST = 1.03
AT_LEAST_SECONDS = 120  # of a case's rounds


def recorded(task, configs, epochs, policy, rounds):
    """Seconds without and with a folder, and what is in it."""
    options = {"epochs": epochs, "key": jax.random.key(1), "policy": policy}
    jbn.sweep(task, configs, **options)  # compiles
    rows, begun = [], time.perf_counter()
    while len(rows) < rounds or time.perf_counter() - begun < AT_LEAST_SECONDS:
        with tempfile.TemporaryDirectory(dir=Path.home()) as folder:  # a disk, not memory
            out, row = Path(folder, "run"), {}
            for kept in (None, out)[:: 1 if len(rows) % 2 else -1]:
                name, before = "without" if kept is None else "with", time.process_time()
                row[name] = jbn.sweep(task, configs, out=kept, **options).seconds
                row[f"{name}_processor"] = time.process_time() - before
            record = store.read(out)
            size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
        checkpoints = [one.segment for one in record.checkpoints]
        rows.append({**row, "checkpoints": checkpoints, "bytes": size})
    ratio, interval = median([row["with"] / row["without"] for row in rows])
    of_cores, _ = median([row["with_processor"] / row["without_processor"] for row in rows])
    return {
        "ratio": ratio,
        "interval": interval,
        "processor_ratio": of_cores,
        "at_most": AT_MOST,
        "rows": rows,
    }


def main():
    """All of them, and one result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data-dir", help="with MNIST's files")
    options = parser.parse_args()
    task = jbn.Task(model=jbn.mlp(), data=jbn.data.digits())
    configs = jbn.search.random(jbn.search.defaults(all=True), 256, key=0)
    many = jbn.search.random(jbn.search.defaults(all=True), 1024, key=0)
    cases = {
        "plain": (task, configs, 50, None),
        "halving": (task, configs, 81, jbn.halving()),
        "halving of 1,024": (task, many, 81, jbn.halving()),
    }
    if options.data_dir:
        mnist = jbn.Task(model=jbn.mlp(), data=jbn.data.mnist(options.data_dir))
        few = jbn.search.random(jbn.search.defaults(all=True), 16, key=0)
        cases["MNIST"] = (mnist, few, 5, None)
    result = {}
    for name, case in cases.items():
        result[name] = own = recorded(*case, options.rounds)
        last = own["rows"][-1]
        low, high = own["interval"]
        print(
            f"{name}: {own['ratio']:.3f} of the time without (at most {AT_MOST}; 95 % interval {low:.3f} to "
            f"{high:.3f}, {len(own['rows'])} rounds), {own['processor_ratio']:.3f} of the cores' time; "
            f"{last['without']:.1f} s, checkpoints {last['checkpoints']}, {last['bytes'] / 1e6:.1f} MB",
            flush=True,
        )
    write("recording", result)


if __name__ == "__main__":
    main()
