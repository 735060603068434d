"""The outermost layer: who comes in, an id for each request, its duration, safe headers, and a problem where nothing else answered."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pilotis.api import problems
from pilotis.api.gate import PROBES, Gate, client_ip, refuse_keys
from pilotis.api.trail import Trail
from pilotis.errors import Limited, Refused
from pilotis.ports.trace import Tracer

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
GLANCED_BYTES, GLANCED_S = 64 * 1024, 0.2
"""The same where there is no room: what is in the kernel's hands already, so that the client reads why."""
TIMED_OUT = 408
"""A body that came too slowly: nothing more of it is waited for."""

CLIENT_IP = "pilotis.client_ip"
"""In the scope: the address a request came from, past the proxies that are trusted."""

COUNTED = "pilotis.counted"
"""Set in the scope once a request is on its road, which counts it with what only it knows: whether anything was found."""

Measure = Callable[[Scope, int, float], None]
"""Called once per request with its scope, its status and its seconds."""


class Edge:
    """Pure ASGI: it adds a few microseconds and touches no body, unless one is refused half-read.

    `limited` is called with the code of each refusal for want of room.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        gate: Gate,
        hops: int,
        measure: Measure,
        limited: Callable[[str], None],
        tracer: Tracer | None = None,
    ) -> None:
        self.app = app
        self.gate = gate
        self.hops = hops
        self.measure = measure
        self.limited = limited
        self.tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            # As RFC 9110 wants: wherever GET is possible HEAD is too. The server sends no body then.
            scope = {**scope, "method": "GET"}
        scope["request_id"] = secrets.token_hex(16)
        scope[CLIENT_IP] = client_ip(scope, self.hops)
        task = asyncio.current_task()
        assert task is not None
        exchange = _Exchange(scope, receive, send, refusing=lambda: self.gate.leave(task))
        trail = Trail(scope, self.tracer)
        try:
            if scope["path"] not in PROBES:
                self.gate.enter(task)
            refuse_keys(scope)
            await self._serve(scope, exchange)
        except Refused as error:
            if isinstance(error, Limited):
                self.limited(error.code)
                exchange.is_closing = self.gate.phase == "draining"
                exchange.bounds = GLANCED_BYTES, GLANCED_S
            await problems.of_error(error, scope["request_id"])(scope, exchange.receive, exchange.send)
        finally:
            self.gate.leave(task)
            trail.finish(exchange.status)

    async def _serve(self, scope: Scope, exchange: _Exchange) -> None:
        request_id = scope["request_id"]
        started = perf_counter()
        try:
            await self.app(scope, exchange.receive, exchange.send)
        except ClientDisconnect:
            log.info("request %s: the client left before an answer began", request_id)
        except Exception as error:  # the last net: whatever a route did not expect still gets an answer and a log line
            if exchange.status == CLOSED_BY_CLIENT:
                await problems.of_error(error, request_id)(scope, exchange.receive, exchange.send)
            else:
                log.exception("request %s broke off after its answer had begun", request_id)
        finally:
            self.measure(scope, exchange.status, perf_counter() - started)


class _Exchange:
    """A request's body on its way in and its answer on its way out.

    Closing a connection on a client that still sends would take the answer with it, so that a refused body is read to its end
    first, within bounds. One that a client holds back until it is asked for is not asked for. Whose body is only drained takes
    no place from others: `refusing` is called before.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, *, refusing: Callable[[], None]) -> None:
        headers = dict(scope["headers"])
        self.status = CLOSED_BY_CLIENT
        self.is_closing = False
        self.bounds = DRAINED_BYTES, DRAINED_S
        self._receive, self._send, self._refusing = receive, send, refusing
        self._headed = (*SAFE_HEADERS, (b"x-request-id", scope["request_id"].encode()))
        self._keeps_open = scope.get("http_version", "1.1").startswith("2")
        self._ended = b"content-length" not in headers and b"transfer-encoding" not in headers
        self._held_back = headers.get(b"expect", b"").lower() == b"100-continue"

    async def receive(self) -> Message:
        message = await self._receive()
        self._held_back = False
        self._ended = message["type"] == "http.disconnect" or not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self.status >= 400:
                self._refusing()
                await self._drain()
            headers = [*message.get("headers", ()), *self._headed]
            if self.is_closing and not self._keeps_open:
                headers.append((b"connection", b"close"))
            message["headers"] = headers
        await self._send(message)

    async def _drain(self) -> None:
        if self.status == TIMED_OUT:
            self.is_closing = True
            return
        left, within_s = self.bounds
        if left <= 0 or self._ended or self._held_back:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while left > 0 and not self._ended:
                    left -= len((await self.receive()).get("body", b""))
