"""One process at a time synchronises a source; one that dies loses it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pilotis.batch.sync_report import Report
from pilotis.derive.origin import Origin
from pilotis.errors import Conflict, Transient
from pilotis.ports import SourceItems

LEASE_S, HEARTBEAT_S = 12.0, 4.0
"""A process that dies loses its source after LEASE_S; one that lives renews the lease meanwhile."""
POLL_S = 0.5


async def lead(origin: Origin, items: SourceItems, *, holder: str, only_if_due: bool) -> bool:
    """Take the source. Raises Conflict where another process has it and lives; with `only_if_due` that is False, at once."""
    name = origin.name
    if only_if_due:
        return await items.lead(name, holder=holder, lease_s=LEASE_S, every_s=origin.every_s)
    ends = time.monotonic() + LEASE_S + HEARTBEAT_S
    while not await items.lead(name, holder=holder, lease_s=LEASE_S):
        if time.monotonic() >= ends:
            raise Conflict(f"another process synchronises source {name} now", remedy="wait for it; see: pilotis sync --status")
        await asyncio.sleep(POLL_S)
    return True


@asynccontextmanager
async def kept(name: str, items: SourceItems, report: Report, *, holder: str) -> AsyncIterator[None]:
    """Renew the lease while the block runs; a run whose source went to another process ends where it stands, by `report.error`."""

    async def beat() -> None:
        held_until = time.monotonic() + LEASE_S
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            try:
                if await items.renew(name, holder=holder, lease_s=LEASE_S):
                    held_until = time.monotonic() + LEASE_S
                    continue
            except Transient:
                if time.monotonic() < held_until:
                    continue
            report.error = "another process took it over"
            return

    beating = asyncio.create_task(beat())
    try:
        yield
    finally:
        beating.cancel()
