"""The whole eight-hyper-parameter sweep as a process, from start to exit, against PyTorch, Optuna, Ray and flax.

All train the configurations that `jbn sweep` draws, on the same data in the same order, and judge every epoch; the
best validation accuracy must be the same within two points. Runs take turns; what takes long runs in one turn only.
"""

import csv
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from headline import entry, finish, missing, options

CORES = len(os.sched_getaffinity(0))
HERE = Path(__file__).parent
COLD, WARM = "jbn, cold cache", "jbn, warm cache"
ONE, ALL = "PyTorch, one process", f"PyTorch, {CORES} processes"
OPTUNA, RAY, FLAX = "Optuna + PyTorch", "Ray Tune + PyTorch", "sequential flax + optax"
PEERS = {
    ONE: ("sweep_torch.py", "1", "{threads}"),
    ALL: ("sweep_torch.py", str(CORES), "1"),
    OPTUNA: ("sweep_optuna.py", str(CORES)),
    RAY: ("sweep_ray.py", str(CORES)),
    FLAX: ("sweep_flax.py",),
}
SWEEPS = {"digits": (256, 50), "mnist": (64, 3)}
QUICK = {"digits": (8, 2), "mnist": (4, 1)}
SAMPLED = (ONE, FLAX)  # in a single process: its start and its training can be told apart
CLOSE, LIMIT, TRIED = 0.02, 1800, 8
TARGETS = {"digits": {COLD: {"PyTorch": 2.5, FLAX: 12}, WARM: {"PyTorch": 3.5}}}


class ProcessError(Exception):
    """A process that ended badly or took too long."""


def run(command, **environment):
    """Seconds of a process from start to exit."""
    surroundings = {**os.environ, "PYTHONPATH": str(HERE), "RAY_AUTH_MODE": "disabled"}
    surroundings |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AIR_NEW_OUTPUT": "0", **environment}
    surroundings.pop("JAX_COMPILATION_CACHE_DIR", None)
    with tempfile.TemporaryFile("w+") as output:
        start = time.perf_counter()
        try:
            code = subprocess.run(
                command, env=surroundings, stdout=output, stderr=output, timeout=LIMIT, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            raise ProcessError(f"not done after {LIMIT} s") from None
        seconds = time.perf_counter() - start
        if code:
            output.seek(0)
            lines = output.read().strip().splitlines() or [""]
            raise ProcessError(f"exit code {code}: {lines[-1]}")
    return seconds


def jbn(name, place, cache, given, sizes):
    """Seconds of `jbn sweep`, and its table."""
    count, epochs = sizes
    out, table = place / f"run-{time.time_ns()}", place / "table.csv"
    command = [sys.executable, "-m", "jbn", "sweep", "--data", name, "--configs", str(count)]
    command += ["--epochs", str(epochs), "--seed", "0", "--out", str(out)]
    command += ["--data-dir", str(given.data_dir)] if name == "mnist" else []
    seconds = run(command, XDG_CACHE_HOME=str(cache))
    run([sys.executable, "-m", "jbn", "export", str(out), str(table)])
    with table.open() as file:
        return seconds, list(csv.DictReader(file))


def write_setting(folder, name, data_dir, epochs):
    """The data as peers take it; in a process of its own, as this one starts no library."""
    import jax

    import jbn
    from jbn.task.streams import order, streams

    data = jbn.data.load(name, data_dir=data_dir, seed=0)
    arrays = jbn.Task(model=jbn.mlp(), data=data).arrays()
    key = streams(jax.random.fold_in(jax.random.key(0), 1)).order
    orders = [np.array(order(key, epoch, len(data.train.y))) for epoch in range(epochs)]
    parts = {"x": arrays.train.x, "y": arrays.train.y}
    parts |= {"validation_x": arrays.validation.x, "validation_y": arrays.validation.y}
    flat = {name: np.array(a).reshape(len(a), -1) if name.endswith("x") else a for name, a in parts.items()}
    np.savez(folder / "data.npz", orders=np.stack(orders), **flat)


def setting(place, label, rows, *, like=None):
    """A folder with configurations from the table of `jbn sweep`, and the data of another folder."""
    names = ("learning_rate", "decay_rate", "beta1", "beta2", "epsilon")
    whole = ("layers", "hidden_units", "batch_size")
    configs = [
        {n: float(row[n]) for n in names} | {n: int(float(row[n])) for n in whole}
        for row in sorted(rows, key=lambda row: int(row["config_id"]))
    ]
    folder = place / label
    folder.mkdir()
    (folder / "configs.json").write_text(json.dumps(configs))
    if like is not None:
        (folder / "data.npz").symlink_to(like / "data.npz")
    return folder


def stratified(rows, count):
    """So many rows, evenly over the amount of work."""
    from peers.sweep_setting import work

    def own(row):
        return work({"batch_size": int(float(row["batch_size"])), "layers": int(float(row["layers"]))}, 10**6)

    places = np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)
    ordered = sorted(rows, key=own)
    return [ordered[place] for place in places]


def peer(name, folder, place, threads):
    """Seconds of a peer's process, seconds of its training, and accuracies."""
    script, *arguments = (part.format(threads=threads) for part in PEERS[name])
    answer = place / "answer.json"
    answer.unlink(missing_ok=True)
    seconds = run([sys.executable, str(HERE / "peers" / script), str(folder), str(answer), *arguments])
    result = json.loads(answer.read_text())
    return seconds, result["training"], result["accuracies"]


def best_threads(folder, place):
    """Threads of the single process of PyTorch, by a trial on a few configurations that is not counted."""
    options = sorted({1, CORES})
    return min(options, key=lambda threads: peer(ONE, folder, place, threads)[1])


def measure(name, sizes, given, root):
    """Rows of all for one sweep."""
    place, rows = Path(root) / name, {}
    place.mkdir()
    for turn in range(given.rounds):
        cache = place / f"cache-{turn}"
        for label in (COLD, WARM):
            seconds, table = jbn(name, place, cache, given, sizes)
            add(
                rows,
                label,
                seconds,
                max(float(row["validation_accuracy"] or "nan") for row in table),
                sizes[0],
            )
        if turn == 0:
            whole, sample, threads = prepare(name, place, table, sizes, given)
        for label in PEERS:
            if turn and (rows[label].get("reason") or rows[label]["seconds"][0] > given.patience):
                continue
            folder = sample if given.sample and label in SAMPLED else whole
            count = len(json.loads((folder / "configs.json").read_text()))
            try:
                seconds, training, accuracies = peer(label, folder, place, threads)
                scaled = seconds + training * (sizes[0] / count - 1)
                add(rows, label, scaled, float(np.nanmax(accuracies)), count)
            except ProcessError as error:
                rows[label] = {"reason": str(error), "seconds": []}
                print(f"  {label}: {error}", flush=True)
    rows[ONE]["threads"] = threads
    return rows


def prepare(name, place, table, sizes, given):
    """The folders of all configurations and of a sample, and the threads of the single process."""
    whole = setting(place, "whole", table)
    arguments = (whole, name, given.data_dir, sizes[1])
    process = multiprocessing.get_context("spawn").Process(target=write_setting, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError("the data of the peers could not be written")
    sample = setting(place, "sample", stratified(table, given.sample or len(table)), like=whole)
    tried = setting(place, "tried", stratified(table, 2 if given.quick else TRIED), like=whole)
    return whole, sample, best_threads(tried, place)


def add(rows, label, seconds, accuracy, count):
    """One more measurement."""
    row = rows.setdefault(label, {"seconds": [], "accuracy": accuracy, "configurations": count})
    row["seconds"].append(seconds)
    print(f"  {label:26s} {seconds:8.1f} s   best validation accuracy {accuracy:.4f}", flush=True)


def table(name, rows, sizes):
    """The lines of one sweep."""
    label = f"{name}, {sizes[0]} configurations, {sizes[1]} epochs"
    found, torch = [], [own for own in (ONE, ALL) if "reason" not in rows[own]]
    for ours in (COLD, WARM):
        own, targets = np.median(rows[ours]["seconds"]), TARGETS.get(name, {}).get(ours, {})
        if torch:
            best = min(float(np.median(rows[one]["seconds"])) for one in torch)
            found.append(
                entry(f"{label}: {ours}, against the best of PyTorch", best / own, targets.get("PyTorch"))
            )
        for one in PEERS:
            what = f"{label}: {ours}, against {one}"
            if "reason" in rows[one]:
                found.append(missing(what, rows[one]["reason"]))
                continue
            number = rows[one]["configurations"]
            what += f" (from {number} of {sizes[0]})" if number < sizes[0] else ""
            found.append(entry(what, float(np.median(rows[one]["seconds"]) / own), targets.get(one)))
    return found


def differing(rows):
    """Peers whose best accuracy is not ours; a sample's best says little."""
    ours, count = rows[COLD]["accuracy"], rows[COLD]["configurations"]
    comparable = [own for own in rows if rows[own].get("configurations") == count]
    return [own for own in comparable if abs(rows[own]["accuracy"] - ours) > CLOSE]


def main():
    """Prints every run and the table."""
    seconds = {"type": float, "default": 150, "help": "peers that take longer run once  [default: 150 s]"}
    number = {"type": int, "default": 0, "help": "single processes train so many, scaled  [default: all]"}
    given = options(__doc__.splitlines()[0], patience=seconds, sample=number)
    if given.quick:
        given.rounds, given.sample = 1, given.sample or 4
    result, wrong = {"sweeps": {}, "table": [], "rounds": given.rounds}, []
    with tempfile.TemporaryDirectory() as root:
        for name, sizes in (QUICK if given.quick else SWEEPS).items():
            print(f"\n{name}, {sizes[0]} configurations, {sizes[1]} epochs", flush=True)
            if name == "mnist" and given.data_dir is None:
                print("  left out: it needs --data-dir")
                result["table"].append(
                    missing(f"{name}, {sizes[0]} configurations", "left out: no --data-dir")
                )
                continue
            try:
                rows = measure(name, sizes, given, root)
            except ProcessError as error:  # of our own runs: nothing to compare with
                print(f"  {error}")
                result["table"].append(missing(f"{name}, {sizes[0]} configurations", str(error)))
                wrong.append(f"{name}: no result")
                continue
            result["sweeps"][name] = rows
            result["table"] += table(name, rows, sizes)
            wrong += [f"{name}: {own}" for own in differing(rows)]
    finish("sweeps", result, given)
    if wrong and not given.quick:
        print(f"best accuracies differ from ours by more than {CLOSE}: {', '.join(wrong)}")
    return 1 if wrong and not given.quick else 0


if __name__ == "__main__":
    sys.exit(main())
