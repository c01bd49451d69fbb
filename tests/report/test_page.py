"""One file that needs nothing else, and in which no name of the user's can do harm."""

import re
import sys

import numpy as np
import pytest

from jbn.errors import InputError
from jbn.report import write_page
from jbn.report.page import as_json, page

EVIL = "</script><script>alert(1)</script><b>"


def test_the_page_asks_for_nothing_else(tmp_path, recorded):
    write_page(recorded(tmp_path / "run", configs=1, segments=1), tmp_path / "new" / "report.html")
    text = (tmp_path / "new" / "report.html").read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    own = text.split('<script type="application/json"')[0] + text.rsplit("<script>", 1)[1]
    assert "http" not in own.replace("http-equiv", "")
    assert not re.search(r"<(script|link|img|iframe)[^>]*\b(src|href)=(?!\"data:,\")", text.replace("%", ""))
    assert text.count("</script>") == 3
    assert "default-src 'none'" in text


def test_names_cannot_end_a_script_or_be_taken_for_html(tmp_path, recorded):
    configs = {EVIL: np.array([0.1, 0.2]), "choice": np.array([EVIL, "plain"], object)}
    about = {"task": {"data": EVIL, "model": EVIL}, "command": ["sweep", "--data", EVIL]}
    folder = recorded(tmp_path / "<script>alert(1)</script>".replace("/", "_"), configs=configs, **about)
    write_page(folder, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert text.count("</script>") == 3
    assert "alert(1)</script>" not in text
    assert "<title>&lt;script&gt;" in text


def test_json_has_no_less_than_sign_and_is_the_same():
    import json

    said = {"name": "a<b</script>\u2028", "values": [1.5, None]}
    assert "<" not in as_json(said)
    assert json.loads(as_json(said)) == said
    with pytest.raises(ValueError, match="not JSON compliant"):
        as_json({"value": float("nan")})


def test_what_is_put_in_is_not_looked_at_again(tmp_path, recorded):
    """A name that looks like a place of the template stays a name."""
    folder = recorded(tmp_path / "%PLOTLY%", configs=1, segments=1)
    write_page(folder, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<title>%PLOTLY%: jbn report</title>" in text
    assert text.count("plotly.js v") <= 2


def test_a_thousand_configurations_with_a_hundred_segments_stay_below_ten_megabytes(tmp_path, recorded):
    from jbn.report.page import content_of

    folder = recorded(tmp_path / "run", configs=1000, segments=100, diverged=0.05)
    text = page(content_of(folder, importance=_refused))
    assert len(text.encode()) < 10e6


def _refused():
    raise InputError("not now")


def test_errors(tmp_path, recorded, monkeypatch):
    with pytest.raises(InputError, match="there is no sweep in"):
        write_page(tmp_path / "none", tmp_path / "report.html")
    folder = recorded(tmp_path / "run", configs=1, segments=1)
    with pytest.raises(InputError, match=r"cannot write '.*'"):
        write_page(folder, folder / "sweep.sqlite" / "report.html")
    monkeypatch.setitem(sys.modules, "plotly", None)
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(InputError, match=r"the report needs Plotly; .* pip install 'jbn\[report\]'"):
        write_page(folder, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_without_optuna_the_page_says_what_to_install(tmp_path, recorded, monkeypatch):
    from jbn.report.page import content_of

    monkeypatch.setitem(sys.modules, "optuna", None)
    found = content_of(recorded(tmp_path / "run"))
    assert "jbn[optuna]" in found["importance"]["refused"]
