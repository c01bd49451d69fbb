"""Runs the scripts of this folder one after the other, and writes their results into `README.md`.

`research/run_all` does the same in the project's environment.
"""

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
COURSE = (
    "importance_order",
    "random_against_grid",
    "right_scale",
    "coarse_to_fine",
    "panda_against_caviar",
    "input_normalization",
    "faster_training",
    "easier_search",
    "bias_before_norm",
    "covariate_shift",
    "regularization",
    "inference_statistics",
    "before_or_after",
    "scale_and_shift",
    "frameworks",
    "stale_settings",
)  # the order in which the course makes its claims
NEEDED = ("claim", "verdict", "because", "seconds", "versions", "python", "cores")
INTERRUPTED = 130  # what a shell says of Ctrl-C


class Run(NamedTuple):
    """A script that has ended.

    Args:
        name: of the script.
        verdict: "held", "not held" or "depends"; None where it failed.
        seconds: wall-clock time.
        said: what it printed.
    """

    name: str
    verdict: str | None
    seconds: float
    said: str


def scripts(folder: Path) -> list[str]:
    """Names of the scripts that measure something, in the order of the course."""
    sources = [path for path in folder.glob("*.py") if "\ndef measure(" in path.read_text(encoding="utf-8")]
    return sorted((path.stem for path in sources), key=_place)


def run(folder: Path, name: str, arguments: Sequence[str]) -> Run:
    """Runs a script in a process of its own."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, str(folder / f"{name}.py"), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    found = re.search(r"^verdict: (held|not held|depends)\.", done.stdout, re.MULTILINE)
    verdict = found.group(1) if found and done.returncode == 0 else None
    return Run(name, verdict, time.perf_counter() - began, done.stdout)


def run_all(folder: Path, names: Sequence[str], arguments: Sequence[str]) -> list[str]:
    """Runs the scripts, prints a line each; returns the names of those that failed."""
    failed = []
    width = max(map(len, names))
    for name in names:
        print(name.ljust(width), end="  ", flush=True)
        done = run(folder, name, arguments)
        print(f"{done.verdict or 'failed':8}  {done.seconds:4.0f} s", flush=True)
        if done.verdict is None:
            failed.append(name)
            print(*done.said.splitlines()[-15:], sep="\n")
    if failed:
        print(f"failed: {', '.join(failed)}")
    return failed


def results_of(folder: Path) -> dict[str, dict[str, Any]]:
    """What was recorded, by script, in the order of the course.

    Raises:
        SystemExit: a file that is no result.
    """
    found = {}
    for path in sorted((folder / "results").glob("*.json"), key=lambda path: _place(path.stem)):
        try:
            own = json.loads(path.read_text(encoding="utf-8"))
            lacking = [name for name in NEEDED if name not in own]
        except (json.JSONDecodeError, UnicodeDecodeError, TypeError) as error:
            raise SystemExit(f"error: {_damaged(path)} ({error})") from None
        if lacking:
            raise SystemExit(f"error: {_damaged(path)} (it lacks {', '.join(lacking)})")
        found[path.stem] = own
    return found


def page(results: dict[str, dict[str, Any]]) -> str:
    """All results as Markdown: a table of the verdicts, then a section each with its picture."""
    verdicts = [own["verdict"] for own in results.values()]
    counts = ", ".join(
        f"{verdicts.count(verdict)} {said}"
        for verdict, said in (("held", "held"), ("depends", "depend"), ("not held", "did not hold"))
    )
    return "\n".join(
        [
            "# Claims of Andrew Ng's course, measured",
            "",
            "One script a claim. `research/run_all` repeats all of them and writes this file from what they record "
            "in",
            "`research/results/`; `research/run_all --only NAME` repeats one, `--smoke` is a quick look. Intervals "
            "are 95 %.",
            f"Of {len(results)} claims {counts}.",
            "",
            "| | claim, and what it must beat | verdict | seconds (of a core) |",
            "|---|---|---|---|",
            *(_row(name, own) for name, own in results.items()),
            *(line for name, own in results.items() for line in _section(name, own)),
            "",
        ]
    )


def _row(name: str, own: dict[str, Any]) -> str:
    verdict = f"**{own['verdict']}**"
    if own["verdict"] == "depends":  # the condition comes first
        verdict += f": {own['because'].split('. ')[0]}"
    cells = [f"[{_number(name) or '-'}](#{name})", own["claim"], verdict, _seconds(own)]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _section(name: str, own: dict[str, Any]) -> list[str]:
    versions = ", ".join(f"{package} {version}" for package, version in own["versions"].items())
    return [
        "",
        f"## {name}",
        "",
        f"{own['claim']} **{own['verdict'].capitalize()}.** {own['because']}.",
        "",
        f"![{own['claim']}](results/{name}.png)",
        "",
        f"`research/run_all --only {name}`: {_seconds(own)} s on {own['cores']} cores with Python {own['python']}, "
        f"{versions}.",
    ]


def _seconds(own: dict[str, Any]) -> str:
    of_a_core = own.get("processor_seconds")
    return f"{own['seconds']:.0f}" + ("" if of_a_core is None else f" ({of_a_core:.0f})")


def _damaged(path: Path) -> str:
    return f"results/{path.name} is not a script's result; run research/run_all --only {path.stem} again"


def _number(name: str) -> int | None:
    return COURSE.index(name) + 1 if name in COURSE else None


def _place(name: str) -> tuple[int, str]:
    return _number(name) or len(COURSE) + 1, name


def write_readme(folder: Path) -> None:
    """Writes `README.md` from the results that there are.

    Raises:
        SystemExit: there are none, or a file is none.
    """
    results = results_of(folder)
    if not results:
        raise SystemExit("error: there are no results yet; run research/run_all without --readme")
    (folder / "README.md").write_text(page(results), encoding="utf-8")
    print(f"wrote README.md with {len(results)} results")


def main(arguments: Sequence[str] | None = None, folder: Path = HERE) -> int:
    """Does what the command line says; returns the exit code."""
    own = _parsed(arguments, scripts(folder))
    if own.readme:
        write_readme(folder)
        return 0
    passed_on = ["--smoke"] * own.smoke
    for option, value in (("--data-dir", own.data_dir), ("--python", own.python)):
        passed_on += [option, value] if value else []
    try:
        failed = run_all(folder, own.only, passed_on)
    except KeyboardInterrupt:
        print("\ninterrupted; what had ended is recorded, README.md stays as it was")
        return INTERRUPTED
    if not own.smoke:
        write_readme(folder)
    return int(bool(failed))


def _parsed(arguments: Sequence[str] | None, known: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="research/run_all", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="small versions of all; writes nothing")
    parser.add_argument("--data-dir", help="with MNIST's files")
    parser.add_argument("--python", metavar="PATH", help="an interpreter with other frameworks")
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"some of {', '.join(known)}")
    parser.add_argument("--readme", action="store_true", help="run nothing, only write README.md anew")
    own = parser.parse_args(arguments)
    unknown = [name for name in own.only or () if name not in known]
    if unknown:
        parser.error(f"--only: no script {', '.join(unknown)}; there are {', '.join(known)}")
    own.only = [name for name in known if name in own.only] if own.only else list(known)
    return own


if __name__ == "__main__":
    sys.exit(main())
