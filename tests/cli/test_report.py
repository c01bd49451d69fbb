"""`jbn report` on the command line: what it writes, what it refuses, and how a served page ends."""

import re
import signal
import subprocess
import sys
import urllib.request

import numpy as np
import pytest

from jbn.store import SegmentRows, create
from tests.cli.command import jbn as run


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a run of two configurations and two segments."""
    folder = tmp_path_factory.mktemp("report")
    rates, ids, seeds = np.array([0.1, 0.01]), np.arange(2), np.zeros(2, int)
    with create(folder / "run", settings={"epochs": 2}, configs={"learning_rate": rates}, seeds=1) as store:
        for segment in range(2):
            rows = SegmentRows(ids, seeds, ids + segment, rates, {"accuracy": 1 - rates, "loss": rates})
            store.write_segment(segment, rows)
    return folder


def test_a_page_is_written_beside_the_run_or_where_it_is_asked_for(place):
    done = run("report", "run", cwd=place)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "wrote run/report.html\n"
    assert run("report", "run", "--html", "new/page.html", cwd=place).returncode == 0
    for page in ("run/report.html", "new/page.html"):
        assert (place / page).read_text().startswith("<!DOCTYPE html>")


def test_a_picture_of_the_width_that_is_asked_for(place):
    from PIL import Image

    for options, centimetres in (((), 8), (("--width", 18), 18)):
        done = run("report", "run", "--png", "curves.png", *options, cwd=place)
        assert done.stdout == "wrote curves.png\n"
        with Image.open(place / "curves.png") as image:
            assert image.width == pytest.approx(centimetres / 2.54 * 300, rel=0.01)
    done = run("report", "run", "--png", "a.png", "--html", "a.html", cwd=place)
    assert done.stdout == "wrote a.png\nwrote a.html\n"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--serve", "--png", "a.png"), "--serve writes nothing: leave out --html and --png, or --serve"),
        (("--port", 80), "--port is for --serve: add that, or leave it out"),
        (("--width", 8), "--width is that of a picture: add --png PATH, or leave it out"),
        (("--png", "a.png", "--width", 0), "at least 5 cm wide, got 0; a column has 8, a page 18"),
        (("--png", "a.png", "--width", 2), "at least 5 cm wide, got 2; a column has 8, a page 18"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(place, options, words):
    done = run("report", "run", *options, cwd=place)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_served_page_ends_with_ctrl_c(place):
    """Also where whoever began this process ignores Ctrl-C, as shells do for what runs in the background."""
    listening = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    heard = f"{listening}; from jbn.cli import main; main()"
    command = [sys.executable, "-c", heard, "report", "run", "--serve", "--port", "0"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=place, **pipes) as process:
        try:
            said = process.stdout.readline()
            address = re.match(r"(http://127\.0\.0\.1:\d+/)  \(Ctrl-C ends it\)", said)[1]
            with urllib.request.urlopen(address, timeout=60) as answer:
                assert answer.status == 200
            process.send_signal(signal.SIGINT)
            out, error = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, out, error) == (0, "ended\n", "")
