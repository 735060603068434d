"""What `ports.Documents` promises, asked of every implementation."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Protocol
from uuid import uuid4

import numpy as np
import pytest

from pilotis.errors import NotFound
from pilotis.ports import Claim, Document, Documents, Hit, NewDocument, Passages, Pending, Query
from pilotis.rag.passage import Parsed, cut
from pilotis.testing.online import HashingEmbedder

OLD = "# Bridges\n\nThe old bridge is made of granite.\n\n# Tolls\n\nCrossing is free on Sundays."
NEW = "# Bridges\n\nThe new bridge is made of steel.\n\n# Tolls\n\nCrossing is free on Sundays."


class Store(Protocol):
    @property
    def documents(self) -> Documents: ...
    @property
    def passages(self) -> Passages: ...
    @property
    def embedder(self) -> HashingEmbedder: ...


def new(name: str = "a.md", text: str = OLD, *, bu: str = "north", collection: str = "default", **metadata: Any) -> NewDocument:
    content = text.encode("utf-8", "surrogatepass")
    return NewDocument(
        bu=bu,
        collection=collection,
        name=name,
        sha256=sha256(content).hexdigest(),
        size=len(content),
        media_type="text/markdown",
        metadata=metadata,
    )


async def claimed(store: Store, lease_s: float = 30.0) -> Claim:
    claim = await store.documents.claim(lease_s=lease_s)
    assert claim is not None
    return claim


async def stage(store: Store, claim: Claim, text: str = OLD) -> None:
    parsed = Parsed(text=text, title="The town", page_starts=(0,))
    await store.documents.stage(claim, parsed, cut(parsed, document_id=claim.document.id, size_tokens=40))


async def embed(store: Store, waiting: Sequence[Pending]) -> list[tuple[Pending, Any]]:
    vectors = await store.embedder.embed([passage.text for passage in waiting])
    return list(zip(waiting, vectors, strict=True))


async def index(store: Store, document: NewDocument, text: str = OLD) -> Document:
    registered, _ = await store.documents.register(document)
    await stage(store, await claimed(store), text)
    await store.documents.publish(await embed(store, await store.documents.pending(100, lease_s=30)))
    return await store.documents.get(document.bu, registered.id)


async def search(store: Store, text: str, bu: str = "north", **narrowed: Any) -> Sequence[Hit]:
    vector = (await store.embedder.embed([text]))[0]
    return await store.passages.search(Query(bu=bu, text=text, language="en", vector=vector, top_k=10, **narrowed))


async def texts(store: Store, about: str, bu: str = "north") -> str:
    return " ".join(sorted(hit.text for hit in await search(store, about, bu)))


# --- register


async def test_a_new_document_is_received(store: Store) -> None:
    given = new(name="guide/é – 日本.md", team="sales", level=3, tags=["a", "b"])
    document, changed = await store.documents.register(given)
    assert changed
    assert (document.bu, document.collection, document.name) == ("north", "default", "guide/é – 日本.md")
    assert (document.sha256, document.size, document.media_type) == (given.sha256, given.size, "text/markdown")
    assert document.metadata == {"team": "sales", "level": 3, "tags": ["a", "b"]}
    assert (document.state, document.error, document.attempts, document.passages) == ("received", None, 0, 0)
    assert document.indexed_at is None
    assert document.received_at.tzinfo is not None
    assert await store.documents.get("north", document.id) == document
    assert await store.documents.waiting() == {"ingest": 1, "embed": 0}


async def test_the_same_content_under_the_same_name_is_no_work(store: Store) -> None:
    indexed = await index(store, new())
    again, changed = await store.documents.register(new())
    assert not changed
    assert again == indexed
    assert await store.documents.claim(lease_s=1) is None


async def test_the_same_content_under_another_name_is_another_document(store: Store) -> None:
    first, _ = await store.documents.register(new("a.md"))
    second, changed = await store.documents.register(new("b.md"))
    third, moved = await store.documents.register(new("a.md", collection="other"))
    assert changed
    assert moved
    assert len({first.id, second.id, third.id}) == 3


async def test_registering_eight_times_at_once_makes_one_document(store: Store) -> None:
    results = await asyncio.gather(*(store.documents.register(new()) for _ in range(8)))
    assert len({document.id for document, _ in results}) == 1
    assert sum(changed for _, changed in results) == 1


async def test_changed_metadata_is_work(store: Store) -> None:
    before = await index(store, new(team="sales"))
    after, changed = await store.documents.register(new(team="support"))
    assert changed
    assert after.id == before.id
    await stage(store, await claimed(store))
    await store.documents.publish(())
    assert await store.documents.pending(10, lease_s=30) == []  # the vectors are those of the same passages
    assert await search(store, "granite", metadata={"team": "sales"}) == []
    assert await search(store, "granite", metadata={"team": "support"})


async def test_a_failed_document_is_tried_again_when_it_is_sent_again(store: Store) -> None:
    document, _ = await store.documents.register(new())
    await store.documents.fail(document.id, (await claimed(store)).version, "no room")
    again, changed = await store.documents.register(new())
    assert changed
    assert (again.id, again.state, again.error, again.attempts) == (document.id, "received", None, 0)


# --- claim, lease, retry


async def test_the_oldest_document_is_claimed_first(store: Store) -> None:
    ids = [(await store.documents.register(new(f"{n}.md")))[0].id for n in range(3)]
    assert [(await claimed(store)).document.id for _ in ids] == ids


async def test_eight_claimers_never_get_the_same_document(store: Store) -> None:
    for n in range(20):
        await store.documents.register(new(f"{n}.md"))

    async def drain() -> list[str]:
        found = []
        while claim := await store.documents.claim(lease_s=30):
            found.append(claim.document.id)
            await asyncio.sleep(0)
        return found

    taken = [identity for found in await asyncio.gather(*(drain() for _ in range(8))) for identity in found]
    assert len(taken) == len(set(taken)) == 20


async def test_a_claim_says_that_it_is_parsed_and_counts_the_attempt(store: Store) -> None:
    document, _ = await store.documents.register(new())
    claim = await claimed(store)
    assert (claim.document.state, claim.document.attempts) == ("parsing", 1)
    assert (await store.documents.get("north", document.id)).state == "parsing"
    assert (await store.documents.waiting())["ingest"] == 1


async def test_a_lease_that_ran_out_frees_the_document(store: Store) -> None:
    await store.documents.register(new())
    first = await claimed(store, lease_s=0.3)
    assert await store.documents.claim(lease_s=1) is None
    await asyncio.sleep(0.35)
    second = await claimed(store)
    assert second.document.id == first.document.id
    assert second.document.attempts == 2


async def test_a_renewed_lease_holds(store: Store) -> None:
    await store.documents.register(new())
    claim = await claimed(store, lease_s=0.3)
    await store.documents.renew(claim, lease_s=30)
    await asyncio.sleep(0.35)
    assert await store.documents.claim(lease_s=1) is None


async def test_a_lost_claim_is_not_renewed(store: Store) -> None:
    await store.documents.register(new())
    lost = await claimed(store, lease_s=0.1)
    await asyncio.sleep(0.15)
    await claimed(store, lease_s=0.2)
    await store.documents.renew(lost, lease_s=30)
    await asyncio.sleep(0.25)
    assert await store.documents.claim(lease_s=1) is not None


async def test_a_failure_with_a_retry_waits_for_its_time(store: Store) -> None:
    document, _ = await store.documents.register(new())
    claim = await claimed(store)
    await store.documents.fail(document.id, claim.version, "the disk is full", retry_in_s=0.3)
    waits = await store.documents.get("north", document.id)
    assert (waits.state, waits.error) == ("received", "the disk is full")
    assert await store.documents.claim(lease_s=1) is None
    await asyncio.sleep(0.35)
    assert (await claimed(store)).document.attempts == 2


async def test_a_final_failure_keeps_its_reason_and_waits_for_nothing(store: Store) -> None:
    document, _ = await store.documents.register(new())
    await store.documents.fail(document.id, (await claimed(store)).version, "page 3\0 is é broken")
    failed = await store.documents.get("north", document.id)
    assert (failed.state, failed.error) == ("failed", "page 3 is é broken")
    assert await store.documents.claim(lease_s=1) is None
    assert await store.documents.waiting() == {"ingest": 0, "embed": 0}


# --- stage, pending, publish


async def test_from_received_to_found(store: Store) -> None:
    document, _ = await store.documents.register(new(team="sales"))
    await stage(store, await claimed(store))
    assert (await store.documents.get("north", document.id)).state == "embedding"
    assert await search(store, "granite") == []
    waiting = await store.documents.pending(100, lease_s=30)
    assert (await store.documents.waiting()) == {"ingest": 0, "embed": len(waiting)}
    assert "The town > Bridges\nThe old bridge is made of granite." in {passage.text for passage in waiting}
    assert await store.documents.publish(await embed(store, waiting)) == [document.id]
    indexed = await store.documents.get("north", document.id)
    assert (indexed.state, indexed.passages, indexed.title) == ("indexed", 2, "The town")
    assert (indexed.pages, indexed.language, indexed.error) == (1, "en", None)
    assert indexed.indexed_at is not None
    hit = (await search(store, "granite", metadata={"team": "sales"}))[0]
    assert (hit.document_id, hit.document, hit.title, hit.headings) == (document.id, "a.md", "The town", ("Bridges",))
    assert OLD[hit.start : hit.end] == hit.text == "The old bridge is made of granite."
    assert hit.page == 1


async def test_a_document_is_visible_only_when_its_last_vector_is_there(store: Store) -> None:
    document, _ = await store.documents.register(new())
    await stage(store, await claimed(store))
    one, other = await embed(store, await store.documents.pending(100, lease_s=30))
    assert await store.documents.publish([one]) == []
    assert await search(store, "granite") == []
    assert (await store.documents.waiting())["embed"] == 1
    assert await store.documents.publish([other]) == [document.id]
    assert len(await search(store, "granite Sundays")) == 2


async def test_publishing_twice_changes_nothing(store: Store) -> None:
    await store.documents.register(new())
    await stage(store, await claimed(store))
    vectors = await embed(store, await store.documents.pending(100, lease_s=30))
    assert len(await store.documents.publish(vectors)) == 1
    assert await store.documents.publish(vectors) == []
    assert await store.documents.publish(()) == []
    assert len(await search(store, "granite Sundays")) == 2


async def test_publishing_the_same_vectors_from_two_workers_at_once(store: Store) -> None:
    await store.documents.register(new())
    await stage(store, await claimed(store))
    vectors = await embed(store, await store.documents.pending(100, lease_s=30))
    published = await asyncio.gather(*(store.documents.publish(vectors) for _ in range(4)))
    assert sum(map(len, published)) == 1
    assert len(await search(store, "granite Sundays")) == 2


async def test_passages_are_given_to_one_worker_only(store: Store) -> None:
    for n in range(6):
        await store.documents.register(new(f"{n}.md", OLD))
        await stage(store, await claimed(store))
    batches = await asyncio.gather(*(store.documents.pending(3, lease_s=30) for _ in range(8)))
    given = [(passage.document_id, passage.passage_id) for batch in batches for passage in batch]
    assert len(given) == len(set(given)) == 12
    assert all(len(batch) <= 3 for batch in batches)


async def test_staging_twice_leaves_one_set_of_passages(store: Store) -> None:
    await store.documents.register(new())
    claim = await claimed(store)
    await stage(store, claim)
    await stage(store, claim)
    assert len(await store.documents.pending(100, lease_s=30)) == 2


async def test_a_document_without_passages_is_published_by_the_empty_call(store: Store) -> None:
    document, _ = await store.documents.register(new())
    await store.documents.stage(await claimed(store), Parsed(text="", title=None), [])
    assert await store.documents.publish(()) == [document.id]
    assert (await store.documents.get("north", document.id)).passages == 0


async def test_documents_say_why_they_wait_for_vectors_until_some_come(store: Store) -> None:
    for n in range(2):
        await store.documents.register(new(f"{n}.md"))
        await stage(store, await claimed(store))
    (taken,) = await store.documents.pending(1, lease_s=30)
    await store.documents.postpone([taken], "nobody\0 listens")
    told = await store.documents.find("north")
    assert [(document.state, document.error) for document in told] == [("embedding", "nobody listens")] * 2
    (again,) = await store.documents.pending(1, lease_s=30)
    assert again == taken, "what was given back is free at once"
    await store.documents.publish(await embed(store, [again]))
    told = await store.documents.find("north")
    assert [(document.state, document.error) for document in told] == [("embedding", None)] * 2


async def test_passages_are_free_again_when_their_lease_runs_out(store: Store) -> None:
    await store.documents.register(new())
    await stage(store, await claimed(store))
    assert len(await store.documents.pending(100, lease_s=0.05)) == 2
    assert await store.documents.pending(100, lease_s=0.05) == []
    await asyncio.sleep(0.1)
    assert len(await store.documents.pending(100, lease_s=30)) == 2


async def test_a_claim_knows_how_many_workers_died_with_it(store: Store) -> None:
    await store.documents.register(new())
    assert [(await claimed(store, lease_s=-1)).deaths for _ in range(3)] == [0, 1, 2]
    last = await claimed(store)
    await store.documents.fail(last.document.id, last.version, "the disk is full", retry_in_s=0)
    assert (await claimed(store)).deaths == 3, "an attempt that ends with a word is no death"
    await store.documents.register(new(text=NEW))
    assert (await claimed(store)).deaths == 0


# --- replacement


async def test_old_passages_are_found_until_the_new_ones_are_complete(store: Store) -> None:
    document = await index(store, new())
    _, changed = await store.documents.register(new(text=NEW))
    assert changed
    assert "granite" in await texts(store, "granite")
    await stage(store, await claimed(store), NEW)
    assert "granite" in await texts(store, "granite")
    assert "steel" not in await texts(store, "bridge")
    waiting = await store.documents.pending(100, lease_s=30)
    assert ["steel" in passage.text for passage in waiting] == [True]  # the other passage kept its vector
    assert await store.documents.publish(await embed(store, waiting)) == [document.id]
    found = await texts(store, "bridge granite steel Sundays")
    assert "steel" in found
    assert "granite" not in found
    assert found.count("Sundays") == 1
    assert (await store.documents.get("north", document.id)).passages == 2


async def test_title_language_and_pages_change_with_the_passages(store: Store) -> None:
    document = await index(store, new())
    await store.documents.register(new(text=NEW))
    parsed = Parsed(text="Le pont est en acier.", title="La ville", page_starts=(0, 3, 7))
    claim = await claimed(store)
    await store.documents.stage(claim, parsed, cut(parsed, document_id=document.id, languages=("fr",)))
    old = await store.documents.get("north", document.id)
    assert (old.state, old.title, old.language, old.pages) == ("embedding", "The town", "en", 1)
    assert [hit.title for hit in await search(store, "granite")] == ["The town"] * 2
    await store.documents.publish(await embed(store, await store.documents.pending(100, lease_s=30)))
    swapped = await store.documents.get("north", document.id)
    assert (swapped.state, swapped.title, swapped.language, swapped.pages) == ("indexed", "La ville", "fr", 3)


async def test_what_was_left_out_is_told_with_the_document(store: Store) -> None:
    """Said once the content it belongs to can be found, and only of that."""
    document, _ = await store.documents.register(new())
    assert document.warnings == ()
    said = ("no text layer on 3 of 40 pages (7, 8, 9); OCR is off", 'l\'été \\u00e9 "quoted"')
    parsed = Parsed(text="Three pages said nothing.", title=None, warnings=said)
    await store.documents.stage(await claimed(store), parsed, cut(parsed, document_id=document.id))
    assert (await store.documents.get("north", document.id)).warnings == ()
    await store.documents.publish(await embed(store, await store.documents.pending(100, lease_s=30)))
    assert (await store.documents.get("north", document.id)).warnings == said
    again, _ = await store.documents.register(new(text=NEW))
    assert again.warnings == said
    whole = Parsed(text="All pages said something.", title=None)
    await store.documents.stage(await claimed(store), whole, cut(whole, document_id=document.id))
    await store.documents.publish(await embed(store, await store.documents.pending(100, lease_s=30)))
    assert (await store.documents.get("north", document.id)).warnings == ()


async def test_new_content_that_fails_leaves_the_old_one_found(store: Store) -> None:
    document = await index(store, new())
    await store.documents.register(new(text=NEW))
    await store.documents.fail(document.id, (await claimed(store)).version, "broken")
    assert (await store.documents.get("north", document.id)).state == "failed"
    assert "granite" in await texts(store, "granite")


async def test_content_that_changes_while_it_is_parsed_wins(store: Store) -> None:
    document, _ = await store.documents.register(new())
    stale = await claimed(store)
    await store.documents.register(new(text=NEW))
    await stage(store, stale)
    assert (await store.documents.get("north", document.id)).state == "received"
    await store.documents.fail(document.id, stale.version, "too late to matter")
    assert (await store.documents.get("north", document.id)).error is None
    fresh = await claimed(store)
    assert fresh.version > stale.version
    await stage(store, fresh, NEW)
    await store.documents.publish(await embed(store, await store.documents.pending(100, lease_s=30)))
    assert "steel" in await texts(store, "bridge")


async def test_content_that_changes_while_it_is_embedded_wins(store: Store) -> None:
    document, _ = await store.documents.register(new())
    await stage(store, await claimed(store))
    stale = await embed(store, await store.documents.pending(100, lease_s=30))
    await store.documents.register(new(text=NEW))
    assert await store.documents.publish(stale) == []
    assert await search(store, "granite") == []
    await stage(store, await claimed(store), NEW)
    assert await store.documents.publish(stale) == []
    await store.documents.publish(await embed(store, await store.documents.pending(100, lease_s=30)))
    assert (await store.documents.get("north", document.id)).state == "indexed"
    assert "granite" not in await texts(store, "bridge granite")


async def test_a_late_failure_does_not_undo_an_indexed_document(store: Store) -> None:
    """A worker that slept past its lease wakes up when another has done its work."""
    await store.documents.register(new())
    slept = await claimed(store, lease_s=0.05)
    await asyncio.sleep(0.1)
    await stage(store, await claimed(store))
    await store.documents.publish(await embed(store, await store.documents.pending(100, lease_s=30)))
    await store.documents.fail(slept.document.id, slept.version, "timed out")
    assert (await store.documents.get("north", slept.document.id)).state == "indexed"


# --- delete, reclaim


async def test_a_deleted_document_is_gone(store: Store) -> None:
    document = await index(store, new())
    await store.documents.delete("north", document.id)
    with pytest.raises(NotFound):
        await store.documents.get("north", document.id)
    with pytest.raises(NotFound):
        await store.documents.delete("north", document.id)
    assert await search(store, "granite") == []
    assert await store.documents.collections("north") == {}


async def test_deleting_during_parsing_and_embedding(store: Store) -> None:
    parsed, _ = await store.documents.register(new("parsed.md"))
    embedded, _ = await store.documents.register(new("embedded.md"))
    first, second = await claimed(store), await claimed(store)
    await stage(store, second)
    vectors = await embed(store, await store.documents.pending(100, lease_s=30))
    await store.documents.delete("north", parsed.id)
    await store.documents.delete("north", embedded.id)
    await stage(store, first)
    await store.documents.fail(parsed.id, first.version, "whatever", retry_in_s=1)
    assert await store.documents.publish(vectors) == []
    assert await store.documents.waiting() == {"ingest": 0, "embed": 0}
    assert await search(store, "granite") == []


async def test_bytes_are_reclaimed_when_nobody_refers_to_them(store: Store) -> None:
    dropped: list[str] = []

    async def drop(digest: str) -> None:
        dropped.append(digest)

    shared, other = new("a.md"), new("b.md", NEW)
    first, second = await index(store, shared), await index(store, new("c.md"))
    await index(store, other, NEW)
    assert await store.documents.reclaim(drop) == 0
    await store.documents.delete("north", first.id)
    assert await store.documents.reclaim(drop) == 0  # c.md has the same bytes
    await store.documents.delete("north", second.id)
    assert await store.documents.reclaim(drop) == 1
    assert dropped == [shared.sha256]
    assert await store.documents.reclaim(drop) == 0


async def test_adopted_bytes_are_reclaimed_unless_a_document_has_them(store: Store) -> None:
    dropped: list[str] = []

    async def drop(digest: str) -> None:
        dropped.append(digest)

    kept = new()
    await index(store, kept)
    await store.documents.adopt(["0" * 64, kept.sha256, "0" * 64])
    await store.documents.adopt([])
    assert await store.documents.reclaim(drop) == 1
    assert dropped == ["0" * 64]


async def test_replaced_bytes_are_reclaimed(store: Store) -> None:
    dropped: list[str] = []

    async def drop(digest: str) -> None:
        dropped.append(digest)

    before = new()
    await index(store, before)
    await store.documents.register(new(text=NEW))
    await store.documents.reclaim(drop)
    assert dropped == [before.sha256]


async def test_bytes_that_could_not_be_dropped_are_tried_again(store: Store) -> None:
    document = await index(store, new())
    await store.documents.delete("north", document.id)

    async def refuse(digest: str) -> None:
        raise OSError(digest)

    dropped: list[str] = []

    async def drop(digest: str) -> None:
        dropped.append(digest)

    with pytest.raises(OSError, match=document.sha256):
        await store.documents.reclaim(refuse)
    assert await store.documents.reclaim(drop) == 1
    assert dropped == [document.sha256]


# --- reading, and who may read


async def test_a_business_unit_sees_its_own_documents_only(store: Store) -> None:
    north = await index(store, new(bu="north"))
    south = await index(store, new(bu="south", text=NEW), NEW)
    assert north.id != south.id
    with pytest.raises(NotFound):
        await store.documents.get("south", north.id)
    with pytest.raises(NotFound):
        await store.documents.delete("south", north.id)
    assert [document.id for document in await store.documents.find("south")] == [south.id]
    assert await store.documents.counts("south", [north.id, south.id]) == {"indexed": 1}
    assert await store.documents.collections("north") == {"default": 1}
    assert "granite" in await texts(store, "bridge", "north")
    assert "granite" not in await texts(store, "bridge", "south")


@pytest.mark.parametrize("document_id", ["", "no-such-id", "é\ud800", "\0", str(uuid4())])
async def test_an_unknown_id_is_not_found(store: Store, document_id: str) -> None:
    with pytest.raises(NotFound):
        await store.documents.get("north", document_id)
    with pytest.raises(NotFound):
        await store.documents.delete("north", document_id)
    assert await store.documents.counts("north", [document_id]) == {}


async def test_documents_are_found_page_by_page(store: Store) -> None:
    for n in range(5):
        await store.documents.register(new(f"{n}.md", collection="odd" if n % 2 else "even"))
    names: list[str] = []
    after = None
    while page := await store.documents.find("north", limit=2, after=after):
        assert len(page) <= 2
        names += [document.name for document in page]
        after = page[-1].id
    assert names == ["4.md", "3.md", "2.md", "1.md", "0.md"]
    assert [document.name for document in await store.documents.find("north", collection="odd")] == ["3.md", "1.md"]
    assert await store.documents.find("north", state="indexed") == []
    assert await store.documents.collections("north") == {"even": 3, "odd": 2}
    assert await store.documents.counts("north") == {"received": 5}


async def test_counts_of_no_ids_are_empty(store: Store) -> None:
    await store.documents.register(new())
    assert await store.documents.counts("north", []) == {}


async def test_vectors_survive_the_store(store: Store) -> None:
    """Half precision is the coarsest that is allowed: a cosine is right to three decimals."""
    await index(store, new())
    (vector,) = await store.embedder.embed(["The town > Bridges\nThe old bridge is made of granite."])
    query = Query(bu="north", text="", language="en", vector=vector, top_k=1, dense_weight=1.0)
    (hit,) = await store.passages.search(query)
    assert hit.dense == pytest.approx(1.0, abs=2e-3)
    assert isinstance(vector, np.ndarray)
