"""The page of a sweep at an address of this machine alone; it follows the run while that goes on."""

import errno
import hashlib
import http.server
import os
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

from jbn import store
from jbn.errors import InputError
from jbn.report.page import as_json, content_of, page, plotly
from jbn.runs.importance import importance_of_run

HOST = "127.0.0.1"
_SECONDS = 2.0  # between two looks of a page for news
_SHARE = 0.1  # of the time that looking for what matters may take while a run goes on


def serve(
    folder: str | os.PathLike[str], *, port: int, announce: Callable[[str], object] = lambda address: None
) -> None:
    """Show the report of a sweep at `http://127.0.0.1:PORT/` until Ctrl-C; pages follow the run by themselves.

    Nothing but this machine can reach it, and it only reads.

    Args:
        folder: The folder of a sweep, or of the rounds of a search.
        port: Where; 0 takes any that is free.
        announce: Called with the address, once it can be opened.

    Raises:
        InputError: Plotly is not installed, there is no sweep in the folder, or the port is taken.

    >>> serve("runs/none", port=0)
    Traceback (most recent call last):
    ...
    jbn.errors.InputError: there is no sweep in 'runs/none' ...
    """
    store.read(folder)
    plotly()
    with _listening(port, Live(folder)) as server:
        announce(f"http://{HOST}:{server.server_port}/")
        try:
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            return


class Live:
    """What there is to say about a folder now; made anew only where its files have changed.

    Args:
        folder: Of the sweep.
    """

    def __init__(self, folder: str | os.PathLike[str]):
        self._folder = Path(folder)
        self._lock = threading.Lock()
        self._seen, self._said = "", dict[str, Any]()
        self._importance: Any = None
        self._due = 0.0

    def now(self) -> tuple[str, dict[str, Any]]:
        """A tag that changes with what is said, and what is said.

        Raises:
            InputError: the folder cannot be read now.
        """
        with self._lock:
            seen = _seen(self._folder)
            if seen != self._seen:
                self._said = content_of(self._folder, importance=self._what_mattered)
                if self._said["state"] != "running" and self._importance is not None:
                    self._importance, self._due = None, 0.0  # what was found on the way is not the end's
                    self._said = content_of(self._folder)
                self._seen = seen
            return self._seen, self._said

    def _what_mattered(self) -> Any:
        """Importance as of some time ago, if it takes long: a run that goes on needs its cores."""
        if time.monotonic() >= self._due:
            began = time.monotonic()
            self._importance = _result(lambda: importance_of_run(self._folder))
            ended = time.monotonic()
            self._due = ended + (ended - began) / _SHARE
        if isinstance(self._importance, InputError):
            raise self._importance
        return self._importance


def _result(function: Callable[[], Any]) -> Any:
    try:
        return function()
    except InputError as error:
        return error


def _seen(folder: Path) -> str:
    """What tells one state of the files from another."""
    paths = sorted([*folder.glob("sweep.sqlite*"), *folder.glob("round-*/sweep.sqlite*")])
    found = hashlib.sha256()
    for path in paths:
        try:
            stat = path.stat()
        except OSError:  # it went away just now
            continue
        found.update(f"{path} {stat.st_mtime_ns} {stat.st_size}\n".encode())
    return f'"{found.hexdigest()[:24]}"'


def _listening(port: int, live: Live) -> http.server.ThreadingHTTPServer:
    handler = type("Handler", (_Handler,), {"live": live})
    try:
        return http.server.ThreadingHTTPServer((HOST, port), handler)
    except OSError as error:
        reason = "another program has it" if error.errno == errno.EADDRINUSE else error.strerror or error
        raise InputError(f"cannot listen at port {port} ({reason}); pick another with --port") from error


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers for two paths: the page, and what is new."""

    live: Live
    timeout = 30

    def do_GET(self) -> None:
        """The page at /, what it says at /content.json."""
        if self.headers.get("Host", "").rpartition(":")[0] not in (HOST, "localhost"):
            self._answer(HTTPStatus.FORBIDDEN, b"open this page by its own address")  # no foreign name
        elif self.path not in ("/", "/content.json"):
            self._answer(HTTPStatus.NOT_FOUND, b"there are / and /content.json")
        else:
            self._answer_now()

    def _answer_now(self) -> None:
        try:
            tag, said = self.live.now()
        except InputError as error:
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, str(error).encode())
            return
        if self.path == "/":
            text = page({**said, "follow": {"seconds": _SECONDS, "tag": tag}})
            self._answer(HTTPStatus.OK, text.encode(), "text/html", tag)
        elif self.headers.get("If-None-Match") == tag:
            self._answer(HTTPStatus.NOT_MODIFIED, b"", tag=tag)
        else:
            self._answer(HTTPStatus.OK, as_json(said).encode(), "application/json", tag)

    def _answer(self, status: HTTPStatus, body: bytes, kind: str = "text/plain", tag: str = "") -> None:
        self.send_response(status)
        headers = {"Content-Type": f"{kind}; charset=utf-8", "Content-Length": str(len(body))}
        headers |= {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        for name, value in (headers | ({"ETag": tag} if tag else {})).items():
            self.send_header(name, value)
        self.end_headers()
        try:
            self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the reader went away

    def log_message(self, format: str, *arguments: Any) -> None:
        """Says nothing: the terminal is the user's."""
