"""POST /v1/chat/completions and GET /v1/models: the road of a question, for every client that speaks to OpenAI's API."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, FastAPI, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from pilotis.api import dialect, examples
from pilotis.api.access import Caller
from pilotis.api.bodies import Body, Filters, Text, TopK, json_body, read_json
from pilotis.api.chat_views import DONE, Reply, extension, finish_reason, frame, model_view, notes
from pilotis.api.edge import CLIENT_IP, COUNTED
from pilotis.api.problems import SHOWN_CHARACTERS, describe, limit_of, problem, shorten
from pilotis.api.stream import EventStream, whole
from pilotis.api.views import json_response, plain
from pilotis.derive import genai
from pilotis.errors import Invalid, NotFound
from pilotis.online import answer as road
from pilotis.ports import trace
from pilotis.rag.history import Turn, follow

if TYPE_CHECKING:
    from starlette.types import Send

MODEL = "pilotis"
"""The model that answers from all documents of a business unit; `pilotis/COLLECTION` answers from one collection."""

SPOKEN = {"user": "user", "assistant": "assistant", "system": None, "developer": None}
"""The roles there are. What a client says as the system is left out: the prompt that the service was tested with is its own."""


class Extension(Body):
    """What OpenAI's API has no words for."""

    footnotes: bool = True
    """Whether the sources stand behind the text too."""
    collection: Text | None = None
    """Ask one collection only."""
    metadata: Filters = Field(default_factory=dict)
    """Ask only documents whose metadata holds all of these."""
    top_k: TopK | None = None
    """How many passages to retrieve; left out, the env's figure."""


class StreamOptions(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)

    include_usage: bool | None = None


class ChatBody(BaseModel):
    """What is read of a request. Whatever else OpenAI's API knows is accepted and changes nothing."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, use_attribute_docstrings=True)

    model: Text
    """`pilotis`, or `pilotis/COLLECTION`."""
    messages: list[dict[str, Any]] = Field(min_length=1)
    """Role and content of each turn; the last of the user is the question."""
    stream: bool | None = None
    """Answer piece by piece."""
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    """At most so many tokens of answer, where that is less than the service allows."""
    max_completion_tokens: int | None = Field(default=None, ge=1)
    """The same, by its newer name."""
    n: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None
    functions: list[Any] | None = None
    response_format: Any = None
    modalities: list[Any] | None = None
    audio: Any = None
    pilotis: Extension | None = None
    """What OpenAI's API has no words for."""

    @property
    def most(self) -> int | None:
        """The cap on the answer's tokens."""
        return min((cap for cap in (self.max_tokens, self.max_completion_tokens) if cap is not None), default=None)


class Unfit(Invalid):
    """Something in a request that cannot be had here (400), or a model that there is not (404); `param` names it."""

    def __init__(self, message: str, *, param: str, remedy: str = "", status: int = 400, code: str = "invalid") -> None:
        super().__init__(message, remedy=remedy, status=status, code=code)
        self.param = param


router = APIRouter(prefix="/v1", tags=["openai"])


def install(app: FastAPI) -> None:
    """Let the problem of an Unfit name its parameter; `api.dialect` then puts it into OpenAI's words."""

    async def told(_: Request, error: Exception) -> Response:
        assert isinstance(error, Unfit)
        return problem(error.status, error.code, error.message, remedy=error.remedy, param=error.param)

    app.add_exception_handler(Unfit, told)


_EXAMPLE = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "How do I rotate an API key?"}],
    "stream": False,
    "pilotis": {"footnotes": True},
}
_STREAM = (
    'data: {"id": "chatcmpl-…", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "Create"}}], …}\n\n'
    "data: [DONE]\n\n"
)


def _responses(example: Any, *, also: Mapping[str, str] | None = None) -> dict[int | str, dict[str, Any]]:
    """What a route may answer: errors have OpenAI's form."""
    made = examples.responses(example, also=also)
    for status, told in made.items():
        if status != 200:
            told["content"] = {"application/json": {"schema": dialect.SCHEMA}}
    return made


@router.post(
    "/chat/completions",
    summary="Answer a conversation's last question, as OpenAI's API does",
    openapi_extra=json_body(ChatBody, _EXAMPLE),
    responses=_responses({"object": "chat.completion"}, also={"text/event-stream": _STREAM}),
    response_class=Response,
)
async def chat(request: Request, caller: Caller) -> Response:
    """The last message of the user is the question; what was said before tells what it refers to.

    Sources, cost and what was saved are under `pilotis`, and the sources behind the text too. Errors have OpenAI's form.
    """
    body = await read_json(request, ChatBody)
    app = request.app.state
    asked = _asked(body, request, caller)
    if asked.streamed and not app.env.streaming:
        raise Unfit("this service does not stream (perf.streaming is false)", param="stream", remedy="ask without 'stream'")
    request.scope[COUNTED] = True
    options = body.stream_options or StreamOptions()
    reply = Reply(
        id=f"chatcmpl-{request.scope['request_id']}",
        created=int(time.time()),
        model=body.model,
        with_usage=bool(options.include_usage),
    )
    with_notes = body.pilotis is None or body.pilotis.footnotes
    events = _events(body.model, road.answer(asked, app.env, app.plan, app.service.deps))
    if asked.streamed:
        pieces = _pieces(events, reply, notes_too=with_notes)
        return ChatStream(_frames(pieces, request.scope["request_id"]))
    answer = await whole(events, request.receive)
    said = reply.whole(answer, footnotes=with_notes)
    return json_response(said, headers={"x-rag-cost-eur": plain(answer.receipt.cost_eur)})


@router.get(
    "/models",
    summary="The models there are: all documents, and each collection",
    responses=_responses({"object": "list", "data": [model_view(MODEL, "north"), model_view(f"{MODEL}/handbook", "north")]}),
    response_class=Response,
)
async def models(request: Request, caller: Caller) -> Response:
    names = await _models(request, caller.bu)
    return json_response({"object": "list", "data": [model_view(name, caller.bu) for name in names]})


@router.get(
    "/models/{model_id:path}",
    summary="One model",
    responses=_responses(model_view(MODEL, "north")),
    response_class=Response,
)
async def model(request: Request, caller: Caller, model_id: str) -> Response:
    if model_id not in await _models(request, caller.bu):
        raise _no_model(model_id)
    return json_response(model_view(model_id, caller.bu))


async def _models(request: Request, bu: str) -> list[str]:
    return [MODEL, *(f"{MODEL}/{name}" for name in sorted(await request.app.state.service.deps.documents.collections(bu)))]


def _asked(body: ChatBody, request: Request, caller: Any) -> road.Ask:
    """The question of a body. Raises Invalid."""
    _check(body)
    own = body.pilotis or Extension()
    question, history = follow(_turns(body.messages))
    return road.Ask(
        bu=caller.bu,
        text=question,
        collection=_collection(body.model, own.collection),
        metadata=own.metadata,
        top_k=own.top_k,
        history=history,
        max_tokens=body.most,
        streamed=bool(body.stream),
        key=caller.id,
        key_budget=caller.budget,
        ip=request.scope.get(CLIENT_IP),
    )


def _collection(model_id: str, named: str | None) -> str | None:
    kind, slash, collection = model_id.partition("/")
    if kind != MODEL or (slash and not collection):
        raise _no_model(model_id)
    if slash and named not in {None, collection}:
        raise Unfit(
            f"the model names the collection {collection!r}, pilotis.collection {named!r}",
            param="pilotis.collection",
            remedy="name one of them",
        )
    return collection or named


def _check(body: ChatBody) -> None:
    """Raise Unfit for what would change the answer's form, and cannot be done here."""
    form = body.response_format.get("type") if isinstance(body.response_format, dict) else body.response_format
    if body.n not in {None, 1}:
        raise Unfit(f"n is {body.n}; there is one answer to a question", param="n", remedy="leave it out")
    for name in ("logprobs", "top_logprobs"):
        if getattr(body, name):
            raise Unfit("no probabilities of tokens are told", param=name, remedy=f"leave {name!r} out")
    if form not in (None, "text"):
        raise Unfit(f"an answer is text, not {str(form)[:50]!r}", param="response_format", remedy="leave it out")
    if body.audio is not None or (body.modalities and body.modalities != ["text"]):
        raise Unfit("an answer is text, not audio", param="audio", remedy="leave 'audio' and 'modalities' out")
    # Tools that may be called need not be: chat programs send theirs with every question.
    if body.tool_choice is not None and body.tool_choice not in ("auto", "none"):
        raise Unfit("this service calls no tools, so none can be required", param="tool_choice", remedy="leave it out")


def _turns(messages: list[dict[str, Any]]) -> list[Turn]:
    """What was said, and by whom. Raises Unfit where a message is none, or is more than text."""
    turns: list[Turn] = []
    for position, message in enumerate(messages):
        where = f"messages.{position}"
        role = message.get("role")
        if not isinstance(role, str) or role not in SPOKEN:
            raise Unfit(
                f"the role of message {position} is {str(role)[:50]!r}",
                param=f"{where}.role",
                remedy=f"use one of {', '.join(SPOKEN)}",
            )
        if message.get("tool_calls") or message.get("function_call"):
            raise Unfit(
                f"message {position} calls a tool; this service knows none", param=f"{where}.tool_calls", remedy="leave it out"
            )
        silent = role == "assistant" and message.get("content") is None  # as clients send back what had no text
        text = "" if silent else _text(message.get("content"), f"{where}.content")
        if spoken := SPOKEN[role]:
            turns.append((spoken, text))
    return turns


def _text(content: Any, where: str) -> str:
    match content:
        case str():
            text = content
        case list():
            text = "\n".join(_part(part, where) for part in content)
        case _:
            raise Unfit(f"{where} is neither a text nor a list of texts", param=where, remedy="send a text")
    if "\0" in text:
        raise Unfit(f"{where} holds a NUL character, which no text can", param=where, remedy="remove it")
    return text


def _part(part: Any, where: str) -> str:
    match part:
        case {"type": "text", "text": str(text)}:
            return text
        case {"type": str(kind)}:
            raise Unfit(
                f"{where} holds a part of type {kind[:50]!r}; only text is read",
                param=where,
                remedy="send parts of type 'text'",
            )
        case _:
            raise Unfit(f"{where} holds a part that is no text", param=where, remedy='send {"type": "text", "text": "..."}')


class ChatStream(EventStream):
    """Begins with its first piece: what fails before is told by a status, which clients act upon.

    Whoever leaves until then is noticed as well: a model may think for long before its first word.
    """

    async def _pump(self, send: Send) -> None:
        async with aclosing(self.events):
            first = await anext(self.events)
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await send({"type": "http.response.body", "body": first, "more_body": True})
            async for chunk in self.events:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _events(model_id: str, events: AsyncGenerator[road.Event, None]) -> AsyncGenerator[road.Event, None]:
    """The same; a collection that is named as a model, and is not there, is no model."""
    async with aclosing(events):
        try:
            async for step in events:
                yield step
        except NotFound:
            if model_id == MODEL:
                raise
            raise _no_model(model_id) from None


async def _pieces(events: AsyncGenerator[road.Event, None], reply: Reply, *, notes_too: bool) -> AsyncGenerator[bytes, None]:
    """Nothing before the first word, then who speaks, and what is said."""
    begun = False
    async with aclosing(events):
        async for step in events:
            for piece in _piece(step, reply, notes_too=notes_too):
                if not begun:
                    yield reply.delta({"role": "assistant", "content": "", "refusal": None})
                    begun = True
                yield piece


def _piece(step: road.Event, reply: Reply, *, notes_too: bool) -> list[bytes]:
    match step:
        case road.Token(text=text):
            return [reply.delta({"content": text})]
        case road.Done(answer=answer):
            behind = notes(answer) if notes_too else ""
            last = reply.delta({}, finish=finish_reason(answer), more={"pilotis": extension(answer)})
            usage = [reply.usage(answer)] if reply.with_usage else []
            return [*([reply.delta({"content": behind})] if behind else []), last, *usage, DONE]
    return []


async def _frames(pieces: AsyncGenerator[bytes, None], request_id: str) -> AsyncGenerator[bytes, None]:
    begun = False
    async with aclosing(pieces):
        try:
            async for piece in pieces:
                yield piece
                begun = True
        except Exception as error:  # the status line is gone: the error travels as the last event instead
            if not begun:
                raise
            status, code, detail, remedy = describe(error, request_id)
            trace.current().root.note({genai.CODE: code})
            broken = {"detail": detail, "remedy": remedy, "code": code, "id": request_id, **limit_of(error)}
            yield frame(dialect.error(status, broken)[1])


def _no_model(model_id: str) -> Unfit:
    return Unfit(
        f"there is no model {shorten(model_id, SHOWN_CHARACTERS)!r}",
        param="model",
        remedy="GET /v1/models lists those there are",
        status=404,
        code="model_not_found",
    )
