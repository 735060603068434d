from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from pilotis.derive.cost import Usage
from pilotis.derive.plan import Embedding, Llm
from pilotis.errors import ContractError, Invalid, NotFound, Permanent, Transient
from pilotis.online.answer import Ask, Done, Passages, Token, answer
from pilotis.testing.online import MemoryLedger, OverlapReranker, ScriptedGenerator

if TYPE_CHECKING:
    from unit.online.conftest import World

    from pilotis.ports import CostEvent
    from pilotis.rag.prompt import Prompt

PAID = Usage(model="gpt-4o-mini", provider="openai", input_tokens=1000, output_tokens=100)


def paid(*pieces: str | BaseException, usage: Usage | None = PAID, delay_s: float = 0.0) -> ScriptedGenerator:
    return ScriptedGenerator(*pieces, usage=usage, delay_s=delay_s, model="gpt-4o-mini", provider="openai")


async def test_an_extracted_answer_is_verbatim_cited_and_free(world: World) -> None:
    done, streamed = await world.answer("How long is the backup of the database kept?")

    assert done.text == "The backup of the database is kept for thirty days on a second site. [1]" == streamed
    (citation,) = done.citations
    assert (citation.n, citation.document, citation.passage_id) == (1, "backup.md", "p-backup.md")
    text = world.passages.entries[0].hit.text
    assert citation.quote == text[citation.start - 1000 : citation.end - 1000] == done.text.removesuffix(" [1]")
    assert done.found
    assert done.language == "en"
    assert done.prompt is None
    assert done.receipt.cost_eur == 0
    assert done.receipt.priced
    assert {"embed", "search", "extract", "settle", "total"} <= done.timings_ms.keys()


async def test_a_french_question_gets_a_french_answer(world: World) -> None:
    done, _ = await world.answer("Combien de jours de congés par an ?")
    assert done.text == "Chaque salarié dispose de vingt-cinq jours de congés par an. [1]"
    assert done.language == "fr"


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("Who won the football world cup in 1998?", "Not found in the documents."),
        ("Qui a gagné la coupe du monde de football ?", "Pas trouvé dans les documents."),
    ],
)
async def test_what_the_documents_do_not_say_is_not_invented(world: World, question: str, said: str) -> None:
    done, streamed = await world.answer(question)
    assert done.text == streamed == said
    assert not done.found
    assert done.citations == ()
    assert world.meter.total("rag_requests_total", kind="ask", outcome="not_found") == 1


async def test_the_ledger_holds_what_the_answer_says_it_cost(world: World) -> None:
    world.generator = paid("Thirty ", "days [1].")
    done, streamed = await world.answer("How long is a backup kept?")

    (event,) = world.settled
    assert event.cost_eur == done.receipt.cost_eur > 0
    assert event.id == event.subject == done.id
    assert (event.bu, event.env, event.plane, event.kind, event.model) == ("legal", "dev", "online", "answer", "gpt-4o-mini")
    calls = event.usage["calls"]
    assert [call["model"] for call in calls] == ["all-MiniLM-L6-v2", "gpt-4o-mini"]
    assert calls[1]["input_tokens"] == 1000
    assert not calls[1]["estimated"]
    assert streamed == done.text == "Thirty days [1]."
    assert world.meter.total("rag_cost_eur_total", bu="legal") == pytest.approx(float(done.receipt.cost_eur))
    assert world.meter.total("rag_tokens_total", model="gpt-4o-mini", **{"class": "output"}) == 100


async def test_a_model_is_not_paid_to_read_a_copy(world: World) -> None:
    await world.add("copy.md", "Backups run every night. The backup of the database is kept for thirty days on a second site.")
    prompts = []
    for distinct in (True, False):
        world.generator = paid("Thirty days [1].")
        world.changes["distinct"] = distinct
        await world.answer(f"How long is a backup kept{'?' if distinct else ', please?'}")
        prompts.append(world.generator.prompts[0].user.count("kept for thirty days"))
    assert prompts == [1, 2]


async def test_without_abstaining_the_likeliest_sentence_is_quoted(world: World) -> None:
    world.changes["abstain"] = False
    done, _ = await world.answer("Who painted the ceiling?")
    assert done.found
    assert done.citations


async def test_an_answer_says_what_it_would_have_cost_elsewhere(world: World) -> None:
    done, _ = await world.answer("How long is a backup kept?")
    assert set(done.receipt.elsewhere_eur) == set(world.plan.envs) - {"dev"}
    prod = done.receipt.elsewhere_eur["prod"]
    assert prod is not None
    assert prod > Decimal("0.0001")


async def test_an_unknown_price_is_never_a_silent_zero(world: World) -> None:
    world.generator = ScriptedGenerator(
        "Days [1].", usage=replace(PAID, model="nobody-knows"), model="nobody-knows", provider="openai"
    )
    done, _ = await world.answer("How long is a backup kept?")
    assert not done.receipt.priced
    assert not world.settled[0].priced
    assert world.meter.total("rag_cost_unpriced_total") == 1


async def test_the_model_without_a_price_is_the_one_that_is_counted(world: World) -> None:
    world.generator = paid("Thirty days [1].")
    world.reranker = OverlapReranker()
    world.changes = {"rerank": True, "reranker": Llm(model="overlap", provider="nobody")}
    await world.answer("How long is a backup kept?")
    assert world.meter.total("rag_cost_unpriced_total", model="overlap") == 1
    assert world.meter.total("rag_cost_unpriced_total", model="gpt-4o-mini") == 0


async def test_the_stages_of_a_request_that_failed_are_measured(world: World) -> None:
    world.generator = ScriptedGenerator(Transient("the model is away"))
    with pytest.raises(Transient):
        await world.events("How long is a backup kept?")
    measured = {dict(labels)["stage"] for name, labels in world.meter.values if name == "rag_stage_seconds"}
    assert measured == {"admit", "embed", "search", "generate"}


async def test_marks_that_point_nowhere_are_removed_and_reported(world: World) -> None:
    world.generator = paid("Thirty days [1][9]. ", "Or more [0, 2]. See `list[7]` and [3](https://x.example).")
    done, streamed = await world.answer("How long is a backup kept?", top_k=2)
    assert "[9]" in streamed
    assert done.text == "Thirty days [1]. Or more [2]. See `list[7]` and [3](https://x.example)."
    assert [citation.n for citation in done.citations] == [1, 2]
    assert [(step.name, step.outcome) for step in done.steps] == [("cite", "removed")]
    assert "[9] [0]" in done.steps[0].reason


async def test_an_answer_without_any_source_says_so(world: World) -> None:
    world.generator = paid("Thirty days.")
    done, _ = await world.answer("How long is a backup kept?")
    assert [(step.name, step.outcome) for step in done.steps] == [("cite", "missing")]


async def test_a_model_that_finds_nothing_is_believed(world: World) -> None:
    world.generator = paid("Not found in the documents.")
    done, _ = await world.answer("How long is a backup kept?")
    assert not done.found
    assert done.steps == ()


async def test_a_citation_of_a_pruned_passage_covers_what_the_model_was_given(world: World) -> None:
    world.generator = paid("Thirty days [1].")
    text = "The backup is kept for days. " * 200
    await world.add("long.md", text.strip(), start=0)
    world.changes = {"tok_in_max": 420}
    done, _ = await world.answer("backup kept days", top_k=1)
    (citation,) = done.citations
    assert citation.quote == text[citation.start : citation.end]
    assert 50 < citation.end < len(text) / 2
    assert world.generator.prompts[0].tokens <= 420


async def test_a_client_that_leaves_in_mid_stream_is_settled_with_an_estimate(world: World) -> None:
    generator = paid("one ", "two ", "three ", "four")
    world.generator = generator
    async with aclosing(
        answer(Ask(bu="legal", text="How long is a backup kept?"), world.env, world.plan, world.deps)
    ) as events:
        async for event in events:
            if isinstance(event, Token) and event.text == "two ":
                break
    (settled,) = world.settled
    call = settled.usage["calls"][1]
    assert call["estimated"]
    assert call["input_tokens"] == generator.prompts[0].tokens
    assert call["output_tokens"] == 2
    assert settled.cost_eur > 0
    assert generator.closed_streams == 1
    assert world.meter.total("rag_requests_total", outcome="left") == 1


async def test_a_cancelled_request_is_settled_and_stays_cancelled(world: World) -> None:
    world.generator = paid("one ", *["more "] * 1000, delay_s=0.01)
    world.ledger = MemoryLedger(delay_s=0.05)
    begun = asyncio.Event()

    async def consume() -> None:
        async with aclosing(
            answer(Ask(bu="legal", text="How long is a backup kept?"), world.env, world.plan, world.deps)
        ) as events:
            async for event in events:
                if isinstance(event, Token):
                    begun.set()

    task = asyncio.create_task(consume())
    await begun.wait()
    task.cancel()
    await asyncio.sleep(0.01)
    task.cancel()  # an impatient server cancels again, while the ledger is being written
    with pytest.raises(asyncio.CancelledError):
        await task
    (event,) = world.settled
    assert event.usage["calls"][1]["output_tokens"] >= 1


class Slow:
    """Takes its time to begin, to think and to close; what it was doing when it was left, it has done."""

    model, provider = "gpt-4o-mini", "openai"

    def __init__(self, *items: str | Usage) -> None:
        self.items = items
        self.waits = asyncio.Event()

    async def generate(self, _: Prompt, *, max_tokens: int) -> AsyncIterator[str | Usage]:
        try:
            for item in self.items:
                yield item
            self.waits.set()
            await asyncio.sleep(60)
            yield f"{max_tokens}"
        finally:
            await asyncio.sleep(0.02)

    async def close(self) -> None:
        """Nothing to close."""


async def left(world: World, waits: asyncio.Event) -> CostEvent:
    """A request that is cancelled while it waits, and its line."""
    task = asyncio.create_task(world.events("How long is a backup kept?"))
    await waits.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not world.safe.puts, "nothing is held any more"
    (event,) = world.settled
    return event


async def test_a_reader_who_is_cancelled_while_the_stream_closes_pays_all_the_same(world: World) -> None:
    world.generator = Slow("Thirty ", "days.")
    reads = asyncio.Event()

    async def read() -> None:
        ask = Ask(bu="legal", text="How long is a backup kept?")
        async with aclosing(answer(ask, world.env, world.plan, world.deps)) as events:
            async for event in events:
                if isinstance(event, Token):
                    reads.set()
                    await asyncio.sleep(60)

    task = asyncio.create_task(read())
    await reads.wait()
    task.cancel()
    await asyncio.sleep(0.01)
    task.cancel()  # the server shuts down, and the stream is still being closed
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not world.safe.puts
    (event,) = world.settled
    call = event.usage["calls"][-1]
    assert (call["model"], call["estimated"]) == ("gpt-4o-mini", True)
    assert call["input_tokens"] > 20
    assert call["output_tokens"] > 0


async def test_thoughts_nobody_saw_are_paid_for_where_the_reader_leaves(world: World) -> None:
    thought = Usage(
        model="gpt-4o-mini", provider="openai", input_tokens=300, output_tokens=900, reasoning_tokens=900, estimated=True
    )
    world.generator = model = Slow(thought)
    call = (await left(world, model.waits)).usage["calls"][-1]
    assert (call["input_tokens"], call["output_tokens"], call["reasoning_tokens"]) == (300, 900, 900)
    world.safe.stream.clear()
    world.generator = model = Slow(thought, "Thirty ", "days.")
    call = (await left(world, model.waits)).usage["calls"][-1]
    assert (call["input_tokens"], call["output_tokens"], call["estimated"]) == (300, 903, True)


async def test_what_was_written_without_a_space_is_not_one_token(world: World) -> None:
    world.generator = model = Slow("x" * 4000)
    assert (await left(world, model.waits)).usage["calls"][-1]["output_tokens"] == 1000


class Stuck:
    """A remote embedder and reranker that keeps everybody waiting."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.waits = error, asyncio.Event()

    async def __call__(self, *_: object) -> Any:
        self.waits.set()
        if self.error:
            raise self.error
        await asyncio.sleep(60)


def _late() -> Transient:
    error = Transient("did not answer in time")
    error.__cause__ = TimeoutError()
    return error


@pytest.mark.parametrize("part", ["embedder", "reranker"])
async def test_who_leaves_while_a_paid_model_works_has_had_it_work(
    world: World, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = Stuck()
    world.reranker = OverlapReranker()
    remote = (
        Embedding(model="remote", provider="openai", dimension=384)
        if part == "embedder"
        else Llm(model="remote", provider="openai")
    )
    world.changes = {part: remote, "rerank": True}
    monkeypatch.setattr(*((world.embedder, "embed", stuck) if part == "embedder" else (world.reranker, "rerank", stuck)))
    event = await left(world, stuck.waits)
    assert event.usage["calls"][-1]["provider"] == "openai"
    assert event.usage["calls"][-1]["input_tokens"] > 0
    assert event.estimated


async def test_a_paid_reranker_that_answers_too_late_is_paid(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.reranker = OverlapReranker()
    world.changes = {"reranker": Llm(model="remote", provider="openai"), "rerank": True}
    monkeypatch.setattr(world.reranker, "rerank", Stuck(_late()))
    answer, _ = await world.answer("How long is a backup kept?")
    assert [step.outcome for step in answer.steps if step.name == "rerank"] == ["skipped"]
    assert [usage.provider for usage in answer.receipt.usages].count("openai") == 1


async def test_a_model_that_fails_half_way_is_settled_and_the_failure_goes_on(world: World) -> None:
    world.generator = paid("one ", Permanent("the model sent garbage"))
    with pytest.raises(Permanent, match="garbage"):
        await world.events("How long is a backup kept?")
    (event,) = world.settled
    assert event.usage["calls"][1]["output_tokens"] == 1
    assert world.meter.total("rag_requests_total", outcome="failed") == 1


async def test_no_answer_is_acknowledged_that_the_ledger_does_not_hold(world: World) -> None:
    world.away = "connection refused"
    world.ledger = MemoryLedger(error=Transient("the ledger is away"))
    events = answer(Ask(bu="legal", text="How long is a backup kept?"), world.env, world.plan, world.deps)
    assert isinstance(await anext(events), Passages)
    assert isinstance(await anext(events), Token)
    with pytest.raises(Transient, match="ledger is away"):
        await anext(events)


async def test_a_ledger_that_fails_does_not_hide_why_the_model_did(world: World) -> None:
    world.generator = paid("one ", Permanent("garbage"))
    world.away = "connection refused"
    world.ledger = MemoryLedger(error=Transient("the ledger is away"))
    with pytest.raises(Permanent) as caught:
        await world.events("How long is a backup kept?")
    assert any("ledger is away" in note for note in caught.value.__notes__)


async def test_a_reranker_decides_the_order(world: World) -> None:
    await world.add("other.md", "Backups: how long, kept where, by whom? The database backup is kept.")
    world.reranker = OverlapReranker()
    world.changes = {"rerank": True}
    events = await world.events("How long is the database backup kept on a second site?")
    assert isinstance(events[0], Passages)
    assert [hit.document for hit in events[0].hits][:2] == ["backup.md", "other.md"]
    assert [hit.score for hit in events[0].hits] == sorted((hit.score for hit in events[0].hits), reverse=True)
    assert isinstance(events[-1], Done)
    assert [usage.model for usage in events[-1].answer.receipt.usages] == ["all-MiniLM-L6-v2", "overlap"]


async def test_a_reranker_that_fails_is_skipped_and_the_answer_says_why(world: World) -> None:
    world.reranker = OverlapReranker(error=Transient("the reranker is overloaded: http://10.1.2.3/v1"))
    world.changes = {"rerank": True}
    done, _ = await world.answer("How long is the backup of the database kept?")
    assert done.found
    assert [(step.name, step.outcome, step.reason) for step in done.steps] == [
        ("rerank", "skipped", "the reranker is overloaded")
    ]
    assert "overlap" not in {usage.model for usage in done.receipt.usages}


async def test_a_prompt_version_that_does_not_exist_is_named(world: World) -> None:
    world.generator = paid("x")
    with pytest.raises(ContractError, match="v99") as caught:
        await world.events("How long is a backup kept?", prompt="v99")
    assert "v1" in caught.value.remedy


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"text": "  \n"}, "empty"),
        ({"text": "a\0b"}, "NUL character at position 1"),
        ({"text": "x" * 5000}, "5,000 characters"),
        ({"text": "backup", "top_k": 0}, "top_k is 0"),
        ({"text": "backup", "top_k": 201}, "from 1 to 200"),
        ({"text": "backup", "collection": "a\0"}, "NUL"),
        ({"text": "backup", "collection": " "}, "empty"),
        ({"text": "backup", "collection": "c" * 201}, "201 characters"),
        ({"text": "backup", "metadata": {"a": [1]}}, "'a' is a list"),
        ({"text": "backup", "metadata": {"a": "\ud800"}}, "surrogate"),
        ({"text": "backup", "metadata": {str(n): n for n in range(21)}}, "21 metadata filters"),
    ],
)
async def test_bad_input_is_refused_before_anything_is_spent(world: World, fields: dict[str, object], said: str) -> None:
    with pytest.raises(Invalid, match=said):
        await world.events(**fields)  # type: ignore[arg-type]
    assert world.embedder.embedded == []
    assert world.settled == []
    assert world.meter.total("rag_requests_total", kind="ask", outcome="refused") == 1


async def test_an_unknown_collection_is_answered_with_those_that_exist(world: World) -> None:
    with pytest.raises(NotFound, match="'nope'") as caught:
        await world.events("How long is a backup kept?", collection="nope")
    assert "'default'" in caught.value.remedy


async def test_an_empty_index_says_how_to_fill_it(world: World) -> None:
    with pytest.raises(NotFound, match="'nobody' has no documents") as caught:
        await world.events("How long is a backup kept?", bu="nobody")
    assert "pilotis ingest" in caught.value.remedy


async def test_a_known_collection_without_a_match_is_no_error(world: World) -> None:
    done, _ = await world.answer("How long is a backup kept?", metadata={"year": 1999})
    assert not done.found
