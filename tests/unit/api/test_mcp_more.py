"""Who may call the tools from a web page, and what a tool says of its own failures."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

HEADERS = {"accept": "application/json, text/event-stream"}
LISTS = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
CALLS = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "list_documents", "arguments": {}}}


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost.evil.example", "http://[", "http://127.0.0.1@evil.example"]
)
def test_a_web_page_of_another_machine_is_refused(client: TestClient, origin: str) -> None:
    refused = client.post("/mcp", json=LISTS, headers=HEADERS | {"origin": origin})
    assert refused.status_code == 403, refused.text


@pytest.mark.parametrize("origin", ["http://localhost:6274", "http://127.0.0.1", "http://[::1]:8080"])
def test_a_web_page_of_this_machine_may_call(client: TestClient, origin: str) -> None:
    assert client.post("/mcp", json=LISTS, headers=HEADERS | {"origin": origin}).status_code == 200


@pytest.mark.parametrize("version", [None, "2025-06-18"])
def test_what_nobody_expected_is_told_without_its_words(app: FastAPI, client: TestClient, version: str | None) -> None:
    async def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("postgres://user:secret@10.0.0.1/db")

    app.state.service.deps.documents.find = broken
    headers = HEADERS | ({"mcp-protocol-version": version} if version else {})
    told = client.post("/mcp", json=CALLS, headers=headers)
    assert told.json()["result"]["isError"] is True
    assert "secret" not in told.text
    assert "unexpected" in told.text
