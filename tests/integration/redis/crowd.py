"""One process of a crowd: `python crowd.py URL NAMESPACE NAME REQUESTS`. Each request holds 0.021 EUR, takes a moment and costs 0.0165 EUR.

A request whose budget is held by others asks again, for a while. The last line says how many were answered.
"""

from __future__ import annotations

import asyncio
import random
import sys
from dataclasses import replace
from decimal import Decimal

from pilotis.adapters.redis import RedisMoney
from pilotis.contract import load
from pilotis.derive import plan
from pilotis.derive.budget import Budget, Budgets, Rates
from pilotis.errors import Limited, Transient
from pilotis.ports import CostEvent, Request

ENV = replace(
    plan.derive(load.default()).env("dev"),
    budgets=Budgets(env=Budget(month_eur=Decimal(1)), bu=Budget(month_eur=Decimal("0.9999"))),
    rates=Rates(),
    total_s=5.0,
)

PATIENCE = 30


async def one(money: RedisMoney, name: str) -> bool:
    for attempt in range(PATIENCE):
        try:
            admitted = await money.admission.admit(Request(id=name, plane="online", bu="legal", ceilings=(21_000,)))
        except Limited as refused:
            if refused.code == "budget_exceeded":
                return False
            await asyncio.sleep(min(0.1, 0.01 * 1.2**attempt) * random.uniform(0.5, 1))
        except Transient:
            await asyncio.sleep(0.1)
        else:
            break
    else:
        return False
    hold = admitted.hold
    money.admission.begin(hold)
    await asyncio.sleep(random.uniform(0.05, 0.1))
    event = CostEvent(
        id=hold.id,
        at=hold.at,
        env=ENV.name,
        plane=hold.plane,
        bu=hold.bu,
        kind="answer",
        subject=hold.id,
        model="m",
        usage={},
        cost_eur=Decimal("0.0165"),
        price_book="b",
        fx=None,
        priced=True,
    )
    await money.admission.settle(hold, event)
    return True


async def main(url: str, namespace: str, name: str, requests: int) -> None:
    money = RedisMoney(url, env=ENV, namespace=namespace, instance=name)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    served = await asyncio.gather(*(one(money, f"{name}-{n}") for n in range(requests)))
    print(sum(served), flush=True)
    await money.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
