"""Bad input gets a problem that says what is wrong; it never gets a 500, and never a word of what is inside."""

from __future__ import annotations

import errno
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from pilotis.errors import ContractError, Forbidden, Limited, SetupError

ROUTES = ("/v1/ask", "/v1/search")
PLAIN = {"content-type": "application/json"}


def check(response: Any, status: int, *words: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["status"] == status
    assert body["type"] == f"urn:pilotis:problem:{body['code']}"
    assert body["title"]
    told = body["detail"] + body.get("remedy", "")
    for word in words:
        assert word in told, told
    return body


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("content", "status", "word"),
    [
        pytest.param(b"", 422, "the body is empty", id="no body"),
        pytest.param(b"{", 422, "JSON", id="half a body"),
        pytest.param(b"[]", 422, "the body", id="a list"),
        pytest.param(b"null", 422, "the body", id="null"),
        pytest.param(b"{}", 422, "'question' is missing", id="no question"),
        pytest.param(b'{"question": ""}', 422, "empty", id="empty"),
        pytest.param(b'{"question": " \\n\\t"}', 422, "empty", id="blank"),
        pytest.param(b'{"question": "?!"}', 422, "holds no word", id="no word in it"),
        pytest.param(b'{"question": 7}', 422, "question", id="a number"),
        pytest.param(b'{"question": "a\\u0000b"}', 422, "NUL", id="NUL"),
        pytest.param(b'{"question": "a\\ud800b"}', 422, "surrogate", id="lone surrogate"),
        pytest.param(b'{"question": "\xff"}', 422, "JSON", id="not UTF-8"),
        pytest.param(b'{"question": "a", "top_k": 0}', 422, "top_k", id="top_k 0"),
        pytest.param(b'{"question": "a", "top_k": 201}', 422, "1 to 200", id="top_k 201"),
        pytest.param(b'{"question": "a", "top_k": -1}', 422, "top_k", id="top_k negative"),
        pytest.param(b'{"question": "a", "top_k": 9223372036854775808}', 422, "top_k", id="top_k beyond 64 bits"),
        pytest.param(b'{"question": "a", "top_k": "9"}', 422, "top_k", id="top_k a text"),
        pytest.param(b'{"question": "a", "top_k": 1e400}', 422, "top_k", id="top_k infinite"),
        pytest.param(b'{"question": "a", "top_k": ' + b"9" * 5000 + b"}", 422, "number", id="top_k of 5000 digits"),
        pytest.param(
            b'{"question": "a", "metadata": {"a": [1]}}', 422, "metadata.a: filter by a text", id="a list to filter by"
        ),
        pytest.param(b'{"question": "a", "metadata": {"a": NaN}}', 422, "metadata.a: nan", id="NaN to filter by"),
        pytest.param(b'{"question": "a", "metadata": {"a": -1e999}}', 422, "metadata.a: -inf", id="infinity to filter by"),
        pytest.param(
            b'{"question": "a", "metadata": {"a": "\\u0000"}}', 422, "metadata.a: contains a NUL", id="NUL to filter by"
        ),
        pytest.param(b'{"question": "a", "metadata": {"a\\u0000": 1}}', 422, "NUL", id="NUL in a filter"),
        pytest.param(b'{"question": "a", "collection": "\\u0000"}', 422, "NUL", id="NUL in a collection"),
        pytest.param(b'{"question": "a", "collectoin": "x"}', 422, "did you mean 'collection'?", id="a typo"),
        pytest.param(b'{"question": "a", "xyz": 1}', 422, "known are question", id="an unknown field"),
        pytest.param(b"[" * 100_000, 422, "JSON", id="100 000 brackets"),
        pytest.param(b'{"question": "' + b"a" * 5_000 + b'"}', 413, "4,000", id="5 kB"),
        pytest.param(b'{"question": "' + b"a" * 1_000_000 + b'"}', 413, "262,144", id="1 MB"),
    ],
)
def test_a_bad_body_is_refused_with_its_reason(
    client: TestClient, stored: str, route: str, content: bytes, *, status: int, word: str
) -> None:
    check(client.post(route, content=content, headers=PLAIN), status, word)


@pytest.mark.parametrize("route", ROUTES)
def test_a_body_without_announced_length_is_bounded_while_it_is_read(client: TestClient, route: str) -> None:
    def pieces() -> Any:
        for _ in range(1000):
            yield b"a" * 65_536

    check(client.post(route, content=pieces(), headers=PLAIN), 413, "262,144")


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", None])
def test_another_content_type_is_415(client: TestClient, route: str, media_type: str | None) -> None:
    headers = {"content-type": media_type} if media_type else {}
    check(client.post(route, content=b'{"question": "a"}', headers=headers), 415, "application/json")


@pytest.mark.parametrize(
    ("headers", "word"),
    [
        pytest.param({}, "no API key", id="none"),
        pytest.param({"authorization": "Bearer nobody"}, "not known", id="unknown"),
        pytest.param({"authorization": "Bearer gone"}, "revoked", id="revoked"),
        pytest.param({"authorization": "Basic bm9ydGg="}, "bearer", id="basic"),
        pytest.param({"authorization": "Bearer "}, "bearer", id="empty"),
        pytest.param({"x-api-key": ""}, "no API key", id="empty header"),
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/ask"),
        ("POST", "/v1/search"),
        ("POST", "/v1/documents"),
        ("GET", "/v1/documents"),
        ("GET", "/v1/documents/d1"),
        ("DELETE", "/v1/documents/d1"),
    ],
)
def test_no_good_key_is_401(app: FastAPI, method: str, path: str, headers: dict[str, str], word: str) -> None:
    with TestClient(app) as anonymous:
        response = anonymous.request(method, path, headers=headers)
    check(response, 401, word)
    assert response.headers["www-authenticate"] == "Bearer"


def test_both_ways_to_send_a_key_work(app: FastAPI) -> None:
    with TestClient(app) as anonymous:
        assert anonymous.get("/v1/documents", headers={"x-api-key": "north"}).status_code == 200
        assert anonymous.get("/v1/documents", headers={"authorization": "bearer north"}).status_code == 200


def test_the_frameworks_own_refusals_are_problems_too(client: TestClient) -> None:
    check(client.get("/nowhere"), 404, "/nowhere")
    check(client.get("/v1/ask/"), 404)
    refused = client.get("/v1/ask")
    check(refused, 405, "GET")
    assert refused.headers["allow"] == "POST"
    assert client.put("/v1/documents").headers["allow"] == "GET, HEAD, POST"
    assert client.put("/v1/documents/d1").headers["allow"] == "DELETE, GET, HEAD"
    assert len(check(client.get("/" + "a" * 5_000), 404)["detail"]) < 300
    check(client.get("/v1/documents?collection=%00"), 422, "collection: contains a NUL")
    check(client.get("/v1/documents?after=%00"), 422, "after: contains a NUL")
    check(client.get("/v1/documents?limit=x"), 422, "limit")
    check(client.get("/v1/documents?limit=0"), 422, "limit")
    check(client.get("/v1/documents?state=lost"), 422, "state")
    check(client.get("/v1/documents?colection=a"), 422, "did you mean 'collection'?")


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/docs", "/v1/documents"])
def test_head_is_possible_wherever_get_is(client: TestClient, path: str) -> None:
    got, head = client.get(path), client.head(path)
    assert (head.status_code, head.headers["content-type"]) == (200, got.headers["content-type"])


def test_a_database_that_is_away_is_503_with_retry_after(client: TestClient, world: Any) -> None:
    world.away.add("postgres")
    response = client.post("/v1/ask", json={"question": "a"})
    check(response, 503, "postgres is away")
    assert int(response.headers["retry-after"]) >= 1


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        pytest.param(
            Limited("slower", code="rate_limited", retry_after_s=0.2, scope="ip", limit="60/min"),
            429,
            {"code": "rate_limited", "retry": "1", "scope": "ip", "limit": "60/min"},
            id="a rate",
        ),
        pytest.param(
            Limited(
                "spent",
                status=402,
                code="budget_exceeded",
                retry_after_s=61.2,
                scope="bu:north",
                window="hour",
                limit="1.00 €",
                resets_at=datetime(2026, 1, 1, 10, tzinfo=UTC),
            ),
            402,
            {
                "code": "budget_exceeded",
                "retry": "62",
                "scope": "bu:north",
                "window": "hour",
                "limit": "1.00 €",
                "resets_at": "2026-01-01T10:00:00+00:00",
            },
            id="a budget",
        ),
        pytest.param(
            Limited("stopped", status=503, code="guardrail", retry_after_s=3600),
            503,
            {"code": "guardrail", "retry": "3600"},
            id="the guardrail",
        ),
    ],
)
def test_a_limit_says_whose_it_is_and_when_to_come_back(
    client: TestClient, world: Any, error: Limited, status: int, told: dict[str, str]
) -> None:
    world.broken = error
    response = client.post("/v1/ask", json={"question": "a"})
    body = check(response, status)
    found = {name: body[name] for name in ("code", "scope", "window", "limit", "resets_at") if name in body}
    assert found | {"retry": response.headers["retry-after"]} == told
    world.broken = None
    metrics = client.get("/metrics").text
    assert f'rag_limited_total{{code="{error.code}"}} 1.0' in metrics


@pytest.mark.parametrize("kind", [SetupError, ContractError])
def test_what_the_operator_has_to_mend_is_logged_and_not_told(
    client: TestClient, world: Any, kind: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    world.broken = kind("no price is known for m at http://10.0.0.7", remedy="export SECRET_KEY=…")  # type: ignore[call-arg]
    response = client.post("/v1/ask", json={"question": "a"})
    body = check(response, 503, body_id := response.headers["x-request-id"])
    assert (body["code"], body["id"]) == ("setup", body_id)
    assert "10.0.0.7" not in response.text
    assert "SECRET_KEY" not in response.text
    assert "10.0.0.7" in caplog.text


def test_a_key_without_the_right_is_403(client: TestClient, world: Any) -> None:
    world.broken = Forbidden("this API key has no right to ask")
    check(client.post("/v1/ask", json={"question": "a"}), 403, "no right")


@pytest.mark.parametrize("error", [RuntimeError("the password is hunter2"), KeyError("hunter2"), MemoryError("hunter2")])
def test_the_unexpected_is_logged_under_an_id_and_tells_strangers_nothing(
    client: TestClient, world: Any, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    world.broken = error
    response = client.post("/v1/ask", json={"question": "a"})
    body = check(response, 500, body_id := response.headers["x-request-id"])
    assert body["id"] == body_id
    assert "hunter2" not in response.text
    assert body_id in caplog.text
    assert "hunter2" in caplog.text


def test_a_full_disk_is_named(client: TestClient, world: Any) -> None:
    world.broken = None
    world.away.clear()

    async def full(_: Any) -> tuple[str, int]:
        raise OSError(errno.ENOSPC, "No space left on device")

    client.app.state.service.deps.blobs.put = full  # type: ignore[attr-defined]
    check(client.post("/v1/documents", files={"file": ("a.md", b"text")}), 507, "disk is full")
    assert not world.documents
    assert list(world.spool.iterdir()) == []


def test_every_answer_carries_an_id_and_safe_headers(client: TestClient) -> None:
    for path in ("/healthz", "/nowhere", "/docs"):
        headers = client.get(path).headers
        assert re.fullmatch(r"[0-9a-f]{32}", headers["x-request-id"])
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]
