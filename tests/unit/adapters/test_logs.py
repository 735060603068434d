from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest

from pilotis.adapters import logs
from pilotis.api.access import BU, KEY
from pilotis.api.trail import Trail
from pilotis.derive import genai
from pilotis.errors import SetupError
from pilotis.ports import trace

SECRET = "plt_" + "aB3_-" * 8 + "xyz"


@pytest.fixture
def said() -> Iterator[io.StringIO]:
    """What a process's log says; the root logger is as before afterwards."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield io.StringIO()
    root.handlers[:] = before
    root.setLevel(level)
    for name in ("psycopg.pool", "httpx", "httpx2", "openai"):
        logging.getLogger(name).setLevel(logging.NOTSET)


def _lines(said: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in said.getvalue().splitlines()]


def _scope(**more: Any) -> dict[str, Any]:
    return {"type": "http", "method": "POST", "path": "/v1/ask", "headers": [], "request_id": "r1"} | more


def test_one_json_line_each_whatever_stands_in_it(said: io.StringIO) -> None:
    logs.start(form="json", process="api", stream=said)
    log = logging.getLogger("pilotis.test")
    for text in ("plain", "two\nlines", 'quotes " and \\', "\x1b[31m", "é…\u2028", "\ud800"):
        log.warning("document %s", text)
    found = _lines(said)
    assert [line["message"] for line in found[:3]] == ["document plain", "document two\nlines", 'document quotes " and \\']
    assert len(found) == 6
    assert {(line["level"], line["logger"], line["process"]) for line in found} == {("warning", "pilotis.test", "api")}
    assert datetime.fromisoformat(found[0]["time"]).tzinfo is not None


def test_a_failure_is_one_line_too(said: io.StringIO) -> None:
    logs.start(form="json", stream=said)
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("x").exception("request failed")
    (line,) = _lines(said)
    assert line["message"] == "request failed"
    assert "ValueError: broken" in line["error"]


@pytest.mark.parametrize("form", logs.FORMS)
def test_no_key_is_ever_written(said: io.StringIO, form: str) -> None:
    logs.start(form=form, stream=said)
    logging.getLogger("x").error("refused Bearer %s and sk-proj-%s", SECRET, "k" * 40)
    assert SECRET not in said.getvalue()
    assert "k" * 20 not in said.getvalue()
    assert "plt_…" in said.getvalue()


def test_text_is_one_line_for_people(said: io.StringIO) -> None:
    logs.start(form="text", process="ingest", stream=said)
    logging.getLogger("x").warning("a\nb\x1b[31m")
    logs.request("request", {"status": 200, "bu": None})
    first, second = said.getvalue().splitlines()
    assert first.endswith("ingest WARNING x a\\nb\\x1b[31m")
    assert second.endswith("INFO pilotis.request request status=200")


def test_nobody_writes_lines_of_the_log_by_what_an_error_repeats(said: io.StringIO) -> None:
    logs.start(form="text", stream=said)
    forged = "2026-01-01T00:00:00.000Z INFO pilotis.request request status=200"
    try:
        raise ValueError(f"no such thing: \x1b[2J\n{forged}")
    except ValueError:
        logging.getLogger("x").exception("failed")
    lines = said.getvalue().splitlines()
    assert lines[0].endswith("ERROR x failed")
    assert all(line.startswith("  ") for line in lines[1:]), lines
    assert any(forged in line for line in lines)
    assert "\x1b" not in said.getvalue()


def test_levels(said: io.StringIO) -> None:
    logs.start(level="warning", stream=said)
    logging.getLogger("x").info("no")
    logs.request("request", {"status": 200})
    logs.request("request", {"status": 503}, logging.WARNING)
    assert [line.get("status") for line in _lines(said)] == [503]
    for wrong in ({"form": "xml"}, {"level": "loud"}):
        with pytest.raises(SetupError, match="PILOTIS_LOG"):
            logs.start(**wrong, stream=said)


def test_the_line_of_a_request(said: io.StringIO) -> None:
    logs.start(stream=said)
    trail = Trail(_scope(query_string=b"q=secret"))
    trail._scope.update({BU: "sales", KEY: "k1", "route": SimpleNamespace(path="/v1/ask")})
    trace.current().note({genai.COST: 0.0165, genai.STEP: "full", genai.CACHE: "miss", genai.OUTCOME: "answered"})
    logging.getLogger("x").warning("the reranker is skipped")
    trail.finish(200)
    warned, line = _lines(said)
    assert warned["request_id"] == "r1"
    assert line.pop("ms") >= 0
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "logger": "pilotis.request",
        "message": "request",
        "request_id": "r1",
        "bu": "sales",
        "key": "k1",
        "method": "POST",
        "route": "/v1/ask",
        "status": 200,
        "cost_eur": 0.0165,
        "step": "full",
        "cache": "miss",
        "outcome": "answered",
    }
    assert trace.current() is trace.NOTHING


def test_a_path_that_nobody_serves_is_not_repeated(said: io.StringIO) -> None:
    logs.start(stream=said)
    trail = Trail(_scope(path=f"/{SECRET}"))
    trace.current().note({genai.CODE: "not_found"})
    trail.finish(404)
    (line,) = _lines(said)
    assert (line["route"], line["code"], line["level"]) == ("none", "not_found", "info")
    assert SECRET not in said.getvalue()


def test_probes_are_silent_and_failures_are_not(said: io.StringIO) -> None:
    logs.start(stream=said)
    for path, status in (("/healthz", 200), ("/metrics", 200), ("/readyz", 503), ("/v1/ask", 503)):
        Trail(_scope(path=path)).finish(status)
    assert [(line["status"], line["level"]) for line in _lines(said)] == [(503, "warning")]


def test_without_a_stream_it_is_stderr(said: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", said)
    logs.start()
    logging.getLogger("x").warning("here")
    assert _lines(said)[0]["message"] == "here"
