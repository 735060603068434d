"""All tables as of one moment, as the catalogue lists them: a table that a later migration adds is among them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from decimal import Decimal
from typing import Any

import psycopg
from psycopg import sql

from pilotis.adapters.postgres import rows
from pilotis.adapters.postgres.pool import translated
from pilotis.adapters.postgres.queries import statements
from pilotis.errors import Conflict, Permanent
from pilotis.ports.archive import LedgerSum, Standing, Table, Writing

SQL = statements("dump")
CHUNK = 1 << 20


class PostgresDump:
    """See `ports.archive.Dump`. It takes connections of its own: what it does may last longer than a pool's patience."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def standing(self) -> Standing:
        async with translated():
            try:
                return await asyncio.to_thread(self._standing)
            except (psycopg.ProgrammingError, psycopg.InternalError) as error:
                raise Permanent(f"the database is damaged: {error}", remedy="pilotis snapshot restore") from error

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[PostgresReading]:
        async with translated():
            connection = await asyncio.to_thread(connect, self._url)
            try:
                yield await asyncio.to_thread(_began, connection)
                await asyncio.to_thread(_ended, connection)
            finally:
                # Cancelled, a COPY may still be running in its thread: closing ends it.
                connection.close()

    def writing(self, *, schema: str) -> AbstractAsyncContextManager[Writing]:
        from pilotis.adapters.postgres.load import writing

        return writing(self._url, schema=schema)

    async def count(self, content: AsyncIterable[bytes]) -> int:
        return await rows.count(content)

    def _standing(self) -> Standing:
        with connect(self._url) as connection:
            others = one(connection, "others")[0]
            if not connection.execute("SELECT to_regclass('alembic_version') IS NOT NULL").fetchall()[0][0]:
                return Standing(schema=None, rows={}, ledger=_NOTHING, others=others)
            counts = {each.name: connection.execute(_counting(each)).fetchall()[0][0] for each in tables(connection)}
            return Standing(schema=one(connection, "revision")[0], rows=counts, ledger=ledger_sum(connection), others=others)


_NOTHING = LedgerSum(events=0, micro=0, cost_eur=Decimal(0))


class PostgresReading:
    """See `ports.archive.Reading`. Errors of Postgres are translated by `reading`, around all of it."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection
        self._rows: dict[str, int] = {}
        at: Sequence[Any] = connection.execute("SELECT now()").fetchall()[0]
        self.at: datetime = at[0]
        self.schema: str = one(connection, "revision")[0]
        self.tables: Sequence[Table] = tables(connection)
        self.indexes: Mapping[str, str] = dict(connection.execute(SQL["indexes"]).fetchall())
        self.sequences: Mapping[str, int] = dict(connection.execute(SQL["sequences"]).fetchall())
        self.ledger = ledger_sum(connection)

    async def copy(self, table: Table) -> AsyncIterator[bytes]:
        cursor = self._connection.cursor()
        with cursor.copy(copying(table, "TO STDOUT (FORMAT binary)")) as copy:
            while chunk := await asyncio.to_thread(_chunk, copy):
                yield chunk
        self._rows[table.name] = cursor.rowcount

    def rows(self, table: Table) -> int:
        return self._rows[table.name]

    async def blobs(self) -> Sequence[tuple[str, int]]:
        return await asyncio.to_thread(lambda: self._connection.execute(SQL["blobs"]).fetchall())

    async def let_go(self) -> None:
        await asyncio.to_thread(self._connection.commit)

    async def assure(self) -> None:
        await asyncio.to_thread(lambda: self._connection.execute("SELECT"))


def connect(url: str) -> psycopg.Connection:
    """A connection without limits of time. It is in a transaction from its first statement on."""
    connection = psycopg.connect(
        url, autocommit=True, connect_timeout=10, keepalives_idle=30, application_name="pilotis snapshot"
    )
    connection.execute("SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0")
    connection.autocommit = False
    return connection


def one(connection: psycopg.Connection, statement: str) -> Sequence[Any]:
    row = connection.execute(SQL[statement]).fetchone()
    if row is None:
        raise Permanent("the database has no schema", remedy="run: pilotis migrate")
    return row


def tables(connection: psycopg.Connection) -> Sequence[Table]:
    return [Table(name=name, columns=tuple(columns)) for name, columns in connection.execute(SQL["tables"]).fetchall()]


def ledger_sum(connection: psycopg.Connection) -> LedgerSum:
    events, micro, cost_eur = one(connection, "ledger")
    return LedgerSum(events=events, micro=micro, cost_eur=cost_eur)


def copying(table: Table, how: str) -> sql.Composed:
    columns = sql.SQL(", ").join(map(sql.Identifier, table.columns))
    return sql.SQL("COPY {} ({}) " + how).format(sql.Identifier(table.name), columns)


def _counting(table: Table) -> sql.Composed:
    return sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table.name))


def take_turn(connection: psycopg.Connection) -> None:
    """Until the connection ends. Raises Conflict where somebody else has it."""
    if not one(connection, "alone")[0]:
        raise Conflict("a snapshot of this database is being taken or restored", remedy="wait until that is done")


def _began(connection: psycopg.Connection) -> PostgresReading:
    take_turn(connection)
    # Before the moment: whoever is just deleting bytes ends first, and nobody begins.
    connection.execute(SQL["keep_bytes"])
    connection.commit()
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    connection.read_only = True
    return PostgresReading(connection)


def _ended(connection: psycopg.Connection) -> None:
    """Whoever comes next need not wait until the server has noticed that the connection is closed."""
    connection.rollback()
    connection.execute("SELECT pg_advisory_unlock_all()")


def _chunk(copy: psycopg.Copy) -> bytes:
    """Rows come one by one: some MiB of them are worth a turn of the event loop."""
    parts, size = [], 0
    while size < CHUNK and (row := copy.read()):
        parts.append(bytes(row))
        size += len(row)
    return b"".join(parts)
