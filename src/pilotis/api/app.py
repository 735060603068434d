"""The HTTP face put together: routers, errors, compression, measures."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette_compress import CompressMiddleware, remove_compress_type

from pilotis import __version__
from pilotis.api import admin, ask, chat, costs, docs, documents, feedback, health, keys, mcp, problems, search
from pilotis.api.dialect import OpenAIErrors
from pilotis.api.edge import CLOSED_BY_CLIENT, COUNTED, Edge
from pilotis.api.gate import Gate

if TYPE_CHECKING:
    from starlette.types import Scope

    from pilotis.derive.plan import Env, Plan
    from pilotis.ports import Meter
    from pilotis.service import Service

KINDS = {
    "/v1/ask": "ask",
    "/v1/chat/completions": "ask",
    "/v1/search": "search",
    "/v1/documents": "documents",
    "/v1/answers/{answer_id}/feedback": "feedback",
    "/v1/documents/{document_id}": "documents",
}
"""The routes that count as requests; probes and scrapes do not."""

DESCRIPTION = """Answers questions from your documents, with their sources and their cost.

Errors are problem details (RFC 9457, `application/problem+json`) with a stable `code`. Amounts are strings holding exact euros."""


def create_app(plan: Plan, env: Env, service: Service, *, gate: Gate | None = None) -> FastAPI:
    """The application of one env; whoever opened `service` closes it after the server has stopped.

    A server that drains or warms up does so by `gate`.
    """
    gate = gate or Gate(env.in_flight)
    meter = service.deps.meter
    app = FastAPI(
        title="Pilotis",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        middleware=[
            Middleware(OpenAIErrors),
            Middleware(
                Edge,
                gate=gate,
                hops=env.trusted_hops,
                measure=partial(_measure, meter),
                limited=lambda code: meter.count("rag_limited_total", code=code),
                tracer=service.tracer,
            ),
            Middleware(CompressMiddleware, zstd_level=3),
        ],
        redirect_slashes=False,
    )
    remove_compress_type("text/event-stream")
    app.state.plan, app.state.env, app.state.service, app.state.gate = plan, env, service, gate
    app.state.looks, app.state.gauged, app.state.budgeted = {}, set(), set()
    problems.install(app)
    chat.install(app)
    for module in (ask, chat, search, documents, feedback, costs, keys, admin, health, docs):
        app.include_router(module.router)
    app.router.routes.append(mcp.route)
    _describe(app)
    return app


def _describe(app: FastAPI) -> None:
    """Complete the OpenAPI page: a key may come as a bearer token too, and every error has the form of a problem."""
    plain = app.openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            page = plain()
            parts = page.setdefault("components", {})
            parts.setdefault("schemas", {})["Problem"] = problems.SCHEMA
            parts.setdefault("securitySchemes", {})["bearer"] = {"type": "http", "scheme": "bearer"}
            for operation in (operation for path in page["paths"].values() for operation in path.values()):
                if operation.get("security"):
                    operation["security"] = [{"bearer": []}, {"key": []}]
                for response in operation["responses"].values():
                    if (told := response.get("content", {}).get(problems.MEDIA_TYPE)) is not None:
                        told["schema"] = {"$ref": "#/components/schemas/Problem"}
        return app.openapi_schema or plain()

    app.openapi = described  # type: ignore[method-assign]  # as FastAPI's documentation has it


def _measure(meter: Meter, scope: Scope, status: int, seconds: float) -> None:
    kind = KINDS.get(getattr(scope.get("route"), "path", ""))
    if kind is None or scope.get(COUNTED):
        return
    outcome = "left" if status == CLOSED_BY_CLIENT else "ok" if status < 400 else "refused" if status < 500 else "failed"
    meter.count("rag_requests_total", kind=kind, outcome=outcome)
    meter.observe("rag_request_seconds", seconds, kind=kind)
