"""Traces: what a request did and when, for those who look for the reason of one slow or dear answer.

The span under which work is done now travels with the context of its task, so that neither planes nor adapters hand it on. Where
nothing is traced it is `NOTHING`, which does nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from types import MappingProxyType
from typing import Literal, Protocol

Value = str | bool | int | float
"""What an attribute may hold."""

SpanKind = Literal["internal", "server", "client"]


class Span(Protocol):
    """A piece of work with a beginning and an end, part of a trace."""

    @property
    def trace_id(self) -> str | None:
        """32 hexadecimal digits; None where there is no trace."""
        ...

    @property
    def ids(self) -> Mapping[str, str]:
        """What log lines say of where they belong: `request_id`, `trace_id`."""
        ...

    @property
    def is_traced(self) -> bool:
        """Whether anybody will see it: where not, a span costs nothing, and neither do its children."""
        ...

    @property
    def root(self) -> Span:
        """The span of the whole request."""
        ...

    def child(self, name: str, *, kind: SpanKind = "internal", root: Span | None = None) -> Span:
        """`root` is who answers for the whole request, where that is not this span's own root."""
        ...

    def note(self, attributes: Mapping[str, Value]) -> None:
        """Names are those of `derive.genai`. Never a question, a passage, an answer, a secret or an address."""
        ...

    def content(self, attributes: Mapping[str, str]) -> None:
        """What was asked and written: kept only where the operator wants texts in traces."""
        ...

    def end(self, *, error: str | None = None, name: str | None = None, at_ns: int | None = None) -> None:
        """Now, or at so many nanoseconds since 1970. `error` is its class or code, never its message; `name` is a better one."""
        ...


class Tracer(Protocol):
    """Begins the trace of a request, or goes on with that of its caller."""

    with_content: bool
    """Whether texts, and the names of business units, go into spans."""

    def serve(self, name: str, headers: Mapping[str, str]) -> Span:
        """`headers` holds what came of `traceparent` and `tracestate` (W3C Trace Context)."""
        ...

    async def close(self) -> None:
        """Send what is left, within a few seconds."""
        ...


class Untraced:
    """A span that nobody sees, and the tracer that makes no other."""

    trace_id = None
    ids: Mapping[str, str] = MappingProxyType({})
    is_traced = False
    with_content = False

    @property
    def root(self) -> Span:
        return self

    def child(self, name: str, *, kind: SpanKind = "internal", root: Span | None = None) -> Span:  # noqa: ARG002
        return self

    def serve(self, name: str, headers: Mapping[str, str]) -> Span:  # noqa: ARG002
        return self

    def note(self, attributes: Mapping[str, Value]) -> None:
        """Nothing to note it in."""

    def content(self, attributes: Mapping[str, str]) -> None:
        """Nothing to keep it in."""

    def end(self, *, error: str | None = None, name: str | None = None, at_ns: int | None = None) -> None:
        """It never began."""

    async def close(self) -> None:
        """Nothing to send."""


NOTHING = Untraced()

_current: ContextVar[Span] = ContextVar("pilotis.span", default=NOTHING)


def current() -> Span:
    """The span of what is being done in this context."""
    return _current.get()


def enter(span: Span) -> Token[Span]:
    """From now on this context works under `span`; give the token to `leave`, in the same context."""
    return _current.set(span)


def leave(token: Token[Span]) -> None:
    """Back to the span before."""
    _current.reset(token)


@contextmanager
def under(span: Span) -> Iterator[Span]:
    """Work under `span`, which stays open. Not around a `yield` of an asynchronous generator: each of its steps may run in another context."""
    token = enter(span)
    try:
        yield span
    finally:
        leave(token)
