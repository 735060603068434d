from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import psycopg
import pytest
from psycopg import sql

from pilotis.adapters import postgres
from pilotis.embedded import running
from pilotis.ports import Documents, Passages
from pilotis.testing.batch import MemoryDocuments
from pilotis.testing.online import HashingEmbedder

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Store:
    documents: Documents
    passages: Passages
    embedder: HashingEmbedder


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running(tmp_path_factory.mktemp("ports") / "data") as addresses:
        yield addresses.database_url


@pytest.fixture(params=["memory", "postgres"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    """The same questions to the fake and to the real one: an empty store."""
    embedder = HashingEmbedder()
    if request.param == "memory":
        documents = MemoryDocuments()
        yield Store(documents, documents.passages, embedder)
        return
    url = _new_database(request.getfixturevalue("server"))
    await postgres.migrate(url)
    pool = await postgres.open_pool(url, max_size=10)
    try:
        generation = await postgres.open_generation(pool, embedder)
        passages = postgres.PostgresPassages(pool, generation, languages=("en", "fr"))
        yield Store(postgres.PostgresDocuments(pool, generation), passages, embedder)
    finally:
        await pool.close()


def _new_database(server: str) -> str:
    name = f"ports_{next(_numbers)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    head, _, query = server.partition("?")
    return f"{head.rpartition('/')[0]}/{name}?{query}"
