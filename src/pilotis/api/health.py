"""Is it alive, can it serve, what does it count: for load balancers and Prometheus, without a key."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from time import perf_counter
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from pilotis import __version__
from pilotis.api.problems import problem
from pilotis.errors import PilotisError
from pilotis.online.booking import gauge_budgets
from pilotis.ports import Deps

log = logging.getLogger("pilotis.api")
router = APIRouter(tags=["health"])

PROBE_S = 2.0
"""A part that takes longer than this to say it is there counts as away."""
FRESH_S = 0.2
"""For so long what was found is told again."""
SPARED = frozenset({"redis", "broker"})
"""Parts without which questions are answered all the same."""

_EXPOSITION: dict[int | str, dict[str, Any]] = {200: {"description": "Prometheus' text format", "content": {"text/plain": {}}}}

Look = TypeVar("Look")


@router.get("/healthz", summary="The process is alive")
async def healthz() -> dict[str, str]:
    return {"status": "ok", "version": __version__}


@router.get(
    "/readyz",
    summary="Whether to send requests here: the database and the model answer, and the process neither begins nor ends",
    responses={503: {"description": "Names what is away", "content": {"application/problem+json": {}}}},
)
async def readyz(request: Request) -> Response:
    """`degraded` is ready too: without Redis questions are answered, as long as they cost nothing that has to be budgeted; without
    the broker uploads wait in the database.
    """
    app = request.app.state
    if app.gate.phase == "draining":
        return _not_ready("the process is about to end")
    parts = await _shared(request, "parts", lambda: _parts(app.service.probes))
    away = [name for name, part in parts.items() if part["status"] != "ok"]
    if needed := [name for name in away if name not in SPARED]:
        return _not_ready(f"away: {', '.join(needed)}", parts=parts)
    if app.gate.phase == "warming":
        return _not_ready("warming up", parts=parts)
    return JSONResponse({"status": "degraded" if away else "ready", "parts": parts})


@router.get("/metrics", summary="Metrics of this process, for Prometheus", response_class=Response, responses=_EXPOSITION)
async def metrics(request: Request) -> Response:
    app = request.app.state
    app.service.deps.meter.gauge("rag_in_flight", app.gate.inside)
    deps: Deps = app.service.deps
    await _shared(request, "queues", lambda: _gauge_queues(deps, app.gauged))
    await _shared(request, "budgets", lambda: gauge_budgets(deps.outbox, deps.meter, app.budgeted))
    return Response(app.service.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _not_ready(detail: str, **members: Any) -> Response:
    return problem(503, "not_ready", detail, headers={"retry-after": "1"}, **members)


async def _shared(request: Request, name: str, look: Callable[[], Coroutine[Any, Any, Look]]) -> Look:
    """One look for all who ask within FRESH_S: these pages take no key, and a flood of probes must cost no more than one."""
    looks: dict[str, tuple[float, asyncio.Task[Look]]] = request.app.state.looks
    now = asyncio.get_running_loop().time()
    since, task = looks.get(name, (-FRESH_S, None))
    if task is None or (task.done() and now - since >= FRESH_S) or task.get_loop() is not asyncio.get_running_loop():
        since, task = looks[name] = now, asyncio.create_task(look())
    return await asyncio.shield(task)


async def _parts(probes: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    found = await asyncio.gather(*(_probe(name, probe) for name, probe in probes.items()))
    return dict(zip(probes, found, strict=True))


async def _probe(name: str, probe: Any) -> dict[str, Any]:
    started = perf_counter()
    try:
        async with asyncio.timeout(PROBE_S):
            await probe()
    except Exception as error:  # whatever keeps it from answering, it is away; strangers are not told why
        log.warning("%s is away: %s: %s", name, type(error).__name__, error)
        return {"status": "away"}
    return {"status": "ok", "ms": round((perf_counter() - started) * 1e3, 1)}


async def _gauge_queues(deps: Deps, seen: set[tuple[str, str]]) -> None:
    """`seen` keeps the business units that were ever shown: those for which nothing waits any more go to 0."""
    try:
        async with asyncio.timeout(PROBE_S):
            waiting = await deps.backlog.waiting()
    except (PilotisError, TimeoutError) as error:
        log.warning("queue depths are unknown: %s", error)
        return
    gone = seen - {(one.queue, one.bu) for one in waiting}
    figures: dict[tuple[str, str], tuple[float, float, bool]] = dict.fromkeys(gone, (0.0, 0.0, False))
    for one in waiting:
        waits = one.passages if one.queue == "embed" else one.documents
        figures[one.queue, one.bu] = waits, one.oldest_s, one.paused_until is not None
    for (queue, bu), (depth, oldest_s, is_paused) in figures.items():
        deps.meter.gauge("rag_queue_depth", depth, queue=queue, bu=bu)
        deps.meter.gauge("rag_queue_oldest_seconds", oldest_s, queue=queue, bu=bu)
        deps.meter.gauge("rag_queue_paused", is_paused, queue=queue, bu=bu)
    seen.update(figures)
