"""The schema's version and the index generation: what start-up refuses, and what `pilotis migrate` does about it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from pilotis.adapters.postgres.pool import open_pool, translated
from pilotis.errors import SetupError
from pilotis.ports.generations import Generation
from pilotis.rag.lexical import ANALYSIS_VERSION

if TYPE_CHECKING:
    from psycopg_pool import AsyncConnectionPool
    from sqlalchemy import Connection

    from pilotis.derive.plan import Env
    from pilotis.ports import Embedder

_ONE_UPGRADE = threading.Lock()
"""Alembic keeps the migration it runs in module globals: one at a time in a process; among processes its own lock does it."""

_ACTIVE = """
    SELECT id, model, dimension, state, embedder, passage_tokens, passage_overlap, analysis FROM generation WHERE state = 'active'
"""
_CREATE = """
    INSERT INTO generation (model, dimension, analysis, state, embedder, passage_tokens, passage_overlap, activated_at)
    VALUES (%s, %s, %s, 'active', %s, %s, %s, now()) RETURNING id
"""
_DESCRIBE = "UPDATE generation SET embedder = %s, passage_tokens = %s, passage_overlap = %s WHERE id = %s"

_VERSIONS = Path(__file__).parent / "migrations" / "versions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """Where a database stands: `current` is None before the first migration."""

    current: str | None
    head: str
    pending: tuple[str, ...]

    @property
    def is_newer(self) -> bool:
        return self.current is not None and self.current > self.head


async def migrate(url: str, *, check: bool = False) -> Schema:
    """Bring the schema to this version, or with `check` only say what is pending. Safe to run twice, and twice at once.

    Nothing is to be done where a newer Pilotis migrated it and this one runs on it: so begins the way back to the release before.
    Raises SetupError where this one does not.
    """
    async with translated():
        connection = await _connect(url)
        async with connection:
            before = await _usable(connection)
    if not check and before.pending:
        await asyncio.to_thread(_upgrade, url)
    return before


async def schema(url: str) -> Schema:
    """Read the schema's version."""
    async with translated():
        connection = await _connect(url)
        async with connection:
            return place(await _current(connection))


async def open_database(url: str, env: Env, *, min_size: int, max_size: int) -> tuple[AsyncConnectionPool, Generation]:
    """A pool on a database that is fit to be used, and its active generation. Raises what `check_schema` and `open_generation` do."""
    pool = await open_pool(url, min_size=min_size, max_size=max_size)
    try:
        await check_schema(pool)
        return pool, await open_generation(pool, wanted(env))
    except BaseException:  # whatever it was, the pool must not outlive it
        await pool.close()
        raise


def wanted(env: Env) -> Generation:
    """What the contract asks for."""
    return Generation(
        id=0,
        model=env.embedder.model,
        dimension=env.embedder.dimension,
        embedder=asdict(env.embedder),
        passage_tokens=env.passage_tokens,
        passage_overlap=env.passage_overlap,
    )


async def check_schema(pool: AsyncConnectionPool) -> None:
    """Raises SetupError, naming the command to run, for an older schema and for one that is too new.

    A newer one is served where it says that it may be: while a release goes out, this version and the next run on one database.
    """
    async with translated(), pool.connection() as connection:
        found = await _usable(connection)
    if found.pending:
        state = "has no schema yet" if found.current is None else f"has schema {found.current}"
        raise SetupError(f"the database {state}; this Pilotis needs {found.head}", remedy="run: pilotis migrate")


async def active_generation(pool: AsyncConnectionPool) -> Generation:
    """The one that is searched, whatever made its vectors. Raises SetupError where there is none yet."""
    async with translated(), pool.connection() as connection:
        row = await (await connection.execute(_ACTIVE)).fetchone()
    if row is None:
        raise SetupError("the database has no index yet", remedy="run: pilotis ingest")
    return _generation(row)


async def open_generation(pool: AsyncConnectionPool, asked: Generation | Embedder) -> Generation:
    """The active generation; created as it is asked for, with its vector index, where there is none.

    One that says itself what it was made with is taken as it is: what the contract asks for instead may be built beside it. Raises
    SetupError where the vectors are of another model and nobody wrote down how it is reached, or of another analysis.
    """
    if not isinstance(asked, Generation):
        asked = Generation(id=0, model=asked.name, dimension=asked.dimension)
    async with translated(), pool.connection() as connection, connection.transaction():
        await connection.execute("LOCK TABLE generation IN SHARE ROW EXCLUSIVE MODE")
        row = await (await connection.execute(_ACTIVE)).fetchone()
        if row is None:
            return await _create_generation(connection, asked)
        generation, analysis = _generation(row), row[-1]
        if generation.embedder is None and (generation.model, generation.dimension) == (asked.model, asked.dimension):
            await connection.execute(_DESCRIBE, (*_described(asked), generation.id))
            generation = replace(asked, id=generation.id)
    if generation.embedder is None and (generation.model, generation.dimension) != (asked.model, asked.dimension):
        raise SetupError(
            f"the index holds vectors of {generation.model} ({generation.dimension} dimensions), "
            f"the contract asks for {asked.model} ({asked.dimension})",
            remedy=f'put embedder = "{generation.model}" back into the contract, start once, then run: pilotis index build',
        )
    if analysis != ANALYSIS_VERSION:
        raise SetupError(
            f"the index was analysed by version {analysis} of the lexical rules, this Pilotis has {ANALYSIS_VERSION}",
            remedy="ingest into a new data folder or database, or install the Pilotis version that wrote the index",
        )
    return generation


def vector_index(generation: int) -> sql.Identifier:
    """The name of a generation's vector index."""
    return sql.Identifier(f"entry_embedding_{generation}")


async def create_vector_index(connection: psycopg.AsyncConnection, generation: int, dimension: int) -> None:
    """One partial index per generation: vectors of several models and dimensions can live side by side."""
    statement = (
        "CREATE INDEX {name} ON entry USING hnsw ((embedding::halfvec({dimension})) halfvec_ip_ops) WHERE generation = {id}"
    )
    await connection.execute(
        sql.SQL(statement).format(name=vector_index(generation), dimension=sql.Literal(dimension), id=sql.Literal(generation))
    )


def place(current: str | None) -> Schema:
    """Where a database with that version stands."""
    known = sorted(path.stem[:4] for path in _VERSIONS.glob("[0-9]*.py"))
    pending = tuple(version for version in known if current is None or version > current)
    return Schema(current=current, head=known[-1], pending=pending)


def upgrade_on(connection: Connection, revision: str) -> None:
    """Migrate within the transaction of this connection, which its owner commits."""
    _run(revision, connection=connection)


async def _create_generation(connection: psycopg.AsyncConnection, asked: Generation) -> Generation:
    fields = (asked.model, asked.dimension, ANALYSIS_VERSION, *_described(asked))
    row = await (await connection.execute(_CREATE, fields)).fetchone()
    assert row is not None
    await create_vector_index(connection, row[0], asked.dimension)
    return replace(asked, id=row[0])


def _described(asked: Generation) -> tuple[Jsonb | None, int | None, int | None]:
    return Jsonb(dict(asked.embedder)) if asked.embedder else None, asked.passage_tokens, asked.passage_overlap


def _generation(row: Sequence[Any]) -> Generation:
    names = ("id", "model", "dimension", "state", "embedder", "passage_tokens", "passage_overlap")
    return Generation(**dict(zip(names, row[:7], strict=True)))


async def _connect(url: str) -> psycopg.AsyncConnection:
    return await psycopg.AsyncConnection.connect(url, autocommit=True, connect_timeout=10)


async def _usable(connection: psycopg.AsyncConnection) -> Schema:
    """Where the database stands. Raises SetupError for a newer schema that does not say that this Pilotis runs on it."""
    found = place(await _current(connection))
    floor = await _floor(connection) if found.is_newer else None
    if found.is_newer and (floor is None or found.head < floor):
        raise SetupError(
            f"the database's schema is {found.current}, newer than this Pilotis knows ({found.head})",
            remedy="install the Pilotis version that migrated it, or a later one",
        )
    return found


async def _current(connection: psycopg.AsyncConnection) -> str | None:
    exists = await (await connection.execute("SELECT to_regclass('alembic_version') IS NOT NULL")).fetchone()
    if exists is None or not exists[0]:
        return None
    row = await (await connection.execute("SELECT version_num FROM alembic_version")).fetchone()
    return None if row is None else str(row[0])


async def _floor(connection: psycopg.AsyncConnection) -> str | None:
    """The last migration that the oldest Pilotis knows which runs on this schema."""
    row = await (await connection.execute("SELECT max(oldest) FROM schema_floor")).fetchone()
    return None if row is None or row[0] is None else str(row[0])


def _upgrade(url: str) -> None:
    # SQLAlchemy wants its driver in the scheme; psycopg takes the rest of the URL as it is.
    _run("head", url="postgresql+psycopg://" + url.split("://", 1)[1])


def _run(revision: str, **attributes: object) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_VERSIONS.parent))
    config.attributes.update(attributes)
    with _ONE_UPGRADE:
        command.upgrade(config, revision)
