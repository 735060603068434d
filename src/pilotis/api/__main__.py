"""`python -m pilotis.api --host HOST --port PORT`: one process that serves HTTP until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys

from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server

from pilotis import wiring
from pilotis.api.app import create_app
from pilotis.derive.plan import Env, Plan
from pilotis.embedded import Addresses
from pilotis.errors import PilotisError
from pilotis.wiring import Settings

BACKLOG = 1024
"""Connections the kernel queues while the process is busy: 500 clients at once must not be turned away."""


def main() -> int:
    """Serve; return the exit code."""
    options = argparse.ArgumentParser(prog="pilotis.api", description=__doc__)
    options.add_argument("--host", default="127.0.0.1")
    options.add_argument("--port", type=int, default=8080)
    given = options.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)
    try:
        settings = wiring.settings()
        plan, env = wiring.load_plan(settings)
        with wiring.stack(settings, plan, env) as addresses:
            asyncio.run(_serve(settings, plan, env, addresses, given))
    except PilotisError as error:
        sys.stderr.write(f"{error.message}\n" + (f"→ {error.remedy}\n" if error.remedy else ""))
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


async def serve(app: object, host: str, port: int) -> None:
    """One server in this process and this loop: what `/metrics` counts is all there is."""
    server = Server(
        app,
        address=host,
        port=port,
        interface=Interfaces.ASGINL,
        http=HTTPModes.auto,
        http1_settings=HTTP1Settings(keep_alive=True, header_read_timeout=30_000),
        websockets=False,
        backlog=BACKLOG,
        log_enabled=False,
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, server.stop)
    await server.serve()


async def _serve(settings: Settings, plan: Plan, env: Env, addresses: Addresses, given: argparse.Namespace) -> None:
    async with wiring.open_service(settings, plan, env, addresses=addresses) as service:
        await serve(create_app(plan, env, service), given.host, given.port)


if __name__ == "__main__":
    sys.exit(main())
