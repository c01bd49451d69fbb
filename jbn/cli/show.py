"""The end of a sweep in words and a table."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich.align import Align
from rich.console import Console
from rich.table import Table

from jbn.runs.best import Best
from jbn.runs.result import Result
from jbn.runs.rounds import Rounds
from jbn.search import Dimension, Space

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = 10
_UNLIMITED = 10_000  # columns of what is no terminal


def show_table(console: Console, result: Result | Rounds) -> None:
    """The best configurations with all their hyper-parameters; several seeds give mean ± standard error."""
    if not console.is_terminal:  # what is no terminal has no width: the table is as wide as it needs to be
        console = Console(file=console.file, width=_UNLIMITED, color_system=None)
    rows = result.table().head(_SHOWN)
    one = result.results[0] if isinstance(result, Rounds) else result
    over = f"{one.folds} folds" if one.folds > 1 else f"{one.seeds} seeds"
    spread = f", mean ± standard error over {over}" if one.seeds > 1 else ""
    title = f"The best {len(rows)} of {result.configs.count} configurations{spread}"
    console.print(title, style="italic", highlight=False, soft_wrap=True)
    room = console.options.update(width=_UNLIMITED)
    for narrow, stacked in ((False, False), (True, False), (True, True)):
        table = _table(rows, narrow=narrow, stacked=stacked)
        if console.measure(table, options=room).maximum <= console.width:
            break
    console.print(table)


def show_summary(console: Console, results: Sequence[Result]) -> None:
    """What became of the configurations of all rounds, and what it took."""
    status = np.concatenate([result.standing.status for result in results])
    counts = ", ".join(f"{int((status == name).sum())} {name}" for name in np.unique(status))
    seconds, trace, compiling, programs = (
        sum(values)
        for values in zip(
            *((own.seconds, own.timings.trace, own.timings.compile, own.timings.programs) for own in results),
            strict=True,
        )
    )
    console.print(
        f"{len(status)} configurations ({counts}) in {seconds:.1f} s, of which tracing "
        f"{trace:.1f} s and compiling {compiling:.1f} s for {programs} new programs",
        highlight=False,
        soft_wrap=True,
    )


def show_regions(console: Console, spaces: Sequence[Space]) -> None:
    """How the region moved: what each round searched, a row per hyper-parameter that was narrowed."""
    if len(spaces) < 2:
        return
    table = Table(header_style="bold", box=None, padding=(0, 2, 0, 0))
    for heading in ("", *(f"round {place}" for place in range(1, len(spaces) + 1))):
        table.add_column(heading, overflow="fold")
    moved = [name for name in spaces[0] if any(own.get(name) != spaces[0][name] for own in spaces)]
    for name in moved:
        table.add_row(name, *(_region(own.get(name)) for own in spaces))
    if moved:
        console.print("How the region moved:", style="italic")
        console.print(table)
    else:
        console.print("the region did not move: nothing mattered beyond chance", highlight=False)


def show_importance(console: Console, table: "pd.DataFrame") -> None:
    """Shares of the hyper-parameters, and their 95 % range where there is one."""
    shown = Table(header_style="bold", box=None, padding=(0, 2, 0, 0))
    ranges = bool(table["low"].notna().any())
    for heading in ("hyper-parameter", "share", *(["95 % range"] if ranges else [])):
        shown.add_column(heading, justify="left" if heading == "hyper-parameter" else "right")
    for name, row in table.iterrows():
        spread = [f"{row['low']:.3f} to {row['high']:.3f}"] if ranges else []
        shown.add_row(str(name), f"{row['share']:.3f}", *spread)
    console.print(shown)


def _region(axis: Dimension | None) -> str:
    """An axis as short as can be."""
    if axis is None:
        return "-"
    if hasattr(axis, "options"):
        return ", ".join(map(str, axis.options))
    low, high = axis.from_unit([0.0, 1.0]).tolist()
    return f"{_short(low)} to {_short(high)}" if low != high else _short(low)


def _short(value: float) -> str:
    """Three digits that count; of a number near 1, of its distance to 1."""
    if isinstance(value, int):
        return str(value)
    return f"{value:.3g}" if not 0.9 < value < 1 else f"1 - {1 - value:.3g}"


def show_winner(
    console: Console, best: Best, test: Mapping[str, float], *, seeds: int, folds: int = 1
) -> None:
    """The winner and how good it is on data that nothing was chosen by."""
    which = _which(best.seed, seeds, folds)
    shown = {name: value for name, value in test.items() if name != "loss" or len(test) == 1}
    values = ", ".join(
        f"test {name.replace('_', ' ')} {digits(name, value)}" for name, value in shown.items()
    )
    console.print(
        f"winner: configuration {best.config_id}{which}, {values}",
        highlight=False,
        soft_wrap=True,
    )


def _which(number: int, seeds: int, folds: int) -> str:
    """Which member of its configuration the winner is, where there are several."""
    fold, seed = divmod(number, seeds // folds)
    parts = [f"trained on fold {fold}"] if folds > 1 else []
    parts += [f"seed index {seed}"] if seeds > folds else []
    return f" ({', '.join(parts)}, the best of its {seeds})" if parts else ""


def _table(rows: "pd.DataFrame", *, narrow: bool, stacked: bool) -> Table:
    """The rows; narrow: headings have a line a word; stacked: a standard error is below its mean."""
    names = [name for name in rows.columns if name != "steps" and not name.endswith("_standard_error")]
    if rows.status.nunique() == 1:  # the summary below the table says it
        names.remove("status")
    table = Table(header_style="bold", box=None, padding=(0, 1, 0, 0))
    for name in names:
        heading = Align.right(_heading(name, narrow), vertical="bottom")
        table.add_column(heading, justify="right", overflow="fold")
    small = bool(rows.validation_loss.min() < 0.02)
    for _, row in rows.iterrows():
        errors = {name: row.get(f"{name}_standard_error", np.nan) for name in names}
        between = "\n±" if stacked else " ± "
        table.add_row(*(_cell(name, row[name], errors[name], between, small=small) for name in names))
    return table


def _heading(name: str, narrow: bool) -> str:
    """The name, in a narrow terminal with a line a word, so that the column is no wider than its numbers."""
    short = "id" if name == "config_id" else name.removeprefix("validation_")
    return short.replace("_", "\n") if narrow else short


def _cell(name: str, value: object, error: float, between: str, *, small: bool) -> str:
    """A number with as many digits as tell configurations apart; its standard error, if any, with as many.

    Three decimals of a loss tell nothing where the best ones are `small`.
    """
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "-"
    if not isinstance(value, float):
        return str(value)
    short = name.removeprefix("validation_")
    if short == name and value.is_integer() and value >= 1000:  # a whole number that not every row has
        return str(int(value))
    number = digits(short, value, small=small)
    return number if np.isnan(error) else f"{number}{between}{digits(short, error, small=small)}"


def digits(name: str, value: float, *, small: bool = False) -> str:
    """A number with as many digits as tell it from others of its name."""
    digits = {
        "accuracy": ".4f",
        "balanced_accuracy": ".4f",
        "r2": ".4f",
        "beta1": ".5f",
        "beta2": ".5f",
        "epsilon": ".1e",
    }
    if name == "loss" and abs(value) < 1000:
        return f"{value:.5f}" if small else f"{value:.3f}"
    return format(value, digits.get(name, ".3g"))
