"""Redis: admission, settlement, caches and the outbox, on one connection and in one slot."""

from __future__ import annotations

from collections.abc import Mapping

from pilotis.adapters.redis.admission import RedisAdmission
from pilotis.adapters.redis.cache import RedisCache
from pilotis.adapters.redis.client import Wire
from pilotis.adapters.redis.outbox import RedisOutbox
from pilotis.adapters.redis.pace import RedisPace
from pilotis.adapters.redis.till import Till
from pilotis.derive.plan import Env

__all__ = ["RedisAdmission", "RedisCache", "RedisMoney", "RedisOutbox", "RedisPace"]


class RedisMoney:
    """The ports that share what this process holds: `admission`, `cache`, `outbox`, `pace`. Opening one connects to nothing."""

    def __init__(self, url: str, *, env: Env, namespace: str, instance: str, offset_us: int = 0) -> None:
        self._till = Till(Wire(url), env=env, namespace=namespace, instance=instance, offset_us=offset_us)
        self.admission = RedisAdmission(self._till)
        self.cache = RedisCache(self._till)
        self.outbox = RedisOutbox(self._till)
        self.pace = RedisPace(self._till)

    async def announce(self, levels: Mapping[str, int]) -> None:
        """Tell admission at which step of the ladder the guardrail of each scope (`env`, `bu:NAME`) stands."""
        await self.admission.announce(dict(levels))

    async def ping(self) -> None:
        """Raises Transient where Redis does not answer."""
        await self._till.wire.call("PING")

    async def close(self) -> None:
        await self._till.close()
