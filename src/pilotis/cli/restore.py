"""`pilotis snapshot restore`: back to the moment of a snapshot."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from pilotis.cli import output, shelf
from pilotis.cli.progress import Steps
from pilotis.cli.shelf import At, Name, Opened
from pilotis.errors import Conflict, Permanent

if TYPE_CHECKING:
    from pilotis.batch.manifest import Manifest
    from pilotis.batch.restore import Restored
    from pilotis.ports.archive import Dump

EPILOG = (
    "pilotis --data ./new snapshot restore --at /mnt/backup/pilotis              into a data folder that is new\n\n"
    "pilotis snapshot restore 20260714T030000Z --at s3://backups/pilotis --yes   over what is there\n\n"
)


def restore(
    ctx: typer.Context,
    name: Name = "latest",
    at: At = None,
    yes: Annotated[bool, typer.Option("--yes", help="Replace what is there without asking.")] = False,
) -> None:
    """Bring back all that a snapshot holds, in the place of what there is. Stop `pilotis up` and the workers before.

    It happens wholly or not at all, also where this is killed. A snapshot of an older Pilotis is migrated. Cached answers are
    forgotten, and the budgets' counters are made anew from the ledger. What came after the snapshot is gone, also from the ledger.
    """
    from pilotis.batch import restore as road
    from pilotis.batch.snapshot import find

    options, began = output.options(ctx), time.monotonic()

    async def work(opened: Opened) -> Restored:
        made = await find(opened.archive, name)
        if (held := await _held(opened.dump)) and not yes:
            _confirm(options, opened, made, held)
        with Steps(quiet=options.json) as steps:
            return await road.restore(
                opened.archive, opened.dump, opened.blobs, made, forget=lambda: forget_caches(opened), tell=steps.tell
            )

    done = shelf.run(options, at, work, prepare=False)
    made, seconds = done.manifest, time.monotonic() - began
    if options.json:
        output.print_json(
            shelf.document(made) | {"rows_loaded": done.rows, "files_brought": done.blobs, "seconds": round(seconds, 3)}
        )
    else:
        brought = f"{done.blobs:,} of {made.blob_count:,} files had to be brought"
        output.out().print(f"{made.name} is back: {shelf.told(made)}; {brought}, in {seconds:.1f} s", markup=False)


async def _held(dump: Dump) -> str:
    """What would be lost, in words; empty where there is nothing."""
    try:
        found = await dump.standing()
    except Permanent as error:
        return error.message
    documents, keys = found.rows.get("document", 0), found.rows.get("api_key", 0)
    if not documents and not keys and not found.ledger.events:
        return ""
    return f"{documents:,} documents, {keys:,} API keys and {found.ledger.events:,} lines of the ledger"


def _confirm(options: output.Options, opened: Opened, made: Manifest, held: str) -> None:
    env = opened.env.name
    if options.json or not sys.stdin.isatty():
        raise Conflict(f"env {env} is not empty: {held}", remedy="add --yes to replace it")
    console = output.err()
    console.print(
        f"Env {env} of {opened.plan.contract.name} holds {held}. They are replaced by", style="bold red", markup=False
    )
    console.print(f"{made.name}, env {made.owner.env} of {made.owner.contract}: {shelf.told(made)}", markup=False)
    if typer.prompt("Type the env's name to go on", err=True) != env:
        raise typer.Abort


async def forget_caches(opened: Opened) -> None:
    """What Redis knows of a database that is replaced: cached answers, and the counters made from its ledger.

    Of every env of the contract: some may share the database, and each has caches of its own.
    """
    from pilotis import wiring
    from pilotis.adapters.redis import RedisMoney

    for env in opened.plan.envs.values():
        money = RedisMoney(
            opened.addresses.redis_url, env=env, namespace=wiring.namespace(opened.plan, env), instance="restore"
        )
        try:
            await money.cache.clear(None)
            await money.outbox.unseed()
        finally:
            await money.close()
