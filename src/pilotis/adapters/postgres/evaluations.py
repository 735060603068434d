"""Runs of golden sets, with every question they were judged by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool

from pilotis.adapters.postgres.pool import translated
from pilotis.adapters.postgres.queries import statements
from pilotis.batch.record import not_done, only, read_row, row_document
from pilotis.ports.quality import Evaluation, Excerpt, Judged

_SQL = statements("evaluations")

SHORTEST_EXCERPT = 40
"""Characters below which nothing can be asked of a passage."""


class PostgresEvaluations:
    """See `ports.quality.Evaluations`."""

    def __init__(self, pool: AsyncConnectionPool, *, env: str) -> None:
        self._pool, self._env = pool, env

    async def add(self, evaluation: Evaluation, *, order: Mapping[str, Any] | None = None) -> None:
        fields = self._fields(evaluation) | {"ordered": None if order is None else Jsonb(dict(order))}
        async with translated(), self._pool.connection() as connection:
            await connection.execute(_SQL["add"], fields)

    async def finish(self, evaluation: Evaluation, rows: Sequence[Judged]) -> None:
        async with translated(), self._pool.connection() as connection, connection.transaction():
            ended = await (await connection.execute(_SQL["finish"], self._fields(evaluation))).fetchone()
            if ended is None:
                return
            questions = [(evaluation.id, n, Jsonb(row_document(row))) for n, row in enumerate(rows)]
            await connection.cursor().executemany(_SQL["add_question"], questions)

    async def get(self, run: str) -> Evaluation:
        async with translated(), self._pool.connection() as connection:
            return await self._one(connection, run)

    async def rows(self, run: str) -> Sequence[Judged]:
        async with translated(), self._pool.connection() as connection:
            found = await self._one(connection, run)
            rows = await (await connection.execute(_SQL["questions"], {"id": found.id})).fetchall()
        return [read_row(judged) for (judged,) in rows]

    async def _all(self, statement: str, **fields: object) -> list[Evaluation]:
        async with translated(), self._pool.connection() as connection:
            rows = connection.cursor(row_factory=dict_row)
            found = await (await rows.execute(_SQL[statement], fields | {"env": self._env})).fetchall()
        return [_evaluation(row) for row in found]

    async def list(self, *, bu: str | None = None, golden: str | None = None, limit: int = 50) -> Sequence[Evaluation]:
        return await self._all("list", bu=bu, golden=golden, limit=limit)

    async def latest(self, *, bu: str, golden: str, before: datetime | None = None) -> Evaluation | None:
        return next(iter(await self._all("latest", bu=bu, golden=golden, before=before)), None)

    async def baseline(self, *, bu: str, golden: str) -> Evaluation | None:
        return next(iter(await self._all("baseline", bu=bu, golden=golden)), None)

    async def set_baseline(self, run: str) -> Evaluation:
        async with translated(), self._pool.connection() as connection, connection.transaction():
            found = await self._one(connection, run)
            if found.state != "done":
                raise not_done(found)
            fields = {"id": found.id, "env": self._env, "bu": found.bu, "golden": found.golden}
            await connection.execute(_SQL["drop_baseline"], fields)
            await connection.execute(_SQL["set_baseline"], fields)
            return await self._one(connection, found.id)

    async def claim(self, *, lease_s: float) -> tuple[Evaluation, Mapping[str, Any]] | None:
        async with translated(), self._pool.connection() as connection:
            rows = connection.cursor(row_factory=dict_row)
            row = await (await rows.execute(_SQL["claim"], {"env": self._env, "lease_s": lease_s})).fetchone()
        if row is None:
            return None
        order = row.pop("ordered")
        return _evaluation(row), order

    async def renew(self, run: str, *, lease_s: float) -> None:
        async with translated(), self._pool.connection() as connection:
            await connection.execute(_SQL["renew"], {"run": run, "env": self._env, "lease_s": lease_s})

    async def excerpts(self, bu: str, *, collection: str | None = None, limit: int, seed: int = 0) -> Sequence[Excerpt]:
        fields = {"bu": bu, "collection": collection, "limit": limit, "seed": str(seed), "characters": SHORTEST_EXCERPT}
        async with translated(), self._pool.connection() as connection:
            rows = await (await connection.execute(_SQL["excerpts"], fields)).fetchall()
        return [
            Excerpt(
                passage_id=identity,
                document=document,
                collection=found_in,
                title=title,
                headings=tuple(headings),
                language=language,
                text=text,
            )
            for identity, document, found_in, title, headings, language, text in rows
        ]

    async def _one(self, connection: AsyncConnection, run: str) -> Evaluation:
        rows = connection.cursor(row_factory=dict_row)
        found = await (await rows.execute(_SQL["find"], {"env": self._env, "run": run.lower()})).fetchall() if run else []
        return only([_evaluation(row) for row in found], run)

    def _fields(self, evaluation: Evaluation) -> dict[str, Any]:
        plain = ("bu", "at", "state", "golden", "digest", "questions", "error")
        return {
            **{name: getattr(evaluation, name) for name in plain},
            "id": UUID(evaluation.id),
            "env": self._env,
            "config": Jsonb(dict(evaluation.config)),
            "figures": Jsonb(dict(evaluation.figures)),
        }


def _evaluation(row: DictRow) -> Evaluation:
    return Evaluation(**{**row, "id": str(row["id"])})
