"""The HTTP face put together: routers, errors, compression, measures."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette_compress import CompressMiddleware, remove_compress_type

from pilotis import __version__
from pilotis.api import ask, docs, documents, health, problems, search
from pilotis.api.edge import CLOSED_BY_CLIENT, COUNTED, Edge

if TYPE_CHECKING:
    from starlette.types import Scope

    from pilotis.derive.plan import Env, Plan
    from pilotis.ports import Meter
    from pilotis.wiring import Service

KINDS = {"/v1/ask": "ask", "/v1/search": "search", "/v1/documents": "documents", "/v1/documents/{document_id}": "documents"}
"""The routes that count as requests; probes and scrapes do not."""

DESCRIPTION = """Answers questions from your documents, with their sources and their cost.

Errors are problem details (RFC 9457, `application/problem+json`) with a stable `code`. Amounts are strings holding exact euros."""


def create_app(plan: Plan, env: Env, service: Service) -> FastAPI:
    """The application of one env; whoever opened `service` closes it after the server has stopped."""
    app = FastAPI(
        title="Pilotis",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        middleware=[
            Middleware(Edge, measure=partial(_measure, service.deps.meter)),
            Middleware(CompressMiddleware, zstd_level=3),
        ],
        redirect_slashes=False,
    )
    remove_compress_type("text/event-stream")
    app.state.plan, app.state.env, app.state.service = plan, env, service
    problems.install(app)
    for module in (ask, search, documents, health, docs):
        app.include_router(module.router)
    return app


def _measure(meter: Meter, scope: Scope, status: int, seconds: float) -> None:
    kind = KINDS.get(getattr(scope.get("route"), "path", ""))
    if kind is None or scope.get(COUNTED):
        return
    outcome = "left" if status == CLOSED_BY_CLIENT else "ok" if status < 400 else "refused" if status < 500 else "failed"
    meter.count("rag_requests_total", kind=kind, outcome=outcome)
    meter.observe("rag_request_seconds", seconds, kind=kind)
