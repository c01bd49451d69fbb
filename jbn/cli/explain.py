"""The plan of a sweep in a table, and afterwards what became of it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from jbn.engine.forecast import CohortForecast, Forecast
from jbn.engine.memory import peak_resident_bytes
from jbn.runs.result import Result


def show_plan(console: Console, expected: Forecast) -> None:
    """Cohorts by program, and what they should cost."""
    names = _telling(expected.cohorts)
    table = Table(header_style="bold", box=None, padding=(0, 1, 0, 0))
    varying = [name.replace("_", "\n") for name in names]
    for heading in ("program", *varying, "members", "padded", "seconds"):
        table.add_column(heading, justify="right", vertical="bottom")
    for cohort in expected.cohorts:
        table.add_row(*_row(cohort, names))
    console.print(f"Plan: {expected.programs} programs, seconds are of one worker", highlight=False)
    console.print(table)
    console.print(
        f"expected: compiling {expected.compile_seconds:.0f} s and training "
        f"{expected.run_seconds / expected.workers:.0f} s on {expected.workers} workers, partly at the same time; "
        f"{expected.peak_bytes / 1e9:.2f} GB of memory; {expected.padded_share:.0%} of the products are padding",
        highlight=False,
        soft_wrap=True,
    )


def show_outcome(console: Console, expected: Forecast, result: Result) -> None:
    """What was expected, and what happened."""
    timings = result.timings
    happened = {
        "compiling, s": (expected.compile_seconds, timings.trace + timings.compile),
        "training, s of a worker": (expected.run_seconds, result.run_seconds),
        "peak memory, GB": (expected.peak_bytes / 1e9, peak_resident_bytes() / 1e9),
    }
    table = Table(header_style="bold", box=None, padding=(0, 1, 0, 0))
    for heading in ("", "expected", "happened", "ratio"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, (before, after) in happened.items():
        table.add_row(name, f"{before:.2f}", f"{after:.2f}", f"{after / before:.2f}")
    console.print(table)


def _row(cohort: CohortForecast, names: Sequence[str]) -> list[str]:
    values = dict(cohort.structure.values)
    sizes = [f"≤ {values[n]}" if n in cohort.structure.padded else str(values.get(n, "-")) for n in names]
    numbers = [str(cohort.members), f"{cohort.padded_share:.0%}", f"{cohort.run_seconds:.1f}"]
    return [str(cohort.program), *sizes, *numbers]


def _telling(cohorts: Sequence[CohortForecast]) -> list[str]:
    """Names of what tells cohorts apart: whose value varies between them, or is a capacity."""
    values: Mapping[str, set[str]] = defaultdict(set)
    for cohort in cohorts:
        for name, value in cohort.structure.values:
            values[name].add(str(value))
    padded = {name for cohort in cohorts for name in cohort.structure.padded}
    return [name for name, own in values.items() if len(own) > 1 or name in padded]
