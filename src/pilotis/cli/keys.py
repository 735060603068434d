"""`pilotis keys`: API keys, each bound to a business unit; the secret is shown once."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pilotis.cli import output, session
from pilotis.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pilotis.derive.budget import Budget
    from pilotis.derive.plan import Env, Plan
    from pilotis.ports import ApiKey, Deps, Line


def create(  # noqa: PLR0917 - Typer calls it, by name
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="What the key is for, to know it again.")] = "default",
    rights: Annotated[
        str, typer.Option(help="What it may do: ask, ingest, admin, approve:ROLE; several with commas.")
    ] = "ask,ingest",
    expires: Annotated[
        str | None, typer.Option(metavar="WHEN", help="90d, 24h, or a day such as 2027-01-31.", show_default="never")
    ] = None,
    hour_eur: Annotated[str | None, typer.Option(metavar="EUR", help="The most it may spend in an hour.")] = None,
    day_eur: Annotated[str | None, typer.Option(metavar="EUR", help="The most it may spend in a day.")] = None,
    month_eur: Annotated[str | None, typer.Option(metavar="EUR", help="The most it may spend in a calendar month.")] = None,
    all_bus: Annotated[
        bool, typer.Option("--all-bus", help="An operator's key: it manages the keys of every business unit, and nothing else.")
    ] = False,
) -> None:
    """Make a key for the business unit given by --bu, and show its secret, once."""
    from pilotis.derive import keys as rules

    options = output.options(ctx)
    budget = _budget(hour_eur=hour_eur, day_eur=day_eur, month_eur=month_eur)
    wanted = frozenset(part.strip() for part in rights.split(",") if part.strip())

    async def work(deps: Deps, plan: Plan, env: Env) -> tuple[ApiKey, str]:  # noqa: ARG001
        return await deps.keys.create(
            rules.EVERY_BU if all_bus else options.bu,
            name,
            rights=frozenset({"admin"}) if all_bus else wanted,
            expires_at=rules.expiry(expires, now=datetime.now(UTC), zone=env.timezone) if expires else None,
            budget=budget,
        )

    _show_made(options, *session.run(options, work))


def list_keys(
    ctx: typer.Context, everyone: Annotated[bool, typer.Option("--all", help="Of every business unit.")] = False
) -> None:
    """Show the keys of a business unit, without their secrets, and what each asked and cost this month."""
    options = output.options(ctx)

    async def work(deps: Deps, plan: Plan, env: Env) -> tuple[Sequence[ApiKey], Mapping[str, Line]]:  # noqa: ARG001
        from pilotis.derive.budget import spans

        bu = None if everyone else options.bu
        *_, month = spans(datetime.now(UTC), env.timezone)
        lines = await deps.ledger.report(["key"], since=month.starts, bu=bu)
        return await deps.keys.list(bu), {line.key[0]: line for line in lines}

    keys, lines = session.run(options, work)
    if options.json:
        output.print_json([_document(key) | _spent(lines.get(key.id)) for key in keys])
        return
    columns = ("id", "business unit", "name", "starts with", "rights", "created", "ends", "requests", "this month", "of")
    output.table(columns, [_row(key, lines.get(key.id)) for key in keys])


def revoke(
    ctx: typer.Context, key_id: Annotated[str, typer.Argument(metavar="ID", help="As `pilotis keys list` shows it.")]
) -> None:
    """Revoke a key: the next request that carries it is refused."""
    options = output.options(ctx)

    async def work(deps: Deps, plan: Plan, env: Env) -> ApiKey:  # noqa: ARG001
        return await deps.keys.revoke(key_id)

    key = session.run(options, work)
    if options.json:
        output.print_json(_document(key))
    else:
        output.out().print(f"revoked {key.id} ({key.name}, business unit {key.bu})", markup=False)


def rotate(
    ctx: typer.Context,
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As `pilotis keys list` shows it.")],
    overlap: Annotated[
        str, typer.Option(metavar="TIME", help="For how long the old key stays good; 0s for not at all.")
    ] = "24h",
) -> None:
    """Make a key in the place of another: same name, rights and budget, and as long a life. Its secret is shown once."""
    from pilotis.derive.keys import seconds

    options = output.options(ctx)
    overlap_s = seconds(overlap)

    async def work(deps: Deps, plan: Plan, env: Env) -> tuple[ApiKey, str]:  # noqa: ARG001
        return await deps.keys.rotate(key_id, overlap_s=overlap_s)

    _show_made(options, *session.run(options, work))
    if not options.json:
        output.note(f"key {key_id} stays good for {overlap} more")


def _show_made(options: output.Options, key: ApiKey, secret: str) -> None:
    if options.json:
        output.print_json(_document(key) | {"secret": secret})
        return
    output.out().print(secret, markup=False)
    whose = "every business unit" if key.bu == "*" else f"business unit {key.bu!r}"
    until = f" until {key.expires_at:%Y-%m-%d %H:%M} UTC" if key.expires_at else ""
    may = ", ".join(sorted(key.rights))
    output.note(f"key {key.id} of {whose}, which may {may}{until}; this is the only time it is shown")


def _budget(**given: str | None) -> Budget | None:
    from pilotis.derive.budget import Budget

    try:
        limits = {name: Decimal(text) for name, text in given.items() if text is not None}
    except InvalidOperation:
        raise Invalid("a budget is not a number", remedy="write euros with a point: --day-eur 2.50") from None
    return Budget(**limits) if limits else None


def _document(key: ApiKey) -> dict[str, Any]:
    return asdict(key) | {"rights": sorted(key.rights)}


def _spent(line: Line | None) -> dict[str, Any]:
    return {"month": {"requests": line.requests if line else 0, "cost_eur": line.cost_eur if line else Decimal(0)}}


def _row(key: ApiKey, line: Line | None) -> tuple[str, ...]:
    limits = asdict(key.budget) if key.budget else {}
    return (
        key.id,
        key.bu,
        key.name,
        f"{key.prefix}…",
        ", ".join(sorted(key.rights)),
        f"{key.created_at:%Y-%m-%d %H:%M}",
        _end(key),
        str(line.requests if line else 0),
        output.euros(line.cost_eur if line else Decimal(0)),
        ", ".join(f"{amount} €/{name.removesuffix('_eur')}" for name, amount in limits.items() if amount is not None),
    )


def _end(key: ApiKey) -> str:
    if key.revoked_at:
        return f"revoked {key.revoked_at:%Y-%m-%d %H:%M}"
    if not key.expires_at:
        return ""
    past = key.expires_at <= datetime.now(UTC)
    return f"{'expired ' if past else ''}{key.expires_at.astimezone(UTC):%Y-%m-%d %H:%M}"
