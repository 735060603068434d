"""Traces by OpenTelemetry, sent to a collector over OTLP/HTTP. Imported only where a collector is named."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from opentelemetry import trace as api
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from pilotis import __version__
from pilotis.derive import genai
from pilotis.derive.plan import Env, Plan
from pilotis.ports.trace import NOTHING, Span, SpanKind, Value

SEND_EVERY_MS, SEND_S, MOST_WAITING, BATCH = 2_000, 3.0, 2_048, 512
"""A collector that is away costs spans, never a request: beyond so many that wait the oldest are dropped."""

CONTENT_CHARACTERS = 8_192
"""The most of one text that a trace keeps."""

_KINDS = {"internal": api.SpanKind.INTERNAL, "server": api.SpanKind.SERVER, "client": api.SpanKind.CLIENT}
_W3C = TraceContextTextMapPropagator()


class OtelTracer:
    """Samples by the caller's decision where it made one, else the env's share of all requests."""

    def __init__(self, plan: Plan, env: Env, *, endpoint: str, instance: str, with_content: bool = False) -> None:
        """`endpoint` is the collector's base address, as OTEL_EXPORTER_OTLP_ENDPOINT gives it; headers and certificates the SDK reads
        from its own variables.
        """
        self.with_content = with_content
        resource = Resource.create(
            {
                "service.name": f"pilotis-{plan.contract.name}",
                "service.version": __version__,
                "service.instance.id": instance,
                "deployment.environment.name": env.name,
            }
        )
        sampler = ParentBased(TraceIdRatioBased(env.trace_sampling))
        self._provider = TracerProvider(resource=resource, sampler=sampler, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=SEND_S)
        self._provider.add_span_processor(
            BatchSpanProcessor(
                exporter, max_queue_size=MOST_WAITING, schedule_delay_millis=SEND_EVERY_MS, max_export_batch_size=BATCH
            )
        )
        self._tracer = self._provider.get_tracer("pilotis")

    def serve(self, name: str, headers: Mapping[str, str]) -> Span:
        parent = _W3C.extract(headers) if headers else None
        span = self._tracer.start_span(name, context=parent, kind=api.SpanKind.SERVER)
        return OtelSpan(span, self._tracer, root=None, with_content=self.with_content)

    async def close(self) -> None:
        await asyncio.to_thread(self._provider.shutdown)


class OtelSpan:
    """A span of the SDK. One that is not sampled keeps its trace's id, for the log, and has no children."""

    __slots__ = ("_root", "_span", "_tracer", "_with_content", "is_traced", "trace_id")

    def __init__(self, span: api.Span, tracer: api.Tracer, *, root: Span | None, with_content: bool) -> None:
        self._span, self._tracer, self._root, self._with_content = span, tracer, root, with_content
        self.is_traced = span.is_recording()
        self.trace_id: str | None = format(span.get_span_context().trace_id, "032x")

    @property
    def ids(self) -> Mapping[str, str]:
        return self._root.ids if self._root else {"trace_id": self.trace_id or ""}

    @property
    def root(self) -> Span:
        return self._root or self

    def child(self, name: str, *, kind: SpanKind = "internal", root: Span | None = None) -> Span:
        if not self.is_traced:
            return NOTHING
        span = self._tracer.start_span(name, context=api.set_span_in_context(self._span), kind=_KINDS[kind])
        return OtelSpan(span, self._tracer, root=root or self.root, with_content=self._with_content)

    def note(self, attributes: Mapping[str, Value]) -> None:
        self._span.set_attributes(attributes)

    def content(self, attributes: Mapping[str, str]) -> None:
        if self._with_content and self.is_traced:
            self._span.set_attributes({name: text[:CONTENT_CHARACTERS] for name, text in attributes.items()})

    def end(self, *, error: str | None = None, name: str | None = None, at_ns: int | None = None) -> None:
        if name:
            self._span.update_name(name)
        if error:
            self._span.set_attribute(genai.ERROR, error)
            self._span.set_status(api.StatusCode.ERROR)
        self._span.end(end_time=at_ns)
