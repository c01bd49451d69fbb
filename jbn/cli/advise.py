"""`jbn advise`: from a spec and a budget to the command to run next."""

import dataclasses
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

from jbn.cli.duration import clock, seconds_of
from jbn.cli.spec import Spec
from jbn.cli.sweep import default_space, keep_programs, search_key, task_of
from jbn.engine.plan import MANY_PROGRAMS
from jbn.errors import InputError
from jbn.runs.advise import Advice, advise

_DECIDED = ("grid", "rounds", "policy")


def run(
    spec: Spec,
    console: Console,
    *,
    budget: str,
    path: Path | None,
    given: Sequence[str],
    cache: bool,
    yes: bool,
) -> int:
    """Measures, and says what the budget holds and what to run; the exit code.

    Args:
        spec: what a sweep would train.
        console: where it is said.
        budget: a time such as 2h.
        path: the spec's file, if there is one.
        given: the options that were given besides, as on the command line.
        cache: keep compiled programs for the sweep.
        yes: go on whatever the number of programs.

    Raises:
        InputError: a wrong budget, or a spec that decides what the advice is about.
    """
    seconds = seconds_of(budget, name="--budget")
    _check_undecided(spec)
    task = task_of(spec)
    if cache:
        keep_programs()
    console.print(repr(task.data), highlight=False, soft_wrap=True)
    own = advise(
        task,
        spec.space or default_space(task.data),
        budget=seconds,
        epochs=spec.epochs,
        seeds=spec.seeds,
        folds=spec.folds,
        key=search_key(spec),
        start="warm" if cache and _keeps() else "cold",
        besides=_besides(),
        max_programs=None if yes else MANY_PROGRAMS,
    )
    show_advice(console, own, command(own, path, [*given, *([] if cache else ["--no-cache"])], yes=yes))
    return 0


def command(advice: Advice, path: Path | None, given: Sequence[str], *, yes: bool = False) -> str:
    """What to run next."""
    own = ["jbn", "sweep", *([] if path is None else [str(path)]), *given]
    own += ["--configs", str(advice.configs)]
    own += ["--policy", "halving"] if advice.recommendation == "caviar with halving" else []
    return shlex.join([*own, *(["--yes"] if yes else [])])


def show_advice(console: Console, own: Advice, command: str) -> None:
    """The recommendation, the numbers behind it and the command."""
    plain: dict[str, Any] = dict(highlight=False, soft_wrap=True, markup=False)
    start = "with the programs that are compiled now" if own.start == "warm" else "with nothing compiled"
    lines = [
        f"{own.recommendation}: {own.reason}.",
        f"Starting, a sweep takes {clock(own.started())} {start}; {clock(own.started('cold'))} with nothing "
        f"compiled{'' if own.cold_measured else ' (by what the cache says)'}.",
        f"A configuration takes {clock(own.epoch_seconds * own.epochs)} for {own.epochs} epochs, with "
        f"{own.workers} workers busy.",
    ]
    if own.budget < own.compile_seconds:
        lines.append(f"Compiling alone takes {clock(own.compile_seconds)} once, more than the budget.")
    for line in lines:
        console.print(line[0].upper() + line[1:], **plain)
    console.print(_table(own))
    console.print(f"All times are for a start {start}; measuring took {clock(own.spent)}.", **plain)
    console.print("Next:")
    console.print(f"  {command}", **plain)


def _table(own: Advice) -> Table:
    table = Table(header_style="bold", box=None, padding=(0, 2, 0, 0))
    for heading in ("", "configurations", "predicted"):
        table.add_column(heading, justify="left" if not heading else "right")
    rows = {
        f"{clock(own.budget)} hold, all to the end": ("time", own.by_time),
        f"{clock(own.budget)} hold, with halving": ("halving", own.by_halving),
        "memory holds": ("memory", own.by_memory),
    }
    for words, (name, count) in rows.items():
        if count is not None:
            table.add_row(words, f"{count:,}", clock(own.seconds[name]) if count else "-")
    table.add_row("a search of this space wants", f"{own.wanted:,}", clock(own.predict(own.wanted)))
    return table


def _check_undecided(spec: Spec) -> None:
    usual = {field.name: field.default for field in dataclasses.fields(Spec)}
    for name in _DECIDED:
        if getattr(spec, name) != usual[name]:
            raise InputError(
                f"advice is about how many configurations to draw and whether to halve: leave {name} out"
            )


def _keeps() -> bool:
    return bool(jax.config.values["jax_compilation_cache_dir"])


def _besides() -> float:
    """Seconds that a sweep's process takes before and after the sweep, as far as they are the same here.

    Starting Python, importing and reading data is hardly more than this process has computed so far; a sweep also
    loads what shows its table.
    """
    busy, begun = time.process_time(), time.perf_counter()
    import pandas as pd

    pd.DataFrame({"config_id": [0]}).to_string()
    return busy + time.perf_counter() - begun
