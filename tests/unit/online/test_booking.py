"""Whatever ends whenever: in the end every event is in the ledger, and the counters say what the ledger says."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pilotis.derive.budget import Span, micro_up, scopes, spans
from pilotis.errors import Permanent, Transient
from pilotis.online import booking
from pilotis.online.booking import Books, around, book_all, gauge_budgets, keep_books, open_books
from pilotis.ports import CostEvent, Ledger, Outbox, Spending
from pilotis.testing.ledger import MemoryLedger
from pilotis.testing.online import MemoryMeter

ZONE = "Europe/Paris"
NOW = datetime.now(UTC)


def event(name: str, cost: str = "0.0000012", **fields: Any) -> CostEvent:
    given = {"at": NOW, "env": "dev", "plane": "online", "bu": "legal", "kind": "answer", "model": "m", "key": "k1"} | fields
    return CostEvent(
        id=name, subject=name, usage={}, cost_eur=Decimal(cost), price_book="b", fx=None, priced=True, **cast("Any", given)
    )


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(booking, "LONGEST_WAIT_S", 0.0005)


@dataclass
class Redis:
    """What is lost when Redis is."""

    epoch: str | None = None
    counters: Counter[tuple[str, str]] = field(default_factory=Counter)
    settled: set[str] = field(default_factory=set)
    stream: list[tuple[str, CostEvent]] = field(default_factory=list)
    leader: str | None = None
    held: set[str] = field(default_factory=set)
    """Requests for which money is put aside."""
    places: Iterator[int] = field(default_factory=lambda: iter(range(1, 10**9)))

    def lose(self) -> None:
        self.epoch, self.leader = None, None
        self.counters.clear()
        self.settled.clear()
        self.stream.clear()
        self.held.clear()

    def expire(self, event: CostEvent) -> None:
        """Its process died: what was held for it counts as spent, unless the ledger knows better."""
        self.held.add(event.id)
        self.stream.append((f"{next(self.places):06}", replace(event, usage={"lost": True})))

    def add(self, event: CostEvent) -> None:
        if event.id not in self.settled:
            self.settled.add(event.id)
            for scope in scopes(plane=event.plane, bu=event.bu, key=event.key):
                for span in spans(event.at, ZONE):
                    self.counters[scope, span.id] += micro_up(event.cost_eur)


class Mailbox:
    """An outbox as one process has it: every call is one atomic step on `redis`."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.own: dict[str, CostEvent] = {}

    async def settle(self, event: CostEvent) -> None:
        if self.redis.epoch is None:
            raise Transient("budgets are being rebuilt")
        self.own[event.id] = event
        if event.id not in self.redis.settled:
            self.redis.add(event)
            self.redis.stream.append((f"{next(self.redis.places):06}", event))

    async def lead(self, instance: str, *, ttl_s: float) -> bool:
        if self.redis.leader not in {None, instance}:
            return False
        self.redis.leader = instance if ttl_s > 0.01 else None
        return True

    async def read(self, *, limit: int) -> Sequence[tuple[str, CostEvent]]:
        return self.redis.stream[:limit]

    async def remove(self, upto: str) -> None:
        self.redis.stream = [entry for entry in self.redis.stream if entry[0] > upto]

    async def waiting(self) -> int:
        return len(self.redis.stream)

    async def unconfirmed(self) -> Sequence[CostEvent]:
        return list(self.own.values())

    async def count(self, event: CostEvent, *, epoch: str) -> None:
        if self.redis.epoch != epoch:
            raise Transient("the counters were seeded anew")
        self.redis.held.discard(event.id)
        self.redis.add(event)

    async def free(self, ids: Sequence[str]) -> int:
        self.redis.held -= set(ids)
        self.redis.settled |= set(ids)
        return len(ids)

    async def epoch(self) -> str | None:
        return self.redis.epoch

    async def is_seeded(self) -> bool:
        return self.redis.epoch is not None

    async def rejoin(self) -> float:
        return 0.0

    async def seed(self, spent: Sequence[Spending], *, epoch: str, instance: str) -> bool:
        if self.redis.epoch is not None or self.redis.leader != instance or self.redis.stream:
            return False
        self.redis.epoch = epoch
        self.redis.counters = Counter({(one.scope, one.span.id): one.spent for one in spent})
        return True

    async def unseed(self) -> None:
        self.redis.epoch = None

    async def spending(self, wanted: Sequence[Span] | None = None) -> Sequence[Spending]:
        by_id = {span.id: span for span in wanted or spans(NOW, ZONE)}
        return [Spending(scope=s, span=by_id[i], spent=n, limit=5) for (s, i), n in self.redis.counters.items() if i in by_id]


class Gated:
    """Another's methods, with a stop before each takes effect and a stop before its result is known."""

    def __init__(self, what: object, stop: Callable[[], Awaitable[None]]) -> None:
        self._what, self._stop = what, stop

    def __getattr__(self, name: str) -> Any:
        async def call(*given: Any, **named: Any) -> Any:
            await self._stop()
            result = await getattr(self._what, name)(*given, **named)
            await self._stop()
            return result

        return call


@dataclass
class World:
    redis: Redis = field(default_factory=Redis)
    ledger: MemoryLedger = field(default_factory=lambda: MemoryLedger(zone=ZONE))

    def books(self, name: str, mailbox: Mailbox | None = None) -> Books:
        return Books(mailbox or Mailbox(self.redis), self.ledger, instance=name, zone=ZONE)

    async def rest(self, *mailboxes: Mailbox) -> None:
        """What the processes that are left do until nothing is left to do."""
        self.redis.leader = None
        running = [self.books(f"after {n}", mailbox) for n, mailbox in enumerate(mailboxes or [Mailbox(self.redis)])]
        for _ in range(6):
            for books in running:
                await books.turn()

    async def check(self, *ids: str) -> None:
        # What a process that died had spent is only known from Redis: it may be lost with it.
        assert set(self.ledger.rows) | {"died"} == set(ids) | {"died"}
        assert self.ledger.not_counted == set()
        assert self.redis.stream == []
        assert self.redis.held == set()
        booked = {(one.scope, one.span.id): one.spent for one in await self.ledger.spent(around(NOW, ZONE))}
        counted = {place: micro for place, micro in self.redis.counters.items() if micro}
        assert counted == booked


async def full(world: World) -> tuple[Mailbox, list[str]]:
    """Events in every state there is: in the stream, in the stream and in the ledger, in the ledger only."""
    first = world.books("first")
    await first.turn()
    world.redis.leader = None
    mailbox = Mailbox(world.redis)
    for n in range(3):
        await mailbox.settle(event(f"settled {n}", bu=f"bu {n}"))
    await world.ledger.append(event("settled 1", bu="bu 1"))  # the answer of its settling was lost
    await world.ledger.append(event("direct", key=None))
    await world.ledger.append(event("ingested", plane="batch"))
    await world.ledger.append(event("known", "0.000001"))
    await world.ledger.append(event("counted", "0.000001"))
    await mailbox.count(event("counted", "0.000001"), epoch=world.redis.epoch or "")
    await world.ledger.counted(["counted"])
    for name in ("known", "counted", "died"):
        world.redis.expire(event(name, "0.5"))
    return mailbox, [*(f"settled {n}" for n in range(3)), "direct", "ingested", "known", "counted", "died"]


class Killed(BaseException):
    """The process is gone."""


async def run(world: World, mailbox: Mailbox, at: int, then: Callable[[], Awaitable[None]], name: str = "struck") -> bool:
    """One turn in which `then` happens at stop `at`; False where it was over before."""
    passed = 0

    async def stop() -> None:
        nonlocal passed
        passed += 1
        if passed == at:
            await then()

    outbox, ledger = Gated(mailbox, stop), Gated(world.ledger, stop)
    books = Books(cast("Outbox", outbox), cast("Ledger", ledger), instance=name, zone=ZONE)
    with suppress(Killed, Transient):
        await books.turn()
    return passed >= at


async def kill() -> None:
    raise Killed


@pytest.mark.parametrize("is_lost", [False, True])
async def test_a_process_may_be_killed_at_any_step(is_lost: bool) -> None:
    for at in range(1, 200):
        world = World()
        mailbox, ids = await full(world)
        if is_lost:
            world.redis.lose()
        struck = await run(world, mailbox, at, kill)
        await world.rest(Mailbox(world.redis) if not is_lost else mailbox)
        await world.check(*ids)
        assert is_lost or "died" in world.ledger.rows
        if not struck:
            assert at > 20
            return
    pytest.fail("a turn has no end")


@pytest.mark.parametrize("is_lost", [False, True])
async def test_redis_may_be_lost_at_any_step(is_lost: bool) -> None:
    for at in range(1, 200):
        world = World()
        mailbox, ids = await full(world)
        if is_lost:
            world.redis.lose()

        async def lose(world: World = world) -> None:
            world.redis.lose()

        struck = await run(world, mailbox, at, lose)
        await world.rest(mailbox)
        await world.check(*ids)
        if not struck:
            return
    pytest.fail("a turn has no end")


@pytest.mark.parametrize("is_lost_before", [False, True])
@pytest.mark.parametrize("is_lost_then", [False, True])
async def test_a_process_may_stand_still_at_any_step_while_another_does_it_all(
    is_lost_before: bool, is_lost_then: bool
) -> None:
    for at in range(1, 200):
        world = World()
        await full(world)
        if is_lost_before:
            world.redis.lose()

        async def overtake(world: World = world) -> None:
            if is_lost_then:
                world.redis.lose()
            await world.ledger.append(event("meanwhile"))
            await world.rest()

        struck = await run(world, Mailbox(world.redis), at, overtake)
        await world.rest()
        await world.check(*world.ledger.rows)
        if not struck:
            assert at > 10
            return
    pytest.fail("a turn has no end")


async def test_two_processes_that_make_the_counters_at_once_do_not_mix_their_sums() -> None:
    for at in range(1, 60):
        for dies_at in range(1, 60):
            world = World()
            await full(world)
            world.redis.lose()
            struck: list[bool] = []

            async def overtake(world: World = world, dies_at: int = dies_at, struck: list[bool] = struck) -> None:
                world.redis.leader = None
                await world.ledger.append(event("meanwhile"))
                struck.append(await run(world, Mailbox(world.redis), dies_at, kill, name="another"))

            if not await run(world, Mailbox(world.redis), at, overtake):
                assert at > 10
                return
            await world.rest()
            await world.check(*world.ledger.rows)
            if not struck[0]:
                break
    pytest.fail("a turn has no end")


class Stage:
    """Tasks that go on one stop at a time, in the order that is drawn."""

    def __init__(self) -> None:
        self.waiting: dict[tuple[str, int], asyncio.Future[None]] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.numbers = iter(range(10**9))

    async def stop(self, name: str) -> None:
        place = name, next(self.numbers)
        self.waiting[place] = asyncio.get_running_loop().create_future()
        try:
            await self.waiting[place]
        finally:
            self.waiting.pop(place, None)

    async def play(self, order: Sequence[tuple[str, int]], redis: Redis) -> None:
        for what, steps in order:
            if what == "Redis is lost":
                redis.lose()
            elif what == "the lease runs out":
                redis.leader = None
            else:
                for _ in range(steps):
                    await self._step(what)
        for task in self.tasks.values():
            task.cancel()  # killed where they stand
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)

    async def _step(self, name: str) -> None:
        for place in [place for place in self.waiting if place[0] == name]:
            self.waiting.pop(place).set_result(None)
        for _ in range(5):
            await asyncio.sleep(0)  # whoever can go on is at its next stop by now


ORDER = st.lists(
    st.tuples(
        st.sampled_from(
            ["books 0", "books 1", "client 0", "client 1", "books 0", "books 1", "Redis is lost", "the lease runs out"]
        ),
        st.integers(1, 30),
    ),
    max_size=30,
)


@given(ORDER, st.booleans())
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_order_of_steps_of_several_processes(order: list[tuple[str, int]], seeded: bool) -> None:
    world, stage = World(), Stage()
    if seeded:
        await world.books("first").turn()
        world.redis.leader = None
    mailboxes = [Mailbox(world.redis), Mailbox(world.redis)]

    async def process(name: str, mailbox: Mailbox) -> None:
        stop = partial(stage.stop, name)
        outbox, ledger = cast("Outbox", Gated(mailbox, stop)), cast("Ledger", Gated(world.ledger, stop))
        books = Books(outbox, ledger, instance=name, zone=ZONE)
        while True:
            try:
                await books.turn()
            except Transient:
                await stop()

    acknowledged: list[str] = []

    async def client(name: str, mailbox: Mailbox) -> None:
        stop = partial(stage.stop, name)
        for n in range(4):
            one = event(f"{name} {n}", key=name)
            try:
                await Gated(mailbox, stop).settle(one)
                if n == 2:
                    raise Transient("its answer was lost")
            except Transient:
                await Gated(world.ledger, stop).append(one)
            acknowledged.append(one.id)

    slept = asyncio.sleep
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio, "sleep", lambda _: slept(0))
        for n, mailbox in enumerate(mailboxes):
            stage.tasks[f"books {n}"] = asyncio.create_task(process(f"books {n}", mailbox))
            stage.tasks[f"client {n}"] = asyncio.create_task(client(f"client {n}", mailbox))
        await stage.play(order, world.redis)
        await world.rest(*mailboxes)
    assert set(acknowledged) <= set(world.ledger.rows)
    await world.check(*world.ledger.rows)


async def test_sums_that_another_process_has_overtaken_are_not_kept() -> None:
    world = World()
    mailbox = Mailbox(world.redis)
    await world.ledger.append(event("before"))
    epoch, spent = await world.ledger.recount(around(NOW, ZONE))
    await world.ledger.append(event("between"))
    await world.ledger.recount(around(NOW, ZONE))  # by another process, which has the lease for a moment
    assert await mailbox.lead("late", ttl_s=5)
    assert await mailbox.seed(spent, epoch=epoch, instance="late")
    await world.rest(mailbox)
    await world.check("before", "between")


async def test_all_is_booked_and_counted_once() -> None:
    world = World()
    mailbox, ids = await full(world)
    assert await book_all(mailbox, world.ledger) == 3
    assert await book_all(mailbox, world.ledger) == 0
    await world.check(*ids)


async def test_of_a_lost_hold_the_ledger_knows_what_was_spent() -> None:
    world = World()
    mailbox, _ = await full(world)
    await book_all(mailbox, world.ledger)
    costs = {name: world.ledger.rows[name].cost_eur for name in ("known", "counted", "died")}
    assert costs == {"known": Decimal("0.000001"), "counted": Decimal("0.000001"), "died": Decimal("0.5")}
    assert world.redis.counters["env", spans(NOW, ZONE)[2].id] == 2 * 5 + 1 + 1 + 500_000


async def test_what_one_process_alone_knows_is_booked_as_it_ends() -> None:
    world = World()
    mailbox, ids = await full(world)
    world.redis.lose()
    await book_all(mailbox, world.ledger)
    assert set(world.ledger.rows) == set(ids) - {"died"}
    await open_books(mailbox, world.ledger, instance="a", zone=ZONE)
    await world.check(*ids)


async def test_who_does_not_lead_leaves_the_stream_alone() -> None:
    world = World()
    await full(world)
    world.redis.leader = "another"
    await world.books("a").turn()
    assert len(world.redis.stream) == 6


async def test_nobody_is_admitted_before_the_guardrail_is_announced() -> None:
    world, told = World(), []
    mailbox = Mailbox(world.redis)

    async def announce() -> None:
        told.append(world.redis.epoch)

    await open_books(mailbox, world.ledger, instance="a", zone=ZONE, announce=announce)
    assert told == [None]
    assert world.redis.epoch is not None
    assert world.redis.leader is None  # nobody has to wait for the lease of a program that has ended


async def test_books_that_cannot_be_opened_say_so_in_time() -> None:
    world = World()
    world.redis.leader = "another, which is dead"
    with pytest.raises(Transient, match="could not be rebuilt"):
        await open_books(Mailbox(world.redis), world.ledger, instance="a", zone=ZONE, timeout_s=0.02)


async def test_a_settlement_while_the_counters_are_made_is_in_both() -> None:
    world = World()
    mailbox = Mailbox(world.redis)
    counted = world.ledger.recount

    async def recount(spans: Sequence[Span]) -> tuple[str, Sequence[Spending]]:
        found = await counted(spans)
        if not world.ledger.rows:
            world.redis.stream.append(("000001", event("late")))  # settled by another, after the sums were taken
        return found

    world.ledger.recount = recount  # type: ignore[method-assign]
    await world.rest(mailbox)
    await world.check("late")


async def test_the_loop_outlives_whatever_fails_and_gauges_what_waits() -> None:
    world, meter = World(), MemoryMeter()
    mailbox, ids = await full(world)
    failures = [Transient("away"), RuntimeError("a bug"), OSError("a wire")]
    epoch = mailbox.epoch

    async def failing() -> str | None:
        if failures:
            raise failures.pop()
        return await epoch()

    mailbox.epoch = failing  # type: ignore[method-assign]
    loop = asyncio.create_task(keep_books(mailbox, world.ledger, meter, instance="a", zone=ZONE, every_s=0.001))
    async with asyncio.timeout(5):
        while world.redis.stream or world.ledger.not_counted or failures:  # noqa: ASYNC110 - there is nothing to be told by
            await asyncio.sleep(0.001)
    loop.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loop
    await world.check(*ids)
    assert world.redis.leader is None
    assert list(meter.values.values()) == [[0]]
    assert meter.total("rag_holds_lost_total") == 3  # of `full`: known, counted, died


async def test_one_event_that_the_ledger_refuses_keeps_no_other_from_it(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    mailbox, ids = await full(world)
    book = world.ledger.book

    async def strict(events: Sequence[CostEvent], *, epoch: str | None) -> int:
        if any(one.id == "settled 0" for one in events):
            raise Permanent("Postgres refuses the data")
        return await book(events, epoch=epoch)

    world.ledger.book = strict  # type: ignore[method-assign]
    await book_all(mailbox, world.ledger)
    assert set(ids) == set(world.ledger.rows)  # the process that settled it still knew it
    assert "the ledger refuses CostEvent(id='settled 0'" in caplog.text


async def test_budgets_are_gauged_and_a_window_that_ended_is_empty() -> None:
    world, meter, shown = World(), MemoryMeter(), set[tuple[str, str]]()
    mailbox, _ = await full(world)
    await book_all(mailbox, world.ledger)
    await gauge_budgets(mailbox, meter, shown)

    def gauge(name: str, scope: str, window: str) -> list[float]:
        return meter.values[name, (("scope", scope), ("window", window))]

    assert gauge("rag_budget_spent_eur", "env", "hour") == [0.500012]
    assert gauge("rag_budget_spent_eur", "plane:batch", "month") == [2e-6]
    assert gauge("rag_budget_limit_eur", "bu:bu 1", "day") == [5e-6]
    assert not any("key:" in dict(labels)["scope"] for _, labels in meter.values)
    world.redis.counters.clear()
    await gauge_budgets(mailbox, meter, shown)
    assert gauge("rag_budget_spent_eur", "env", "hour") == [0]


@pytest.mark.parametrize("at", ["2026-10-25T00:30:00+00:00", "2026-12-31T22:59:59+00:00", "2027-03-28T00:59:59+00:00"])
def test_the_windows_around_hold_those_of_clocks_that_disagree(at: str) -> None:
    now = datetime.fromisoformat(at)
    ids = {span.id for span in around(now, ZONE)}
    for minutes in (-59, -1, 0, 1, 59):
        other = datetime.fromtimestamp(now.timestamp() + 60 * minutes, UTC)
        assert {span.id for span in spans(other, ZONE)} <= ids
