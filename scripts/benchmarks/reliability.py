"""A panda that is killed again and again at random moments: what it loses, and whether it goes on as it should.

--kills N (default 50). Each process opens the panda, trains, keeps every segment, and is killed (SIGKILL): every
fifth while it opens and compiles, the others while they train. In the end everything is done again from the seed,
and all states are compared bit for bit.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time

import jax
from common import write

import jbn

KEY = 11
TRAINING = """
import sys, jax, jbn
task = jbn.Task(model=jbn.mlp(layers=1, hidden_units=12), data=jbn.data.digits())
config = {"learning_rate": 0.003, "dropout": 0.1, "batch_size": 256}
with jbn.panda(task, config, key=jax.random.key(11), out=sys.argv[1]) as baby:
    print("ready", flush=True)
    baby.train(100_000, on_segment=lambda now: print(now.segment, flush=True))
"""


def main():
    """Kills, looks, goes on; one line of numbers at the end."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=50)
    options = parser.parse_args()
    dice, task = random.Random(1), jbn.Task(model=jbn.mlp(layers=1, hidden_units=12), data=jbn.data.digits())
    before, losses, moments = 0, [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.kills):
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
        f"{options.kills} kills, {sum(loss > 0 for loss in losses)} lost a segment that was done; "
        f"all {again} segments are bit for bit what the seed makes"
    )
    write("reliability", {"kills": options.kills, "lost": sum(losses), "segments": again, "moments": moments})


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
