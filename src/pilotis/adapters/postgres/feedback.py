"""What people said of answers. An answer is known by its line in the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime

from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from pilotis.adapters.postgres.pool import translated
from pilotis.adapters.postgres.queries import statements
from pilotis.batch.opinions import no_answer, no_passage
from pilotis.ports.quality import Opinion, Vote

_SQL = statements("feedback")


class PostgresFeedback:
    """See `ports.quality.Feedback`."""

    def __init__(self, pool: AsyncConnectionPool, *, env: str) -> None:
        self._pool, self._env = pool, env

    async def put(self, opinion: Opinion) -> Opinion:
        fields = asdict(opinion) | {"env": self._env}
        async with translated(), self._pool.connection() as connection:
            row = await (await connection.execute(_SQL["put"], fields)).fetchone()
            if row is not None:
                return replace(opinion, document=row[0])
            known = await (await connection.execute(_SQL["answered"], fields)).fetchone()
        raise no_passage(opinion) if known else no_answer(opinion.answer_id)

    async def list(
        self, *, bu: str | None = None, vote: Vote | None = None, since: datetime | None = None, limit: int = 100
    ) -> Sequence[Opinion]:
        fields = {"env": self._env, "bu": bu, "vote": vote, "since": since, "limit": limit}
        async with translated(), self._pool.connection() as connection:
            rows = connection.cursor(row_factory=dict_row)
            return [Opinion(**row) for row in await (await rows.execute(_SQL["list"], fields)).fetchall()]

    async def counts(self, *, bu: str | None = None, since: datetime | None = None) -> Mapping[tuple[str, Vote], int]:
        fields = {"env": self._env, "bu": bu, "since": since}
        async with translated(), self._pool.connection() as connection:
            rows = await (await connection.execute(_SQL["counts"], fields)).fetchall()
        return {(unit, vote): count for unit, vote, count in rows}

    async def delete(self, bu: str, answer_id: str) -> int:
        fields = {"env": self._env, "bu": bu, "answer_id": answer_id}
        async with translated(), self._pool.connection() as connection:
            return (await connection.execute(_SQL["delete"], fields)).rowcount
