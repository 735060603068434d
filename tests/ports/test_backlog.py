"""Turns, pauses, retries: the same questions to the fake and to Postgres."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from pilotis.ports import NewDocument

if TYPE_CHECKING:
    from ports.conftest import Store


def new(name: str = "a.md", text: str = "A bridge.", *, bu: str = "north") -> NewDocument:
    content = text.encode()
    digest = sha256(content).hexdigest()
    return NewDocument(bu=bu, collection="default", name=name, sha256=digest, size=len(content), media_type="text/markdown")


async def test_nobody_waits_behind_the_flood_of_another(store: Store) -> None:
    for n in range(12):
        await store.documents.register(new(f"{n}.md", bu="flood"))
    await store.documents.register(new("only.md", bu="small"))
    turns = [(await store.claimed()).document.bu for _ in range(4)]
    assert "small" in turns[:2]
    assert Counter(turns) == {"flood": 3, "small": 1}


async def test_within_a_business_unit_the_first_comes_first(store: Store) -> None:
    names = [f"{n}.md" for n in range(5)]
    for name in names:
        await store.documents.register(new(name))
    assert [(await store.claimed()).document.name for _ in names] == names


async def test_a_batch_is_shared_by_business_units(store: Store) -> None:
    text = "\n\n".join(f"# Part {n}\n\nThe stone of part {n} is granite." for n in range(20))
    for name, bu in (("a.md", "flood"), ("b.md", "flood"), ("c.md", "small")):
        await store.documents.register(new(name, text if bu == "flood" else "One line.", bu=bu))
    for _ in range(3):
        claim = await store.claimed()
        await store.stage(claim, text if claim.document.bu == "flood" else "# One\n\nOne line.")
    taken = await store.documents.pending(10, lease_s=30)
    assert len(taken) == 10, "what one unit leaves of its share the other takes"
    assert Counter(passage.bu for passage in taken) == {"flood": 9, "small": 1}
    rest = await store.documents.pending(100, lease_s=30)
    assert {passage.bu for passage in rest} == {"flood"}
    ids = [(passage.document_id, passage.passage_id) for passage in (*taken, *rest)]
    assert len(ids) == len(set(ids)) == 41


async def test_a_paused_queue_gives_nothing_until_it_is_resumed(store: Store) -> None:
    await store.documents.register(new())
    await store.backlog.pause("ingest", "north", until=None, reason="the disk is being changed")
    assert await store.documents.claim(lease_s=1) is None
    (waiting,) = await store.backlog.waiting()
    assert waiting.paused_until is not None
    assert (waiting.queue, waiting.bu, waiting.documents, waiting.reason) == ("ingest", "north", 1, "the disk is being changed")
    assert await store.backlog.resume("embed") == 0
    assert await store.backlog.resume() == 1
    assert await store.backlog.pauses() == []
    await store.claimed()


async def test_a_pause_for_everybody_and_one_that_is_over(store: Store) -> None:
    await store.documents.register(new())
    await store.stage(await store.claimed())
    await store.backlog.pause("embed", "*", until=datetime.now(UTC) + timedelta(hours=1), reason="budget")
    assert await store.documents.pending(9, lease_s=1) == []
    await store.backlog.pause("embed", "*", until=datetime.now(UTC) - timedelta(seconds=1), reason="budget")
    assert await store.backlog.pauses() == []
    assert len(await store.documents.pending(9, lease_s=1)) == 2


async def test_dead_letters_begin_again(store: Store) -> None:
    first, _ = await store.documents.register(new("a.md"))
    second, _ = await store.documents.register(new("b.md", bu="south"))
    for _ in range(2):
        claim = await store.claimed()
        await store.documents.fail(claim.document.id, claim.version, "no text")
    assert (await store.documents.get("north", first.id)).failed_in == "parsing"
    assert [(one.queue, one.bu, one.documents) for one in await store.backlog.waiting()] == [
        ("failed", "north", 1),
        ("failed", "south", 1),
    ]
    assert await store.backlog.retry("north", [second.id, "no id"]) == 0
    assert await store.backlog.retry("north") == 1
    again = await store.documents.get("north", first.id)
    assert (again.state, again.error, again.failed_in, again.attempts) == ("received", None, None, 0)
    assert await store.backlog.retry() == 1


@pytest.mark.parametrize("step", ["received", "parsing", "embedding"])
async def test_what_is_cancelled_is_not_finished_by_whoever_works_on_it(store: Store, step: str) -> None:
    document, _ = await store.documents.register(new())
    claim = await store.claimed() if step != "received" else None
    if step == "embedding" and claim:
        await store.stage(claim)
    waiting = await store.documents.pending(9, lease_s=30) if step == "embedding" else []
    assert await store.backlog.cancel("south", [document.id], reason="no") == []
    assert await store.backlog.cancel("north", [document.id], reason="given up by ops") == [document.id]
    if step == "parsing" and claim:
        await store.stage(claim)
        await store.documents.fail(document.id, claim.version, "late")
    assert await store.documents.publish(await store.embed(waiting)) == []
    now = await store.documents.get("north", document.id)
    assert (now.state, now.error, now.failed_in) == ("failed", "given up by ops", step)
    assert await store.documents.claim(lease_s=1) is None


async def test_cancelling_new_content_leaves_the_old_one_found(store: Store) -> None:
    document = await store.index(new())
    await store.documents.register(new(text="# Bridges\n\nAnother text."))
    assert await store.backlog.cancel("north", [document.id], reason="given up") == [document.id]
    assert (await store.documents.get("north", document.id)).passages == 2
