from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pilotis.batch import ingest
from pilotis.batch.embed import embed_waiting
from pilotis.batch.ingest import MAX_ATTEMPTS, MAX_DEATHS, forget, parse_waiting, receive, sweep
from pilotis.errors import Invalid, NotFound, Permanent, SetupError, Transient
from pilotis.ports import Claim, NewDocument

if TYPE_CHECKING:
    from unit.batch.conftest import Town


# --- receive


async def test_what_is_acknowledged_is_stored_before_anybody_is_woken(town: Town) -> None:
    document, changed = await town.send()
    assert changed
    assert document.state == "received"
    assert town.blobs.contents[document.sha256] == b"# Tolls\n\nSundays are free."
    assert town.queue.nudges == ["ingest"]


async def test_the_same_content_wakes_nobody(town: Town) -> None:
    await town.send()
    again, changed = await town.send()
    assert not changed
    assert again.name == "a.md"
    assert town.queue.nudges == ["ingest"]


@pytest.mark.parametrize(
    ("size", "status", "code", "words"),
    [(0, 422, "empty_file", "0 bytes"), (1001, 413, "file_too_large", "1,001 bytes; the limit is 1,000")],
)
async def test_sizes_that_are_refused(town: Town, size: int, status: int, code: str, words: str) -> None:
    path = town.folder / "sized"
    path.write_bytes(b"x" * size)
    env = replace(town.env, max_file_bytes=1000)
    with pytest.raises(Invalid, match=words) as refused:
        await receive(path, env, town.deps, bu="north", collection="default", name="a.md", media_type="text/plain", metadata={})
    assert (refused.value.status, refused.value.code) == (status, code)
    assert town.blobs.contents == {}


async def test_a_refused_name_leaves_no_bytes_behind(town: Town) -> None:
    with pytest.raises(Invalid, match=r"U\+000A"):
        await town.send("two\nlines.md")
    assert town.blobs.contents == {}


async def test_bytes_that_are_deleted_between_storing_and_registering_are_stored_again(town: Town) -> None:
    twin, _ = await town.send("twin.md")
    register = town.documents.register

    async def register_late(document: Any) -> Any:
        await forget(twin.id, town.deps, bu="north")  # takes the bytes with it
        return await register(document)

    town.documents.register = register_late  # type: ignore[method-assign]
    document, _ = await town.send("a.md")
    assert document.sha256 in town.blobs.contents


# --- parse


async def test_parsing_drains_what_waits_then_wakes_the_embedder(town: Town) -> None:
    sent = [(await town.send(f"{n}.md"))[0] for n in range(3)]
    assert await parse_waiting(town.env, town.deps) is False
    assert town.parser.parsed == ["0.md", "1.md", "2.md"]
    assert town.parser.media_types["0.md"] == "text/markdown"
    assert [await town.state(document) for document in sent] == [("embedding", None)] * 3
    assert town.queue.nudges.count("embed") >= 1


async def test_a_file_that_cannot_be_read_fails_with_its_reason_and_the_rest_goes_on(town: Town) -> None:
    town.parser.failures["bad.pdf"] = Permanent("the PDF is protected by a password", remedy="remove it")
    bad, _ = await town.send("bad.pdf")
    good, _ = await town.send("good.md")
    await parse_waiting(town.env, town.deps)
    assert await town.state(bad) == ("failed", "the PDF is protected by a password; remove it")
    assert (await town.state(good))[0] == "embedding"


async def test_a_file_without_text_fails(town: Town) -> None:
    document, _ = await town.send(text="\n \n")
    await parse_waiting(town.env, town.deps)
    assert await town.state(document) == ("failed", "no text was found in it")


async def test_a_bug_belongs_to_its_document(town: Town) -> None:
    town.parser.failures["odd.md"] = ZeroDivisionError("division by zero")
    odd, _ = await town.send("odd.md")
    good, _ = await town.send("good.md")
    await parse_waiting(town.env, town.deps)
    assert await town.state(odd) == ("failed", "unexpected ZeroDivisionError: division by zero")
    assert (await town.state(good))[0] == "embedding"


async def test_what_may_pass_is_tried_again_with_growing_pauses_then_given_up(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float | None] = []
    fail = town.documents.fail

    async def fail_now(document_id: str, version: int, error: str, *, retry_in_s: float | None = None) -> None:
        pauses.append(retry_in_s)
        await fail(document_id, version, error, retry_in_s=None if retry_in_s is None else 0)

    monkeypatch.setattr(town.documents, "fail", fail_now)
    town.parser.failures["a.md"] = Transient("the parser was killed")
    document, _ = await town.send()
    while (await town.state(document))[0] != "failed":
        await parse_waiting(town.env, town.deps)
    assert len(pauses) == MAX_ATTEMPTS == 12
    assert pauses[-1] is None
    for attempt, pause in enumerate(pauses[:-1], 1):
        assert pause is not None
        assert min(300, 2**attempt) / 2 <= pause <= min(300, 2**attempt)
    assert sum(pause for pause in pauses if pause) > 600, "a disk may be full for minutes"
    assert (await town.state(document))[1] == f"given up after {MAX_ATTEMPTS} attempts: the parser was killed"


async def test_a_retry_says_why_it_waits(town: Town) -> None:
    town.parser.failures["a.md"] = Transient("the disk is full")
    document, _ = await town.send()
    await parse_waiting(town.env, town.deps)
    assert await town.state(document) == ("received", "the disk is full")


async def test_a_document_that_takes_its_worker_down_again_and_again_is_given_up(town: Town) -> None:
    document, _ = await town.send()
    for _ in range(MAX_DEATHS + 1):  # each of these workers died without a word
        assert await town.documents.claim(lease_s=-1)
    await parse_waiting(town.env, town.deps)
    state, error = await town.state(document)
    assert state == "failed"
    assert "without a word" in str(error)
    assert town.parser.parsed == []


async def test_patience_with_a_full_disk_is_not_taken_for_deaths(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "LONGEST_PAUSE_S", 0.0)
    parse, tried = town.parser.parse, 0

    async def full_for_a_while(path: Path, *, name: str, media_type: str) -> Any:
        nonlocal tried
        tried += 1
        if tried <= MAX_DEATHS + 2:
            raise Transient("the disk is full")
        return await parse(path, name=name, media_type=media_type)

    monkeypatch.setattr(town.parser, "parse", full_for_a_while)
    document, _ = await town.send()
    await parse_waiting(town.env, town.deps)
    assert (await town.state(document), tried) == (("embedding", None), MAX_DEATHS + 3)


async def test_a_machine_that_is_not_ready_is_nobody_s_fault(town: Town) -> None:
    town.parser.failures["a.md"] = SetupError("the parser does not start")
    document, _ = await town.send()
    with pytest.raises(SetupError):
        await parse_waiting(town.env, town.deps)
    assert await town.state(document) == ("received", "the parser does not start")


async def test_missing_bytes_are_waited_for(town: Town) -> None:
    document, _ = await town.send()
    content = town.blobs.contents.pop(document.sha256)
    await parse_waiting(town.env, town.deps)
    assert (await town.state(document))[0] == "received"
    town.blobs.contents[document.sha256] = content


async def test_a_long_parse_keeps_its_lease(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "LEASE_S", 0.2)
    monkeypatch.setattr(ingest, "HEARTBEAT_S", 0.05)
    parse = town.parser.parse
    stolen: list[Claim] = []

    async def slow(path: Path, *, name: str, media_type: str) -> Any:
        await asyncio.sleep(0.5)
        stolen.extend(claim for claim in [await town.documents.claim(lease_s=1)] if claim)
        return await parse(path, name=name, media_type=media_type)

    monkeypatch.setattr(town.parser, "parse", slow)
    document, _ = await town.send()
    await parse_waiting(town.env, town.deps)
    assert stolen == []
    assert (await town.state(document))[0] == "embedding"


async def test_a_shift_ends_though_work_is_left(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "SHIFT_S", 0.0)
    await town.send()
    assert await parse_waiting(town.env, town.deps) is True


# --- embed


async def test_passages_of_many_documents_share_a_batch(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    embed = town.embedder.embed

    async def counting(texts: Sequence[str]) -> Any:
        sizes.append(len(texts))
        return await embed(texts)

    monkeypatch.setattr(town.embedder, "embed", counting)
    sent = [(await town.send(f"{n}.md", f"# Mile {n}\n\nThe bridge at mile {n}."))[0] for n in range(10)]
    await parse_waiting(town.env, town.deps)
    assert await embed_waiting(town.plan, replace(town.env, batch_emb=4), town.deps) is False
    assert sizes == [4, 4, 2]
    assert [await town.state(document) for document in sent] == [("indexed", None)] * 10
    assert len(town.passages.entries) == 10


async def test_a_document_the_model_refuses_does_not_take_the_others_down(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    embed = town.embedder.embed

    async def picky(texts: Sequence[str]) -> Any:
        if any("forbidden" in text for text in texts):
            raise Permanent("the model refused the request (400)")
        return await embed(texts)

    monkeypatch.setattr(town.embedder, "embed", picky)
    bad, _ = await town.send("bad.md", "a forbidden word")
    good, _ = await town.send("good.md")
    await parse_waiting(town.env, town.deps)
    await embed_waiting(town.plan, town.env, town.deps)
    assert await town.state(bad) == ("failed", "the model refused the request (400), at the passage «a forbidden word…»")
    assert (await town.documents.get("north", bad.id)).failed_in == "embedding"
    assert await town.state(good) == ("indexed", None)


@pytest.mark.parametrize("error", [Transient("nobody listens"), SetupError("the key is refused")])
async def test_documents_say_that_the_model_is_away_until_it_is_back(
    town: Town, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    embed = town.embedder.embed

    async def away(texts: Sequence[str]) -> Any:
        raise error

    monkeypatch.setattr(town.embedder, "embed", away)
    sent = [(await town.send(f"{n}.md", f"# Mile {n}\n\nThe bridge at mile {n}."))[0] for n in range(3)]
    await parse_waiting(town.env, town.deps)
    with pytest.raises(type(error)):
        await embed_waiting(town.plan, replace(town.env, batch_emb=1), town.deps)
    assert [await town.state(document) for document in sent] == [("embedding", str(error))] * 3
    assert len(await town.documents.pending(10, lease_s=0)) == 3, "the passages are free at once"
    monkeypatch.setattr(town.embedder, "embed", embed)
    await asyncio.sleep(0.01)
    monkeypatch.setattr("pilotis.batch.embed.SHIFT_S", 0.001)
    await embed_waiting(town.plan, replace(town.env, batch_emb=1), town.deps)
    assert {(await town.state(document))[1] for document in sent} == {None}, (
        "those behind the first do not wait for it any more"
    )


async def test_a_batch_is_taken_for_as_long_as_its_size_asks(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    leases: list[float] = []

    async def pending(limit: int, *, lease_s: float) -> list[Any]:
        leases.append(lease_s)
        return []

    monkeypatch.setattr(town.documents, "pending", pending)
    for size in (1, 64, 2048):
        await embed_waiting(town.plan, replace(town.env, batch_emb=size), town.deps)
    assert leases == [30.25, 46.0, 542.0]


async def test_what_embedding_costs_is_in_the_ledger_per_document(town: Town) -> None:
    first, _ = await town.send("a.md", "one two three")
    second, _ = await town.send("b.md", "four five", bu="south")
    await parse_waiting(town.env, town.deps)
    model = replace(town.env.embedder, model="text-embedding-3-small", provider="openai")
    await embed_waiting(town.plan, replace(town.env, embedder=model), town.deps)
    events = {event.subject: event for event in town.money.settled.values()}
    assert events.keys() == {first.id, second.id}
    assert not town.ledger.rows
    event = events[second.id]
    assert (event.plane, event.kind, event.bu, event.model) == ("batch", "ingest", "south", "text-embedding-3-small")
    assert event.usage["calls"][0]["input_tokens"] == 2
    assert event.priced
    assert float(events[first.id].cost_eur) == pytest.approx(1.5 * float(event.cost_eur), rel=1e-3)
    assert event.cost_eur > 0


async def test_vectors_survive_a_database_that_is_away_for_a_moment(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilotis.batch.embed.PAUSES_S", (0.0, 0.0))
    document, _ = await town.send()
    await parse_waiting(town.env, town.deps)
    publish, refused = town.documents.publish, 0

    async def away_twice(embedded: Any) -> Any:
        nonlocal refused
        if embedded and refused < 2:
            refused += 1
            raise Transient("Postgres is away")
        return await publish(embedded)

    monkeypatch.setattr(town.documents, "publish", away_twice)
    await embed_waiting(town.plan, town.env, town.deps)
    assert await town.state(document) == ("indexed", None)
    assert len(town.embedder.embedded) == 1


async def test_a_crash_before_the_swap_is_made_good(town: Town) -> None:
    document, _ = await town.send()
    await parse_waiting(town.env, town.deps)
    waiting = await town.documents.pending(10, lease_s=30)
    for (_, draft), vector in zip(town.documents._drafts(), await town.embedder.embed([p.text for p in waiting]), strict=True):
        draft.vector = vector  # stored, and then the worker died
    await embed_waiting(town.plan, town.env, town.deps)
    assert await town.state(document) == ("indexed", None)


# --- forget


async def test_forgetting_leaves_nothing_and_says_so_the_second_time(town: Town) -> None:
    document, _ = await town.send()
    await parse_waiting(town.env, town.deps)
    await embed_waiting(town.plan, town.env, town.deps)
    with pytest.raises(NotFound):
        await forget(document.id, town.deps, bu="south")
    await forget(document.id, town.deps, bu="north")
    assert (town.passages.entries, town.blobs.contents) == ([], {})
    with pytest.raises(NotFound):
        await forget(document.id, town.deps, bu="north")


async def test_bytes_that_a_crash_left_behind_are_found_by_the_worker(town: Town) -> None:
    document, _ = await town.send()
    await town.documents.delete("north", document.id)  # and then the process died
    assert town.blobs.contents
    await parse_waiting(town.env, town.deps)
    assert town.blobs.contents == {}


async def test_bytes_of_an_upload_that_died_are_swept_and_no_others(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    path = town.folder / "orphan"
    path.write_text("stored, and then the process died")
    orphan, _ = await town.blobs.put(path)
    path.write_text("registered, and then the process died")
    unsettled, _ = await town.blobs.put(path)
    await town.documents.register(
        NewDocument(bu="north", collection="default", name="c.md", sha256=unsettled, size=1, media_type="text/markdown")
    )
    document, _ = await town.send()
    await sweep(town.deps)
    assert orphan in town.blobs.contents, "an upload may be about to register it"
    monkeypatch.setattr(ingest, "FORGOTTEN_S", 0.0)
    await sweep(town.deps)
    assert town.blobs.contents.keys() == {unsettled, document.sha256}
    assert await town.blobs.unsettled(older_than_s=0) == []


async def test_an_upload_of_bytes_that_are_being_swept_stores_them_again(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "FORGOTTEN_S", 0.0)
    register = town.documents.register

    async def register_late(document: Any) -> Any:
        await sweep(town.deps)  # takes the bytes with it
        assert document.sha256 not in town.blobs.contents
        return await register(document)

    monkeypatch.setattr(town.documents, "register", register_late)
    document, _ = await town.send()
    await sweep(town.deps)
    assert document.sha256 in town.blobs.contents
