"""The report at an address of this machine alone: what it answers, to whom, and what it does without a run."""

import json
import shutil
import socket
import urllib.error
import urllib.request

import pytest

from jbn.errors import InputError
from jbn.report import server


def answer(address, **headers):
    """Status, headers and text of an answer."""
    request = urllib.request.Request(
        address, headers={name.replace("_", "-"): own for name, own in headers.items()}
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as own:
            return own.status, own.headers, own.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read().decode()


@pytest.fixture
def folder(tmp_path, recorded):
    return recorded(tmp_path / "run", configs=6, segments=4, ended=False, written=2)


def test_a_page_and_what_it_says(folder, served):
    with served(folder) as address:
        status, headers, text = answer(address)
        assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert text.startswith("<!DOCTYPE html>")
        status, headers, text = answer(address + "content.json")
        assert (status, headers["Content-Type"]) == (200, "application/json; charset=utf-8")
        assert json.loads(text)["state"] == "running"
        assert headers["Cache-Control"] == "no-store"


def test_news_are_sent_once(folder, served, recorded):
    with served(folder) as address:
        _, headers, _ = answer(address + "content.json")
        tag = headers["ETag"]
        assert answer(address + "content.json", If_None_Match=tag)[0] == 304
        shutil.rmtree(folder)
        recorded(folder, configs=6, segments=4)
        status, headers, text = answer(address + "content.json", If_None_Match=tag)
        assert status == 200
        assert headers["ETag"] != tag
        assert json.loads(text)["state"] == "done"


def test_nothing_else_is_there(folder, served):
    with served(folder) as address:
        assert answer(address + "sweep.sqlite")[0] == 404
        assert answer(address + "../run/sweep.sqlite")[0] == 404


def test_a_page_of_another_name_is_refused(folder, served):
    """A name of somebody else's that leads to this machine would let their pages read the run."""
    with served(folder) as address:
        assert answer(address, Host="evil.example:8321")[0] == 403
        port = address.rsplit(":", 1)[1].rstrip("/")
        assert answer(address, Host=f"localhost:{port}")[0] == 200


def test_only_this_machine_is_listened_to(folder):
    with server._listening(0, server.Live(folder)) as own:
        assert own.server_address[0] == "127.0.0.1"


def test_a_folder_that_cannot_be_read_now_is_said(folder, served):
    with served(folder) as address:
        shutil.rmtree(folder)
        status, _, text = answer(address)
        assert status == 503
        assert "there is no sweep" in text


def test_errors(folder, tmp_path):
    with pytest.raises(InputError, match="there is no sweep in"):
        server.serve(tmp_path, port=0)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            InputError, match=f"cannot listen at port {port} .another program has it.; pick another"
        ):
            server.serve(folder, port=port)
