"""Five hundred at once on one euro: all of it may be spent, and not a micro-euro more, also where a process is killed amid."""

from __future__ import annotations

import asyncio
import re
import sys
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pilotis.adapters.redis import RedisMoney
from pilotis.derive.budget import Budget, Budgets, spans

if TYPE_CHECKING:
    from integration.redis.conftest import World

PIPE = asyncio.subprocess.PIPE
CROWD = Path(__file__).with_name("crowd.py")


@pytest.mark.parametrize("killed", [False, True])
async def test_five_hundred_at_once_never_spend_more_than_there_is(world: World, killed: bool) -> None:
    budgets = Budgets(env=Budget(month_eur=Decimal(1)), bu=Budget(month_eur=Decimal("0.9999")))
    money = world.process(replace(world.env, budgets=budgets, total_s=5.0))
    await world.open(money)
    crowd = await asyncio.gather(*(start(world, f"c{n}") for n in range(4)))
    working = asyncio.gather(*(process.communicate(b"\n") for process in crowd))
    victim = await one_that_spends(money) if killed else None
    if victim is not None:
        crowd[victim].kill()
    said = [out for out, _ in await working]
    if victim is not None:
        assert said[victim] == b""
        money._till.offset_us = 66_000_000  # its holds end
        await world.agree(money)
        last = await start(world, "last")
        said.append((await last.communicate(b"\n"))[0])

    await world.agree(money)
    month = spans(datetime.now(UTC), world.env.timezone)[2]
    spent = {one.scope: one.spent for one in await world.ledger.spent([month])}
    assert 900_000 <= spent["bu:legal"] <= 999_900
    lost = [event for event in world.ledger.rows.values() if event.usage]
    assert {event.instance for event in lost} == (set() if victim is None else {f"c{victim}"})
    served = sum(int(out) for out in said if out)
    assert len(world.ledger.rows) - len(lost) >= served
    assert killed or len(world.ledger.rows) == served


async def start(world: World, name: str) -> asyncio.subprocess.Process:
    argv = (sys.executable, CROWD, world.server.url, world.namespace, name, "125")
    process = await asyncio.create_subprocess_exec(*argv, stdin=PIPE, stdout=PIPE)
    assert process.stdout
    assert await process.stdout.readline() == b"ready\n"
    return process


async def one_that_spends(money: RedisMoney) -> int:
    """The number of a process that is spending money just now."""
    async with asyncio.timeout(10):
        while True:
            for packed in await money._till.wire.call("HVALS", f"{money._till.prefix}holds"):
                found = re.search(rb"instance\xa2c(\d)", packed)
                if found and b"begun\xc3" in packed:
                    return int(found[1])
            await asyncio.sleep(0.001)


async def test_one_of_many_writes_an_answer(world: World) -> None:
    processes = [world.process() for _ in range(3)]
    await world.open(*processes)
    keys = tuple("abcdef")
    admitted = await asyncio.gather(
        *(processes[n % 3].admission.admit(world.asks(f"r{n}", answer_keys=keys)) for n in range(90))
    )
    assert sorted(one.flight or "" for one in admitted) == ["other"] * 89 + ["own"]
    assert await world.spent(processes[0]) == (0, 21_000)


async def test_the_answer_of_a_dead_process_is_not_waited_for_long(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("till", "admission"):
        monkeypatch.setattr(f"pilotis.adapters.redis.{module}.FLIGHT_S", 0.3)
    dead, money = world.process(), world.process()
    await world.open(money, dead)
    keys = tuple("abcdef")
    first = await dead.admission.admit(world.asks("r1", answer_keys=keys))
    for _ in range(4):  # as its loop does while it lives
        await asyncio.sleep(0.1)
        await dead.outbox.epoch()
    assert (await money.admission.admit(world.asks("r2", answer_keys=keys))).flight == "other"
    await asyncio.sleep(0.4)
    assert (await money.admission.admit(world.asks("r3", answer_keys=keys))).flight == "own"
    await dead.admission.release(first.hold)
    assert await money.cache.peek("legal", "a") == (None, True)  # it does not end the flight of another
