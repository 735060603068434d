"""An index generation that is switched to while requests come: who asks from then on is served from it, and nobody waits."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from pilotis.errors import PilotisError

if TYPE_CHECKING:
    from fastapi import FastAPI

log = logging.getLogger("pilotis.api")

EVERY_S = 0.5
"""How long after a switch a process may still search the index of before, which is kept."""


async def follow(app: FastAPI) -> None:
    """Look again and again which index is searched, until cancelled. Routes read `env` and `service` without a pause between."""
    while True:
        await asyncio.sleep(EVERY_S)
        try:
            service = await app.state.service.switched()
        except PilotisError as error:
            log.warning("which index is searched is unknown: %s", error.message)
            continue
        if service is not None:
            app.state.plan, app.state.env, app.state.service = service.plan, service.env, service
            log.info("index generation %d is searched from now on", service.deps.generation.id)
