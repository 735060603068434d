"""`pilotis cost audit`: proves that ledger, budgets and metrics say the same, or names what does not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from pilotis.cli import output, session

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from pilotis.derive.plan import Env, Plan
    from pilotis.online.audit import Audit, Compared, Page
    from pilotis.ports import Deps

HERE = tuple(f"http://127.0.0.1:{port}/metrics" for port in range(8080, 8097))
"""Where `pilotis up` shows the metrics of its processes unless it is told otherwise."""

EPILOG = (
    "pilotis cost audit                                           beside a running `pilotis up`\n\n"
    "pilotis cost audit --metrics http://10.0.0.7:8080/metrics    once for each process\n\n"
    "pilotis cost audit --repair                                  make the budgets' counters anew from the ledger\n\n"
)


def audit(
    ctx: typer.Context,
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL", help="A process's /metrics; may be given again.", show_default="those of `pilotis up` here"
        ),
    ] = None,
    repair: Annotated[bool, typer.Option("--repair", help="First make the counters anew from the ledger.")] = False,
) -> None:
    """Compare the ledger with the budgets' counters and with the metrics of each process, to the micro-euro.

    The counters are those of the hour, the day and the month of now and of those before them, as far as Redis still has them. Exits
    with 1 where something disagrees. --repair asks nobody to stop: requests wait for the moment that it takes.
    """
    options = output.options(ctx)

    async def work(deps: Deps, plan: Plan, env: Env) -> Audit:
        from datetime import UTC, datetime

        from pilotis.online import booking
        from pilotis.online.audit import audit as compare

        if repair:
            await booking.book_all(deps.outbox, deps.ledger)
            await deps.outbox.unseed()
        if not await deps.outbox.is_seeded():
            output.note("the counters are made from the ledger")
            await booking.open_books(
                deps.outbox, deps.ledger, instance=deps.instance, zone=env.timezone, announce=deps.guards.announce
            )
        pages = await _reading(metrics, serves=(plan.contract.name, env.name))
        return await compare(deps.outbox, deps.ledger, pages, now=datetime.now(UTC), zone=env.timezone)

    found = session.run(options, work)
    if options.json:
        output.print_json(_document(found))
    else:
        _print(found)
    if found.differences:
        raise typer.Exit(1)


async def _reading(urls: Sequence[str] | None, *, serves: tuple[str, str]) -> Callable[[], Awaitable[Sequence[Page]]]:
    """A function that reads the pages anew: those named, else those found here of this contract and env."""
    import asyncio

    from pilotis.adapters.scrape import scrape

    chosen = list(urls or ())
    if not urls:
        looked = await asyncio.gather(*(scrape(url) for url in HERE), return_exceptions=True)
        chosen = [page.url for page in looked if not isinstance(page, BaseException) and page.serves == serves]
        if not chosen:
            output.note("no process of this contract and env shows its metrics here: name them with --metrics URL")

    async def pages() -> Sequence[Page]:
        read = await asyncio.gather(*(scrape(url) for url in chosen))
        return list({page.instance: page for page in read}.values())

    return pages


def _document(found: Audit) -> dict[str, Any]:
    return {
        "at": found.at,
        "agrees": not found.differences,
        "compared": [_record(one) for one in found.compared],
        "differences": [_record(one) for one in found.differences],
        "not_compared": dict(found.elsewhere),
    }


def _record(one: Compared) -> dict[str, Any]:
    return {
        "what": one.what,
        "place": one.place,
        "ledger_eur": one.ledger_eur,
        "other_eur": one.other_eur,
        "difference_eur": one.difference_eur,
        "moving": one.moving,
        "reason": one.reason or None,
    }


def _print(found: Audit) -> None:
    console = output.out()
    shown = [one for one in found.compared if one.reason or not one.place.startswith("key:")]
    rows = [
        (
            one.what,
            one.place,
            f"{one.ledger_eur:.6f}",
            f"{one.other_eur:.6f}",
            f"{one.difference_eur:+.6f}" if one.reason else "moving" if one.moving else "equal",
        )
        for one in shown
    ]
    output.table(("", "of", "ledger €", "there €", "difference"), rows)
    hidden = len(found.compared) - len(shown)
    if hidden:
        console.print(f"and {hidden} counters of API keys, all equal", style="dim")
    for instance, cost in sorted(found.elsewhere.items()):
        who = instance or "commands and workers without a name"
        console.print(
            f"not compared: {cost:.6f} € of {who}: its metrics were not read, or ended with it", style="dim", markup=False
        )
    for one in found.differences:
        console.print(f"{one.what} {one.place}: {one.difference_eur:+.6f} €: {one.reason}", style="red", markup=False)
    if not found.differences:
        console.print(f"{len(found.compared)} figures agree with the ledger to the micro-euro", style="bold green")
