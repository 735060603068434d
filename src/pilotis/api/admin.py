"""/v1/admin/guardrail and /v1/admin/cache: where the guardrail stands, what the caches hold, and a person's own decision about both.

An admin key sees and clears what is of its own business unit. The guardrail keeps a cost that was agreed on: only a key that was made
with `pilotis keys create --all-bus` moves it.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict

from pilotis.api import examples
from pilotis.api.access import Admin, reach
from pilotis.api.bodies import Body, Text, json_body, read_json
from pilotis.api.views import json_response, plain
from pilotis.control import guardrail
from pilotis.derive.keys import EVERY_BU, check
from pilotis.errors import Forbidden
from pilotis.ports import Deps

router = APIRouter(prefix="/v1/admin", tags=["admin"])

SCOPE = {
    "scope": "bu:sales",
    "level": 1,
    "step": "no_rerank",
    "in_force": "no_rerank",
    "since": "2026-01-01T09:00:00Z",
    "reason": "60 answers cost 0.024 EUR on average, more than 0.02 EUR",
    "answers": 12,
    "mean_eur": "0.019000",
    "recovers_at": "2026-01-01T09:10:00Z",
}
STANDING = {
    "env": "prod",
    "threshold_eur": "0.020000",
    "window_s": 3600,
    "min_sample": 50,
    "ladder": ["full", "no_rerank", "smaller_top_k", "compact_model", "cache_only", "refuse"],
    "scopes": [SCOPE],
    "moves": [
        {
            "at": "2026-01-01T09:00:00Z",
            "scope": "bu:sales",
            "from_level": 0,
            "to_level": 1,
            "actor": "guardrail",
            "reason": "60 answers cost 0.024 EUR on average, more than 0.02 EUR",
            "figures": {"answers": 60, "cost_eur": "1.44", "threshold_eur": "0.02", "window_s": 3600, "min_sample": 50},
        }
    ],
}
STATS = {
    "bu": "sales",
    "answers": 812,
    "passages": 640,
    "bytes": 5120000,
    "hits": 1200,
    "misses": 900,
    "passage_hits": 85,
    "saved_eur": "19.800000",
    "hit_rate": 0.571,
}


class BuQuery(BaseModel):
    """Whose."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    bu: Text | None = None
    """Of one business unit only; left out, that of the key, or all with an operator's key."""


class StandingQuery(BuQuery):
    """Whose, and how far back."""

    last: Annotated[int, Query(ge=1, le=1000)] = 10
    """Moves to show, latest first."""


class Move(Body):
    step: Text
    """A step of the ladder by its name, such as `compact_model`, or by its number; `full` is the full service."""
    bu: Text | None = None
    """Of one business unit; left out, of the whole service. `full` without it brings the full service back to everybody."""


@router.get("/guardrail", summary="Where the guardrail stands", responses=examples.responses(STANDING), response_class=Response)
async def standing(request: Request, admin: Admin, query: Annotated[StandingQuery, Query()]) -> Response:
    """Each scope with its step, the step `in_force` for it, what answers cost there, and when the next step down may come."""
    bu = reach(admin, query.bu)
    return await _standing(request, bu=bu, last=query.last)


@router.post(
    "/guardrail",
    summary="Set the step of the guardrail",
    openapi_extra=json_body(Move, {"step": "compact_model", "bu": "sales"}),
    responses=examples.responses(STANDING),
    response_class=Response,
)
async def move(request: Request, admin: Admin) -> Response:
    """With an operator's key. From the step that was set the guardrail recovers as if it had been tripped."""
    if admin.bu != EVERY_BU:
        raise Forbidden("this API key does not move the guardrail", remedy="use a key made with: pilotis keys create --all-bus")
    body = await read_json(request, Move)
    bu = None if body.bu == EVERY_BU else body.bu
    if bu is not None:
        check(bu=bu, name="guardrail", rights=("admin",), budget=None)
    guards, now = _deps(request).guards, datetime.now(UTC)
    level = guardrail.step_of(request.app.state.env, body.step)
    actor = f"key:{admin.id}"
    if bu is None and level == 0:
        await guardrail.reset(guards, actor=actor, now=now)
    else:
        scope = "env" if bu is None else f"bu:{bu}"
        await guardrail.put(guards, scope, level, actor=actor, reason="set by hand", now=now)
    return await _standing(request, bu=bu, last=1)


@router.get("/cache", summary="What the caches hold, and saved", responses=examples.responses(STATS), response_class=Response)
async def stats(request: Request, admin: Admin, query: Annotated[BuQuery, Query()]) -> Response:
    bu = reach(admin, query.bu)
    found = await _deps(request).cache.stats(bu)
    asked = found.hits + found.misses
    rate = found.hits / asked if asked else None
    return json_response({"bu": bu, **asdict(found), "saved_eur": plain(found.saved_eur), "hit_rate": rate})


@router.delete(
    "/cache", summary="Forget cached answers", responses=examples.responses({"removed": 1452}), response_class=Response
)
async def clear(request: Request, admin: Admin, query: Annotated[BuQuery, Query()]) -> Response:
    """Also what is being written just now is not kept. The next questions are paid for again."""
    return json_response({"removed": await _deps(request).cache.clear(reach(admin, query.bu))})


async def _standing(request: Request, *, bu: str | None, last: int) -> Response:
    now = datetime.now(UTC)
    found = await guardrail.standing(_deps(request).guards, request.app.state.env, now=now, last=last, bu=bu)
    threshold: Decimal | None = found["threshold_eur"]
    return json_response(
        {
            **found,
            "threshold_eur": None if threshold is None else plain(threshold),
            "scopes": [_row(row) for row in found["scopes"]],
        }
    )


def _row(row: dict[str, Any]) -> dict[str, Any]:
    mean: Decimal | None = row["mean_eur"]
    return row | {"mean_eur": None if mean is None else plain(mean)}


def _deps(request: Request) -> Deps:
    deps: Deps = request.app.state.service.deps
    return deps
