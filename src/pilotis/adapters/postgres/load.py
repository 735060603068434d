"""A database made anew from a snapshot: tables, rows, indexes and migrations in one transaction, seen whole or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from pilotis.adapters.postgres.dump import SQL, connect, copying, ledger_sum, one, tables, take_turn
from pilotis.adapters.postgres.pool import translated
from pilotis.adapters.postgres.schema import place, upgrade_on
from pilotis.errors import Conflict, Permanent, SetupError
from pilotis.ports.archive import LedgerSum, Table, Tell

if TYPE_CHECKING:
    from sqlalchemy import Connection

BUILD_MEMORY = "512MB"
"""For one index at a time: the graph of 300 000 vectors of 384 halves is built within it."""


@asynccontextmanager
async def writing(url: str, *, schema: str) -> AsyncIterator[PostgresWriting]:
    """See `ports.archive.Dump.writing`."""
    if place(schema).is_newer:
        raise SetupError(
            f"the snapshot has schema {schema}, newer than this Pilotis knows ({place(schema).head})",
            remedy="install the Pilotis version that made it, or a later one",
        )
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    engine = create_engine("postgresql+psycopg://", creator=lambda: connect(url), poolclass=NullPool)
    async with translated():
        connection = await asyncio.to_thread(engine.connect)
        try:
            yield await asyncio.to_thread(_emptied, connection, schema)
        finally:
            # Whatever is not committed is undone; cancelled, a statement may still be running in its thread.
            raw = connection.connection.driver_connection
            connection.invalidate()
            if raw is not None:
                raw.close()


class PostgresWriting:
    """See `ports.archive.Writing`. Errors of Postgres are translated by `writing`, around all of it."""

    def __init__(self, connection: Connection, raw: psycopg.Connection) -> None:
        self._connection, self._raw = connection, raw
        self._tables = {table.name: table for table in tables(raw)}
        self._references = raw.execute(SQL["references"]).fetchall()
        self._indexes: dict[str, str] = dict(raw.execute(SQL["indexes"]).fetchall())
        for table, name, _ in self._references:
            raw.execute(_alter(table, "DROP CONSTRAINT {}", name))
        for name in self._indexes:
            raw.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(name)))

    async def load(self, table: Table, content: AsyncIterable[bytes]) -> int:
        known = self._tables.pop(table.name, None)
        if known is None or set(known.columns) != set(table.columns):
            raise Permanent(f"the snapshot's table {table.name!r} is not that of its schema", remedy="use another snapshot")
        cursor = self._raw.cursor()
        with cursor.copy(copying(table, "FROM STDIN (FORMAT binary, FREEZE)")) as copy:
            async for chunk in content:
                await asyncio.to_thread(copy.write, chunk)
        return cursor.rowcount

    async def finish(self, indexes: Mapping[str, str], sequences: Mapping[str, int], *, tell: Tell) -> None:
        if self._tables:
            raise Permanent(f"the snapshot lacks the table {min(self._tables)!r} of its schema", remedy="use another snapshot")
        self._raw.execute(sql.SQL("SET LOCAL maintenance_work_mem = {}").format(sql.Literal(BUILD_MEMORY)))
        # Indexes of the snapshot that its schema does not bring along are made while it is served: one for each generation's vectors.
        definitions = {**self._indexes, **indexes}
        for n, (name, definition) in enumerate(definitions.items()):
            tell(f"index {name}", n, len(definitions))
            await asyncio.to_thread(self._raw.execute, definition.encode())
        tell("constraints", 0, 1)
        await asyncio.to_thread(self._settle, sequences)

    async def ledger(self) -> LedgerSum:
        return await asyncio.to_thread(ledger_sum, self._raw)

    async def commit(self) -> None:
        await asyncio.to_thread(self._connection.commit)

    def _settle(self, sequences: Mapping[str, int]) -> None:
        raw = self._raw
        for table, name, definition in self._references:
            raw.execute(_alter(table, "ADD CONSTRAINT {} " + definition, name))
        for owner, last in sequences.items():
            table, _, column = owner.rpartition(".")
            raw.execute(SQL["go_on"], {"table": table, "column": column, "last": last})
        upgrade_on(self._connection, "head")
        raw.execute("ANALYZE")


def _emptied(connection: Connection, schema: str) -> PostgresWriting:
    connection.begin()
    raw = connection.connection.driver_connection
    assert isinstance(raw, psycopg.Connection)
    take_turn(raw)
    if others := one(raw, "others")[0]:
        raise Conflict(
            f"{others} other connections to this database are open", remedy="stop `pilotis up` and its workers, then try again"
        )
    # What is damaged may be too damaged to be emptied; dropped, nobody looks into it.
    for name in [*(table.name for table in tables(raw)), "alembic_version"]:
        raw.execute(sql.SQL("DROP TABLE IF EXISTS {} CASCADE").format(sql.Identifier(name)))
    upgrade_on(connection, schema)
    writing = PostgresWriting(connection, raw)
    for name in [table.name for table in tables(raw)]:
        # COPY with FREEZE writes into what this transaction has made or emptied, and what a migration put in goes.
        raw.execute(sql.SQL("TRUNCATE {}").format(sql.Identifier(name)))
    return writing


def _alter(table: str, action: str, name: str) -> sql.Composed:
    # `table` is quoted by the catalogue where it needs to be, and `action` comes from it too.
    return sql.SQL("ALTER TABLE " + table + " " + action).format(sql.Identifier(name))
