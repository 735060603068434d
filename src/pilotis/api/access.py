"""Who is calling: the API key decides the business unit, and nothing else in a request does."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from fastapi.openapi.models import APIKey as ApiKeyScheme
from fastapi.openapi.models import APIKeyIn
from fastapi.security.base import SecurityBase

from pilotis.errors import Unauthorised
from pilotis.ports import ApiKey, Deps

REMEDY = "send a key as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'; make one with: pilotis keys create"


class KeyScheme(SecurityBase):
    """Resolves the key of every request anew, so that a revoked one stops at once. Raises Unauthorised."""

    def __init__(self) -> None:
        self.model = ApiKeyScheme(**{"in": APIKeyIn.header}, name="X-API-Key", description="Or `Authorization: Bearer KEY`.")
        self.scheme_name = "key"

    async def __call__(self, request: Request) -> ApiKey:
        deps: Deps = request.app.state.service.deps
        return await deps.keys.resolve(_secret(request))


Caller = Annotated[ApiKey, Depends(KeyScheme())]


def _secret(request: Request) -> str:
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
