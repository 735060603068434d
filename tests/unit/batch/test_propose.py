"""Drafts from the index: by a model, whose costs are held and booked, or without one."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any, cast

import pytest

from pilotis.batch.opinions import candidates
from pilotis.batch.propose import propose
from pilotis.contract.presets import default
from pilotis.derive.cost import Usage
from pilotis.derive.plan import Env, Llm, derive
from pilotis.errors import Transient
from pilotis.ports import CostEvent, Deps, Hit
from pilotis.ports.quality import Opinion
from pilotis.rag.golden import parse
from pilotis.testing.ledger import MemoryLedger
from pilotis.testing.money import MemoryMoney
from pilotis.testing.online import Entry, HashingEmbedder, MemoryPassages, ScriptedGenerator
from pilotis.testing.quality import MemoryEvaluations

PLAN = derive(default())
TEXT = "Create the new key first, move the callers to it, and then revoke the old one at once, says the handbook."


async def index(*names: str) -> MemoryPassages:
    passages = MemoryPassages()
    vectors = await HashingEmbedder().embed([TEXT])
    for name in names:
        hit = Hit(
            passage_id=f"p-{name}", document_id=name, document=f"{name}.md", collection="c", title="Keys", headings=(name,), page=None,
            start=0, end=9, language="en", text=f"{TEXT} {name}.", score=0, dense=0, lexical=0,
        )  # fmt: skip
        passages.entries.append(Entry(bu="sales", hit=hit, vector=vectors[0]))
    return passages


async def world(writer: ScriptedGenerator | None) -> tuple[Env, Deps, MemoryMoney]:
    env = PLAN.env("dev")
    if writer is not None:
        env = replace(env, llm=Llm(model=writer.model, provider=writer.provider), on_unknown_price="serve")
    money = MemoryMoney(env)
    given = dict.fromkeys(Deps.__dataclass_fields__, cast("Any", None)) | {
        "generators": {writer.model: writer} if writer else {},
        "evaluations": MemoryEvaluations(passages=await index("one", "two", "three")),
        "admission": money,
        "ledger": MemoryLedger(),
        "instance": "test",
    }
    return env, Deps(**given), money


def settled(money: MemoryMoney) -> list[CostEvent]:
    return [event for _, event in money.safe.stream]


async def test_without_a_model_headings_make_them() -> None:
    env, deps, money = await world(None)
    drafts, cost_eur = await propose(env, PLAN, deps, bu="sales", collection=None, limit=2)
    assert len(drafts) == 2
    assert cost_eur == 0
    assert settled(money) == []
    assert await propose(env, PLAN, deps, bu="legal", collection=None, limit=2) == ([], Decimal(0))


async def test_a_model_writes_them_and_is_paid() -> None:
    writer = ScriptedGenerator(
        reply=lambda asked: [f"QUESTION: Which key is {asked.user.split('Keys > ')[1].split()[0]}?\nANSWER: the new key"],
        usage=Usage(model="gpt-5-mini", provider="openai", input_tokens=1000, output_tokens=100),
        model="gpt-5-mini",
        provider="openai",
    )
    env, deps, money = await world(writer)
    drafts, cost_eur = await propose(env, PLAN, deps, bu="sales", collection="c", limit=2)
    assert sorted(question.text for question, _ in drafts) == ["Which key is one?", "Which key is three?"]
    assert {question.answers for question, _ in drafts} == {("the new key",)}
    events = settled(money)
    assert [(event.plane, event.kind, event.bu) for event in events] == [("batch", "eval", "sales")] * 2
    assert sum((event.cost_eur for event in events), Decimal(0)) == cost_eur > 0
    assert not money.safe.puts


async def test_a_reply_that_is_no_question_is_passed_over() -> None:
    told: list[tuple[int, int]] = []
    env, deps, _ = await world(ScriptedGenerator("I would rather not."))
    drafts, _ = await propose(env, PLAN, deps, bu="sales", collection=None, limit=1, progress=lambda *now: told.append(now))
    assert drafts == []
    assert told == [(0, 1), (0, 2), (0, 3)]


async def test_what_a_failing_model_has_read_is_booked() -> None:
    env, deps, money = await world(ScriptedGenerator("QUES", Transient("away"), model="gpt-5-mini", provider="openai"))
    with pytest.raises(Transient, match="away"):
        await propose(env, PLAN, deps, bu="sales", collection=None, limit=1)
    (event,) = settled(money)
    assert event.estimated
    assert event.cost_eur > 0


def opinion(**fields: Any) -> Opinion:
    from datetime import UTC, datetime

    given: dict[str, Any] = {
        "answer_id": "a", "bu": "b", "key": "k", "at": datetime(2026, 1, 1, tzinfo=UTC), "vote": "down", "passage_id": "p",
        "document": "keys.md", "question": "How do I rotate?", "excerpt": TEXT, "comment": "wrong page",
    }  # fmt: skip
    return Opinion(**(given | fields))


def test_votes_with_the_right_passage_become_candidates() -> None:
    lines = candidates(
        [
            opinion(),
            opinion(answer_id="b", question="how do I  ROTATE?", excerpt="older"),
            opinion(answer_id="c", question=None),
            opinion(answer_id="d", question="And this?", passage_id=None),
            opinion(answer_id="e", question="Gone?", excerpt=None),
            opinion(answer_id="f", question="Long?", excerpt="word " * 200),
        ]
    )
    found = parse("\n".join(lines).replace('"accepted": false', '"accepted": true'), name="g").questions
    assert [one.text for one in found] == ["How do I rotate?", "Gone?", "Long?"]
    assert found[0].expected[0].quote == TEXT
    assert found[1].expected[0].quote is None
    assert len(found[2].expected[0].quote or "") < 300
    assert "wrong page" in lines[0]
    assert all('"draft": true' in line for line in lines)
