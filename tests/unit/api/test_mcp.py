"""The tools of the Model Context Protocol, as plain HTTP, over stand-ins."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

HEADERS = {"accept": "application/json, text/event-stream", "mcp-protocol-version": "2025-06-18"}
QUESTION = {"question": "How do I revoke the old key?"}


def call(client: TestClient, method: str, params: dict[str, Any] | None = None, **headers: str | None) -> Any:
    """The response; a header that is None is left out."""
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}}
    sent = {name: value for name, value in (HEADERS | headers).items() if value is not None}
    return client.post("/mcp", json=message, headers=sent)


def tool(client: TestClient, name: str, arguments: dict[str, Any]) -> Any:
    response = call(client, "tools/call", {"name": name, "arguments": arguments})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    return response.json()["result"]


def test_the_tools_are_listed_with_their_arguments(client: TestClient) -> None:
    tools = {tool["name"]: tool for tool in call(client, "tools/list").json()["result"]["tools"]}
    assert set(tools) == {"search", "ask", "list_documents"}
    assert tools["ask"]["inputSchema"]["required"] == ["question"]
    assert set(tools["search"]["inputSchema"]["properties"]) == {"question", "collection", "top_k"}
    assert tools["ask"]["annotations"]["readOnlyHint"] is True


def test_a_tool_says_what_it_does_when_to_use_it_and_what_it_returns(client: TestClient) -> None:
    for tool in call(client, "tools/list").json()["result"]["tools"]:
        does, use, returns = tool["description"].split("\n\n")
        assert does.endswith(".")
        assert use.startswith("Use it ")
        assert returns.startswith("Returns ")


def test_ask_answers_with_sources_and_cost(client: TestClient, world: Any, stored: str) -> None:
    told = tool(client, "ask", QUESTION)
    assert not told["isError"]
    assert told["content"][0]["text"].endswith("\n\nSources:\n[1] keys.md")
    assert told["structuredContent"]["citations"][0]["document_id"] == stored
    assert (world.events[-1].bu, world.events[-1].key) == ("north", "k-north")


def test_search_finds_passages(client: TestClient, world: Any, stored: str) -> None:
    told = tool(client, "search", QUESTION | {"collection": "default", "top_k": 3})
    assert told["content"][0]["text"].startswith("[1] keys.md\nCreate the new key first")
    assert told["structuredContent"]["passages"][0]["document_id"] == stored
    assert world.events[-1].kind == "search"


def test_documents_are_listed(client: TestClient, stored: str) -> None:
    told = tool(client, "list_documents", {"limit": 1})
    assert told["content"][0]["text"] == "keys.md (default, received)"
    assert told["structuredContent"]["next"] == stored
    assert tool(client, "list_documents", {"after": stored})["structuredContent"]["documents"] == []


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("ask", {"question": "?"}, ("empty_question", "send at least one word")),
        ("ask", {"questoin": "x"}, ("invalid", "did you mean 'question'?")),
        ("ask", QUESTION | {"collection": "nowhere"}, ("not_found", "name one that exists: 'default'")),
        ("search", QUESTION | {"top_k": 0}, ("invalid_top_k", "from 1 to 200")),
        ("list_documents", {"limit": 0}, ("invalid", "limit")),
    ],
)
def test_a_refusal_is_a_tool_error_with_its_remedy(
    client: TestClient, stored: str, name: str, arguments: dict[str, Any], told: tuple[str, str]
) -> None:
    refused = tool(client, name, arguments)
    assert refused["isError"] is True
    assert refused["structuredContent"]["code"] == told[0]
    assert told[1] in refused["content"][0]["text"]


def test_a_store_that_is_away_is_a_tool_error_that_says_when_to_come_back(client: TestClient, world: Any, stored: str) -> None:
    world.away |= {"redis", "ledger"}
    told = tool(client, "ask", QUESTION)
    assert told["isError"] is True
    assert told["structuredContent"]["retry_after_s"] == 1


def test_a_tool_there_is_not_is_a_protocol_error(client: TestClient) -> None:
    answer = call(client, "tools/call", {"name": "drop", "arguments": {}}).json()
    assert "there is no tool 'drop'" in answer["error"]["message"]


def test_without_a_key_nothing_is_told(client: TestClient) -> None:
    response = call(client, "tools/list", authorization="Bearer nobody")
    assert response.status_code == 401
    error = response.json()["error"]
    assert (error["data"]["code"], error["message"]) == ("unauthorised", "this API key is not known")
    assert response.headers["www-authenticate"] == "Bearer"


def test_a_business_unit_sees_its_own_documents_alone(client: TestClient, stored: str) -> None:
    asked = {"name": "list_documents", "arguments": {}}
    south = call(client, "tools/call", asked, authorization="Bearer south").json()["result"]
    assert south["structuredContent"] == {"documents": [], "next": None}


def test_there_is_nothing_to_listen_to(client: TestClient) -> None:
    response = client.get("/mcp", headers={"accept": "text/event-stream"})
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"


def test_a_body_that_is_too_large_is_refused(client: TestClient) -> None:
    response = client.post("/mcp", content=b"x" * 300_000, headers=HEADERS | {"content-type": "application/json"})
    assert response.status_code == 413


@pytest.mark.parametrize("sense", [b"", b"{", b"[]", b"null", b"[" * 100_000, b'{"jsonrpc": "2.0"}', b"\xff"])
@pytest.mark.parametrize("version", ["2025-06-18", "2026-07-28", "x"])
def test_what_makes_no_sense_is_refused_as_the_callers_fault(client: TestClient, sense: bytes, version: str) -> None:
    headers = HEADERS | {"content-type": "application/json", "mcp-protocol-version": version}
    assert 400 <= client.post("/mcp", content=sense, headers=headers).status_code < 500


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost.evil.example", "http://[", "http://127.0.0.1@evil.example"]
)
def test_a_web_page_of_another_machine_is_refused(client: TestClient, origin: str) -> None:
    refused = call(client, "tools/list", origin=origin)
    assert refused.status_code == 403, refused.text


@pytest.mark.parametrize("origin", ["http://localhost:6274", "http://127.0.0.1", "http://[::1]:8080"])
def test_a_web_page_of_this_machine_may_call(client: TestClient, origin: str) -> None:
    assert call(client, "tools/list", origin=origin).status_code == 200


@pytest.mark.parametrize("version", [None, "2025-06-18"])
def test_what_nobody_expected_is_told_without_its_words(app: FastAPI, client: TestClient, version: str | None) -> None:
    async def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("postgres://user:secret@10.0.0.1/db")

    app.state.service.deps.documents.find = broken
    told = call(client, "tools/call", {"name": "list_documents", "arguments": {}}, **{"mcp-protocol-version": version})
    assert told.json()["result"]["isError"] is True
    assert "secret" not in told.text
    assert "unexpected" in told.text
