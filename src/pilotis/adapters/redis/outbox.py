"""Settled costs on their way to the ledger, and the counters that must agree with it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from pydantic_core import from_json, to_json

from pilotis.adapters.redis.till import Till, microseconds, moment, windows_at
from pilotis.derive.budget import MICRO, Budget, Span, Window, micro_up
from pilotis.derive.ladder import rungs
from pilotis.derive.limits import micro_limit
from pilotis.errors import Transient
from pilotis.ports import CostEvent, Spending

KEPT_DAYS = 3
"""Counters of windows that ended longer ago are dropped; none lasts longer than a month of 31 days."""
_LONGEST = {"hour": timedelta(hours=1), "day": timedelta(hours=25), "month": timedelta(days=31, hours=1)}
PRUNE_EVERY_US = 3600 * 1_000_000


class RedisOutbox:
    """See `ports.Outbox`. The stream keeps its events until `remove`; Redis never drops one by itself."""

    def __init__(self, till: Till) -> None:
        self._till = till
        self._pruned_us = 0
        self._handed_over: tuple[asyncio.Task[Any] | None, frozenset[str]] = None, frozenset()

    async def lead(self, instance: str, *, ttl_s: float) -> bool:
        return bool(await self._till.script("lead", instance, int(ttl_s * 1000)))

    async def read(self, *, limit: int) -> Sequence[tuple[str, CostEvent]]:
        found = await self._till.wire.call("XRANGE", self._events, "-", "+", "COUNT", limit)
        return [(place.decode(), self._event(dict(zip(fields[::2], fields[1::2], strict=True)))) for place, fields in found]

    async def remove(self, upto: str) -> None:
        await self._till.script("remove", upto)

    async def waiting(self) -> int:
        return int(await self._till.wire.call("XLEN", self._events))

    async def unconfirmed(self) -> Sequence[CostEvent]:
        """Those of counters that were lost since, and those whose settlement was not answered: the others are safe in the stream."""
        await self._till.refresh()
        found = self._till.stranded()
        self._handed_over = asyncio.current_task(), frozenset(event.id for event in found)
        return found

    async def count(self, event: CostEvent, *, epoch: str) -> None:
        one = {
            "id": event.id,
            "micro": micro_up(event.cost_eur),
            "plane": event.plane,
            "bu": event.bu,
            "key": event.key or False,
            "spans": [span.id for span in windows_at(microseconds(event.at), self._till.env.timezone)],
            "epoch": epoch,
            "asked": self._till.asked_us,
        }
        code, now = await self._till.script("count", to_json(one))
        self._till.tell_time(now)
        if code == b"unseeded":
            raise Transient("the counters were made anew meanwhile", remedy="look again")
        if code == b"stale":
            raise Transient("too long ago since the ledger was read", remedy="look again")

    async def free(self, ids: Sequence[str]) -> int:
        if not ids:
            return 0
        return int(await self._till.script("free", *ids))

    async def epoch(self) -> str | None:
        return await self._till.refresh()

    async def is_seeded(self) -> bool:
        return await self.epoch() is not None

    async def rejoin(self) -> float:
        """Whoever got events from `unconfirmed` and calls this next has brought them all to the ledger."""
        task, ended = self._handed_over
        return await self._till.rejoin(ended if task is asyncio.current_task() else ())

    async def seed(self, spent: Sequence[Spending], *, epoch: str, instance: str) -> bool:
        sums = to_json([[one.scope, one.span.id, one.spent] for one in spent])
        return bool(await self._till.script("seed", instance, epoch, sums, self._till.joins))

    async def unseed(self) -> None:
        await self._till.wire.call("HDEL", self._till.meter, "epoch")

    async def spending(self, spans: Sequence[Span] | None = None) -> Sequence[Spending]:
        till = self._till
        now_us = till.now_us()
        wanted = {span.id: span for span in spans or windows_at(now_us, till.env.timezone)}
        flat = await till.wire.call("HGETALL", till.meter)
        sums: dict[tuple[str, str], dict[str, int]] = {}
        old: list[bytes] = []
        for name, value in zip(flat[::2], flat[1::2], strict=True):
            kind, _, rest = name.decode().partition("|")
            if kind not in {"s", "h"}:
                continue
            scope, _, span_id = rest.rpartition("|")
            if span_id in wanted:
                sums.setdefault((scope, span_id), {})[kind] = int(value)
            elif _ended_us(span_id) < now_us - KEPT_DAYS * 86_400_000_000:
                old.append(name)
        if old and now_us - self._pruned_us > PRUNE_EVERY_US:
            self._pruned_us = now_us
            await till.wire.call("HDEL", till.meter, *old[:5000])
        return [
            Spending(
                scope=scope,
                span=wanted[span_id],
                spent=found.get("s", 0),
                held=found.get("h", 0),
                limit=self._limit(scope, wanted[span_id].window),
            )
            for (scope, span_id), found in sorted(sums.items())
        ]

    @property
    def _events(self) -> str:
        return self._till.prefix + "events"

    def _limit(self, scope: str, window: Window) -> int | None:
        budgets = self._till.env.budgets
        kind, _, name = scope.partition(":")
        budget: Budget = {
            "env": budgets.env,
            "plane": budgets.planes.get(name, Budget()),
            "bu": budgets.bus.get(name, budgets.bu),
            "key": budgets.key,
        }[kind]
        return micro_limit(budget, window)

    def _event(self, fields: Mapping[bytes, bytes]) -> CostEvent:
        if b"event" in fields:
            return unpacked(fields[b"event"])
        return self._lost({name.decode(): value.decode() for name, value in fields.items()})

    def _lost(self, fields: Mapping[str, str]) -> CostEvent:
        """The event of a hold whose process died: it says how much was held, not what was used."""
        env = next((rung.env for rung in rungs(self._till.env) if rung.step == fields["step"]), self._till.env)
        kind: Any = fields["kind"]
        plane: Any = fields["plane"]
        return CostEvent(
            id=fields["lost"],
            at=moment(fields["at"]),
            env=env.name,
            plane=plane,
            bu=fields["bu"],
            kind=kind,
            subject=fields["lost"],
            model=env.llm.model if kind in {"answer", "eval"} else env.embedder.model,
            usage={"lost": True},
            cost_eur=Decimal(fields["micro"]) / MICRO,
            price_book="",
            fx=None,
            priced=True,
            key=fields["key"] or None,
            step=fields["step"],
            estimated=True,
            instance=fields["instance"],
        )


def unpacked(packed: bytes) -> CostEvent:
    """An event of the stream again."""
    fields: dict[str, Any] = from_json(packed)
    return CostEvent(
        **{**fields, "at": datetime.fromisoformat(fields["at"]), "cost_eur": Decimal(fields["cost_eur"])},
    )


def _ended_us(span_id: str) -> int:
    window, _, starts = span_id.partition(":")
    return (int(starts) + int(_LONGEST[window].total_seconds())) * 1_000_000
