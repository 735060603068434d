"""`pilotis up`: the servers, the workers and the API, until Ctrl-C."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pilotis.cli import output, session, workers
from pilotis.cli.children import GRACE_S, Child, Children
from pilotis.cli.port import require_free
from pilotis.errors import SetupError

if TYPE_CHECKING:
    from pilotis.cli.workers import Workers
    from pilotis.derive.plan import Env, Plan
    from pilotis.embedded import Addresses
    from pilotis.wiring import Settings

READY_S = 60.0
WATCH_EVERY_S = 0.5
DRAIN_S = 30.0
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Face:
    """How the API is to be reached. Several processes have the ports behind `port`, and HAProxy before them."""

    host: str = LOOPBACK
    port: int = 8080
    processes: int = 1
    tls_cert: Path | None = None
    tls_key: Path | None = None
    drain_s: float | None = None
    """How long running requests may go on at the end; None for the longest answer of the contract, or DRAIN_S if that is less."""

    @property
    def ports(self) -> range:
        """Those of the processes."""
        return range(self.port, self.port + 1) if self.processes == 1 else range(self.port + 1, self.port + 1 + self.processes)

    @property
    def url(self) -> str:
        return f"{'https' if self.tls_cert else 'http'}://{_bracketed(_shown(self.host))}:{self.port}"

    def require_free(self) -> None:
        """Raises SetupError where one of the ports is taken."""
        require_free(self.host, self.port)
        for port in self.ports:
            if port != self.port:
                require_free(LOOPBACK, port)


class Serving(Children):
    """The API's processes by their own address, and what stands before them."""

    def __init__(self, environ: dict[str, str], log: Path) -> None:
        super().__init__(environ, log)
        self.processes: dict[str, Child] = {}
        self.proxy: Child | None = None


def up(
    ctx: typer.Context,
    *,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = LOOPBACK,
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8080,
    processes: Annotated[
        int, typer.Option(min=1, max=64, help="API processes; several get HAProxy before them, and the ports behind --port.")
    ] = 1,
    tls_cert: Annotated[Path | None, typer.Option(help="TLS certificate with its chain, PEM; needs --tls-key.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key, PEM.")] = None,
    drain_s: Annotated[
        float | None,
        typer.Option(min=0, help="Seconds that running requests may go on at the end; else the longest answer's, at most 30."),
    ] = None,
) -> None:
    """Start everything and stay up until Ctrl-C, which stops it all."""
    from pilotis import wiring

    started = time.monotonic()
    if (tls_cert is None) != (tls_key is None):
        raise SetupError("a TLS certificate and its key go together", remedy="give both --tls-cert and --tls-key, or neither")
    face = Face(host=host, port=port, processes=processes, tls_cert=tls_cert, tls_key=tls_key, drain_s=drain_s)
    face.require_free()
    given, plan, env = session.load(output.options(ctx))
    with (
        interruptible(),
        wiring.stack(given, plan, env) as addresses,
        api(given, plan, env, addresses, face) as serving,
        workers.running(given, plan, env, addresses, all_day=True) as running,
    ):
        ready_s = time.monotonic() - started
        if output.options(ctx).json:
            output.print_json(_ready(face, ready_s, env, serving))
        else:
            _print_ready(face, ready_s, env, serving)
        stay(serving, running)


@contextmanager
def api(given: Settings, plan: Plan, env: Env, addresses: Addresses, face: Face) -> Iterator[Serving]:
    """The API as child processes, ready. Raises SetupError where they do not get ready."""
    from pilotis import wiring

    data = wiring.data_folder(given, plan, env)
    environ = wiring.child_environ(given, plan, env, addresses)
    drain_s = min(DRAIN_S, env.total_s) if face.drain_s is None else face.drain_s
    options = ["--drain-s", str(drain_s)]
    if face.processes == 1:
        options += ["--host", face.host]
        options += ["--tls-cert", str(face.tls_cert), "--tls-key", str(face.tls_key)] if face.tls_cert else []
    else:
        options += ["--host", LOOPBACK]
        environ["PILOTIS_TRUSTED_HOPS"] = str(env.trusted_hops + 1)
    with ExitStack() as opened:
        proxy = opened.enter_context(_before(face, env, drain_s, data)) if face.processes > 1 else None
        serving = opened.enter_context(Serving(environ, data / "logs" / "api.log"))
        for number, port in enumerate(face.ports, 1):
            name = "the API" if face.processes == 1 else f"API process {number}"
            child = serving.start(name, "pilotis.api", *options, "--port", str(port), grace_s=drain_s + GRACE_S)
            serving.processes[face.url if face.processes == 1 else f"http://{LOOPBACK}:{port}"] = child
        for url, child in serving.processes.items():
            wait_ready(serving, child, url)
        if proxy:
            serving.proxy = serving.run(proxy)
            wait_ready(serving, proxy, face.url)
        yield serving


def stay(*watched: Children | Workers) -> None:
    """Watch them until Ctrl-C or SIGTERM. Raises SetupError where one keeps dying."""
    try:
        while True:
            time.sleep(WATCH_EVERY_S)
            for children in watched:
                children.watch()
    except KeyboardInterrupt:
        output.note("stopping")


def wait_ready(children: Children, child: Child, url: str) -> None:
    """Until `/readyz` says so; raises SetupError with the reason where it never does."""
    deadline = time.monotonic() + READY_S
    state = "nothing answers"
    while time.monotonic() < deadline:
        if child.process is not None and child.process.poll() == -signal.SIGKILL:
            children.watch()  # killed by somebody, and not ended by its own trouble: it is started again
        if (words := children.failed_to_start(child)) is not None:
            raise SetupError(f"{child.name} did not start: {words}", remedy=f"see {children.log}")
        try:
            ready, state = _readiness(url)
        except OSError:
            ready = False
        if ready:
            return
        time.sleep(0.05)
    raise SetupError(f"{child.name} is not ready after {READY_S:.0f} s: {state}", remedy=f"see {children.log}")


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


@contextmanager
def _before(face: Face, env: Env, drain_s: float, data: Path) -> Iterator[Child]:
    """HAProxy, ready to be started on a port that stays open for as long as the block lasts."""
    from pilotis.embedded import haproxy

    front = haproxy.Front(
        port=face.port, ports=face.ports, total_s=env.total_s, drain_s=drain_s, tls_cert=face.tls_cert, tls_key=face.tls_key
    )
    family = socket.AF_INET6 if ":" in face.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((face.host, face.port))
        with haproxy.prepared(front, data, listening=listening.fileno()) as program:
            yield Child(
                "HAProxy",
                program.command,
                end_with=signal.SIGUSR1,
                grace_s=drain_s + GRACE_S,
                inherits=(listening.fileno(),),
                account=program.account,
            )


def _ready(face: Face, ready_s: float, env: Env, serving: Serving) -> dict[str, object]:
    processes = [{"pid": child.pid, "url": url, "metrics": f"{url}/metrics"} for url, child in serving.processes.items()]
    told: dict[str, object] = {"url": face.url, "ready_s": round(ready_s, 3), "env": env.name, "pid": os.getpid()}
    told["processes"] = processes
    if serving.proxy:
        told["proxy"] = {"pid": serving.proxy.pid}
    return told


def _print_ready(face: Face, ready_s: float, env: Env, serving: Serving) -> None:
    console = output.out()
    console.print(f"ready in {ready_s:.1f} s, env {env.name}", style="bold green")
    console.print(f"  API      {face.url}/v1/ask\n  docs     {face.url}/docs", markup=False)
    for url in serving.processes:
        console.print(f"  metrics  {url}/metrics", markup=False)
    console.print(f"  log      {serving.log}", markup=False)
    console.print("  a key    pilotis keys create NAME\nCtrl-C stops it all", style="dim", markup=False)


def _readiness(url: str) -> tuple[bool, str]:
    import json
    import ssl
    from http.client import HTTPConnection, HTTPException, HTTPSConnection

    scheme, _, place = url.partition("://")
    if scheme == "https":
        # Only whether it answers: the certificate names the service, and not the address we ask at.
        connection: HTTPConnection = HTTPSConnection(place, timeout=5, context=ssl._create_unverified_context())  # noqa: S323, SLF001
    else:
        connection = HTTPConnection(place, timeout=5)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        return response.status == 200, json.loads(response.read()).get("detail", "")
    except (HTTPException, ValueError) as error:
        return False, str(error)
    finally:
        connection.close()


def _shown(host: str) -> str:
    return {"0.0.0.0": LOOPBACK, "::": "::1"}.get(host, host)  # noqa: S104


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
