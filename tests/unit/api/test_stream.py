"""A stream is closed behind its client, whatever ends it: the end, an error, or a client that leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from pilotis.api.stream import EventStream, event


class Client:
    """An ASGI client that leaves after some chunks, or never."""

    def __init__(self, *, leaves_after: int | None = None) -> None:
        self.sent: list[dict[str, Any]] = []
        self.left = asyncio.Event()
        self.leaves_after = leaves_after

    async def receive(self) -> dict[str, Any]:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)
        chunks = [m for m in self.sent if m["type"] == "http.response.body"]
        if self.leaves_after is not None and len(chunks) >= self.leaves_after:
            self.left.set()
        await asyncio.sleep(0)


def test_an_event_is_one_frame() -> None:
    assert event("token", b'{"text":"a"}') == b'event: token\ndata: {"text":"a"}\n\n'


async def test_a_finished_stream_sends_every_chunk_then_the_end() -> None:
    async def events() -> AsyncGenerator[bytes, None]:
        yield b"a"
        yield b"b"

    client = Client()
    await EventStream(events())({"type": "http"}, client.receive, client.send)
    assert [m.get("body") for m in client.sent[1:]] == [b"a", b"b", b""]
    assert [m.get("more_body") for m in client.sent[1:]] == [True, True, False]
    headers = dict(client.sent[0]["headers"])
    assert headers[b"content-type"].startswith(b"text/event-stream")
    assert b"content-length" not in headers


@pytest.mark.parametrize("waiting", [True, False], ids=["while the model thinks", "while tokens come"])
async def test_a_client_that_leaves_lets_the_generator_settle(waiting: bool) -> None:
    settled: list[str] = []

    async def events() -> AsyncGenerator[bytes, None]:
        try:
            yield b"a"
            if waiting:
                await asyncio.sleep(60)
            while True:
                yield b"b"
                await asyncio.sleep(0)
        finally:
            await asyncio.sleep(0.01)
            settled.append("first")
            await asyncio.sleep(0.01)
            settled.append("second")

    client = Client(leaves_after=1 if waiting else 5)
    await asyncio.wait_for(EventStream(events())({"type": "http"}, client.receive, client.send), 5)
    assert settled == ["first", "second"]


async def test_a_server_that_stops_lets_the_generator_settle_too() -> None:
    settled = asyncio.Event()

    async def events() -> AsyncGenerator[bytes, None]:
        try:
            yield b"a"
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            settled.set()

    client = Client()
    task = asyncio.ensure_future(EventStream(events())({"type": "http"}, client.receive, client.send))
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.wait({task}, timeout=5)
    assert settled.is_set()
    assert task.cancelled()


async def test_an_error_in_the_generator_is_not_hidden() -> None:
    async def events() -> AsyncGenerator[bytes, None]:
        yield b"a"
        raise ZeroDivisionError

    client = Client()
    with pytest.raises(ZeroDivisionError):
        await EventStream(events())({"type": "http"}, client.receive, client.send)
