"""POST /v1/ask: one JSON answer, or the same as a stream of events."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import Field

from pilotis.api import examples
from pilotis.api.access import Caller
from pilotis.api.bodies import Body, Filters, Text, TopK, Typed, json_body, read_json
from pilotis.api.edge import CLIENT_IP, COUNTED
from pilotis.api.problems import describe, problem_json
from pilotis.api.stream import EventStream, event, whole
from pilotis.api.views import answer_view, encode, json_response, passages_view, plain
from pilotis.derive import genai
from pilotis.errors import Invalid
from pilotis.online import answer as road
from pilotis.ports import trace

router = APIRouter(prefix="/v1", tags=["questions"])


class AskBody(Body):
    question: Typed
    """In any language of the contract."""
    collection: Text | None = None
    """Ask one collection only."""
    metadata: Filters = Field(default_factory=dict)
    """Ask only documents whose metadata holds all of these."""
    top_k: TopK | None = None
    """How many passages to retrieve; left out, the env's figure."""
    stream: bool = False
    """Answer as server-sent events, as `Accept: text/event-stream` does too."""


@router.post(
    "/ask",
    summary="Answer a question from the documents, with sources and cost",
    openapi_extra=json_body(AskBody, examples.ASK),
    responses=examples.responses(examples.ANSWER, also={"text/event-stream": examples.STREAM}),
    response_class=Response,
)
async def ask(request: Request, caller: Caller) -> Response:
    """The header `x-rag-cost-eur` carries the cost of an answer that is not streamed.

    As a stream: one `passages`, many `token`, one `done` which holds what the JSON answer holds; or an `error`, whose data is a
    problem. A client that leaves early pays for what was consumed until then.
    """
    body = await read_json(request, AskBody)
    app = request.app.state
    streamed = body.stream or "text/event-stream" in request.headers.get("accept", "")
    if streamed and not app.env.streaming:
        raise Invalid("this service does not stream (perf.streaming is false)", remedy="ask without 'stream'")
    asked = road.Ask(
        bu=caller.bu,
        text=body.question,
        collection=body.collection,
        metadata=body.metadata,
        top_k=body.top_k,
        streamed=streamed,
        key=caller.id,
        key_budget=caller.budget,
        ip=request.scope.get(CLIENT_IP),
    )
    request.scope[COUNTED] = True
    events = road.answer(asked, app.env, app.plan, app.service.deps)
    if streamed:
        first = await anext(events)
        return EventStream(_frames(first, events, request.scope["request_id"]))
    answer = await whole(events, request.receive)
    return json_response(answer_view(answer), headers={"x-rag-cost-eur": plain(answer.receipt.cost_eur)})


async def _frames(first: road.Event, events: AsyncGenerator[road.Event, None], request_id: str) -> AsyncGenerator[bytes, None]:
    async with aclosing(events):
        try:
            yield _frame(first)
            async for step in events:
                yield _frame(step)
        except Exception as error:  # the status line is gone: the error travels as the last event instead
            status, code, detail, remedy = describe(error, request_id)
            trace.current().root.note({genai.CODE: code})
            yield event("error", problem_json(status, code, detail, remedy=remedy, id=request_id))


def _frame(step: road.Event) -> bytes:
    name: str
    data: Any
    match step:
        case road.Passages(hits=hits):
            name, data = "passages", {"passages": passages_view(hits)}
        case road.Token(text=text):
            name, data = "token", {"text": text}
        case road.Done(answer=answer):
            name, data = "done", answer_view(answer)
    return event(name, encode(data))
