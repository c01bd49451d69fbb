"""`jbn report`: a page, a picture, or a page that follows the run."""

import dataclasses
from pathlib import Path

from rich.console import Console

from jbn import store
from jbn.cli.show import show_regions
from jbn.errors import InputError
from jbn.search import Space

_PORT, _WIDTH = 8321, 8.0


@dataclasses.dataclass(frozen=True)
class How:
    """What is asked for; None where nothing was said.

    Args:
        html: page to write.
        png: picture to write.
        width: of the picture, in cm.
        serve: follow the run, write nothing.
        port: where to serve.
    """

    html: Path | None
    png: Path | None
    width: float | None
    serve: bool
    port: int | None


def run(folder: Path, how: How, console: Console) -> None:
    """Does what is asked for.

    Raises:
        InputError: options that exclude each other, or as what writes and serves.
    """
    _check(how)
    if how.serve:
        _serve(folder, how, console)
        return
    _write(folder, how, console)


def _check(how: How) -> None:
    if how.serve and (how.html is not None or how.png is not None):
        raise InputError("--serve writes nothing: leave out --html and --png, or --serve")
    if how.port is not None and not how.serve:
        raise InputError("--port is for --serve: add that, or leave it out")
    if how.width is not None and how.png is None:
        raise InputError("--width is that of a picture: add --png PATH, or leave it out")


def _serve(folder: Path, how: How, console: Console) -> None:
    from jbn.report import serve

    def announce(address: str) -> None:
        console.print(f"{address}  (Ctrl-C ends it)", markup=False, highlight=False)

    serve(folder, port=_PORT if how.port is None else how.port, announce=announce)
    console.print("ended", highlight=False)


def _write(folder: Path, how: How, console: Console) -> None:
    from jbn.report import learning_curves, write_page

    written = []
    if how.png is not None:
        learning_curves(folder, how.png, width=_WIDTH if how.width is None else how.width)
        written.append(how.png)
    if how.html is not None or how.png is None:
        page = how.html or folder / "report.html"
        write_page(folder, page)
        written.append(page)
    regions = store.read(folder).settings.get("regions")
    if regions:
        show_regions(Console(), [Space.from_spec(region) for region in regions])
    for path in written:
        console.print(f"wrote {path}", markup=False, highlight=False)
