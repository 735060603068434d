"""POST /v1/answers/{answer_id}/feedback: what somebody thinks of an answer of their business unit."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import Field

from pilotis.api import examples
from pilotis.api.access import Caller
from pilotis.api.bodies import Body, Text, json_body, read_json
from pilotis.api.views import json_response
from pilotis.errors import NotFound, PilotisError
from pilotis.online.booking import book_all
from pilotis.ports import Deps
from pilotis.ports.quality import Opinion, Vote
from pilotis.rag.question import MAX_CHARACTERS

router = APIRouter(prefix="/v1", tags=["questions"])

MAX_COMMENT = 4_000
FEEDBACK = {
    "vote": "down",
    "comment": "the page on rotation says it better",
    "passage_id": "b7a0c1f2d3e44f55",
    "question": "How do I rotate an API key?",
}
KEPT = {
    "answer_id": "5d1f3c0e-8a1b-4f6e-b0d5-7b5f1a2c3d4e",
    "vote": "down",
    "comment": "the page on rotation says it better",
    "passage_id": "b7a0c1f2d3e44f55",
    "document": "keys.md",
    "question": "How do I rotate an API key?",
    "at": "2026-01-01T09:00:00+00:00",
}


class FeedbackBody(Body):
    vote: Vote
    """`up` or `down`."""
    comment: Annotated[Text, Field(max_length=MAX_COMMENT)] | None = None
    """What was good or wrong."""
    passage_id: Annotated[Text, Field(max_length=200)] | None = None
    """The passage that would have been right, as an answer or a search names it."""
    question: Annotated[Text, Field(max_length=MAX_CHARACTERS)] | None = None
    """The question, if it may be kept: the service keeps none by itself. With it and `passage_id` the vote can become a golden question."""


@router.post(
    "/answers/{answer_id}/feedback",
    summary="Vote on an answer",
    openapi_extra=json_body(FeedbackBody, FEEDBACK),
    responses=examples.responses(KEPT),
    response_class=Response,
)
async def feedback(request: Request, caller: Caller, answer_id: Text) -> Response:
    """Each key has one vote an answer; a later one takes its place. 404 for an answer that is none of this business unit's."""
    body = await read_json(request, FeedbackBody)
    deps: Deps = request.app.state.service.deps
    opinion = Opinion(
        answer_id=answer_id,
        bu=caller.bu,
        key=caller.id,
        at=datetime.now(UTC),
        vote=body.vote,
        comment=_said(body.comment),
        passage_id=body.passage_id,
        question=_said(body.question),
    )
    kept = await _put(opinion, deps)
    deps.meter.count("rag_feedback_total", vote=kept.vote)
    shown = ("answer_id", "vote", "comment", "passage_id", "document", "question")
    return json_response({name: getattr(kept, name) for name in shown} | {"at": kept.at.isoformat()})


async def _put(opinion: Opinion, deps: Deps) -> Opinion:
    """A vote may come before the answer's line is in the ledger: it is brought there first, once."""
    try:
        return await deps.feedback.put(opinion)
    except NotFound:
        with suppress(PilotisError):
            await book_all(deps.outbox, deps.ledger)
        return await deps.feedback.put(opinion)


def _said(text: str | None) -> str | None:
    return text if text and text.strip() else None
