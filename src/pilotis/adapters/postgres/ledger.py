"""The append-only record of every cost, and the sums that the budgets' counters are made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from decimal import Decimal
from typing import Any, LiteralString

from psycopg import sql
from psycopg.rows import class_row
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool

from pilotis.adapters.postgres.pool import translated
from pilotis.adapters.postgres.queries import statements
from pilotis.derive.budget import Span
from pilotis.errors import Invalid
from pilotis.ports import CostEvent, Line, Spending

_SQL = statements("ledger")

_KEYS: dict[str, LiteralString] = {
    "hour": "to_char(at AT TIME ZONE %(zone)s, 'YYYY-MM-DD HH24:00')",
    "day": "to_char(at AT TIME ZONE %(zone)s, 'YYYY-MM-DD')",
    "month": "to_char(at AT TIME ZONE %(zone)s, 'YYYY-MM')",
    "env": "env",
    "plane": "plane",
    "bu": "bu",
    "kind": "kind",
    "model": "model",
    "key": "coalesce(key, '')",
    "step": "step",
    "instance": "coalesce(instance, '')",
}


class PostgresLedger:
    """Costs as NUMERIC, twelve decimals; an event stored twice is stored once.

    `env` is whose counters it speaks of, None for a database of one env only. `zone` is where days and months begin in a report.
    """

    def __init__(self, pool: AsyncConnectionPool, *, env: str | None = None, zone: str = "UTC") -> None:
        self._pool, self._env, self._zone = pool, env or "", zone

    async def append(self, event: CostEvent) -> None:
        async with translated(), self._pool.connection() as connection:
            await connection.execute(_SQL["book"], {"events": _rows([event]), "counted": False})

    async def book(self, events: Sequence[CostEvent], *, epoch: str | None) -> int:
        if not events:
            return 0
        async with translated(), self._pool.connection() as connection, connection.transaction():
            # The lock lasts until the events can be seen: who sums meanwhile waits for them, and who booked later sees its epoch.
            row = await (await connection.execute(_SQL["share_epoch"], {"env": self._env})).fetchone()
            counted = epoch is not None and row is not None and row[0] == epoch
            cursor = await connection.execute(_SQL["book"], {"events": _rows(events), "counted": counted})
            stored = await cursor.fetchone()
        return 0 if stored is None else int(stored[0])

    async def uncounted(self, *, limit: int) -> Sequence[CostEvent]:
        async with (
            translated(),
            self._pool.connection() as connection,
            connection.cursor(row_factory=class_row(CostEvent)) as cursor,
        ):
            return await (await cursor.execute(_SQL["uncounted"], {"env": self._env, "limit": limit})).fetchall()

    async def counted(self, ids: Sequence[str]) -> None:
        async with translated(), self._pool.connection() as connection:
            await connection.execute(_SQL["counted"], {"ids": sorted(ids)})

    async def recount(self, spans: Sequence[Span]) -> tuple[str, Sequence[Spending]]:
        async with translated(), self._pool.connection() as connection, connection.transaction():
            row = await (await connection.execute(_SQL["new_epoch"], {"env": self._env})).fetchone()
            assert row is not None
            # One statement, so one snapshot: what it marks as counted is what it sums.
            summed = await (await connection.execute(_SQL["recount"], self._over(spans))).fetchall()
        return row[0], _spending(summed, spans)

    async def epoch(self) -> str | None:
        async with translated(), self._pool.connection() as connection:
            row = await (await connection.execute(_SQL["epoch"], {"env": self._env})).fetchone()
        return None if row is None else str(row[0])

    async def spent(self, spans: Sequence[Span]) -> Sequence[Spending]:
        async with translated(), self._pool.connection() as connection:
            summed = await (await connection.execute(_SQL["spent"], self._over(spans))).fetchall()
        return _spending(summed, spans)

    async def total(self, *, bu: str | None = None, since: datetime | None = None) -> tuple[int, Decimal]:
        async with translated(), self._pool.connection() as connection:
            row = await (await connection.execute(_SQL["total"], {"bu": bu, "since": since})).fetchone()
        assert row is not None
        return int(row[0]), Decimal(row[1])

    async def report(
        self, by: Sequence[str], *, since: datetime | None = None, until: datetime | None = None, bu: str | None = None
    ) -> Sequence[Line]:
        """Raises Invalid for something that costs cannot be grouped by."""
        if unknown := [name for name in by if name not in _KEYS]:
            raise Invalid(f"costs cannot be grouped by {unknown[0]!r}", remedy=f"use any of: {', '.join(_KEYS)}")
        query = sql.SQL(_SQL["report"]).format(keys=sql.SQL(", ").join(sql.SQL(_KEYS[name]) for name in by))
        fields = {"since": since, "until": until, "bu": bu, "zone": self._zone}
        async with translated(), self._pool.connection() as connection:
            rows = await (await connection.execute(query, fields)).fetchall()
        return [
            Line(
                key=tuple(key),
                requests=requests,
                cost_eur=cost,
                input_tokens=read,
                output_tokens=written,
                unpriced=unpriced,
                estimated=estimated,
            )
            for key, requests, cost, read, written, unpriced, estimated in rows
        ]

    async def events(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        bu: str | None = None,
        after: CostEvent | None = None,
        limit: int | None = None,
    ) -> Sequence[CostEvent]:
        fields = {"since": since, "until": until, "bu": bu, "limit": limit}
        place = {"after_at": after.at, "after_id": after.id} if after else {"after_at": None, "after_id": None}
        async with (
            translated(),
            self._pool.connection() as connection,
            connection.cursor(row_factory=class_row(CostEvent)) as cursor,
        ):
            return await (await cursor.execute(_SQL["events"], fields | place)).fetchall()

    def _over(self, spans: Sequence[Span]) -> dict[str, Any]:
        return {"env": self._env, "starts": [span.starts for span in spans], "ends": [span.ends for span in spans]}


def _rows(events: Sequence[CostEvent]) -> Jsonb:
    """One array for one statement; the first of those with the same id."""
    first = {event.id: event for event in reversed(events)}
    return Jsonb([_row(event) for event in first.values()])


def _row(event: CostEvent) -> dict[str, Any]:
    calls = [call for call in event.usage.get("calls", ()) if isinstance(call, dict)]
    return asdict(event) | {
        "at": event.at.isoformat(),
        "cost_eur": format(event.cost_eur, "f"),
        "input_tokens": sum(max(0, call.get("input_tokens", 0)) for call in calls),
        "output_tokens": sum(max(0, call.get("output_tokens", 0)) for call in calls),
    }


def _spending(rows: Sequence[tuple[Any, ...]], spans: Sequence[Span]) -> Sequence[Spending]:
    found = []
    for n, ungrouped, plane, bu, key, micro in rows:
        # A bit for each of plane, bu and key that the row is not grouped by.
        scope = {0b111: "env", 0b011: f"plane:{plane}", 0b101: f"bu:{bu}", 0b110: f"key:{key}"}[ungrouped]
        if ungrouped != 0b110 or key:
            found.append(Spending(scope=scope, span=spans[n - 1], spent=micro))
    return sorted(found, key=lambda one: (one.scope, one.span.id))
