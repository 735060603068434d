"""`pilotis cache`: what the caches hold and save, and how to empty them."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from pilotis.cli import output, session

if TYPE_CHECKING:
    from pilotis.derive.plan import Env, Plan
    from pilotis.ports import CacheStats, Deps

app = typer.Typer(help="Answers and search results that need not be paid twice.", no_args_is_help=True)

Everybody = Annotated[bool, typer.Option("--all", help="All business units instead of one.")]


@app.command(epilog="pilotis --bu sales cache stats")
def stats(ctx: typer.Context, everybody: Everybody = False) -> None:
    """Show what is kept for a business unit (--bu) or for all, how often it was used, and what that saved."""
    options = output.options(ctx)

    async def work(deps: Deps, _plan: Plan, _env: Env) -> CacheStats:
        return await deps.cache.stats(None if everybody else options.bu)

    found = session.run(options, work)
    asked = found.hits + found.misses
    if options.json:
        output.print_json(
            {"bu": None if everybody else options.bu, **asdict(found), "hit_rate": found.hits / asked if asked else None}
        )
        return
    rate = f"{found.hits / asked:.0%} of {asked:,}" if asked else "nothing was asked yet"
    output.table(
        ("", ""),
        [
            ("answers kept", f"{found.answers:,}"),
            ("search results kept", f"{found.passages:,}"),
            ("size", f"{found.bytes / 1e6:.1f} MB"),
            ("answered from the cache", rate),
            ("searches spared", f"{found.passage_hits:,}"),
            ("saved", output.euros(found.saved_eur)),
        ],
        title="all business units" if everybody else options.bu,
    )


@app.command(epilog="pilotis cache clear --all --yes")
def clear(
    ctx: typer.Context,
    everybody: Everybody = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before clearing for all.")] = False,
) -> None:
    """Forget what is kept for a business unit (--bu) or for all: the next questions are paid for again."""
    options = output.options(ctx)
    if everybody and not yes and not options.json:
        typer.confirm("Forget the cached answers of all business units?", abort=True)

    async def work(deps: Deps, _plan: Plan, _env: Env) -> int:
        return await deps.cache.clear(None if everybody else options.bu)

    removed = session.run(options, work)
    if options.json:
        output.print_json({"removed": removed})
    else:
        output.out().print(f"{removed:,} entries removed", markup=False)
