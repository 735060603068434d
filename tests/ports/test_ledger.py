"""What `ports.Ledger` promises, asked of every implementation."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, cast

import psycopg
import pytest
from psycopg import sql

from pilotis.adapters import postgres
from pilotis.derive.budget import Span, spans
from pilotis.errors import Invalid
from pilotis.ports import CostEvent, Ledger, Line
from pilotis.testing.ledger import MemoryLedger

ZONE = "Europe/Paris"
AT = datetime(2026, 6, 30, 21, 30, tzinfo=UTC)  # 23:30 in Paris, on the last day of June
_numbers = itertools.count(1)


@pytest.fixture(params=["memory", "postgres"])
async def ledger(request: pytest.FixtureRequest) -> AsyncIterator[Ledger]:
    """An empty ledger of env `prod`."""
    if request.param == "memory":
        yield MemoryLedger(env="prod", zone=ZONE)
        return
    name = f"ledger_{next(_numbers)}"
    server = request.getfixturevalue("server")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    head, _, query = server.partition("?")
    url = f"{head.rpartition('/')[0]}/{name}?{query}"
    await postgres.migrate(url)
    pool = await postgres.open_pool(url, max_size=8)
    try:
        yield postgres.PostgresLedger(pool, env="prod", zone=ZONE)
    finally:
        await pool.close()


def event(name: str, cost: str = "0.000001", **fields: Any) -> CostEvent:
    given = {
        "at": AT,
        "env": "prod",
        "plane": "online",
        "bu": "legal",
        "kind": "answer",
        "model": "small",
        "usage": {"calls": [{"model": "small", "provider": "p", "input_tokens": 10, "output_tokens": 2}]},
        "fx": None,
        "priced": True,
    } | fields
    return CostEvent(id=name, subject=f"of {name}", cost_eur=Decimal(cost), price_book="book 1", **cast("Any", given))


async def sums(ledger: Ledger, *wanted: Span) -> dict[str, int]:
    found = await ledger.spent(wanted or spans(AT, ZONE)[2:])
    return {f"{one.scope} {one.span.window}" if len(wanted) > 1 else one.scope: one.spent for one in found}


async def ids(ledger: Ledger) -> list[str]:
    return [one.id for one in await ledger.uncounted(limit=100)]


async def test_an_event_comes_back_as_it_was(ledger: Ledger) -> None:
    rate = {"usd_per_eur": "1.1355", "date": "2026-09-30"}
    whole = event("a", "0.012345678901", key="k1", step="no_rerank", estimated=True, instance="host:1", fx=rate, priced=False)
    plain = event("b", "0", at=AT + timedelta(microseconds=1), usage={})
    await ledger.append(plain)
    await ledger.append(whole)
    assert list(await ledger.events()) == [whole, plain]
    assert list(await ledger.uncounted(limit=9)) == [whole, plain]
    assert [str(one.cost_eur.normalize()) for one in await ledger.events()] == ["0.012345678901", "0"]


async def test_twice_is_once_and_the_first_stays(ledger: Ledger) -> None:
    await ledger.append(event("a", "0.5"))
    await ledger.append(event("a", "0.7"))
    assert await ledger.book([event("a", "0.9"), event("b", "0.25"), event("b", "0.3")], epoch=None) == 1
    assert await ledger.book([event("b", "0.25")], epoch=None) == 0
    assert await ledger.book([], epoch=None) == 0
    assert await ledger.total() == (2, Decimal("0.75"))


async def test_every_event_is_rounded_up_by_itself(ledger: Ledger) -> None:
    await ledger.book([event(f"e{n}", "0.000000000001") for n in range(3)] + [event("f", "0.000002")], epoch=None)
    assert (await sums(ledger))["env"] == 5
    assert (await ledger.total())[1] == Decimal("0.000002000003")


async def test_sums_go_by_scope_and_window_of_one_env(ledger: Ledger) -> None:
    last_of_june, first_of_july = AT, AT + timedelta(hours=1)
    await ledger.append(event("a", key="k1", at=last_of_june))
    await ledger.append(event("b", plane="batch", bu="sales", at=first_of_july))
    await ledger.append(event("c", key="k1", at=first_of_july, bu="None"))
    await ledger.append(event("d", env="dev", at=first_of_july))
    june, july = spans(last_of_june, ZONE), spans(first_of_july, ZONE)
    assert await sums(ledger, june[2]) == {"env": 1, "plane:online": 1, "bu:legal": 1, "key:k1": 1}
    expected = {"env": 2, "plane:online": 1, "plane:batch": 1, "bu:sales": 1, "bu:None": 1, "key:k1": 1}
    for span in july:
        assert await sums(ledger, span) == expected
    assert await sums(ledger, june[0], july[1]) == {
        **{f"{scope} hour": n for scope, n in {"env": 1, "plane:online": 1, "bu:legal": 1, "key:k1": 1}.items()},
        **{f"{scope} day": n for scope, n in expected.items()},
    }
    assert list(await ledger.spent([])) == []


async def test_a_window_holds_its_start_and_not_its_end(ledger: Ledger) -> None:
    hour = spans(AT, ZONE)[0]
    await ledger.append(event("a", at=hour.starts))
    await ledger.append(event("b", at=hour.ends))
    await ledger.append(event("c", at=hour.ends - timedelta(microseconds=1)))
    assert (await sums(ledger, hour))["env"] == 2


async def test_what_went_to_the_ledger_directly_is_uncounted_until_it_is_counted(ledger: Ledger) -> None:
    await ledger.append(event("b", at=AT + timedelta(seconds=1)))
    await ledger.append(event("a"))
    await ledger.append(event("other", env="dev"))
    assert await ids(ledger) == ["a", "b"]
    assert [one.id for one in await ledger.uncounted(limit=1)] == ["a"]
    await ledger.counted(["a", "unknown"])
    assert await ids(ledger) == ["b"]


async def test_a_recount_counts_all_that_it_sums(ledger: Ledger) -> None:
    await ledger.append(event("a"))
    await ledger.append(event("other", env="dev"))
    await ledger.book([event("b")], epoch=None)
    epoch, summed = await ledger.recount(spans(AT, ZONE))
    assert {(one.scope, one.span.window): one.spent for one in summed}["env", "day"] == 2
    assert await ids(ledger) == []
    assert (await ledger.recount(spans(AT, ZONE)))[0] != epoch


async def test_only_what_is_booked_with_the_latest_epoch_is_counted(ledger: Ledger) -> None:
    old, _ = await ledger.recount(spans(AT, ZONE))
    assert await ledger.book([event("a")], epoch=old) == 1
    assert await ids(ledger) == []
    new, _ = await ledger.recount(spans(AT, ZONE))
    await ledger.book([event("b")], epoch=old)
    await ledger.book([event("c")], epoch=None)
    await ledger.append(event("d"))
    assert await ids(ledger) == ["b", "c", "d"]
    assert await ledger.book([event("b"), event("d")], epoch=new) == 0
    assert await ids(ledger) == ["c"]
    await ledger.book([event("b")], epoch=old)
    assert await ids(ledger) == ["c"]


async def test_events_that_come_while_somebody_sums_are_summed_or_uncounted(ledger: Ledger) -> None:
    epoch, _ = await ledger.recount(spans(AT, ZONE))

    async def come(n: int) -> None:
        if n % 2:
            await ledger.append(event(f"appended {n}"))
        else:
            await ledger.book([event(f"booked {n} {m}") for m in range(3)], epoch=epoch)

    coming = [asyncio.create_task(come(n)) for n in range(40)]
    await asyncio.sleep(0.005)
    _, summed = await ledger.recount(spans(AT, ZONE))
    uncounted_then = 0
    await asyncio.gather(*coming)
    uncounted_then = len(await ids(ledger))
    total = next((one.spent for one in summed if (one.scope, one.span.window) == ("env", "month")), 0)
    assert total + uncounted_then == (await ledger.total())[0] == 80


async def test_a_report_groups_in_the_calendar_of_its_zone(ledger: Ledger) -> None:
    await ledger.append(event("a", "0.25", key="k1"))
    await ledger.append(event("b", "0.5", at=AT + timedelta(hours=1), step="refuse", estimated=True))
    await ledger.append(event("c", "1", model="big", bu="sales", priced=False, usage={"calls": []}))

    async def report(*by: str, **chosen: Any) -> dict[tuple[str, ...], Decimal]:
        return {line.key: line.cost_eur for line in await ledger.report(by, **chosen)}

    assert await report("month") == {("2026-06",): Decimal("1.25"), ("2026-07",): Decimal("0.5")}
    assert await report("day", "bu") == {
        ("2026-06-30", "legal"): Decimal("0.25"),
        ("2026-06-30", "sales"): Decimal(1),
        ("2026-07-01", "legal"): Decimal("0.5"),
    }
    assert await report("hour", bu="legal") == {("2026-06-30 23:00",): Decimal("0.25"), ("2026-07-01 00:00",): Decimal("0.5")}
    assert await report("key", "step", "model") == {
        ("", "full", "big"): Decimal(1),
        ("", "refuse", "small"): Decimal("0.5"),
        ("k1", "full", "small"): Decimal("0.25"),
    }
    assert await report("bu", since=AT + timedelta(hours=1)) == {("legal",): Decimal("0.5")}
    assert await report("bu", until=AT + timedelta(hours=1)) == {("legal",): Decimal("0.25"), ("sales",): Decimal(1)}
    assert list(await ledger.report(["env", "plane", "kind", "instance"])) == [
        Line(
            key=("prod", "online", "answer", ""),
            requests=3,
            cost_eur=Decimal("1.75"),
            input_tokens=20,
            output_tokens=4,
            unpriced=1,
            estimated=1,
        )
    ]
    assert [line.requests for line in await ledger.report([])] == [3]


async def test_a_report_by_something_unknown_is_refused(ledger: Ledger) -> None:
    with pytest.raises(Invalid, match="cannot be grouped by 'weather'"):
        await ledger.report(["bu", "weather"])


async def test_an_empty_ledger_has_no_lines(ledger: Ledger) -> None:
    assert list(await ledger.report(["bu"])) == []
    assert list(await ledger.report([])) == []
    assert await ledger.total(bu="legal") == (0, Decimal(0))


async def test_events_are_read_in_pages(ledger: Ledger) -> None:
    for n in range(5):
        await ledger.append(event(f"e{n}", at=AT + timedelta(seconds=n // 2), bu="sales" if n == 3 else "legal"))
    pages: list[list[str]] = []
    last = None
    while page := await ledger.events(after=last, limit=2):
        pages.append([one.id for one in page])
        last = page[-1]
    assert pages == [["e0", "e1"], ["e2", "e3"], ["e4"]]
    assert [one.id for one in await ledger.events(bu="legal", since=AT + timedelta(seconds=1))] == ["e2", "e4"]


async def test_a_recount_says_what_the_lines_say(ledger: Ledger) -> None:
    at = spans(AT, ZONE)[2].starts
    many = [
        event(
            f"e{n}", f"0.00000{n % 7}1", at=at + timedelta(minutes=7 * n), bu=f"bu {n % 3}", key=f"k{n % 2}" if n % 4 else None
        )
        for n in range(60)
    ]
    await ledger.book(many[:50], epoch=None)
    await ledger.book(many[40:], epoch=None)
    await ledger.append(many[3])
    for kathmandu in (ZONE, "Asia/Kathmandu"):
        wanted = [span for hours in (0, 1, 5) for span in spans(at + timedelta(hours=hours), kathmandu)[:2]]
        _, summed = await ledger.recount(wanted)
        assert summed == await ledger.spent(wanted)
        assert len(summed) > 12
