"""The end of a re-test in words and two tables."""

import math
from typing import Any

from rich.console import Console
from rich.table import Table

from jbn.cli.show import digits
from jbn.runs.retest import Retest
from jbn.task.metrics import SHARES


def show_retest(console: Console, found: Retest) -> None:
    """How far statistics moved, the old settings beside the challenger's, and the verdict last."""
    _show_drift(console, found)
    if found.challenger is not None:
        _show_settings(console, found)
    for sentence in _sentences(found):
        console.print(sentence, highlight=False, soft_wrap=True)


def _show_drift(console: Console, found: Retest) -> None:
    table = _table("layer", "channels", "shift", "log ratio")
    for own in found.drift:
        table.add_row(own.layer, str(own.channels), _number(own.shift), _number(own.log_ratio))
    console.print("How far statistics moved, by the old network without training:", style="italic")
    console.print(table)


def _show_settings(console: Console, found: Retest) -> None:
    challenger = found.challenger or {}
    table = _table("", "old", "challenger")
    for name, value in found.old.items():
        table.add_row(name, _setting(name, value), _setting(name, challenger[name]))
    if not math.isnan(found.scores[0]):
        table.add_row(f"test {_words(found)}", *(_measured(found, score) for score in found.scores))
    console.print(table)


def _sentences(found: Retest) -> list[str]:
    if found.interrupted:
        return ["interrupted: there is no verdict"]
    if found.verdict is None:
        return [
            "everything diverged on the new data: there is no verdict; run a new sweep with lower learning rates"
        ]
    if math.isnan(found.effect):
        which = "the old settings" if found.verdict == "retune" else "all others"
        return [f"{found.verdict}: {which} diverged on the new data"]
    low, high = (_measured(found, end, sign=True) for end in found.interval)
    least, where = (
        _measured(found, found.minimal_effect),
        "above" if found.verdict == "retune" else "not above",
    )
    return [
        f"the challenger's test {_words(found)} is better by {_measured(found, found.effect, sign=True)} "
        f"({100 * found.confidence:g} % interval {low} to {high})",
        f"{found.verdict}: the lower end is {where} the least effect that counts, {least}",
    ]


def _words(found: Retest) -> str:
    return found.metric.replace("_", " ")


def _measured(found: Retest, value: float, *, sign: bool = False) -> str:
    form = ".4f" if found.metric in (*SHARES, "r2") else ".4g"
    return format(value, f"{'+' if sign else ''}{form}")


def _setting(name: str, value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    return digits(name, value) if isinstance(value, float) else str(value)


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}" if value < 1000 else f"{value:.2g}"


def _table(*headings: str) -> Table:
    table = Table(header_style="bold", box=None, padding=(0, 2, 0, 0))
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="right" if place else "left")
    return table
