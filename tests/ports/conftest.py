from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from psycopg import sql

from pilotis.adapters import postgres
from pilotis.embedded import running
from pilotis.ports import Backlog, Claim, Document, Documents, NewDocument, Passages, Pending
from pilotis.rag.passage import Parsed, cut
from pilotis.testing.backlog import MemoryBacklog
from pilotis.testing.batch import MemoryDocuments
from pilotis.testing.online import HashingEmbedder

OLD = "# Bridges\n\nThe old bridge is made of granite.\n\n# Tolls\n\nCrossing is free on Sundays."

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Store:
    documents: Documents
    backlog: Backlog
    passages: Passages
    embedder: HashingEmbedder

    async def claimed(self, lease_s: float = 30.0) -> Claim:
        claim = await self.documents.claim(lease_s=lease_s)
        assert claim is not None
        return claim

    async def stage(self, claim: Claim, text: str = OLD) -> None:
        parsed = Parsed(text=text, title="The town", page_starts=(0,))
        await self.documents.stage(claim, parsed, cut(parsed, document_id=claim.document.id, size_tokens=40))

    async def embed(self, waiting: Sequence[Pending]) -> list[tuple[Pending, Any]]:
        vectors = await self.embedder.embed([passage.text for passage in waiting])
        return list(zip(waiting, vectors, strict=True))

    async def index(self, document: NewDocument, text: str = OLD) -> Document:
        registered, _ = await self.documents.register(document)
        await self.stage(await self.claimed(), text)
        await self.documents.publish(await self.embed(await self.documents.pending(100, lease_s=30)))
        return await self.documents.get(document.bu, registered.id)


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
        yield Store(documents, MemoryBacklog(documents), documents.passages, embedder)
        return
    url = _new_database(request.getfixturevalue("server"))
    await postgres.migrate(url)
    pool = await postgres.open_pool(url, max_size=10)
    try:
        generation = await postgres.open_generation(pool, embedder)
        passages = postgres.PostgresPassages(pool, generation, languages=("en", "fr"))
        yield Store(postgres.PostgresDocuments(pool, generation), postgres.PostgresBacklog(pool), passages, embedder)
    finally:
        await pool.close()


def _new_database(server: str) -> str:
    name = f"ports_{next(_numbers)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    head, _, query = server.partition("?")
    return f"{head.rpartition('/')[0]}/{name}?{query}"
