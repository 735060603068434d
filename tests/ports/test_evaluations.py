"""What `ports.quality` promises of runs and votes, asked of every implementation."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from pilotis.adapters import postgres
from pilotis.errors import Invalid, NotFound
from pilotis.ports import CostEvent, Documents, Evaluations, Feedback, NewDocument
from pilotis.ports.quality import Evaluation, Judged, Opinion, Seen
from pilotis.rag.passage import Parsed, cut
from pilotis.testing.batch import MemoryDocuments
from pilotis.testing.online import HashingEmbedder
from pilotis.testing.quality import MemoryEvaluations, MemoryFeedback

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
_numbers = itertools.count(1)


@dataclass
class World:
    evaluations: Evaluations
    feedback: Feedback
    documents: Documents
    book: Callable[[CostEvent], Awaitable[None]]

    async def ingest(self, name: str, text: str, *, bu: str = "sales", collection: str = "default") -> list[str]:
        """Make a document searchable; the ids of its passages."""
        new = NewDocument(bu=bu, collection=collection, name=name, sha256=name, size=1, media_type="text/markdown")
        document, _ = await self.documents.register(new)
        claim = await self.documents.claim(lease_s=60)
        assert claim is not None
        cuts = cut(Parsed(text=text, title="Title"), document_id=document.id, size_tokens=200)
        await self.documents.stage(claim, Parsed(text=text, title="Title"), cuts)
        pending = await self.documents.pending(100, lease_s=60)
        vectors = await HashingEmbedder().embed([one.text for one in pending])
        await self.documents.publish(list(zip(pending, vectors, strict=True)))
        return [one.id for one in cuts]


@pytest.fixture(params=["memory", "postgres"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    if request.param == "memory":
        events: list[CostEvent] = []
        documents = MemoryDocuments()
        passages = documents.passages

        async def book(event: CostEvent) -> None:
            events.append(event)

        yield World(MemoryEvaluations(env="prod", passages=passages), MemoryFeedback(lambda: events, passages), documents, book)
        return
    url = _new_database(request.getfixturevalue("server"))
    await postgres.migrate(url)
    pool = await postgres.open_pool(url, max_size=4)
    try:
        generation = await postgres.open_generation(pool, HashingEmbedder())
        yield World(
            postgres.PostgresEvaluations(pool, env="prod"),
            postgres.PostgresFeedback(pool, env="prod"),
            postgres.PostgresDocuments(pool, generation),
            postgres.PostgresLedger(pool, env="prod", zone="UTC").append,
        )
    finally:
        await pool.close()


def _new_database(server: str) -> str:
    name = f"evaluations_{next(_numbers)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    head, _, query = server.partition("?")
    return f"{head.rpartition('/')[0]}/{name}?{query}"


def run(*, minutes_ago: float = 0, **fields: Any) -> Evaluation:
    given: dict[str, Any] = {
        "id": str(uuid4()), "env": "prod", "bu": "sales", "at": NOW - timedelta(minutes=minutes_ago), "state": "running",
        "golden": "faq", "digest": "d1", "questions": 1, "config": {"top_k": 5, "flags": ["hybrid"]},
    }  # fmt: skip
    return Evaluation(**(given | fields))


ROW = Judged(
    id="q1",
    question="Où ? \U0001f600",
    tags=("a", "b"),
    metrics={"hit@5": 1.0, "mrr@10": 0.5},
    answer="here [1]\0",
    found=True,
    language="fr",
    seen=(Seen(document="k.md", passage_id="p", page=None, expected=True, cited=False),),
    latency_ms=12.5,
    cost_eur=Decimal("0.000000000001"),
    model="m",
    step="full",
    wanted=("k.md",),
)
FAILED = replace(ROW, id="q2", answer="", latency_ms=None, error="the model is away", metrics={"hit@5": 0.0})


async def done(world: World, **fields: Any) -> Evaluation:
    made = run(**fields)
    await world.evaluations.add(made)
    ended = replace(made, state="done", figures={"all": {"hit@5": {"value": 0.5, "low": 0.1, "high": 0.9, "n": 2}}, "tags": {}})
    await world.evaluations.finish(ended, [ROW, FAILED])
    return ended


async def test_a_run_comes_back_as_it_was_stored(world: World) -> None:
    ended = await done(world)
    assert await world.evaluations.get(ended.id) == ended
    assert await world.evaluations.get(ended.id[:8].upper()) == ended
    assert list(await world.evaluations.rows(ended.id[:8])) == [replace(ROW, answer="here [1]"), FAILED]


async def test_a_run_that_ended_stays_as_it_is(world: World) -> None:
    ended = await done(world)
    await world.evaluations.finish(replace(ended, state="failed", error="late"), [ROW])
    await world.evaluations.add(replace(ended, golden="other"))
    assert await world.evaluations.get(ended.id) == ended
    assert len(await world.evaluations.rows(ended.id)) == 2


async def test_a_run_that_nobody_knows(world: World) -> None:
    for unknown in (str(uuid4()), "", "x%", "'"):
        with pytest.raises(NotFound, match="there is no run"):
            await world.evaluations.get(unknown)
    await world.evaluations.finish(run(), [ROW])
    assert list(await world.evaluations.list()) == []


async def test_an_id_that_begins_two_runs_is_told(world: World) -> None:
    first = await done(world, id="aaaaaaaa-0000-4000-8000-000000000001")
    await done(world, id="aaaaaaaa-0000-4000-8000-000000000002")
    with pytest.raises(Invalid, match="several runs"):
        await world.evaluations.get("aaaa")
    assert (await world.evaluations.get(first.id)).id == first.id


async def test_runs_are_listed_latest_first(world: World) -> None:
    old = await done(world, minutes_ago=10)
    new = await done(world, minutes_ago=1)
    other = await done(world, minutes_ago=5, golden="limits", bu="legal")
    assert [one.id for one in await world.evaluations.list()] == [new.id, other.id, old.id]
    assert [one.id for one in await world.evaluations.list(bu="sales", limit=1)] == [new.id]
    assert [one.id for one in await world.evaluations.list(golden="limits")] == [other.id]


async def test_the_latest_is_the_last_that_was_done(world: World) -> None:
    old, new = await done(world, minutes_ago=10), await done(world, minutes_ago=1)
    await world.evaluations.add(run())
    await done(world, golden="limits")
    found = await world.evaluations.latest(bu="sales", golden="faq")
    before = await world.evaluations.latest(bu="sales", golden="faq", before=new.at)
    assert (found and found.id, before and before.id) == (new.id, old.id)
    assert await world.evaluations.latest(bu="legal", golden="faq") is None


async def test_a_set_has_one_baseline(world: World) -> None:
    first, second, other = await done(world), await done(world), await done(world, golden="limits")
    assert await world.evaluations.baseline(bu="sales", golden="faq") is None
    for chosen in (first, other, second):
        assert (await world.evaluations.set_baseline(chosen.id[:13])).is_baseline
    found = await world.evaluations.baseline(bu="sales", golden="faq")
    assert found is not None
    assert found.id == second.id
    assert not (await world.evaluations.get(first.id)).is_baseline
    assert (await world.evaluations.get(other.id)).is_baseline


async def test_only_a_run_that_is_done_can_be_a_baseline(world: World) -> None:
    made = run()
    await world.evaluations.add(made)
    with pytest.raises(Invalid, match="is running"):
        await world.evaluations.set_baseline(made.id)


async def test_waiting_runs_are_taken_once_and_oldest_first(world: World) -> None:
    first, second = run(minutes_ago=2, state="waiting"), run(minutes_ago=1, state="waiting")
    await world.evaluations.add(second, order={"n": 2})
    await world.evaluations.add(first, order={"n": 1})
    await world.evaluations.add(run(minutes_ago=9))  # somebody does this one inline
    taken = [await world.evaluations.claim(lease_s=60) for _ in range(3)]
    assert [(one[0].id, one[0].state, one[1]) if one else None for one in taken] == [
        (first.id, "running", {"n": 1}),
        (second.id, "running", {"n": 2}),
        None,
    ]


async def test_a_run_whose_worker_went_away_is_taken_again(world: World) -> None:
    made = run(state="waiting")
    await world.evaluations.add(made, order={})
    assert await world.evaluations.claim(lease_s=-1)
    assert await world.evaluations.claim(lease_s=-1), "the lease has run out"
    await world.evaluations.renew(made.id, lease_s=60)
    assert await world.evaluations.claim(lease_s=60) is None
    await world.evaluations.finish(replace(made, state="failed", error="no key"), [])
    await world.evaluations.renew(made.id, lease_s=-1)
    assert await world.evaluations.claim(lease_s=60) is None
    assert (await world.evaluations.get(made.id)).error == "no key"


LONG = "The key is rotated by making a new one first, and the old one is then revoked by its owner. " * 3


async def test_excerpts_come_of_many_documents_first(world: World) -> None:
    await world.ingest("long.md", "\n\n".join(f"# H{n}\n\n{LONG} {n}" for n in range(5)))
    await world.ingest("short.md", f"# One\n\n{LONG}", collection="other")
    await world.ingest("tiny.md", "# One\n\nToo short.")
    await world.ingest("theirs.md", LONG, bu="legal")
    found = await world.evaluations.excerpts("sales", limit=3)
    assert sorted(one.document for one in found) == ["long.md", "long.md", "short.md"]
    assert {one.document for one in found[:2]} == {"long.md", "short.md"}
    assert found[0].title == "Title"
    assert [one.document for one in await world.evaluations.excerpts("sales", collection="other", limit=9)] == ["short.md"]
    assert [one.passage_id for one in await world.evaluations.excerpts("sales", limit=3)] == [one.passage_id for one in found]


def answer(identity: str, *, bu: str = "sales", kind: Any = "answer") -> CostEvent:
    return CostEvent(
        id=identity, at=NOW, env="prod", plane="online", bu=bu, kind=kind, subject=identity, model="m", usage={},
        cost_eur=Decimal(0), price_book="", fx=None, priced=True,
    )  # fmt: skip


def opinion(**fields: Any) -> Opinion:
    given: dict[str, Any] = {"answer_id": "a1", "bu": "sales", "key": "k1", "at": NOW, "vote": "up"}
    return Opinion(**(given | fields))


async def test_a_vote_is_kept_and_a_later_one_takes_its_place(world: World) -> None:
    await world.book(answer("a1"))
    (passage,) = await world.ingest("keys.md", LONG)
    first = opinion(comment="good \U0001f600", passage_id=passage, question="How?")
    assert (await world.feedback.put(first)).document == "keys.md"
    (kept,) = await world.feedback.list()
    assert kept == replace(first, document="keys.md", excerpt=kept.excerpt)
    assert kept.excerpt is not None
    assert kept.excerpt.startswith("The key is rotated")
    await world.feedback.put(opinion(vote="down", at=NOW + timedelta(minutes=1)))
    (kept,) = await world.feedback.list()
    assert kept == opinion(vote="down", at=NOW + timedelta(minutes=1))


async def test_each_key_has_one_vote(world: World) -> None:
    await world.book(answer("a1"))
    for key, vote in (("k1", "up"), ("k2", "down"), ("k2", "down"), ("k3", "up")):
        await world.feedback.put(opinion(key=key, vote=vote))
    assert dict(await world.feedback.counts()) == {("sales", "up"): 2, ("sales", "down"): 1}
    assert [one.key for one in await world.feedback.list(vote="down")] == ["k2"]


async def test_what_is_not_there_cannot_be_voted_on(world: World) -> None:
    await world.book(answer("theirs", bu="legal"))
    await world.book(answer("search", kind="search"))
    await world.book(answer("a1"))
    for unknown in ("nothing", "theirs", "search"):
        with pytest.raises(NotFound, match="there is no answer"):
            await world.feedback.put(opinion(answer_id=unknown))
    (theirs,) = await world.ingest("theirs.md", LONG, bu="legal")
    for passage in (theirs, "none"):
        with pytest.raises(Invalid, match="there is no passage"):
            await world.feedback.put(opinion(passage_id=passage))
        with pytest.raises(NotFound, match="there is no answer"):
            await world.feedback.put(opinion(answer_id="nothing", passage_id=passage))
    assert list(await world.feedback.list()) == []


async def test_votes_are_chosen_by_time_and_business_unit_and_forgotten(world: World) -> None:
    for number, bu in enumerate(("sales", "legal", "sales")):
        await world.book(answer(f"a{number}", bu=bu))
        await world.feedback.put(opinion(answer_id=f"a{number}", bu=bu, at=NOW + timedelta(minutes=number)))
    assert [one.answer_id for one in await world.feedback.list(limit=2)] == ["a2", "a1"]
    assert [one.answer_id for one in await world.feedback.list(bu="sales", since=NOW + timedelta(seconds=1))] == ["a2"]
    assert dict(await world.feedback.counts(bu="legal")) == {("legal", "up"): 1}
    assert await world.feedback.delete("legal", "a0") == 0
    assert await world.feedback.delete("sales", "a0") == 1
    assert [one.answer_id for one in await world.feedback.list()] == ["a2", "a1"]


async def test_a_vote_outlives_its_passage(world: World) -> None:
    await world.book(answer("a1"))
    (passage,) = await world.ingest("keys.md", LONG)
    await world.feedback.put(opinion(passage_id=passage, question="How?"))
    (document,) = await world.documents.find("sales")
    await world.documents.delete("sales", document.id)
    (kept,) = await world.feedback.list()
    assert (kept.document, kept.passage_id, kept.excerpt) == ("keys.md", passage, None)
