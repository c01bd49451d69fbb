"""A sweep as one HTML page that needs nothing else: no server, no network."""

import html
import json
import os
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jbn import store
from jbn.errors import InputError
from jbn.report.content import content
from jbn.runs.importance import importance_of_run
from jbn.store.files import write_whole

if TYPE_CHECKING:
    import pandas as pd

_SCRIPTS = ("data", "scales", "state", "curves", "coordinates", "slices", "figures", "words", "main")


def write_page(folder: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Write the report of a sweep as one HTML file, which opens in any browser without a network.

    It has the learning curves of all configurations, their hyper-parameters as parallel coordinates and one by one,
    what mattered, how a search in rounds moved its region, what happened when, the batch-norm statistics of
    the winner, what was planned and what it took, and the command that does the run again.

    Args:
        folder: The folder of a sweep, or of the rounds of a search; it may be running.
        path: The file to write or replace; its folder is made if need be.

    Raises:
        InputError: Plotly is not installed, there is no sweep in the folder, or the file cannot be written.

    >>> write_page("runs/none", "report.html")
    Traceback (most recent call last):
    ...
    jbn.errors.InputError: there is no sweep in 'runs/none' ...
    """
    said = content_of(folder)
    text = page(said)
    write_whole(path, lambda stream: stream.write(text.encode()))


def content_of(
    folder: str | os.PathLike[str], *, importance: Callable[[], "pd.DataFrame"] | None = None
) -> dict[str, Any]:
    """What there is to say about the sweep in a folder, as `jbn.report.content` says it.

    Args:
        folder: Of the sweep.
        importance: What mattered; by default it is found now.

    Raises:
        InputError: there is no sweep in the folder.
    """
    record, folder = store.read(folder), Path(folder)
    runs = store.rounds(folder)
    return content(
        record,
        name=folder.absolute().name,
        importance=importance or (lambda: importance_of_run(folder)),
        spreads=lambda member, number: store.read_spreads(runs[number - 1], member),
    )


def page(said: dict[str, Any]) -> str:
    """The page with what is said, and with Plotly.

    Raises:
        InputError: Plotly is not installed.
    """
    parts = {
        "TITLE": html.escape(f"{said['name']}: jbn report"),
        "STYLE": _asset("page.css"),
        "CONTENT": as_json(said),
        "PLOTLY": plotly(),
        "SCRIPT": "\n".join(_asset(f"{name}.js") for name in _SCRIPTS),
    }
    text = _asset("page.html")
    pieces = text.split("%")  # one after the other: what is put in is never looked at again
    return "".join(parts.get(piece, piece) if place % 2 else piece for place, piece in enumerate(pieces))


def as_json(said: dict[str, Any]) -> str:
    r"""JSON that may stand inside of a script element, whatever names there are in it.

    >>> as_json({"name": "</script>"})
    '{"name": "\\u003c/script>"}'
    """
    return json.dumps(said, allow_nan=False).replace("<", "\\u003c")


def _asset(name: str) -> str:
    return resources.files("jbn.report").joinpath("assets", name).read_text(encoding="utf-8")


def plotly() -> str:
    """The script of Plotly.

    Raises:
        InputError: it is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise InputError("the report needs Plotly; install it with pip install 'jbn[report]'") from error
    return str(get_plotlyjs())
