"""`jbn retest`: from the folder of a run and new data to keep or retune."""

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

import jbn
from jbn import store
from jbn.cli.progress import display, interruptible
from jbn.cli.show_retest import show_retest
from jbn.cli.spec import Spec
from jbn.cli.sweep import ALL_DIVERGED, INTERRUPTED, default_folder, keep_programs, plain, task_of
from jbn.errors import InputError
from jbn.runs.loop import Progress
from jbn.runs.retest import RETUNE, Retest
from jbn.search import Space
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
    written = store.read(folder).settings.get("spec")
    if not isinstance(written, dict):
        raise InputError(
            f"a retest trains what the run's spec says, but the run in {str(folder)!r} has none recorded; "
            "call jbn.retest in Python with its task"
        )
    names = {field.name for field in dataclasses.fields(Spec)}
    known = {name: value for name, value in written.items() if name in names}
    given = {name: value for name, value in options.items() if value is not None and value != []}
    if not is_table(given["data"]):
        known = {name: value for name, value in known.items() if name not in _OF_TABLES}
    space, metrics = known.pop("space", None), known.pop("metrics", None)
    return Spec(
        **{**known, "out": None, **given},
        space=None if space is None else Space.from_spec(space),
        metrics=None if metrics is None else tuple(metrics),
    )


def _code(found: Retest) -> int:
    if found.interrupted:
        return INTERRUPTED
    if found.verdict is None:
        return ALL_DIVERGED
    return RETUNED if found.verdict == RETUNE else 0
