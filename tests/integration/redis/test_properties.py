"""Rates against another form of their definition, and business units that never see one another."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, cast

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pilotis.adapters.redis import RedisMoney
from pilotis.adapters.redis.till import microseconds
from pilotis.contract import load
from pilotis.derive import plan
from pilotis.derive.budget import Budgets, Rate, Rates
from pilotis.errors import Limited
from pilotis.ports import CostEvent, Kept, Request

if TYPE_CHECKING:
    from integration.redis.conftest import Server

ENV = replace(plan.derive(load.default()).env("dev"), budgets=Budgets(), rates=Rates())
SETTINGS = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


@dataclass
class Bucket:
    """ITU-T I.371, annex A: the leaky bucket in continuous state, which decides as the virtual schedule does. In microseconds."""

    interval: int
    burst: int
    level: float = 0.0
    last: int = 0

    def takes(self, now: int, weight: float) -> bool:
        drained = max(0.0, self.level - (now - self.last))
        poured = -(-min(weight, self.burst) * self.interval // 1)
        if drained + poured > self.burst * self.interval:
            return False
        self.level, self.last = drained + poured, now
        return True


@SETTINGS
@given(
    burst=st.integers(1, 5),
    steps=st.lists(st.tuples(st.integers(0, 3_000), st.sampled_from([1.0, 1.0, 0.5, 2.5, 7.0])), min_size=1, max_size=30),
)
def test_a_rate_is_what_the_recommendation_says(shared: Server, burst: int, steps: list[tuple[int, float]]) -> None:
    async def run() -> None:
        shared.flush()
        rate = Rate(per_s=Decimal("0.001"), burst=burst)
        money = RedisMoney(shared.url, env=replace(ENV, rates=Rates(env=rate)), namespace="n", instance="p")
        await money.outbox.lead("p", ttl_s=5)
        assert await money.outbox.seed([], epoch="e", instance="p")
        model = Bucket(1_000_000_000, burst)
        try:
            for n, (seconds, weight) in enumerate(steps):
                money._till.offset_us += seconds * 1_000_000
                now, passed, wait_s = await ask(money, f"r{n}", weight)
                assert passed == model.takes(now, weight)
                if not passed:
                    assert not replace(model).takes(now + int(wait_s * 1e6) - 10, weight)
                    assert replace(model).takes(now + int(wait_s * 1e6) + 10, weight)
        finally:
            await money.close()

    asyncio.run(run())


async def ask(money: RedisMoney, name: str, weight: float) -> tuple[int, bool, float]:
    """Redis' time in microseconds, whether it was admitted, how long it has to wait."""
    try:
        admitted = await money.admission.admit(Request(id=name, plane="online", bu="b", ceilings=(0,), weight=weight))
    except Limited as refused:
        resets_at = cast("datetime", refused.resets_at)
        return microseconds(resets_at) - round(refused.retry_after_s * 1e6), False, refused.retry_after_s
    return microseconds(admitted.hold.at), True, 0.0


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12) | st.sampled_from(
    ["a", "a:", "a:b", "a:*", "*", "?", "{a}", "a}", "a|b", "a\x00", "é", "é", "", "env", "answer:a", "[a]"]
)


@SETTINGS
@given(owner=NAMES, other=NAMES, key=st.sampled_from(["k", "a:k", "*"]))
def test_a_business_unit_never_sees_what_another_has(shared: Server, owner: str, other: str, key: str) -> None:
    async def run() -> None:
        money = RedisMoney(shared.url, env=ENV, namespace="n", instance="p")
        try:
            shared.flush()
            await money.outbox.lead("p", ttl_s=5)
            assert await money.outbox.seed([], epoch="e", instance="p")
            await store(money, owner, key)
            hit = await money.admission.admit(
                Request(
                    id="r2", plane="online", bu=other, ceilings=(5,), answer_keys=(key,), passages_keys=(key,), streamed=True
                )
            )
            peeked, flying = await money.cache.peek(other, key, streamed=True)
            stats = await money.cache.stats(other)
            spent = {one.scope: one.spent for one in await money.outbox.spending()}
            if owner == other:
                assert hit.answer
                assert peeked
                assert spent[f"bu:{owner}"] == 5
                return
            assert (hit.answer, hit.passages, hit.flight) == (None, None, "own")
            assert peeked is None
            assert flying  # its own
            assert (stats.answers, stats.passages, stats.hits, stats.bytes) == (0, 0, 0, 0)
            assert stats.saved_eur == 0
            assert spent[f"bu:{other}"] == 0
            assert await money.cache.forget(other, ["d"]) == 0
            assert await money.cache.clear(other) == 0
            assert (await money.cache.peek(owner, key))[0]
        finally:
            await money.close()

    asyncio.run(run())


async def store(money: RedisMoney, bu: str, key: str) -> None:
    hold = (await money.admission.admit(Request(id="r1", plane="online", bu=bu, ceilings=(5,)))).hold
    event = CostEvent(
        id="r1",
        at=hold.at,
        env="dev",
        plane="online",
        bu=bu,
        kind="answer",
        subject="r1",
        model="m",
        usage={},
        cost_eur=Decimal("0.000005"),
        price_book="b",
        fx=None,
        priced=True,
    )
    keep = Kept(answer_key=key, record=b"r", shown=b"s", passages_key=key, passages=b"p", ttl_s=60, documents=("d", "*"))
    await money.admission.settle(hold, event, keep)
