"""`pilotis keys`: API keys, each bound to a business unit; the secret is shown once."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from pilotis.cli import output, session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pilotis.derive.plan import Env, Plan
    from pilotis.ports import ApiKey, Deps


def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="What the key is for, to know it again.")] = "default",
) -> None:
    """Make a key for the business unit given by --bu, and show its secret, once."""
    options = output.options(ctx)

    async def work(deps: Deps, plan: Plan, env: Env) -> tuple[ApiKey, str]:  # noqa: ARG001
        return await deps.keys.create(options.bu, name)

    key, secret = session.run(options, work)
    if options.json:
        output.print_json(asdict(key) | {"secret": secret})
        return
    output.out().print(secret, markup=False)
    output.note(f"key {key.id} of business unit {key.bu!r}; this is the only time it is shown")


def list_keys(
    ctx: typer.Context, everyone: Annotated[bool, typer.Option("--all", help="Of every business unit.")] = False
) -> None:
    """Show the keys of a business unit, without their secrets."""
    options = output.options(ctx)

    async def work(deps: Deps, plan: Plan, env: Env) -> Sequence[ApiKey]:  # noqa: ARG001
        return await deps.keys.list(None if everyone else options.bu)

    keys = session.run(options, work)
    if options.json:
        output.print_json([asdict(key) for key in keys])
        return
    rows = [(k.id, k.bu, k.name, f"{k.prefix}…", f"{k.created_at:%Y-%m-%d %H:%M}", _when_revoked(k)) for k in keys]
    output.table(("id", "business unit", "name", "starts with", "created", "revoked"), rows)


def revoke(
    ctx: typer.Context, key_id: Annotated[str, typer.Argument(metavar="ID", help="As `pilotis keys list` shows it.")]
) -> None:
    """Revoke a key: the next request that carries it is refused."""
    options = output.options(ctx)

    async def work(deps: Deps, plan: Plan, env: Env) -> ApiKey:  # noqa: ARG001
        return await deps.keys.revoke(key_id)

    key = session.run(options, work)
    if options.json:
        output.print_json(asdict(key))
    else:
        output.out().print(f"revoked {key.id} ({key.name}, business unit {key.bu})", markup=False)


def _when_revoked(key: ApiKey) -> str:
    return f"{key.revoked_at:%Y-%m-%d %H:%M}" if key.revoked_at else ""
