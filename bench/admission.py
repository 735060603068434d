"""Admission and settlement: how long Redis takes for them, and how many one process gets through.

    python bench/admission.py [--json]

Redis' own time comes from its slow log: no client and no network in it. It logs what takes 25 microseconds or more: to log each
command within a script would take longer than they do. What is faster is left out. The bar: the 99th percentile of an admission
and the settlement that follows it, together, is under a millisecond. All four scopes have budgets in all three
windows, all rates are set, half of the answers are kept with their passages (30 KB), and a tenth of the questions come again.
Beside it: round trips as a client sees them, one at a time and fifty at once, and the same commands through plain redis-py.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import re
import time
from collections import deque
from dataclasses import replace
from decimal import Decimal

from redis.asyncio import Redis

from common import parser, private_stack, quantile_ms, report
from pilotis.adapters.redis import RedisMoney
from pilotis.adapters.redis.client import script
from pilotis.derive.budget import Budget, Budgets, Rate, Rates
from pilotis.derive.plan import Env
from pilotis.ports import CostEvent, Hold, Kept, Request

WIDE = Budget(hour_eur=Decimal(10**6), day_eur=Decimal(10**6), month_eur=Decimal(10**6))
FAST = Rate(per_s=Decimal(10**5), burst=10**5)
SEQUENTIAL, CONCURRENT, TASKS = 2000, 10_000, 50
FLOOR_US = 25
RECORD, SHOWN, PASSAGES = b"r" * 3_000, b"s" * 12_000, b"p" * 15_000

_numbers = itertools.count()


async def run(url: str, env: Env, *, as_json: bool) -> None:
    budgets = Budgets(env=WIDE, planes={"online": WIDE}, bu=WIDE, key=WIDE)
    env = replace(env, budgets=budgets, rates=Rates(env=FAST, ip=FAST, bu=FAST))
    money = RedisMoney(url, env=env, namespace="bench", instance="bench")
    await money.outbox.rejoin()
    await money.outbox.lead("bench", ttl_s=600)
    await money.outbox.seed([], epoch="bench", instance="bench")
    for _ in range(300):
        await one(money, [], [])
    redis = Redis.from_url(url)
    await redis.config_set("slowlog-max-len", 8 * SEQUENTIAL)
    await redis.config_set("slowlog-log-slower-than", FLOOR_US)
    await redis.slowlog_reset()

    admits: list[float] = []
    settles: list[float] = []
    for _ in range(SEQUENTIAL):
        await one(money, admits, settles)
    await redis.config_set("slowlog-log-slower-than", -1)
    inside = await redis_seconds(redis)

    many: list[float] = []
    began = time.perf_counter()

    async def work() -> None:
        for _ in range(CONCURRENT // TASKS):
            await one(money, many, [])

    await asyncio.gather(*(work() for _ in range(TASKS)))
    rate = CONCURRENT / (time.perf_counter() - began)
    bare = await wire_rates(url, money)
    await money.close()
    await redis.aclose()
    rows: list[dict[str, object]] = [
        row("Redis' own time of an admission, ms", inside["admit"]),
        row("Redis' own time of a settlement, ms", inside["settle"]),
        row("Redis' own time of both, ms (bar: p99 under 1)", inside["both"]),
        row("round trip of an admission, ms", admits),
        row("round trip of a settlement, ms", settles),
        row(f"round trip of an admission, {TASKS} at once, ms", many),
        {"what": f"admitted and settled a second, {TASKS} at once", "p50": rate},
        {"what": f"GET a second on this wire, {TASKS} at once", "p50": bare[0]},
        {"what": f"GET a second through redis-py, {TASKS} at once", "p50": bare[1]},
    ]
    report("Admission and settlement", rows, as_json=as_json)


def row(what: str, seconds: list[float]) -> dict[str, object]:
    return {"what": what, "p50": quantile_ms(seconds, 0.5), "p99": quantile_ms(seconds, 0.99)}


async def one(money: RedisMoney, admits: list[float], settles: list[float]) -> None:
    """A request, its answer and its cost."""
    n = next(_numbers)
    question = n if random.random() > 0.1 else random.randrange(n + 1)
    keys = tuple(f"{question:060}{level}" for level in range(6))
    request = Request(
        id=f"{n:032x}", plane="online", bu="legal", key="k1", ip="192.0.2.1", ceilings=(21_000,) * 6, answer_keys=keys, passages_keys=keys,
    )  # fmt: skip
    began = time.perf_counter()
    admitted = await money.admission.admit(request)
    admits.append(time.perf_counter() - began)
    money.admission.begin(admitted.hold)
    if admitted.answer or admitted.flight == "other":
        return
    keep = Kept(
        answer_key=keys[0], record=RECORD, shown=SHOWN, passages_key=keys[0], passages=PASSAGES, ttl_s=60,
        documents=tuple(f"d{random.randrange(1000)}" for _ in range(8)),
    )  # fmt: skip
    began = time.perf_counter()
    await money.admission.settle(admitted.hold, cost(admitted.hold), keep if n % 2 else None)
    settles.append(time.perf_counter() - began)


def cost(hold: Hold) -> CostEvent:
    call = {"model": "gpt-5-mini", "provider": "openai", "input_tokens": 900, "output_tokens": 250, "cached_tokens": 0}
    return CostEvent(
        id=hold.id, at=hold.at, env="dev", plane=hold.plane, bu=hold.bu, kind="answer", subject=hold.id, model="gpt-5-mini",
        usage={"calls": [call]}, cost_eur=Decimal("0.0165"), price_book="book", fx=None, priced=True, key=hold.key,
    )  # fmt: skip


async def redis_seconds(redis: Redis) -> dict[str, list[float]]:
    """What Redis took for each admission, for each settlement, and for one with the other, in seconds."""
    names = {script(name)[1].encode(): name for name in ("admit", "settle")}
    found: dict[str, dict[bytes, float]] = {"admit": {}, "settle": {}}
    for entry in await redis.slowlog_get(8 * SEQUENTIAL):
        words = entry["command"].split(b" ")
        asked = re.search(rb'"id":"(\w+)"', entry["command"])
        if words[0] == b"EVALSHA" and words[1] in names and asked:
            found[names[words[1]]][asked[1]] = entry["duration"] / 1e6
    admit, settle = found["admit"], found["settle"]
    both = [admit.get(name, FLOOR_US / 1e6) + took for name, took in settle.items()]
    return {"admit": [*admit.values()], "settle": [*settle.values()], "both": both}


async def wire_rates(url: str, money: RedisMoney) -> tuple[float, float]:
    redis = Redis.from_url(url, max_connections=TASKS)
    await redis.set("bench", b"x" * 500)
    rates: deque[float] = deque()
    for get in (lambda: money._till.wire.call("GET", "bench"), lambda: redis.get("bench")):  # noqa: SLF001

        async def work(get: object = get) -> None:
            for _ in range(CONCURRENT // TASKS):
                await get()  # type: ignore[operator]

        began = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(TASKS)))
        rates.append(CONCURRENT / (time.perf_counter() - began))
    await redis.aclose()
    return rates[0], rates[1]


if __name__ == "__main__":
    told = parser(__doc__).parse_args()
    with private_stack() as (_given, _plan, env_, addresses):
        asyncio.run(run(addresses.redis_url, env_, as_json=told.json))
