"""GET /v1/costs: what the caller's business unit has spent."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict

from pilotis.api import examples
from pilotis.api.access import Payer, reach
from pilotis.api.bodies import Text
from pilotis.api.views import json_response, plain
from pilotis.derive.keys import EVERY_BU
from pilotis.derive.period import between
from pilotis.errors import Invalid
from pilotis.online.costs import Row, report

router = APIRouter(prefix="/v1", tags=["costs"])

KEYS = ("hour", "day", "month", "plane", "kind", "model", "key", "step")
"""What a caller may group by; an operator's key, which is of every business unit, also `bu`."""

EXAMPLE = {
    "since": "2026-05-31T22:00:00Z",
    "until": "2026-06-30T22:00:00Z",
    "timezone": "Europe/Paris",
    "bu": "sales",
    "by": ["day", "model"],
    "rows": [
        {
            "day": "2026-06-01",
            "model": "gpt-5-mini",
            "requests": 812,
            "cost_eur": "0.603421512000",
            "input_tokens": 741902,
            "output_tokens": 190220,
            "estimated": 3,
            "unpriced": 0,
        }
    ],
    "total": {
        "requests": 812,
        "cost_eur": "0.603421512000",
        "input_tokens": 741902,
        "output_tokens": 190220,
        "estimated": 3,
        "unpriced": 0,
    },
}


class CostQuery(BaseModel):
    """Which costs, and how they are summed up."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    by: Text = "day,model"
    """Any of hour, day, month, plane, kind, model, key, step, with commas between; an operator's key also bu."""
    period: Text | None = None
    """`today`, `7d`, `2026-06`, `2026-06-15`, `2026`; left out, this month."""
    since: Text | None = None
    """From the start of this period on."""
    until: Text | None = None
    """To the end of this period."""
    bu: Text | None = None
    """With an operator's key: of this business unit only; left out, of all."""


@router.get("/costs", summary="What was spent", responses=examples.responses(EXAMPLE), response_class=Response)
async def costs(request: Request, caller: Payer, query: Annotated[CostQuery, Query()]) -> Response:
    """Of the key's own business unit, or of all with an operator's key. What is being settled just now is there a moment later."""
    app = request.app.state
    bu = reach(caller, query.bu)
    by = [name.strip() for name in query.by.split(",") if name.strip()]
    allowed = (*KEYS, "bu") if caller.bu == EVERY_BU else KEYS
    if unknown := [name for name in by if name not in allowed]:
        raise Invalid(f"costs cannot be grouped by {unknown[0]!r}", remedy=f"use any of: {', '.join(allowed)}")
    zone = app.env.timezone
    since, until = between(query.period, query.since, query.until, zone=zone, now=datetime.now(UTC))
    found = await report(app.service.deps.ledger, by, since=since, until=until, bu=bu, zone=zone)
    content = {
        "since": since,
        "until": until,
        "timezone": zone,
        "bu": bu,
        "by": by,
        "rows": [dict(zip(by, row.key, strict=True)) | _figures(row) for row in found.rows],
        "total": _figures(found.total),
    }
    return json_response(content)


def _figures(row: Row) -> dict[str, Any]:
    return {
        "requests": row.requests,
        "cost_eur": plain(row.cost_eur),
        "input_tokens": row.input_tokens,
        "output_tokens": row.output_tokens,
        "estimated": row.estimated,
        "unpriced": row.unpriced,
    }
