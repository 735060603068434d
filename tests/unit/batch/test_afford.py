"""Budgets and quotas of the embed queue: nothing is spent that is not there, and what rests goes on by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from pilotis.batch.embed import embed_waiting
from pilotis.batch.ingest import parse_waiting
from pilotis.derive.budget import Budget, Budgets
from pilotis.derive.plan import Env
from pilotis.errors import Permanent, Transient
from pilotis.testing.backlog import MemoryPace
from pilotis.testing.money import MemoryMoney

if TYPE_CHECKING:
    from unit.batch.conftest import Town

MODEL = "text-embedding-3-small"


def paid(env: Env, **changes: Any) -> Env:
    """The env with an embedder that costs: 0.02 USD for a million tokens."""
    return replace(env, embedder=replace(env.embedder, model=MODEL, provider="openai", **changes))


def limited(town: Town, budgets: Budgets) -> Town:
    env = replace(town.env, budgets=budgets)
    money = MemoryMoney(env)
    return replace(town, env=env, money=money, deps=replace(town.deps, admission=money, cache=money, outbox=money))


async def test_a_business_unit_whose_budget_is_spent_waits_and_the_other_goes_on(town: Town) -> None:
    town = limited(town, Budgets(bus={"north": Budget(hour_eur=Decimal("0.000001"))}))
    poor = [(await town.send(f"{n}.md", f"mile {n} " + "word " * 400))[0] for n in range(3)]
    rich, _ = await town.send("rich.md", bu="south")
    await parse_waiting(town.env, town.deps)
    assert await embed_waiting(town.plan, paid(town.env), town.deps) is False
    assert await town.state(rich) == ("indexed", None)
    for document in poor:
        state, error = await town.state(document)
        assert state == "embedding"
        assert error
        assert "'north'" in error
        assert "goes on by itself" in error
    (pause,) = await town.deps.backlog.pauses()
    assert (pause.queue, pause.bu) == ("embed", "north")
    assert 0 < (pause.until - datetime.now(UTC)).total_seconds() <= 600
    assert not town.money.own, "money is still held"

    raised = limited(town, Budgets(bus={"north": Budget(hour_eur=Decimal(1))}))
    await town.deps.backlog.resume("embed", "north")
    await embed_waiting(town.plan, paid(raised.env), raised.deps)
    assert [await town.state(document) for document in poor] == [("indexed", None)] * 3


async def test_the_budget_of_the_batch_plane_stops_everybody(town: Town) -> None:
    town = limited(town, Budgets(planes={"batch": Budget(day_eur=Decimal("0.000001"))}))
    for bu in ("north", "south"):
        await town.send(bu=bu, text="word " * 400)
    await parse_waiting(town.env, town.deps)
    await embed_waiting(town.plan, paid(town.env), town.deps)
    (pause,) = await town.deps.backlog.pauses()
    assert (pause.queue, pause.bu) == ("embed", "*")
    assert [one.reason is not None for one in await town.deps.backlog.waiting()] == [True, True]


async def test_what_fails_is_not_paid_and_nothing_stays_held(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(texts: Sequence[str]) -> Any:
        raise Transient("nobody listens", retry_after_s=7)

    monkeypatch.setattr(town.embedder, "embed", away)
    await town.send()
    await parse_waiting(town.env, town.deps)
    with pytest.raises(Transient, match="nobody listens"):
        await embed_waiting(town.plan, paid(town.env), town.deps)
    assert not town.money.own
    assert not town.money.settled
    assert isinstance(town.deps.pace, MemoryPace)
    assert MODEL in town.deps.pace.resting


async def test_a_batch_that_breaks_off_is_halved_and_what_came_is_kept(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    embed, sizes = town.embedder.embed, list[int]()

    async def small_only(texts: Sequence[str]) -> Any:
        sizes.append(len(texts))
        if len(texts) > 2:
            raise Transient("too much at once", retry_after_s=0)
        return await embed(texts)

    monkeypatch.setattr(town.embedder, "embed", small_only)
    sent = [(await town.send(f"{n}.md", f"# Mile {n}\n\nThe bridge at mile {n}."))[0] for n in range(4)]
    await parse_waiting(town.env, town.deps)
    with pytest.raises(Transient):
        await embed_waiting(town.plan, town.env, town.deps)
    assert sizes == [4, 2]
    await asyncio.sleep(0.01)
    await embed_waiting(town.plan, town.env, town.deps)
    assert [await town.state(document) for document in sent] == [("indexed", None)] * 4


async def test_one_passage_that_is_refused_costs_a_handful_of_calls(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    embed, calls = town.embedder.embed, 0

    async def picky(texts: Sequence[str]) -> Any:
        nonlocal calls
        calls += 1
        if any("forbidden" in text for text in texts):
            raise Permanent("refused")
        return await embed(texts)

    monkeypatch.setattr(town.embedder, "embed", picky)
    good = [(await town.send(f"{n}.md", f"# Mile {n}\n\nThe bridge at mile {n}."))[0] for n in range(31)]
    bad, _ = await town.send("bad.md", "a forbidden word")
    await parse_waiting(town.env, town.deps)
    await embed_waiting(town.plan, town.env, town.deps)
    assert {await town.state(document) for document in good} == {("indexed", None)}
    assert (await town.state(bad))[0] == "failed"
    assert calls <= 1 + 2 * 5


async def test_a_provider_that_rests_is_not_asked(town: Town) -> None:
    await town.send()
    await parse_waiting(town.env, town.deps)
    await town.deps.pace.rest(MODEL, 60)
    with pytest.raises(Transient, match="as often as its provider allows"):
        await embed_waiting(town.plan, paid(town.env), town.deps)
    (waits,) = await town.documents.find("north")
    assert waits.error == f"{MODEL} is asked as often as its provider allows"
