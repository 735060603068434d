"""Server-sent events, with the generator behind them closed in every case: at the end, on an error, when the client leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

from fastapi import Response
from starlette.types import Receive, Scope, Send

HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}
"""The second keeps a reverse proxy from holding tokens back."""


def event(name: str, data: bytes) -> bytes:
    """One event; `data` is JSON, hence without a line break."""
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"


class EventStream(Response):
    """Sends what `events` yields as it comes.

    A plain task is cancelled when the client leaves, once: inside the generator's `finally` awaiting works, so that a
    broken-off answer is still settled. (An anyio cancel scope would cancel those awaits again and again.)
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes, None]) -> None:
        super().__init__(headers=HEADERS)
        del self.headers["content-length"]
        self.events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        pump = asyncio.ensure_future(self._pump(send))
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait({pump, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not pump.done():
                pump.cancel()
            with suppress(asyncio.CancelledError):
                await pump
        finally:
            gone.cancel()
            if not pump.done():
                pump.cancel()
                with suppress(asyncio.CancelledError):
                    await pump

    async def _pump(self, send: Send) -> None:
        async with aclosing(self.events):
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async for chunk in self.events:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
