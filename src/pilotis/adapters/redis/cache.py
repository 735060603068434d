"""Answers and search results, each under the business unit it belongs to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from decimal import Decimal

from pilotis.adapters.redis.till import Till, tag
from pilotis.derive.budget import MICRO
from pilotis.ports import CachedAnswer, CacheStats

MARKED_US = 2 * 86_400 * 1_000_000
"""How long it is remembered that a document is gone: longer than anything lasts that was made from it."""
BATCH = 500

_COUNTS = ("hits", "misses", "passage_hits", "saved")


class RedisCache:
    """See `ports.Cache`. What a restarted Redis still has is not used: it may have forgotten what it was told to forget."""

    def __init__(self, till: Till) -> None:
        self._till = till

    async def peek(self, bu: str, answer_key: str, *, streamed: bool = False) -> tuple[CachedAnswer | None, bool]:
        record, shown, flying = await self._till.script("peek", tag(bu), bu, answer_key, int(streamed))
        if record is None:
            return None, bool(flying)
        return CachedAnswer(record=record, shown=shown if streamed else None, level=0), False

    async def forget(self, bu: str, document_ids: Sequence[str]) -> int:
        removed = 0
        for begins in range(0, len(document_ids), BATCH):
            part = document_ids[begins : begins + BATCH]
            removed += int(await self._till.script("forget", tag(bu), MARKED_US, "*", *part))
        return removed

    async def clear(self, bu: str | None = None) -> int:
        # First nothing is found any more, then the room is freed.
        await self._till.script("forget", "" if bu is None else tag(bu), MARKED_US, "")
        removed = 0
        async for keys in self._keys(bu):
            removed += int(await self._till.wire.call("UNLINK", *keys))
        return removed

    async def stats(self, bu: str | None = None) -> CacheStats:
        flat = await self._till.wire.call("HGETALL", f"{self._till.prefix}stats")
        sums = dict.fromkeys(_COUNTS, 0)
        for name, value in zip(flat[::2], flat[1::2], strict=True):
            what, _, whose = name.decode("utf-8", "surrogatepass").partition("|")
            if bu in {None, whose}:
                sums[what] += int(value)
        answers = passages = size = 0
        async for keys in self._keys(bu):
            sizes = await self._till.wire.calls(*[("HSTRLEN", key, field) for key in keys for field in ("record", "shown")])
            size += sum(sizes)
            mine = sum(key.startswith(f"{self._till.prefix}answer:".encode()) for key in keys)
            answers, passages = answers + mine, passages + len(keys) - mine
        return CacheStats(
            answers=answers,
            passages=passages,
            bytes=size,
            hits=sums["hits"],
            misses=sums["misses"],
            passage_hits=sums["passage_hits"],
            saved_eur=Decimal(sums["saved"]) / MICRO,
        )

    async def sources(self) -> Collection[str]:
        found: set[str] = set()
        begins = f"{self._till.prefix}doc:".encode()
        async for keys in self._scan(f"{_literal(self._till.prefix)}doc:*"):
            named = [key.removeprefix(begins) for key in keys if not key.endswith(b":*")]
            found.update(each.decode() for each in await self._till.script("sources", *named))
        return found

    async def _keys(self, bu: str | None) -> AsyncIterator[list[bytes]]:
        """Entries of a business unit, or of all, some at a time."""
        for kind in ("answer", "passages"):
            pattern = f"{_literal(self._till.prefix)}{kind}:*:{tag(bu) if bu is not None else '*'}:*"
            async for keys in self._scan(pattern):
                yield keys

    async def _scan(self, pattern: str) -> AsyncIterator[list[bytes]]:
        cursor = b"0"
        while True:
            cursor, keys = await self._till.wire.call("SCAN", cursor, "MATCH", pattern, "COUNT", BATCH)
            if keys:
                yield keys
            if cursor == b"0":
                break


def _literal(text: str) -> str:
    return "".join(f"\\{character}" if character in "*?[]\\^" else character for character in text)
