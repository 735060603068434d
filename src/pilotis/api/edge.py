"""The outermost layer: an id for each request, its duration, safe headers, and a problem where nothing else answered."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import perf_counter
from uuid import uuid4

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

COUNTED = "pilotis.counted"
"""Set in the scope once a request is on its road, which counts it with what only it knows: whether anything was found."""

Measure = Callable[[Scope, int, float], None]
"""Called once per request with its scope, its status and its seconds."""


class Edge:
    """Pure ASGI: it adds a few microseconds and touches no body."""

    def __init__(self, app: ASGIApp, measure: Measure) -> None:
        self.app = app
        self.measure = measure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = scope["request_id"] = uuid4().hex
        started = perf_counter()
        status = CLOSED_BY_CLIENT

        async def send_headed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *SAFE_HEADERS, (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self.app(scope, receive, send_headed)
        except Exception as error:  # the last net: whatever a route did not expect still gets an answer and a log line
            if status == CLOSED_BY_CLIENT:
                await problems.of_error(error, request_id)(scope, receive, send_headed)
            else:
                log.exception("request %s broke off after its answer had begun", request_id)
        finally:
            self.measure(scope, status, perf_counter() - started)
