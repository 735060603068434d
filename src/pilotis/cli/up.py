"""`pilotis up`: the servers, the workers and the API, until Ctrl-C."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from pilotis.cli import output, session, workers
from pilotis.cli.children import Child, Children
from pilotis.cli.port import require_free
from pilotis.errors import SetupError

if TYPE_CHECKING:
    from pathlib import Path

    from pilotis.cli.workers import Workers
    from pilotis.derive.plan import Env, Plan
    from pilotis.embedded import Addresses
    from pilotis.wiring import Settings

READY_S = 60.0
WATCH_EVERY_S = 0.5


def up(
    ctx: typer.Context,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8080,
) -> None:
    """Start everything and stay up until Ctrl-C, which stops it all."""
    from pilotis import wiring

    started = time.monotonic()
    require_free(host, port)
    given, plan, env = session.load(output.options(ctx))
    with (
        interruptible(),
        wiring.stack(given, plan, env) as addresses,
        api(given, plan, env, addresses, host=host, port=port) as serving,
        workers.running(given, plan, env, addresses) as running,
    ):
        ready_s = time.monotonic() - started
        url = f"http://{_shown(host)}:{port}"
        if output.options(ctx).json:
            output.print_json({"url": url, "ready_s": round(ready_s, 3), "env": env.name, "pid": os.getpid()})
        else:
            _print_ready(url, ready_s, env, serving.log)
        stay(serving, running)


@contextmanager
def api(given: Settings, plan: Plan, env: Env, addresses: Addresses, *, host: str, port: int) -> Iterator[Children]:
    """The API as a child process, ready. Raises SetupError where it does not get ready."""
    from pilotis import wiring

    log = wiring.data_folder(given, plan, env) / "logs" / "api.log"
    with Children(wiring.child_environ(given, plan, env, addresses), log) as children:
        wait_ready(children, children.start("the API", "pilotis.api", "--host", host, "--port", str(port)), host, port)
        yield children


def stay(*watched: Children | Workers) -> None:
    """Watch them until Ctrl-C or SIGTERM. Raises SetupError where one keeps dying."""
    try:
        while True:
            time.sleep(WATCH_EVERY_S)
            for children in watched:
                children.watch()
    except KeyboardInterrupt:
        output.note("stopping")


def wait_ready(children: Children, api: Child, host: str, port: int) -> None:
    """Until `/readyz` says so; raises SetupError with the reason where it never does."""
    deadline = time.monotonic() + READY_S
    state = "nothing answers"
    while time.monotonic() < deadline:
        if (words := children.failed_to_start(api)) is not None:
            raise SetupError(f"the API did not start: {words}", remedy=f"see {children.log}")
        try:
            ready, state = _readiness(_shown(host), port)
        except OSError:
            ready = False
        if ready:
            return
        time.sleep(0.05)
    raise SetupError(f"the API is not ready after {READY_S:.0f} s: {state}", remedy=f"see {children.log}")


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM ends this block as Ctrl-C does: everything is closed on the way out."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _print_ready(url: str, ready_s: float, env: Env, log: Path) -> None:
    console = output.out()
    console.print(f"ready in {ready_s:.1f} s, env {env.name}", style="bold green")
    console.print(f"  API      {url}/v1/ask\n  docs     {url}/docs\n  metrics  {url}/metrics\n  log      {log}", markup=False)
    console.print("  a key    pilotis keys create NAME\nCtrl-C stops it all", style="dim", markup=False)


def _readiness(host: str, port: int) -> tuple[bool, str]:
    import json
    from http.client import HTTPConnection, HTTPException

    connection = HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        return response.status == 200, json.loads(response.read()).get("detail", "")
    except (HTTPException, ValueError) as error:
        return False, str(error)
    finally:
        connection.close()


def _shown(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
