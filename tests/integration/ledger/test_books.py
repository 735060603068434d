"""Redis and Postgres as they are: whatever is lost, in the end the ledger and the counters say the same."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import psycopg
import pytest
from redis.asyncio import Redis

from pilotis.adapters import postgres
from pilotis.adapters.postgres import PostgresLedger
from pilotis.adapters.redis import RedisMoney
from pilotis.contract.presets import default
from pilotis.derive.budget import Budget, Budgets
from pilotis.derive.plan import Env, derive
from pilotis.errors import Transient
from pilotis.online.audit import Audit, Page, audit
from pilotis.online.booking import book_all, keep_books, open_books
from pilotis.ports import CostEvent, Hold, Request
from pilotis.testing.online import MemoryMeter

if TYPE_CHECKING:
    from pilotis.embedded import Addresses

Open = Callable[..., RedisMoney]


@pytest.fixture
def env() -> Env:
    budgets = Budgets(env=Budget(day_eur=Decimal(1)), bu=Budget(hour_eur=Decimal(1), month_eur=Decimal(5)))
    return replace(derive(default()).envs["dev"], budgets=budgets)


@pytest.fixture
async def ledger(new_database: Callable[[], str], env: Env) -> AsyncIterator[PostgresLedger]:
    url = new_database()
    await postgres.migrate(url)
    pool = await postgres.open_pool(url, max_size=6)
    yield PostgresLedger(pool, env=env.name, zone=env.timezone)
    await pool.close()


@pytest.fixture
async def redis(stack: Addresses) -> AsyncIterator[Redis]:
    async with Redis.from_url(stack.redis_url) as client:
        yield client


@pytest.fixture
async def open_money(stack: Addresses, env: Env, request: pytest.FixtureRequest) -> AsyncIterator[Open]:
    opened: list[RedisMoney] = []

    def one(instance: str, *, offset_us: int = 0) -> RedisMoney:
        namespace = f"books:{request.node.name}"
        opened.append(RedisMoney(stack.redis_url, env=env, namespace=namespace, instance=instance, offset_us=offset_us))
        return opened[-1]

    yield one
    for money in opened:
        await money.close()


def cost(hold: Hold, env: Env, eur: str, *, instance: str) -> CostEvent:
    return CostEvent(
        id=hold.id,
        at=hold.at,
        env=env.name,
        plane=hold.plane,
        bu=hold.bu,
        kind="answer",
        subject=hold.id,
        model="m",
        usage={"calls": []},
        cost_eur=Decimal(eur),
        price_book="b",
        fx=None,
        priced=True,
        key=hold.key,
        instance=instance,
    )


async def audited(money: RedisMoney, ledger: PostgresLedger, env: Env) -> Audit:
    async def none() -> list[Page]:
        return []

    return await audit(money.outbox, ledger, none, now=datetime.now(UTC), zone=env.timezone)


async def flush(redis: Redis, open_money: Open) -> None:
    """As FLUSHALL, for the keys of this test."""
    prefix = open_money("flusher").outbox._till.prefix
    keys = [key async for key in redis.scan_iter(match=prefix.replace("[", r"\[").replace("]", r"\]") + "*")]
    if keys:
        await redis.delete(*keys)


async def test_what_many_settle_while_redis_is_flushed_is_booked_and_counted_once(
    ledger: PostgresLedger, redis: Redis, open_money: Open, env: Env
) -> None:
    processes = [open_money(f"p{n}") for n in range(2)]
    dice = random.Random(4)
    settled: dict[str, Decimal] = {}

    async def client(number: int) -> None:
        name, money = f"p{number % 2}", processes[number % 2]
        for n in range(25):
            request = Request(id=f"r{number}-{n}", plane="online", bu=f"bu{number % 3}", ceilings=(900,), key=f"k{number % 2}")
            while True:
                try:
                    hold = (await money.admission.admit(request)).hold
                    break
                except Transient:
                    await asyncio.sleep(0.05)
            money.admission.begin(hold)
            await asyncio.sleep(dice.random() / 20)
            event = cost(hold, env, f"0.000{dice.randrange(1, 8)}{dice.randrange(10**8):08}", instance=name)
            try:
                await money.admission.settle(hold, event)
            except Transient:
                await ledger.append(event)
            settled[event.id] = event.cost_eur

    loops = [
        asyncio.create_task(keep_books(money.outbox, ledger, MemoryMeter(), instance=f"p{n}", zone=env.timezone, every_s=0.02))
        for n, money in enumerate(processes)
    ]
    clients = [asyncio.create_task(client(number)) for number in range(6)]
    await open_books(processes[0].outbox, ledger, instance="p0", zone=env.timezone)
    await asyncio.sleep(0.25)
    await flush(redis, open_money)
    await asyncio.gather(*clients)
    found = await audited(processes[0], ledger, env)
    for loop in loops:
        loop.cancel()
        with suppress(asyncio.CancelledError):
            await loop
    assert found.differences == ()
    assert len(found.compared) >= 3 * 6
    assert {one.id: one.cost_eur for one in await ledger.events()} == settled
    assert {one.held for one in await processes[0].outbox.spending()} == {0}
    assert await ledger.uncounted(limit=1) == []


async def test_a_process_that_dies_in_mid_request_is_booked_with_its_whole_hold(
    ledger: PostgresLedger, open_money: Open, env: Env
) -> None:
    dead = open_money("dead")
    await open_books(dead.outbox, ledger, instance="dead", zone=env.timezone)
    begun = (await dead.admission.admit(Request(id="begun", plane="online", bu="a", ceilings=(700,)))).hold
    saved = (await dead.admission.admit(Request(id="saved", plane="online", bu="a", ceilings=(700,)))).hold
    await dead.admission.admit(Request(id="idle", plane="online", bu="a", ceilings=(700,)))
    dead.admission.begin(begun)
    dead.admission.begin(saved)
    await asyncio.sleep(0.05)
    await ledger.append(cost(saved, env, "0.0001", instance="dead"))  # it could still tell the ledger
    await dead.close()

    later = open_money("later", offset_us=15 * 60 * 10**6)
    await later.outbox.lead("later", ttl_s=5)
    assert await later.outbox.waiting() == 2
    assert await book_all(later.outbox, ledger) == 1
    lines = {one.id: (one.cost_eur, one.estimated) for one in await ledger.events()}
    assert lines == {"begun": (Decimal("0.0007"), True), "saved": (Decimal("0.0001"), False)}
    assert (await audited(open_money("now"), ledger, env)).differences == ()
    assert {one.held for one in await later.outbox.spending()} <= {0}


async def test_counters_that_were_tampered_with_are_found_and_made_anew(
    ledger: PostgresLedger, redis: Redis, open_money: Open, env: Env
) -> None:
    money = open_money("p")
    await open_books(money.outbox, ledger, instance="p", zone=env.timezone)
    hold = (await money.admission.admit(Request(id="r", plane="online", bu="a", ceilings=(700,), key="k"))).hold
    await money.admission.settle(hold, cost(hold, env, "0.0005004", instance="p"))
    assert (await audited(money, ledger, env)).differences == ()
    await redis.hincrby(money.outbox._till.meter, f"s|bu:a|{hold.spans[2].id}", -1)
    found = (await audited(money, ledger, env)).differences
    assert [(one.place, one.difference_eur) for one in found] == [("bu:a month", Decimal("-0.000001"))]
    await money.outbox.unseed()
    with pytest.raises(Transient):
        await money.admission.admit(Request(id="r2", plane="online", bu="a", ceilings=(700,)))
    await open_books(money.outbox, ledger, instance="p", zone=env.timezone)
    assert (await audited(money, ledger, env)).differences == ()


async def test_the_lines_of_an_older_schema_are_counted_and_summed(new_database: Callable[[], str]) -> None:
    url = new_database()
    folder = postgres.schema.__globals__["_VERSIONS"]
    with psycopg.connect(url, autocommit=True) as connection:
        for version in ("0001", "0002"):
            connection.execute(next(folder.glob(f"{version}*.sql")).read_bytes())
        connection.execute("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)")
        connection.execute("INSERT INTO alembic_version VALUES ('0002')")
        connection.execute(
            """INSERT INTO ledger VALUES
            ('a', now(), 'dev', 'online', 'b', 'answer', 's', 'm', '{"calls": [{"input_tokens": 3, "output_tokens": 1, "estimated": true},
             {"input_tokens": 4}]}', 0.0000010001, 'p', NULL, true), ('b', now(), 'dev', 'batch', 'b', 'ingest', 's', 'm', '{}', 0, 'p', NULL, true)"""
        )
    await postgres.migrate(url)
    pool = await postgres.open_pool(url)
    try:
        ledger = PostgresLedger(pool, env="dev")
        (line,) = await ledger.report(["step", "key"])
        assert (line.key, line.requests, line.input_tokens, line.output_tokens, line.estimated) == (("full", ""), 2, 7, 1, 1)
        assert await ledger.uncounted(limit=9) == []
        from pilotis.online.booking import around

        wanted = around(datetime.now(UTC), "Europe/Paris")
        _, sums = await ledger.recount(wanted)
        assert {one.spent for one in sums if one.scope in {"env", "plane:online", "bu:b"}} == {2}
        assert sums == await ledger.spent(wanted)
    finally:
        await pool.close()
