from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, cast

import pytest

from pilotis.derive.budget import Span, micro_up, scopes, spans
from pilotis.online.audit import Audit, Page, audit
from pilotis.ports import CostEvent, Outbox, Spending
from pilotis.testing.ledger import MemoryLedger

ZONE = "Europe/Paris"
NOW = datetime(2026, 7, 1, 12, 30, tzinfo=UTC)


def event(name: str, cost: str = "0.0000015", **fields: Any) -> CostEvent:
    given = {"at": NOW, "bu": "legal", "instance": "a", "plane": "online"} | fields
    return CostEvent(
        id=name,
        env="prod",
        kind="answer",
        subject=name,
        model="m",
        usage={},
        cost_eur=Decimal(cost),
        price_book="b",
        fx=None,
        priced=True,
        **cast("Any", given),
    )


class Counters:
    """An outbox whose stream is what `settled` is not booked yet, and which counts what it settles."""

    def __init__(self) -> None:
        self.sums: Counter[tuple[str, str]] = Counter()
        self.stream: list[tuple[str, CostEvent]] = []
        self.latest: str | None = "e"

    def settle(self, event: CostEvent) -> None:
        self.stream.append((event.id, event))
        for scope in scopes(plane=event.plane, bu=event.bu, key=event.key):
            for span in spans(event.at, ZONE):
                self.sums[scope, span.id] += micro_up(event.cost_eur)

    async def read(self, *, limit: int) -> Sequence[tuple[str, CostEvent]]:
        return self.stream[:limit]

    async def remove(self, upto: str) -> None:
        self.stream.clear()

    async def unconfirmed(self) -> Sequence[CostEvent]:
        return []

    async def epoch(self) -> str | None:
        return self.latest

    async def spending(self, wanted: Sequence[Span]) -> Sequence[Spending]:
        by_id = {span.id: span for span in wanted}
        return [Spending(scope=s, span=by_id[i], spent=n) for (s, i), n in self.sums.items() if i in by_id]


class World:
    def __init__(self) -> None:
        self.ledger, self.outbox = MemoryLedger(zone=ZONE), Counters()
        self.ledger.latest = "e"
        self.pages: list[Page] = []

    def settle(self, one: CostEvent) -> None:
        self.outbox.settle(one)

    def show(self, instance: str, **costs: str) -> None:
        by_bu = {("online", bu, "m"): Decimal(cost) for bu, cost in costs.items()}
        self.pages.append(Page(url=f"http://{instance}/metrics", instance=instance, serves=None, costs=by_bu))

    async def audit(self, now: datetime = NOW) -> Audit:
        async def pages() -> Sequence[Page]:
            return self.pages

        return await audit(cast("Outbox", self.outbox), self.ledger, pages, now=now, zone=ZONE, pause_s=0)


@pytest.fixture
def world() -> World:
    made = World()
    made.settle(event("1", key="k"))
    made.settle(event("2", bu="sales"))
    made.settle(event("3", at=NOW - timedelta(hours=1)))
    made.settle(event("4", at=NOW - timedelta(days=1)))
    made.show("a", legal="0.0000045", sales="0.0000015")
    return made


def places(found: Audit) -> dict[str, Decimal]:
    return {one.place: one.difference_eur for one in found.differences}


async def test_all_agree_in_the_windows_of_now_and_those_before(world: World) -> None:
    found = await world.audit()
    assert places(found) == {}
    figures = {one.place: one.ledger_eur for one in found.compared}
    assert figures["env hour"] == Decimal("0.000004")
    assert figures["env hour before"] == Decimal("0.000002")
    assert figures["key:k month"] == Decimal("0.000002")
    assert figures["bu:legal month before"] == Decimal("0.000002")
    assert figures["env day before"] == Decimal("0.000002")
    assert figures["a online legal m"] == Decimal("0.0000045")
    assert found.elsewhere == {}


async def test_a_counter_that_has_less_or_more_is_named(world: World) -> None:
    hour, _, month = (span.id for span in spans(NOW, ZONE))
    world.outbox.sums["env", month] -= 1
    world.outbox.sums["bu:ghost", hour] += 7
    found = await world.audit()
    assert places(found) == {"env month": Decimal("-0.000001"), "bu:ghost hour": Decimal("0.000007")}
    reasons = [one.reason for one in found.differences]
    assert "has what the ledger has not" in reasons[0]
    assert "something was removed from Redis" in reasons[1]


async def test_what_is_not_counted_yet_is_said_to_be_so(world: World) -> None:
    await world.audit()
    world.outbox.latest = None
    await world.ledger.append(event("direct"))
    found = await world.audit()
    assert places(found)["plane:online day"] == Decimal("-0.000002")
    assert {one.reason for one in found.differences if one.what == "counter"} == {
        "the ledger has events that are not counted yet"
    }


async def test_a_past_window_is_compared_only_where_it_is_still_kept(world: World) -> None:
    *_, before = (span.id for span in spans(NOW - timedelta(days=1), ZONE))
    kept = {place: n for place, n in world.outbox.sums.items() if place[1] != before}
    world.outbox.sums = Counter(kept)
    assert places(await world.audit()) == {}
    world.outbox.sums["env", before] = 1
    found = await world.audit()
    assert places(found)["env month before"] == Decimal("-0.000001")
    assert "a window that has ended" in found.differences[0].reason


async def test_a_window_that_ended_long_ago_is_not_compared(world: World) -> None:
    world.outbox.sums["env", spans(NOW - timedelta(days=1), ZONE)[2].id] += 1
    assert places(await world.audit(NOW + timedelta(days=1))) == {"env month before": Decimal("0.000001")}
    assert places(await world.audit(NOW + timedelta(days=2))) == {}


async def test_metrics_that_differ_and_processes_without_any(world: World) -> None:
    world.settle(event("5", instance="gone"))
    world.settle(event("6", instance=None))
    world.pages.clear()
    world.show("a", legal="0.0000051", sales="0.0000009", other="0")
    found = await world.audit()
    assert places(found) == {"a online legal m": Decimal("0.0000006"), "a online sales m": Decimal("-0.0000006")}
    assert "not in the ledger" in found.differences[0].reason
    assert "in the ledger under this process" in found.differences[1].reason
    assert found.elsewhere == {"gone": Decimal("0.0000015"), "": Decimal("0.0000015")}


async def test_the_sum_of_floats_is_the_sum_of_decimals_to_the_micro_euro(world: World) -> None:
    world.pages.clear()
    world.show("a", legal=str(Decimal(0.0000045 + 1e-13)), sales="0.0000015")
    assert places(await world.audit()) == {}


async def test_what_is_settled_meanwhile_is_no_difference_and_what_was_late_is_looked_at_again(world: World) -> None:
    spending, settled = world.outbox.spending, iter(range(100))

    async def busy(wanted: Sequence[Span]) -> Sequence[Spending]:
        found = await spending(wanted)
        world.settle(event(f"meanwhile {next(settled)}"))
        return found

    world.outbox.spending = busy  # type: ignore[method-assign]
    world.pages.clear()
    found = await world.audit()
    assert places(found) == {}
    assert {one.place for one in found.compared if one.moving} >= {"env hour", "bu:legal month"}
    assert not next(one for one in found.compared if one.place == "bu:sales hour").moving
    assert next(settled) == 1


async def test_a_metric_that_is_a_moment_late_is_looked_at_again(world: World) -> None:
    late, looked = world.pages[0], 0
    world.pages.clear()

    async def pages() -> Sequence[Page]:
        nonlocal looked
        looked += 1
        return [late] if looked > 2 else [Page(url="", instance="a", serves=None, costs={})]

    found = await audit(cast("Outbox", world.outbox), world.ledger, pages, now=NOW, zone=ZONE, pause_s=0)
    assert (places(found), looked) == ({}, 3)
