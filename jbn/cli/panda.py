"""`jbn panda`: one network, babysat over days; every command is a process of its own."""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from jbn.errors import InputError

panda = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Babysit one network: train it, look, change something, go back, branch; all is kept in a journal.",
)

Folder = Annotated[Path, typer.Argument(help="Folder of the panda.")]
Values = Annotated[list[str] | None, typer.Argument(help="Hyper-parameters, e.g. learning_rate=0.01.")]
Branch = Annotated[str, typer.Option(help="Which branch.")]
Note = Annotated[str, typer.Option(help="Your own words, for the journal.")]


@panda.command()
def start(
    folder: Folder,
    values: Values = None,
    like: Annotated[
        Path | None, typer.Option(help="Folder of a sweep: begin with its data and its winner's settings.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="As of jbn sweep.  [default: digits]")] = None,
    target: Annotated[str | None, typer.Option(help="The column of a table to predict.")] = None,
    data_dir: Annotated[str | None, typer.Option(help="Where the files of mnist lie.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of split and training.")] = 0,
    note: Note = "",
) -> None:
    """Begin with a network; hyper-parameters that are not named have their defaults."""
    import jax

    import jbn
    from jbn import store
    from jbn.cli.spec import resolve
    from jbn.cli.sweep import plain, task_of

    if store.journal.exists(folder):
        raise InputError(f"there is a panda in {str(folder)!r} already: jbn panda train {folder}")
    spec = resolve(None, {"data": data, "target": target, "data_dir": data_dir, "seed": seed})
    config: dict[str, Any] = {}
    if like is not None:
        spec, config = _like(like, spec, {"data": data, "target": target, "data_dir": data_dir})
    config |= _parsed(values or [])
    words = {"spec": plain(spec)}
    with jbn.panda(
        task_of(spec), config, key=jax.random.key(seed), out=folder, note=note, settings=words
    ) as baby:
        _say(f"{baby!r}")
        _say("next: " + f"jbn panda train {folder}")


@panda.command()
def train(
    folder: Folder,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training part.")] = 1,
    branch: Branch = "main",
    note: Note = "",
) -> None:
    """Train for some epochs, and say what the learning curve tells."""
    from jbn.cli.progress import interruptible
    from jbn.runs.diary import described

    console = Console(soft_wrap=True)
    with _opened(folder, branch) as baby, interruptible(console) as wish:

        def on_segment(now: Any) -> bool:
            _say(f"segment {now.segment}: {described(now.last)}")
            return wish.asked

        found = baby.train(epochs, note=note, on_segment=on_segment)
        for finding in found:
            _say(f"{finding.kind}: {finding.evidence}")
    if wish.asked:
        raise typer.Exit(130)


@panda.command("set")
def set_(folder: Folder, values: Values = None, branch: Branch = "main", note: Note = "") -> None:
    """Change hyper-parameters for the segments to come."""
    given = _parsed(values or [])
    with _opened(folder, branch) as baby:
        before = baby.config
        baby.set(note=note, **given)
        for name in given:
            _say(f"{name}: {before.get(name, '-')} -> {baby.config[name]}")


@panda.command()
def rollback(
    folder: Folder,
    to: Annotated[
        int | None, typer.Option(help="Number of a segment of this branch's past; 0 is untrained.")
    ] = None,
    entry: Annotated[int | None, typer.Option(help="Number of an entry of the journal instead.")] = None,
    branch: Branch = "main",
    note: Note = "",
) -> None:
    """Go back: network and settings are as they were then."""
    with _opened(folder, branch) as baby:
        baby.rollback(to, entry=entry, note=note)
        _say(f"back at segment {baby.segment}")


@panda.command()
def branch(
    folder: Folder,
    name: Annotated[str, typer.Argument(help="Of the new branch.")],
    at: Annotated[int | None, typer.Option(help="Segment where it parts.  [default: now]")] = None,
    of: Annotated[str, typer.Option(help="Branch that it parts from.")] = "main",
    note: Note = "",
) -> None:
    """Begin another future of the network; both can go on."""
    with _opened(folder, of) as baby:
        other = baby.branch(name, at=at, note=note)
        _say(f"branch {other.name!r} parts from {of!r} at segment {other.segment}")


@panda.command()
def log(folder: Folder) -> None:
    """Show the journal."""
    from jbn.runs.diary import Diary

    rows = Diary.reading(folder).table()
    table = Table(header_style="bold", box=None, padding=(0, 1, 0, 0))
    for name in rows.columns:
        table.add_column(
            str(name), justify="right" if name in ("entry", "segment") else "left", overflow="fold"
        )
    for row in rows.itertuples(index=False):
        table.add_row(*map(str, row))
    console = Console()
    Console(width=None if console.is_terminal else 10_000).print(table)


@panda.command()
def show(
    folder: Folder,
    metric: Annotated[str, typer.Option(help="loss, or a metric of the task.")] = "loss",
    png: Annotated[Path | None, typer.Option(help="Also write a picture.")] = None,
) -> None:
    """Show the learning curves of all branches, and what they tell."""
    from jbn.report.futures import chart, draw_futures, validation_curves
    from jbn.runs.diary import Diary, watched
    from jbn.task.metrics import part_of

    diary = Diary.reading(folder)
    curves = validation_curves(diary, metric)
    _say(" ".join(part_of(metric)).replace("_", " "))
    for line in chart(curves):
        _say(line)
    for name in curves:
        path = diary.path(name)
        _say(f"{name}: {path[-1]['segment']} segments, {metric} {curves[name][1][-1]:.4g}")
        for finding in watched(path):
            _say(f"  {finding.kind}: {finding.evidence}")
    if png is not None:
        draw_futures(folder, png)
        _say(f"wrote {png}")


@panda.command()
def replay(folder: Folder) -> None:
    """Do everything in the journal again, from the seed, and compare every state bit for bit."""
    with _opened(folder, "main") as baby:
        _say(f"{baby.replay()} segments trained again, every state is the same bit for bit")


@contextlib.contextmanager
def _opened(folder: Path, name: str) -> Iterator[Any]:
    """The panda of a folder, with the data that it began with."""
    import jbn
    from jbn.cli.spec import spec_of
    from jbn.cli.sweep import keep_programs, task_of
    from jbn.runs.diary import Diary

    words = Diary.reading(folder).entries[0].get("spec")
    if words is None:
        raise InputError(
            f"the panda in {str(folder)!r} was begun from Python: go on there, with jbn.panda(task, out=...)"
        )
    keep_programs()
    with jbn.panda(task_of(spec_of(words)), out=folder) as baby:
        yield baby.on(name)


def _like(folder: Path, spec: Any, given: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Spec and winner's settings of a sweep; options win."""
    import dataclasses

    from jbn import store
    from jbn.cli.spec import spec_of

    settings = store.read(folder).settings
    if not settings.get("winner") or "spec" not in settings:
        raise InputError(
            f"the run in {str(folder)!r} has no winner, or was not begun by jbn sweep; name another"
        )
    config = {name: own for name, own in settings["winner"].items() if name not in ("config_id", "seed")}
    own = spec_of(settings["spec"])
    said = {name: value for name, value in given.items() if value is not None}
    return dataclasses.replace(own, **said), config


def _parsed(values: Sequence[str]) -> dict[str, Any]:
    """name=value pairs; values as JSON writes them, else texts."""
    found: dict[str, Any] = {}
    for pair in values:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise InputError(f"a hyper-parameter must be written name=value, got {pair!r}")
        try:
            found[name] = json.loads(value)
        except json.JSONDecodeError:
            found[name] = value
    return found


def _say(words: str) -> None:
    Console(soft_wrap=True).print(words, markup=False, highlight=False)
