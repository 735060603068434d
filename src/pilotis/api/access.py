"""Who is calling: the API key decides the business unit and what may be done, and nothing else in a request does."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from fastapi.openapi.models import APIKey as ApiKeyScheme
from fastapi.openapi.models import APIKeyIn
from fastapi.security.base import SecurityBase
from starlette.requests import HTTPConnection

from pilotis.derive.keys import EVERY_BU
from pilotis.errors import Forbidden, Unauthorised
from pilotis.ports import ApiKey, Deps, Right

REMEDY = "send a key as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'; make one with: pilotis keys create"

BU, KEY = "pilotis.bu", "pilotis.key"
"""In the scope, once the key is known: whose request this is, and the key's id."""


async def identify(request: HTTPConnection, *rights: Right) -> ApiKey:
    """The key of a request, which must have one of `rights`; a revoked or expired one is refused at once.

    Raises Unauthorised and Forbidden.
    """
    deps: Deps = request.app.state.service.deps
    key = await deps.keys.resolve(_secret(request))
    request.scope[BU], request.scope[KEY] = key.bu, key.id
    if key.rights.isdisjoint(rights):
        wanted = " or ".join(rights)
        raise Forbidden(
            f"this API key has no right to {wanted}; it may {', '.join(sorted(key.rights))}",
            remedy=f"make one that has with: pilotis keys create NAME --rights {rights[0]}",
        )
    return key


def reach(key: ApiKey, bu: str | None) -> str | None:
    """The business unit that a request for `bu` is about: the key's own, or whichever an operator's key names, None for all.

    Raises Forbidden, the same whether `bu` exists or not.
    """
    if key.bu == EVERY_BU:
        return bu
    if bu not in {None, key.bu}:
        raise Forbidden(
            "this API key reaches its own business unit only",
            remedy="leave 'bu' out, or use a key made with: pilotis keys create --all-bus",
        )
    return key.bu


class KeyScheme(SecurityBase):
    """`identify` as a dependency, which the OpenAPI page shows."""

    def __init__(self, *rights: Right) -> None:
        self.rights = rights
        self.model = ApiKeyScheme(**{"in": APIKeyIn.header}, name="X-API-Key", description="Or `Authorization: Bearer KEY`.")
        self.scheme_name = "key"

    async def __call__(self, request: Request) -> ApiKey:
        return await identify(request, *self.rights)


Caller = Annotated[ApiKey, Depends(KeyScheme("ask"))]
"""Whoever may ask and search."""

Writer = Annotated[ApiKey, Depends(KeyScheme("ingest"))]
"""Whoever may send and delete documents."""

Reader = Annotated[ApiKey, Depends(KeyScheme("ask", "ingest"))]
"""Whoever may see which documents there are."""

Payer = Annotated[ApiKey, Depends(KeyScheme("ask", "ingest", "admin"))]
"""Whoever may see what was spent: every key, of its own business unit."""

Admin = Annotated[ApiKey, Depends(KeyScheme("admin"))]
"""Whoever may manage the keys of a business unit, or of all where the key's is `derive.keys.EVERY_BU`."""


def _secret(request: HTTPConnection) -> str:
    given = request.headers.get("authorization")
    if given is not None:
        scheme, _, secret = given.partition(" ")
        if scheme.lower() != "bearer" or not secret.strip():
            raise Unauthorised("the Authorization header holds no bearer key", remedy=REMEDY)
        return secret.strip()
    secret = request.headers.get("x-api-key", "").strip()
    if not secret:
        raise Unauthorised("no API key was sent", remedy=REMEDY)
    return secret
