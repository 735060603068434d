"""The ledger in memory, as strict as the one it stands for."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from pilotis.derive.budget import Span, micro_up, scopes
from pilotis.errors import Invalid
from pilotis.online.costs import KEYS
from pilotis.ports import CostEvent, Line, Spending


class MemoryLedger:
    """Events by id: settling twice changes nothing."""

    def __init__(
        self, error: Exception | None = None, delay_s: float = 0.0, *, env: str | None = None, zone: str = "UTC"
    ) -> None:
        self.rows: dict[str, CostEvent] = {}
        self.not_counted: set[str] = set()
        self.latest: str | None = None
        """The epoch of the latest recount."""
        self._env, self._zone = env, ZoneInfo(zone)
        self._error, self._delay_s = error, delay_s
        self._epochs = itertools.count(1)

    async def append(self, event: CostEvent) -> None:
        await asyncio.sleep(self._delay_s)
        if self._error:
            raise self._error
        self._add(event, counted=False)

    async def book(self, events: Sequence[CostEvent], *, epoch: str | None) -> int:
        await asyncio.sleep(self._delay_s)
        if self._error:
            raise self._error
        counted = epoch is not None and epoch == self.latest
        return sum([self._add(event, counted=counted) for event in events])

    async def uncounted(self, *, limit: int) -> Sequence[CostEvent]:
        await asyncio.sleep(0)
        return [event for event in self._sorted() if event.id in self.not_counted and self._is_ours(event)][:limit]

    async def counted(self, ids: Sequence[str]) -> None:
        await asyncio.sleep(0)
        self.not_counted.difference_update(ids)

    async def recount(self, spans: Sequence[Span]) -> tuple[str, Sequence[Spending]]:
        await asyncio.sleep(0)
        self.latest = f"epoch {next(self._epochs)}"
        self.not_counted = {id for id in self.not_counted if not self._is_ours(self.rows[id])}  # noqa: A001 - its own field
        return self.latest, self._sum(spans)

    async def epoch(self) -> str | None:
        await asyncio.sleep(0)
        return self.latest

    async def spent(self, spans: Sequence[Span]) -> Sequence[Spending]:
        await asyncio.sleep(0)
        return self._sum(spans)

    async def total(self, *, bu: str | None = None, since: datetime | None = None) -> tuple[int, Decimal]:
        found = await self.events(bu=bu, since=since)
        return len(found), sum((event.cost_eur for event in found), Decimal(0))

    async def report(
        self, by: Sequence[str], *, since: datetime | None = None, until: datetime | None = None, bu: str | None = None
    ) -> Sequence[Line]:
        if unknown := [name for name in by if name not in KEYS]:
            raise Invalid(f"costs cannot be grouped by {unknown[0]!r}", remedy=f"use any of: {', '.join(KEYS)}")
        groups: dict[tuple[str, ...], list[CostEvent]] = {}
        for event in await self.events(since=since, until=until, bu=bu):
            groups.setdefault(tuple(KEYS[name](event, self._zone) for name in by), []).append(event)
        return [_line(key, groups[key]) for key in sorted(groups)]

    async def events(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        bu: str | None = None,
        after: CostEvent | None = None,
        limit: int | None = None,
    ) -> Sequence[CostEvent]:
        await asyncio.sleep(0)
        return [
            event
            for event in self._sorted()
            if (since is None or event.at >= since)
            and (until is None or event.at < until)
            and bu in {None, event.bu}
            and (after is None or (event.at, event.id) > (after.at, after.id))
        ][:limit]

    def _add(self, event: CostEvent, *, counted: bool) -> bool:
        is_new = event.id not in self.rows
        self.rows.setdefault(event.id, event)
        if counted:
            self.not_counted.discard(event.id)
        elif is_new:
            self.not_counted.add(event.id)
        return is_new

    def _sorted(self) -> list[CostEvent]:
        return sorted(self.rows.values(), key=lambda event: (event.at, event.id))

    def _is_ours(self, event: CostEvent) -> bool:
        return self._env in {None, event.env}

    def _sum(self, spans: Sequence[Span]) -> Sequence[Spending]:
        sums: dict[tuple[str, str], tuple[Span, int]] = {}
        for event in filter(self._is_ours, self.rows.values()):
            for span in (span for span in spans if span.starts <= event.at < span.ends):
                for scope in scopes(plane=event.plane, bu=event.bu, key=event.key):
                    before = sums.get((scope, span.id), (span, 0))[1]
                    sums[scope, span.id] = span, before + micro_up(event.cost_eur)
        return [Spending(scope=scope, span=span, spent=spent) for (scope, _), (span, spent) in sorted(sums.items(), key=_place)]


def _place(item: tuple[tuple[str, str], tuple[Span, int]]) -> tuple[str, str]:
    return item[0]


def _line(key: tuple[str, ...], events: Sequence[CostEvent]) -> Line:
    calls = [call for event in events for call in event.usage.get("calls", ())]
    return Line(
        key=key,
        requests=len(events),
        cost_eur=sum((event.cost_eur for event in events), Decimal(0)),
        input_tokens=sum(call.get("input_tokens", 0) for call in calls),
        output_tokens=sum(call.get("output_tokens", 0) for call in calls),
        unpriced=sum(not event.priced for event in events),
        estimated=sum(event.estimated for event in events),
    )
