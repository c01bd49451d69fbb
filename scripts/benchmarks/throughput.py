"""Training throughput per configuration and step against PyTorch, torch.func, flax and plain vmap.

Every contestant lives in a process of its own and stands still while another one is measured; they take turns.
All get the same weights, batches and arithmetic (dense or 3x3 layer, batch norm, ReLU, Adam, batch size 64), and
their losses must go where ours go. Configurations differ in the learning rate.
"""

import json
import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from headline import entry, finish, missing, options
from peers import trials
from peers.contest import Contestant, ContestantError, mean_losses, stopping

CORES = len(os.sched_getaffinity(0))
NAMES = ("MLP 784-128-128-10", "MLP 64-64-64-10", "CNN 16-32")
COUNTS = (1, 16, 256)
QUICK = {"MLP 784-128-128-10": (16,), "MLP 64-64-64-10": (1, 16), "CNN 16-32": (2,)}
OURS, PLAIN = "jbn", "jit(vmap(train))"
EAGER, PROCESSES = "PyTorch eager", f"PyTorch eager, {CORES} processes"
COMPILED, LOOP = "torch.compile", "loop over a jitted flax step"
FUNC, COMPILED_FUNC = "torch.func", "torch.func, compiled"
PRODUCTS, TORCH_PRODUCTS, LARGE = "products by XLA", "products by torch.mm", "large products"
CONTESTANTS = (
    (OURS, "peers.ours.Ours", {}),
    (EAGER, "peers.torch_training.Eager", {}),
    (PROCESSES, "peers.torch_training.SingleThread", {"processes": CORES}),
    (COMPILED, "peers.torch_training.Compiled", {"prepare_limit": 900}),
    (FUNC, "peers.torch_ensemble.Ensemble", {"prepare_limit": 900}),
    (COMPILED_FUNC, "peers.torch_ensemble.CompiledEnsemble", {"prepare_limit": 900}),
    (LOOP, "peers.jax_training.Loop", {}),
    (PLAIN, "peers.jax_training.Vmap", {}),
    (PRODUCTS, "peers.products.ByXla", {}),
    (TORCH_PRODUCTS, "peers.products.ByTorch", {"processes": CORES}),
    (LARGE, "peers.products.Large", {}),
)
LIMITS = (PRODUCTS, TORCH_PRODUCTS, LARGE)
CHECKED_EPOCHS, FIRST = 2, 4
# relative differences of losses allowed: in the first step, the first few, and at the end
EXACT, TIGHT, NEAR = 1e-5, 5e-3, 0.05
TARGETS = {
    "MLP 784-128-128-10": {"peak": 0.85, EAGER: 3, FUNC: 2.3, PLAIN: 1.7},
    "MLP 64-64-64-10": {"peak": 0.5, EAGER: 14, PROCESSES: 7, FUNC: 2.5, LOOP: 5},
    "CNN 16-32": {EAGER: 1.0, LOOP: 4},
}


def measure(name, count, folder, contestants, given):
    """One cell of the table: rows of all contestants, of a network and a number of configurations."""
    print(f"\n{name}, {count} configurations", flush=True)
    rows, reference = {}, None
    for contestant in contestants:
        if count < CORES and contestant.name == PROCESSES:
            rows[contestant.name] = {"reason": "a single configuration has one process"}
            continue
        try:
            row, losses = prepared(contestant, folder, count, given)
            reference = losses if contestant.name == OURS else reference
            row["losses"] = agreement(losses, reference) if contestant.name not in LIMITS else None
            rows[contestant.name] = row
        except ContestantError as error:
            rows[contestant.name] = {"reason": str(error)}
    timed = {c.name: c for c in contestants if "reason" not in rows[c.name]}
    for _ in range(given.rounds):
        for own, contestant in timed.items():
            turn(contestant, rows[own], folder)
    for own, row in rows.items():
        show_row(own, row, rows.get(OURS, {}), count)
    return rows


def prepared(contestant, folder, count, given):
    """A contestant's row so far, with the epochs of a measurement, and its first losses and epochs' means."""
    contestant.prepare(folder, count)
    settings = json.loads((folder / "sizes.json").read_text())
    checked = 1 if given.quick else CHECKED_EPOCHS
    seconds, losses = contestant.train(checked)
    most = settings["epochs"] - 1
    aim = (0.1 if given.quick else 1.0) * checked / seconds
    limit = 10_000 if contestant.name in LIMITS else most
    row = {
        "configurations": contestant.configurations,
        "settings": contestant.settings,
        "epochs": int(np.clip(aim, 1, limit)),
        "seconds": [],
    }
    if losses is None:
        return row, None
    if contestant.name == OURS:
        first = contestant.call("first_losses", FIRST, min(count, 4))
    else:
        first = np.asarray(losses)[:, 0, :FIRST]
    return row, (first, mean_losses(losses))


def agreement(losses, reference):
    """How far losses are from ours: the first steps, and the mean over configurations of the last epoch."""
    if reference is None:
        return None
    (first, means), (our_first, our_means) = losses, reference
    both = min(len(first), len(our_first))
    steps = np.max(np.abs(first[:both] / our_first[:both] - 1), axis=0)
    same = min(len(means), len(our_means))
    late = float(abs(means[:same, -1].mean() / our_means[:same, -1].mean() - 1))
    agree = steps[0] <= EXACT and max(steps) <= TIGHT and late <= NEAR
    return {"first_steps": steps.tolist(), "last_epoch": late, "agree": bool(agree)}


def turn(contestant, row, folder):
    """One measurement: seconds a configuration and step."""
    if "reason" in row:
        return
    time.sleep(0.05)  # threads of the one before fall asleep
    if contestant.name == LARGE:
        row["seconds"].append(contestant.train(row["epochs"])[0] / row["epochs"])
        return
    steps = json.loads((folder / "sizes.json").read_text())["steps"]
    try:
        seconds, _ = contestant.train(row["epochs"])
        row["seconds"].append(seconds / row["epochs"] / steps / row["configurations"])
    except ContestantError as error:
        row["reason"] = str(error)


def median(row):
    """Median seconds, or NaN."""
    return float(np.median(row["seconds"])) if row.get("seconds") and "reason" not in row else float("nan")


def show_row(name, row, ours, count):
    """A line on a contestant."""
    if "reason" in row:
        print(f"  {name:30s} {row['reason']}", flush=True)
        return
    seconds, losses = median(row), row["losses"]
    check = ""
    if losses:
        steps = " ".join(f"{own:.0e}" for own in losses["first_steps"])
        word = "agree" if losses["agree"] else "DISAGREE"
        check = f"losses {word}: first steps {steps}, epoch {losses['last_epoch']:.1%}"
    sample = f", on {row['configurations']} of {count}" if row["configurations"] < count else ""
    sample = "" if name in LIMITS else sample
    ratio = seconds / median(ours) if "seconds" in ours else float("nan")
    print(
        f"  {name:30s} {1e6 * seconds:9.1f} us  {ratio:6.2f} of ours   {row['settings']}{sample}   {check}",
        flush=True,
    )


def problem_folder(name, root, data_dir):
    """The problem of a network, written by a process of its own: this one starts no library."""
    folder = Path(root) / name.replace(" ", "_")
    folder.mkdir()
    process = multiprocessing.get_context("spawn").Process(
        target=write_problem, args=(name, folder, data_dir)
    )
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"the problem of {name} could not be made")
    return folder


def write_problem(name, folder, data_dir):
    """In a process of its own."""
    from peers import ours, products
    from peers.problem import NETWORKS, load

    ours.write(name, folder, data_dir)
    problem = load(folder)
    sizes = {
        "steps": problem.steps,
        "epochs": NETWORKS[name].epochs,
        "operations": products.operations(problem.kernels),
        "large": 2 * products.LARGE**3,
    }
    (folder / "sizes.json").write_text(json.dumps(sizes))


def table(name, count, rows, sizes):
    """The lines of one cell: what each takes of our time, and our share of the products'."""
    ours, found = median(rows[OURS]), []
    where = f"{name}, {count}"
    targets = TARGETS[name] if count == max(COUNTS) else {EAGER: 1.0} if count == 1 else {}
    if np.isnan(ours):
        return [missing(f"{where}: {OURS}", rows[OURS].get("reason", "not measured"))]
    limits = [median(rows[own]) for own in (PRODUCTS, TORCH_PRODUCTS)]
    if count > 1:  # one configuration has one thread, the limit has all
        found.append(
            entry(
                f"{where}: share of the peak", float(np.nanmin(limits)) / ours, targets.get("peak"), unit=""
            )
        )
        rate = sizes["operations"] / ours / (sizes["large"] / median(rows[LARGE]))
        found.append(entry(f"{where}: share of the rate of large products", rate, unit=""))
    for own, row in rows.items():
        if own in (OURS, *LIMITS):
            continue
        label = f"{where}: against {own}"
        if "reason" in row:
            found.append(missing(label, row["reason"]))
        else:
            found.append(entry(label, median(row) / ours, targets.get(own)))
    return found


def main():
    """Prints all cells and the table."""
    words = {"default": "", "help": "networks whose name contains this only"}
    given = options(__doc__.splitlines()[0], only=words)
    if given.quick:
        os.environ[trials.QUICK] = "1"
    if given.data_dir is None:
        print("no --data-dir: the 28x28 networks train on random images")
    result = {"cells": [], "table": [], "rounds": given.rounds}
    with tempfile.TemporaryDirectory() as root:
        for name in (own for own in NAMES if given.only in own):
            folder = problem_folder(name, root, given.data_dir)
            sizes = json.loads((folder / "sizes.json").read_text())
            with stopping([Contestant(n, path, **limits) for n, path, limits in CONTESTANTS]) as contestants:
                for count in QUICK[name] if given.quick else COUNTS:
                    rows = measure(name, count, folder, contestants, given)
                    result["cells"].append({"network": name, "configurations": count, "rows": rows})
                    result["table"] += table(name, count, rows, sizes)
    finish("throughput", result, given)
    return 0 if all(agrees(row) for cell in result["cells"] for row in cell["rows"].values()) else 1


def agrees(row):
    """Whether a row's losses go where ours go; a row that was not measured says nothing."""
    return not row.get("losses") or row["losses"]["agree"]


if __name__ == "__main__":
    sys.exit(main())
