"""What the online plane adds to a stream, and how many streams one process carries.

    python bench/streams.py SOURCE [added many] [--minutes 1] [--json]

added   the time to the first token of a stream through the API, less its own embedding and search as its last event tells them, to that of
        the same endpoint asked directly; 50 streams at once, both sides read by the same client
many    500 streams at once on one process for so many minutes: how many were lost, and what the process held in memory

The client stamps bytes as they come off the socket and parses afterwards: it shares its core with Postgres, Redis and the model.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from common import parser, quantile_ms, report
from online import corpus
from serving import ROUNDS, Ground, Process, ground, simulator

QUICK, SLOW = "sim-ttft100-itl20-len100", "sim-ttft200-itl50-len100"
AT_ONCE, MANY = 50, 500
SPREAD_S = 2.0
"""Streams begin one after the other, over about the time that one takes."""
SHARES = (0.5, 0.99)
END = b"\r\n0\r\n\r\n"
"""Of a chunked body."""

Row = dict[str, object]


@dataclass(frozen=True, slots=True)
class Stream:
    """One that has ended: seconds to the first token, and the whole body."""

    first_s: float
    body: bytes

    def event(self, name: str) -> dict[str, object] | None:
        """The data of the last event of that name; each event is sent as one chunk."""
        _, found, rest = self.body.rpartition(b"event: " + name.encode() + b"\ndata: ")
        data: dict[str, object] | None = json.loads(rest.partition(b"\n\n")[0]) if found else None
        return data


class Line(asyncio.Protocol):
    """One kept-alive connection, for one stream after the other."""

    def __init__(self, token: bytes) -> None:
        self._token = token
        self._read = bytearray()
        self._first_s: float | None = None
        self._began_s = 0.0
        self._ended: asyncio.Future[Stream] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    async def ask(self, request: bytes) -> Stream:
        """Raises ConnectionError where the stream breaks off."""
        assert self._transport is not None
        self._ended = asyncio.get_running_loop().create_future()
        self._read.clear()
        self._first_s, self._began_s = None, time.perf_counter()
        self._transport.write(request)
        return await self._ended

    def data_received(self, data: bytes) -> None:
        self._read += data
        if self._first_s is None and self._token in self._read:
            self._first_s = time.perf_counter() - self._began_s
        if self._read.endswith(END) and self._ended and not self._ended.done():
            if self._first_s is None:
                self._ended.set_exception(ConnectionError(_reason(bytes(self._read))))
            else:
                self._ended.set_result(Stream(self._first_s, bytes(self._read)))

    def connection_lost(self, error: Exception | None) -> None:
        if self._ended and not self._ended.done():
            after_s = time.perf_counter() - self._began_s
            self._ended.set_exception(ConnectionError(f"closed after {after_s:.0f} s: {error or _reason(bytes(self._read))!r}"))


@dataclass(frozen=True, slots=True)
class Side:
    """Where streams come from: the requests, and what shows a token."""

    url: str
    token: bytes
    requests: Iterator[bytes]


async def run(side: Side, at_once: int, *, each: int, spread_s: float = 0.0) -> list[Stream | None]:
    """So many at once, begun within `spread_s`, `each` one after the other on every connection; None for one that was lost.

    Why they were lost is printed to stderr.
    """
    address = urlsplit(side.url)
    host, port = address.hostname or "", address.port or 80
    loop, lost = asyncio.get_running_loop(), Counter[str]()

    async def work() -> list[Stream | None]:
        found: list[Stream | None] = []
        line: Line | None = None
        await asyncio.sleep(random.uniform(0, spread_s))
        for _ in range(each):
            try:
                if line is None:
                    _, line = await loop.create_connection(lambda: Line(side.token), host, port)
                found.append(await line.ask(next(side.requests)))
            except OSError as error:
                lost[str(error)] += 1
                found.append(None)
                line = None
        return found

    workers = await asyncio.gather(*(work() for _ in range(at_once)))
    for reason, count in lost.most_common(5):
        print(f"{count} lost: {reason}", file=sys.stderr)
    return [stream for streams in workers for stream in streams]


def ours(api: Process, asked: list[str], key: str, *, same: bool = False) -> Side:
    """Every request asks something nobody has asked, unless the `same` may come again."""
    texts = itertools.cycle(asked)
    bodies = ({"question": text if same else f"{text} ({n})", "stream": True} for n, text in enumerate(texts))
    return Side(api.url, b"event: token", (_post("/v1/ask", body, key) for body in bodies))


def direct(simulated: str, model: str) -> Side:
    message = {"role": "user", "content": "word " * 900}
    body = {"model": model, "messages": [message], "stream": True, "stream_options": {"include_usage": True}}
    return Side(simulated, b'"content": "word', itertools.repeat(_post("/v1/chat/completions", body, "none")))


def _reason(read: bytes) -> str:
    """What an answer without a token says: its error event, or its status line."""
    _, found, rest = read.partition(b"event: error\ndata: ")
    return str(json.loads(rest.partition(b"\n\n")[0])["detail"]) if found else read.partition(b"\r\n")[0].decode()


def _post(path: str, body: dict[str, object], key: str) -> bytes:
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(data)}\r\n\r\n".encode() + data


def added(on: Ground, asked: list[str], key: str, simulated: str) -> list[Row]:
    """With the passages of every question searched for, then with all of them in the cache."""
    names = [f"p{share * 100:.0f} ms" for share in SHARES]
    rows: list[Row] = []
    for searched in (True, False):
        api = on.api(QUICK, anew=not searched)
        through, beside = ours(api, asked if searched else asked[:AT_ONCE], key, same=not searched), direct(simulated, QUICK)
        asyncio.run(run(through, AT_ONCE, each=1))
        whole: list[float] = []
        aside: list[float] = []
        bare: list[float] = []
        for _ in range(ROUNDS):
            bare += [stream.first_s for stream in asyncio.run(run(beside, AT_ONCE, each=5, spread_s=SPREAD_S)) if stream]
            for stream in asyncio.run(run(through, AT_ONCE, each=5, spread_s=SPREAD_S)):
                if stream and (done := stream.event("done")):
                    timings = done["timings_ms"]
                    assert isinstance(timings, dict)
                    whole.append(stream.first_s)
                    aside.append(stream.first_s - sum(timings.get(name, 0) for name in ("embed", "search")) / 1e3)
        on.end(api)
        found = [[quantile_ms(times, share) for share in SHARES] for times in (bare, whole, aside)]
        more = [a - b for a, b in zip(found[2], found[0], strict=True)]
        what = "searching" if searched else "passages cached"
        for row, times in (
            (f"{what}: first token, asked directly", found[0]),
            (f"{what}: through the API", found[1]),
            (f"{what}: through the API, retrieval aside", found[2]),
        ):
            rows.append({"what": row} | dict(zip(names, times, strict=True)))
        added: dict[str, object] = {"what": f"{what}: added", "bar": "p50 under 5 ms, p99 under 15 ms"}
        rows.append(added | dict(zip(names, more, strict=True)))
    return rows


def many(on: Ground, asked: list[str], key: str, *, minutes: float) -> list[Row]:
    api = on.api(SLOW)
    side = ours(api, asked, key)
    asyncio.run(run(side, 20, each=1))
    at_rest = api.resident_mb()
    held: list[float] = []
    found: list[Stream | None] = []
    began, began_cpu_s = time.perf_counter(), api.cpu_s()

    async def go() -> None:
        ends = time.perf_counter() + minutes * 60

        async def watch() -> None:
            while True:
                await asyncio.sleep(1)
                held.append(api.resident_mb())

        watching = asyncio.create_task(watch())
        while time.perf_counter() < ends:
            found.extend(await run(side, MANY, each=3, spread_s=2 * SPREAD_S))
        watching.cancel()

    asyncio.run(go())
    took_s = time.perf_counter() - began
    cpu = (api.cpu_s() - began_cpu_s) / took_s
    on.end(api)
    ended = [stream for stream in found if stream and stream.event("done")]
    tokens = sum(stream.body.count(b"event: token") for stream in ended)
    third = max(1, len(held) // 3)
    early, late = max(held[third : 2 * third], default=0.0), max(held[-third:], default=0.0)
    return [
        {"what": f"streams, {MANY} at once for {took_s / 60:.1f} minutes", "figure": len(found)},
        {"what": "lost", "figure": len(found) - len(ended), "bar": "0"},
        {"what": "tokens/s", "figure": tokens / took_s},
        {"what": "share of its core", "figure": cpu},
        {"what": "p50 of the first token, ms", "figure": quantile_ms([stream.first_s for stream in ended], 0.5)},
        {"what": "memory before, MB", "figure": at_rest},
        {"what": "memory, most, MB", "figure": max(held), "bar": "under 500"},
        {"what": "memory, most of the last third less the middle third, MB", "figure": late - early, "bar": "flat"},
    ]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("source", type=Path)
    options.add_argument("which", nargs="*", default=["added", "many"])
    options.add_argument("--minutes", type=float, default=1)
    given = options.parse_args()
    with simulator() as simulated, ground(QUICK, SLOW, simulator=simulated) as on:
        asked, key = asyncio.run(corpus(on, given.source, size=2000)), on.secret()
        if "added" in given.which:
            report("Added to the first token", added(on, asked, key, simulated), as_json=given.json)
        if "many" in given.which:
            report("Many streams on one process", many(on, asked, key, minutes=given.minutes), as_json=given.json)


if __name__ == "__main__":
    main()
