"""The end of a sweep in words and a table."""

import numpy as np
from rich.console import Console
from rich.table import Table

from jbn.runs.result import Best, Result

_SHOWN = 10
_WIDE = 110  # columns of a terminal that holds all names in full


def show_table(console: Console, result: Result) -> None:
    """The best configurations with all their hyper-parameters."""
    rows = result.table().head(_SHOWN)
    names = [name for name in rows.columns if name != "steps"]
    if rows.status.nunique() == 1:  # the summary below the table says it
        names.remove("status")
    title = f"The best {len(rows)} of {result.configs.count} configurations"
    table = Table(title=title, title_justify="left", header_style="bold", box=None, padding=(0, 1, 0, 0))
    narrow = console.is_terminal and console.width < _WIDE
    for name in names:
        table.add_column(_heading(name, narrow), justify="right", vertical="bottom", overflow="fold")
    for _, row in rows.iterrows():
        table.add_row(*(_cell(name, row[name]) for name in names))
    if not console.is_terminal:  # what is no terminal has no width: the table is as wide as it needs to be
        console = Console(file=console.file, width=16 * len(names), color_system=None)
    console.print(table)


def show_summary(console: Console, result: Result) -> None:
    """What became of the configurations, and what it took."""
    status = result.standing.status
    counts = ", ".join(f"{int((status == name).sum())} {name}" for name in np.unique(status))
    timings = result.timings
    console.print(
        f"{result.configs.count} configurations ({counts}) in {result.seconds:.1f} s, of which tracing "
        f"{timings.trace:.1f} s and compiling {timings.compile:.1f} s for {timings.programs} new programs",
        highlight=False,
        soft_wrap=True,
    )


def show_winner(console: Console, best: Best, test_accuracy: float) -> None:
    """The winner and how good it is on data that nothing was chosen by."""
    console.print(
        f"winner: configuration {best.config_id}, test accuracy {test_accuracy:.4f}",
        highlight=False,
        soft_wrap=True,
    )


def _heading(name: str, narrow: bool) -> str:
    """The name, in a narrow terminal with a line a word, so that the column is no wider than its numbers."""
    short = {"config_id": "id", "validation_accuracy": "accuracy", "validation_loss": "loss"}
    return short.get(name, name.replace("_", "\n") if narrow else name)


def _cell(name: str, value: object) -> str:
    """A number with as many digits as tell configurations apart."""
    if not isinstance(value, float):
        return str(value)
    if np.isnan(value):
        return "-"
    digits = {
        "validation_accuracy": ".4f",
        "validation_loss": ".3f",
        "beta1": ".5f",
        "beta2": ".5f",
        "epsilon": ".1e",
    }
    return format(value, digits.get(name, ".3g"))
