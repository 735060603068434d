"""The spans of the stages of one request: one each, however often a stage is entered."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from contextvars import Token

from pilotis.ports import trace
from pilotis.ports.trace import Span, Value


class Stages:
    """Children of the span under which this was made. Where nobody looks, a stage costs one comparison."""

    __slots__ = ("_left_ns", "_parent", "_spans")

    def __init__(self) -> None:
        self._parent = trace.current()
        self._spans: dict[str, Span] = {}
        self._left_ns: dict[str, int] = {}

    def enter(self, name: str) -> Token[Span] | None:
        """Begin the stage, or go on with it: what is traced until `leave` belongs to it."""
        if not self._parent.is_traced:
            return None
        span = self._spans.get(name)
        if span is None:
            span = self._spans[name] = self._parent.child(name)
        return trace.enter(span)

    def leave(self, name: str, token: Token[Span] | None) -> None:
        if token is not None:
            with suppress(ValueError):  # left in another context than entered: that one is gone, and its current span with it
                trace.leave(token)
            self._left_ns[name] = time.time_ns()

    def note(self, attributes: Mapping[str, Value]) -> None:
        """Something of the request as a whole."""
        self._parent.root.note(attributes)

    def end(self) -> None:
        """Each stage ended when it was last left."""
        for name, span in self._spans.items():
            span.end(at_ns=self._left_ns.get(name))
        self._spans.clear()
