"""`pilotis doctor --deep`: every store asked about itself and about the others."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pilotis.cli import output, session
from pilotis.cli.progress import Steps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pilotis.batch.checkup import Finding
    from pilotis.derive.plan import Env
    from pilotis.ports import Deps

STATES = {"ok": "green", "warning": "yellow", "error": "bold red"}


def look(options: output.Options) -> Sequence[Finding]:
    """One finding for each check. Raises PilotisError where a store is away."""
    import asyncio

    from pilotis import wiring
    from pilotis.adapters import postgres
    from pilotis.batch import checkup

    given, plan, env = session.load(options)
    with wiring.stack(given, plan, env) as addresses, Steps(quiet=options.json) as steps:

        async def looked() -> Sequence[Finding]:
            async with wiring.open_deps(given, plan, env, addresses=addresses, asks=False) as deps:
                pool = await postgres.open_pool(addresses.database_url)
                try:
                    inventory = postgres.PostgresInventory(pool)
                    found = [each async for each in checkup.look(inventory, deps.blobs, deps.cache, tell=steps.tell)]
                    return [*found, await _counters(deps, env)]
                finally:
                    await pool.close()

        return asyncio.run(looked())


def document(found: Sequence[Finding]) -> list[dict[str, Any]]:
    return [asdict(each) for each in found]


def show(found: Sequence[Finding]) -> None:
    """A table of what was looked at, and below it what is wrong and what to do."""
    console = output.out()
    rows = [(f"{each.count:,}", f"of {each.of:,}", each.about) for each in found]
    output.table(("found", "", "what was looked for"), rows)
    for each in found:
        if each.count:
            shown = ", ".join(each.examples) + (", …" if each.count > len(each.examples) else "")
            console.print(f"{each.count:,} {each.about}: {output.printable(shown)}", style=STATES[each.state], markup=False)
            console.print(f"→ {each.remedy}", markup=False)
    if not any(each.state == "error" for each in found):
        console.print("nothing is lost, left over or miscounted", style="bold green")


async def _counters(deps: Deps, env: Env) -> Finding:
    """The budgets' counters, which are not the batch plane's to judge."""
    from datetime import UTC, datetime

    from pilotis.batch.checkup import Finding
    from pilotis.online import booking
    from pilotis.online.audit import Page, audit

    async def no_pages() -> Sequence[Page]:
        return ()

    if not await deps.outbox.is_seeded():
        await booking.open_books(
            deps.outbox, deps.ledger, instance=deps.instance, zone=env.timezone, announce=deps.guards.announce
        )
    found = await audit(deps.outbox, deps.ledger, no_pages, now=datetime.now(UTC), zone=env.timezone)
    wrong = found.differences
    return Finding(
        check="counters_miscounted",
        about="counters of budgets that say another sum than the ledger",
        of=len(found.compared),
        count=len(wrong),
        examples=tuple(f"{each.place} {each.difference_eur:+.6f} €" for each in wrong[:5]),
        state="error" if wrong else "ok",
        remedy="see: pilotis cost audit" if wrong else "",
    )
