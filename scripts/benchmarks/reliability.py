"""A panda and sweeps that are killed again and again at random moments, and a disk that is full.

--kills N (default 50), of each. A panda's process opens it, trains, keeps every segment, and is killed (SIGKILL):
every fifth while it opens and compiles, the others while they train. In the end everything is done again from the
seed, and all states are compared bit for bit.

A sweep is killed at random moments and resumed until it comes to its end, then the next one begins. Every other one
writes a checkpoint after each segment, so that many kills fall into one. Tables and curves are compared bit for bit
with those of a sweep that nobody killed. Last, sweeps run onto a small disk that others fill to different heights
(--disks N, default 10; Linux, as root); they must end with one line, and go on once there is space.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
from common import write

import jbn
from jbn import store

KEY = 11
TRAINING = """
import sys, jax, jbn
task = jbn.Task(model=jbn.mlp(layers=1, hidden_units=12), data=jbn.data.digits())
config = {"learning_rate": 0.003, "dropout": 0.1, "batch_size": 256}
with jbn.panda(task, config, key=jax.random.key(11), out=sys.argv[1]) as baby:
    print("ready", flush=True)
    baby.train(100_000, on_segment=lambda now: print(now.segment, flush=True))
"""


SWEEP = """
import sys, jax, jbn
from jbn.runs.pace import Pace
out, always, again = sys.argv[1], sys.argv[2] == "always", sys.argv[3] == "again"
if always:
    Pace.due = lambda self, now, size: True
task = jbn.Task(model=jbn.mlp(), data=jbn.data.digits())
space = jbn.Space(
    learning_rate=jbn.log_uniform(1e-4, 1.0), layers=jbn.integers(1, 2), hidden_units=32, batch_size=128
)
configs = jbn.search.random(space, 24, key=0)
def told(now):
    print(now.segment, flush=True)
policy = jbn.halving(min_epochs=10)
try:
    if again:
        jbn.resume(out, task, policy=policy, on_segment=told)
    else:
        jbn.sweep(task, configs, epochs=90, key=jax.random.key(1), policy=policy, out=out, on_segment=told)
except jbn.InputError as error:
    if "has ended after its 90 epochs" not in str(error):  # killed when it had recorded its end, but not said so
        print(error, file=sys.stderr)
        sys.exit(2)
print("end", flush=True)
"""


def main():
    """Kills, looks, goes on; a few lines of numbers at the end."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--disks", type=int, default=10)
    parser.add_argument(
        "--only", nargs="+", choices=("panda", "sweeps", "disks"), help="keep the others as recorded"
    )
    parser.add_argument(
        "--inside", help=argparse.SUPPRESS
    )  # the folder of a small disk that is mounted already
    options = parser.parse_args()
    if options.inside:
        full_disks(Path(options.inside), options.disks)
        return
    parts = {
        "panda": lambda: panda(options.kills),
        "sweeps": lambda: sweeps(options.kills),
        "disks": lambda: on_a_small_disk(options.disks),
    }
    before = json.loads(Path(__file__).with_name("results").joinpath("reliability.json").read_text())
    wanted = options.only or list(parts)
    write(
        "reliability", {name: part() if name in wanted else before.get(name) for name, part in parts.items()}
    )


def panda(kills):
    """One panda, killed so often."""
    dice, task = random.Random(1), jbn.Task(model=jbn.mlp(layers=1, hidden_units=12), data=jbn.data.digits())
    before, losses, moments = 0, [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(kills):
            early = number % 5 == 4
            delay = dice.uniform(0, 2.0 if early else 0.5)
            told = killed(folder, delay, early=early)
            with jbn.panda(task, out=folder) as baby:
                kept = baby.segment
            losses.append(max(told, before) - kept)  # what was told to be done and is not there
            moments.append({"seconds": round(delay, 3), "began_at": before, "told": told, "kept": kept})
            print(f"killed after {delay:.2f} s: segment {told} was told, {kept} kept", flush=True)
            assert kept >= max(told, before), "a segment that was told to be done is lost"
            assert kept <= max(told, before) + 1, "more than the segment in progress went untold"
            before = kept
        with jbn.panda(task, key=jax.random.key(KEY), out=folder) as baby:
            again = baby.replay()
    print(
        f"{kills} kills, {sum(loss > 0 for loss in losses)} lost a segment that was done; "
        f"all {again} segments are bit for bit what the seed makes"
    )
    return {"kills": kills, "lost": sum(losses), "segments": again, "moments": moments}


def sweeps(kills):
    """Sweeps, killed so often in all."""
    dice, moments, ended = random.Random(2), [], 0
    with tempfile.TemporaryDirectory() as folder:
        whole, out = Path(folder, "whole"), Path(folder, "run")
        assert swept(whole, "usual", "new") is None
        always, again = "usual", "new"
        while len(moments) < kills or again == "again":
            delay = dice.uniform(0, 4.0) if len(moments) < kills else None
            told = swept(out, always, again, delay)
            if told is None:
                check_same(whole, out)
                ended += 1
                shutil.rmtree(out)
                always, again = ("always" if always == "usual" else "usual"), "new"
                continue
            if delay is not None:
                kept = told_segments(out)
                moments.append({"seconds": round(delay, 3), "checkpoints": always, "told": told, **kept})
                print(f"killed after {delay:.2f} s: segment {told} was told, {kept}", flush=True)
            again = "again" if store.exists(out) else "new"
    print(f"{kills} kills of {ended} sweeps, all of which ended bit for bit as one that nobody killed")
    return {"kills": kills, "sweeps": ended, "moments": moments}


def swept(out, always, again, delay=None):
    """Runs or resumes a sweep; None if it came to its end, else the last segment that was told before the kill."""
    command = [sys.executable, "-c", SWEEP, str(out), always, again]
    programs = Path(tempfile.gettempdir(), "jbn-reliability")  # not on a disk that is to be full
    kept = {"JAX_COMPILATION_CACHE_DIR": str(programs), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **kept}) as process:
        first = process.stdout.readline() if delay is not None else ""
        if delay is not None:
            time.sleep(delay)
            process.kill()
        lines = [first.strip(), *process.stdout.read().split("\n")]
    if "end" in lines:
        return None
    assert delay is not None, "a sweep that nobody killed did not come to its end"
    return max((int(line) for line in lines if line.isdecimal()), default=0)


def told_segments(out):
    """What a killed sweep left: segments in the database, and those of its checkpoints."""
    if not store.exists(out):
        return {"kept": 0, "of_checkpoints": []}
    record = store.read(out)
    kept = int(record.curves["segment"].max()) + 1 if len(record.curves) else 0
    return {"kept": kept, "of_checkpoints": [own.segment for own in record.checkpoints]}


def check_same(first, second):
    """Tables, curves and events of two runs are the same, bit for bit."""
    one, other = store.read(first), store.read(second)
    for name in ("configurations", "curves", "events"):
        assert getattr(one, name).equals(getattr(other, name)), f"the {name} differ"


def on_a_small_disk(disks):
    """`full_disks` where a small disk is mounted that nobody else sees."""
    with tempfile.TemporaryDirectory() as folder:
        script = 'mount -t tmpfs -o size=24m tmpfs "$1" && exec "$2" "$3" --inside "$1" --disks "$4"'
        own = ["sh", "-c", script, "sh", folder, sys.executable, __file__, str(disks)]
        ran = subprocess.run(["unshare", "--mount", *own], check=False, capture_output=True, text=True)
        print(ran.stdout, ran.stderr, sep="")
        return {"disks": disks, "ended_well": ran.returncode == 0}


def full_disks(folder, disks):
    """Sweeps onto a disk with ever less space, resumed once there is some."""
    dice = random.Random(3)
    whole = Path(tempfile.mkdtemp(), "whole")  # on another disk
    assert swept(whole, "usual", "new") is None
    for number in range(disks):
        out, filler = folder / f"run-{number}", folder / "filler"
        space = int(dice.uniform(60e3, 4e6))
        free = os.statvfs(folder)
        filler.write_bytes(bytes(free.f_bavail * free.f_frsize - space))
        command = [sys.executable, "-c", SWEEP, str(out), "always", "new"]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        filler.unlink()
        said = ran.stderr.strip().splitlines()
        kept = told_segments(out)
        print(f"{space / 1e3:.0f} kB free: exit code {ran.returncode}, {kept}, {said[-1:]}", flush=True)
        assert ran.returncode in (0, 2), said
        assert "Traceback" not in ran.stderr
        if ran.returncode == 2:
            again = "again" if store.exists(out) else "new"
            assert swept(out, "always", again) is None
        check_same(whole, out)
        shutil.rmtree(out)
    print(f"{disks} full disks: every sweep ended with one line, and then bit for bit as on a large one")


def killed(folder, delay, *, early):
    """Trains for a while, counted from the first line or from the first segment; the last segment that was told."""
    command = [sys.executable, "-c", TRAINING, folder]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        lines = [process.stdout.readline() for _ in range(1 if early else 2)]
        assert lines[0] == "ready\n", lines
        time.sleep(delay)
        process.kill()
        told = [int(line) for line in (*lines[1:], *process.stdout.read().split("\n")[:-1])]
    return max(told, default=0)


if __name__ == "__main__":
    main()
