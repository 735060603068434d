"""Errors as OpenAI's API tells them, on the paths that its clients call: there a problem is put into those words on its way out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic_core import from_json, to_json

from pilotis.api.problems import MEDIA_TYPE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

PATHS = ("/v1/chat/", "/v1/completions", "/v1/embeddings", "/v1/models", "/v1/responses")
"""What they begin with: those that exist here, and those a client may try."""

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
"""What the OpenAPI page says of every error on these paths."""

_WHO = {401: "authentication_error", 403: "permission_error"}
_LASTING = frozenset({"guardrail", "setup"})
"""Nothing that a client's own retries, within seconds, would outlast."""
_SAID_OTHERWISE = frozenset({"type", "title", "status", "code", "detail", "remedy", "param"})


def error(status: int, problem: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """The status and the body for a problem: what is not valid is 400, as these clients know it.

    What OpenAI has no word for (whose limit, when it resets) stands beside its fields.
    """
    code = problem["code"]
    told = {
        "message": ". ".join(part.rstrip(".") for part in (problem["detail"], problem.get("remedy")) if part),
        "type": _type(status, code),
        "param": problem.get("param"),
        "code": code,
    }
    more = {name: value for name, value in problem.items() if name not in _SAID_OTHERWISE}
    return 400 if status == 422 else status, {"error": told | more}


class OpenAIErrors:
    """Pure ASGI: rewrites the problems of `PATHS` and touches nothing else."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(PATHS):
            await self.app(scope, receive, send)
            return
        held: list[Message] = []

        async def said(message: Message) -> None:
            if message["type"] == "http.response.start" and (b"content-type", MEDIA_TYPE.encode()) in message["headers"]:
                held.append(message)
            elif not held:
                await send(message)
            else:
                held.append(message)
                if not message.get("more_body", False):
                    for rewritten in _rewritten(held):
                        await send(rewritten)

        await self.app(scope, receive, said)


def _type(status: int, code: str) -> str:
    if status in {402, 429} or code == "guardrail":
        return "rate_limit_error"
    if status in _WHO:  # LiteLLM reads the type before the status
        return _WHO[status]
    return "invalid_request_error" if status < 500 else "server_error"


def _rewritten(held: Sequence[Message]) -> tuple[Message, Message]:
    start, *pieces = held
    problem = from_json(b"".join(piece.get("body", b"") for piece in pieces))
    status, told = error(start["status"], problem)
    body = to_json(told)
    replaced = {b"content-type": b"application/json", b"content-length": str(len(body)).encode()}
    headers = [(name, replaced.get(name, value)) for name, value in start["headers"]]
    if problem["code"] in _LASTING:
        headers.append((b"x-should-retry", b"false"))
    return {**start, "status": status, "headers": headers}, {"type": "http.response.body", "body": body, "more_body": False}
