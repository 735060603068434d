"""One HTTP server in this process and this loop, until it is told to end: then it finishes what it is doing, within bounds."""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop
from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings, HTTP2Settings
from granian.server.embed import Server

from pilotis.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from pilotis.api.gate import Gate

log = logging.getLogger("pilotis.api")

BACKLOG = 1024
"""Connections the kernel queues while the process is busy: 500 clients at once must not be turned away."""
HEADER_READ_S = 10
"""How long a request's head may take to arrive, and how long a connection may be kept without one."""
HEADER_BYTES = 64 * 1024
PING_S = 20
"""How often an HTTP/2 connection is asked whether it is still there, and how long it may think about it."""
MOST_CONNECTIONS, FILES_KEPT = 60_000, 512
"""Each connection is an open file: as many as the system grants, less what databases, models and files need."""
CUT_S, CLOSE_S = 5.0, 2.0
"""How long those cut off have to settle, and connections to close, once the patience has run out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """A certificate with its chain, and its key, both PEM."""

    cert: Path
    key: Path

    def check(self) -> None:
        """Raises SetupError where one of them cannot be read."""
        for what, path in (("certificate", self.cert), ("key", self.key)):
            try:
                if b"-----BEGIN " not in path.read_bytes():
                    raise SetupError(f"the TLS {what} {path} is not PEM", remedy="give files that begin with -----BEGIN")
            except OSError as error:
                raise SetupError(
                    f"the TLS {what} {path} cannot be read: {error.strerror}", remedy="see its path and rights"
                ) from None


def run(serving: Coroutine[Any, Any, None]) -> None:
    """Run a server to its end, on uvloop: every request takes a tenth less of a core than on the standard library's loop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serving)


async def serve(
    app: object,
    gate: Gate,
    *,
    host: str,
    port: int,
    drain_s: float,
    tls: Tls | None = None,
    warm: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; `warm` runs meanwhile, and `/readyz` says no until it has ended.

    Told to end, it lets nobody in and waits up to `drain_s` for those inside; a second signal ends the wait. Whoever is left then
    is cut off, and what was consumed is settled.
    """
    server = _server(app, host, port, tls)
    told, hurried = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def tell() -> None:
        (hurried if told.is_set() else told).set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, tell)
    serving = asyncio.ensure_future(server.serve())
    warming = asyncio.ensure_future(warm()) if warm else None
    await _first(serving, told.wait())
    if warming:
        warming.cancel()
    gate.drain()
    if gate.inside:
        log.info("ending; waiting up to %.0f s for %d requests", drain_s, gate.inside)
    await _first(gate.empty(within_s=drain_s), hurried.wait(), serving)
    if cut := await gate.cut(within_s=CUT_S):
        log.warning("ended in the middle of %d requests", cut)
    server.stop()  # type: ignore[no-untyped-call]
    await asyncio.wait({serving}, timeout=CLOSE_S)
    if serving.done():
        serving.result()


def _server(app: object, host: str, port: int, tls: Tls | None) -> Server:
    return Server(
        app,
        address=host,
        port=port,
        interface=Interfaces.ASGINL,
        http=HTTPModes.auto,
        http1_settings=HTTP1Settings(keep_alive=True, header_read_timeout=HEADER_READ_S * 1000, max_buffer_size=HEADER_BYTES),
        http2_settings=HTTP2Settings(
            keep_alive_interval=PING_S * 1000, keep_alive_timeout=PING_S, max_headers_size=HEADER_BYTES
        ),
        ssl_cert=tls.cert if tls else None,
        ssl_key=tls.key if tls else None,
        ssl_protocol_min=SSLProtocols.tls12,
        websockets=False,
        backlog=BACKLOG,
        backpressure=_connections(),
        log_enabled=False,
    )


def _connections() -> int:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_CONNECTIONS + FILES_KEPT if hard == resource.RLIM_INFINITY else min(hard, MOST_CONNECTIONS + FILES_KEPT)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return max(BACKLOG // 2, wanted - FILES_KEPT)


async def _first(*waited: Awaitable[object]) -> None:
    """Until one of them is there; a task among them goes on, what was only waited for ends."""
    tasks = [asyncio.ensure_future(each) for each in waited]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task, each in zip(tasks, waited, strict=True):
        if task is not each:
            task.cancel()
