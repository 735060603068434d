"""Spans as a collector receives them: names, parentage, sampling, and no text."""

from __future__ import annotations

import asyncio
import gzip
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from pilotis.adapters.otel import OtelTracer
from pilotis.adapters.traced import TracedEmbedder, TracedGenerator, TracedReranker
from pilotis.api.access import BU
from pilotis.api.trail import Trail
from pilotis.contract.presets import default
from pilotis.derive import genai
from pilotis.derive.cost import Usage
from pilotis.derive.plan import derive
from pilotis.errors import Transient
from pilotis.online.stages import Stages
from pilotis.ports import trace
from pilotis.rag.prompt import Prompt
from pilotis.testing.online import HashingEmbedder, OverlapReranker, ScriptedGenerator

QUESTION = "How do I rotate the zebra?"
PROMPT = Prompt(version="v1", system="Answer from the passages.", user=QUESTION, tokens=12)
USAGE = Usage(model="gpt-x", provider="acme", input_tokens=12, output_tokens=7, cached_tokens=4, reasoning_tokens=3)
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"


class Collector(BaseHTTPRequestHandler):
    """Takes OTLP over HTTP."""

    received: ClassVar[list[tuple[str, bytes]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.received.append((self.path, gzip.decompress(body) if self.headers["content-encoding"] == "gzip" else body))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Not into the tests' output."""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _nothing_received() -> None:
    Collector.received.clear()


def _tracer(endpoint: str, *, sampling: float = 1.0, with_content: bool = False) -> OtelTracer:
    plan = derive(default())
    env = replace(plan.env("dev"), trace_sampling=sampling)
    return OtelTracer(plan, env, endpoint=endpoint, instance="i1", with_content=with_content)


def _spans() -> dict[str, Any]:
    """By name."""
    found: dict[str, Any] = {}
    for path, body in Collector.received:
        assert path == "/v1/traces"
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                found |= {span.name: span for span in scope.spans}
    return found


def _attributes(span: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in span.attributes}


def _scope(*headers: tuple[bytes, bytes], path: str = "/v1/ask") -> dict[str, Any]:
    return {"type": "http", "method": "POST", "path": path, "headers": list(headers), "request_id": "r1"}


class Route:
    path = "/v1/ask"


@contextmanager
def _trail(scope: dict[str, Any], tracer: OtelTracer | None) -> Iterator[tuple[Trail, list[int]]]:
    """A trail that ends with the last status put into the list, else 200."""
    trail, status = Trail(scope, tracer), [200]
    try:
        yield trail, status
    finally:
        trail.finish(status[-1])


async def _ask(tracer: OtelTracer, scope: dict[str, Any], *, failing: bool = False) -> str | None:
    """What the edge, the road and the models do of a request, as far as traces are concerned."""
    with _trail(scope, tracer) as (trail, status):
        scope["route"], scope[BU] = Route(), "sales"
        stages = Stages()
        token = stages.enter("embed")
        await TracedEmbedder(HashingEmbedder(), "local").embed([QUESTION])
        stages.leave("embed", token)
        token = stages.enter("rerank")
        await TracedReranker(OverlapReranker(), "acme").rerank(QUESTION, ["one", "two"])
        stages.leave("rerank", token)
        broken: Sequence[Any] = (Transient("the model is away: secret.host:80"),) if failing else ()
        stream = TracedGenerator(
            ScriptedGenerator("The ", "zebra ", "turns.", *broken, usage=USAGE, model="gpt-x", provider="acme")
        )
        try:
            async for _ in _in_steps(stream.generate(PROMPT, max_tokens=99), stages):
                pass
            status.append(200)
        except Transient:
            trace.current().note({genai.CODE: "away"})
            status.append(503)
        trace.current().root.note({genai.COST: 0.0165, genai.STEP: "full"})
        stages.end()
    return trail.trace_id


async def _in_steps(stream: AsyncIterator[str | Usage], stages: Stages) -> AsyncIterator[str | Usage]:
    """Each step under the stage, in a context of its own, as where a server iterates a stream."""
    while True:

        async def step() -> str | Usage | None:
            token = stages.enter("generate")
            try:
                return await anext(stream, None)
            finally:
                stages.leave("generate", token)

        item = await asyncio.create_task(step())
        if item is None:
            return
        yield item


async def test_a_request_is_a_tree_of_spans(endpoint: str) -> None:
    tracer = _tracer(endpoint)
    trace_id = await _ask(tracer, _scope((b"traceparent", f"{CALLER}-01".encode())))
    await tracer.close()
    spans = _spans()
    tree = {
        "POST /v1/ask": None,
        "embed": "POST /v1/ask",
        "rerank": "POST /v1/ask",
        "generate": "POST /v1/ask",
        "embeddings hashing": "embed",
        "rerank overlap": "rerank",
        "chat gpt-x": "generate",
    }
    assert spans.keys() == tree.keys()
    for name, parent in tree.items():
        wanted = spans[parent].span_id.hex() if parent else "b7ad6b7169203331"
        assert spans[name].parent_span_id.hex() == wanted, name
        assert spans[name].trace_id.hex() == trace_id == "0af7651916cd43dd8448eb211c80319c"
        if parent:
            assert spans[parent].start_time_unix_nano <= spans[name].start_time_unix_nano
            assert spans[name].end_time_unix_nano <= spans[parent].end_time_unix_nano + 1_000_000


async def test_attributes_have_the_pinned_names(endpoint: str) -> None:
    tracer = _tracer(endpoint)
    await _ask(tracer, _scope())
    await tracer.close()
    spans = _spans()
    assert _attributes(spans["chat gpt-x"]) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "acme",
        "gen_ai.request.model": "gpt-x",
        "gen_ai.request.max_tokens": 99,
        "gen_ai.response.model": "gpt-x",
        "gen_ai.usage.input_tokens": 12,
        "gen_ai.usage.output_tokens": 7,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "gen_ai.usage.reasoning.output_tokens": 3,
    }
    embedded = _attributes(spans["embeddings hashing"])
    assert (embedded["gen_ai.operation.name"], embedded["gen_ai.usage.input_tokens"]) == ("embeddings", 6)
    root = _attributes(spans["POST /v1/ask"])
    assert root["rag.cost_eur"] == 0.0165
    assert root["rag.step"] == "full"
    assert root["http.response.status_code"] == 200
    assert root["http.route"] == "/v1/ask"
    assert root["rag.bu"] == genai.pseudonym("sales") != "sales"


@pytest.mark.parametrize("with_content", [False, True])
async def test_no_text_leaves_unless_the_operator_says_so(endpoint: str, *, with_content: bool) -> None:
    tracer = _tracer(endpoint, with_content=with_content)
    await _ask(tracer, _scope())
    await _ask(tracer, _scope(), failing=True)
    await tracer.close()
    sent = b"".join(body for _, body in Collector.received)
    assert sent
    for text in (b"zebra", b"Answer from the passages", b"sales"):
        assert (text in sent) is with_content, text
    assert b"secret.host" not in sent


async def test_a_failure_shows_its_kind(endpoint: str) -> None:
    tracer = _tracer(endpoint)
    await _ask(tracer, _scope(), failing=True)
    await tracer.close()
    spans = _spans()
    assert _attributes(spans["chat gpt-x"])["error.type"] == "Transient"
    assert spans["chat gpt-x"].status.code == 2
    assert _attributes(spans["POST /v1/ask"])["error.type"] == "away"
    assert spans["POST /v1/ask"].status.code == 2
    assert spans["embed"].status.code == 0


async def test_who_leaves_early_is_no_failure(endpoint: str) -> None:
    tracer = _tracer(endpoint)
    with _trail(_scope(), tracer) as _:
        stream = TracedGenerator(ScriptedGenerator("a", "b", model="gpt-x")).generate(PROMPT, max_tokens=9)
        assert await anext(stream) == "a"
        await stream.aclose()  # type: ignore[attr-defined]
    await tracer.close()
    assert _spans()["chat gpt-x"].status.code == 0


async def test_sampling_is_a_share_of_the_requests(endpoint: str) -> None:
    tracer = _tracer(endpoint, sampling=0.1)
    ids = set()
    for _ in range(2_000):
        with _trail(_scope(), tracer) as (trail, _):
            ids.add(trail.trace_id)
            child = trace.current().child("search")
            child.end()
    await tracer.close()
    roots = sum(
        span.name == "POST"
        for _, body in Collector.received
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    )
    assert 130 <= roots <= 270  # five standard deviations
    assert len(ids) == 2_000  # the log names a trace, sampled or not


@pytest.mark.parametrize(("flag", "sampling", "expected"), [("01", 0.0, True), ("00", 1.0, False)])
async def test_the_callers_decision_counts(endpoint: str, flag: str, sampling: float, *, expected: bool) -> None:
    tracer = _tracer(endpoint, sampling=sampling)
    await _ask(tracer, _scope((b"traceparent", f"{CALLER}-{flag}".encode())))
    await tracer.close()
    assert bool(_spans()) is expected


@pytest.mark.parametrize("header", [b"", b"nonsense", b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01", b"\xff" * 55])
async def test_a_strange_traceparent_is_as_good_as_none(endpoint: str, header: bytes) -> None:
    tracer = _tracer(endpoint)
    assert await _ask(tracer, _scope((b"traceparent", header)))
    await tracer.close()
    assert _spans()["POST /v1/ask"].parent_span_id == b""


async def test_probes_and_scrapes_are_not_traced(endpoint: str) -> None:
    tracer = _tracer(endpoint)
    with _trail(_scope(path="/metrics"), tracer) as (trail, _):
        assert not trail.is_traced
    await tracer.close()
    assert Collector.received == []


async def test_a_collector_that_is_away_holds_nobody_up(caplog: pytest.LogCaptureFixture) -> None:
    tracer = _tracer("http://127.0.0.1:9")
    await _ask(tracer, _scope())
    async with asyncio.timeout(5):
        await tracer.close()


async def test_without_a_tracer_nothing_is_there_to_see() -> None:
    with _trail(_scope(), None) as (trail, _):
        stages = Stages()
        assert stages.enter("embed") is None
        assert trace.current() is trail
        assert trace.current().child("x") is trace.NOTHING
    assert trace.current() is trace.NOTHING
    assert trail.trace_id is None


def test_without_a_collector_nothing_of_it_is_imported() -> None:
    """The SDK's metrics may be: the Redis client imports them wherever they are installed."""
    program = """if True:
        import sys, pilotis.api.__main__, pilotis.adapters.keyring
        print(sorted(sys.modules.keys() & {"pilotis.adapters.otel", "opentelemetry.exporter", "opentelemetry.sdk.trace"}))
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
