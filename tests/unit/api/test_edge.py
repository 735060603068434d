"""Who comes in and from where: room, the end of the process, forged headers, keys in the address."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotis.api import bodies
from pilotis.api.bodies import form_chunks, read_json
from pilotis.api.edge import CLIENT_IP, Edge
from pilotis.api.gate import Gate, client_ip
from pilotis.errors import Invalid

Message = dict[str, Any]
App = Callable[[Any, Any, Any], Awaitable[None]]


def scope(path: str = "/v1/ask", *, query: bytes = b"", peer: str | None = "10.0.0.9", **headers: Any) -> dict[str, Any]:
    return {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": path,
        "query_string": query,
        "headers": [(name.replace("_", "-").encode(), value) for name, value in headers.items()],
        "client": (peer, 4711) if peer else None,
    }


class Line:
    """A client's connection: the pieces it sends, then silence; what it is answered."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)
        self.read = 0
        self.sent: list[Message] = []

    async def receive(self) -> Message:
        if not self.pieces:
            await asyncio.Event().wait()
        self.read += 1
        return {"type": "http.request", "body": self.pieces.pop(0), "more_body": True}

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])

    def problem(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.sent[1]["body"])
        return found


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(scope[CLIENT_IP]).encode()})


def edge(app: App = hello, *, gate: Gate | None = None, hops: int = 0, limited: list[str] | None = None) -> Edge:
    told = limited if limited is not None else []
    return Edge(app, gate=gate or Gate(10), hops=hops, measure=lambda *_: None, limited=told.append)


class Slow:
    """An application whose requests stay until they are let go."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.ended: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            await self.go.wait()
            self.ended.append("finished")
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
            self.ended.append("settled")
            raise
        await send({"type": "http.response.body", "body": b"done"})


async def busy(edge: Edge, requests: int) -> list[asyncio.Task[None]]:
    tasks = []
    for _ in range(requests):
        line = Line()
        tasks.append(asyncio.create_task(edge(scope(), line.receive, line.send)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


async def test_beyond_the_most_at_once_a_request_is_told_to_come_back_and_nothing_of_it_is_worked_on() -> None:
    slow, limited, gate = Slow(), list[str](), Gate(3)
    door = edge(slow, gate=gate, limited=limited)
    inside = await busy(door, 3)
    assert gate.inside == 3
    line = Line()
    await door(scope(), line.receive, line.send)
    assert (line.status, line.problem()["code"]) == (503, "overloaded")
    assert line.headers[b"retry-after"] == b"1"
    assert line.read == 0
    assert limited == ["overloaded"]
    slow.go.set()
    await asyncio.gather(*inside)
    assert gate.inside == 0
    again = Line()
    await door(scope(), again.receive, again.send)
    assert again.status == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
async def test_whoever_watches_is_answered_also_where_there_is_no_room(path: str) -> None:
    for gate in (Gate(0), Gate(5)):
        gate.drain()
        line = Line()
        await edge(gate=gate)(scope(path), line.receive, line.send)
        assert line.status == 200


async def test_a_refused_body_is_drained_without_taking_a_place() -> None:
    async def refuses(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 401, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    gate, line = Gate(10), Line(b"x")
    drained = asyncio.create_task(edge(refuses, gate=gate)(scope(content_length=b"100"), line.receive, line.send))
    await asyncio.sleep(0.01)
    assert line.sent == []
    assert gate.inside == 0
    drained.cancel()


async def test_the_end_lets_nobody_in_and_waits_for_those_inside() -> None:
    slow, limited, gate = Slow(), list[str](), Gate(10)
    door = edge(slow, gate=gate, limited=limited)
    inside = await busy(door, 2)
    gate.drain()
    line = Line()
    await door(scope(), line.receive, line.send)
    assert (line.status, line.problem()["code"], line.headers[b"connection"]) == (503, "draining", b"close")
    assert limited == ["draining"]
    assert not await gate.empty(within_s=0.01)
    slow.go.set()
    assert await gate.empty(within_s=1)
    await asyncio.gather(*inside)
    assert slow.ended == ["finished", "finished"]


async def test_who_is_still_inside_when_patience_ends_is_cut_off_and_settles() -> None:
    slow, gate = Slow(), Gate(10)
    inside = await busy(edge(slow, gate=gate), 2)
    gate.drain()
    assert not await gate.empty(within_s=0.001)
    assert await gate.cut(within_s=1) == 2
    assert slow.ended == ["settled", "settled"]
    assert all(task.cancelled() for task in inside)


async def test_an_empty_process_ends_at_once() -> None:
    gate = Gate(10)
    gate.drain()
    assert await gate.empty(within_s=0.01)
    gate.warmed()
    assert gate.phase == "draining"


@pytest.mark.parametrize(
    ("hops", "headers", "expected"),
    [
        pytest.param(0, {"x_forwarded_for": b"6.6.6.6"}, "10.0.0.9", id="nobody is trusted"),
        pytest.param(1, {"x_forwarded_for": b"6.6.6.6, 192.0.2.7"}, "192.0.2.7", id="what our proxy appended"),
        pytest.param(2, {"x_forwarded_for": b"6.6.6.6, 192.0.2.7, 10.0.0.1"}, "192.0.2.7", id="two proxies"),
        pytest.param(2, {"x_forwarded_for": b"192.0.2.7"}, "10.0.0.9", id="came past one of two"),
        pytest.param(1, {}, "10.0.0.9", id="no header"),
        pytest.param(1, {"x_forwarded_for": b"192.0.2.7, <script>"}, "10.0.0.9", id="no address"),
        pytest.param(1, {"x_forwarded_for": b"192.0.2.7,"}, "10.0.0.9", id="empty"),
        pytest.param(1, {"x_forwarded_for": b"\xff\xfe"}, "10.0.0.9", id="bytes"),
        pytest.param(1, {"x_forwarded_for": b"192.0.2.7:5050"}, "192.0.2.7", id="with a port"),
        pytest.param(1, {"x_forwarded_for": b"[2001:db8:1:2:3::4]:443"}, "2001:db8:1:2:3::4", id="IPv6 with a port"),
        pytest.param(1, {"x_forwarded_for": b"2001:0DB8::9"}, "2001:db8::9", id="IPv6"),
        pytest.param(1, {"x_forwarded_for": b"::ffff:192.0.2.7"}, "192.0.2.7", id="IPv4 in IPv6"),
        pytest.param(1, {"forwarded": b"for=6.6.6.6", "x_real_ip": b"6.6.6.6"}, "10.0.0.9", id="other headers"),
    ],
)
def test_an_address_is_what_the_trusted_proxies_saw(hops: int, headers: dict[str, Any], expected: str) -> None:
    assert client_ip(scope(**headers), hops) == expected


def test_several_headers_are_one_list() -> None:
    given = scope()
    given["headers"] = [(b"x-forwarded-for", b"6.6.6.6"), (b"x-forwarded-for", b"7.7.7.7, 192.0.2.7")]
    assert client_ip(given, 1) == "192.0.2.7"
    assert client_ip(given, 2) == "7.7.7.7"


def test_a_peer_without_address_has_none() -> None:
    assert client_ip(scope(peer=None), 0) is None


@given(forged=st.binary(max_size=60), hops=st.integers(1, 3))
def test_nothing_that_a_client_writes_moves_its_address(forged: bytes, hops: int) -> None:
    chain = [b"192.0.2.7", b"10.0.0.1", b"10.0.0.2"][:hops]
    assert client_ip(scope(x_forwarded_for=b", ".join([forged, *chain])), hops) == "192.0.2.7"


async def test_the_address_reaches_the_application() -> None:
    line = Line()
    await edge(hops=1)(scope(x_forwarded_for=b"6.6.6.6, 192.0.2.7"), line.receive, line.send)
    assert line.sent[1]["body"] == b"192.0.2.7"


@pytest.mark.parametrize("name", ["api_key", "key", "token", "access_token", "API_KEY", "x-api-key", "%6bey"])
async def test_a_key_in_the_address_is_refused_and_told_nowhere(name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    line = Line()
    await edge()(scope(query=f"limit=3&{name}=plt_s3cret".encode()), line.receive, line.send)
    assert (line.status, line.problem()["code"]) == (400, "key_in_query")
    assert "rotate" in line.problem()["remedy"]
    assert b"s3cret" not in line.sent[1]["body"]
    assert "s3cret" not in caplog.text


async def test_other_parameters_pass() -> None:
    line = Line()
    await edge()(scope(query=b"limit=3&keyword=a&tokens=5"), line.receive, line.send)
    assert line.status == 200


def request(line: Line, **headers: str) -> Any:
    async def stream() -> Any:
        while True:
            yield (await line.receive())["body"]

    return SimpleNamespace(headers=headers, stream=stream)


async def test_a_body_that_dribbles_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "JSON_S", 0.02)
    with pytest.raises(Invalid) as refused:
        await read_json(request(Line(b"{", b'"'), **{"content-type": "application/json"}), bodies.Body)
    assert (refused.value.status, refused.value.code) == (408, "too_slow")
    assert "2 bytes" in refused.value.message


async def test_a_form_may_take_as_long_as_it_keeps_coming(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "FORM_S", 0.03)
    monkeypatch.setattr(bodies, "FORM_BYTES_PER_S", 250.0)

    class Steady(Line):
        async def receive(self) -> Message:
            await asyncio.sleep(0.005)
            return await super().receive()

    chunks = form_chunks(request(Steady(*[b"x" * 10] * 4)))
    assert [len(await anext(chunks)) for _ in range(4)] == [10] * 4
    with pytest.raises(Invalid, match="40 bytes"):
        await anext(chunks)


async def test_after_a_body_that_came_too_slowly_the_connection_is_closed() -> None:
    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 408, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    line = Line(b"x")
    await asyncio.wait_for(edge(slow)(scope(content_length=b"100"), line.receive, line.send), 1)
    assert line.headers[b"connection"] == b"close"
    assert line.read == 0
