"""/v1/admin/keys: make, list, revoke and rotate API keys, with a key that has the right `admin`.

An admin key manages the keys of its own business unit. One made with `pilotis keys create --all-bus` manages those of all, and
can neither ask nor send documents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from pilotis.api import examples
from pilotis.api.access import Admin, reach
from pilotis.api.bodies import Body, Text, json_body, read_json
from pilotis.api.views import json_response
from pilotis.derive.budget import Budget
from pilotis.derive.keys import EVERY_BU, MOST_EUR, expiry, seconds
from pilotis.errors import Invalid, NotFound
from pilotis.ports import ApiKey, Keys

router = APIRouter(prefix="/v1/admin/keys", tags=["admin"])

MOST_OVERLAP_S = 30 * 86_400

KEY = {
    "id": "5d1f3c0e-8a1b-4f6e-b0d5-7b5f1a2c3d4e",
    "bu": "sales",
    "name": "website",
    "prefix": "plt_x7Kq2d",
    "rights": ["ask"],
    "created_at": "2026-01-01T09:00:00Z",
    "expires_at": "2026-04-01T09:00:00Z",
    "revoked_at": None,
    "budget": {"hour_eur": None, "day_eur": "5", "month_eur": "50"},
}
MADE = {"key": KEY, "secret": "plt_x7Kq2d…"}

Amount = Annotated[Decimal, Field(ge=0, le=MOST_EUR, decimal_places=6)] | None


class BudgetBody(Body):
    hour_eur: Amount = None
    """Euros an hour; left out, no limit of its own."""
    day_eur: Amount = None
    """Euros a day."""
    month_eur: Amount = None
    """Euros a calendar month."""


Grantable = Literal["ask", "ingest", "admin"]
"""What an administrator of a business unit may give. Who may agree to releases is decided where the service is run: by the CLI."""


class NewKey(Body):
    name: Text
    """What the key is for, to know it again."""
    rights: Annotated[list[Grantable], Field(min_length=1)] = ["ask", "ingest"]  # noqa: RUF012 - pydantic copies it
    """Any of `ask`, `ingest`, `admin`."""
    expires: Text | None = None
    """`90d`, `24h`, a day such as `2027-01-31` (its end), or a time with its offset; left out, never."""
    budget: BudgetBody | None = None
    """Its own; left out, the contract's budget of each key."""
    bu: Text | None = None
    """Of which business unit; left out, that of the admin key."""


class Rotation(Body):
    overlap: Text = "24h"
    """For how long the old key stays good, 30 days at most; `0s` ends it at once."""


class ListQuery(BaseModel):
    """What a list can be narrowed by."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    bu: Text | None = None
    """Of one business unit only."""


@router.get(
    "", summary="List keys, without their secrets", responses=examples.responses({"keys": [KEY]}), response_class=Response
)
async def find(request: Request, admin: Admin, query: Annotated[ListQuery, Query()]) -> Response:
    return json_response({"keys": [key_view(key) for key in await _seen(_keys(request), admin, query.bu)]})


@router.post(
    "",
    summary="Make a key",
    status_code=201,
    openapi_extra=json_body(NewKey, {"name": "website", "rights": ["ask"], "expires": "90d", "budget": {"month_eur": "50"}}),
    responses=examples.responses(MADE, status=201),
    response_class=Response,
)
async def create(request: Request, admin: Admin) -> Response:
    """The secret is shown here and never again. A key for every business unit is made at the command line alone."""
    body = await read_json(request, NewKey)
    bu = reach(admin, body.bu)
    if bu is None or bu == EVERY_BU:
        raise Invalid("the business unit is missing", remedy="name one: 'bu'")
    zone = request.app.state.env.timezone
    key, secret = await _keys(request).create(
        bu,
        body.name,
        rights=frozenset(body.rights),
        expires_at=expiry(body.expires, now=datetime.now(UTC), zone=zone) if body.expires else None,
        budget=Budget(**dict(body.budget)) if body.budget else None,
    )
    return json_response({"key": key_view(key), "secret": secret}, 201)


@router.delete("/{key_id}", summary="Revoke a key", responses=examples.responses(KEY), response_class=Response)
async def revoke(request: Request, admin: Admin, key_id: str) -> Response:
    """It is refused from now on. Revoking twice keeps the first date."""
    keys = _keys(request)
    await _require_own(keys, admin, key_id)
    return json_response(key_view(await keys.revoke(key_id)))


@router.post(
    "/{key_id}/rotate",
    summary="Make a key in the place of another",
    status_code=201,
    openapi_extra=json_body(Rotation, {"overlap": "24h"}),
    responses=examples.responses(MADE, status=201),
    response_class=Response,
)
async def rotate(request: Request, admin: Admin, key_id: str) -> Response:
    """The new key has the same name, rights and budget, and as long a life; the old one ends after the overlap."""
    body = await read_json(request, Rotation)
    overlap_s = seconds(body.overlap)
    if overlap_s > MOST_OVERLAP_S:
        raise Invalid(f"an overlap of {body.overlap} is too long", remedy="name 30d or less")
    keys = _keys(request)
    await _require_own(keys, admin, key_id)
    key, secret = await keys.rotate(key_id, overlap_s=overlap_s)
    return json_response({"key": key_view(key), "secret": secret}, 201)


def key_view(key: ApiKey) -> Mapping[str, Any]:
    """A key as it is shown: all but its secret, which nobody has any more."""
    budget = None if key.budget is None else {n: None if v is None else format(v, "f") for n, v in asdict(key.budget).items()}
    return asdict(key) | {"rights": sorted(key.rights), "budget": budget}


def _keys(request: Request) -> Keys:
    keys: Keys = request.app.state.service.deps.keys
    return keys


async def _seen(keys: Keys, admin: ApiKey, bu: str | None = None) -> Sequence[ApiKey]:
    return await keys.list(reach(admin, bu))


async def _require_own(keys: Keys, admin: ApiKey, key_id: str) -> None:
    """A key of another business unit is as absent as one that never was."""
    if all(key.id != key_id for key in await _seen(keys, admin)):
        raise NotFound(f"there is no API key {key_id!r}", remedy="GET /v1/admin/keys lists them")
