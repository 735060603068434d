"""`pilotis queue`: what waits to be indexed, what failed and why, and a person's own decision about it."""

from __future__ import annotations

import getpass
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from pilotis.cli import output, session
from pilotis.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pilotis.derive.plan import Env, Plan
    from pilotis.ports import Deps, Document, Pause, Waiting

app = typer.Typer(help="What waits to be indexed, and what failed: see, try again, give up, pause.", no_args_is_help=True)

PAGE = 500
UNTIL_RESUMED = 9999
"""The year of pauses that only `resume` ends."""


class QueueName(StrEnum):
    """A queue of the batch plane."""

    INGEST = "ingest"
    EMBED = "embed"


class Stage(StrEnum):
    """Which documents to list."""

    FAILED = "failed"
    RECEIVED = "received"
    PARSING = "parsing"
    EMBEDDING = "embedding"


EveryBu = Annotated[bool, typer.Option("--all-bus", help="All business units instead of the one of --bu.")]
Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Documents by their ids; see: pilotis queue list.")]
EveryOne = Annotated[bool, typer.Option("--all", help="All of them that failed, instead of those named.")]


@app.command(epilog="pilotis queue status --json")
def status(ctx: typer.Context) -> None:
    """Show what waits in each queue for each business unit, for how long, what rests, and how much has failed."""
    options = output.options(ctx)

    async def work(deps: Deps, _plan: Plan, _env: Env) -> tuple[Sequence[Waiting], Sequence[Pause]]:
        return await deps.backlog.waiting(), await deps.backlog.pauses()

    found, pauses = session.run(options, work)
    if options.json:
        output.print_json({"waiting": [asdict(one) for one in found], "pauses": [asdict(pause) for pause in pauses]})
        return
    for pause in pauses:
        whom = "all business units" if pause.bu == "*" else pause.bu
        output.out().print(f"{pause.queue} rests for {whom} {_until(pause.until)}: {pause.reason}", markup=False)
    if not found:
        output.out().print("nothing waits, nothing failed", markup=False)
        return
    rows = [(one.queue, one.bu, one.documents, one.passages or "", _age(one.oldest_s), _pause(one)) for one in found]
    output.table(("queue", "business unit", "documents", "passages", "oldest", "rests"), rows)
    if any(one.queue == "failed" for one in found):
        output.note("see why with: pilotis --bu UNIT queue list")


@app.command("list", epilog="pilotis --bu sales queue list --state embedding")
def list_documents(
    ctx: typer.Context,
    state: Annotated[Stage, typer.Option(help="Where they stand.")] = Stage.FAILED,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Documents to show.")] = 100,
) -> None:
    """List documents of one business unit (--bu) that failed or wait, with the step and the reason."""
    options = output.options(ctx)

    async def work(deps: Deps, _plan: Plan, _env: Env) -> Sequence[Document]:
        return await deps.documents.find(options.bu, state=state.value, limit=limit)

    found = session.run(options, work)
    if options.json:
        output.print_json([asdict(document) for document in found])
        return
    rows = [(one.id, one.collection, one.name, one.failed_in or one.state, one.attempts, one.error) for one in found]
    output.table(("id", "collection", "document", "step", "tries", "reason"), rows)
    if len(found) == limit:
        output.note(f"the newest {limit}; more with --limit")


@app.command(epilog="pilotis queue retry --all")
def retry(ctx: typer.Context, ids: Ids = None, everything: EveryOne = False, all_bus: EveryBu = False) -> None:
    """Let failed documents begin again: after the reason is gone, such as a model that was away or a file limit that was raised."""
    options = output.options(ctx)
    _require(ids, everything=everything)

    async def work(deps: Deps, _plan: Plan, _env: Env) -> int:
        again = await deps.backlog.retry(None if all_bus else options.bu, None if everything else ids)
        if again:
            await deps.queue.nudge("ingest")
        return again

    _told(session.run(options, work), "begin again", "retried", as_json=options.json)


@app.command(epilog="pilotis queue cancel ID")
def cancel(
    ctx: typer.Context, ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Documents by their ids.")]
) -> None:
    """Give up documents that wait or are being worked on. They count as failed; what they showed before stays found."""
    options = output.options(ctx)

    async def work(deps: Deps, _plan: Plan, _env: Env) -> int:
        return len(await deps.backlog.cancel(options.bu, ids, reason=f"cancelled by {getpass.getuser()}"))

    _told(session.run(options, work), "are given up", "cancelled", as_json=options.json)


@app.command(epilog="pilotis queue drop --all --yes")
def drop(
    ctx: typer.Context,
    ids: Ids = None,
    everything: EveryOne = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete failed documents of one business unit (--bu) for good, with what an older version of them still shows."""
    options = output.options(ctx)
    _require(ids, everything=everything)

    async def work(deps: Deps, _plan: Plan, _env: Env) -> int:
        from pilotis.batch.ingest import forget

        failed = await _failed(deps, options.bu, None if everything else ids)
        if failed and not yes:
            typer.confirm(f"Delete {len(failed)} documents of {options.bu!r} that failed?", abort=True, err=True)
        for document in failed:
            await forget(document.id, deps, bu=options.bu)
        return len(failed)

    _told(session.run(options, work), "are deleted", "dropped", as_json=options.json)


@app.command(epilog='pilotis queue pause embed --for 2h --reason "the provider changes our quota"')
def pause(
    ctx: typer.Context,
    queue: QueueName,
    reason: Annotated[str, typer.Option(help="Told to whoever asks why nothing moves.")] = "paused by hand",
    lasts: Annotated[str | None, typer.Option("--for", help="As 30m, 2h, 3d; until resumed where it is left out.")] = None,
    all_bus: EveryBu = False,
) -> None:
    """Let a queue rest for one business unit (--bu) or all. What is in hand is finished; documents are still received."""
    from pilotis.derive.keys import seconds

    options = output.options(ctx)
    until = datetime.now(UTC) + timedelta(seconds=seconds(lasts)) if lasts else None

    async def work(deps: Deps, _plan: Plan, _env: Env) -> None:
        from pilotis.ports import EVERYBODY

        await deps.backlog.pause(
            queue.value, EVERYBODY if all_bus else options.bu, until=until, reason=f"{reason} ({getpass.getuser()})"
        )

    session.run(options, work)
    whom = "all business units" if all_bus else options.bu
    ends = f"until {until:%Y-%m-%d %H:%M} UTC" if until else "until: pilotis queue resume"
    if options.json:
        output.print_json({"queue": queue.value, "bu": None if all_bus else options.bu, "until": until})
    else:
        output.out().print(f"{queue.value} rests for {whom} {ends}", markup=False)


@app.command(epilog="pilotis queue resume")
def resume(
    ctx: typer.Context, queue: Annotated[QueueName | None, typer.Argument(help="One queue; both where it is left out.")] = None
) -> None:
    """End all pauses, of one queue or of both, for every business unit; also those of a spent budget, which is then asked again."""
    options = output.options(ctx)

    async def work(deps: Deps, _plan: Plan, _env: Env) -> int:
        ended = await deps.backlog.resume(queue.value if queue else None)
        await deps.queue.nudge("ingest")
        await deps.queue.nudge("embed")
        return ended

    _told(session.run(options, work), "pauses are over", "resumed", what="", as_json=options.json)


async def _failed(deps: Deps, bu: str, ids: Sequence[str] | None) -> list[Document]:
    found: list[Document] = []
    after: str | None = None
    while page := await deps.documents.find(bu, state="failed", limit=PAGE, after=after):
        found += [document for document in page if ids is None or document.id in ids]
        after = page[-1].id
    return found


def _require(ids: Sequence[str] | None, *, everything: bool) -> None:
    if bool(ids) == everything:
        raise Invalid(
            "neither documents nor --all" if not ids else "documents and --all at once", remedy="name documents, or say --all"
        )


def _told(count: int, did: str, name: str, *, as_json: bool, what: str = "documents ") -> None:
    if as_json:
        output.print_json({name: count})
    else:
        output.out().print(f"{count} {what}{did}", markup=False)


def _pause(one: Waiting) -> str:
    if one.paused_until is None:
        return ""
    return f"{_until(one.paused_until)}: {one.reason}"


def _until(moment: datetime) -> str:
    return "until resumed" if moment.year >= UNTIL_RESUMED else f"until {moment:%Y-%m-%d %H:%M:%S} UTC"


def _age(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
