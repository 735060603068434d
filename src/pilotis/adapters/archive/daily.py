"""The daily snapshot of an env, for whoever runs all day."""

from __future__ import annotations

from datetime import UTC, datetime

from pilotis.adapters.archive import open_archive
from pilotis.adapters.postgres import PostgresDump
from pilotis.batch.manifest import Manifest, Owner
from pilotis.batch.retention import Keep, create_if_due
from pilotis.derive.plan import Env, Plan
from pilotis.ports import Blobs


async def snapshot_if_due(plan: Plan, env: Env, *, database_url: str, blobs: Blobs) -> Manifest | None:
    """Take today's snapshot and remove old ones where the contract asks for that, it is time, and nobody has done so; None else.

    Call it every minute, from as many processes as there are. Raises Transient where a store is away, SetupError where the place of
    the snapshots refuses.
    """
    agreed = env.snapshot
    if agreed is None:
        return None
    return await create_if_due(
        open_archive(agreed.place),
        PostgresDump(database_url),
        blobs,
        Owner(contract=plan.contract.name, env=env.name, digest=plan.digest),
        hour=agreed.hour,
        zone=env.timezone,
        keep=Keep(days=agreed.keep_days, months=agreed.keep_months),
        now=datetime.now(UTC),
    )
