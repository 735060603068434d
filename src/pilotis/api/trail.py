"""What one request leaves behind: the root of its trace, and one line in the log. Texts, secrets and addresses are in neither."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from time import perf_counter
from typing import TYPE_CHECKING

from pilotis.adapters import logs
from pilotis.api.access import BU, KEY
from pilotis.api.gate import PROBES
from pilotis.derive import genai
from pilotis.ports import trace
from pilotis.ports.trace import NOTHING, Span, SpanKind, Tracer, Value

if TYPE_CHECKING:
    from starlette.types import Scope

_CONTEXT = {b"traceparent": "traceparent", b"tracestate": "tracestate"}


class Trail:
    """The span of a request while it is served: what is noted in it, by whoever works for the request, goes to trace and log.

    `finish` it in the context that made it, whichever way the request ends.
    """

    __slots__ = ("_notes", "_scope", "_span", "_started", "_token", "_with_names", "is_traced", "trace_id")

    def __init__(self, scope: Scope, tracer: Tracer | None = None) -> None:
        self._scope = scope
        self._with_names = tracer is not None and tracer.with_content
        self._notes: dict[str, Value] = {}
        self._started = perf_counter()
        self._span = _begun(scope, tracer)
        self.is_traced = self._span.is_traced
        self.trace_id = self._span.trace_id
        self._token = trace.enter(self)

    def finish(self, status: int) -> None:
        """Write the line, and end the span."""
        trace.leave(self._token)
        route = getattr(self._scope.get("route"), "path", None)
        self._log(status, route)
        if self._span is not NOTHING:
            self._end(status, route)

    @property
    def ids(self) -> Mapping[str, str]:
        found = {"request_id": self._scope.get("request_id", "")}
        return found if self.trace_id is None else found | {"trace_id": self.trace_id}

    @property
    def root(self) -> Span:
        return self

    def child(self, name: str, *, kind: SpanKind = "internal", root: Span | None = None) -> Span:
        return self._span.child(name, kind=kind, root=root or self)

    def note(self, attributes: Mapping[str, Value]) -> None:
        self._notes.update(attributes)

    def content(self, attributes: Mapping[str, str]) -> None:
        self._span.content(attributes)

    def end(self, *, error: str | None = None, name: str | None = None, at_ns: int | None = None) -> None:
        """`finish` ends it."""

    def _log(self, status: int, route: str | None) -> None:
        scope, notes, failed = self._scope, self._notes, status >= 500
        if scope["path"] in PROBES:
            return
        logs.request(
            "request",
            {
                **self.ids,
                "bu": scope.get(BU),
                "key": scope.get(KEY),
                "method": scope["method"],
                "route": route or "none",
                "status": status,
                "ms": round((perf_counter() - self._started) * 1e3, 3),
                **{said: notes.get(name) for said, name in _SAID.items()},
            },
            logging.WARNING if failed else logging.INFO,
        )

    def _end(self, status: int, route: str | None) -> None:
        scope = self._scope
        bu = scope.get(BU)
        self._span.note(
            {
                **self._notes,
                genai.METHOD: scope["method"],
                genai.STATUS: status,
                genai.REQUEST_ID: scope.get("request_id", ""),
                **({genai.ROUTE: route} if route else {}),
                **({genai.BU: bu if self._with_names else genai.pseudonym(bu)} if bu else {}),
            }
        )
        error = str(self._notes.get(genai.CODE, status)) if status >= 500 else None
        self._span.end(name=f"{scope['method']} {route}" if route else None, error=error)


_SAID = {
    "cost_eur": genai.COST,
    "saved_eur": genai.SAVED,
    "step": genai.STEP,
    "cache": genai.CACHE,
    "outcome": genai.OUTCOME,
    "code": genai.CODE,
}
"""What the line says of what was noted."""


def _begun(scope: Scope, tracer: Tracer | None) -> Span:
    if tracer is None or scope["path"] in PROBES:
        return NOTHING
    headers = {_CONTEXT[name]: value.decode("latin-1") for name, value in scope["headers"] if name in _CONTEXT}
    return tracer.serve(scope["method"], headers)
