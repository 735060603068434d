"""The quota of a provider, shared by every process that embeds: a token bucket in its form of a theoretical arrival time."""

from __future__ import annotations

from pilotis.adapters.redis.till import Till
from pilotis.ports import Quota

AHEAD_S = 5.0
"""How far ahead of the quota all callers together may be: providers measure by the minute."""


class RedisPace:
    """See `ports.Pace`."""

    def __init__(self, till: Till) -> None:
        self._till = till

    async def take(self, model: str, quota: Quota, *, tokens: int) -> float:
        each_us = 60e6 / quota.calls_per_min if quota.calls_per_min else 0
        token_us = 60e6 / quota.tokens_per_min if quota.tokens_per_min else 0
        asked = (model, tokens, repr(each_us), repr(token_us), int(AHEAD_S * 1e6))
        return int(await self._till.script("pace", *asked)) / 1e6

    async def rest(self, model: str, seconds: float) -> None:
        name = f"{self._till.prefix}pace:{model}:rest"
        await self._till.wire.call("SET", name, 1, "PX", max(1, int(seconds * 1000)))
