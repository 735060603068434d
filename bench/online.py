"""Requests a second of one API process on one core, each against its own measure, in the same run.

    python bench/online.py SOURCE [hit miss llm] [--size 10000] [--seconds 5] [--peer-python PYTHON] [--json]

hit     a question whose answer is cached, to a bare FastAPI POST on the same server; and its p99 at half of that rate
miss    an uncached extractive question, to its bare parts (embedding and SQL) in one process with the same concurrency
llm     a question whose passages are cached and whose answer is not, written by an instant model, under budgets, to LiteLLM's proxy
        before the same model, without budgets. PYTHON is of an environment with `litellm[proxy]`.

wrk asks, over 16 connections, and shares its core with Postgres, Redis and the simulated model; see bench/serving.py. Medians of three rounds,
in which both sides take turns.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from common import parser, report
from pilotis.wiring import open_deps
from serving import ROUNDS, Ground, Process, free_port, ground, middle, on_cores, require_wrk, simulator
from synthetic import grow, questions, real_passages

CONNECTIONS = 16
PASSAGES = 600
MODEL = "sim-len3"
PEER_RATE = 104.0
"""Of LiteLLM's proxy at 16 connections on the machine of docs/benchmarks.md, where no peer is given."""
PEER = """
model_list:
  - model_name: {model}
    litellm_params: {{ model: openai/{model}, api_base: {simulator}/v1, api_key: none }}
general_settings: {{ master_key: {key} }}
"""
PEER_KEY = f"sk-{secrets.token_hex(16)}"
"""Without one it does not start."""

Row = dict[str, object]


def hit(on: Ground, asked: list[str], key: str, *, seconds: float) -> list[Row]:
    port = free_port()
    bare = on.start(str(Path(__file__).parent / "bare.py"), "post", "--port", str(port), port=port, path="/")
    api = on.api("hit")
    bodies = on.bodies("hit", [{"question": asked[0]}])
    ours, theirs, halves = [], [], []
    on.wrk(api, "/v1/ask", bodies, key, connections=CONNECTIONS, seconds=1)
    for _ in range(ROUNDS):
        theirs.append(on.wrk(bare, "/", bodies, key, connections=CONNECTIONS, seconds=seconds))
        ours.append(on.wrk(api, "/v1/ask", bodies, key, connections=CONNECTIONS, seconds=seconds))
        halves.append(_half(on, api, bodies, key, rate=ours[-1]["rate"] / 2, seconds=seconds))
    on.end(api)
    on.end(bare)
    share = middle(halves, "rate") / middle(ours, "rate")
    return [
        _row("bare FastAPI POST", theirs),
        _row("cached answer", ours, to=middle(theirs, "rate"), bar="at least 0.4"),
        _row(f"cached answer, at {share:.2f} of that", halves, bar="p99 under 10 ms"),
    ]


def _half(on: Ground, api: Process, bodies: Path, key: str, *, rate: float, seconds: float) -> dict[str, float]:
    """Wrk keeps no rate; pauses drawn at random between the requests of each connection make one."""
    pause_ms = max(1.0, CONNECTIONS / rate * 1e3 - 2)
    return on.wrk(api, "/v1/ask", bodies, key, connections=CONNECTIONS, seconds=seconds, pause_ms=pause_ms)


def miss(on: Ground, asked: list[str], key: str, *, seconds: float) -> list[Row]:
    api = on.api("miss")
    bodies = on.bodies("miss", [{"question": text} for text in asked])
    ours, alone = [], []
    on.wrk(api, "/v1/ask", bodies, key, connections=CONNECTIONS, seconds=2)
    for _ in range(ROUNDS):
        alone.append(_parts(on, bodies, seconds=seconds))
        ours.append(on.wrk(api, "/v1/ask", bodies, key, connections=CONNECTIONS, seconds=seconds))
    on.end(api)
    return [
        _row("bare parts, 16 at once", alone),
        _row("uncached answer", ours, to=middle(alone, "rate"), bar="at least 0.6"),
    ]


def _parts(on: Ground, bodies: Path, *, seconds: float) -> dict[str, float]:
    command = [sys.executable, str(Path(__file__).parent / "bare.py"), "parts", str(bodies)]
    command += ["--workers", str(CONNECTIONS), "--seconds", f"{seconds:g}"]
    done = subprocess.run(on_cores(on.first, command), env=on.environ("miss"), check=True, capture_output=True, text=True)
    said: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return said | {"rate": said["requests"] / said["seconds"], "cpu_ms": said["cpu_s"] * 1e3 / said["requests"]}


def llm(on: Ground, asked: list[str], key: str, *, seconds: float, simulated: str, peer: str | None) -> list[Row]:
    api = on.api(MODEL, anew=True)
    bodies = on.bodies("llm", [{"question": text} for text in asked[:100]])
    ours, one = [], []
    on.wrk(api, "/v1/ask", bodies, key, connections=CONNECTIONS, seconds=3)
    proxy = _proxy(on, peer, simulated) if peer else None
    peer_bodies = on.bodies("peer", [{"model": MODEL, "messages": [{"role": "user", "content": asked[0]}]}])
    theirs = []
    for _ in range(ROUNDS):
        ours.append(on.wrk(api, "/v1/ask", bodies, key, connections=CONNECTIONS, seconds=seconds))
        one.append(on.wrk(api, "/v1/ask", bodies, key, connections=1, seconds=seconds / 2))
        if proxy:
            said = on.wrk(proxy, "/v1/chat/completions", peer_bodies, PEER_KEY, connections=CONNECTIONS, seconds=seconds)
            theirs.append(said | {"MB": proxy.resident_mb()})
    resident = api.resident_mb()
    for process in (api, *([proxy] if proxy else [])):
        on.end(process)
    rate = middle(theirs, "rate") if theirs else PEER_RATE
    before: Row = {"what": "LiteLLM's proxy (measured before, not in this run)", "requests/s": PEER_RATE}
    return [
        _row("LiteLLM's proxy", theirs) if theirs else before,
        _row("cached passages, written by a model", ours, to=rate, bar="at least 3") | {"MB": resident},
        _row("the same, one at a time", one),
    ]


def _proxy(on: Ground, python: str, simulated: str) -> Process:
    config, port = on.folder / "peer.yaml", free_port()
    config.write_text(PEER.format(model=MODEL, simulator=simulated, key=PEER_KEY))
    code = "from litellm import run_server; run_server()"
    options = (
        "--config",
        str(config),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--num_workers",
        "1",
        "--telemetry",
        "False",
    )
    return on.start("-c", code, *options, port=port, path="/health/liveliness", python=python)


def _row(what: str, rounds: Sequence[dict[str, float]], *, to: float | None = None, bar: str = "") -> Row:
    names = {"rate": "requests/s", "p50_ms": "p50 ms", "p99_ms": "p99 ms", "cpu_ms": "CPU ms each", "MB": "MB"}
    row: Row = {"what": what} | {shown: middle(rounds, name) for name, shown in names.items() if name in rounds[0]}
    return row | ({} if to is None else {"ratio": middle(rounds, "rate") / to}) | ({"bar": bar} if bar else {})


async def corpus(on: Ground, source: Path, *, size: int) -> list[str]:
    """Fill the tables with synthetic passages; return questions about the real ones among them."""
    passages = real_passages(source, PASSAGES)
    async with open_deps(on.settings, on.plan, on.env, addresses=on.addresses) as deps:
        vectors = await deps.embedder.embed(passages)
    grow(on.addresses.database_url, passages, vectors, size=size)
    return questions(passages, 300)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("source", type=Path)
    options.add_argument("which", nargs="*", default=["hit", "miss", "llm"])
    options.add_argument("--size", type=int, default=10_000)
    options.add_argument("--seconds", type=float, default=5)
    options.add_argument("--peer-python")
    given = options.parse_args()
    require_wrk()
    with simulator() as simulated, ground(MODEL, simulator=simulated) as on:
        asked, key = asyncio.run(corpus(on, given.source, size=given.size)), on.secret()
        rows: list[Row] = []
        if "hit" in given.which:
            rows += hit(on, asked, key, seconds=given.seconds)
        if "miss" in given.which:
            rows += miss(on, asked, key, seconds=given.seconds)
        if "llm" in given.which:
            rows += llm(on, asked, key, seconds=given.seconds, simulated=simulated, peer=given.peer_python)
    report(f"One process, one core, {CONNECTIONS} connections", rows, as_json=given.json)


if __name__ == "__main__":
    main()
