"""A client that leaves ends the model that writes for it, and what was consumed until then is settled."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from starlette.testclient import TestClient

from pilotis.testing.online import ScriptedGenerator

CHAT = "/v1/chat/completions"
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
    scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"", "headers": headers}
    scope |= {"http_version": "1.1", "scheme": "http", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80)}
    asking = asyncio.ensure_future(app(scope, receive, send))
    while not writer.prompts:  # noqa: ASYNC110 - the stand-in has no event to wait for
        await asyncio.sleep(0)
    left.set()
    await asyncio.wait_for(asking, 5)
    return sent


async def test_before_the_first_word_of_a_stream(
    app: FastAPI, client: TestClient, written_by: Callable[..., ScriptedGenerator], stored: str
) -> None:
    writer = written_by(ScriptedGenerator("one ", "two ", delay_s=30))
    assert await leave(app, CHAT, ASKED | {"stream": True}, writer=writer) == []
    assert writer.closed_streams == 1
