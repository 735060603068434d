"""API keys in memory."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from pilotis.derive.budget import Budget
from pilotis.derive.keys import check, require_good, require_rotatable, rotated, successor_ends, unknown
from pilotis.errors import NotFound
from pilotis.ports import ApiKey, Right


class MemoryKeys:
    """Keys by the SHA-256 of their secret."""

    def __init__(self) -> None:
        self._keys: dict[str, ApiKey] = {}
        self._successors: dict[str, ApiKey] = {}
        self.resolved = 0
        """How often a key was looked up."""

    async def create(
        self,
        bu: str,
        name: str,
        *,
        rights: frozenset[Right] = frozenset({"ask", "ingest"}),
        expires_at: datetime | None = None,
        budget: Budget | None = None,
    ) -> tuple[ApiKey, str]:
        check(bu=bu, name=name, rights=rights, budget=budget)
        secret = f"plt_{secrets.token_urlsafe(32)}"
        key = ApiKey(
            id=str(uuid.uuid4()),
            bu=bu,
            name=name,
            prefix=secret[:10],
            created_at=datetime.now(UTC),
            revoked_at=None,
            rights=rights,
            expires_at=expires_at,
            budget=budget,
        )
        self._keys[_digest(secret)] = key
        return key, secret

    async def resolve(self, secret: str) -> ApiKey:
        self.resolved += 1
        key = self._keys.get(_digest(secret))
        if key is None:
            raise unknown()
        require_good(prefix=key.prefix, revoked_at=key.revoked_at, expires_at=key.expires_at)
        return key

    async def list(self, bu: str | None = None) -> Sequence[ApiKey]:
        return [key for key in self._keys.values() if bu is None or key.bu == bu]

    async def revoke(self, key_id: str) -> ApiKey:
        digest, key = self._find(key_id)
        self._keys[digest] = replace(key, revoked_at=key.revoked_at or datetime.now(UTC))
        return self._keys[digest]

    async def rotate(self, key_id: str, *, overlap_s: float) -> tuple[ApiKey, str]:
        digest, old = self._find(key_id)
        now = datetime.now(UTC)
        require_rotatable(prefix=old.prefix, revoked_at=old.revoked_at, expires_at=old.expires_at, now=now)
        if key_id in self._successors:
            raise rotated(old.prefix, self._successors[key_id].prefix)
        ends = now + timedelta(seconds=overlap_s)
        self._keys[digest] = replace(old, expires_at=min(old.expires_at or ends, ends))
        expires_at = successor_ends(old.created_at, old.expires_at, now)
        key, secret = await self.create(old.bu, old.name, rights=old.rights, expires_at=expires_at, budget=old.budget)
        self._successors[key_id] = key
        return key, secret

    def _find(self, key_id: str) -> tuple[str, ApiKey]:
        for digest, key in self._keys.items():
            if key.id == key_id:
                return digest, key
        raise NotFound(f"there is no API key {key_id!r}", remedy="see: pilotis keys list")


def _digest(secret: str) -> str:
    return sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
