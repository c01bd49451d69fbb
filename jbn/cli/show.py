"""The end of a sweep in words and a table."""

import numpy as np
from rich.console import Console
from rich.table import Table

from jbn.runs.result import Best, Result

_SHOWN = 10
_RIGHT = ("learning_rate", "beta1", "beta2", "epsilon", "decay_rate")


def show_table(console: Console, result: Result) -> None:
    """The best configurations with all their hyper-parameters."""
    rows = result.table().head(_SHOWN)
    title = f"The best {len(rows)} of {result.configs.count} configurations"
    table = Table(title=title, title_justify="left", header_style="bold")
    names = {"config_id": "id", "validation_accuracy": "accuracy", "validation_loss": "loss"}
    for name in rows.columns:
        table.add_column(names.get(name, name), justify="right", no_wrap=True)
    for _, row in rows.iterrows():
        table.add_row(*(_cell(name, row[name]) for name in rows.columns))
    wide = Console(width=max(console.width, 150), file=console.file, no_color=console.no_color)
    (console if console.is_terminal else wide).print(table)


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


def _cell(name: str, value: object) -> str:
    if isinstance(value, float):
        if np.isnan(value):
            return "-"
        if name.startswith("beta"):
            return f"{value:.5f}"
        return f"{value:.4f}" if name.startswith("validation") else f"{value:.3g}"
    return str(value)
