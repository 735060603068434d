"""API keys, bound to a business unit, hashed at rest."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

from psycopg import AsyncConnection
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool

from pilotis.adapters.postgres.pool import translated
from pilotis.adapters.postgres.queries import statements
from pilotis.derive.budget import WINDOWS, Budget
from pilotis.derive.keys import check, require_good, require_rotatable, rotated, successor_ends, unknown
from pilotis.errors import NotFound
from pilotis.ports import ApiKey, Right

_SQL = statements("keys")
_PREFIX = "plt_"


class PostgresKeys:
    """A key carries 256 random bits, so one SHA-256 at rest is enough: there is nothing to guess.

    Nor does the time a look-up takes tell anything: what is compared is the digest, whose first bytes nobody can choose.
    """

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool

    async def create(
        self,
        bu: str,
        name: str,
        *,
        rights: frozenset[Right] = frozenset({"ask", "ingest"}),
        expires_at: datetime | None = None,
        budget: Budget | None = None,
    ) -> tuple[ApiKey, str]:
        """Raises Invalid; see `derive.keys.check`."""
        check(bu=bu, name=name, rights=rights, budget=budget)
        fields = {"bu": bu, "name": name, "rights": sorted(rights), "expires_at": expires_at, "budget": _stored(budget)}
        async with translated(), self._pool.connection() as connection:
            return await _create(connection, fields | {"rotated_from": None})

    async def resolve(self, secret: str) -> ApiKey:
        row = None
        if secret.startswith(_PREFIX):
            async with translated(), self._pool.connection() as connection:
                row = await (await connection.execute(_SQL["resolve"], {"digest": _digest(secret)})).fetchone()
        if row is None:
            raise unknown()
        key = _key(row)
        require_good(prefix=key.prefix, revoked_at=key.revoked_at, expires_at=key.expires_at)
        return key

    async def list(self, bu: str | None = None) -> Sequence[ApiKey]:
        async with translated(), self._pool.connection() as connection:
            return [_key(row) for row in await (await connection.execute(_SQL["list"], {"bu": bu})).fetchall()]

    async def revoke(self, key_id: str) -> ApiKey:
        """Revoking twice keeps the first date. Raises NotFound."""
        async with translated(), self._pool.connection() as connection:
            return await _one(connection, "revoke", key_id)

    async def rotate(self, key_id: str, *, overlap_s: float) -> tuple[ApiKey, str]:
        """The new key has the old one's name, rights and budget, and its whole life again where it has an end.

        Raises:
            NotFound: there is no such key.
            Conflict: it is revoked, expired, or was rotated before.
        """
        now = datetime.now(UTC)
        async with translated(), self._pool.connection() as connection, connection.transaction():
            old = await _one(connection, "lock", key_id)
            require_rotatable(prefix=old.prefix, revoked_at=old.revoked_at, expires_at=old.expires_at, now=now)
            after = await (await connection.execute(_SQL["successor"], {"id": old.id})).fetchone()
            if after is not None:
                raise rotated(old.prefix, after[0])
            ends = now + timedelta(seconds=overlap_s)
            await connection.execute(_SQL["shorten"], {"id": old.id, "ends": ends})
            fields = {
                "bu": old.bu,
                "name": old.name,
                "rights": sorted(old.rights),
                "expires_at": successor_ends(old.created_at, old.expires_at, now),
                "budget": _stored(old.budget),
                "rotated_from": old.id,
            }
            return await _create(connection, fields)


async def _create(connection: AsyncConnection, fields: Mapping[str, object]) -> tuple[ApiKey, str]:
    secret = _PREFIX + secrets.token_urlsafe(32)
    drawn = {"id": uuid4(), "prefix": secret[: len(_PREFIX) + 6], "digest": _digest(secret)}
    row = await (await connection.execute(_SQL["create"], {**fields, **drawn})).fetchone()
    assert row is not None
    return _key(row), secret


async def _one(connection: AsyncConnection, statement: str, key_id: str) -> ApiKey:
    row = await (await connection.execute(_SQL[statement], {"id": key_id})).fetchone() if _is_uuid(key_id) else None
    if row is None:
        raise NotFound(f"there is no API key {key_id!r}", remedy="see: pilotis keys list")
    return _key(row)


def _digest(secret: str) -> bytes:
    return sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _key(row: tuple[Any, ...]) -> ApiKey:
    identity, bu, name, prefix, created_at, revoked_at, rights, expires_at, budget = row
    return ApiKey(
        id=str(identity),
        bu=bu,
        name=name,
        prefix=prefix,
        created_at=created_at,
        revoked_at=revoked_at,
        rights=frozenset(rights),
        expires_at=expires_at,
        budget=None if budget is None else Budget(**{name: Decimal(amount) for name, amount in budget.items()}),
    )


def _stored(budget: Budget | None) -> Jsonb | None:
    if budget is None:
        return None
    limits = ((window, budget.limit(window)) for window in WINDOWS)
    return Jsonb({f"{window}_eur": format(amount, "f") for window, amount in limits if amount is not None})


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
