"""POST /v1/search: the passages, without an answer."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from pydantic import Field

from pilotis.api import examples
from pilotis.api.access import Caller
from pilotis.api.bodies import Body, Filters, Text, TopK, Typed, json_body, read_json
from pilotis.api.edge import CLIENT_IP, COUNTED
from pilotis.api.views import json_response, passages_view, plain, receipt_view
from pilotis.online.ask import Ask
from pilotis.online.search import search as find

router = APIRouter(prefix="/v1", tags=["questions"])


class SearchBody(Body):
    question: Typed
    """What to look for."""
    collection: Text | None = None
    """Search one collection only."""
    metadata: Filters = Field(default_factory=dict)
    """Search only documents whose metadata holds all of these."""
    top_k: TopK | None = None
    """How many passages to return; left out, the env's figure."""


@router.post(
    "/search",
    summary="Find passages, best first",
    openapi_extra=json_body(SearchBody, examples.SEARCH),
    responses=examples.responses(examples.FOUND),
    response_class=Response,
)
async def search(request: Request, caller: Caller) -> Response:
    body = await read_json(request, SearchBody)
    app = request.app.state
    asked = Ask(
        bu=caller.bu,
        text=body.question,
        collection=body.collection,
        metadata=body.metadata,
        top_k=body.top_k,
        key=caller.id,
        key_budget=caller.budget,
        ip=request.scope.get(CLIENT_IP),
    )
    request.scope[COUNTED] = True
    results = await find(asked, app.env, app.plan, app.service.deps)
    content = {
        "id": results.id,
        "language": results.language,
        "passages": passages_view(results.hits),
        **receipt_view(results.receipt),
        "timings_ms": results.timings_ms,
    }
    return json_response(content, headers={"x-rag-cost-eur": plain(results.receipt.cost_eur)})
