"""Hybrid search, in one statement."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool

from pilotis.adapters.postgres.pool import translated
from pilotis.adapters.postgres.queries import statements
from pilotis.adapters.postgres.vectors import vector_text
from pilotis.ports import Hit, Query
from pilotis.ports.generations import Generation
from pilotis.rag.lexical import question_terms

DEPTH = 50
"""Candidates taken from each list; more changed no figure of the quality bench, fewer did."""

REACH = 1_000
"""How many passages the rarest terms of a question may nominate; bounds the work on a large corpus."""


class PostgresPassages:
    """The index of one generation, shared by all business units and searched one at a time."""

    def __init__(self, pool: AsyncConnectionPool, generation: Generation, *, languages: Sequence[str]) -> None:
        self._pool = pool
        self._generation = generation
        self.generation = str(generation.id)
        self._languages = tuple(languages)
        self._sql = statements("passages")["search"].format(dimension=int(generation.dimension))

    async def search(self, query: Query) -> Sequence[Hit]:
        fields = self.parameters(query)
        async with translated(), self._pool.connection() as connection:
            rows = await (await connection.execute(self._sql, fields)).fetchall()
        return [
            Hit(
                passage_id=identity,
                document_id=str(document_id),
                document=name,
                collection=collection,
                title=title,
                headings=tuple(headings),
                page=page,
                start=start,
                end=end,
                language=language,
                text=text,
                score=float(score),
                dense=float(dense),
                lexical=float(lexical),
            )
            for identity, document_id, name, collection, title, headings, page, start, end, language, text, score, dense, lexical in rows
        ]

    def parameters(self, query: Query) -> dict[str, object]:
        """The statement's parameters; public so that a bench can time the bare statement."""
        lexical = query.dense_weight < 1
        languages = tuple(dict.fromkeys((query.language, *self._languages)))
        return {
            "generation": self._generation.id,
            "bu": query.bu,
            "terms": question_terms(query.text, language=query.language, languages=languages, scope=query.bu)
            if lexical
            else [],
            "vector": None if query.vector is None else vector_text(query.vector),
            "collection": query.collection,
            "metadata": Jsonb(dict(query.metadata)) if query.metadata else None,
            "dense_weight": 0.0 if query.vector is None else query.dense_weight,
            "depth": max(DEPTH, query.top_k),
            "reach": REACH,
            "top_k": query.top_k,
        }

    @property
    def statement(self) -> str:
        return self._sql
