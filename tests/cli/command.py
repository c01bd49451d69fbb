"""The command line in this process: in one of its own, most of the time would be imports and compiling."""

import contextlib
import io
import os
import subprocess
import sys
from typing import NamedTuple
from unittest import mock

import pytest

from jbn.cli import main


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def jbn(*arguments, cwd, env=None):
    """What `jbn ARGUMENTS` would print and return, where it would run."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.dict(os.environ, env or {}),
        mock.patch.object(sys, "argv", ["jbn", *map(str, arguments)]),
        pytest.raises(SystemExit) as ended,
    ):
        main()
    return Done(ended.value.code, out.getvalue(), err.getvalue())


def process(*arguments, cwd, **options):
    """The same as a process of its own."""
    command = [sys.executable, "-m", "jbn", *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, check=False, timeout=300, **options
    )
