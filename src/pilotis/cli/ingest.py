"""`pilotis ingest`: files and folders into the index, with progress, and a table of what failed and why."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pilotis.cli import output, session, workers
from pilotis.cli.files import Found, find
from pilotis.cli.progress import Progress
from pilotis.errors import PilotisError, Refused, SetupError, Transient

if TYPE_CHECKING:
    from pilotis.derive.plan import Env
    from pilotis.ports import Deps, Document, State

POLL_S = 0.2
MOST_WARNED = 20
TRIES = 4
"""How often a file is offered while database or disk have no room for it, and how many files in a row are given up so."""
PATIENCE_S = 60.0
"""How long the database may be away while documents are waited for."""
ASK_AFTER_S = 3.0
"""With nothing moving for so long, the documents are asked what they wait for, and again each time it has passed."""
STALLED_S = 300.0
"""With nothing moving for so long, something is wrong that waiting will not mend."""


@dataclass(slots=True)
class Tally:
    """What became of the files of one call."""

    total: int
    skipped: int
    failed: list[tuple[str, str]]
    fates: dict[str, int] = field(default_factory=lambda: {"new": 0, "changed": 0, "unchanged": 0})
    waiting: dict[str, str] = field(default_factory=dict)
    """Id -> name of each document that is stored and was not indexed then, also from an earlier call."""
    offered: int = 0
    finished: int = 0
    """How many were indexed already and did not change."""
    indexed: int = 0
    warnings: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """By name, of what was indexed by this call: what was left out or had to be guessed."""
    passages: int = 0
    began: float = field(default_factory=time.monotonic)

    def summary(self) -> dict[str, Any]:
        return {
            "indexed": self.indexed,
            **self.fates,
            "failed": [{"name": name, "reason": reason} for name, reason in sorted(self.failed)],
            "warnings": [{"name": name, "warnings": list(said)} for name, said in sorted(self.warnings.items())],
            "skipped": self.skipped,
            "passages": self.passages,
            "seconds": round(time.monotonic() - self.began, 1),
        }


def ingest(
    ctx: typer.Context,
    paths: Annotated[list[str], typer.Argument(help="Files, folders or quoted globs.", metavar="PATH...")],
    collection: Annotated[str, typer.Option(help="Collection the documents go to.")] = "default",
    meta: Annotated[list[str] | None, typer.Option(help="Metadata to filter by later, as key=value; may be repeated.")] = None,
    include: Annotated[list[str] | None, typer.Option(help="Only names that match, as '*.md'; may be repeated.")] = None,
) -> None:
    """Read documents into the index; safe to stop and to run again: what did not change costs nothing.

    Exit code 1 if any file failed.
    """
    from pilotis import wiring
    from pilotis.batch.names import clean_collection, clean_metadata
    from pilotis.cli.up import interruptible

    options = output.options(ctx)
    where = {"bu": options.bu, "collection": clean_collection(collection), "metadata": clean_metadata(_pairs(meta or []))}
    found = find(paths, include or [])
    given, plan, env = session.load(options)
    tally = Tally(total=len(found.files), skipped=found.skipped, failed=list(found.faults))
    try:
        with interruptible(), wiring.stack(given, plan, env) as addresses:

            async def go(running: workers.Workers) -> None:
                async with wiring.open_deps(given, plan, env, addresses=addresses) as deps:
                    with Progress(tally.total, quiet=options.json) as progress:
                        await _journey(found, env, deps, tally, progress=progress, running=running, where=where)

            with workers.running(given, plan, env, addresses) as running:
                asyncio.run(go(running))
    except KeyboardInterrupt:
        left = len(tally.waiting) - tally.indexed
        output.note(
            f"stopped: {tally.offered} of {tally.total} files stored, {left} of them not indexed yet; run the same command to go on"
        )
        raise
    _report(tally, as_json=options.json)
    if tally.failed:
        raise typer.Exit(1)


async def _journey(
    found: Found, env: Env, deps: Deps, tally: Tally, *, progress: Progress, running: workers.Workers, where: Mapping[str, Any]
) -> None:
    storing = asyncio.create_task(_store(found, env, deps, tally, where))
    try:
        await wait(storing, deps, tally, progress=progress, running=running, bu=where["bu"])
    finally:
        storing.cancel()
    await collect(deps, tally, bu=where["bu"])


async def _store(found: Found, env: Env, deps: Deps, tally: Tally, where: Mapping[str, Any]) -> None:
    given_up = 0
    for path, name in found.files:
        try:
            document, changed = await _offer(path, name, env, deps, where)
        except (Refused, OSError) as error:
            tally.failed.append((name, _reason_of(error)))
            given_up = 0
        except Transient as error:
            tally.failed.append((name, _reason_of(error)))
            given_up += 1
            if given_up >= TRIES:
                raise
        else:
            tally.fates["unchanged" if not changed else "new" if document.indexed_at is None else "changed"] += 1
            if changed or document.state not in {"indexed", "failed"}:
                tally.waiting[document.id] = name
            else:
                tally.finished += 1
            given_up = 0
        tally.offered += 1


def _reason_of(error: PilotisError | OSError) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return f"{error.message}; {error.remedy}" if error.remedy else error.message


async def _offer(path: Path, name: str, env: Env, deps: Deps, where: Mapping[str, Any]) -> tuple[Document, bool]:
    from pilotis.adapters.kreuzberg import media_type
    from pilotis.batch.ingest import receive

    def head() -> bytes:
        with path.open("rb") as file:
            return file.read(8192)

    media = media_type(name, await asyncio.to_thread(head))
    for tried in range(1, TRIES + 1):
        try:
            return await receive(path, env, deps, name=name, media_type=media, **where)
        except Transient:
            if tried == TRIES:
                raise
            await asyncio.sleep(2.0**tried / 2)
    raise AssertionError("unreachable")


async def wait(
    storing: asyncio.Task[None], deps: Deps, tally: Tally, *, progress: Progress, running: workers.Watched, bu: str
) -> None:
    """Until every file is stored and every document indexed or failed. Raises Transient where nothing moves any more."""
    seen: object = None
    moved = asked = answered = time.monotonic()
    while True:
        stored = storing.done()
        try:
            counts = await deps.documents.counts(bu, list(tally.waiting)) if tally.waiting else {}
            depth = [(one.queue, one.bu, one.documents, one.passages) for one in await deps.backlog.waiting()]
        except Transient:
            if time.monotonic() - answered > PATIENCE_S:
                raise
        else:
            answered = time.monotonic()
            failed, left = counts.get("failed", 0), sum(counts.values())
            tally.indexed = counts.get("indexed", 0)
            progress.show(stored=tally.offered, indexed=tally.indexed + tally.finished, failed=failed + len(tally.failed))
            if stored:
                storing.result()
                if tally.indexed + failed >= left:  # those deleted meanwhile are in neither
                    return
            now = (tally.offered, counts, depth)
            if now != seen:
                seen, moved, asked = now, answered, answered
                progress.waits_for(None)
            elif answered - asked > ASK_AFTER_S:
                asked, reason = answered, await _reason(deps, tally, bu=bu)
                progress.waits_for(reason)
                if answered - moved > STALLED_S:
                    raise Transient(
                        f"{left - tally.indexed - failed} documents wait and nothing has moved for {STALLED_S:.0f} s"
                        + (f": {reason}" if reason else ""),
                        remedy=f"see {running.log}, or run: pilotis doctor; the same command goes on",
                    )
        running.watch()
        await asyncio.sleep(POLL_S)


async def _reason(deps: Deps, tally: Tally, *, bu: str) -> str | None:
    """What one of the documents waits for, where it says so."""
    states: tuple[State, ...] = ("embedding", "received")
    try:
        for state in states:
            for document in await deps.documents.find(bu, state=state):
                if document.error and document.id in tally.waiting:
                    return document.error
    except Transient as error:
        return error.message
    return None


async def collect(deps: Deps, tally: Tally, *, bu: str) -> None:
    from pilotis.errors import NotFound

    for document_id, name in tally.waiting.items():
        try:
            document = await deps.documents.get(bu, document_id)
        except NotFound:
            tally.failed.append((name, "deleted while it was being read"))
            continue
        if document.state == "failed":
            tally.failed.append((name, document.error or "no reason was recorded"))
        else:
            tally.passages += document.passages
            if document.warnings:
                tally.warnings[name] = document.warnings


def _report(tally: Tally, *, as_json: bool) -> None:
    summary = tally.summary()
    if as_json:
        output.print_json(summary)
        return
    if tally.failed:
        output.table(("failed", "why"), sorted(tally.failed))
    if tally.warnings:
        shown = sorted(tally.warnings.items())[:MOST_WARNED]
        output.table(("indexed, but", "what to know"), [(name, "; ".join(said)) for name, said in shown])
        if len(tally.warnings) > len(shown):
            output.out().print(f"… and {len(tally.warnings) - len(shown)} more documents with warnings: see --json")
    fates = ", ".join(f"{count} {fate}" for fate, count in tally.fates.items())
    skipped = f", {tally.skipped} skipped (not documents)" if tally.skipped else ""
    output.out().print(
        f"{fates}, {len(tally.failed)} failed{skipped}: {tally.indexed} documents indexed, {tally.passages} passages, "
        f"{summary['seconds']} s",
        style="bold",
    )


def _pairs(given: Sequence[str]) -> dict[str, str]:
    metadata = {}
    for pair in given:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise SetupError(f"--meta {pair!r} is not key=value", remedy="write it as --meta team=sales")
        metadata[key] = value
    return metadata
