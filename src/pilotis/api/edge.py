"""The outermost layer: an id for each request, its duration, safe headers, and a problem where nothing else answered."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter
from uuid import uuid4

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pilotis.api import problems

log = logging.getLogger("pilotis.api")

SAFE_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
)
CLOSED_BY_CLIENT = 499
"""The status under which a request is counted whose client left before an answer began."""

DRAINED_BYTES, DRAINED_S = 256 * 1024 * 1024, 30.0
"""How much of a refused body is read, and for how long."""

COUNTED = "pilotis.counted"
"""Set in the scope once a request is on its road, which counts it with what only it knows: whether anything was found."""

Measure = Callable[[Scope, int, float], None]
"""Called once per request with its scope, its status and its seconds."""


class Edge:
    """Pure ASGI: it adds a few microseconds and touches no body, unless one is refused half-read."""

    def __init__(self, app: ASGIApp, measure: Measure) -> None:
        self.app = app
        self.measure = measure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            # As RFC 9110 wants: wherever GET is possible HEAD is too. The server sends no body then.
            scope = {**scope, "method": "GET"}
        body = _Inbound(scope, receive)
        request_id = scope["request_id"] = uuid4().hex
        started = perf_counter()
        status = CLOSED_BY_CLIENT

        async def send_headed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if status >= 400:
                    await body.drain()
                message["headers"] = [*message.get("headers", ()), *SAFE_HEADERS, (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self.app(scope, body.receive, send_headed)
        except ClientDisconnect:
            log.info("request %s: the client left before it had sent everything", request_id)
        except Exception as error:  # the last net: whatever a route did not expect still gets an answer and a log line
            if status == CLOSED_BY_CLIENT:
                await problems.of_error(error, request_id)(scope, body.receive, send_headed)
            else:
                log.exception("request %s broke off after its answer had begun", request_id)
        finally:
            self.measure(scope, status, perf_counter() - started)


class _Inbound:
    """A request's body. Closing a connection on a client that still sends would take the answer with it, so that a refused body is
    read to its end first, within bounds. One that a client holds back until it is asked for is not asked for.
    """

    def __init__(self, scope: Scope, receive: Receive) -> None:
        headers = dict(scope["headers"])
        self._receive = receive
        self._ended = b"content-length" not in headers and b"transfer-encoding" not in headers
        self._held_back = headers.get(b"expect", b"").lower() == b"100-continue"

    async def receive(self) -> Message:
        message = await self._receive()
        self._held_back = False
        self._ended = message["type"] == "http.disconnect" or not message.get("more_body", False)
        return message

    async def drain(self) -> None:
        left = DRAINED_BYTES
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAINED_S):
                while left > 0 and not (self._ended or self._held_back):
                    left -= len((await self.receive()).get("body", b""))
