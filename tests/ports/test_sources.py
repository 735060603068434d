"""What `ports.SourceItems` promises, asked of every implementation."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

import psycopg
import pytest
from psycopg import sql

from pilotis.adapters import postgres
from pilotis.errors import Conflict
from pilotis.ports import Document, Documents, Known, NewDocument, Passages, Query, SourceItems
from pilotis.rag.passage import Parsed, cut
from pilotis.testing.batch import MemoryDocuments
from pilotis.testing.online import HashingEmbedder
from pilotis.testing.sources import MemorySourceItems

BOTH = ("handbook", "other")
_numbers = itertools.count(1)


@dataclass
class World:
    items: SourceItems
    documents: Documents
    passages: Passages
    embedder: HashingEmbedder
    url: str | None = None

    async def bring(self, item: Known, *, source: str = "handbook") -> tuple[Known, Document]:
        """What a run does with one item."""
        before = await self.items.begin(source, item, sources=BOTH)
        document, _ = await self.register(item)
        kept = replace(item, document_id=document.id, brought=before.brought)
        await self.items.keep(source, kept)
        return kept, document

    async def register(self, item: Known, **fields: Any) -> tuple[Document, bool]:
        given: dict[str, Any] = {"sha256": item.sha256 or "0" * 64, "size": 1, "media_type": "text/markdown"}
        return await self.documents.register(
            NewDocument(bu=item.bu, collection=item.collection, name=item.name, **(given | fields))
        )

    async def index(self) -> int:
        """Every document that waits, as a text; how many passages needed a vector."""
        while claim := await self.documents.claim(lease_s=5):
            parsed = Parsed(text=f"# Tolls\n\nOn bridge {claim.document.sha256[:6]} Sundays are free.", title="Tolls")
            cuts = cut(parsed, document_id=claim.document.id, size_tokens=50, overlap_tokens=0, languages=("en",))
            await self.documents.stage(claim, parsed, cuts)
        pending = await self.documents.pending(100, lease_s=5)
        vectors = await self.embedder.embed([each.text for each in pending])
        await self.documents.publish(list(zip(pending, vectors, strict=True)))
        return len(pending)

    async def found(self, bu: str = "north") -> list[str]:
        (vector,) = await self.embedder.embed(["free Sundays"])
        hits = await self.passages.search(Query(bu=bu, text="free Sundays", language="en", vector=vector, top_k=10))
        return sorted(hit.document for hit in hits)


@pytest.fixture(params=["memory", "postgres"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    embedder = HashingEmbedder()
    if request.param == "memory":
        documents = MemoryDocuments()
        yield World(MemorySourceItems(documents), documents, documents.passages, embedder)
        return
    url = _new_database(request.getfixturevalue("server"))
    await postgres.migrate(url)
    pool = await postgres.open_pool(url, max_size=8)
    try:
        generation = await postgres.open_generation(pool, embedder)
        passages = postgres.PostgresPassages(pool, generation, languages=("en",))
        documents_too = postgres.PostgresDocuments(pool, generation)
        yield World(postgres.PostgresSourceItems(pool), documents_too, passages, embedder, url)
    finally:
        await pool.close()


def _new_database(server: str) -> str:
    name = f"sources_{next(_numbers)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    head, _, query = server.partition("?")
    return f"{head.rpartition('/')[0]}/{name}?{query}"


def known(key: str, **fields: Any) -> Known:
    digest = sha256(key.encode()).hexdigest()
    given: dict[str, Any] = {"bu": "north", "collection": "hb", "name": key, "sha256": digest, "size": 3, "validator": "v1"}
    return Known(key=key, **(given | fields))


async def test_what_was_brought_is_known_with_its_document(world: World) -> None:
    assert list(await world.items.known("handbook")) == []
    kept, document = await world.bring(known("a.md"))
    await world.bring(known("b.md"), source="other")
    (found,) = await world.items.known("handbook")
    assert found.seen_at is not None
    assert replace(found, seen_at=None) == replace(kept, document_id=document.id, state="received", brought=True)
    await world.index()
    assert (await world.items.known("handbook"))[0].state == "indexed"


async def test_a_document_that_is_gone_is_known_as_gone(world: World) -> None:
    _, document = await world.bring(known("a.md"))
    await world.documents.delete("north", document.id)
    (found,) = await world.items.known("handbook")
    assert (found.document_id, found.state, found.sha256) == (None, None, known("a.md").sha256)
    again, _ = await world.bring(known("a.md"))
    assert again.brought
    assert (await world.items.known("handbook"))[0].document_id == again.document_id


async def test_what_was_begun_and_never_kept_finds_its_document_by_name(world: World) -> None:
    await world.items.begin("handbook", known("a.md"), sources=BOTH)
    (found,) = await world.items.known("handbook")
    assert (found.document_id, found.sha256, found.validator, found.brought) == (None, None, None, True)
    document, _ = await world.register(known("a.md"))
    (found,) = await world.items.known("handbook")
    assert (found.document_id, found.sha256, found.brought) == (document.id, None, True)
    begun = await world.items.begin("handbook", known("a.md"), sources=BOTH)
    assert begun.brought, "it is still its own"
    assert begun.sha256 == document.sha256


async def test_a_document_that_was_there_before_is_not_brought(world: World) -> None:
    there, _ = await world.register(known("a.md"))
    begun = await world.items.begin("handbook", known("a.md"), sources=BOTH)
    assert (begun.brought, begun.sha256) == (False, there.sha256)
    (found,) = await world.items.known("handbook")
    assert (found.brought, found.document_id) == (False, None), "until it is kept it says nothing of the document"


async def test_a_document_put_by_hand_where_the_sources_own_was_deleted_is_not_brought(world: World) -> None:
    _, document = await world.bring(known("a.md"))
    await world.documents.delete("north", document.id)
    await world.register(known("a.md"))
    assert not (await world.items.begin("handbook", known("a.md"), sources=BOTH)).brought


async def test_a_name_belongs_to_one_item_of_one_source(world: World) -> None:
    await world.bring(known("a.md"))
    with pytest.raises(Conflict, match=r"source handbook \('a\.md'\)"):
        await world.items.begin("other", known("a.md"), sources=BOTH)
    with pytest.raises(Conflict):
        await world.items.begin("handbook", known("A.md", name="a.md"), sources=BOTH)
    await world.items.begin("other", known("a.md", bu="south"), sources=BOTH)
    await world.items.begin("other", known("a.md", collection="else"), sources=BOTH)
    assert [each.key for each in await world.items.known("handbook")] == ["a.md"]


async def test_a_source_that_is_no_more_is_inherited_from(world: World) -> None:
    _, document = await world.bring(known("a.md"))
    begun = await world.items.begin("manual", known("a.md"), sources=["manual"])
    assert begun.brought
    assert list(await world.items.known("handbook")) == []
    (found,) = await world.items.known("manual")
    assert (found.document_id, found.brought, found.validator) == (document.id, True, None)


async def test_only_its_own_are_kept_seen_and_dropped(world: World) -> None:
    kept, _ = await world.bring(known("a.md"))
    before = await world.items.known("handbook")
    await world.items.keep("other", replace(kept, validator="v2"))
    await world.items.seen("other", [kept])
    await world.items.drop("other", kept)
    assert await world.items.known("handbook") == before
    await world.items.seen("handbook", [kept, known("nobody")])
    (after,) = await world.items.known("handbook")
    assert after.seen_at
    assert before[0].seen_at
    assert after.seen_at > before[0].seen_at
    await world.items.drop("handbook", kept)
    await world.items.drop("handbook", kept)
    assert list(await world.items.known("handbook")) == []


async def test_a_moved_document_is_found_under_its_new_name_with_its_vectors(world: World) -> None:
    old, document = await world.bring(known("a.md"))
    await world.index()
    await world.documents.purged([n for n, _, _ in await world.documents.to_purge()])
    new = replace(old, key="sub/b.md", name="sub/b.md", validator="v2")
    assert await world.items.move("handbook", old, new, media_type="text/markdown")
    assert await world.index() == 0
    assert await world.found() == ["sub/b.md"]
    moved = await world.documents.get("north", document.id)
    assert (moved.name, moved.state, moved.passages) == ("sub/b.md", "indexed", 1)
    (found,) = await world.items.known("handbook")
    assert (found.key, found.name, found.validator, found.document_id) == ("sub/b.md", "sub/b.md", "v2", document.id)
    assert [each[1:] for each in await world.documents.to_purge()] == [("north", document.id)], (
        "cached answers cite the old name"
    )


async def test_moved_to_a_name_that_reads_differently_it_is_parsed_again_and_keeps_its_vectors(world: World) -> None:
    old, document = await world.bring(known("a.md"))
    await world.index()
    new = replace(old, key="a.txt", name="a.txt")
    assert await world.items.move("handbook", old, new, media_type="text/plain")
    waits = await world.documents.get("north", document.id)
    assert (waits.state, waits.media_type, waits.attempts) == ("received", "text/plain", 0)
    assert await world.found() == ["a.txt"], "it can be found meanwhile"
    assert await world.index() == 0, "no vector is made again"
    assert (await world.documents.get("north", document.id)).state == "indexed"


async def test_nothing_is_moved_onto_something_else(world: World) -> None:
    old, document = await world.bring(known("a.md"))
    await world.bring(known("b.md"))
    assert not await world.items.move("handbook", old, replace(old, key="b.md", name="b.md"), media_type="text/markdown")
    await world.register(known("c.md"))
    assert not await world.items.move("handbook", old, replace(old, key="c.md", name="c.md"), media_type="text/markdown")
    await world.documents.delete("north", document.id)
    assert not await world.items.move("handbook", old, replace(old, key="d.md", name="d.md"), media_type="text/markdown")
    assert [each.key for each in await world.items.known("handbook")] == ["a.md", "b.md"]


async def test_one_leads_until_it_ends_or_its_lease_does(world: World) -> None:
    items = world.items
    taken = await asyncio.gather(*(items.lead("handbook", holder=str(n), lease_s=5) for n in range(5)))
    assert sum(taken) == 1
    holder = str(taken.index(True))
    assert await items.lead("other", holder="x", lease_s=0.05), "another source is another matter"
    assert await items.renew("handbook", holder=holder, lease_s=5)
    assert not await items.renew("handbook", holder="nobody", lease_s=5)
    await items.finish("handbook", holder="nobody", report={"new": 9}, succeeded=True)
    assert not await items.lead("handbook", holder="y", lease_s=5)
    await items.finish("handbook", holder=holder, report={"new": 1}, succeeded=True)
    assert not await items.renew("handbook", holder=holder, lease_s=5), "it is given back"
    assert await items.lead("handbook", holder="y", lease_s=5)
    await asyncio.sleep(0.06)
    assert await items.lead("other", holder="z", lease_s=5), "its holder died"
    await items.finish("other", holder="x", report={"new": 9}, succeeded=True)
    handbook, other = await items.runs()
    assert (handbook.report, handbook.leads) == ({"new": 1}, True)
    assert (other.report, other.leads, other.finished_at) == ({}, True, None)


async def test_a_run_is_due_when_its_time_has_passed_and_sooner_where_it_failed_or_died(world: World) -> None:
    items = world.items

    async def due(every_s: float) -> bool:
        return await items.lead("handbook", holder="x", lease_s=0.01, every_s=every_s)

    assert await due(3600), "it never ran"
    await items.finish("handbook", holder="x", report={}, succeeded=True)
    assert not await due(3600)
    assert await due(0.0)
    await asyncio.sleep(0.02)
    assert not await due(3600), "one that died a moment ago is not begun again at once"
    await _age(world, 61)
    assert await due(3600), "but before its time"
    await items.finish("handbook", holder="x", report={}, succeeded=False)
    await _age(world, 61)
    assert not await due(3600)
    await _age(world, 900)
    assert await due(3600)
    assert await items.lead("fresh", holder="x", lease_s=5), "without a schedule nothing is asked"


async def _age(world: World, seconds: float) -> None:
    """Let the last run have begun, and ended, that much earlier."""
    if isinstance(world.items, MemorySourceItems):
        world.items._runs["handbook"].began -= seconds
        return
    assert world.url
    with psycopg.connect(world.url) as connection:
        connection.execute(
            "UPDATE source_run SET began_at = began_at - make_interval(secs => %s), "
            "finished_at = finished_at - make_interval(secs => %s), lease_until = lease_until - make_interval(secs => %s)",
            (seconds, seconds, seconds),
        )


async def test_runs_tell_what_was_brought_altogether(world: World) -> None:
    await world.bring(known("a.md"))
    await world.index()
    await world.bring(known("b.md"))
    await world.bring(known("c.md"), source="other")
    await world.items.lead("handbook", holder="x", lease_s=5)
    await world.items.finish("handbook", holder="x", report={"source": "handbook", "named": ["é"]}, succeeded=True)
    (run,) = await world.items.runs()
    assert dict(run.documents) == {"indexed": 1, "received": 1}
    assert run.report == {"source": "handbook", "named": ["é"]}
    assert run.began_at
    assert run.finished_at
    assert run.finished_at >= run.began_at
    assert not run.leads
