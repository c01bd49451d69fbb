"""`jbn retest`: from the folder of a run and new data to keep or retune."""

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

import jbn
from jbn.cli.progress import display, interruptible
from jbn.cli.show_retest import show_retest
from jbn.cli.spec import Spec, of_run
from jbn.cli.sweep import ALL_DIVERGED, INTERRUPTED, default_folder, keep_programs, plain, task_of
from jbn.runs.loop import Progress
from jbn.runs.retest import RETUNE, Retest
from jbn.task.data.frames import is_table

RETUNED = 3
_OF_TABLES = ("target", "categorical", "drop")


def run(
    folder: Path, options: Mapping[str, Any], how: Mapping[str, Any], console: Console, *, cache: bool
) -> int:
    """Re-tests the winner of a run and shows the verdict; the exit code.

    Args:
        folder: of the run.
        options: that win over the run's spec: data, data_dir, target, categorical, drop, seed, out.
        how: arguments of `jbn.retest`; None stands for its default.
        console: where the outcome goes.
        cache: keep compiled programs for the next run.

    Raises:
        InputError: before anything is written.
    """
    spec = spec_of(folder, options)
    out = spec.out or default_folder(spec.data, before="retest-")
    task = task_of(spec)
    if cache:
        keep_programs()
    console.print(repr(task.data), highlight=False, soft_wrap=True)
    settings = {"seed": spec.seed, "command": sys.argv[1:], "spec": plain(spec), "of": str(folder)}
    with interruptible(console) as wish, display(console) as shown:

        def on_segment(state: Progress) -> bool:
            shown.show(state)
            return wish.asked

        found = jbn.retest(
            folder,
            task,
            key=jax.random.key(spec.seed),
            out=out,
            on_segment=on_segment,
            settings=settings,
            **{name: value for name, value in how.items() if value is not None},
        )
    show_retest(console, found)
    console.print(f"written to {out}", highlight=False, soft_wrap=True)
    return _code(found)


def spec_of(folder: Path, options: Mapping[str, Any]) -> Spec:
    """The spec of a recorded run, with other data.

    Raises:
        InputError: no run in the folder, or one that comes from no spec.
    """
    before = of_run(
        folder, "a retest trains what the run's spec says", "call jbn.retest in Python with its task"
    )
    given = {name: value for name, value in options.items() if value is not None and value != []}
    of_tables = {} if is_table(given["data"]) else dict.fromkeys(_OF_TABLES)
    defaults = {name: getattr(Spec(), name) for name in of_tables}
    return dataclasses.replace(before, **{**defaults, "out": None, **given})


def _code(found: Retest) -> int:
    if found.interrupted:
        return INTERRUPTED
    if found.verdict is None:
        return ALL_DIVERGED
    return RETUNED if found.verdict == RETUNE else 0
