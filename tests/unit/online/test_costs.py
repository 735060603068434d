from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, cast

import pytest

from pilotis.derive.cost import Usage
from pilotis.errors import Invalid
from pilotis.online import costs
from pilotis.online.costs import Report, report
from pilotis.ports import CostEvent
from pilotis.testing.ledger import MemoryLedger

AT = datetime(2026, 6, 15, tzinfo=UTC)


def event(name: str, cost: str, *calls: Usage, **fields: Any) -> CostEvent:
    given = {
        "at": AT,
        "env": "prod",
        "plane": "online",
        "bu": "legal",
        "kind": "answer",
        "model": "big",
        "priced": True,
    } | fields
    usage = {"calls": [asdict(call) for call in calls]}
    return CostEvent(id=name, subject=name, usage=usage, cost_eur=Decimal(cost), price_book="b", fx=None, **cast("Any", given))


def call(read: int, written: int = 0, model: str = "big") -> Usage:
    return Usage(model=model, provider="p", input_tokens=read, output_tokens=written)


@pytest.fixture
async def ledger() -> MemoryLedger:
    made = MemoryLedger()
    await made.append(event("a", "0.02", call(10), call(100, 20)))
    await made.append(event("b", "0.04", call(200, 40), at=AT + timedelta(days=1), estimated=True))
    await made.append(event("c", "0.01", call(5, model="odd"), bu="sales", priced=False))
    await made.append(event("lost", "0.03", bu="sales", estimated=True))
    await made.append(event("before", "9", at=AT - timedelta(days=40)))
    return made


async def reported(ledger: MemoryLedger, *by: str, **chosen: Any) -> Report:
    given: dict[str, Any] = {"since": AT - timedelta(days=1), "until": AT + timedelta(days=2), "bu": None} | chosen
    return await report(ledger, by, **given)


async def test_rows_and_their_total(ledger: MemoryLedger) -> None:
    found = await reported(ledger, "bu")
    assert [(row.key, row.requests, row.cost_eur) for row in found.rows] == [
        (("legal",), 2, Decimal("0.06")),
        (("sales",), 2, Decimal("0.04")),
    ]
    total = found.total
    assert (total.requests, total.cost_eur, total.eur_per_1k) == (4, Decimal("0.10"), Decimal(25))
    assert (total.input_tokens, total.output_tokens, total.estimated, total.unpriced) == (315, 60, 2, 1)
    assert (total.as_if_eur, total.difference_eur) == (None, None)
    assert (await reported(ledger, bu="sales")).total.requests == 2
    assert (await reported(ledger, until=AT)).rows == ()


async def test_as_if_prices_call_by_call_and_keeps_what_left_no_calls(
    ledger: MemoryLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(costs, "PAGE", 2)

    def halved(calls: Sequence[Usage], day: date) -> tuple[Decimal, bool]:
        assert day in {date(2026, 6, 15), date(2026, 6, 16)}
        tokens = sum(call.input_tokens + call.output_tokens for call in calls)
        return Decimal(tokens) / 10_000, all(call.model != "odd" for call in calls)

    found = await reported(ledger, "bu", "day", reprice=halved)
    rows = {row.key: row for row in found.rows}
    assert rows["legal", "2026-06-15"].as_if_eur == Decimal("0.0130")
    assert rows["legal", "2026-06-16"].difference_eur == Decimal("-0.0160")
    assert rows["sales", "2026-06-15"].as_if_eur == Decimal("0.0305")
    plain = await reported(ledger, "bu", "day")
    for name in ("requests", "cost_eur", "input_tokens", "output_tokens", "estimated", "unpriced"):
        assert [getattr(row, name) for row in found.rows] == [getattr(row, name) for row in plain.rows]
    assert (found.total.as_if_unpriced, found.total.as_booked) == (1, 1)


async def test_unknown_keys_are_refused(ledger: MemoryLedger) -> None:
    with pytest.raises(Invalid, match="grouped by 'weather'"):
        await reported(ledger, "weather")
