"""What `advise` predicts against what sweeps take, each in a process of its own.

The advice of a case starts with an empty folder of compiled programs. A warm sweep starts with what the advice left
there, a cold one with an empty folder. Sweeps are recorded in a folder, as from the command line. With --patience N,
every measurement waits a while until other processes are quiet, and what they disturbed all the same is measured
again, at most N times; the least disturbed measurement counts.
"""

import argparse
import functools
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import write

ONE_PROGRAM = {
    "learning_rate": {"log_uniform": [1e-4, 1.0]},
    "layers": 2,
    "hidden_units": 64,
    "batch_size": 64,
}
CNN = {
    "learning_rate": {"log_uniform": [1e-4, 1e-1]},
    "channels": {"integers": [4, 16]},
    "batch_size": {"choice": [32, 64]},
}
QUIET, WAIT = 0.05, 120.0  # the share of the processors that others may use; seconds to wait for that
# name: data, model, space, epochs, budget, and the sweeps: configurations, policy, start
CASES = {
    "digits, eight hyper-parameters": {
        "epochs": 50,
        "budget": 45,
        "sweeps": [
            (64, None, "warm"),
            (256, None, "warm"),
            (256, None, "cold"),
            (1024, "halving", "warm"),
            ("recommended", None, "warm"),
        ],
    },
    "digits, one program": {
        "space": ONE_PROGRAM,
        "epochs": 50,
        "budget": 30,
        "sweeps": [(256, None, "warm"), (256, None, "cold"), (1024, "halving", "warm")],
    },
    "digits, CNN": {
        "model": "cnn",
        "space": CNN,
        "epochs": 6,
        "budget": 45,
        "sweeps": [(32, None, "warm"), (32, None, "cold"), (64, "halving", "warm")],
    },
    "MNIST, eight hyper-parameters": {
        "data": "mnist",
        "epochs": 3,
        "budget": 60,
        "sweeps": [(16, None, "warm"), (16, None, "cold")],
    },
}


def setting(case, data_dir):
    """Task and space of a case."""
    import jbn

    data = jbn.data.mnist(data_dir) if case.get("data") == "mnist" else jbn.data.digits()
    model = jbn.cnn() if case.get("model") == "cnn" else jbn.mlp()
    space = jbn.Space.from_spec(case["space"]) if "space" in case else jbn.search.defaults(all=True)
    return jbn.Task(model=model, data=data), space


def policy(name):
    import jbn

    return None if name is None else getattr(jbn, name)()


def advice(case, data_dir):
    """Predictions for all sweeps of a case."""
    from jbn.runs.advise import advise

    task, space = setting(case, data_dir)
    found = advise(task, space, budget=case["budget"], epochs=case["epochs"], key=0)
    predicted = []
    for count, name, start in case["sweeps"]:
        way = "halving" if found.recommendation == "caviar with halving" else None
        configs, own = (found.configs, way) if count == "recommended" else (count, name)
        predicted.append((configs, own, start, found.predict(configs, policy(own), start=start)))
    return {
        "recommendation": found.recommendation,
        "reason": found.reason,
        "configs": found.configs,
        "by_memory": found.by_memory,
        "by_halving": found.by_halving,
        "compile_seconds": found.compile_seconds,
        "epoch_seconds": found.epoch_seconds,
        "cold_measured": found.cold_measured,
        "spent": found.spent,
        "predicted": predicted,
    }


def sweep(case, data_dir, configs, name):
    """Seconds of a sweep."""
    import jax

    import jbn

    task, space = setting(case, data_dir)
    drawn = jbn.search.random(space, configs, key=0)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "run")
        own = jbn.sweep(
            task, drawn, epochs=case["epochs"], key=jax.random.key(1), policy=policy(name), out=out
        )
    return own.seconds


def least_disturbed(measure, patience):
    """The measurement during which other processes used least of the processors, and what they used of them."""
    best, least = None, math.inf
    for _ in range(patience + 1):
        before = time.monotonic()
        while patience and time.monotonic() - before < WAIT and _others(lambda: time.sleep(4))[1] > QUIET:
            pass
        found, others = _others(measure)
        if others < least:
            best, least = found, others
        if others < QUIET:
            break
    return best, least


def _others(measure):
    """What it measures, and the share of all processors that others used meanwhile."""
    before = _busy()
    found = measure()
    seconds, everyone, own = (b - a for a, b in zip(before, _busy(), strict=True))
    return found, max(0.0, everyone - own) / (seconds * os.cpu_count())


def _busy():
    """Wall-clock seconds, and processor seconds of the machine and of this process and those it waited for."""
    user, nice, system, _, _, *more = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:9])
    machine = (user + nice + system + sum(more)) / os.sysconf("SC_CLK_TCK")
    return time.perf_counter(), machine, sum(os.times()[:4])


def apart(programs, *arguments):
    """What this file prints in a process of its own, which keeps its programs there."""
    command = [sys.executable, __file__, "--apart", json.dumps(arguments)]
    environment = {**os.environ, "XDG_CACHE_HOME": str(programs)}
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def fresh(programs, *arguments):
    """The same, with nothing compiled there before."""
    shutil.rmtree(programs, ignore_errors=True)
    return apart(programs, *arguments)


def measured(name, data_dir, patience):
    """Predicted and measured seconds of all sweeps of a case."""
    with tempfile.TemporaryDirectory() as folder:
        warm, cold = Path(folder, "warm"), Path(folder, "cold")
        found, disturbed = least_disturbed(lambda: fresh(warm, "advice", name, data_dir), patience)
        found["disturbed"] = disturbed
        print(f"{name}: {found['reason']}; advice took {found['spent']:.1f} s", flush=True)
        rows = []
        for configs, policy_name, start, predicted in found.pop("predicted"):
            programs, launch = (warm, apart) if start == "warm" else (cold, fresh)
            call = functools.partial(launch, programs, "sweep", name, data_dir, configs, policy_name)
            seconds, disturbed = least_disturbed(call, patience)
            row = dict(
                configs=configs,
                policy=policy_name,
                start=start,
                predicted=predicted,
                measured=seconds,
                ratio=predicted / seconds,
                disturbed=disturbed,
            )
            rows.append(row)
            print(
                f"  {configs} configurations, {policy_name or 'all to the end'}, {start}: {predicted:.1f} s "
                f"predicted, {seconds:.1f} s measured, ratio {row['ratio']:.2f}; others used {disturbed:.0%}",
                flush=True,
            )
    return {**found, "sweeps": rows}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", help="where the files of MNIST lie; without it there is no MNIST")
    parser.add_argument("--patience", type=int, default=0, help="measure again at most so often")
    parser.add_argument("--only", help="cases whose name has this in it")
    parser.add_argument("--apart", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.apart:
        from jbn.cli.sweep import keep_programs

        keep_programs()
        what, name, *more = json.loads(options.apart)
        print(json.dumps({"advice": advice, "sweep": sweep}[what](CASES[name], *more)))
        return
    names = [name for name in CASES if options.data_dir or CASES[name].get("data") != "mnist"]
    names = [name for name in names if (options.only or "") in name]
    begun = time.perf_counter()
    results = {name: measured(name, options.data_dir, options.patience) for name in names}
    print(f"{time.perf_counter() - begun:.0f} s")
    if not options.only:
        write("advise", {"cases": CASES, "results": results})


if __name__ == "__main__":
    main()
