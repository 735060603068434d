from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

import pytest

from pilotis.derive.budget import Budget, Budgets, Rate, Rates
from pilotis.derive.cost import Usage
from pilotis.derive.plan import Llm
from pilotis.errors import Limited, Permanent, SetupError, Transient
from pilotis.online.answer import Ask, Done, Passages, Token, answer
from pilotis.testing.online import OverlapReranker, ScriptedGenerator

if TYPE_CHECKING:
    from unit.online.conftest import World

    from pilotis.ports import Deps

QUESTION = "How long is the backup of the database kept?"
PAID = Usage(model="gpt-4o-mini", provider="openai", input_tokens=1000, output_tokens=100)


def paid(*pieces: str | BaseException, model: str = "gpt-4o-mini", delay_s: float = 0.0) -> ScriptedGenerator:
    usage = replace(PAID, model=model)
    return ScriptedGenerator(*pieces, usage=usage, delay_s=delay_s, model=model, provider="openai")


def writer(world: World) -> ScriptedGenerator:
    made = paid("Thirty days [1].")
    world.generator = made
    return made


async def test_the_same_question_is_paid_for_once_and_says_what_it_saved(world: World) -> None:
    model = writer(world)
    first, _ = await world.answer(QUESTION)
    (again,) = await world.events("how long is the backup  of the database kept")
    assert isinstance(again, Done)
    assert len(model.prompts) == 1
    assert (first.cache, again.answer.cache) == ("miss", "hit")
    assert again.answer.text == first.text
    assert again.answer.citations == first.citations
    assert again.answer.receipt.cost_eur == 0
    assert again.answer.receipt.saved_eur == first.receipt.cost_eur > 0
    assert again.answer.id == first.id, "it is the same answer, with one line in the ledger"
    assert world.meter.total("rag_cost_saved_eur_total", bu="legal") == pytest.approx(float(first.receipt.cost_eur))
    assert len(world.settled) == 1


async def test_a_cached_answer_is_streamed_as_it_was(world: World) -> None:
    writer(world)
    first = await world.events(QUESTION, streamed=True)
    again = await world.events(QUESTION, streamed=True)
    assert isinstance(first[0], Passages)
    assert again[0] == first[0]
    assert isinstance(again[-1], Done)
    assert "".join(event.text for event in again if isinstance(event, Token)) == again[-1].answer.text


async def test_another_business_unit_pays_for_its_own_answer(world: World) -> None:
    model = writer(world)
    await world.add("backup.md", "Backups of finance: the database is kept for a week.", bu="finance")
    await world.answer(QUESTION)
    await world.answer(QUESTION, bu="finance")
    assert len(model.prompts) == 2


async def test_many_who_ask_the_same_at_once_pay_once(world: World) -> None:
    world.generator = model = paid("Thirty days [1].", delay_s=0.02)
    answers = await asyncio.gather(*(world.events(QUESTION) for _ in range(20)))
    assert len(model.prompts) == 1
    assert len(world.settled) == 1
    texts = {events[-1].answer.text for events in answers if isinstance(events[-1], Done)}
    assert texts == {"Thirty days [1]."}


async def test_where_the_one_who_writes_fails_the_next_one_does(world: World) -> None:
    world.generator = model = paid(Permanent("garbage"), delay_s=0.01)
    ended = await asyncio.gather(*(world.events(QUESTION) for _ in range(3)), return_exceptions=True)
    assert [type(one) for one in ended] == [Permanent] * 3
    assert len(model.prompts) == 3


async def test_what_no_budget_has_room_for_is_refused_before_anything_is_spent(world: World) -> None:
    model = writer(world)
    world.changes = {"budgets": Budgets(bu=Budget(day_eur=Decimal("0.0000001")))}
    with pytest.raises(Limited) as caught:
        await world.events(QUESTION)
    refusal = caught.value
    assert (refusal.status, refusal.code, refusal.scope, refusal.window) == (402, "budget_exceeded", "bu:legal", "day")
    assert model.prompts == []
    assert world.embedder.embedded == []
    assert world.meter.total("rag_requests_total", outcome="refused") == 1


async def test_an_extractive_answer_needs_no_budget(world: World) -> None:
    world.changes = {"budgets": Budgets(env=Budget(hour_eur=Decimal(0)))}
    done, _ = await world.answer(QUESTION)
    assert done.found


async def test_a_rate_refuses_the_next_one_and_says_when_to_come_back(world: World) -> None:
    world.changes = {"rates": Rates(ip=Rate(per_s=Decimal("0.1"), burst=2))}
    for _ in range(2):
        await world.events(QUESTION, ip="10.0.0.1")
    with pytest.raises(Limited, match="this address") as caught:
        await world.events(QUESTION, ip="10.0.0.1")
    assert caught.value.status == 429
    assert 0 < caught.value.retry_after_s <= 10
    await world.events(QUESTION, ip="10.0.0.2")


async def test_the_ladder_bends_step_by_step_and_each_answer_says_so(world: World) -> None:
    compact = paid("Thirty [1].", model="gpt-4.1-nano")
    model = writer(world)
    world.others = (compact,)
    world.reranker = OverlapReranker()
    world.changes = {
        "rerank": True,
        "cache_ttl_s": 60,
        "compact": Llm(model="gpt-4.1-nano", provider="openai"),
        "compact_top_k": 2,
        "top_k": 3,
    }
    served = []
    for level in range(4):
        world.safe.levels = {"bu:legal": level}
        done, _ = await world.answer(f"{QUESTION} {level}")
        served.append((done.step, done.model, [usage.model for usage in done.receipt.usages]))
        assert [step.name for step in done.steps] == ([] if level == 0 else ["guardrail"])
    assert served == [
        ("full", "gpt-4o-mini", ["all-MiniLM-L6-v2", "overlap", "gpt-4o-mini"]),
        ("no_rerank", "gpt-4o-mini", ["all-MiniLM-L6-v2", "gpt-4o-mini"]),
        ("smaller_top_k", "gpt-4o-mini", ["all-MiniLM-L6-v2", "gpt-4o-mini"]),
        ("compact_model", "gpt-4.1-nano", ["all-MiniLM-L6-v2", "gpt-4.1-nano"]),
    ]
    assert [event.step for event in world.settled] == ["full", "no_rerank", "smaller_top_k", "compact_model"]

    world.safe.levels = {"env": 4}
    (hit,) = await world.events(f"{QUESTION} 0")
    assert isinstance(hit, Done)
    assert (hit.answer.cache, hit.answer.step) == ("hit", "full")
    with pytest.raises(Limited, match="only what was answered before") as caught:
        await world.events(f"{QUESTION} 9")
    assert (caught.value.status, caught.value.code) == (503, "guardrail")
    world.safe.levels = {"env": 5}
    with pytest.raises(Limited, match="no question is answered"):
        await world.events(f"{QUESTION} 0")
    assert len(model.prompts) == 3


async def test_a_caller_s_own_top_k_gives_way_to_the_ladder(world: World) -> None:
    world.changes = {"compact_top_k": 2, "top_k": 3, "phrases": False}
    await world.answer(QUESTION, top_k=50)
    world.safe.levels = {"env": 1}
    await world.answer(f"{QUESTION} again", top_k=50)
    await world.answer(f"{QUESTION} once more", top_k=1)
    assert [query.top_k for query in world.passages.queries] == [50, 2, 1]


async def test_without_redis_what_costs_nothing_is_served_and_booked(world: World) -> None:
    world.away = "connection refused"
    done, _ = await world.answer(QUESTION)
    assert done.cache == "off"
    assert list(world.ledger.rows) == [done.id]
    assert world.ledger.not_counted == {done.id}


async def test_without_redis_what_a_budget_limits_is_refused_or_served_as_the_contract_says(world: World) -> None:
    model = writer(world)
    world.away = "connection refused"
    world.changes = {"budgets": Budgets(env=Budget(month_eur=Decimal(100)))}
    with pytest.raises(Transient, match="connection refused"):
        await world.events(QUESTION)
    assert model.prompts == []
    world.changes = {**world.changes, "on_meter_down": "serve"}
    done, _ = await world.answer(QUESTION)
    assert list(world.ledger.rows) == [done.id]


@pytest.mark.parametrize(("level", "step"), [(1, "smaller_top_k"), (2, "compact_model"), (3, "cache_only"), (4, "refuse")])
async def test_without_redis_the_guardrail_stays_where_it_was(world: World, level: int, step: str) -> None:
    model, small = writer(world), paid("Thirty days [1].", model="small")
    world.others = (small,)
    ladder = ("smaller_top_k", "compact_model", "cache_only", "refuse")
    small_one = Llm(model="small", provider="openai")
    world.changes = {"ladder": ladder, "top_k": 9, "compact_top_k": 2, "compact": small_one, "phrases": False}
    world.safe.levels = {"env": 1, "bu:legal": level}
    world.away = "connection refused"
    if level > 2:
        with pytest.raises(Limited) as refused:
            await world.events(QUESTION)
        assert (refused.value.code, refused.value.limit, refused.value.scope) == ("guardrail", step, "bu:legal")
        assert not model.prompts
        return
    done, _ = await world.answer(QUESTION)
    assert done.step == step
    assert len(small.prompts) == level - 1
    assert world.passages.queries[-1].top_k == 2
    assert [event.step for event in world.ledger.rows.values()] == [step]


async def test_redis_that_goes_away_under_way_loses_no_cost(world: World) -> None:
    writer(world)
    deps = world.deps
    events = answer(Ask(bu="legal", text=QUESTION), world.env, world.plan, deps)
    await anext(events)
    deps.admission.away = "it was killed"  # type: ignore[attr-defined]
    last = [event async for event in events][-1]
    assert isinstance(last, Done)
    assert world.ledger.not_counted == {last.answer.id}


async def test_a_model_without_a_price_is_refused_where_the_contract_blocks_it(world: World) -> None:
    world.generator = paid("x", model="nobody-knows")
    world.changes = {"on_unknown_price": "block"}
    with pytest.raises(SetupError, match="no price is known for nobody-knows") as caught:
        await world.events(QUESTION)
    assert "costs.prices" in caught.value.remedy


async def test_the_fallback_writes_where_the_model_cannot_be_reached(world: World) -> None:
    world.generator = paid(Transient("gpt-4o-mini is overloaded (429): http://10.0.0.1"))
    world.others = (paid("Thirty days [1].", model="gpt-4.1-nano"),)
    world.changes = {"fallback": Llm(model="gpt-4.1-nano", provider="openai")}
    done, streamed = await world.answer(QUESTION)
    assert (done.model, streamed) == ("gpt-4.1-nano", "Thirty days [1].")
    assert [(step.name, step.outcome, step.reason) for step in done.steps] == [
        ("generate", "fallback", "gpt-4o-mini is overloaded (429)")
    ]
    assert world.safe.answers == {}, "the model itself would answer better"


async def test_the_fallback_does_not_go_on_where_somebody_has_read_the_beginning(world: World) -> None:
    world.generator = paid("Thirty ", Transient("broke off"))
    other = paid("x", model="gpt-4.1-nano")
    world.others = (other,)
    world.changes = {"fallback": Llm(model="gpt-4.1-nano", provider="openai")}
    with pytest.raises(Transient, match="broke off"):
        await world.events(QUESTION)
    assert other.prompts == []


async def test_whoever_leaves_before_anything_was_spent_holds_nothing(world: World) -> None:
    writer(world)
    deps = world.deps
    with pytest.raises(Permanent):
        async for _ in answer(Ask(bu="legal", text=QUESTION), world.env, world.plan, _failing_search(deps)):
            pass
    assert world.safe.puts == {}
    assert world.safe.flights == {}


def _failing_search(deps: Deps) -> Deps:
    class Nothing:
        generation = "memory"

        async def search(self, query: object) -> object:
            raise Permanent("the index is broken")

    return replace(deps, passages=cast("Any", Nothing()))
