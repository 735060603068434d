"""The database asked about itself: the questions are in `sql/inventory.sql`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from uuid import UUID

import numpy as np
from psycopg_pool import AsyncConnectionPool

from pilotis.adapters.postgres.pool import translated
from pilotis.adapters.postgres.queries import statements
from pilotis.ports import Query
from pilotis.ports.checkup import Looked

_SQL = statements("inventory")
_OTHERS = frozenset({"blobs", "known", "sample"})
SAMPLED = 20
"""How many passages are searched for one."""


class PostgresInventory:
    """See `ports.checkup.Inventory`."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool

    def questions(self) -> Sequence[str]:
        return [name for name in _SQL if name not in _OTHERS]

    async def ask(self, check: str) -> Looked:
        async with translated(), self._pool.connection() as connection, connection.transaction():
            # A recount takes as long as there are passages.
            await connection.execute("SET LOCAL statement_timeout = 0")
            row = await (await connection.execute(_SQL[check])).fetchone()
        assert row is not None
        of, count, examples = row
        return Looked(check=check, of=of, count=count, examples=tuple(examples or ()))

    async def blobs(self) -> Mapping[str, bool]:
        async with translated(), self._pool.connection() as connection:
            return dict(await (await connection.execute(_SQL["blobs"])).fetchall())

    async def sample(self, count: int) -> Sequence[tuple[Query, str]]:
        async with translated(), self._pool.connection() as connection:
            rows = await (await connection.execute(_SQL["sample"], {"count": count})).fetchall()
        return [
            (
                Query(
                    bu=bu,
                    text=title,
                    language=language,
                    vector=np.asarray(vector, dtype=np.float32),
                    top_k=SAMPLED,
                    dense_weight=1.0,
                ),
                passage_id,
            )
            for bu, title, language, vector, passage_id in rows
        ]

    async def known(self, document_ids: Collection[str]) -> Collection[str]:
        ids = [UUID(each) for each in document_ids]
        async with translated(), self._pool.connection() as connection:
            return {found for (found,) in await (await connection.execute(_SQL["known"], {"ids": ids})).fetchall()}
