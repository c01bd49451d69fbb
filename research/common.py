"""What all scripts of this folder share: options, data, pairs, verdicts, and how tables and pictures look."""

import argparse
import importlib.metadata
import json
import math
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

import jbn

RESULTS = Path(__file__).with_name("results")
VERDICTS = ("held", "not held", "depends")
# apart for every kind of eye
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKERS = "osD^vPX"
PAIRS = 32  # at least


class Options(NamedTuple):
    """How much to do.

    Args:
        smoke: a small version, to see that it runs; nothing is written.
        data_dir: with MNIST's files, if there are any.
        python: an interpreter with other frameworks, for what compares with them.
    """

    smoke: bool
    data_dir: str | None
    python: str | None = None

    def size(self, full: int, smoke: int) -> int:
        """One of two sizes."""
        return smoke if self.smoke else full


class Interval(NamedTuple):
    """A mean with its 95 % confidence interval, of so many pairs or runs."""

    mean: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return f"{self.mean:.4g} ({self.low:.4g} to {self.high:.4g})"


class Finding(NamedTuple):
    """What a script has found.

    Args:
        rows: the table, a mapping of columns to numbers, words or intervals each.
        verdict: "held", "not held" or "depends".
        because: the numbers behind it in a sentence; where it depends, the condition.
        more: what else is recorded.
    """

    rows: Sequence[dict[str, Any]]
    verdict: str
    because: str
    more: Mapping[str, Any] = MappingProxyType({})


def mean(values: Sequence[float] | np.ndarray) -> Interval:
    """The mean of independent values, with Student's t interval; NaN are left out."""
    own = np.asarray(values, float).ravel()
    own = own[np.isfinite(own)]
    if len(own) < 2:
        return Interval(float(own.mean()) if len(own) else math.nan, math.nan, math.nan, len(own))
    half = stats.t.ppf(0.975, len(own) - 1) * own.std(ddof=1) / math.sqrt(len(own))
    return Interval(float(own.mean()), float(own.mean() - half), float(own.mean() + half), len(own))


def paired(first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray) -> Interval:
    """How much the first is above the second, in pairs of equal seeds."""
    return mean(np.asarray(first, float) - np.asarray(second, float))


def share(successes: int, count: int) -> Interval:
    """A share with Wilson's interval."""
    own = stats.binomtest(successes, count).proportion_ci(method="wilson")
    return Interval(successes / count, float(own.low), float(own.high), count)


def bootstrap(
    values: np.ndarray, statistic: Callable[..., float], *, seed: int = 0, draws: int = 2000
) -> Interval:
    """A statistic of rows `[runs, ...]` with the percentiles of resampled runs."""
    values, draw = np.asarray(values, float), np.random.default_rng(seed)
    found = [statistic(values[draw.integers(len(values), size=len(values))]) for _ in range(draws)]
    return percentiles(statistic(values), found, len(values))


def percentiles(value: float, draws: Sequence[float] | np.ndarray, count: int) -> Interval:
    """A number with the percentiles of what it was in resampled data."""
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return Interval(float(value), float(low), float(high), count)


def verdict_of(good: Iterable[bool]) -> str:
    """Held where all parts of a claim are so, not held where none is; else it depends on which."""
    parts = list(good)
    return "held" if all(parts) else "depends" if any(parts) else "not held"


def digits_or_mnist(options: Options, **more: Any) -> jbn.data.Data:
    """MNIST where its files are; else the digits, and says so."""
    if options.data_dir and not options.smoke:
        return jbn.data.load("mnist", data_dir=options.data_dir, **more)
    print("data: the digits (MNIST's files: --data-dir DIRECTORY)")
    return jbn.data.digits(**more)


def until(curve: np.ndarray, target: float, *, steps: np.ndarray | float = 1.0) -> np.ndarray:
    """Segments (times steps) until a curve `[segments, ...]` is at a target or above; infinity where it never is."""
    there = curve >= target
    first = np.where(there.any(axis=0), there.argmax(axis=0) + 1.0, np.inf)
    return first * steps


def main(
    script: str,
    measure: Callable[[Options], Finding],
    draw: Callable[[Any, Finding], None],
    *,
    size: tuple[float, float] = (8.0, 6.0),
) -> None:
    """Runs a script: measures, prints the table and the verdict, writes `results/NAME.json` and `.png`.

    Args:
        script: its `__file__`; the first line of its docstring is the claim and what it must beat.
        measure: what it does.
        draw: `draw(figure, finding)`, on an empty matplotlib figure.
        size: of the picture, in cm.
    """
    name, claim = Path(script).stem, _first_line(script)
    parser = argparse.ArgumentParser(description=claim)
    parser.add_argument(
        "--smoke", action="store_true", help="a small version, to see that it runs; writes nothing"
    )
    parser.add_argument("--data-dir", default=os.environ.get("JBN_DATA"), help="with MNIST's files")
    parser.add_argument("--python", metavar="PATH", help="an interpreter with other frameworks")
    own = parser.parse_args()
    began = time.perf_counter(), _processor_seconds()
    print(claim)
    finding = measure(Options(own.smoke, own.data_dir, own.python))
    seconds = time.perf_counter() - began[0], _processor_seconds() - began[1]
    assert finding.verdict in VERDICTS, finding.verdict
    _show(finding, seconds)
    picture = _picture(draw, finding, size)
    if not own.smoke:
        _write(name, claim, finding, picture, seconds)


def _processor_seconds() -> float:
    """Of this process and those that it has started: what other work on the machine does not lengthen."""
    own = os.times()
    return own.user + own.system + own.children_user + own.children_system


def _first_line(script: str) -> str:
    return Path(script).read_text(encoding="utf-8").split('"""', 2)[1].strip().splitlines()[0]


def _show(finding: Finding, seconds: tuple[float, float]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in finding.rows[0]:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in finding.rows:
        table.add_row(*(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()))
    Console(soft_wrap=False).print(table)
    print(f"verdict: {finding.verdict}. {finding.because} ({seconds[0]:.0f} s, {seconds[1]:.0f} of a core)")


def _picture(draw: Callable[[Any, Finding], None], finding: Finding, size: tuple[float, float]) -> Any:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    style = {
        "font.size": 8,
        "axes.titlesize": 8,
        "legend.fontsize": 7,
        "xtick.labelsize": 7,
        "ytick.labelsize": 7,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#e4e7ea",
        "grid.linewidth": 0.6,
        "lines.linewidth": 1.2,
        "legend.frameon": False,
    }
    with rc_context(style):
        figure = Figure(figsize=(size[0] / 2.54, size[1] / 2.54), dpi=300, layout="constrained")
        draw(figure, finding)
        figure.draw_without_rendering()
    return figure


def _write(name: str, claim: str, finding: Finding, picture: Any, seconds: tuple[float, float]) -> None:
    RESULTS.mkdir(exist_ok=True)
    versions = {own: importlib.metadata.version(own) for own in ("jbn", "jax", "numpy", "optax")}
    said = {
        "claim": claim,
        "verdict": finding.verdict,
        "because": finding.because,
        "rows": [{key: _plain(value) for key, value in row.items()} for row in finding.rows],
        **finding.more,
        "seconds": round(seconds[0], 1),
        "processor_seconds": round(seconds[1], 1),
        "python": platform.python_version(),
        "versions": versions,
        "cores": os.cpu_count(),
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(said, indent=1, default=_plain) + "\n", encoding="utf-8")
    picture.savefig(RESULTS / f"{name}.png")
    print(f"wrote research/results/{name}.json and .png")


def _plain(value: Any) -> Any:
    if isinstance(value, Interval):
        return value._asdict()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
