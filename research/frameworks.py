"""The choice of a framework matters: programs for the same network differ twofold in lines and in time.

The same network (64-128-128-10, batch norm before ReLU, Adam, batches of 64, the digits) as a whole program in jbn,
flax, PyTorch, Keras and PaddlePaddle, see `programs/`. Easy to program: lines and tokens of code, without blank
lines, comments and docstrings. Fast: seconds after the imports, compiling included, of each program in a process of
its own, in turns, five rounds; a ratio is one within a round. Open: the licence that the package itself states,
and who governs it, read on the day below.

Held: the longest program has at least twice the lines of the shortest, and the slowest takes at least twice the time
of the fastest (whole 95 % interval over rounds), both also where jbn, which is no general framework, is left out.
Not held: none of that is so. Else it depends on which. What is not installed is named and does not count.

Frameworks are looked for in this interpreter, then in that of `--python PATH`, by default `.venv-peers`. Such a one
is made by `python -m venv FOLDER` and `FOLDER/bin/pip install -e '.[frameworks]' paddlepaddle`.
"""

import ast
import io
import json
import math
import os
import subprocess
import sys
import time
import tokenize
from pathlib import Path
from typing import NamedTuple

import numpy as np
from arms import factor
from common import Finding, main, mean, verdict_of
from pictures import error_bars, ticks

PROGRAMS = Path(__file__).with_name("programs")
PEERS = Path(__file__).parents[1] / ".venv-peers" / "bin" / "python"
CHECKED = "2026-11-30"  # in stored copies of these pages
GOVERNED = {
    "jbn": ("its maintainers", "LICENSE of this repository"),
    "flax": ("Google", "https://github.com/google/flax"),
    "torch": (
        "PyTorch Foundation (Linux Foundation)",
        "https://docs.pytorch.org/docs/stable/community/persons_of_interest.html",
    ),
    "keras": ("Keras team at Google", "https://keras.io/governance/"),
    "paddlepaddle": ("Baidu", "https://github.com/PaddlePaddle/community"),
}  # by the package; who, and where that is said
NAMES = {"torch": "pytorch", "paddlepaddle": "paddle"}
TWOFOLD = 2.0
ROUNDS = 5
TIMEOUT = 120.0  # seconds
LAYOUT = (
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
)
ASK = """
import importlib.metadata, json, sys
found = {}
for name in sys.argv[1:]:
    try:
        own = importlib.metadata.metadata(name)
    except importlib.metadata.PackageNotFoundError:
        continue
    kinds = [c.split(" :: ")[-1] for c in own.get_all("Classifier") or () if c.startswith("License :: OSI")]
    said = own.get("License-Expression") or ", ".join(kinds) or (own.get("License") or "unstated").splitlines()[0]
    found[name] = {"version": own["Version"], "licence": said}
print(json.dumps(found))
"""


class Once(NamedTuple):
    """A program that has ended: its own accuracy and seconds, and those of its process."""

    accuracy: float
    seconds: float
    process: float


def code(path):
    """Lines and tokens of code, without comments and docstrings."""
    source = path.read_text(encoding="utf-8")
    docstrings = set()
    for node in ast.walk(ast.parse(source)):
        body = getattr(node, "body", None)
        first = body[0] if isinstance(body, list) and body else None
        if isinstance(first, ast.Expr) and isinstance(getattr(first.value, "value", None), str):
            docstrings |= set(range(first.lineno, first.end_lineno + 1))
    tokens = [
        one
        for one in tokenize.generate_tokens(io.StringIO(source).readline)
        if one.type not in LAYOUT and one.start[0] not in docstrings
    ]
    return len({line for one in tokens for line in range(one.start[0], one.end[0] + 1)}), len(tokens)


def installed(options, names):
    """The interpreter, version and licence of every framework that there is."""
    given = options.python or (str(PEERS) if PEERS.exists() else None)
    found = {}
    for python in [sys.executable, *([given] if given else [])]:
        try:
            asked = subprocess.run([python, "-c", ASK, *names], capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise SystemExit(f"error: --python must be a Python interpreter, but {python}: {error}") from None
        for name, own in json.loads(asked.stdout).items():
            found.setdefault(name, {"python": python, **own})
    return found


def once(python, name, epochs):
    """Runs a program; None where it fails."""
    path, began = PROGRAMS / f"{NAMES.get(name, name)}_program.py", time.perf_counter()
    try:
        done = subprocess.run(
            [python, path, str(epochs)],
            capture_output=True,
            text=True,
            check=True,
            timeout=TIMEOUT,
            env=dict(os.environ, PYTHONWARNINGS="ignore"),
        )
        accuracy, seconds = map(float, done.stdout.splitlines()[-1].split())
    except subprocess.TimeoutExpired:
        print(f"{name} is not measured, its program took more than {TIMEOUT:.0f} s")
    except (subprocess.CalledProcessError, OSError, ValueError, IndexError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1:]
        print(f"{name} is not measured, its program failed: {' '.join(said)}")
    else:
        return Once(accuracy, seconds, time.perf_counter() - began)
    return None


def measure(options):
    """Runs every program that can run, in turns."""
    names, epochs = list(GOVERNED)[: options.size(len(GOVERNED), 2)], options.size(50, 2)
    there = installed(options, names)
    runs = {name: [] for name in names if name in there}
    for turn in range(options.size(ROUNDS, 1)):
        order = list(runs)
        for name in [*order[turn % len(order) :], *order[: turn % len(order)]]:
            found = once(there[name]["python"], name, epochs)
            if found is None:
                del runs[name]
            else:
                runs[name].append(found)
    missing = [name for name in names if name not in runs]
    if "jbn" in missing:
        raise SystemExit("error: jbn's own program failed, and all others are compared with it")
    table = [described(name, there[name], runs) for name in runs]
    governed = {name: {"who": who, "said": said} for name, (who, said) in GOVERNED.items()}
    return judge(table, {"epochs": epochs, "not_measured": missing, "governed": governed, "checked": CHECKED})


def described(name, about, runs):
    """A framework's row of the table."""
    lines, tokens = code(PROGRAMS / f"{NAMES.get(name, name)}_program.py")
    own = runs[name]
    ratios = [math.log(one.seconds / jbn.seconds) for one, jbn in zip(own, runs["jbn"], strict=True)]
    return {
        "framework": f"{name} {about['version']}",
        "lines": lines,
        "tokens": tokens,
        "accuracy": float(np.mean([one.accuracy for one in own])),
        "seconds": mean([one.seconds for one in own]),
        "over_jbn": factor(ratios),
        "process_seconds": mean([one.process for one in own]),
        "licence": about["licence"],
        "governed_by": GOVERNED[name][0],
        "log_over_jbn": ratios,
    }


def apart(table):
    """How many times the longest program is as long as the shortest, and the slowest as slow as the fastest."""
    lines = [row["lines"] for row in table]
    slow, fast = (choose(table, key=lambda row: row["over_jbn"].mean) for choose in (max, min))
    times = factor(np.subtract(slow["log_over_jbn"], fast["log_over_jbn"]))
    return max(lines) / min(lines), times, f"{slow['framework']} over {fast['framework']}"


def judge(table, more):
    """Whether programs differ twofold, with jbn and without."""
    groups = {"all": table}
    others = [row for row in table if not row["framework"].startswith("jbn ")]
    if len(others) > 1:
        groups["all but jbn"] = others
    good, said = {}, []
    for name, rows in groups.items():
        lines, times, which = apart(rows)
        good[f"lines of {name}"] = lines >= TWOFOLD
        good[f"time of {name}"] = times.low > TWOFOLD
        said.append(f"{name}: {lines:.2g} times the lines, {times} times the time ({which})")
    verdict = verdict_of(good.values())
    condition = (
        f"True for {', '.join(name for name, own in good.items() if own)}. " if verdict == "depends" else ""
    )
    worst = min(table, key=lambda row: row["accuracy"])
    missing = f". Not measured: {', '.join(more['not_measured'])}" if more["not_measured"] else ""
    licences = ", ".join(dict.fromkeys(row["licence"] for row in table))
    because = f"{condition}Of {'; of '.join(said)}; the least accuracy is {worst['accuracy']:.3f}; licences"
    return Finding([plain(row) for row in table], verdict, f"{because} {licences}{missing}", more)


def plain(row):
    """A row without what only `judge` needs."""
    return {name: value for name, value in row.items() if name != "log_over_jbn"}


def draw(figure, finding):
    """Lines against time."""
    axis = figure.subplots()
    axis.set(yscale="log", xlabel="lines of code", ylabel="seconds over those of jbn\n(95 % interval)")
    for number, row in enumerate(finding.rows):
        error_bars(
            axis, [row["lines"]], [row["over_jbn"]], number, ls="", ms=5, label=row["framework"].split("+")[0]
        )
    axis.axhline(1, color="black", lw=0.8)
    axis.set_xlim(0, None)
    ticks(axis.yaxis, (0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10))
    figure.legend(*axis.get_legend_handles_labels(), loc="outside upper center", ncols=2)


if __name__ == "__main__":
    main(__file__, measure, draw)
