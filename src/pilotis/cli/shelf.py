"""What the verbs about snapshots share: the archive opened, the servers there, and how a snapshot is shown."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from pilotis.cli import output, session
from pilotis.errors import Invalid

if TYPE_CHECKING:
    from pilotis.batch.manifest import Manifest, Owner
    from pilotis.derive.plan import Env, Plan
    from pilotis.embedded import Addresses
    from pilotis.ports import Blobs
    from pilotis.ports.archive import Archive, Dump

T = TypeVar("T")

At = Annotated[
    str | None,
    typer.Option(
        "--at",
        metavar="PLACE",
        help="Where snapshots live: a folder, or s3://bucket/prefix; else [envs.NAME.snapshot] of the contract.",
        show_default=False,
    ),
]
Name = Annotated[str, typer.Argument(metavar="[NAME]", help="Which one, as `list` names it.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What a verb works with."""

    archive: Archive
    dump: Dump
    blobs: Blobs
    owner: Owner
    plan: Plan
    env: Env
    addresses: Addresses
    """Empty where the verb needs no servers."""


def run(
    options: output.Options,
    at: str | None,
    work: Callable[[Opened], Awaitable[T]],
    *,
    servers: bool = True,
    prepare: bool = True,
) -> T:
    """Do `work` with the archive open and, with `servers`, Postgres and Redis there; with `prepare` also their schema, if new."""
    import asyncio
    from contextlib import nullcontext

    from pilotis import wiring
    from pilotis.adapters.archive import open_archive
    from pilotis.adapters.postgres import PostgresDump
    from pilotis.batch.manifest import Owner
    from pilotis.embedded import Addresses

    given, plan, env = session.load(options)
    archive = open_archive(place(at, env))
    nowhere = nullcontext(Addresses(database_url="", redis_url=""))
    with wiring.stack(given, plan, env, prepare=prepare) if servers else nowhere as addresses:

        async def opened() -> T:
            return await work(
                Opened(
                    archive=archive,
                    dump=PostgresDump(addresses.database_url),
                    blobs=wiring.open_blobs(given, plan, env),
                    owner=Owner(contract=plan.contract.name, env=env.name, digest=plan.digest),
                    plan=plan,
                    env=env,
                    addresses=addresses,
                )
            )

        return asyncio.run(opened())


def place(at: str | None, env: Env) -> str:
    """Where the snapshots live: as it was said, else as the contract says. Raises Invalid where neither does."""
    if at:
        return at
    if env.snapshot is None:
        raise Invalid(
            f"where the snapshots of env {env.name} live is not said",
            remedy=f"add --at FOLDER or --at s3://bucket/prefix, or [envs.{env.name}.snapshot] to the contract",
        )
    return env.snapshot.place


def document(made: Manifest) -> dict[str, Any]:
    """A snapshot as JSON tells it."""
    return {
        "name": made.name,
        "at": made.at,
        "contract": made.owner.contract,
        "env": made.owner.env,
        "schema": made.schema,
        "pilotis": made.pilotis,
        "bytes": made.bytes,
        "rows": {each.table.name: each.rows for each in made.tables},
        "files": made.blob_count,
        "ledger": {"events": made.ledger.events, "micro_eur": made.ledger.micro, "cost_eur": made.ledger.cost_eur},
        "missing": made.missing,
    }


def told(made: Manifest) -> str:
    """A snapshot in one line."""
    return (
        f"{made.rows('document'):,} documents, {made.rows('passage'):,} passages, {output.euros(made.ledger.cost_eur)} of costs, "
        f"{size(made.bytes)}"
    )


def size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
