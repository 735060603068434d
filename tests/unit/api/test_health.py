"""Health, metrics and the API's own page."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from pilotis import __version__
from pilotis.api import health, warm
from pilotis.api.gate import Gate


def test_alive_needs_nothing(app: FastAPI, world: Any) -> None:
    world.away = {"postgres", "redis"}
    with TestClient(app) as anonymous:
        assert anonymous.get("/healthz").json() == {"status": "ok", "version": __version__}


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each probe looks for itself."""
    monkeypatch.setattr(health, "FRESH_S", 0.0)


@pytest.mark.usefixtures("fresh")
def test_ready_names_what_is_away_and_no_more(app: FastAPI, world: Any) -> None:
    with TestClient(app) as anonymous:
        ready = anonymous.get("/readyz")
        assert ready.status_code == 200
        assert ready.json()["status"] == "ready"
        assert set(ready.json()["parts"]) == {"postgres", "redis", "model"}
        world.away = {"postgres", "redis"}
        away = anonymous.get("/readyz")
    assert away.status_code == 503
    assert away.json()["detail"] == "away: postgres"
    assert away.json()["parts"]["model"]["status"] == "ok"
    assert away.json()["parts"]["redis"]["status"] == "away"


def test_without_redis_it_is_ready_and_says_what_lacks(app: FastAPI, world: Any) -> None:
    world.away = {"redis"}
    with TestClient(app) as anonymous:
        ready = anonymous.get("/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
    assert ready.json()["parts"]["redis"] == {"status": "away"}


@pytest.mark.usefixtures("fresh")
def test_ready_begins_with_the_warm_start_and_ends_with_the_drain(app: FastAPI) -> None:
    gate = app.state.gate
    with TestClient(app) as anonymous:
        gate.phase = "warming"
        assert anonymous.get("/readyz").json()["detail"] == "warming up"
        gate.warmed()
        assert anonymous.get("/readyz").status_code == 200
        gate.drain()
        ending = anonymous.get("/readyz")
        assert (ending.status_code, ending.json()["detail"]) == (503, "the process is about to end")
        assert anonymous.get("/healthz").status_code == 200


def test_a_flood_of_probes_costs_one_look(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "FRESH_S", 60.0)
    looks = 0

    async def look() -> None:
        nonlocal looks
        looks += 1

    app.state.service.probes["postgres"] = look
    with TestClient(app) as anonymous:
        for _ in range(20):
            assert anonymous.get("/readyz").status_code == 200
    assert looks == 1


def test_a_part_that_hangs_is_away(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "PROBE_S", 0.05)
    app.state.service.probes["model"] = lambda: asyncio.sleep(60)
    with TestClient(app) as anonymous:
        assert anonymous.get("/readyz").json()["detail"] == "away: model"


async def test_a_warm_start_uses_everything_once_and_books_nothing(app: FastAPI, world: Any) -> None:
    service, gate = app.state.service, Gate(10, is_warm=False)
    world.away = {"postgres"}
    world.safe.epoch = None
    warming = asyncio.create_task(warm.warm(gate, world.env, service.deps))
    await asyncio.sleep(0.01)
    before = gate.phase
    world.away = set()
    world.safe.epoch = "1"
    await asyncio.wait_for(warming, 2)
    assert (before, gate.phase) == ("warming", "open")
    assert world.events == []
    assert b'rag_requests_total{kind="ask",outcome="answered"} 0.0' in service.exposition()


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed: apt-get install prometheus")
def test_promtool_finds_nothing_wrong_with_the_metrics(client: TestClient, stored: str) -> None:
    client.post("/v1/ask", json={"question": "the old key"})
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=client.get("/metrics").content, capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_metrics_are_born_at_zero_and_count(client: TestClient, stored: str) -> None:
    before = client.get("/metrics").text
    assert 'rag_requests_total{kind="search",outcome="answered"} 0.0' in before
    assert 'rag_cost_eur_total{bu="default",model="extractive",plane="online"} 0.0' in before
    assert 'rag_queue_depth{bu="north",queue="ingest"} 1.0' in before
    assert "rag_contract_info{" in before
    client.post("/v1/search", json={"question": "the old key"})
    client.post("/v1/search", json={"question": ""})
    client.post("/v1/ask", json={"question": ""})
    client.post("/v1/ask", json={"question": 7})
    client.get("/v1/documents")
    after = client.get("/metrics").text
    assert 'rag_requests_total{kind="search",outcome="answered"} 1.0' in after
    assert 'rag_requests_total{kind="search",outcome="refused"} 1.0' in after
    assert 'rag_requests_total{kind="ask",outcome="refused"} 2.0' in after
    assert 'rag_requests_total{kind="documents",outcome="ok"} 2.0' in after
    assert 'rag_request_seconds_count{kind="search"} 2.0' in after


def test_metrics_are_served_while_the_database_is_away(client: TestClient, world: Any) -> None:
    world.away = {"postgres"}
    assert client.get("/metrics").status_code == 200


def test_the_page_shows_every_route_with_an_example_and_loads_nothing(client: TestClient) -> None:
    page = client.get("/docs").text
    schema = client.get("/openapi.json").json()
    for path in ("/v1/ask", "/v1/search", "/v1/documents", "/v1/documents/{document_id}", "/healthz", "/readyz", "/metrics"):
        assert path in schema["paths"]
        assert path in page
    assert "How do I rotate an API key?" in page
    assert "authorization: Bearer $KEY" in page
    assert "<script" not in page
    assert "src=" not in page
    assert client.get("/", follow_redirects=False).headers["location"] == "/docs"


def test_the_schema_says_what_the_routes_take(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    ask = schema["paths"]["/v1/ask"]["post"]
    body = ask["requestBody"]["content"]["application/json"]["schema"]
    assert body["required"] == ["question"]
    assert body["additionalProperties"] is False
    assert body["properties"]["stream"]["description"]
    assert ask["security"] == [{"bearer": []}, {"key": []}]
    assert ask["responses"]["429"]["content"]["application/problem+json"]["schema"] == {"$ref": "#/components/schemas/Problem"}
    assert "application/problem+json" in ask["responses"]["422"]["content"]
    assert "text/event-stream" in ask["responses"]["200"]["content"]


def test_long_answers_are_compressed_and_streams_are_not(client: TestClient, stored: str) -> None:
    accept = {"accept-encoding": "gzip"}
    assert client.get("/openapi.json", headers=accept).headers["content-encoding"] == "gzip"
    stream = client.post("/v1/ask", json={"question": "the old key", "stream": True}, headers=accept)
    assert "content-encoding" not in stream.headers
