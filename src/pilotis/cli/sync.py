"""`pilotis sync`: the sources of the contract into the index, and what became of each."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pilotis.cli import output, session, workers
from pilotis.cli.progress import Progress
from pilotis.errors import Conflict, SetupError

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from pilotis.batch.sync import Order
    from pilotis.batch.sync_report import Report
    from pilotis.cli.ingest import Tally
    from pilotis.derive.origin import Origin
    from pilotis.derive.plan import Env, Plan
    from pilotis.ports import Deps, Run
    from pilotis.wiring import Settings

POLL_S = 0.1
EPILOG = (
    "pilotis sync                             every source of the contract\n\n"
    "pilotis sync handbook --dry-run          what would be done\n\n"
    "pilotis sync handbook --allow-deletes    also where more than half of it is gone\n\n"
    "pilotis sync --status                    the last run of each, and when the next is due\n\n"
)


def sync(  # noqa: PLR0917 - Typer calls it, by name
    ctx: typer.Context,
    sources: Annotated[
        list[str] | None, typer.Argument(metavar="[SOURCE]...", help="Names of sources; all if left out.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Compare, and change nothing.")] = False,
    full: Annotated[bool, typer.Option("--full", help="Read every file again, changed or not, and retry what failed.")] = False,
    allow_deletes: Annotated[
        bool, typer.Option("--allow-deletes", help="Delete also where a source is empty or lacks more than half.")
    ] = False,
    status: Annotated[bool, typer.Option("--status", help="Show the last run of each source, and do nothing.")] = False,
) -> None:
    """Keep the index in step with the folders, buckets and web sites that the contract names as [sources.NAME].

    What did not change is not read again. What is gone is deleted, unless a source is suddenly empty or lacks more than half of what it
    brought. Safe to stop and to run again. Exit code 1 where something needs a look.
    """
    options = output.options(ctx)
    given, plan, env = session.load(options)
    if status:
        _show_status(plan, env, session.run(options, _runs), as_json=options.json)
        return
    from pilotis.batch.sync import Order

    orders = [
        Order(origin=origin, sources=tuple(plan.sources), full=full, dry_run=dry_run, allow_deletes=allow_deletes)
        for origin in _chosen(plan, env, sources or [])
    ]
    reports: list[Report] = []
    unread: list[tuple[str, str]] = []
    try:
        _run(orders, reports, unread, given=given, plan=plan, env=env, quiet=options.json)
    finally:
        _show(orders, reports, unread, as_json=options.json)
    if unread or not all(report.is_clean for report in reports):
        raise typer.Exit(1)


def _chosen(plan: Plan, env: Env, names: Sequence[str]) -> list[Origin]:
    origins = {origin.name: origin for origin in plan.sources_of(env.name)}
    if not origins:
        raise SetupError(
            f"the contract has no source of documents for {env.name}",
            remedy='add one: [sources.handbook] with kind = "folder" and path = "handbook"; see docs/sources.md',
        )
    unknown = [name for name in names if name not in origins]
    if unknown:
        raise SetupError(
            f"the contract has no source {unknown[0]!r} for {env.name}", remedy=f"name one of: {', '.join(origins)}"
        )
    return [origins[name] for name in dict.fromkeys(names)] or list(origins.values())


def _run(
    orders: Sequence[Order],
    reports: list[Report],
    unread: list[tuple[str, str]],
    *,
    given: Settings,
    plan: Plan,
    env: Env,
    quiet: bool,
) -> None:
    """Every source in turn. `reports` and `unread`, documents that could not be indexed, are filled on the way."""
    from contextlib import ExitStack

    from pilotis import wiring
    from pilotis.cli.up import interruptible

    with interruptible(), wiring.stack(given, plan, env) as addresses, ExitStack() as opened:
        log = workers.log_of(wiring.data_folder(given, plan, env))
        indexers = workers.Indexers(lambda: opened.enter_context(workers.running(given, plan, env, addresses)), log)

        async def go() -> None:
            async with wiring.open_deps(given, plan, env, addresses=addresses, asks=False) as deps:
                for order in orders:
                    await _one(order, env, deps, reports, unread, given=given, indexers=indexers, quiet=quiet)

        asyncio.run(go())


async def _one(
    order: Order,
    env: Env,
    deps: Deps,
    reports: list[Report],
    unread: list[tuple[str, str]],
    *,
    given: Settings,
    indexers: workers.Indexers,
    quiet: bool,
) -> None:
    """One source, and its documents until they are indexed."""
    from pilotis.adapters import kreuzberg, sources
    from pilotis.batch.sync import sync as synchronise
    from pilotis.batch.sync_report import Report
    from pilotis.cli import ingest

    report = Report(order.origin.name, dry_run=order.dry_run)
    reports.append(report)
    tally = ingest.Tally(total=0, skipped=0, failed=[])

    def stored(document_id: str, key: str) -> None:
        if not order.dry_run:
            indexers.begin()
            tally.waiting[document_id] = key

    if not quiet:
        output.note(f"{order.origin.name}: {order.origin.address}")
    opened, guess = sources.opener(given.contract), kreuzberg.media_type
    with Progress(0, quiet=quiet) as progress:
        going = synchronise(order, env, deps, open_source=opened, guess=guess, report=report, stored=stored)
        storing = asyncio.create_task(_watched(going, report, tally, progress))
        try:
            await ingest.wait(storing, deps, tally, progress=progress, running=indexers, bu=order.origin.bu)
        finally:
            storing.cancel()
            await asyncio.wait({storing})
    tally.failed.clear()
    await ingest.collect(deps, tally, bu=order.origin.bu)
    unread += [(f"{order.origin.name}: {name}", reason) for name, reason in tally.failed]


async def _watched(going: Coroutine[Any, Any, object], report: Report, tally: Tally, progress: Progress) -> None:
    """Let the tally that progress is made from tell how far a run is, until it ends."""
    run = asyncio.create_task(going)
    try:
        while not run.done():
            await asyncio.wait({run}, timeout=POLL_S)
            progress.expect(report.listed)
            tally.offered = report.compared
            tally.failed[:] = report.named.get("failed", [])
            tally.finished = max(0, tally.offered - len(tally.waiting) - len(tally.failed))
        await run
    except Conflict as error:
        report.error = f"{error.message}; {error.remedy}"
    finally:
        run.cancel()
        await asyncio.wait({run})


def _show(orders: Sequence[Order], reports: Sequence[Report], unread: Sequence[tuple[str, str]], *, as_json: bool) -> None:
    if as_json:
        failed = [{"name": name, "reason": reason} for name, reason in unread]
        output.print_json({"sources": [report.record() for report in reports], "not_indexed": failed})
        return
    for report in reports:
        changes = [
            (fate, name, remark)
            for fate in ("new", "changed", "moved", "deleted", "kept")
            for name, remark in (report.named.get(fate, []) if report.dry_run else [])
        ]
        if changes:
            output.table(("would be", "document", ""), changes, title=report.source)
        faults = [*report.unlisted, *report.named.get("failed", [])]
        if faults:
            output.table(("failed", "why"), faults, title=report.source)
            if report.counts["failed"] > len(report.named.get("failed", [])):
                output.note(f"and {report.counts['failed'] - len(report.named['failed'])} more")
    if unread:
        output.table(("not indexed", "why"), unread)
    columns = ("source", "new", "changed", "moved", "deleted", "same", "failed", "MB", "s")
    output.table(columns, [_row(report) for report in reports], title="nothing was changed" if _is_dry(orders) else None)
    for report in reports:
        _warn(report)


def _row(report: Report) -> tuple[object, ...]:
    counts = [report.counts[fate] for fate in ("new", "changed", "moved", "deleted", "unchanged", "failed")]
    return (report.source, *counts, f"{report.bytes / 1e6:.1f}", report.seconds)


def _is_dry(orders: Sequence[Order]) -> bool:
    return any(order.dry_run for order in orders)


def _warn(report: Report) -> None:
    if report.error:
        output.fail(f"{report.source}: {report.error}")
    if report.counts["skipped"]:
        output.note(f"{report.source}: {report.counts['skipped']} skipped (no documents, or excluded)")
    if report.left:
        output.note(f"{report.source}: {report.left} items wait for the next run")
    if report.counts["kept"]:
        output.note(f"{report.source}: {report.counts['kept']} are gone and stay: the documents were there before the source")
    if report.held_because:
        complete = not (report.error or report.left)
        output.fail(
            f"{report.source}: {report.held} documents are NOT deleted: {report.held_because}",
            f"if they are to go: pilotis sync {report.source} --allow-deletes" if complete else "run it again",
        )


async def _runs(deps: Deps, _plan: Plan, _env: Env) -> Sequence[Run]:
    return await deps.source_items.runs()


def _show_status(plan: Plan, env: Env, runs: Sequence[Run], *, as_json: bool) -> None:
    by_name = {run.source: run for run in runs}
    origins = {origin.name: origin for origin in plan.sources_of(env.name)}
    found = [_standing(name, origins.get(name), by_name.get(name)) for name in dict.fromkeys([*origins, *by_name])]
    if as_json:
        output.print_json({"sources": found})
        return
    if not found:
        output.note("the contract has no source of documents")
        return
    columns = ("source", "where", "every", "last run", "documents", "indexed", "failed", "next")
    output.table(columns, [_standing_row(standing) for standing in found])
    for standing in found:
        report = standing["report"] or {}
        if report.get("error"):
            output.note(f"{standing['source']}: {report['error']}")
        if report.get("held_because"):
            output.note(f"{standing['source']}: {report['held']} documents not deleted: {report['held_because']}")


def _standing(name: str, origin: Origin | None, run: Run | None) -> dict[str, Any]:
    from datetime import timedelta

    began = run.began_at if run else None
    due = began + timedelta(seconds=origin.every_s) if began and origin and origin.every_s else None
    documents = run.documents if run else {}
    return {
        "source": name,
        "in_contract": origin is not None,
        "kind": origin.kind if origin else None,
        "address": origin.address if origin else None,
        "every_s": origin.every_s if origin else None,
        "running": run.leads if run else False,
        "began_at": began,
        "finished_at": run.finished_at if run else None,
        "due_at": due,
        "documents": sum(documents.values()),
        "indexed": documents.get("indexed", 0),
        "failed": documents.get("failed", 0),
        "report": dict(run.report) if run else None,
    }


def _standing_row(standing: dict[str, Any]) -> tuple[object, ...]:
    every = standing["every_s"]
    last = "never" if standing["began_at"] is None else f"{standing['began_at']:%Y-%m-%d %H:%M}"
    if standing["running"]:
        last = f"{last}, running"
    elif standing["finished_at"] is None and standing["began_at"] is not None:
        last = f"{last}, did not end"
    return (
        standing["source"],
        standing["address"] or "not in the contract",
        f"{every / 3600:g} h" if every else "",
        last,
        standing["documents"],
        standing["indexed"],
        standing["failed"],
        f"{standing['due_at']:%Y-%m-%d %H:%M}" if standing["due_at"] else "now" if every else "",
    )
