"""What waits, by queue and business unit, and what an operator does about it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from psycopg_pool import AsyncConnectionPool

from pilotis.adapters.postgres.pool import translated
from pilotis.adapters.postgres.queries import statements
from pilotis.ports.backlog import Pause, Waiting, WorkQueue

_SQL = statements("backlog")


class PostgresBacklog:
    """See `ports.backlog`."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool

    async def waiting(self) -> Sequence[Waiting]:
        async with translated(), self._pool.connection() as connection:
            rows = await (await connection.execute(_SQL["waiting"])).fetchall()
        names = ("queue", "bu", "documents", "passages", "oldest_s", "paused_until", "reason")
        return [Waiting(**dict(zip(names, row, strict=True))) for row in rows]

    async def retry(self, bu: str | None = None, ids: Sequence[str] | None = None) -> int:
        fields = {"bu": bu, "ids": None if ids is None else _uuids(ids)}
        async with translated(), self._pool.connection() as connection:
            return (await connection.execute(_SQL["retry"], fields)).rowcount

    async def cancel(self, bu: str, ids: Sequence[str], *, reason: str) -> Sequence[str]:
        fields = {"bu": bu, "ids": _uuids(ids), "error": reason[:2000].replace("\0", "")}
        async with translated(), self._pool.connection() as connection, connection.transaction():
            found = [identity for (identity,) in await (await connection.execute(_SQL["cancel"], fields)).fetchall()]
            await connection.execute(_SQL["drop_drafts"], {"ids": found})
        return [str(identity) for identity in found]

    async def pause(self, queue: WorkQueue, bu: str, *, until: datetime | None, reason: str) -> None:
        fields = {"queue": queue, "bu": bu, "until": until, "reason": reason}
        async with translated(), self._pool.connection() as connection:
            await connection.execute(_SQL["pause"], fields)

    async def resume(self, queue: WorkQueue | None = None, bu: str | None = None) -> int:
        async with translated(), self._pool.connection() as connection:
            return (await connection.execute(_SQL["resume"], {"queue": queue, "bu": bu})).rowcount

    async def pauses(self) -> Sequence[Pause]:
        async with translated(), self._pool.connection() as connection:
            rows = await (await connection.execute(_SQL["pauses"])).fetchall()
        return [Pause(queue=queue, bu=bu, until=until, reason=reason) for queue, bu, until, reason in rows]


def _uuids(ids: Sequence[str]) -> list[UUID]:
    """Those that are ids at all: another text is of no document."""
    found = []
    for text in ids:
        try:
            found.append(UUID(text))
        except ValueError:
            continue
    return found
