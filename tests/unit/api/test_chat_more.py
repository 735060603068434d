"""What is left to be said of the routes of OpenAI's clients: who leaves early, and why an answer ends."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

from fastapi import FastAPI
from starlette.testclient import TestClient

from pilotis.derive.cost import Usage
from pilotis.derive.plan import Llm
from pilotis.testing.online import ScriptedGenerator

URL = "/v1/chat/completions"
ASKED = {"model": "pilotis", "messages": [{"role": "user", "content": "How do I revoke the old key?"}]}


def written_by(app: FastAPI, writer: ScriptedGenerator, **changed: Any) -> ScriptedGenerator:
    state = app.state
    state.env = replace(state.env, llm=Llm(model=writer.model, provider=writer.provider), cache_ttl_s=0, **changed)
    state.service = replace(state.service, deps=replace(state.service.deps, generators={writer.model: writer}))
    return writer


def test_an_answer_that_the_service_cuts_says_so(app: FastAPI, client: TestClient, stored: str) -> None:
    usage = Usage(model="scripted", provider="local", input_tokens=9, output_tokens=3)
    written_by(app, ScriptedGenerator("one ", "two ", "three ", usage=usage), tok_out_max=3)
    for more in ({}, {"max_tokens": 99}):
        assert client.post(URL, json=ASKED | more).json()["choices"][0]["finish_reason"] == "length"


async def test_a_client_that_leaves_before_the_first_word_ends_the_model_too(
    app: FastAPI, client: TestClient, stored: str
) -> None:
    writer = written_by(app, ScriptedGenerator("one ", "two ", delay_s=30))
    body = json.dumps(ASKED | {"stream": True}).encode()
    left = asyncio.Event()
    received = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> Any:
        if message := next(received, None):
            return message
        await left.wait()
        return {"type": "http.disconnect"}

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"authorization", b"Bearer north"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": URL, "raw_path": URL.encode(), "query_string": b"", "headers": headers}
    scope |= {"http_version": "1.1", "scheme": "http", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80)}
    asking = asyncio.ensure_future(app(scope, receive, send))
    while not writer.prompts:  # noqa: ASYNC110 - the stand-in has no event to wait for
        await asyncio.sleep(0)
    left.set()
    await asyncio.wait_for(asking, 5)
    assert writer.closed_streams == 1
    assert sent == []
