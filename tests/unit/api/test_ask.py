"""POST /v1/ask and /v1/search over stand-ins."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from starlette.testclient import TestClient

QUESTION = {"question": "How do I revoke the old key?"}


def events(text: str) -> list[tuple[str, Any]]:
    frames = [frame.split("\n") for frame in text.strip().split("\n\n")]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in frames]


def test_an_answer_carries_its_sources_and_its_cost(client: TestClient, world: Any, stored: str) -> None:
    response = client.post("/v1/ask", json=QUESTION)
    body = response.json()
    assert response.status_code == 200, body
    assert body["found"] is True
    assert "revoke the old one" in body["answer"]
    cited = body["citations"][0]
    assert (cited["document_id"], cited["document"]) == (stored, "keys.md")
    assert response.headers["x-rag-cost-eur"] == body["cost_eur"]
    assert Decimal(body["cost_eur"]) == world.events[-1].cost_eur
    assert world.events[-1].bu == "north"
    assert set(body["elsewhere_eur"]) == {"staging", "prod"}
    assert Decimal(body["elsewhere_eur"]["prod"]) > 0


@pytest.mark.parametrize(
    "how", [{"json": QUESTION | {"stream": True}}, {"json": QUESTION, "headers": {"accept": "text/event-stream"}}]
)
def test_a_stream_tells_passages_tokens_then_done(client: TestClient, stored: str, how: dict[str, Any]) -> None:
    response = client.post("/v1/ask", **how)
    assert response.headers["content-type"].startswith("text/event-stream")
    told = events(response.text)
    names = [name for name, _ in told]
    assert names[0] == "passages"
    assert names[-1] == "done"
    assert set(names[1:-1]) == {"token"}
    assert told[0][1]["passages"][0]["document_id"] == stored
    assert "".join(data["text"] for name, data in told if name == "token").strip() == told[-1][1]["answer"]
    whole = client.post("/v1/ask", json=QUESTION).json()
    assert whole["cache"] == "hit"
    of_this_one = {"id", "timings_ms", "cache", "usage", "cost_eur", "saved_eur", "elsewhere_eur"}
    assert {k: v for k, v in told[-1][1].items() if k not in of_this_one} == {
        k: v for k, v in whole.items() if k not in of_this_one
    }


def test_a_stream_that_breaks_ends_with_an_error_event(client: TestClient, world: Any, stored: str) -> None:
    world.away |= {"redis", "ledger"}
    told = events(client.post("/v1/ask", json=QUESTION | {"stream": True}).text)
    assert told[-1][0] == "error"
    assert told[-1][1]["status"] == 503
    assert "ledger is away" in told[-1][1]["detail"]
    assert "done" not in [name for name, _ in told]


def test_a_refusal_before_the_first_event_is_a_status_not_a_stream(client: TestClient) -> None:
    response = client.post("/v1/ask", json=QUESTION | {"stream": True, "collection": "nowhere"})
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"


def test_search_returns_passages_and_cost(client: TestClient, stored: str) -> None:
    response = client.post("/v1/search", json=QUESTION)
    body = response.json()
    assert [passage["document_id"] for passage in body["passages"]] == [stored]
    assert body["passages"][0]["n"] == 1
    assert response.headers["x-rag-cost-eur"] == body["cost_eur"]


def test_another_business_unit_finds_nothing(client: TestClient, stored: str) -> None:
    south = {"authorization": "Bearer south"}
    assert client.post("/v1/search", json=QUESTION, headers=south).status_code == 404
    assert client.get(f"/v1/documents/{stored}", headers=south).status_code == 404
    assert client.get("/v1/documents", headers=south).json()["documents"] == []
    assert client.delete(f"/v1/documents/{stored}", headers=south).status_code == 404
    assert client.get(f"/v1/documents/{stored}").status_code == 200


def test_the_business_unit_comes_from_the_key_alone(client: TestClient, stored: str) -> None:
    response = client.post("/v1/search", json=QUESTION, headers={"authorization": "Bearer south", "x-bu": "north"})
    assert response.status_code == 404
    assert client.post("/v1/search", json=QUESTION | {"bu": "north"}).status_code == 422
