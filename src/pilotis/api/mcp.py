"""/mcp: search, ask and list documents as tools of the Model Context Protocol, over streamable HTTP, without sessions.

The protocol is the official SDK's business. It is imported with the first request: 28 MB that whoever does not use it is spared.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import aclosing, suppress
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, ValidationError
from pydantic_core import from_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from pilotis import __version__
from pilotis.api.access import identify
from pilotis.api.bodies import MAX_JSON_BYTES, Body, Text, TopK, Typed, read_bytes
from pilotis.api.chat_views import notes
from pilotis.api.edge import CLIENT_IP
from pilotis.api.problems import SHOWN_CHARACTERS, count_limited, describe, headers_of, invalid_fields, limit_of, shorten
from pilotis.api.stream import unless_left
from pilotis.api.views import answer_view, document_view, encode, json_response, passages_view, plain
from pilotis.derive import genai
from pilotis.errors import Forbidden, PilotisError
from pilotis.online import answer as road
from pilotis.online.search import search as find
from pilotis.ports import Right, trace

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext
    from mcp.server.lowlevel import Server
    from mcp_types import CallToolRequestParams, CallToolResult, ListToolsResult, PaginatedRequestParams, Tool

INSTRUCTIONS = (
    "Answers questions from the documents of one organisation, with sources and the cost in euros. "
    "Use `ask` for an answer, `search` for the passages alone, `list_documents` to see what there is."
)


class SearchCall(Body):
    question: Typed
    """What to look for, in any language."""
    collection: Text | None = None
    """Search one collection only."""
    top_k: TopK | None = None
    """How many passages; left out, the service's figure."""


class AskCall(Body):
    question: Typed
    """In any language; the answer comes in the same."""
    collection: Text | None = None
    """Ask one collection only."""


class ListCall(Body):
    collection: Text | None = None
    """Of one collection only."""
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    """How many, newest first."""
    after: Text | None = None
    """The `next` of the page before."""


REFUSED = -32000
"""The code of an error that is the server's own, among those of JSON-RPC."""

Told = tuple[str, dict[str, Any]]
"""The outcome of a tool: as a text for a model, and as data for a program."""


async def _search(call: SearchCall, request: Request) -> Told:
    caller, app = await identify(request, "ask"), request.app.state
    asked = road.Ask(
        bu=caller.bu,
        text=call.question,
        collection=call.collection,
        top_k=call.top_k,
        key=caller.id,
        key_budget=caller.budget,
        ip=request.scope.get(CLIENT_IP),
    )
    results = await find(asked, app.env, app.plan, app.service.deps)
    shown = [
        f"[{n}] {hit.title or hit.document}{'' if hit.page is None else f', p. {hit.page}'}\n{hit.text}"
        for n, hit in enumerate(results.hits, 1)
    ]
    data = {"passages": passages_view(results.hits), "cost_eur": plain(results.receipt.cost_eur)}
    return "\n\n".join(shown) or "No passage was found.", data


async def _ask(call: AskCall, request: Request) -> Told:
    caller, app = await identify(request, "ask"), request.app.state
    asked = road.Ask(
        bu=caller.bu,
        text=call.question,
        collection=call.collection,
        key=caller.id,
        key_budget=caller.budget,
        ip=request.scope.get(CLIENT_IP),
    )
    async with aclosing(road.answer(asked, app.env, app.plan, app.service.deps)) as events:
        async for step in events:
            if isinstance(step, road.Done):
                return step.answer.text + notes(step.answer), answer_view(step.answer)
    raise AssertionError("the road of a question ends with Done or an error")


async def _list_documents(call: ListCall, request: Request) -> Told:
    caller = await identify(request, "ask", "ingest")
    documents = request.app.state.service.deps.documents
    found = await documents.find(caller.bu, collection=call.collection, limit=call.limit, after=call.after)
    following = found[-1].id if len(found) == call.limit else None
    lines = [f"{document.name} ({document.collection}, {document.state})" for document in found]
    return "\n".join(lines) or "There are no documents.", {"documents": list(map(document_view, found)), "next": following}


_SEARCH = """Find the passages of the organisation's documents that bear on a question, best first.

Use it where you want to read the original words and draw your own conclusions, to compare or collect several places, or to check an
answer of `ask`. It writes nothing, and costs less than `ask`. Put one question, in full: no conversation is known here.

Returns each passage as `[n] title, page` with its text; as data also document, collection, headings, score, and where in the document it
stands, with the cost in euros. "No passage was found." means that nothing there fits: do not answer from elsewhere as if it did."""
_ASK = """Have a question answered from the organisation's documents alone, in the language of the question.

Use it for what the organisation's own documents would know: its rules, products, procedures, contracts. Not for general knowledge, nor to
write, translate or summarise a text of yours. Put one question, in full: no conversation is known here. A model may write the answer, which
costs money and takes some seconds; what was asked a moment ago may come again for nothing.

Returns the answer with marks as `[1]` and the sources they stand for; as data also each quote with its place, `cost_eur`, and `found`:
false where the documents do not say, and then the answer says so."""
_LIST_DOCUMENTS = """List the documents that `ask` and `search` read, newest first, and how far the reading of each is.

Use it to see what there is, to find the name of a collection to narrow `ask` and `search` to, or to learn whether a document that was sent
is ready. It tells nothing of what stands in them: use `search` for that. It costs nothing.

Returns a line for each, `name (collection, state)`: `indexed` is ready, `failed` will not be. As data also id, title, pages, language, dates
and errors, and `next`: the `after` of the following page, null on the last."""

TOOLS: dict[str, tuple[type[BaseModel], Callable[[Any, Request], Coroutine[Any, Any, Told]], str]] = {
    "search": (SearchCall, _search, _SEARCH),
    "ask": (AskCall, _ask, _ASK),
    "list_documents": (ListCall, _list_documents, _LIST_DOCUMENTS),
}
"""What each is called with, does, and tells a model about itself: what it does, when it fits, what it returns."""


class Endpoint:
    """One request, one transport: nothing is kept between requests, so that any process may serve any of them."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            _check_origin(request)
            await identify(request, *RIGHTS)
            body = await read_bytes(request)
        except (PilotisError, OSError) as error:
            count_limited(request, error)
            await _refusal(error, request)(scope, receive, send)
            return
        server = await asyncio.to_thread(_server)
        await unless_left(_serve(server, scope, _once(body), send), receive)


LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
"""Where a web page that calls may come from: this machine. `Host` is not looked at, since a rebound name has it agree."""

RIGHTS: tuple[Right, ...] = ("ask", "ingest", "admin")
"""Whoever has any may look which tools there are."""

route = Route("/mcp", Endpoint(), methods=["POST"], include_in_schema=False)
"""POST alone: without sessions there is nothing to listen to and nothing to end."""


def _check_origin(request: Request) -> None:
    """Raises Forbidden for the web page of another machine, as the protocol demands; programs that are no browser name no origin."""
    origin = request.headers.get("origin")
    if origin is None:
        return
    try:
        host = urlsplit(origin).hostname
    except ValueError:  # such as half an IPv6 address
        host = None
    if host not in LOOPBACK:
        raise Forbidden(
            f"a page of {shorten(origin, SHOWN_CHARACTERS)!r} may not call this",
            remedy="call from a program, or let the proxy in front vouch for the page and take the header 'origin' out",
        )


async def _serve(server: Server[Any], scope: Scope, receive: Receive, send: Send) -> None:
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

    manager = StreamableHTTPSessionManager(server, json_response=True, stateless=True, max_request_body_size=MAX_JSON_BYTES)
    async with manager.run():
        await manager.handle_request(scope, receive, send)


@cache
def _server() -> Server[Any]:
    import logging

    from mcp.server.lowlevel import Server

    logging.getLogger("mcp").setLevel(logging.WARNING)
    return Server("pilotis", version=__version__, instructions=INSTRUCTIONS, on_list_tools=_listed, on_call_tool=_called)


async def _listed(_: ServerRequestContext[Any], __: PaginatedRequestParams | None) -> ListToolsResult:
    from mcp_types import ListToolsResult

    return ListToolsResult(tools=[_tool(name) for name in TOOLS])


async def _called(context: ServerRequestContext[Any], params: CallToolRequestParams) -> CallToolResult:
    from mcp.shared.exceptions import MCPError
    from mcp_types import INVALID_PARAMS

    request = context.request
    assert isinstance(request, Request)
    if params.name not in TOOLS:
        raise MCPError(code=INVALID_PARAMS, message=f"there is no tool {params.name[:100]!r}; there are {', '.join(TOOLS)}")
    model, work, _ = TOOLS[params.name]
    try:
        return _result(*await _whole(work(_read(model, params.arguments or {}), request)))
    except Exception as error:  # whatever it is, `describe` tells no more than a stranger may know; the SDK would tell it all
        count_limited(request, error)
        return _result(*_told(error, request), is_error=True)


def _refusal(error: Exception, request: Request) -> Response:
    """The response for who does not get in: an error of the protocol, so that its clients show why."""
    message, data = _told(error, request)
    body = {"jsonrpc": "2.0", "id": None, "error": {"code": REFUSED, "message": message, "data": data}}
    return json_response(body, data["status"], headers_of(error))


def _told(error: Exception, request: Request) -> Told:
    status, code, detail, remedy = describe(error, request.scope["request_id"])
    trace.current().note({genai.CODE: code})
    data = {"status": status, "code": code, "detail": detail, "remedy": remedy, **limit_of(error)}
    if "retry-after" in (headers := headers_of(error)):
        data["retry_after_s"] = int(headers["retry-after"])
    return f"{detail}; {remedy}" if remedy else detail, data


def _result(text: str, data: dict[str, Any], *, is_error: bool = False) -> CallToolResult:
    from mcp_types import CallToolResult, TextContent

    data = from_json(encode(data))
    return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=data, is_error=is_error)


def _tool(name: str) -> Tool:
    from mcp_types import Tool, ToolAnnotations

    model, _, description = TOOLS[name]
    schema = model.model_json_schema()
    return Tool(
        name=name,
        description=description,
        input_schema=schema,
        annotations=ToolAnnotations(read_only_hint=True, open_world_hint=False),
    )


def _read(model: type[BaseModel], arguments: dict[str, Any]) -> BaseModel:
    try:
        return model.model_validate(arguments)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        raise invalid_fields(found, list(model.model_fields), where="arguments") from None


async def _whole(work: Coroutine[Any, Any, Told]) -> Told:
    """Its outcome. Cancelled once rather than again and again, as the SDK's scopes do, so that what was consumed is settled."""
    import anyio

    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.cancel()
        with anyio.CancelScope(shield=True), suppress(asyncio.CancelledError, PilotisError):
            await task
        raise


def _once(body: bytes) -> Receive:
    """`receive` for whoever reads a body that was read already; whether the client leaves is watched elsewhere."""
    told: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        if not told:
            await asyncio.Event().wait()
        return told.pop()

    return replayed
