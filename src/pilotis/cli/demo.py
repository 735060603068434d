"""`pilotis demo`: Pilotis reads its own documentation, answers three questions about it, and stays up for yours."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pilotis.cli import output, up, workers
from pilotis.cli.ask import answer, print_sources
from pilotis.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pilotis.derive.plan import Env, Plan
    from pilotis.embedded import Addresses
    from pilotis.ports import Deps, State
    from pilotis.wiring import Settings

QUESTIONS = (
    "How is the cost of an answer computed?",
    "What happens to a document when a worker is killed?",
    "Comment créer une clé d'API ?",
)
COLLECTION = "pilotis-docs"
INDEXED_S = 120.0


def demo(
    ctx: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="Answer the three questions, then exit.")] = False,
    port: Annotated[int, typer.Option(help="Port of the API; a free one where it is taken.")] = 8080,
) -> None:
    """See it work: no key, no configuration, no network. Keeps its data apart from yours."""
    import asyncio

    from pilotis import wiring

    documentation()
    options = output.options(ctx)
    given = replace(output.settings(options), contract=options.contract, data=options.data or _own_folder())
    plan, env = wiring.load_plan(given)
    port = port if once else _free(port)
    with (
        up.interruptible(),
        wiring.stack(given, plan, env) as addresses,
        workers.running(given, plan, env, addresses) as running,
    ):
        secret = asyncio.run(_show(given, plan, env, addresses, bu=options.bu))
        if once:
            return
        with up.api(given, plan, env, addresses, up.Face(port=port)) as serving:
            _print_next(f"http://127.0.0.1:{port}", secret, wiring.data_folder(given, plan, env))
            up.stay(serving, running)


async def _show(given: Settings, plan: Plan, env: Env, addresses: Addresses, *, bu: str) -> str:
    from pilotis import wiring

    async with wiring.open_deps(given, plan, env, addresses=addresses) as deps:
        await _ingest(deps, env, bu)
        console = output.out()
        for question in QUESTIONS:
            console.print(f"\n? {question}", style="bold cyan", markup=False)
            print_sources(await answer(question, deps, plan, env, bu=bu, collection=COLLECTION))
        return await _key(deps, bu)


async def _ingest(deps: Deps, env: Env, bu: str) -> None:
    import asyncio

    from pilotis.batch import ingest

    folder = documentation()
    files = sorted(folder.rglob("*.md"))
    console = output.out()
    console.print(f"Reading Pilotis' own documentation: {len(files)} files", style="bold")
    ids = []
    for file in files:
        name = file.relative_to(folder).as_posix()
        document, _ = await ingest.receive(
            file, env, deps, bu=bu, collection=COLLECTION, name=name, media_type="text/markdown", metadata={}
        )
        ids.append(document.id)
    async with asyncio.timeout(INDEXED_S):
        counts = await _settled(deps, bu, ids)
    if counts.get("failed"):
        raise SetupError(f"{counts['failed']} of {len(ids)} files could not be read", remedy="run: pilotis doctor")
    passages = sum([(await deps.documents.get(bu, document_id)).passages for document_id in ids])
    console.print(f"{passages} passages, ready to be asked", style="dim")


async def _settled(deps: Deps, bu: str, ids: list[str]) -> Mapping[State, int]:
    import asyncio

    while True:  # the workers are other processes: only their rows can be waited for
        counts = await deps.documents.counts(bu, ids)
        if counts.get("indexed", 0) + counts.get("failed", 0) >= len(ids):
            return counts
        await asyncio.sleep(0.1)


async def _key(deps: Deps, bu: str) -> str:
    for key in await deps.keys.list(bu):
        if key.name == "demo" and key.revoked_at is None:
            await deps.keys.revoke(key.id)
    _, secret = await deps.keys.create(bu, "demo")
    return secret


def documentation() -> Path:
    """The folder of Pilotis' documentation: inside the package, or beside it in a source tree. Raises SetupError."""
    package = Path(__file__).parent.parent
    for folder in (package / "_docs", package.parent.parent / "docs"):
        if folder.is_dir() and any(folder.rglob("*.md")):
            return folder
    raise SetupError("Pilotis' documentation is not installed", remedy="install the wheel again")


def _print_next(url: str, secret: str, folder: Path) -> None:
    console = output.out()
    console.print("\nIt stays up. Try next:", style="bold green")
    console.print(
        f"  export KEY={secret}   (shown once)\n"
        f'  curl -s {url}/v1/ask -H "authorization: Bearer $KEY" \\\n'
        "    -H 'content-type: application/json' -d '{\"question\": \"What is a business unit?\"}'\n"
        f'  curl -s {url}/v1/documents -H "authorization: Bearer $KEY" -F file=@YOUR.pdf\n'
        f"  {url}/docs   all routes, with examples\n"
        f'  pilotis --data {folder} ask "…"   from another terminal\n'
        "  pilotis contract show   what was agreed, and what it costs",
        markup=False,
    )
    console.print("Ctrl-C stops it all", style="dim")


def _own_folder() -> Path:
    import platformdirs

    return platformdirs.user_data_path("pilotis") / "demo"


def _free(port: int) -> int:
    try:
        from pilotis.cli.port import require_free

        require_free("127.0.0.1", port)
    except SetupError as error:
        output.note(f"{error.message}; taking a free one")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])
    return port
