"""API keys kept at hand for a few seconds, so that no request waits for Postgres, and dropped at once where one is revoked."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from pilotis.derive.budget import Budget
from pilotis.derive.keys import require_good, unknown
from pilotis.errors import Unauthorised
from pilotis.ports import ApiKey, Keys, Right

KEPT_S, UNKNOWN_KEPT_S = 5.0, 1.0
"""For how long a key is taken for good, or for bad, without asking again. The first bounds how late a revocation whose message was
lost takes effect."""
MOST_KEPT, MOST_UNKNOWN = 10_000, 10_000
LOOKUPS = 4
"""How many keys are looked up at once: whoever tries keys takes no more of the database than that."""
PAUSE_S, SILENCE_S = 0.5, 1.0

_SHAPE = re.compile(r"plt_[A-Za-z0-9_-]{43}")

_log = logging.getLogger(__name__)


class CachedKeys:
    """`keys`, remembered by the digest of their secrets. Expiry is checked at each use.

    Every process listens to one Redis channel, on which each of them says which keys changed. Nothing is remembered but while the
    channel is heard: with Redis away every key is looked up anew. What is compared is a digest, so time tells nothing of a secret.
    """

    def __init__(self, keys: Keys, redis_url: str, *, namespace: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._keys, self._clock = keys, clock
        self._channel = f"{namespace}:keys"
        # A connection that broke is not mended behind our back: what was said meanwhile would be missed.
        self._redis: Redis = Redis.from_url(redis_url, retry=Retry(NoBackoff(), 0), socket_connect_timeout=2, socket_timeout=2)
        self._ring = _Ring()
        self._listener: asyncio.Task[None] | None = None
        self._lookups = asyncio.Semaphore(LOOKUPS)

    @property
    def is_listening(self) -> bool:
        """Whether keys are remembered at present."""
        return self._ring.is_open

    async def resolve(self, secret: str) -> ApiKey:
        if not _SHAPE.fullmatch(secret):
            raise unknown()
        digest = sha256(secret.encode()).digest()
        known = self._ring.find(digest, self._clock())
        if known is None:
            if self._listener is None:
                self._listener = asyncio.create_task(self._listen(), context=Context())
            known = await self._looked_up(digest, secret)
        if isinstance(known, ApiKey):
            require_good(prefix=known.prefix, revoked_at=known.revoked_at, expires_at=known.expires_at)
            return known
        raise Unauthorised(known.message, remedy=known.remedy)

    async def create(
        self,
        bu: str,
        name: str,
        *,
        rights: frozenset[Right] = frozenset({"ask", "ingest"}),
        expires_at: datetime | None = None,
        budget: Budget | None = None,
    ) -> tuple[ApiKey, str]:
        return await self._keys.create(bu, name, rights=rights, expires_at=expires_at, budget=budget)

    async def list(self, bu: str | None = None) -> Sequence[ApiKey]:
        return await self._keys.list(bu)

    async def revoke(self, key_id: str) -> ApiKey:
        key = await self._keys.revoke(key_id)
        await self._tell(key.id)
        return key

    async def rotate(self, key_id: str, *, overlap_s: float) -> tuple[ApiKey, str]:
        made = await self._keys.rotate(key_id, overlap_s=overlap_s)
        await self._tell(key_id)
        return made

    async def close(self) -> None:
        if self._listener is not None:
            self._listener.cancel()
            with suppress(asyncio.CancelledError):
                await self._listener
        await self._redis.aclose()

    async def _looked_up(self, digest: bytes, secret: str) -> ApiKey | Unauthorised:
        """One look-up per key at a time: whoever comes meanwhile waits for it, unless a key changed since it began."""
        ring = self._ring
        flight = ring.flights.get(digest)
        if flight is None:
            flight = ring.flights[digest] = asyncio.create_task(self._look_up(digest, secret, ring), context=Context())
            flight.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(flight)

    async def _look_up(self, digest: bytes, secret: str, ring: _Ring) -> ApiKey | Unauthorised:
        found: ApiKey | Unauthorised
        try:
            async with self._lookups:
                began = self._clock()
                found = await self._keys.resolve(secret)
        except Unauthorised as refusal:
            found = refusal.with_traceback(None)
        finally:
            ring.flights.pop(digest, None)
        ring.keep(digest, found, began)
        return found

    async def _tell(self, key_id: str) -> None:
        self._forget()
        try:
            await self._redis.publish(self._channel, key_id)
        except (RedisError, OSError) as error:
            _log.warning("Redis is away: another process may take the key for good for %g s more: %s", KEPT_S, error)

    async def _listen(self) -> None:
        while True:
            try:
                await self._hear()
            except (RedisError, OSError, TimeoutError) as error:
                _log.info("keys are not remembered, the channel is not heard: %s", error)
            finally:
                self._forget(is_open=False)
            await asyncio.sleep(PAUSE_S)

    async def _hear(self) -> None:
        """Follow the channel until it breaks. Silence is broken by a ping, and no answer to it is a break."""
        async with self._redis.pubsub() as channel:
            await channel.subscribe(self._channel)
            pinged = False
            while True:
                message: dict[str, Any] | None = await channel.get_message(timeout=SILENCE_S)
                if message is None:
                    if pinged:
                        raise TimeoutError("no answer to a ping")
                    await channel.ping()
                    pinged = True
                    continue
                pinged = False
                if message["type"] == "subscribe":
                    self._forget(is_open=True)
                elif message["type"] == "message":
                    self._forget()

    def _forget(self, *, is_open: bool | None = None) -> None:
        """Begin anew with nothing. A look-up under way keeps what it finds in the ring it began with, where nobody looks any more."""
        self._ring = _Ring(is_open=self._ring.is_open if is_open is None else is_open)


@dataclass(slots=True)
class _Ring:
    """What is remembered since a key last changed; closed, it remembers nothing. Known and unknown keys are bounded apart, so that
    a flood of bad ones does not push out the good.
    """

    is_open: bool = False
    known: OrderedDict[bytes, tuple[float, ApiKey]] = field(default_factory=OrderedDict)
    refused: OrderedDict[bytes, tuple[float, Unauthorised]] = field(default_factory=OrderedDict)
    flights: dict[bytes, asyncio.Task[ApiKey | Unauthorised]] = field(default_factory=dict)

    def find(self, digest: bytes, now: float) -> ApiKey | Unauthorised | None:
        held = self.known.get(digest)
        if held is not None and now < held[0]:
            self.known.move_to_end(digest)
            return held[1]
        bad = self.refused.get(digest)
        return bad[1] if bad is not None and now < bad[0] else None

    def keep(self, digest: bytes, found: ApiKey | Unauthorised, now: float) -> None:
        if not self.is_open:
            return
        if isinstance(found, ApiKey):
            self.refused.pop(digest, None)
            _put(self.known, digest, (now + KEPT_S, found), MOST_KEPT)
        else:
            self.known.pop(digest, None)
            _put(self.refused, digest, (now + UNKNOWN_KEPT_S, found), MOST_UNKNOWN)


def _put(held: OrderedDict[bytes, Any], digest: bytes, entry: tuple[float, Any], most: int) -> None:
    held[digest] = entry
    held.move_to_end(digest)
    while len(held) > most:
        held.popitem(last=False)
