"""Admission, caches and the outbox: the same expectations of the fake and of Redis."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, cast

import pytest

from pilotis.adapters.redis import RedisMoney
from pilotis.contract import load
from pilotis.derive import plan
from pilotis.derive.budget import Budget, Budgets, Rate, Rates, spans
from pilotis.derive.plan import Env, Llm
from pilotis.errors import Limited, Transient
from pilotis.ports import Admitted, CostEvent, Hold, Kept, Request, Spending
from pilotis.testing.money import MemoryMoney, Safe

ENV = replace(
    plan.derive(load.default()).env("dev"),
    budgets=Budgets(),
    rates=Rates(),
    rerank=False,
    top_k=20,
    compact_top_k=5,
    compact=Llm(model="small", provider="openai"),
    ladder=("smaller_top_k", "compact_model", "cache_only", "refuse"),
)
"""Five rungs: full, smaller_top_k, compact_model, cache_only, refuse."""
DEAR = (21_000, 20_000, 5_000, 5_000, 5_000)
KEYS = ("a0", "a1", "a2", "a3", "a4")
FOUND = ("p0", "p1", "p2", "p3", "p4")


@dataclass
class World:
    """A store, its processes, and a clock that can be moved."""

    kind: str
    url: str | None
    env: Env = ENV
    namespace: str = field(default_factory=lambda: f"test {{}}*:{uuid.uuid4().hex}")
    safe: Safe = field(default_factory=lambda: Safe(epoch=None))
    ahead: timedelta = timedelta(0)
    opened: list[Any] = field(default_factory=list)
    epochs: int = 0

    def process(self, env: Env | None = None, instance: str | None = None) -> RedisMoney:
        """One more process; both kinds are used in the same way."""
        name, env = instance or f"p{len(self.opened)}", env or self.env
        made: Any = (
            MemoryMoney(env, instance=name, safe=self.safe, clock=lambda: datetime.now(UTC) + self.ahead)
            if self.url is None
            else RedisMoney(self.url, env=env, namespace=self.namespace, instance=name, offset_us=self._offset_us)
        )
        self.opened.append(made)
        return cast("RedisMoney", made)

    async def start(self, env: Env | None = None, *, spent: tuple[Spending, ...] = ()) -> RedisMoney:
        """A process for which the counters were made."""
        money = self.process(env)
        await self.seed(money, *spent)
        return money

    async def seed(self, money: RedisMoney, *spent: Spending) -> None:
        self.epochs += 1
        await money.outbox.rejoin()
        assert await money.outbox.lead("leader", ttl_s=5)
        assert await money.outbox.seed(spent, epoch=f"e{self.epochs}", instance="leader")

    def advance(self, seconds: float) -> None:
        self.ahead += timedelta(seconds=seconds)
        for money in self.opened:
            if isinstance(money, RedisMoney):
                money._till.offset_us = self._offset_us

    @property
    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    @property
    def _offset_us(self) -> int:
        return int(self.ahead.total_seconds() * 1e6)


@pytest.fixture(params=["memory", "redis"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    url = request.getfixturevalue("stack").redis_url if request.param == "redis" else None
    made = World(request.param, url)
    if datetime.now(UTC).minute >= 57:  # a test must not see the hour end unless it means to
        made.ahead = timedelta(minutes=5)
    yield made
    for money in made.opened:
        await money.close()


def asks(name: str = "r1", ceilings: tuple[int, ...] = DEAR, **fields: Any) -> Request:
    return Request(**({"id": name, "plane": "online", "bu": "legal", "ceilings": ceilings} | fields))


def cost(hold: Hold, micro: int | Decimal = 16_500, **fields: Any) -> CostEvent:
    given: dict[str, Any] = {
        "id": hold.id, "at": hold.at, "env": "dev", "plane": hold.plane, "bu": hold.bu, "kind": "answer", "subject": hold.id,
        "model": "m", "usage": {"calls": [{"model": "m", "input_tokens": 3}]}, "cost_eur": Decimal(micro) / 1_000_000,
        "price_book": "b", "fx": {"usd_per_eur": "1.1"}, "priced": True, "key": hold.key, "instance": "p0",
    }  # fmt: skip
    return CostEvent(**(given | fields))


def kept(**fields: Any) -> Kept:
    given: dict[str, Any] = {
        "answer_key": "a0", "record": b"\x00record\xff", "shown": b"shown", "passages_key": "p0", "passages": b"passages",
        "ttl_s": 60, "documents": ("d1", "d2"),
    }  # fmt: skip
    return Kept(**(given | fields))


async def sums(money: RedisMoney) -> dict[tuple[str, str], tuple[int, int]]:
    """Spent and held by scope and window, where there is any."""
    found = await money.outbox.spending()
    return {(one.scope, one.span.window): (one.spent, one.held) for one in found if one.spent or one.held}


async def refusal(money: RedisMoney, request: Request) -> Limited:
    with pytest.raises(Limited) as raised:
        await money.admission.admit(request)
    return raised.value


def all_windows(*scopes: str, spent: int = 0, held: int = 0) -> dict[tuple[str, str], tuple[int, int]]:
    return {(scope, window): (spent, held) for scope in scopes for window in ("hour", "day", "month")}


SCOPES = ("env", "plane:online", "bu:legal", "key:k1")


async def test_a_hold_is_replaced_by_the_cost_in_every_scope_and_window(world: World) -> None:
    money = await world.start()
    admitted = await money.admission.admit(asks(key="k1"))

    hold = admitted.hold
    assert (hold.id, hold.micro, hold.plane, hold.bu, hold.key) == ("r1", 21_000, "online", "legal", "k1")
    assert abs(hold.at - world.now) < timedelta(seconds=2)
    assert hold.spans == spans(hold.at, ENV.timezone)
    assert await sums(money) == all_windows(*SCOPES, held=21_000)

    money.admission.begin(hold)
    await money.admission.settle(hold, cost(hold, Decimal("16500.1")))
    assert await sums(money) == all_windows(*SCOPES, spent=16_501)  # rounded up
    ((_, event),) = await money.outbox.read(limit=10)
    assert event == cost(hold, Decimal("16500.1"))
    assert await money.outbox.waiting() == 1


async def test_settling_twice_is_settling_once(world: World) -> None:
    money = await world.start()
    hold = (await money.admission.admit(asks())).hold
    other = world.process()
    for process in (money, money, other):
        await process.admission.settle(hold, cost(hold))
    assert (await sums(money))["env", "hour"] == (16_500, 0)
    assert {event.id for _, event in await money.outbox.read(limit=10)} == {"r1"}


async def test_a_released_hold_leaves_nothing(world: World) -> None:
    money = await world.start()
    hold = (await money.admission.admit(asks())).hold
    await money.admission.release(hold)
    await money.admission.release(hold)
    assert await sums(money) == {}
    assert await money.outbox.waiting() == 0


async def test_what_is_free_holds_nothing_and_its_event_is_kept(world: World) -> None:
    money = await world.start(replace(ENV, budgets=Budgets(env=Budget(hour_eur=Decimal(0)))))
    admitted = await money.admission.admit(asks(ceilings=(0,) * 5))
    assert admitted.hold.micro == 0
    assert admitted.flight is None
    await money.admission.settle(admitted.hold, cost(admitted.hold, 0))
    assert await sums(money) == {}
    assert await money.outbox.waiting() == 1


async def test_asking_again_after_a_lost_reply_holds_once(world: World) -> None:
    money = await world.start()
    await money.admission.admit(asks())
    await world.process().admission.admit(asks())
    assert (await sums(money))["env", "hour"] == (0, 21_000)


@pytest.mark.parametrize(
    ("budgets", "scope"),
    [
        (Budgets(env=Budget(hour_eur=Decimal("0.05"))), "env"),
        (Budgets(planes={"online": Budget(hour_eur=Decimal("0.05"))}), "plane:online"),
        (Budgets(bu=Budget(hour_eur=Decimal("0.05"))), "bu:legal"),
        (Budgets(bu=Budget(hour_eur=Decimal(0)), bus={"legal": Budget(hour_eur=Decimal("0.05"))}), "bu:legal"),
        (Budgets(key=Budget(hour_eur=Decimal("0.05"))), "key:k1"),
    ],
)
async def test_a_budget_refuses_what_no_longer_fits(world: World, budgets: Budgets, scope: str) -> None:
    money = await world.start(replace(ENV, budgets=budgets))
    holds = [(await money.admission.admit(asks(f"r{n}", key="k1"))).hold for n in range(2)]

    refused = await refusal(money, asks("r3", key="k1"))
    assert (refused.status, refused.code, refused.scope, refused.window) == (429, "budget_held", scope, "hour")
    assert 0 < refused.retry_after_s <= 5
    assert "0.05 EUR" in str(refused.limit)

    for hold in holds:
        await money.admission.settle(hold, cost(hold, 15_000))
    refused = await refusal(money, asks("r3", key="k1"))
    assert (refused.status, refused.code, refused.scope, refused.window) == (402, "budget_exceeded", scope, "hour")
    hour = holds[0].spans[0]
    assert refused.resets_at == hour.ends
    assert refused.retry_after_s == pytest.approx((hour.ends - world.now).total_seconds(), abs=3)
    assert (await sums(money))[scope, "hour"] == (30_000, 0)

    smaller = await money.admission.admit(asks("r4", key="k1", ceilings=(20_000,)))
    assert smaller.hold.micro == 20_000  # 0.05 exactly


async def test_the_window_that_ends_last_is_named(world: World) -> None:
    tight = Budget(hour_eur=Decimal("0.02"), day_eur=Decimal("0.02"), month_eur=Decimal(1))
    money = await world.start(replace(ENV, budgets=Budgets(env=Budget(hour_eur=Decimal("0.02")), bu=tight)))
    refused = await refusal(money, asks())
    assert (refused.code, refused.window) == ("budget_exceeded", "day")


async def test_a_key_may_have_a_budget_of_its_own(world: World) -> None:
    money = await world.start(replace(ENV, budgets=Budgets(key=Budget(hour_eur=Decimal(1)))))
    refused = await refusal(money, asks(key="k1", key_budget=Budget(hour_eur=Decimal("0.001"))))
    assert refused.scope == "key:k1"
    assert (await money.admission.admit(asks(key="k1"))).hold.micro == 21_000


async def test_what_all_have_spent_is_not_told_to_one(world: World) -> None:
    spent = Spending(scope="env", span=spans(world.now, ENV.timezone)[0], spent=990_000)
    own = Spending(scope="bu:legal", span=spans(world.now, ENV.timezone)[0], spent=970_000)
    limit = Budget(hour_eur=Decimal("0.995"))
    money = await world.start(replace(ENV, budgets=Budgets(env=limit)), spent=(spent,))
    assert "0.99 " not in (await refusal(money, asks())).message
    other = world.process(replace(ENV, budgets=Budgets(bu=replace(limit, hour_eur=Decimal("0.98")))))
    await other.outbox.unseed()
    await world.seed(other, own)
    assert "0.97 EUR" in (await refusal(other, asks())).message


async def test_the_next_hour_has_its_own_budget(world: World) -> None:
    money = await world.start(replace(ENV, budgets=Budgets(env=Budget(hour_eur=Decimal("0.03")))))
    hold = (await money.admission.admit(asks())).hold
    await money.admission.settle(hold, cost(hold))
    await refusal(money, asks("r2"))
    world.advance(3600)
    later = (await money.admission.admit(asks("r2"))).hold
    assert later.spans[0].starts == hold.spans[0].ends
    found = await money.outbox.spending(hold.spans[:1])
    assert [(one.scope, one.spent, one.held, one.limit) for one in found] == [
        ("bu:legal", 16_500, 0, None),
        ("env", 16_500, 0, 30_000),
        ("plane:online", 16_500, 0, None),
    ]


async def test_a_hold_that_had_not_begun_ends_by_itself(world: World) -> None:
    money = await world.start(replace(ENV, budgets=Budgets(env=Budget(hour_eur=Decimal("0.03")))))
    await money.admission.admit(asks(lasts_s=1.0))
    world.advance(30)
    await refusal(money, asks("r2"))
    world.advance(40)
    assert (await money.admission.admit(asks("r2"))).hold.micro == 21_000
    assert await money.outbox.waiting() == 0


async def test_a_hold_that_had_begun_is_held_until_the_ledger_has_it(world: World) -> None:
    money = await world.start(replace(ENV, budgets=Budgets(env=Budget(hour_eur=Decimal("0.03")))))
    hold = (await money.admission.admit(asks(key="k1", kind="search", lasts_s=1.0))).hold
    money.admission.begin(hold)
    await money.outbox.waiting()  # what was said before is known
    world.advance(70)
    await refusal(money, asks("r2"))
    ((_, event),) = await money.outbox.read(limit=10)
    assert (event.id, event.bu, event.key, event.kind, event.at) == ("r1", "legal", "k1", "search", hold.at)
    assert (event.cost_eur, event.estimated, event.usage, event.step) == (Decimal("0.021"), True, {"lost": True}, "full")
    assert event.model == ENV.embedder.model
    assert event.instance == "p0"
    assert (await sums(money))["env", "hour"] == (0, 21_000)

    await world.process().outbox.epoch()
    epoch = await money.outbox.epoch()
    assert epoch
    for _ in range(2):
        await money.outbox.count(event, epoch=epoch)
    assert (await sums(money))["env", "hour"] == (21_000, 0)


async def test_the_ledger_decides_on_a_hold_that_was_lost_and_settled_late(world: World) -> None:
    money = await world.start()
    hold = (await money.admission.admit(asks(lasts_s=1.0))).hold
    money.admission.begin(hold)
    await money.outbox.waiting()
    world.advance(70)
    assert await money.outbox.lead("leader", ttl_s=5)
    with pytest.raises(Transient, match="ledger"):
        await money.admission.settle(hold, cost(hold))
    assert await money.outbox.free(["r1"]) == 1
    assert await money.outbox.free(["r1"]) == 0
    assert await sums(money) == {}


async def test_counting_frees_the_hold_and_twice_is_once(world: World) -> None:
    money = await world.start()
    hold = (await money.admission.admit(asks())).hold
    epoch = await money.outbox.epoch()
    assert epoch
    for process in (money, world.process()):
        assert await process.outbox.epoch() == epoch
        await process.outbox.count(cost(hold), epoch=epoch)
    assert (await sums(money))["env", "hour"] == (16_500, 0)
    with pytest.raises(Transient):
        await money.outbox.count(cost(hold, id="other"), epoch="another")


async def test_what_was_settled_is_not_counted_again(world: World) -> None:
    money = await world.start()
    hold = (await money.admission.admit(asks())).hold
    await money.admission.settle(hold, cost(hold))
    epoch = await money.outbox.epoch()
    assert epoch
    ((place, event),) = await money.outbox.read(limit=10)
    await money.outbox.remove(place)
    await money.outbox.count(event, epoch=epoch)
    assert (await sums(money))["env", "hour"] == (16_500, 0)


async def test_events_are_read_in_order_until_they_are_removed(world: World) -> None:
    money = await world.start()
    for n in range(5):
        hold = (await money.admission.admit(asks(f"r{n}"))).hold
        await money.admission.settle(hold, cost(hold))
    first = await money.outbox.read(limit=3)
    assert [event.id for _, event in first] == ["r0", "r1", "r2"]
    await money.outbox.remove(first[1][0])
    assert [event.id for _, event in await money.outbox.read(limit=9)] == ["r2", "r3", "r4"]
    assert await money.outbox.waiting() == 3


async def test_one_leads(world: World) -> None:
    money, other = await world.start(), world.process()
    assert await money.outbox.lead("leader", ttl_s=5)
    assert not await other.outbox.lead("other", ttl_s=5)


async def test_nobody_is_admitted_before_the_counters_are_made(world: World) -> None:
    money = world.process()
    assert not await money.outbox.is_seeded()
    with pytest.raises(Transient, match="rebuilt"):
        await money.admission.admit(asks())
    spent = Spending(scope="bu:legal", span=spans(world.now, ENV.timezone)[1], spent=123)
    await world.seed(money, spent)
    assert await money.outbox.epoch() == "e1"
    assert await sums(money) == {("bu:legal", "day"): (123, 0)}
    assert not await money.outbox.seed([], epoch="again", instance="leader")
    await money.outbox.unseed()
    assert await money.outbox.epoch() is None
    with pytest.raises(Transient, match="rebuilt"):
        await money.admission.admit(asks())


async def test_only_the_leader_seeds_and_only_an_empty_stream(world: World) -> None:
    money = await world.start()
    hold = (await money.admission.admit(asks())).hold
    await money.admission.settle(hold, cost(hold))
    await money.outbox.unseed()
    assert not await money.outbox.seed([], epoch="e", instance="other")
    assert not await money.outbox.seed([], epoch="e", instance="leader")
    ((place, _),) = await money.outbox.read(limit=5)
    await money.outbox.remove(place)
    assert await money.outbox.seed([], epoch="e", instance="leader")


async def test_what_is_settled_while_the_counters_are_made_goes_by_the_stream(world: World) -> None:
    money = await world.start()
    hold = (await money.admission.admit(asks())).hold
    await money.outbox.unseed()
    await money.admission.settle(hold, cost(hold))
    assert not await money.outbox.seed([], epoch="e", instance="leader")
    ((place, event),) = await money.outbox.read(limit=5)
    await money.outbox.remove(place)
    await money.outbox.rejoin()
    assert await money.outbox.seed([], epoch="e", instance="leader")
    assert await sums(money) == {}
    # It was summed before, or it is counted now: nobody has forgotten it, nobody has counted it yet.
    assert await money.outbox.epoch() == "e"
    await money.outbox.count(event, epoch="e")
    assert (await sums(money))["env", "hour"] == (16_500, 0)


async def test_what_is_freed_while_the_counters_are_made_can_still_be_counted(world: World) -> None:
    money = await world.start()
    hold = (await money.admission.admit(asks())).hold
    await money.outbox.unseed()
    assert await money.outbox.free(["r1"]) == 1
    await money.admission.release(hold)
    await world.seed(money)
    assert await money.outbox.epoch() == "e2"
    await money.outbox.count(cost(hold), epoch="e2")
    assert (await sums(money))["env", "hour"] == (16_500, 0)


async def test_the_env_and_the_business_unit_have_rates(world: World) -> None:
    rate = Rate(per_s=Decimal("0.5"), burst=2)
    money = await world.start(replace(ENV, rates=Rates(bu=rate, bus={"fast": Rate(per_s=Decimal(100), burst=100)})))
    for n in range(2):
        await money.admission.admit(asks(f"r{n}"))
    refused = await refusal(money, asks("r3"))
    assert (refused.status, refused.code, refused.scope) == (429, "rate_limited", "bu:legal")
    assert 1.5 < refused.retry_after_s <= 2
    assert refused.resets_at
    assert await money.admission.admit(asks("r4", bu="fast"))
    world.advance(2)
    assert await money.admission.admit(asks("r5"))
    await refusal(money, asks("r6"))


async def test_an_address_has_a_rate_and_a_v6_network_one_for_all(world: World) -> None:
    money = await world.start(replace(ENV, rates=Rates(ip=Rate(per_s=Decimal("0.01"), burst=1))))
    await money.admission.admit(asks("r1", ip="2001:db8::1"))
    refused = await refusal(money, asks("r2", ip="2001:db8:0:0:ffff::9"))
    assert refused.scope == "ip"
    await money.admission.admit(asks("r3", ip="2001:db8:0:1::1"))
    await money.admission.admit(asks("r4", ip="192.0.2.1"))
    await refusal(money, asks("r5", ip="::ffff:192.0.2.1"))
    await money.admission.admit(asks("r6", ip="192.0.2.2"))
    await money.admission.admit(asks("r7"))


async def test_who_is_refused_drains_nobody(world: World) -> None:
    rates = Rates(env=Rate(per_s=Decimal("0.01"), burst=2), ip=Rate(per_s=Decimal("0.01"), burst=1))
    money = await world.start(replace(ENV, rates=rates))
    await money.admission.admit(asks("r1", ip="192.0.2.1"))
    for n in range(5):
        assert (await refusal(money, asks(f"x{n}", ip="192.0.2.1"))).scope == "ip"
    await money.admission.admit(asks("r2", ip="192.0.2.2"))
    assert (await refusal(money, asks("r3", ip="192.0.2.3"))).scope == "env"


async def test_a_heavy_request_counts_for_several_and_never_for_more_than_there_is(world: World) -> None:
    money = await world.start(replace(ENV, rates=Rates(env=Rate(per_s=Decimal("0.1"), burst=4))))
    await money.admission.admit(asks("r1", weight=2.5))
    refused = await refusal(money, asks("r2", weight=2))
    assert 4 < refused.retry_after_s <= 5
    await money.admission.admit(asks("r3", weight=1.5))
    world.advance(40)
    await money.admission.admit(asks("r4", weight=100))


async def test_who_waited_for_another_is_not_counted_again(world: World) -> None:
    money = await world.start(replace(ENV, rates=Rates(env=Rate(per_s=Decimal("0.01"), burst=1))))
    await money.admission.admit(asks("r1"))
    await refusal(money, asks("r2"))
    await money.admission.admit(asks("r1", resumed=True))


async def test_an_answer_is_found_again_and_costs_nothing(world: World) -> None:
    rates = Rates(bu=Rate(per_s=Decimal("0.01"), burst=3))
    money = await world.start(replace(ENV, rates=rates, budgets=Budgets(env=Budget(hour_eur=Decimal("0.021")))))
    first = await money.admission.admit(asks(answer_keys=KEYS, passages_keys=FOUND, weight=2))
    assert (first.flight, first.answer, first.passages) == ("own", None, None)
    await money.admission.settle(first.hold, cost(first.hold), kept())

    again = await money.admission.admit(asks("r2", answer_keys=KEYS, weight=2))  # counts for one
    assert again.answer
    assert (again.answer.record, again.answer.shown, again.answer.level) == (b"\x00record\xff", None, 0)
    assert (again.hold.micro, again.flight) == (0, None)
    await refusal(money, asks("r3", answer_keys=KEYS))
    assert (await sums(money))["env", "hour"] == (16_500, 0)

    answer, flying = await money.cache.peek("legal", "a0", streamed=True)
    assert answer
    assert (answer.record, answer.shown, flying) == (b"\x00record\xff", b"shown", False)
    stats = await money.cache.stats("legal")
    assert (stats.answers, stats.passages, stats.hits, stats.misses) == (1, 1, 2, 1)
    assert stats.bytes == len(b"\x00record\xff" + b"shown" + b"passages")
    assert stats.saved_eur == Decimal("0.033")
    assert await money.cache.stats() == stats
    assert (await money.cache.stats("other")).answers == 0


async def test_passages_are_found_again(world: World) -> None:
    money = await world.start()
    hold = (await money.admission.admit(asks())).hold
    await money.admission.settle(hold, cost(hold), kept(answer_key=None, record=b"", shown=b""))
    again = await money.admission.admit(asks("r2", passages_keys=FOUND))
    assert (again.passages, again.answer, again.hold.micro) == (b"passages", None, 21_000)
    assert (await money.cache.stats()).passage_hits == 1


async def test_one_writes_and_the_others_wait(world: World) -> None:
    money, other = await world.start(), world.process()
    first = await money.admission.admit(asks(answer_keys=KEYS))
    second = await other.admission.admit(asks("r2", answer_keys=KEYS))
    assert (first.flight, second.flight) == ("own", "other")
    assert second.hold.micro == 0
    assert (await sums(money))["env", "hour"] == (0, 21_000)
    assert await other.cache.peek("legal", "a0") == (None, True)
    assert (await other.admission.admit(asks("r3", bu="other", answer_keys=KEYS))).flight == "own"

    await money.admission.release(first.hold)
    assert await other.cache.peek("legal", "a0") == (None, False)
    resumed = await other.admission.admit(asks("r2", answer_keys=KEYS, resumed=True))
    assert resumed.flight == "own"
    await other.admission.settle(resumed.hold, cost(resumed.hold), kept())
    answer, flying = await money.cache.peek("legal", "a0")
    assert answer
    assert not flying


async def test_a_free_answer_is_written_once_too(world: World) -> None:
    money = await world.start()
    first = await money.admission.admit(asks(ceilings=(0,) * 5, answer_keys=KEYS))
    assert first.flight == "own"
    assert (await money.admission.admit(asks("r2", ceilings=(0,) * 5, answer_keys=KEYS))).flight == "other"
    await money.admission.settle(first.hold, cost(first.hold, 0))
    assert (await money.admission.admit(asks("r2", ceilings=(0,) * 5, answer_keys=KEYS))).flight == "own"


async def test_a_forgotten_document_takes_what_was_made_from_it(world: World) -> None:
    money = await world.start()
    for n, bu in enumerate(("legal", "other")):
        hold = (await money.admission.admit(asks(f"r{n}", bu=bu))).hold
        await money.admission.settle(hold, cost(hold), kept())
    assert await money.cache.forget("legal", []) == 0
    assert await money.cache.forget("legal", ["d3"]) == 0
    assert await money.cache.forget("legal", ["d2"]) == 2
    assert (await money.cache.peek("legal", "a0"))[0] is None
    assert (await money.cache.peek("other", "a0"))[0]


async def test_the_documents_behind_what_would_be_served_are_known(world: World) -> None:
    money = await world.start()
    assert set(await money.cache.sources()) == set()
    for bu, documents in (("legal", ("d1", "d2")), ("a:b", ("d3", "*"))):
        hold = (await money.admission.admit(asks(bu, bu=bu))).hold
        await money.admission.settle(hold, cost(hold), kept(documents=documents))
    assert set(await money.cache.sources()) == {"d1", "d2", "d3"}
    await money.cache.forget("legal", ["d2"])
    assert set(await money.cache.sources()) == {"d3"}
    await money.cache.clear()
    assert set(await money.cache.sources()) == set()


async def test_what_is_being_written_while_its_document_goes_is_not_kept(world: World) -> None:
    money = await world.start()
    hold = (await money.admission.admit(asks(answer_keys=KEYS))).hold
    assert await world.process().cache.forget("legal", ["d2"]) == 0
    await money.admission.settle(hold, cost(hold), kept())
    assert (await money.cache.peek("legal", "a0"))[0] is None
    later = (await money.admission.admit(asks("r2", answer_keys=KEYS))).hold
    await money.admission.settle(later, cost(later), kept())
    assert (await money.cache.peek("legal", "a0"))[0]


async def test_a_restarted_redis_keeps_nothing_of_before_whose_documents_it_may_have_forgotten(world: World) -> None:
    money = await world.start()
    hold = (await money.admission.admit(asks(answer_keys=KEYS))).hold
    assert await money.cache.forget("legal", ["d2"]) == 0
    await lose(world, money)
    await world.seed(money)
    await money.admission.settle(hold, cost(hold), kept())
    assert (await money.cache.peek("legal", "a0"))[0] is None
    later = (await money.admission.admit(asks("r2", answer_keys=KEYS))).hold
    await money.admission.settle(later, cost(later), kept())
    assert (await money.cache.peek("legal", "a0"))[0]


async def test_not_found_ends_when_any_document_comes(world: World) -> None:
    money = await world.start()
    hold = (await money.admission.admit(asks())).hold
    await money.admission.settle(hold, cost(hold), kept(documents=("d1", "*"), passages_key=None))
    assert await money.cache.forget("legal", ["new"]) == 1
    assert (await money.cache.peek("legal", "a0"))[0] is None


async def test_caches_are_cleared_by_business_unit_or_wholly(world: World) -> None:
    money = await world.start()
    pending = (await money.admission.admit(asks("late", bu="a:b", answer_keys=KEYS))).hold
    for bu in ("a", "a:b", "a*"):
        hold = (await money.admission.admit(asks(bu, bu=bu))).hold
        await money.admission.settle(hold, cost(hold), kept())
    assert await money.cache.clear("a") == 2
    assert [bool((await money.cache.peek(bu, "a0"))[0]) for bu in ("a", "a:b", "a*")] == [False, True, True]
    assert await money.cache.clear() == 4
    await money.admission.settle(pending, cost(pending), kept())
    assert (await money.cache.stats()).answers == 0


async def test_an_entry_ends_and_what_is_too_large_is_not_kept(world: World) -> None:
    money = await world.start()
    hold = (await money.admission.admit(asks())).hold
    await money.admission.settle(hold, cost(hold), kept(record=b"x" * 200_000, shown=b"y" * 100_000))
    stats = await money.cache.stats()
    assert (stats.answers, stats.passages) == (0, 1)
    hold = (await money.admission.admit(asks("r2"))).hold
    await money.admission.settle(hold, cost(hold), kept(ttl_s=0))
    assert (await money.cache.stats()).answers == 0


async def served(money: RedisMoney, level: int, *, bu: str = "legal", **fields: Any) -> Admitted:
    await money.announce({"env": level})
    return await money.admission.admit(asks(f"at {level}", bu=bu, **fields))


async def test_the_guardrail_makes_requests_cheaper_and_then_serves_only_what_it_has(world: World) -> None:
    money = await world.start()
    assert [(await served(money, n)).hold.micro for n in range(3)] == [21_000, 20_000, 5_000]
    for level, step in ((3, "cache_only"), (4, "refuse"), (9, "refuse")):
        await money.announce({"env": level})
        refused = await refusal(money, asks("r", answer_keys=KEYS))
        assert (refused.status, refused.code, refused.scope, refused.limit) == (503, "guardrail", "env", step)
    ingested = await served(money, 9, plane="batch", ceilings=(7,), kind="ingest")
    assert (ingested.level, ingested.hold.micro) == (0, 7)  # no ladder
    judged = await served(money, 3, plane="batch", kind="eval")
    assert (judged.level, judged.hold.micro) == (0, DEAR[0]), "an evaluation judges what is served in full"
    await money.announce({"env": 0, "bu:legal": 1})
    assert (await money.admission.admit(asks("r9"))).level == 1
    assert (await money.admission.admit(asks("r10", bu="other"))).level == 0
    await money.announce({"bu:legal": 4})
    assert (await refusal(money, asks("r11"))).scope == "bu:legal"


async def test_where_the_guardrail_stood_is_known_when_nobody_can_be_asked(world: World) -> None:
    money = await world.start()
    assert money.admission.level("legal") == (0, "env")
    await money.announce({"env": 1, "bu:legal": 3})
    assert [money.admission.level(bu) for bu in ("legal", "other")] == [(3, "bu:legal"), (1, "env")]
    await money.announce({"env": 0})
    assert money.admission.level("other") == (0, "env")


async def test_the_best_answer_there_is_is_served(world: World) -> None:
    money = await world.start()
    for n, level in enumerate((2, 1)):
        admitted = await served(money, level, answer_keys=KEYS)
        assert admitted.flight == "own"
        await money.admission.settle(
            admitted.hold, cost(admitted.hold, id=f"e{n}"), kept(answer_key=KEYS[level], record=KEYS[level].encode())
        )
    found = {level: (await served(money, level, answer_keys=KEYS)).answer for level in (3, 2, 1)}
    assert {level: answer and (answer.record, answer.level) for level, answer in found.items()} == dict.fromkeys(
        (3, 2, 1), (b"a1", 1)
    )
    assert (await served(money, 0, answer_keys=KEYS)).answer is None  # nobody is served less than is due


async def test_what_a_dead_redis_took_is_said_again(world: World) -> None:
    money = await world.start(replace(ENV, budgets=Budgets(env=Budget(hour_eur=Decimal("0.03")))))
    hold = (await money.admission.admit(asks())).hold
    await money.announce({"env": 1})
    assert list(await money.outbox.unconfirmed()) == []
    other = (await money.admission.admit(asks("r2", ceilings=(1, 1, 1, 1, 1)))).hold
    await money.admission.settle(other, cost(other, 1))
    await lose(world, money)

    assert await money.outbox.epoch() is None
    assert list(await money.outbox.unconfirmed()) == [cost(other, 1)]
    await money.announce({"env": 1})
    await world.seed(money)
    assert (await sums(money))["env", "hour"] == (0, 21_000)
    assert (await refusal(money, asks("r3"))).code == "budget_held"
    await money.admission.settle(hold, cost(hold))
    assert (await sums(money))["env", "hour"] == (16_500, 0)


async def lose(world: World, money: RedisMoney) -> None:
    if world.url is None:
        world.safe.lose()
        return
    keys = await money._till.wire.call("KEYS", "*" + world.namespace[-32:] + "*")
    await money._till.wire.call("DEL", *keys)
