"""The append-only record of every cost."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from decimal import Decimal

from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool

from pilotis.adapters.postgres.pool import translated
from pilotis.adapters.postgres.queries import statements
from pilotis.ports import CostEvent

_SQL = statements("ledger")


class PostgresLedger:
    """Costs as NUMERIC, twelve decimals; an event stored twice is stored once."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool

    async def append(self, event: CostEvent) -> None:
        fields = asdict(event) | {"usage": Jsonb(dict(event.usage)), "fx": None if event.fx is None else Jsonb(dict(event.fx))}
        async with translated(), self._pool.connection() as connection:
            await connection.execute(_SQL["append"], fields)

    async def total(self, *, bu: str | None = None, since: datetime | None = None) -> tuple[int, Decimal]:
        async with translated(), self._pool.connection() as connection:
            row = await (await connection.execute(_SQL["total"], {"bu": bu, "since": since})).fetchone()
        assert row is not None
        return int(row[0]), Decimal(row[1])
