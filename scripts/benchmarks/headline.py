"""Throughput, sweeps and scaling in turn, and one table of all ratios."""

import argparse
import importlib.metadata
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from common import machine, write

PARTS = ("throughput", "sweeps", "scaling")
PEERS = ("torch", "flax", "optuna", "ray")


def options(description, **extra):
    """The command line that all parts have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="tiny counts: whether everything runs")
    parser.add_argument("--json", type=Path, help="file to write the result to as well")
    parser.add_argument("--data-dir", type=Path, help="directory with the four files of MNIST")
    parser.add_argument("--rounds", type=int, help="measurements of each, in turn  [default: 5, quick: 1]")
    for name, settings in extra.items():
        parser.add_argument(f"--{name.replace('_', '-')}", **settings)
    given = parser.parse_args()
    given.rounds = given.rounds or (1 if given.quick else 5)
    return given


def versions():
    """What was measured on what."""
    found = machine()
    found["versions"] |= {name: importlib.metadata.version(name) for name in PEERS}
    return found


def entry(what, value, target=None, *, unit="x", most=False):
    """A line of the table: a ratio, and what it is to be; `most`: it is to be no larger."""
    return {"what": what, "value": value, "target": target, "unit": unit, "most": most}


def missing(what, reason):
    """A line for what could not be measured."""
    return {"what": what, "reason": reason}


def show(entries):
    """The table of ratios, with the versions."""
    found = versions()
    print(f"\n{found['processor']}, {found['cores']} cores, Python {found['python']}")
    print(", ".join(f"{name} {version}" for name, version in found["versions"].items()))
    width = max((len(own["what"]) for own in entries), default=0)
    for own in entries:
        print(f"{own['what']:{width}s}  {own.get('reason') or _text(own)}")


def _text(own):
    value = f"{own['value']:8.2f}{own['unit']}"
    if own["target"] is None:
        return value
    reached = own["value"] <= own["target"] if own["most"] else own["value"] >= own["target"]
    side = "at most" if own["most"] else "at least"
    return f"{value}   {side} {own['target']:g}{own['unit']}: {'reached' if reached else 'NOT reached'}"


def finish(name, result, given):
    """Prints the table of a part and writes its result; a quick one only where it is asked for."""
    if given.quick:  # says nothing about the targets
        result["table"] = [own | {"target": None} for own in result["table"]]
    show(result["table"])
    if not given.quick:
        write(name, result | {"peers": versions()["versions"]})
    if given.json:
        given.json.write_text(json.dumps({**versions(), **result}, indent=1) + "\n")


def main():
    """Every part in a process of its own, one after the other."""
    given = options(__doc__)
    whole, codes = {"table": []}, []
    with tempfile.TemporaryDirectory() as folder:
        for part in PARTS:
            file = Path(folder) / f"{part}.json"
            arguments = ["--json", str(file), "--rounds", str(given.rounds)]
            arguments += ["--quick"] if given.quick else []
            arguments += ["--data-dir", str(given.data_dir)] if given.data_dir else []
            script = Path(__file__).with_name(f"{part}.py")
            print(f"\n===== {part}", flush=True)
            codes.append(subprocess.run([sys.executable, str(script), *arguments], check=False).returncode)
            whole[part] = json.loads(file.read_text()) if file.exists() else {"table": []}
            whole["table"] += whole[part]["table"] or [missing(part, f"failed with code {codes[-1]}")]
    print("\n===== all", end="")
    show(whole["table"])
    if given.json:
        given.json.write_text(json.dumps({**versions(), **whole}, indent=1) + "\n")
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
