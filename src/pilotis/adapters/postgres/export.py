"""Documents and passages, read through a cursor of the server: however many there are, few are here at once."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

import psycopg
from psycopg.rows import DictRow, dict_row

from pilotis.adapters.postgres.pool import translated
from pilotis.adapters.postgres.queries import statements
from pilotis.ports.export import Kind, Row

_SQL = statements("export")
AT_ONCE = 500


class PostgresExports:
    """See `ports.export.Exports`. Each takes a connection of its own, for as long as it lasts."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def rows(self, kind: Kind, *, bu: str | None, vectors: bool = False) -> AsyncGenerator[Sequence[Row], None]:
        statement = _SQL["passages_with_vectors" if vectors and kind == "passages" else kind]
        async with translated():
            connection = await psycopg.AsyncConnection.connect(self._url, connect_timeout=10, application_name="pilotis export")
        try:
            async with translated():
                await connection.execute("SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0")
                cursor = connection.cursor("export", row_factory=dict_row)
                await cursor.execute(statement, {"bu": bu})
            while found := await _some(cursor):
                yield found
            await cursor.close()
        finally:
            await connection.close()


async def _some(cursor: psycopg.AsyncServerCursor[DictRow]) -> Sequence[Row]:
    async with translated():
        return await cursor.fetchmany(AT_ONCE)
