from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from pilotis.adapters import postgres
from pilotis.ports import NewDocument
from pilotis.rag.passage import Parsed, cut
from pilotis.testing.online import HashingEmbedder

TEXT = "# Bridges\n\nThe old bridge number{n} is made of granite.\n\n# Tolls\n\nCrossing is free on Sundays, says page {n}."


@dataclass
class Filled:
    """A database with documents that went the whole way."""

    url: str
    pool: AsyncConnectionPool
    documents: postgres.PostgresDocuments
    embedder: HashingEmbedder

    async def add(self, *names: str, bu: str = "north") -> None:
        for n, name in enumerate(names):
            new = NewDocument(bu=bu, collection="c", name=name, sha256=f"{n:064}", size=7, media_type="text/plain")
            document, _ = await self.documents.register(new)
            claim = await self.documents.claim(lease_s=30)
            assert claim is not None
            parsed = Parsed(text=TEXT.format(n=name), title=name)
            await self.documents.stage(claim, parsed, cut(parsed, document_id=document.id, size_tokens=20))
        waiting = await self.documents.pending(1000, lease_s=30)
        vectors = await self.embedder.embed([each.text for each in waiting])
        assert len(await self.documents.publish(list(zip(waiting, vectors, strict=True)))) == len(names)


@pytest.fixture
async def filled(new_database: Callable[[], str]) -> AsyncIterator[Filled]:
    url, embedder = new_database(), HashingEmbedder()
    await postgres.migrate(url)
    pool = await postgres.open_pool(url)
    try:
        generation = await postgres.open_generation(pool, embedder)
        made = Filled(url, pool, postgres.PostgresDocuments(pool, generation), embedder)
        await made.add("a.md", "b.md", "c.md")
        with psycopg.connect(url) as connection:
            connection.execute(
                "INSERT INTO ledger (id, at, env, plane, bu, kind, subject, model, usage, cost_eur, price_book, priced) "
                "VALUES ('e1', '2026-07-14 10:20', 'dev', 'online', 'north', 'answer', 's', 'm', '{}', 0.0000015, 'b', true)"
            )
            connection.execute("INSERT INTO tally VALUES ('dev', '2026-07-14 10:15', 'online', 'north', '', 2)")
        yield made
    finally:
        await pool.close()
