"""A fast OpenAI-compatible simulator: `python bench/sim.py --port N`. Its models behave as their names say.

    sim-ttft50-itl20-len400-fail1     first token after 50 ms, 20 ms between tokens, 400 of them, 1 request in 100 fails with 500

    ttftN itlN lenN    milliseconds to the first token and between two; tokens of the answer (16); all at once where itl is 0
    readN wroteN       tokens it reports and bills, instead of those that it counted
    failN              per cent of requests answered 500        429  overloaded        hang  never answers
    cutN               breaks off after N tokens                garbage  no JSON

`GET /billed` tells by model what a provider would charge: `{"MODEL": {"requests", "input_tokens", "output_tokens", "left"}}`, where
`left` counts clients that went before the end. What was written to them is billed, as providers do. Also `/v1/embeddings` (dimension 8,
or dimN) and `/rerank`.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import re
from collections import defaultdict
from functools import lru_cache
from typing import Any

from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server

BILLED: dict[str, dict[str, int]] = defaultdict(lambda: {"requests": 0, "input_tokens": 0, "output_tokens": 0, "left": 0})
MOST_TOKENS, LONGEST_MS = 20_000, 600_000
MOST_CONNECTIONS = 4096
"""Granian serves 128 at once where nothing is said, and lets the others wait."""


@lru_cache
def behaviour(model: str) -> dict[str, int]:
    """The words of a model's name with their numbers; 1 where there is none."""
    words = (re.fullmatch(r"([a-z]*?)(\d*)", word) for word in model.split("-"))
    found = {match[1] or match[2]: int(match[2] or 1) if match[1] else 1 for match in words if match}
    return {name: min(number, LONGEST_MS) for name, number in found.items()}


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    body = await read(receive)
    path = scope["path"]
    if path == "/billed":
        await reply(send, 200, BILLED)
    elif path.endswith("/chat/completions"):
        await chat(json.loads(body), receive, send)
    elif path.endswith("/embeddings"):
        await embeddings(json.loads(body), send)
    elif path.endswith("/rerank"):
        asked = json.loads(body)
        scores = [{"index": n, "relevance_score": 1 / (n + 1)} for n in range(len(asked["documents"]))]
        await reply(send, 200, {"results": scores})
    else:
        await reply(send, 404, {"error": {"message": f"nothing at {path}"}})


async def chat(asked: dict[str, Any], receive: Any, send: Any) -> None:
    model = asked["model"]
    does, bill = behaviour(model), BILLED[model]
    bill["requests"] += 1
    if "429" in does:
        await reply(send, 429, {"error": {"message": "slow down"}})
        return
    if random.random() * 100 < does.get("fail", 0):
        await reply(send, 500, {"error": {"message": "as ordered"}})
        return
    if "hang" in does:
        await asyncio.sleep(LONGEST_MS / 1000)
    await asyncio.sleep(does.get("ttft", 0) / 1000)
    count = min(does.get("len", 16), asked.get("max_completion_tokens") or asked.get("max_tokens") or MOST_TOKENS, MOST_TOKENS)
    read_tokens = does.get("read") or sum(len(str(message["content"])) // 4 for message in asked["messages"])
    bill["input_tokens"] += read_tokens
    if not asked.get("stream"):
        usage = usage_of(read_tokens, does.get("wrote", count))
        bill["output_tokens"] += usage["completion_tokens"]
        message = {"role": "assistant", "content": "word " * count + "[1]."}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        await reply(
            send,
            200,
            {"id": "sim", "object": "chat.completion", "created": 0, "model": model, "choices": [choice], "usage": usage},
        )
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    gone = asyncio.ensure_future(left(receive))
    written = await stream(asked, does, count, read_tokens=read_tokens, gone=gone, send=send)
    bill["output_tokens"] += does.get("wrote", written) if written == count else written
    bill["left"] += written < count
    gone.cancel()


async def stream(
    asked: dict[str, Any], does: dict[str, int], count: int, *, read_tokens: int, gone: asyncio.Future[None], send: Any
) -> int:
    """Write the tokens; return how many were written before the client left."""
    base = {"id": "sim", "object": "chat.completion.chunk", "created": 0, "model": asked["model"]}
    pause_s = does.get("itl", 0) / 1000

    async def chunk(data: bytes, *, more: bool = True) -> None:
        await send({"type": "http.response.body", "body": b"data: " + data + b"\n\n", "more_body": more})

    def delta(text: str, finish: str | None = None) -> bytes:
        return json.dumps(
            {**base, "choices": [{"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": finish}]}
        ).encode()

    if "garbage" in does:
        await chunk(b"<html>", more=False)
        return count
    token = delta("word ")
    for n in range(count):
        if gone.done():
            return n
        if n == does.get("cut", count + 1):
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return n
        await chunk(token)
        if pause_s and n + 1 < count:
            await asyncio.sleep(pause_s)
    await chunk(delta("[1].", "stop"))
    if (asked.get("stream_options") or {}).get("include_usage"):
        usage = usage_of(read_tokens, does.get("wrote", count))
        await chunk(json.dumps({**base, "choices": [], "usage": usage}).encode())
    await chunk(b"[DONE]", more=False)
    return count


async def embeddings(asked: dict[str, Any], send: Any) -> None:
    texts = asked["input"] if isinstance(asked["input"], list) else [asked["input"]]
    does, bill = behaviour(asked["model"]), BILLED[asked["model"]]
    bill["requests"] += 1
    bill["input_tokens"] += sum(len(text) // 4 for text in texts)
    await asyncio.sleep(does.get("ttft", 0) / 1000)
    data = []
    for n, text in enumerate(texts):
        digest = hashlib.sha256(text.encode()).digest()
        data.append(
            {"object": "embedding", "index": n, "embedding": [digest[k % 32] - 127.5 for k in range(does.get("dim", 8))]}
        )
    await reply(
        send, 200, {"object": "list", "data": data, "model": asked["model"], "usage": {"prompt_tokens": 1, "total_tokens": 1}}
    )


def usage_of(read_tokens: int, written: int) -> dict[str, int]:
    return {"prompt_tokens": read_tokens, "completion_tokens": written, "total_tokens": read_tokens + written}


async def read(receive: Any) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return bytes(body)


async def left(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def reply(send: Any, status: int, content: Any) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(content).encode()})


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--port", type=int, required=True)
    given = options.parse_args()
    server = Server(
        app,
        address="127.0.0.1",
        port=given.port,
        interface=Interfaces.ASGINL,
        http=HTTPModes.auto,
        websockets=False,
        backlog=MOST_CONNECTIONS,
        backpressure=MOST_CONNECTIONS,
        log_enabled=False,
    )
    asyncio.run(server.serve())


if __name__ == "__main__":
    main()
