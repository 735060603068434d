"""`pilotis migrate`: bring the database's schema to this version, or say what is pending."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from pilotis.cli import output, session


def migrate(
    ctx: typer.Context,
    check: Annotated[bool, typer.Option("--check", help="Change nothing; exit 1 where migrations are pending.")] = False,
) -> None:
    """Bring the database's schema to this version. Safe to run twice, and twice at once."""
    import asyncio

    from pilotis import wiring

    options = output.options(ctx)
    given, plan, env = session.load(options)
    with wiring.stack(given, plan, env, prepare=False) as addresses:
        before = asyncio.run(wiring.migrate(addresses, check=check))
    if options.json:
        output.print_json(asdict(before) | {"applied": [] if check else list(before.pending)})
    elif not before.pending:
        output.out().print(f"schema {before.current}: nothing to do")
    else:
        verb = "pending" if check else "applied"
        output.out().print(
            f"schema {before.current or 'none'} → {before.head}: {verb} {', '.join(before.pending)}", markup=False
        )
    if check and before.pending:
        raise typer.Exit(1)
