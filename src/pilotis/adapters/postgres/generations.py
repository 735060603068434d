"""Index generations side by side: built beside the active one, switched to in one transaction, dropped in small ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from psycopg import AsyncConnection, sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool

from pilotis.adapters.postgres.documents import PostgresDocuments, document_of
from pilotis.adapters.postgres.passages import PostgresPassages
from pilotis.adapters.postgres.pool import translated
from pilotis.adapters.postgres.queries import statements
from pilotis.adapters.postgres.removal import take_out
from pilotis.adapters.postgres.schema import create_vector_index, vector_index
from pilotis.adapters.postgres.vectors import sparse_text, vector_text
from pilotis.errors import Conflict, SetupError
from pilotis.ports import Document
from pilotis.ports.generations import Generation, Standing
from pilotis.rag.lexical import ANALYSIS_VERSION, passage_weights
from pilotis.rag.passage import Cut, Parsed, embedded_text

_SQL = statements("generations")
_FIELDS = ("id", "model", "dimension", "state", "embedder", "passage_tokens", "passage_overlap")

SHED = 5_000
"""Passages removed in one transaction: questions and publishing go on meanwhile."""


class PostgresGenerations:
    """See `ports.generations`."""

    def __init__(self, pool: AsyncConnectionPool, *, languages: Sequence[str]) -> None:
        self._pool, self._languages = pool, languages

    async def active(self) -> Generation:
        async with translated(), self._pool.connection() as connection:
            row = await (await connection.execute(_SQL["active"])).fetchone()
        if row is None:
            raise SetupError("the database has no index yet", remedy="run: pilotis ingest")
        return Generation(**dict(zip(_FIELDS, row, strict=True)))

    async def all(self) -> Sequence[Standing]:
        async with translated(), self._pool.connection() as connection:
            rows = await (await connection.execute(_SQL["all"])).fetchall()
        return [
            Standing(
                generation=Generation(**dict(zip(_FIELDS, row[:7], strict=True))),
                created_at=row[7],
                activated_at=row[8],
                retired_at=row[9],
                passages=row[10],
                left=row[11],
                failed=row[12],
            )
            for row in rows
        ]

    async def create(self, wanted: Generation) -> Generation:
        fields = {
            "model": wanted.model,
            "dimension": wanted.dimension,
            "analysis": ANALYSIS_VERSION,
            "embedder": Jsonb(dict(wanted.embedder)) if wanted.embedder else None,
            "passage_tokens": wanted.passage_tokens,
            "passage_overlap": wanted.passage_overlap,
        }
        async with translated(), self._pool.connection() as connection, connection.transaction():
            row = await (await connection.execute(_SQL["create"], fields)).fetchone()
            assert row is not None
            await create_vector_index(connection, row[0], wanted.dimension)
        return Generation(**dict(zip(_FIELDS, (row[0], *(getattr(wanted, name) for name in _FIELDS[1:])), strict=True)))

    async def characters(self) -> int:
        async with translated(), self._pool.connection() as connection:
            row = await (await connection.execute(_SQL["characters"])).fetchone()
        return 0 if row is None else int(row[0])

    async def left(self, generation: Generation, *, limit: int) -> Sequence[tuple[Document, int]]:
        async with translated(), self._pool.connection() as connection:
            rows = connection.cursor(row_factory=dict_row)
            found = await (await rows.execute(_SQL["left"], {"generation": generation.id, "limit": limit})).fetchall()
        return [(document_of(row), row["version"]) for row in found]

    async def put(
        self,
        generation: Generation,
        document: Document,
        version: int,
        parsed: Parsed,
        embedded: Sequence[tuple[Cut, NDArray[np.float32]]],
    ) -> bool:
        passages = [_passage(document.bu, parsed.title, cut, vector) for cut, vector in embedded]
        fields: dict[str, Any] = {"id": UUID(document.id), "bu": document.bu, "generation": generation.id, "version": version}
        async with translated(), self._pool.connection() as connection, connection.transaction():
            if not await _is_current(connection, fields["id"], version):
                return False
            await connection.execute(b"SET LOCAL statement_timeout = 0")
            await take_out(connection, fields)
            await connection.execute(_SQL["put_in"], fields | {"passages": Jsonb(passages)})
            for statement in ("count_terms", "count_passages"):
                await connection.execute(_SQL[statement], fields | {"sign": 1})
            await connection.execute(_SQL["built"], fields | {"count": len(passages), "error": None})
        return True

    async def fail(self, generation: Generation, document: Document, version: int, error: str) -> None:
        fields: dict[str, Any] = {"id": UUID(document.id), "bu": document.bu, "generation": generation.id, "version": version}
        async with translated(), self._pool.connection() as connection, connection.transaction():
            if await _is_current(connection, fields["id"], version):
                await take_out(connection, fields)
                await connection.execute(_SQL["built"], fields | {"count": 0, "error": error[:2000].replace("\0", "")})

    async def failures(self, generation: Generation, *, limit: int = 100) -> Sequence[tuple[Document, str]]:
        async with translated(), self._pool.connection() as connection:
            rows = connection.cursor(row_factory=dict_row)
            found = await (await rows.execute(_SQL["failures"], {"generation": generation.id, "limit": limit})).fetchall()
        return [(document_of({name: row[name] for name in row if name != "why"}), row["why"]) for row in found]

    async def activate(self, generation: Generation) -> None:
        fields: dict[str, Any] = {"generation": generation.id}
        async with translated(), self._pool.connection() as connection, connection.transaction():
            # Waits for whoever publishes just now, each of whom holds the active row; nobody publishes until this has ended.
            retired = await (await connection.execute(_SQL["retire"], fields)).fetchone()
            if retired is None:
                return
            left = await (await connection.execute(_SQL["left"], fields | {"limit": 1})).fetchone()
            if left is not None:
                raise Conflict(f"generation {generation.id} is not complete", remedy="run: pilotis index build")
            await connection.execute(_SQL["remember"], {"before": retired[0]})
            for statement in ("recount", "begin_again"):
                await connection.execute(_SQL[statement], fields)
            await connection.execute(b"DELETE FROM draft")
            await connection.execute(_SQL["activate"], fields)

    async def drop(self, generation: Generation) -> None:
        async with translated(), self._pool.connection() as connection:
            if (await self.active()).id == generation.id:
                raise Conflict(f"generation {generation.id} is the one that is searched", remedy="switch to another one first")
            shed: dict[str, Any] = {"generation": generation.id, "limit": SHED}
            while (await connection.execute(_SQL["shed"], shed)).rowcount:
                pass
            async with connection.transaction():
                await connection.execute(_SQL["drop"], {"generation": generation.id})
                await connection.execute(sql.SQL("DROP INDEX IF EXISTS {}").format(vector_index(generation.id)))
                await connection.execute(b"DELETE FROM generation WHERE id = %s AND state <> 'active'", (generation.id,))

    def index(self, generation: Generation) -> tuple[PostgresPassages, PostgresDocuments]:
        passages = PostgresPassages(self._pool, generation, languages=self._languages)
        return passages, PostgresDocuments(self._pool, generation)


async def _is_current(connection: AsyncConnection, document_id: UUID, version: int) -> bool:
    found = await connection.execute(b"SELECT version, state FROM document WHERE id = %s FOR UPDATE", (document_id,))
    return await found.fetchone() == (version, "indexed")


def _passage(bu: str, title: str | None, cut: Cut, vector: NDArray[np.float32]) -> dict[str, Any]:
    text = embedded_text(title, cut.headings, cut.text)
    weights = passage_weights(text, language=cut.language, scope=bu)
    return {
        "ordinal": cut.ordinal,
        "id": cut.id,
        "text": cut.text,
        "indexed_text": text,
        "headings": list(cut.headings),
        "page": cut.page,
        "start_char": cut.start,
        "end_char": cut.end,
        "language": cut.language,
        "terms": sorted(weights),
        "weights": sparse_text(weights),
        "embedding": vector_text(vector),
    }
