"""Health, metrics and the API's own page."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import FastAPI
from starlette.testclient import TestClient

from pilotis import __version__
from pilotis.api import health


def test_alive_needs_nothing(app: FastAPI, world: Any) -> None:
    world.away = {"postgres", "redis"}
    with TestClient(app) as anonymous:
        assert anonymous.get("/healthz").json() == {"status": "ok", "version": __version__}


def test_ready_names_what_is_away_and_no_more(app: FastAPI, world: Any) -> None:
    with TestClient(app) as anonymous:
        ready = anonymous.get("/readyz")
        assert ready.status_code == 200
        assert set(ready.json()["parts"]) == {"postgres", "redis", "model"}
        world.away = {"postgres", "redis"}
        away = anonymous.get("/readyz")
    assert away.status_code == 503
    assert away.json()["detail"] == "away: postgres, redis"
    assert away.json()["parts"]["model"]["status"] == "ok"


def test_a_part_that_hangs_is_away(app: FastAPI, monkeypatch: Any) -> None:
    monkeypatch.setattr(health, "PROBE_S", 0.05)
    app.state.service.probes["redis"] = lambda: asyncio.sleep(60)
    with TestClient(app) as anonymous:
        assert anonymous.get("/readyz").json()["detail"] == "away: redis"


def test_metrics_are_born_at_zero_and_count(client: TestClient, stored: str) -> None:
    before = client.get("/metrics").text
    assert 'rag_requests_total{kind="search",outcome="answered"} 0.0' in before
    assert 'rag_cost_eur_total{bu="default",model="extractive",plane="online"} 0.0' in before
    assert 'rag_queue_depth{queue="ingest"} 1.0' in before
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
    assert ask["security"] == [{"key": []}]
    assert "application/problem+json" in ask["responses"]["422"]["content"]
    assert "text/event-stream" in ask["responses"]["200"]["content"]


def test_long_answers_are_compressed_and_streams_are_not(client: TestClient, stored: str) -> None:
    accept = {"accept-encoding": "gzip"}
    assert client.get("/openapi.json", headers=accept).headers["content-encoding"] == "gzip"
    stream = client.post("/v1/ask", json={"question": "the old key", "stream": True}, headers=accept)
    assert "content-encoding" not in stream.headers
