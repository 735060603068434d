"""A small OpenAI-compatible server that behaves as the model's name says: `python tests/mock_openai.py --port N`.

The name is a list of words after `mock`, as in `mock-ttft200-itl5-len50-nousage`; unknown words only make a name unique.

    ttftN itlN    milliseconds before the first chunk, and between chunks     slow     = ttft60000
    lenN          words in the answer (10)                                    empty    no text, finish_reason length
    nousage       reports no usage        cachedN reasoningN  details of it   running  reports usage in every chunk
    cutN          breaks the connection after N words                         nofinish ends politely without a finish_reason
    garbage       data that is no JSON    shape   JSON of another shape       html     a page instead of an API
    errevent      an error inside the stream, after 2 words
    429xN 500xN   fails N times, then works; without xN always                retryN   with Retry-After: N seconds
    401 403 404 400 quota                                                     resetxN  breaks the connection before it answers
    nooptions nomax nonewmax   refuses stream_options, max_tokens, max_completion_tokens as unknown parameters
    windowN       refuses a prompt of 7 words and a limit that together exceed N, in vLLM's words
    zeros odd     usage of nothing but zeros, or of things that are no counts  firstusage  reports usage with the first chunk alone
    thinkN        N words of reasoning first
    dimN          length of vectors (8)   short zero nan  one vector or score too few, zeros, NaN
    mostN charsN  refuses more than N texts, or a text of more than N characters     perN  bytes of a token in its usage (4)
    dims nofloat  takes `dimensions`, refuses the encoding format float              data list  scores in Voyage's or TEI's form

`GET /seen/MODEL` tells what the model was asked: `{"requests": [bodies], "keys": [...], "headers": [...], "abandoned": streams left by
their client, "words": sent}`. Nothing takes longer than a minute or sends more than 5000 words.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import json
import re
import struct
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

WORDS = ["the", "roof", "stands", "on", "thin", "columns", "so", "the", "garden", "goes", "on", "beneath", "the", "house"]

seen: dict[str, dict[str, Any]] = defaultdict(
    lambda: {"requests": [], "keys": [], "headers": [], "abandoned": 0, "words": 0, "failed": 0}
)


class Behaviour:
    """The words of a model's name."""

    def __init__(self, model: str) -> None:
        self.words = model.split("-")

    def __contains__(self, word: str) -> bool:
        return word in self.words

    def number(self, word: str, default: int, most: int = 60_000) -> int:
        for found in self.words:
            match = re.fullmatch(rf"{word}(\d+)", found)
            if match:
                return min(int(match[1]), most)
        return default

    def failures(self, status: int | str) -> int:
        """How often this status comes first: 0 for never, a great number for always."""
        return 10**9 if str(status) in self.words else self.number(f"{status}x", 0)


async def note(request: Request) -> tuple[dict[str, Any], Behaviour, dict[str, Any]]:
    body = await request.json()
    story = seen[body["model"]]
    story["requests"].append(body)
    story["keys"].append(request.headers.get("authorization"))
    story["headers"].append(dict(request.headers))
    return body, Behaviour(body["model"]), story


def refusal(behaviour: Behaviour, body: dict[str, Any], story: dict[str, Any]) -> Response | None:
    headers = {"retry-after": str(behaviour.number("retry", 0))} if behaviour.number("retry", -1) >= 0 else {}
    for status in (429, 500, 503):
        if story["failed"] < behaviour.failures(status):
            story["failed"] += 1
            return error(status, f"status {status} as ordered", headers=headers)
    if "quota" in behaviour:
        return error(429, "You exceeded your current quota", code="insufficient_quota")
    for status in (400, 401, 403, 404):
        if str(status) in behaviour:
            return error(status, f"status {status} as ordered, your key was {story['keys'][-1]}")
    unknown = {"nooptions": "stream_options", "nomax": "max_tokens", "nonewmax": "max_completion_tokens"}
    for word, name in unknown.items():
        if word in behaviour and name in body:
            return error(
                400, f"Unrecognized request argument supplied: {name}", param=name if name == "stream_options" else None
            )
    limit = next((name for name in ("max_tokens", "max_completion_tokens") if name in body), None)
    if limit and 7 + body[limit] > behaviour.number("window", 10**9, 10**9):
        said = f"'max_tokens' or 'max_completion_tokens' is too large: {body[limit]}. This model's maximum context length is exceeded"
        return error(400, said, param=limit, code=400)
    return HTMLResponse("<html><body>It works!</body></html>") if "html" in behaviour else None


def error(status: int, message: str, *, headers: dict[str, str] | None = None, **more: Any) -> Response:
    return JSONResponse({"error": {"message": message, "type": "mock", **more}}, status, headers=headers)


async def chat(request: Request) -> Response:
    body, behaviour, story = await note(request)
    refused = refusal(behaviour, body, story)
    if refused is not None:
        return refused
    return StreamingResponse(chunks(body, behaviour, story), media_type="text/event-stream")


async def chunks(body: dict[str, Any], behaviour: Behaviour, story: dict[str, Any]) -> AsyncIterator[str]:
    finished = False
    try:
        async for data in events(body, behaviour, story):
            yield f"data: {data}\n\n"
        finished = True
    finally:
        if not finished and "cut" not in "".join(behaviour.words):
            story["abandoned"] += 1


async def events(body: dict[str, Any], behaviour: Behaviour, story: dict[str, Any]) -> AsyncIterator[str]:
    await asyncio.sleep((60_000 if "slow" in behaviour else behaviour.number("ttft", 0)) / 1000)
    if story["failed"] < behaviour.failures("reset"):
        story["failed"] += 1
        raise ConnectionResetError("as ordered")
    length, cut = behaviour.number("len", 10, 5000), behaviour.number("cut", 10**9, 10**9)
    silent = "nousage" in behaviour or "firstusage" in behaviour
    usage = None if silent or not body.get("stream_options") else usage_of(body, behaviour, length)
    base = {"id": "chatcmpl-mock", "object": "chat.completion.chunk", "created": 0, "model": body["model"]}
    first = {"usage": usage_of(body, behaviour, 0)} if "firstusage" in behaviour else {}
    begun = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
    yield json.dumps({**base, "choices": [begun], **first})
    for _ in range(behaviour.number("think", 0)):
        await asyncio.sleep(behaviour.number("itl", 0) / 1000)
        yield json.dumps({**base, "choices": [{"index": 0, "delta": {"reasoning_content": "hmm "}, "finish_reason": None}]})
    if "shape" in behaviour:
        yield json.dumps({"answer": ["something", "else"]})
        yield "42"
    for number in range(0 if "empty" in behaviour else length):
        if number == cut:
            raise ConnectionResetError("as ordered")
        if number == 2 and "garbage" in behaviour:
            yield "{broken"
        if number == 2 and "errevent" in behaviour:
            yield json.dumps({"error": {"message": "the engine died", "type": "server_error"}})
        await asyncio.sleep(behaviour.number("itl", 0) / 1000)
        story["words"] += 1
        piece = WORDS[number % len(WORDS)] + " "
        choice = {"index": 0, "delta": {"content": piece}, "finish_reason": None}
        running = {"usage": usage_of(body, behaviour, number + 1)} if "running" in behaviour else {}
        yield json.dumps({**base, "choices": [choice], **running})
    if "nofinish" in behaviour:
        return
    yield json.dumps(
        {**base, "choices": [{"index": 0, "delta": {}, "finish_reason": "length" if "empty" in behaviour else "stop"}]}
    )
    if usage:
        yield json.dumps({**base, "choices": [], "usage": usage})
    yield "[DONE]"


def usage_of(body: dict[str, Any], behaviour: Behaviour, length: int) -> dict[str, Any]:
    read = behaviour.number("read", sum(len(message["content"].split()) for message in body["messages"]))
    length = behaviour.number("wrote", length)
    if "odd" in behaviour:
        return {"prompt_tokens": "many", "completion_tokens": float("nan"), "prompt_tokens_details": [3]}
    if "zeros" in behaviour:
        return {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    return {
        "prompt_tokens": read,
        "completion_tokens": length,
        "total_tokens": read + length,
        "prompt_tokens_details": {"cached_tokens": behaviour.number("cached", 0)},
        "completion_tokens_details": {"reasoning_tokens": behaviour.number("reasoning", 0)},
    }


async def embeddings(request: Request) -> Response:
    body, behaviour, story = await note(request)
    refused = refusal(behaviour, body, story)
    if refused is not None:
        return refused
    if any(not text for text in body["input"]):
        return error(400, "input cannot be an empty string")
    refused = too_much(behaviour, body["input"])
    if refused is not None:
        return refused
    if "nofloat" in behaviour and body.get("encoding_format") == "float":
        return error(400, "value 'float' supplied for argument 'encoding_format' is not valid")
    if "dimensions" in body and "dims" not in behaviour:
        return error(400, "this model does not support specifying dimensions", param="dimensions")
    await asyncio.sleep((60_000 if "slow" in behaviour else behaviour.number("ttft", 0)) / 1000)
    texts = body["input"][1:] if "short" in behaviour else body["input"]
    rows: list[dict[str, Any]] = []
    for i, text in enumerate(texts):
        numbers: Any = vector(text, behaviour)[: body.get("dimensions")]
        if body.get("encoding_format") == "base64":
            numbers = base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()
        rows.append({"index": i, "object": "embedding", "embedding": numbers})
    tokens = sum(len(text.encode()) for text in texts) // behaviour.number("per", 4)
    usage = None if "nousage" in behaviour else {"prompt_tokens": tokens, "total_tokens": tokens}
    return JSONResponse({"object": "list", "model": body["model"], "data": rows[::-1], "usage": usage})


def too_much(behaviour: Behaviour, texts: list[str]) -> Response | None:
    most, characters = behaviour.number("most", 10**9, 10**9), behaviour.number("chars", 10**9, 10**9)
    if len(texts) > most:
        return error(413, f"batch size {len(texts)} > maximum allowed batch size {most}")
    longest = max(map(len, texts), default=0)
    return error(422, f"`inputs` must have less than {characters} tokens. Given: {longest}") if longest > characters else None


def vector(text: str, behaviour: Behaviour) -> list[float]:
    """Not of unit length, and the same for the same text."""
    digest = hashlib.sha256(text.encode()).digest()
    length = behaviour.number("dim", 8, 4096)
    return [0.0 if "zero" in behaviour else digest[i % 32] / 16 - 7 for i in range(length)]


async def rerank(request: Request) -> Response:
    """Score: how many words of the question the document holds. Best first, as servers answer."""
    body, behaviour, story = await note(request)
    refused = refusal(behaviour, body, story)
    if refused is not None:
        return refused
    await asyncio.sleep((60_000 if "slow" in behaviour else behaviour.number("ttft", 0)) / 1000)
    refused = too_much(behaviour, body["documents"])
    if refused is not None:
        return refused
    asked = set(body["query"].lower().split())
    scores = [(len(asked & set(text.lower().split())) / len(asked), i) for i, text in enumerate(body["documents"])]
    results = [{"index": i, "relevance_score": score} for score, i in sorted(scores, reverse=True)][: body.get("top_n")]
    if "nan" in behaviour:
        return Response(json.dumps({"results": [{"index": 0, "relevance_score": float("nan")}]}), media_type="application/json")
    forms: dict[str, Any] = {
        "shape": {"scores": results},
        "data": {"object": "list", "data": results},
        "list": [{"index": found["index"], "score": found["relevance_score"]} for found in results],
        "short": {"results": results[1:]},
    }
    return JSONResponse(next((form for word, form in forms.items() if word in behaviour), {"results": results}))


async def story_of(request: Request) -> Response:
    return JSONResponse(seen[request.path_params["model"]])


async def health(_: Request) -> Response:
    return JSONResponse({"status": "ok"})


app = Starlette(
    routes=[
        Route("/health", health),
        Route("/seen/{model}", story_of),
        Route("/v1/chat/completions", chat, methods=["POST"]),
        Route("/v1/embeddings", embeddings, methods=["POST"]),
        Route("/v1/rerank", rerank, methods=["POST"]),
    ]
)


async def serve(port: int) -> None:
    from granian.constants import Interfaces
    from granian.server.embed import Server

    await Server(app, address="127.0.0.1", port=port, interface=Interfaces.ASGI).serve()


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--port", type=int, required=True)
    asyncio.run(serve(options.parse_args().port))
