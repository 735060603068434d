"""`python -m pilotis.api --host HOST --port PORT`: one process that serves HTTP until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path

from pilotis import wiring
from pilotis.api.app import create_app
from pilotis.api.follow import follow
from pilotis.api.gate import Gate
from pilotis.api.serve import Tls, run, serve
from pilotis.api.warm import warm
from pilotis.derive.plan import Env, Plan
from pilotis.embedded import Addresses
from pilotis.errors import PilotisError, SetupError
from pilotis.service import open_service
from pilotis.wiring import Settings

DRAIN_S = 30.0
"""How long streams may go on once the process is told to end, where the contract does not end them sooner."""


def main() -> int:
    """Serve; return the exit code."""
    given = _options().parse_args()
    try:
        wiring.start_logs(f"api[{os.getpid()}]")
        settings = wiring.settings()
        plan, env = wiring.load_plan(settings)
        with wiring.stack(settings, plan, env) as addresses:
            run(_serve(settings, plan, env, addresses, given))
    except PilotisError as error:
        sys.stderr.write(f"{error.message}\n" + (f"→ {error.remedy}\n" if error.remedy else ""))
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="pilotis.api", description=__doc__)
    options.add_argument("--host", default="127.0.0.1")
    options.add_argument("--port", type=int, default=8080)
    options.add_argument("--tls-cert", type=Path, help="certificate with its chain, PEM")
    options.add_argument("--tls-key", type=Path, help="its key, PEM")
    options.add_argument("--drain-s", type=float, help="how long running requests may go on at the end")
    return options


def _tls(given: argparse.Namespace) -> Tls | None:
    if (given.tls_cert is None) != (given.tls_key is None):
        raise SetupError("a TLS certificate and its key go together", remedy="give both --tls-cert and --tls-key, or neither")
    if given.tls_cert is None:
        return None
    tls = Tls(cert=given.tls_cert, key=given.tls_key)
    tls.check()
    return tls


async def _serve(settings: Settings, plan: Plan, env: Env, addresses: Addresses, given: argparse.Namespace) -> None:
    tls = _tls(given)
    gate = Gate(env.in_flight, is_warm=False)
    async with open_service(settings, plan, env, addresses=addresses) as service:
        app = create_app(plan, service.env, service, gate=gate)
        following = asyncio.create_task(follow(app))
        await serve(
            app,
            gate,
            host=given.host,
            port=given.port,
            drain_s=min(DRAIN_S, env.total_s) if given.drain_s is None else given.drain_s,
            tls=tls,
            warm=lambda: warm(gate, service.env, service.deps),
        )
        following.cancel()


if __name__ == "__main__":
    sys.exit(main())
