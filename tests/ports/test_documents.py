"""What `ports.Documents` promises, asked of every implementation."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
import pytest

from pilotis.errors import NotFound
from pilotis.ports import Hit, NewDocument, Query
from pilotis.rag.passage import Parsed, cut

if TYPE_CHECKING:
    from ports.conftest import Store

OLD = "# Bridges\n\nThe old bridge is made of granite.\n\n# Tolls\n\nCrossing is free on Sundays."
NEW = "# Bridges\n\nThe new bridge is made of steel.\n\n# Tolls\n\nCrossing is free on Sundays."


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


async def search(store: Store, text: str, bu: str = "north", **narrowed: Any) -> Sequence[Hit]:
    vector = (await store.embedder.embed([text]))[0]
    return await store.passages.search(Query(bu=bu, text=text, language="en", vector=vector, top_k=10, **narrowed))


async def texts(store: Store, about: str, bu: str = "north") -> str:
    return " ".join(sorted(hit.text for hit in await search(store, about, bu)))


# --- register


async def depths(store: Store) -> dict[str, int]:
    """Documents that wait for `ingest`, passages that wait for `embed`."""
    found = {"ingest": 0, "embed": 0}
    for one in await store.backlog.waiting():
        if one.queue != "failed":
            found[one.queue] += one.passages if one.queue == "embed" else one.documents
    return found


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
    assert await depths(store) == {"ingest": 1, "embed": 0}


async def test_the_same_content_under_the_same_name_is_no_work(store: Store) -> None:
    indexed = await store.index(new())
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
    before = await store.index(new(team="sales"))
    after, changed = await store.documents.register(new(team="support"))
    assert changed
    assert after.id == before.id
    await store.stage(await store.claimed())
    await store.documents.publish(())
    assert await store.documents.pending(10, lease_s=30) == []  # the vectors are those of the same passages
    assert await search(store, "granite", metadata={"team": "sales"}) == []
    assert await search(store, "granite", metadata={"team": "support"})


async def test_a_failed_document_is_tried_again_when_it_is_sent_again(store: Store) -> None:
    document, _ = await store.documents.register(new())
    await store.documents.fail(document.id, (await store.claimed()).version, "no room")
    again, changed = await store.documents.register(new())
    assert changed
    assert (again.id, again.state, again.error, again.attempts) == (document.id, "received", None, 0)


# --- claim, lease, retry


async def test_the_oldest_document_is_claimed_first(store: Store) -> None:
    ids = [(await store.documents.register(new(f"{n}.md")))[0].id for n in range(3)]
    assert [(await store.claimed()).document.id for _ in ids] == ids


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
    claim = await store.claimed()
    assert (claim.document.state, claim.document.attempts) == ("parsing", 1)
    assert (await store.documents.get("north", document.id)).state == "parsing"
    assert (await depths(store))["ingest"] == 1


async def test_a_lease_that_ran_out_frees_the_document(store: Store) -> None:
    await store.documents.register(new())
    first = await store.claimed(lease_s=0.3)
    assert await store.documents.claim(lease_s=1) is None
    await asyncio.sleep(0.35)
    second = await store.claimed()
    assert second.document.id == first.document.id
    assert second.document.attempts == 2


async def test_a_renewed_lease_holds(store: Store) -> None:
    await store.documents.register(new())
    claim = await store.claimed(lease_s=0.3)
    await store.documents.renew(claim, lease_s=30)
    await asyncio.sleep(0.35)
    assert await store.documents.claim(lease_s=1) is None


async def test_a_lost_claim_is_not_renewed(store: Store) -> None:
    await store.documents.register(new())
    lost = await store.claimed(lease_s=0.1)
    await asyncio.sleep(0.15)
    await store.claimed(lease_s=0.2)
    await store.documents.renew(lost, lease_s=30)
    await asyncio.sleep(0.25)
    assert await store.documents.claim(lease_s=1) is not None


async def test_a_failure_with_a_retry_waits_for_its_time(store: Store) -> None:
    document, _ = await store.documents.register(new())
    claim = await store.claimed()
    await store.documents.fail(document.id, claim.version, "the disk is full", retry_in_s=0.3)
    waits = await store.documents.get("north", document.id)
    assert (waits.state, waits.error) == ("received", "the disk is full")
    assert await store.documents.claim(lease_s=1) is None
    await asyncio.sleep(0.35)
    assert (await store.claimed()).document.attempts == 2


async def test_a_final_failure_keeps_its_reason_and_waits_for_nothing(store: Store) -> None:
    document, _ = await store.documents.register(new())
    await store.documents.fail(document.id, (await store.claimed()).version, "page 3\0 is é broken")
    failed = await store.documents.get("north", document.id)
    assert (failed.state, failed.error) == ("failed", "page 3 is é broken")
    assert await store.documents.claim(lease_s=1) is None
    assert await depths(store) == {"ingest": 0, "embed": 0}


# --- stage, pending, publish


async def test_from_received_to_found(store: Store) -> None:
    document, _ = await store.documents.register(new(team="sales"))
    await store.stage(await store.claimed())
    assert (await store.documents.get("north", document.id)).state == "embedding"
    assert await search(store, "granite") == []
    waiting = await store.documents.pending(100, lease_s=30)
    assert (await depths(store)) == {"ingest": 0, "embed": len(waiting)}
    assert "The town > Bridges\nThe old bridge is made of granite." in {passage.text for passage in waiting}
    assert await store.documents.publish(await store.embed(waiting)) == [document.id]
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
    await store.stage(await store.claimed())
    one, other = await store.embed(await store.documents.pending(100, lease_s=30))
    assert await store.documents.publish([one]) == []
    assert await search(store, "granite") == []
    assert (await depths(store))["embed"] == 1
    assert await store.documents.publish([other]) == [document.id]
    assert len(await search(store, "granite Sundays")) == 2


async def test_publishing_twice_changes_nothing(store: Store) -> None:
    await store.documents.register(new())
    await store.stage(await store.claimed())
    vectors = await store.embed(await store.documents.pending(100, lease_s=30))
    assert len(await store.documents.publish(vectors)) == 1
    assert await store.documents.publish(vectors) == []
    assert await store.documents.publish(()) == []
    assert len(await search(store, "granite Sundays")) == 2


async def test_publishing_the_same_vectors_from_two_workers_at_once(store: Store) -> None:
    await store.documents.register(new())
    await store.stage(await store.claimed())
    vectors = await store.embed(await store.documents.pending(100, lease_s=30))
    published = await asyncio.gather(*(store.documents.publish(vectors) for _ in range(4)))
    assert sum(map(len, published)) == 1
    assert len(await search(store, "granite Sundays")) == 2


async def test_passages_are_given_to_one_worker_only(store: Store) -> None:
    for n in range(6):
        await store.documents.register(new(f"{n}.md", OLD))
        await store.stage(await store.claimed())
    batches = await asyncio.gather(*(store.documents.pending(3, lease_s=30) for _ in range(8)))
    given = [(passage.document_id, passage.passage_id) for batch in batches for passage in batch]
    assert len(given) == len(set(given)) == 12
    assert all(len(batch) <= 3 for batch in batches)


async def test_staging_twice_leaves_one_set_of_passages(store: Store) -> None:
    await store.documents.register(new())
    claim = await store.claimed()
    await store.stage(claim)
    await store.stage(claim)
    assert len(await store.documents.pending(100, lease_s=30)) == 2


async def test_a_document_without_passages_is_published_by_the_empty_call(store: Store) -> None:
    document, _ = await store.documents.register(new())
    await store.documents.stage(await store.claimed(), Parsed(text="", title=None), [])
    assert await store.documents.publish(()) == [document.id]
    assert (await store.documents.get("north", document.id)).passages == 0


async def test_documents_say_why_they_wait_for_vectors_until_some_come(store: Store) -> None:
    for n in range(2):
        await store.documents.register(new(f"{n}.md"))
        await store.stage(await store.claimed())
    (taken,) = await store.documents.pending(1, lease_s=30)
    await store.documents.postpone([taken], "nobody\0 listens")
    told = await store.documents.find("north")
    assert [(document.state, document.error) for document in told] == [("embedding", "nobody listens")] * 2
    (again,) = await store.documents.pending(1, lease_s=30)
    assert again == taken, "what was given back is free at once"
    await store.documents.publish(await store.embed([again]))
    told = await store.documents.find("north")
    assert [(document.state, document.error) for document in told] == [("embedding", None)] * 2


async def test_passages_are_free_again_when_their_lease_runs_out(store: Store) -> None:
    await store.documents.register(new())
    await store.stage(await store.claimed())
    assert len(await store.documents.pending(100, lease_s=0.05)) == 2
    assert await store.documents.pending(100, lease_s=0.05) == []
    await asyncio.sleep(0.1)
    assert len(await store.documents.pending(100, lease_s=30)) == 2


async def test_a_claim_knows_how_many_workers_died_with_it(store: Store) -> None:
    await store.documents.register(new())
    assert [(await store.claimed(lease_s=-1)).deaths for _ in range(3)] == [0, 1, 2]
    last = await store.claimed()
    await store.documents.fail(last.document.id, last.version, "the disk is full", retry_in_s=0)
    assert (await store.claimed()).deaths == 3, "an attempt that ends with a word is no death"
    await store.documents.register(new(text=NEW))
    assert (await store.claimed()).deaths == 0


# --- replacement


async def test_old_passages_are_found_until_the_new_ones_are_complete(store: Store) -> None:
    document = await store.index(new())
    _, changed = await store.documents.register(new(text=NEW))
    assert changed
    assert "granite" in await texts(store, "granite")
    await store.stage(await store.claimed(), NEW)
    assert "granite" in await texts(store, "granite")
    assert "steel" not in await texts(store, "bridge")
    waiting = await store.documents.pending(100, lease_s=30)
    assert ["steel" in passage.text for passage in waiting] == [True]  # the other passage kept its vector
    assert await store.documents.publish(await store.embed(waiting)) == [document.id]
    found = await texts(store, "bridge granite steel Sundays")
    assert "steel" in found
    assert "granite" not in found
    assert found.count("Sundays") == 1
    assert (await store.documents.get("north", document.id)).passages == 2


async def test_title_language_and_pages_change_with_the_passages(store: Store) -> None:
    document = await store.index(new())
    await store.documents.register(new(text=NEW))
    parsed = Parsed(text="Le pont est en acier.", title="La ville", page_starts=(0, 3, 7))
    claim = await store.claimed()
    await store.documents.stage(claim, parsed, cut(parsed, document_id=document.id, languages=("fr",)))
    old = await store.documents.get("north", document.id)
    assert (old.state, old.title, old.language, old.pages) == ("embedding", "The town", "en", 1)
    assert [hit.title for hit in await search(store, "granite")] == ["The town"] * 2
    await store.documents.publish(await store.embed(await store.documents.pending(100, lease_s=30)))
    swapped = await store.documents.get("north", document.id)
    assert (swapped.state, swapped.title, swapped.language, swapped.pages) == ("indexed", "La ville", "fr", 3)


async def test_what_was_left_out_is_told_with_the_document(store: Store) -> None:
    """Said once the content it belongs to can be found, and only of that."""
    document, _ = await store.documents.register(new())
    assert document.warnings == ()
    said = ("no text layer on 3 of 40 pages (7, 8, 9); OCR is off", 'l\'été \\u00e9 "quoted"')
    parsed = Parsed(text="Three pages said nothing.", title=None, warnings=said)
    await store.documents.stage(await store.claimed(), parsed, cut(parsed, document_id=document.id))
    assert (await store.documents.get("north", document.id)).warnings == ()
    await store.documents.publish(await store.embed(await store.documents.pending(100, lease_s=30)))
    assert (await store.documents.get("north", document.id)).warnings == said
    again, _ = await store.documents.register(new(text=NEW))
    assert again.warnings == said
    whole = Parsed(text="All pages said something.", title=None)
    await store.documents.stage(await store.claimed(), whole, cut(whole, document_id=document.id))
    await store.documents.publish(await store.embed(await store.documents.pending(100, lease_s=30)))
    assert (await store.documents.get("north", document.id)).warnings == ()


async def test_new_content_that_fails_leaves_the_old_one_found(store: Store) -> None:
    document = await store.index(new())
    await store.documents.register(new(text=NEW))
    await store.documents.fail(document.id, (await store.claimed()).version, "broken")
    assert (await store.documents.get("north", document.id)).state == "failed"
    assert "granite" in await texts(store, "granite")


async def test_content_that_changes_while_it_is_parsed_wins(store: Store) -> None:
    document, _ = await store.documents.register(new())
    stale = await store.claimed()
    await store.documents.register(new(text=NEW))
    await store.stage(stale)
    assert (await store.documents.get("north", document.id)).state == "received"
    await store.documents.fail(document.id, stale.version, "too late to matter")
    assert (await store.documents.get("north", document.id)).error is None
    fresh = await store.claimed()
    assert fresh.version > stale.version
    await store.stage(fresh, NEW)
    await store.documents.publish(await store.embed(await store.documents.pending(100, lease_s=30)))
    assert "steel" in await texts(store, "bridge")


async def test_content_that_changes_while_it_is_embedded_wins(store: Store) -> None:
    document, _ = await store.documents.register(new())
    await store.stage(await store.claimed())
    stale = await store.embed(await store.documents.pending(100, lease_s=30))
    await store.documents.register(new(text=NEW))
    assert await store.documents.publish(stale) == []
    assert await search(store, "granite") == []
    await store.stage(await store.claimed(), NEW)
    assert await store.documents.publish(stale) == []
    await store.documents.publish(await store.embed(await store.documents.pending(100, lease_s=30)))
    assert (await store.documents.get("north", document.id)).state == "indexed"
    assert "granite" not in await texts(store, "bridge granite")


async def test_a_late_failure_does_not_undo_an_indexed_document(store: Store) -> None:
    """A worker that slept past its lease wakes up when another has done its work."""
    await store.documents.register(new())
    slept = await store.claimed(lease_s=0.05)
    await asyncio.sleep(0.1)
    await store.stage(await store.claimed())
    await store.documents.publish(await store.embed(await store.documents.pending(100, lease_s=30)))
    await store.documents.fail(slept.document.id, slept.version, "timed out")
    assert (await store.documents.get("north", slept.document.id)).state == "indexed"


# --- delete, reclaim


async def test_a_deleted_document_is_gone(store: Store) -> None:
    document = await store.index(new())
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
    first, second = await store.claimed(), await store.claimed()
    await store.stage(second)
    vectors = await store.embed(await store.documents.pending(100, lease_s=30))
    await store.documents.delete("north", parsed.id)
    await store.documents.delete("north", embedded.id)
    await store.stage(first)
    await store.documents.fail(parsed.id, first.version, "whatever", retry_in_s=1)
    assert await store.documents.publish(vectors) == []
    assert await depths(store) == {"ingest": 0, "embed": 0}
    assert await search(store, "granite") == []


async def test_bytes_are_reclaimed_when_nobody_refers_to_them(store: Store) -> None:
    dropped: list[str] = []

    async def drop(digest: str) -> None:
        dropped.append(digest)

    shared, other = new("a.md"), new("b.md", NEW)
    first, second = await store.index(shared), await store.index(new("c.md"))
    await store.index(other, NEW)
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
    await store.index(kept)
    await store.documents.adopt(["0" * 64, kept.sha256, "0" * 64])
    await store.documents.adopt([])
    assert await store.documents.reclaim(drop) == 1
    assert dropped == ["0" * 64]


async def test_replaced_bytes_are_reclaimed(store: Store) -> None:
    dropped: list[str] = []

    async def drop(digest: str) -> None:
        dropped.append(digest)

    before = new()
    await store.index(before)
    await store.documents.register(new(text=NEW))
    await store.documents.reclaim(drop)
    assert dropped == [before.sha256]


async def test_bytes_that_could_not_be_dropped_are_tried_again(store: Store) -> None:
    document = await store.index(new())
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
    north = await store.index(new(bu="north"))
    south = await store.index(new(bu="south", text=NEW), NEW)
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
    await store.index(new())
    (vector,) = await store.embedder.embed(["The town > Bridges\nThe old bridge is made of granite."])
    query = Query(bu="north", text="", language="en", vector=vector, top_k=1, dense_weight=1.0)
    (hit,) = await store.passages.search(query)
    assert hit.dense == pytest.approx(1.0, abs=2e-3)
    assert isinstance(vector, np.ndarray)
