"""What was made from a document goes with it: the caches forget it, and a Redis that is away is told as soon as it is back."""

from __future__ import annotations

import asyncio
import logging

from pilotis.errors import PilotisError
from pilotis.ports import Cache, Documents

log = logging.getLogger(__name__)

EVERY_S = 2.0


async def keep_purging(documents: Documents, cache: Cache, *, every_s: float = EVERY_S) -> None:
    """Look for what was left undone, until cancelled. What fails is logged and tried again."""
    while True:
        try:
            await purge(documents, cache)
        except PilotisError as error:
            log.info("cached answers wait to be removed: %s", error.message)
        except Exception:  # the loop lasts for as long as the process lives
            log.exception("cached answers wait to be removed")
        await asyncio.sleep(every_s)


async def purge(documents: Documents, cache: Cache) -> int:
    """Forget what was made from documents that changed or went since; return how many documents that were. Twice does no harm.

    Raises Transient where Redis or Postgres is away: what is left is noted, and found by the next call of anybody.
    """
    done = 0
    while noted := await documents.to_purge():
        for bu in {bu for _, bu, _ in noted}:
            await cache.forget(bu, [document_id for _, owner, document_id in noted if owner == bu])
        await documents.purged([n for n, _, _ in noted])
        done += len(noted)
    return done
