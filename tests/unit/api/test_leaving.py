"""A client that leaves ends the model that writes for it, and what was consumed until then is settled."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from pilotis.testing.online import ScriptedGenerator

CHAT = "/v1/chat/completions"
QUESTION = {"question": "How do I revoke the old key?"}
CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "ask", "arguments": QUESTION}}
ASKED = {"model": "pilotis", "messages": [{"role": "user", "content": "How do I revoke the old key?"}]}


async def leave(app: FastAPI, path: str, body: dict[str, Any], *, writer: ScriptedGenerator) -> list[Any]:
    """Ask, and leave once the model has begun; what was sent until the request was over."""
    left, sent = asyncio.Event(), []
    received = iter([{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}])

    async def receive() -> Any:
        if message := next(received, None):
            return message
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"authorization", b"Bearer north"), (b"content-type", b"application/json")]
    headers.append((b"accept", b"application/json"))
    scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"", "headers": headers}
    scope |= {"http_version": "1.1", "scheme": "http", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80)}
    asking = asyncio.ensure_future(app(scope, receive, send))
    while not writer.prompts:  # noqa: ASYNC110 - the stand-in has no event to wait for
        await asyncio.sleep(0)
    left.set()
    await asyncio.wait_for(asking, 5)
    return sent


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param(CHAT, ASKED | {"stream": True}, id="a stream before its first word"),
        pytest.param(CHAT, ASKED, id="a whole answer"),
        pytest.param("/v1/ask", QUESTION, id="our own"),
        pytest.param("/mcp", CALL, id="a tool's"),
    ],
)
async def test_nobody_is_written_for_who_has_left(
    *,
    app: FastAPI,
    client: TestClient,
    world: Any,
    written_by: Callable[..., ScriptedGenerator],
    stored: str,
    path: str,
    body: dict[str, Any],
) -> None:
    writer = written_by(ScriptedGenerator("one ", "two ", delay_s=30))
    assert await leave(app, path, body, writer=writer) == []
    assert writer.closed_streams == 1
    assert [usage["estimated"] for usage in world.events[-1].usage["calls"] if usage["model"] == "scripted"] == [True]
    metrics = client.get("/metrics").text
    assert 'outcome="left"' in metrics
    assert "rag_in_flight 0" in metrics
