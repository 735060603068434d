"""`pilotis snapshot`: everything that a lost disk would take, kept elsewhere, and checked."""

from __future__ import annotations

import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from pilotis.cli import drill, output, restore, shelf
from pilotis.cli.progress import Steps
from pilotis.cli.shelf import At, Name, Opened
from pilotis.errors import Transient

if TYPE_CHECKING:
    from pilotis.batch.manifest import Manifest
    from pilotis.batch.retention import Pruned
    from pilotis.batch.snapshot import Shelf, Verified

app = typer.Typer(
    help="Snapshots of everything: documents, passages, vectors, ledger, keys, and the original files.\n\n"
    "A snapshot is taken beside a running service, of one moment. It lives in a folder or a bucket (s3://bucket/prefix) and shares "
    "with its neighbours the files that did not change.",
    no_args_is_help=True,
)
app.command("restore", epilog=restore.EPILOG)(restore.restore)
app.command("drill", epilog=drill.EPILOG)(drill.drill)


@app.command(
    epilog=(
        "pilotis snapshot create --at /mnt/backup/pilotis\n\n"
        "pilotis snapshot create --at s3://backups/pilotis      with the extra `s3`\n\n"
    )
)
def create(ctx: typer.Context, at: At = None) -> None:
    """Take a snapshot, also while the service runs.

    Killed half-way it leaves nothing that counts as a snapshot. Exit code 1 where the bytes of a document were gone or damaged
    already: the snapshot is taken all the same, without them.
    """
    from pilotis.batch import snapshot

    options, began = output.options(ctx), time.monotonic()

    async def work(opened: Opened) -> Manifest:
        await _book(opened)
        with Steps(quiet=options.json) as steps:
            return await snapshot.create(
                opened.archive, opened.dump, opened.blobs, opened.owner, now=datetime.now(UTC), tell=steps.tell
            )

    made = shelf.run(options, at, work)
    seconds = time.monotonic() - began
    if options.json:
        output.print_json(shelf.document(made) | {"seconds": round(seconds, 3)})
    else:
        console = output.out()
        console.print(f"{made.name}  {shelf.told(made)}, in {seconds:.1f} s", markup=False)
        for digest in made.missing[:10]:
            console.print(f"without the bytes {digest}: they were gone or damaged already", style="red", markup=False)
        if made.missing:
            console.print(f"{len(made.missing)} files are missing → pilotis doctor --deep", style="red", markup=False)
    if made.missing:
        raise typer.Exit(1)


@app.command("list")
def list_snapshots(ctx: typer.Context, at: At = None) -> None:
    """Show the snapshots there are, oldest first."""
    from pilotis.batch import snapshot

    async def work(opened: Opened) -> Shelf:
        return await snapshot.shelf(opened.archive)

    found = shelf.run(output.options(ctx), at, work, servers=False)
    if output.options(ctx).json:
        shown = [shelf.document(made) for made in found.complete]
        output.print_json({"snapshots": shown, "unfinished": found.unfinished, "damaged": found.damaged})
        return
    rows = [
        (
            made.name,
            f"{made.owner.contract}/{made.owner.env}",
            made.schema,
            f"{made.rows('document'):,}",
            f"{made.rows('passage'):,}",
            output.euros(made.ledger.cost_eur),
            shelf.size(made.bytes),
        )
        for made in found.complete
    ]
    output.table(("name (UTC)", "of", "schema", "documents", "passages", "ledger", "size"), rows)
    for why in found.damaged.values():
        output.err().print(why, style="red", markup=False)
    if found.unfinished:
        output.note(f"{len(found.unfinished)} never finished, or are being taken just now: {', '.join(found.unfinished)}")


@app.command(
    epilog="pilotis snapshot verify --at /mnt/backup/pilotis\n\npilotis snapshot verify 20260714T030000Z --at s3://backups/pilotis"
)
def verify(ctx: typer.Context, name: Name = "latest", at: At = None) -> None:
    """Read a snapshot back, every byte of it, and compare digests, sizes and rows; exit 1 where it cannot be trusted."""
    from pilotis.batch import snapshot

    options = output.options(ctx)

    async def work(opened: Opened) -> tuple[Manifest, Verified]:
        made = await snapshot.find(opened.archive, name)
        with Steps(quiet=options.json) as steps:
            return made, await snapshot.verify(opened.archive, opened.dump, made, tell=steps.tell)

    made, found = shelf.run(options, at, work, servers=False)
    if options.json:
        output.print_json(
            {"name": made.name, "files": found.files, "bytes": found.bytes, "faults": found.faults, "missing": made.missing}
        )
    else:
        _print_verified(made, found)
    if found.faults:
        raise typer.Exit(1)


@app.command(
    epilog=(
        "pilotis snapshot prune --dry-run\n\n"
        "pilotis snapshot prune --at s3://backups/pilotis --keep-days 14 --keep-months 6\n\n"
    )
)
def prune(
    ctx: typer.Context,
    at: At = None,
    keep_days: Annotated[
        int | None,
        typer.Option(min=0, help="How many days keep their newest; else the contract's, else 7.", show_default=False),
    ] = None,
    keep_months: Annotated[
        int | None,
        typer.Option(min=0, help="How many months keep their newest; else the contract's, else 12.", show_default=False),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
) -> None:
    """Remove old snapshots of this contract's env, and files that no snapshot needs any more.

    The newest snapshot of each of the last days that have one stays, the newest of each of the last months too, and the newest of all
    always. Snapshots that never finished go after a day. Those of other contracts and envs in the same place stay, and damaged ones.
    """
    from pilotis.batch import retention

    options = output.options(ctx)

    async def work(opened: Opened) -> Pruned:
        agreed = opened.env.snapshot
        usual = retention.Keep(days=agreed.keep_days, months=agreed.keep_months) if agreed else retention.Keep()
        keep = retention.Keep(
            days=usual.days if keep_days is None else keep_days, months=usual.months if keep_months is None else keep_months
        )
        with Steps(quiet=options.json) as steps:
            return await retention.prune(
                opened.archive, opened.owner, keep, now=datetime.now(UTC), dry=dry_run, tell=steps.tell
            )

    done = shelf.run(options, at, work, servers=False)
    if options.json:
        output.print_json(asdict(done) | {"dry_run": dry_run})
        return
    went = "would go" if dry_run else "gone"
    console = output.out()
    for name in done.snapshots:
        console.print(f"{name}  {went}", markup=False)
    for name in done.unfinished:
        console.print(f"{name}  {went}: it never finished", markup=False)
    console.print(
        f"{len(done.snapshots)} snapshots and {done.files:,} files ({shelf.size(done.bytes)}) {went}, {len(done.kept)} snapshots stay",
        markup=False,
    )
    if done.hindrance:
        output.note(f"files of documents stay: {done.hindrance}")


async def _book(opened: Opened) -> None:
    """What is settled and not booked yet lies in Redis, which a snapshot does not hold: it goes to the ledger first."""
    from pilotis import wiring
    from pilotis.adapters import postgres
    from pilotis.adapters.redis import RedisMoney
    from pilotis.online.booking import book_all

    env, addresses = opened.env, opened.addresses
    money = RedisMoney(addresses.redis_url, env=env, namespace=wiring.namespace(opened.plan, env), instance="snapshot")
    pool = await postgres.open_pool(addresses.database_url)
    try:
        await book_all(money.outbox, postgres.PostgresLedger(pool, env=env.name, zone=env.timezone))
    except Transient as error:
        output.note(f"the latest costs may be missing: {error.message}")
    finally:
        await money.close()
        await pool.close()


def _print_verified(made: Manifest, found: Verified) -> None:
    console = output.out()
    for fault in found.faults:
        console.print(fault, style="red", markup=False)
    for digest in made.missing:
        console.print(f"without the bytes {digest}: they were gone when it was taken", style="yellow", markup=False)
    if found.faults:
        console.print(f"{made.name} cannot be trusted: {len(found.faults)} faults", style="bold red", markup=False)
    else:
        console.print(f"{made.name} is whole: {found.files:,} files, {shelf.size(found.bytes)}", style="green", markup=False)
