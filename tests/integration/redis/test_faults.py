"""What each fault does to money: nothing is lost, nothing is counted twice, nobody spends what is not there."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from pilotis.adapters.redis import till
from pilotis.derive.budget import Budget, Budgets
from pilotis.errors import Limited, Transient

if TYPE_CHECKING:
    from integration.redis.conftest import World

TIGHT = Budgets(env=Budget(hour_eur=Decimal("0.042")))


@pytest.fixture(autouse=True)
def _short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(till, "GRACE_S", 0.3)
    monkeypatch.setattr("pilotis.adapters.redis.client.AWAY_S", 0.1)


async def test_a_redis_that_is_away_is_said_to_be_so_at_once(own: World) -> None:
    money = own.process()
    await own.open(money)
    hold = (await money.admission.admit(own.asks("r1"))).hold
    own.server.kill()
    with pytest.raises(Transient, match="Redis is away: "):
        await money.admission.admit(own.asks("r2"))
    begins = time.perf_counter()
    for call in (
        money.admission.admit(own.asks("r3")),
        money.admission.settle(hold, own.cost(hold)),
        money.cache.forget("legal", ["d1"]),
        money.outbox.read(limit=1),
        money.outbox.spending(),
        money.ping(),
    ):
        with pytest.raises(Transient, match="Redis is away: "):
            await call
    assert time.perf_counter() - begins < 0.1


async def test_a_redis_that_hangs_costs_a_second_and_no_money(own: World) -> None:
    money = own.process(replace(own.env, budgets=TIGHT))
    await own.open(money)
    hold = (await money.admission.admit(own.asks("r1"))).hold
    money.admission.begin(hold)
    await money.ping()
    own.server.kill(signal.SIGSTOP)
    begins = time.perf_counter()
    admitting = asyncio.create_task(money.admission.admit(own.asks("r2")))
    await own.settle(money, hold)  # Redis will carry it out later, and the ledger has it too
    assert time.perf_counter() - begins < 2
    with pytest.raises(Transient):
        await admitting
    own.server.kill(signal.SIGCONT)
    await asyncio.sleep(0.2)
    await own.agree(money)
    assert await own.spent(money) == (16_500, 0)  # once, and r2 holds nothing
    assert len(own.ledger.rows) == 1


@pytest.mark.parametrize("data", ["kept", "lost"])
async def test_after_a_restart_nobody_is_admitted_until_the_ledger_was_summed(own: World, data: str) -> None:
    tight = replace(own.env, budgets=TIGHT)
    money, other = own.process(tight), own.process(tight)
    await own.open(money, other)
    settled = (await money.admission.admit(own.asks("r0", 5_000))).hold
    hold = (await money.admission.admit(own.asks("r1"))).hold
    money.admission.begin(hold)
    await money.ping()
    await own.settle(money, settled, 1_000)

    own.server.kill()
    if data == "lost":
        for file in own.server.folder.glob("*.aof"):
            file.unlink()
    own.server.start()
    await asyncio.sleep(0.15)
    for process in (money, other):
        with pytest.raises(Transient, match="rebuilt"):
            await process.admission.admit(own.asks("r2"))
    await own.open(other, money)
    assert await own.spent(other) == (1_000, 21_000)
    with pytest.raises(Limited):
        await other.admission.admit(own.asks("r2"))
    await own.settle(money, hold)
    await own.agree(money, other)
    assert await own.spent(money) == (17_500, 0)


async def test_only_where_somebody_may_hold_money_is_it_waited_for(own: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(till, "GRACE_S", 60.0)
    first = own.process()
    begins = time.monotonic()
    await own.open(first)
    assert time.monotonic() - begins < 2, "no counters were ever made of this ledger: nobody can have been admitted"
    own.server.flush()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.7):
            await own.open(first)


async def test_a_flush_during_work_loses_no_cost(own: World) -> None:
    money = own.process()
    await own.open(money)
    holds = [(await money.admission.admit(own.asks(f"r{n}"))).hold for n in range(8)]
    for hold in holds[:4]:
        await own.settle(money, hold)
    own.server.flush()
    await own.settle(money, holds[4])
    with pytest.raises(Transient, match="rebuilt"):
        await money.admission.admit(own.asks("r9"))
    await own.open(money)
    assert await own.spent(money) == (5 * 16_500, 3 * 21_000)
    for hold in holds[5:]:
        await own.settle(money, hold)
    await own.agree(money)
    assert await own.spent(money) == (8 * 16_500, 0)


async def test_holds_come_back_by_themselves_where_another_process_was_quicker(own: World) -> None:
    money, other = own.process(), own.process()
    await own.open(money, other)
    hold = (await money.admission.admit(own.asks("r1"))).hold
    own.server.flush()
    await own.open(other)
    assert await own.spent(other) == (0, 0)
    await money.outbox.epoch()  # what its own loop asks for in every turn
    assert await own.spent(other) == (0, 21_000)
    await own.settle(money, hold)
    await own.agree(money, other)


async def test_a_process_with_money_in_hand_waits_for_redis_to_come_back(own: World) -> None:
    money, other = own.process(), own.process()
    await own.open(money, other)
    hold = (await money.admission.admit(own.asks("r1"))).hold
    money.admission.begin(hold)
    await money.ping()
    await asyncio.to_thread(own.server.restart)
    # It has no call to make, and still says its hold in time.
    await own.open(other)
    assert await own.spent(other) == (0, 21_000)
    assert not await other.outbox.waiting()


async def test_what_a_dead_process_had_begun_counts_as_spent_also_over_a_restart(own: World) -> None:
    money, dead = own.process(), own.process()
    await own.open(money, dead)
    begun = (await dead.admission.admit(own.asks("begun"))).hold
    await dead.admission.admit(own.asks("idle"))
    dead.admission.begin(begun)
    await dead.ping()
    dead._till.holds.clear()
    await dead.close()
    own.opened.remove(dead)

    await asyncio.to_thread(own.server.restart)
    await own.open(money)
    await own.agree(money)
    assert await own.spent(money) == (21_000, 0)
    assert [event.usage for event in own.ledger.rows.values()] == [{"lost": True}]
    # Were it only slow, the ledger's line would stand.
    with pytest.raises(Transient):
        await money.admission.settle(begun, own.cost(begun))


async def test_scripts_that_were_flushed_are_sent_again(world: World) -> None:
    money = world.process()
    await world.open(money)
    assert world.server.say("SCRIPT", "FLUSH") == b"+OK"
    hold = (await money.admission.admit(world.asks("r1"))).hold
    assert world.server.say("SCRIPT", "FLUSH") == b"+OK"
    money.admission.begin(hold)
    await asyncio.sleep(0.4)
    await money.admission.settle(hold, world.cost(hold))
    assert await world.spent(money) == (16_500, 0)


async def test_a_redis_that_may_drop_budgets_is_complained_about(own: World, caplog: pytest.LogCaptureFixture) -> None:
    assert own.server.say("CONFIG", "SET", "maxmemory-policy", "allkeys-lru") == b"+OK"
    with caplog.at_level(logging.ERROR):
        await own.process().ping()
    assert "volatile-lru" in caplog.text


async def test_a_full_redis_drops_caches_and_no_money(own: World) -> None:
    from pilotis.ports import Kept

    money = own.process()
    await own.open(money)
    assert own.server.say("CONFIG", "SET", "maxmemory", "8mb") == b"+OK"
    for n in range(100):
        hold = (await money.admission.admit(own.asks(f"r{n}", 10))).hold
        keep = Kept(answer_key=f"k{n}", record=b"x" * 200_000, ttl_s=600, documents=("d1",))
        await money.admission.settle(hold, own.cost(hold, 10), keep)
    assert 0 < (await money.cache.stats()).answers < 50
    assert await money.outbox.waiting() == 100
    assert await own.spent(money) == (1_000, 0)


async def test_other_calls_of_one_process_travel_together(world: World) -> None:
    money = world.process()
    await world.open(money)
    admitted = await asyncio.gather(*(money.admission.admit(world.asks(f"r{n}", 1)) for n in range(500)))
    assert {one.hold.id for one in admitted} == {f"r{n}" for n in range(500)}
    cancelled = [asyncio.create_task(money.admission.admit(world.asks(f"c{n}", 1))) for n in range(20)]
    await asyncio.sleep(0)
    for task in cancelled[::2]:
        task.cancel()
    done = await asyncio.gather(*cancelled, return_exceptions=True)
    assert [getattr(one, "hold", None) and one.hold.id for one in done[1::2]] == [f"c{n}" for n in range(1, 20, 2)]  # type: ignore[union-attr]
    await money.outbox.epoch()  # those that were cancelled are freed
    assert await world.spent(money) == (0, 510)


async def test_what_cannot_be_sent_gives_nobody_the_reply_of_another(world: World) -> None:
    wire = world.process()._till.wire
    for unit in ("sales", "legal"):
        await wire.call("SET", f"{world.namespace}:{unit}", f"the answer of {unit}")
    refused = asyncio.create_task(wire.call("GET", "\udc80"))
    first = asyncio.create_task(wire.call("GET", f"{world.namespace}:sales"))
    await asyncio.sleep(0.01)
    second = asyncio.create_task(wire.call("GET", f"{world.namespace}:legal"))
    assert [await first, await second] == [b"the answer of sales", b"the answer of legal"]
    with pytest.raises(UnicodeEncodeError):
        await refused
