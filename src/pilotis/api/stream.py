"""Answers whose making ends in every case: at the end, on an error, when the client leaves; as server-sent events, or whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import Response
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from pilotis.online.events import Done

if TYPE_CHECKING:
    from pilotis.online.events import Answer, Event

Outcome = TypeVar("Outcome")

HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}
"""The second keeps a reverse proxy from holding tokens back."""


def event(name: str, data: bytes) -> bytes:
    """One event; `data` is JSON, hence without a line break."""
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"


async def whole(events: AsyncGenerator[Event, None], receive: Receive) -> Answer:
    """The answer at the end of the road, for a client that waits for all of it.

    An answer from the cache is there at once. For any other it is watched whether the client still waits, from before a model is
    asked: raises ClientDisconnect where it does not, and what was consumed until then is settled.
    """
    async with aclosing(events):
        first = await anext(events)
        last = first if isinstance(first, Done) else await unless_left(_last(events), receive)
    return last.answer


async def unless_left(work: Coroutine[Any, Any, Outcome], receive: Receive) -> Outcome:
    """The outcome of `work`, for a request whose body was read. Raises ClientDisconnect where the client leaves before.

    A plain task is cancelled then, once: inside a generator's `finally` awaiting works, so that a broken-off answer is still settled.
    (An anyio cancel scope would cancel those awaits again and again.)
    """
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        gone.cancel()
        if not task.done():
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


class EventStream(Response):
    """Sends what `events` yields as it comes, for as long as the client listens."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes, None]) -> None:
        super().__init__(headers=HEADERS)
        del self.headers["content-length"]
        self.events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        with suppress(ClientDisconnect):
            await unless_left(self._pump(send), receive)

    async def _pump(self, send: Send) -> None:
        async with aclosing(self.events):
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async for chunk in self.events:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _last(events: AsyncGenerator[Event, None]) -> Done:
    async for step in events:
        if isinstance(step, Done):
            return step
    raise AssertionError("the road of a question ends with Done or an error")
