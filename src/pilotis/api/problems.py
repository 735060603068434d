"""RFC 9457 problem details: the one form of every error this API answers with."""

from __future__ import annotations

import errno
import logging
import math
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.routing import Match

from pilotis.derive import genai
from pilotis.errors import (
    ContractError,
    Invalid,
    Limited,
    Permanent,
    PilotisError,
    Refused,
    SetupError,
    Transient,
    Unauthorised,
)
from pilotis.ports import trace

log = logging.getLogger("pilotis.api")

MEDIA_TYPE = "application/problem+json"
SHOWN_CHARACTERS = 200
"""Of what a stranger sent, this much is repeated to them."""

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "Stable, for programs."},
        "detail": {"type": "string"},
        "remedy": {"type": "string", "description": "The one thing to do next."},
        "id": {"type": "string", "description": "Under which the server's log tells more."},
        "scope": {"type": "string", "description": "Whose limit it is: env, ip, plane:X, bu:NAME or key:ID."},
        "window": {"type": "string", "description": "Over which time the limit holds: hour, day or month."},
        "limit": {"type": "string"},
        "resets_at": {"type": "string", "format": "date-time"},
    },
}
"""What the OpenAPI page says of every error."""


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    remedy: str = "",
    headers: Mapping[str, str] | None = None,
    **members: Any,
) -> Response:
    """A problem of RFC 9457; `code` is stable for programs, `detail` and `remedy` are for people."""
    trace.current().note({genai.CODE: code})
    return Response(problem_json(status, code, detail, remedy=remedy, **members), status, headers, media_type=MEDIA_TYPE)


def problem_json(status: int, code: str, detail: str, *, remedy: str = "", **members: Any) -> bytes:
    """The problem's JSON, also the data of an `error` event in a stream."""
    body: dict[str, Any] = {
        "type": f"urn:pilotis:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": encodable(detail),
    }
    if remedy:
        body["remedy"] = encodable(remedy)
    return to_json(body | members)


def describe(error: Exception, request_id: str) -> tuple[int, str, str, str]:
    """The status, code, detail and remedy of an error. What is not the caller's business is logged under `request_id` instead."""
    match error:
        case Refused():
            return error.status, error.code, error.message, error.remedy
        case Transient() | Permanent():
            # Before the colon stands what is away, behind it where it was sought: the second is for the operator.
            log.warning("request %s: %s", request_id, error.message)
            status, code = (503, "away") if isinstance(error, Transient) else (502, "upstream")
            return status, code, error.message.partition(": ")[0], error.remedy or "try again shortly"
        case SetupError() | ContractError():
            # What is missing, and where, is for whoever runs this service: callers can do nothing about it.
            log.error("request %s: %s (%s)", request_id, error.message, error.remedy or "no remedy")
            return 503, "setup", f"the service is not set up for this; its log says why under {request_id}", ""
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            log.error("request %s: the disk is full: %s", request_id, error)
            return (
                507,
                "disk_full",
                "the server's disk is full; nothing was stored",
                "free disk space on the server, then send again",
            )
        case _:
            log.error("request %s failed", request_id, exc_info=error)
            return 500, "unexpected", f"unexpected error; it is in the server's log under {request_id}", ""


def of_error(error: Exception, request_id: str) -> Response:
    """The response for an error of any kind; never a word of what is inside the server."""
    status, code, detail, remedy = describe(error, request_id)
    members = {"id": request_id} if status >= 500 else {}
    return problem(status, code, detail, remedy=remedy, headers=headers_of(error), **members, **limit_of(error))


def headers_of(error: Exception) -> dict[str, str]:
    """When to come back, in whole seconds rounded up, and how to say who one is."""
    match error:
        case Limited() | Transient():
            return {"retry-after": str(max(1, math.ceil(error.retry_after_s)))}
        case Unauthorised():
            return {"www-authenticate": "Bearer"}
        case _:
            return {}


def limit_of(error: Exception) -> dict[str, str]:
    """Whose limit was reached, over which window, how much it is and when it begins anew: what is known of it."""
    if not isinstance(error, Limited):
        return {}
    resets_at = error.resets_at.isoformat() if error.resets_at else None
    told = {"scope": error.scope, "window": error.window, "limit": error.limit, "resets_at": resets_at}
    return {name: value for name, value in told.items() if value is not None}


def count_limited(request: Request, error: Exception) -> None:
    """Count a refusal for want of room or money; to be called once for each, by whoever answers it."""
    if isinstance(error, Limited):
        request.app.state.service.deps.meter.count("rag_limited_total", code=error.code)


def invalid_fields(errors: Sequence[Mapping[str, Any]], known: Sequence[str], *, where: str = "body") -> Invalid:
    """What pydantic found, as one sentence that names the field and, for an unknown one, the nearest known."""
    faults = "; ".join(dict.fromkeys(_fault(error, known, where) for error in errors[:5]))
    return Invalid(faults, remedy="see /docs for the fields and an example")


def unknown_field(name: str, known: Sequence[str], *, where: str) -> Invalid:
    """A field nobody knows, with the nearest that is known."""
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
    return Invalid(f"{shorten(name, SHOWN_CHARACTERS)!r} is not a field of the {where}; {hint}", remedy="see /docs")


def install(app: FastAPI) -> None:
    """Answer the framework's own refusals (404, 405, validation) and ours with problems."""
    app.add_exception_handler(PilotisError, _on_error)
    app.add_exception_handler(OSError, _on_error)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RequestValidationError, _on_validation)


def shorten(text: str, most: int) -> str:
    """The text, with what is over `most` characters left out."""
    return text if len(text) <= most else f"{text[:most]}…"


def encodable(text: str) -> str:
    """The text with lone surrogates made visible, since UTF-8 has no place for them."""
    return text.encode("utf-8", "backslashreplace").decode()


async def _on_error(request: Request, error: Exception) -> Response:
    count_limited(request, error)
    return of_error(error, request.scope.get("request_id", ""))


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = HTTPStatus(error.status_code).name.lower()
    detail, headers = str(error.detail), error.headers
    if error.status_code == HTTPStatus.NOT_FOUND:
        detail = f"there is nothing at {_path(request)}"
    elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        detail = f"{request.method} is not possible at {_path(request)}"
        headers = {"allow": ", ".join(_methods(request))}
    return problem(
        error.status_code, code, detail, headers=headers, remedy="see /docs" if error.status_code in {404, 405} else ""
    )


def _methods(request: Request) -> list[str]:
    """What is possible at this path; the framework names the methods of the first route that fits and leaves out the others."""
    tried = ({**request.scope, "method": method} for method in ("DELETE", "GET", "PATCH", "POST", "PUT"))
    fitting = (scope["method"] for scope in tried if any(r.matches(scope)[0] is Match.FULL for r in request.app.routes))
    return [name for method in fitting for name in ((method, "HEAD") if method == "GET" else (method,))]


def _path(request: Request) -> str:
    return shorten(request.url.path, SHOWN_CHARACTERS)


async def _on_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    parameters = request.scope["route"].dependant.query_params
    known = [name for given in parameters for name in getattr(given.field_info.annotation, "model_fields", (given.alias,))]
    return of_error(invalid_fields(error.errors(), known, where="query"), request.scope.get("request_id", ""))


def _fault(error: Mapping[str, Any], known: Sequence[str], where: str) -> str:
    path = [str(part) for part in error["loc"] if part not in {"body", "query"}]
    name = ".".join(path) or f"the {where}"
    if error["type"] == "extra_forbidden":
        return unknown_field(name, known, where=where).message
    if error["type"] == "json_invalid" and "hex escape" in error["msg"]:
        return f"{name}: {error['msg']}: half of a surrogate pair is no character"
    if error["type"] == "missing":
        return f"{name!r} is missing"
    return f"{name}: {error['msg'].removeprefix('Value error, ')}"
