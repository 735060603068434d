"""What the OpenAPI page shows: one example of each body, and the errors every route may answer with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ASK = {"question": "How do I rotate an API key?", "collection": "handbook", "top_k": 8}
SEARCH = {"question": "rotate an API key", "metadata": {"team": "platform"}}

PASSAGE = {
    "n": 1,
    "passage_id": "b7a0c1f2d3e44f55",
    "document_id": "0197c5a2-4e0f-7cc1-9a53-2f1d8a6b9c10",
    "document": "keys.md",
    "collection": "handbook",
    "title": "Keys",
    "headings": ["Keys", "Rotation"],
    "page": None,
    "start": 410,
    "end": 655,
    "language": "en",
    "text": "Create the new key first, move the callers to it, then revoke the old one.",
    "score": 0.83,
    "dense": 0.71,
    "lexical": 9.2,
}
COST = {
    "usage": [{"model": "all-MiniLM-L6-v2", "provider": "local", "input_tokens": 8, "output_tokens": 0}],
    "cost_eur": "0.000000",
    "priced": True,
    "elsewhere_eur": {"prod": "0.012100"},
    "price_book": "2026-01-01",
    "fx": None,
}
ANSWER = {
    "id": "5d1f3c0e-8a1b-4f6e-b0d5-7b5f1a2c3d4e",
    "answer": "Create the new key first, move the callers to it, then revoke the old one. [1]",
    "found": True,
    "language": "en",
    "citations": [
        {
            "n": 1,
            "passage_id": "b7a0c1f2d3e44f55",
            "document_id": "0197c5a2-4e0f-7cc1-9a53-2f1d8a6b9c10",
            "document": "keys.md",
            "title": "Keys",
            "page": None,
            "start": 410,
            "end": 484,
            "quote": "Create the new key first, move the callers to it, then revoke the old one.",
        }
    ],
    **COST,
    "timings_ms": {"embed": 2.1, "search": 3.4, "extract": 1.2, "total": 7.9},
    "env": "dev",
    "model": "extractive",
    "prompt": None,
    "steps": [],
}
STREAM = (
    'event: passages\ndata: {"passages": [...]}\n\n'
    'event: token\ndata: {"text": "Create the new key first"}\n\n'
    'event: done\ndata: {"id": "5d1f3c0e-8a1b-4f6e-b0d5-7b5f1a2c3d4e", "cost_eur": "0.000000", ...}\n\n'
)
FOUND = {
    "id": "9b2f…",
    "language": "en",
    "passages": [PASSAGE],
    **COST,
    "timings_ms": {"embed": 2.0, "search": 3.1, "total": 5.4},
}

DOCUMENT = {
    "id": "0197c5a2-4e0f-7cc1-9a53-2f1d8a6b9c10",
    "collection": "handbook",
    "name": "keys.md",
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "size": 2210,
    "media_type": "text/markdown",
    "metadata": {"team": "platform"},
    "state": "indexed",
    "error": None,
    "attempts": 1,
    "passages": 4,
    "pages": None,
    "title": "Keys",
    "language": "en",
    "received_at": "2026-01-01T09:00:00Z",
    "indexed_at": "2026-01-01T09:00:01Z",
    "warnings": ["no text layer on 3 of 40 pages (7, 8, 9); OCR is off"],
}
PROBLEM = {
    "type": "urn:pilotis:problem:invalid",
    "title": "Unprocessable Content",
    "status": 422,
    "code": "invalid",
    "detail": "'questoin' is not a field of the body; did you mean 'question'?",
}

_ERRORS = {
    400: "No HTTP request that can be read, or one with a key in its address",
    401: "No key, an unknown key, a revoked key",
    402: "A budget is spent until its window ends",
    403: "The key has no right to this",
    404: "There is no such thing for this business unit",
    405: "Not possible here; the header `allow` names what is",
    408: "The body comes too slowly",
    409: "It contradicts what is stored",
    413: "Too large",
    415: "Not a content type that is read here",
    422: "Not valid; the detail names the field",
    429: "Too many requests, or what is left of a budget is held by others: come back after `retry-after` seconds",
    502: "A model or a store answered what nobody can use",
    503: "Something the service needs is away, or it is overloaded: come back after `retry-after` seconds",
    507: "The server's disk is full",
}


def responses(
    example: Any, *, status: int = 200, description: str = "", also: Mapping[str, str] | None = None
) -> dict[int | str, dict[str, Any]]:
    """The responses of a route: its own, then the problems."""
    content: dict[str, Any] = {"application/json": {"example": example}} if example is not None else {}
    content |= {media_type: {"example": text} for media_type, text in (also or {}).items()}
    errors: dict[int | str, dict[str, Any]] = {
        code: {"description": text, "content": {"application/problem+json": {}}} for code, text in _ERRORS.items()
    }
    errors[422]["content"] = {"application/problem+json": {"example": PROBLEM}}
    own: dict[str, Any] = {"description": description} | ({"content": content} if content else {})
    return {status: own, **errors}
