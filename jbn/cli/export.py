"""`jbn export`: a run as a file for another tool, or on the standard output."""

import contextlib
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from jbn.errors import InputError
from jbn.runs.export import export_run

_PRINTABLE = ("csv", "jsonl")


def run(folder: Path, path: Path, *, to: str, intact: bool) -> None:
    """Writes the export and says so; of the standard output, "-", it says nothing there."""
    if str(path) == "-":
        _print(folder, to, intact)
        return
    _say_damage(export_run(folder, path, to=to, intact=intact))
    Console(soft_wrap=True).print(f"wrote {path}", markup=False, highlight=False)


def _print(folder: Path, to: str, intact: bool) -> None:
    if to not in _PRINTABLE:
        raise InputError(
            f"the standard output takes {' or '.join(_PRINTABLE)}, but the format is {to}: name a file"
        )
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "export")
        _say_damage(export_run(folder, path, to=to, intact=intact))
        with contextlib.suppress(BrokenPipeError):  # a reader like `head` has seen enough
            sys.stdout.write(path.read_text(encoding="utf-8"))
            sys.stdout.flush()


def _say_damage(sentences: tuple[str, ...]) -> None:
    for left_out in sentences:
        Console(stderr=True, soft_wrap=True).print(f"left out: {left_out}", markup=False, highlight=False)
