"""The sweeper: every half a minute it finds what was lost at any point, and does what is due.

Each step stands alone: one that fails is told and tried again at the next round, and holds up no other.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from pilotis.batch.generation import reclaim
from pilotis.batch.ingest import sweep
from pilotis.batch.purge import purge
from pilotis.derive.plan import Env, Plan
from pilotis.errors import PilotisError
from pilotis.ports import Deps

log = logging.getLogger(__name__)


async def keep_up(plan: Plan, env: Env, deps: Deps) -> bool:  # noqa: ARG001 - one form for all jobs
    """One round; False: the next comes by itself. Safe beside others of its kind."""
    for what, step in _steps(deps):
        try:
            await step()
        except PilotisError as error:
            log.warning("%s: %s; again at the next round", what, error.message)
    return False


def _steps(deps: Deps) -> tuple[tuple[str, Callable[[], Awaitable[object]]], ...]:
    return (
        ("bytes of uploads that died", lambda: sweep(deps)),
        ("documents whose last vector came as its worker died", lambda: deps.documents.publish(())),
        ("cached answers of documents that are gone", lambda: purge(deps.documents, deps.cache)),
        ("documents that nobody was woken for", lambda: _wake(deps)),
        ("requests of more than a month ago in the log of releases", deps.splits.trim),
        ("index generations that are kept no longer", lambda: reclaim(deps, now=datetime.now(UTC))),
    )


async def _wake(deps: Deps) -> None:
    for one in await deps.backlog.waiting():
        if one.queue != "failed" and one.paused_until is None:
            await deps.queue.nudge(one.queue)
