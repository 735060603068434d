"""API keys, bound to a business unit, hashed at rest."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

from psycopg_pool import AsyncConnectionPool

from pilotis.adapters.postgres.pool import translated
from pilotis.adapters.postgres.queries import statements
from pilotis.errors import Invalid, NotFound, Unauthorised
from pilotis.ports import ApiKey

_SQL = statements("keys")
_NAME = re.compile(r"[\w][\w .@/-]{0,99}")
_PREFIX = "plt_"


class PostgresKeys:
    """A key carries 256 random bits, so one SHA-256 at rest is enough: there is nothing to guess."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool

    async def create(self, bu: str, name: str) -> tuple[ApiKey, str]:
        """Raises Invalid for a business unit or a name that is empty, over 100 characters or unprintable."""
        for what, value in (("business unit", bu), ("key name", name)):
            if not _NAME.fullmatch(value):
                raise Invalid(f"{what} {value!r} is not valid", remedy="use 1 to 100 letters, digits, spaces or . _ - @ /")
        secret = _PREFIX + secrets.token_urlsafe(32)
        fields = {"id": uuid4(), "bu": bu, "name": name, "prefix": secret[: len(_PREFIX) + 6], "digest": _digest(secret)}
        async with translated(), self._pool.connection() as connection:
            row = await (await connection.execute(_SQL["create"], fields)).fetchone()
        assert row is not None
        return _key(row), secret

    async def resolve(self, secret: str) -> ApiKey:
        row = None
        if secret.startswith(_PREFIX):
            async with translated(), self._pool.connection() as connection:
                row = await (await connection.execute(_SQL["resolve"], {"digest": _digest(secret)})).fetchone()
        if row is None:
            raise Unauthorised("this API key is not known", remedy="make one with: pilotis keys create")
        key = _key(row)
        if key.revoked_at is not None:
            raise Unauthorised(
                f"API key {key.prefix}… was revoked on {key.revoked_at:%Y-%m-%d}", remedy="make one with: pilotis keys create"
            )
        return key

    async def list(self, bu: str | None = None) -> Sequence[ApiKey]:
        async with translated(), self._pool.connection() as connection:
            return [_key(row) for row in await (await connection.execute(_SQL["list"], {"bu": bu})).fetchall()]

    async def revoke(self, key_id: str) -> ApiKey:
        """Revoking twice keeps the first date. Raises NotFound."""
        row = None
        if _is_uuid(key_id):
            async with translated(), self._pool.connection() as connection:
                row = await (await connection.execute(_SQL["revoke"], {"id": key_id})).fetchone()
        if row is None:
            raise NotFound(f"there is no API key {key_id!r}", remedy="see: pilotis keys list")
        return _key(row)


def _digest(secret: str) -> bytes:
    return sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _key(row: tuple[Any, ...]) -> ApiKey:
    identity, bu, name, prefix, created_at, revoked_at = row
    return ApiKey(id=str(identity), bu=bu, name=name, prefix=prefix, created_at=created_at, revoked_at=revoked_at)


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
