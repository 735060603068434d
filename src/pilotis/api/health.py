"""Is it alive, can it serve, what does it count: for load balancers and Prometheus, without a key."""

from __future__ import annotations

import asyncio
import logging
from time import perf_counter
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from pilotis import __version__
from pilotis.api.problems import problem
from pilotis.errors import PilotisError
from pilotis.ports import Deps

log = logging.getLogger("pilotis.api")
router = APIRouter(tags=["health"])

PROBE_S = 2.0
"""A part that takes longer than this to say it is there counts as away."""


@router.get("/healthz", summary="The process is alive")
async def healthz() -> dict[str, str]:
    return {"status": "ok", "version": __version__}


@router.get("/readyz", summary="Database, queue and model answer", responses={503: {"description": "Names what is away"}})
async def readyz(request: Request) -> Response:
    probes = request.app.state.service.probes
    names = list(probes)
    found = await asyncio.gather(*(_probe(name, probes[name]) for name in names))
    parts: dict[str, dict[str, Any]] = dict(zip(names, found, strict=True))
    away = [name for name, part in parts.items() if part["status"] != "ok"]
    if away:
        return problem(503, "not_ready", f"away: {', '.join(away)}", headers={"retry-after": "1"}, parts=parts)
    return JSONResponse({"status": "ready", "parts": parts})


@router.get("/metrics", summary="Metrics of this process, for Prometheus", response_class=Response)
async def metrics(request: Request) -> Response:
    service = request.app.state.service
    await _gauge_queues(service.deps)
    return Response(service.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def _probe(name: str, probe: Any) -> dict[str, Any]:
    started = perf_counter()
    try:
        async with asyncio.timeout(PROBE_S):
            await probe()
    except Exception as error:  # whatever keeps it from answering, it is away; strangers are not told why
        log.warning("%s is away: %s: %s", name, type(error).__name__, error)
        return {"status": "away"}
    return {"status": "ok", "ms": round((perf_counter() - started) * 1e3, 1)}


async def _gauge_queues(deps: Deps) -> None:
    try:
        async with asyncio.timeout(PROBE_S):
            waiting = await deps.documents.waiting()
    except (PilotisError, TimeoutError) as error:
        log.warning("queue depths are unknown: %s", error)
        return
    for queue, depth in waiting.items():
        deps.meter.gauge("rag_queue_depth", depth, queue=queue)
