"""`pilotis bench`: what this machine serves."""

from __future__ import annotations

import ipaddress
import json
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from pilotis.cli import output
from pilotis.errors import Invalid, SetupError

if TYPE_CHECKING:
    from pilotis.cli.load import Target
    from pilotis.cli.output import Options
    from pilotis.derive.capacity import Capacity, Step

app = typer.Typer(help="Measure this machine.", no_args_is_help=True)

QUESTIONS = ("How is the cost of an answer computed?", "What happens when a worker is killed?", "Comment créer une clé d'API ?")
MOST_CALLERS = 256
WARM_UP = 6
"""Questions before the first step: they open pools and load the model."""


@app.command(
    epilog=(
        "pilotis up                                    in another terminal\n\n"
        "PILOTIS_KEY=... pilotis bench capacity        about a minute\n\n"
        "pilotis size --rps 120 --measured             what it means for 120 requests a second\n\n"
    )
)
def capacity(  # noqa: PLR0917 - Typer calls it, by name
    ctx: typer.Context,
    url: Annotated[str, typer.Option(help="The running service.")] = "http://127.0.0.1:8080",
    key: Annotated[
        str | None,
        typer.Option(envvar="PILOTIS_KEY", help="A key with the right to ask, of `pilotis keys create`.", show_default=False),
    ] = None,
    seconds: Annotated[float, typer.Option(min=1, max=300, help="Of each step; their number depends on the machine.")] = 10,
    question: Annotated[
        list[str] | None, typer.Option(help="What is asked, in turn; give some that your documents answer.", show_default=False)
    ] = None,
    max_eur: Annotated[float, typer.Option(min=0, help="What asking may cost in all.")] = 0,
    yes: Annotated[bool, typer.Option("--yes", help="Load another machine than this one.")] = False,
) -> None:
    """Load a running service until it serves no more, and keep how much that is for `pilotis size --measured`.

    1, 2, 4 and more callers ask, each again as soon as it is answered, until twice as many bring less than 5 % more answers. Each
    question is a new one, so that none is answered from the cache. Ends with an error where the answers together cost more than
    --max-eur, or a rate limit refuses one: measure with the env's own models replaced by `llm = "extractive"`, and without rates.
    """
    from pilotis.cli.load import Target

    options = output.options(ctx)
    place = address(url, elsewhere=yes)
    if not key:
        raise SetupError("a key is needed", remedy="make one with `pilotis keys create bench`, and set PILOTIS_KEY to it")
    target = Target(url=place, key=key, questions=tuple(question or QUESTIONS), nonce=_nonce(), max_eur=Decimal(str(max_eur)))
    found = _measure(target, seconds, options)
    kept = keep(options, found)
    if options.json:
        output.print_json(found.document() | {"spent_eur": target.spent_eur, "kept": kept})
    else:
        _show(found, kept)
        _note(options, found, target)


def address(url: str, *, elsewhere: bool) -> str:
    """Scheme, host and port of `url`. Raises Invalid for what is no address, and for another machine unless `elsewhere`."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    if not host or parts.scheme not in {"http", "https"} or parts.username is not None:
        raise Invalid(f"--url {url!r} is no address of a service", remedy="write --url http://127.0.0.1:8080")
    if not elsewhere and not _is_loopback(host):
        raise Invalid(
            f"{host} is not this machine, and a measurement loads it as much as it can bear",
            remedy="measure on the machine itself, or say that it may be loaded: --yes",
        )
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}" + (f":{port}" if port else "")


def file(options: Options) -> Path:
    """Where the measurement of this contract and env is kept."""
    from pilotis import wiring
    from pilotis.embedded.folder import locate

    given = output.settings(options)
    plan, env = wiring.load_plan(given)
    return locate(wiring.data_folder(given, plan, env)).capacity


def keep(options: Options, found: Capacity) -> Path:
    """Write it into the data folder, which is made where it is missing. Raises SetupError."""
    from pilotis.embedded import folder

    path = file(options)
    folder.write(folder.prepare(path.parent), path.name, json.dumps(found.document(), indent=2) + "\n")
    return path


def read(options: Options) -> Capacity:
    """The measurement that was kept. Raises SetupError where there is none, or it cannot be read."""
    from pilotis.derive.capacity import Capacity

    path, remedy = file(options), "measure: pilotis bench capacity"
    try:
        return Capacity.from_document(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise SetupError(f"nothing was measured for this contract and env: there is no {path}", remedy=remedy) from None
    except OSError as error:
        raise SetupError(f"{path} cannot be read: {error.strerror or error}", remedy=remedy) from error
    except (ValueError, KeyError, TypeError) as error:
        raise SetupError(f"{path} is no measurement of capacity: {error}", remedy=remedy) from error


def _measure(target: Target, seconds: float, options: Options) -> Capacity:
    from datetime import UTC, datetime

    from pilotis import __version__
    from pilotis.cli import load
    from pilotis.cli.progress import Steps
    from pilotis.derive.capacity import Capacity, grew

    with closing(target.connect()) as connection:
        answered = [bool(target.ask(connection).get("found")) for _ in range(WARM_UP)]
    steps: list[Step] = []
    with Steps(quiet=options.json) as shown:
        for callers in load.doubled(MOST_CALLERS):
            name = f"{callers} at once"
            steps.append(load.step(target, callers, seconds, lambda gone, name=name: shown.tell(name, int(gone), int(seconds))))  # type: ignore[misc]
            if not options.json:
                at = steps[-1]
                output.note(f"{name}: {at.rps:.1f} requests/s, p50 {at.p50_ms:.0f} ms, p95 {at.p95_ms:.0f} ms")
            if len(steps) > 1 and not grew(*steps[-2:]):
                break
    return Capacity(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        version=__version__,
        cores=_cores(),
        url=target.url,
        found=any(answered),
        steps=tuple(steps),
    )


def _show(found: Capacity, kept: Path) -> None:
    from pilotis.cli.cost_report import bar

    knee, most = found.knee, Decimal(str(max(step.rps for step in found.steps)))
    rows = [
        (
            *(step.callers, f"{step.rps:.1f}", f"{step.p50_ms:.1f}", f"{step.p95_ms:.1f}"),
            bar(Decimal(str(step.rps)), most) + (" ← knee" if step is knee else ""),
        )
        for step in found.steps
    ]
    output.table(("callers", "requests/s", "p50 ms", "p95 ms", ""), rows)
    console = output.out()
    console.print(
        f"L = lambda W: {knee.callers} at once / {knee.rps:.1f} requests/s = {knee.in_service_s * 1e3:.1f} ms in service",
        markup=False,
    )
    console.print(
        f"one vCPU of the API serves {found.rps_per_vcpu:f} requests/s, by {found.basis}; the machine has {found.cores}",
        markup=False,
    )
    if found.rps_per_process is not None:
        console.print(
            f"one process of it served at most {found.rps_per_process:.1f} requests/s, whatever vCPUs were free", markup=False
        )
    output.note(f"kept in {kept}; now: pilotis size --rps 120 --measured")


def _note(options: Options, found: Capacity, target: Target) -> None:
    from pilotis import wiring

    plan, _ = wiring.load_plan(output.settings(options))
    within = plan.contract.slo.p95_ms
    if within is not None and found.knee.p95_ms > within:
        output.note(f"at the knee 95 of 100 answers take {found.knee.p95_ms:.0f} ms, more than slo.p95_ms = {within}")
    if not found.found:
        output.note("nothing was found for these questions: ingest documents, and give --question that they answer")
    if target.spent_eur:
        output.note(f"the questions cost {output.euros(target.spent_eur)}")
    if len(found.steps) > 1 and found.steps[-1] is found.knee:
        output.note(f"the rate still grew at {MOST_CALLERS} callers: the machine serves more than this")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _cores() -> int:
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _nonce() -> str:
    import secrets

    return secrets.token_hex(3)
