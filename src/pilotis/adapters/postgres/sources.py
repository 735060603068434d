"""What each source brought, and the lease of whoever synchronises it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from psycopg import errors as pg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool

from pilotis.adapters.postgres.pool import translated
from pilotis.adapters.postgres.queries import statements
from pilotis.errors import Conflict
from pilotis.ports import Known, Run, State

AGAIN_S, FAILED_S = 60.0, 900.0
"""How soon a scheduled run that died, and one that failed, is tried again, where that is before its time."""

_SQL = statements("sources")
_DOCUMENTS = statements("documents")


class PostgresSourceItems:
    """See `ports.SourceItems`."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool

    async def known(self, source: str) -> Sequence[Known]:
        async with translated(), self._pool.connection() as connection:
            rows = connection.cursor(row_factory=dict_row)
            return [Known(**row) for row in await (await rows.execute(_SQL["known"], {"source": source})).fetchall()]

    async def begin(self, source: str, item: Known, *, sources: Collection[str]) -> Known:
        fields = _where(source, item) | {"key": item.key, "sources": sorted({*sources, source})}
        async with translated(), self._pool.connection() as connection:
            rows = connection.cursor(row_factory=dict_row)
            row = await (await rows.execute(_SQL["begin"], fields)).fetchone()
            if row is not None:
                return Known(**row)
            other = await (await connection.execute(_SQL["holder_of_name"], fields)).fetchone()
        whose = "another source" if other is None else f"source {other[0]} ({other[1]!a})"
        raise Conflict(
            f"{whose} brought a document of the same name, {item.name!a}",
            remedy="give the sources collections of their own, or exclude one of the two",
        )

    async def keep(self, source: str, item: Known) -> None:
        fields = _where(source, item) | {
            "sha256": item.sha256,
            "size": item.size,
            "validator": item.validator,
            "document_id": UUID(item.document_id) if item.document_id else None,
            "brought": item.brought,
        }
        async with translated(), self._pool.connection() as connection:
            await connection.execute(_SQL["keep"], fields)

    async def seen(self, source: str, items: Sequence[Known]) -> None:
        places = sorted({(item.bu, item.collection) for item in items})
        async with translated(), self._pool.connection() as connection:
            for bu, collection in places:
                names = [item.name for item in items if (item.bu, item.collection) == (bu, collection)]
                fields = {"source": source, "bu": bu, "collection": collection, "names": names}
                await connection.execute(_SQL["seen"], fields)

    async def move(self, source: str, old: Known, new: Known, *, media_type: str) -> bool:
        assert old.document_id
        fields = _where(source, new) | {
            "id": UUID(old.document_id),
            "sha256": old.sha256,
            "media_type": media_type,
            "key": new.key,
            "validator": new.validator,
            "old_name": old.name,
        }
        async with translated():
            try:
                return await self._moved(fields)
            except pg.UniqueViolation:
                return False

    async def _moved(self, fields: dict[str, Any]) -> bool:
        async with self._pool.connection() as connection, connection.transaction():
            moved = await connection.execute(_SQL["move_document"], fields)
            if not moved.rowcount:
                return False
            await connection.execute(_SQL["move_item"], fields)
            # Cached answers cite it by its name.
            await connection.execute(_DOCUMENTS["note_purge"], fields)
            return True

    async def drop(self, source: str, item: Known) -> None:
        async with translated(), self._pool.connection() as connection:
            await connection.execute(_SQL["drop"], _where(source, item))

    async def lead(self, source: str, *, holder: str, lease_s: float, every_s: float | None = None) -> bool:
        fields = {"source": source, "holder": holder, "lease_s": lease_s, "every_s": every_s}
        async with translated(), self._pool.connection() as connection:
            done = await connection.execute(_SQL["lead"], fields | {"again_s": AGAIN_S, "failed_s": FAILED_S})
            return bool(done.rowcount)

    async def renew(self, source: str, *, holder: str, lease_s: float) -> bool:
        async with translated(), self._pool.connection() as connection:
            done = await connection.execute(_SQL["renew"], {"source": source, "holder": holder, "lease_s": lease_s})
            return bool(done.rowcount)

    async def finish(self, source: str, *, holder: str, report: Mapping[str, Any], succeeded: bool) -> None:
        fields = {"source": source, "holder": holder, "report": Jsonb(dict(report)), "succeeded": succeeded}
        async with translated(), self._pool.connection() as connection:
            await connection.execute(_SQL["finish"], fields)

    async def runs(self) -> Sequence[Run]:
        async with translated(), self._pool.connection() as connection:
            rows = connection.cursor(row_factory=dict_row)
            found = await (await rows.execute(_SQL["runs"])).fetchall()
            brought: dict[str, dict[State, int]] = {}
            for source, state, count in await (await connection.execute(_SQL["brought"])).fetchall():
                brought.setdefault(source, {})[state] = count
        return [Run(**row, documents=brought.get(row["source"], {})) for row in found]


def _where(source: str, item: Known) -> dict[str, Any]:
    return {"source": source, "bu": item.bu, "collection": item.collection, "name": item.name}
