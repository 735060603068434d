"""Whatever happens in whatever order: nobody spends what is not there, and the counters end up saying what the ledger says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from pilotis.adapters.redis import RedisMoney, till
from pilotis.contract import load
from pilotis.derive import plan
from pilotis.derive.budget import Budget, Budgets, Rates, micro_up
from pilotis.errors import Limited, Transient
from pilotis.online import booking
from pilotis.online.booking import Books, book_all
from pilotis.ports import CostEvent, Hold, Request
from pilotis.testing.ledger import MemoryLedger

if TYPE_CHECKING:
    from integration.redis.conftest import Server

ENV = replace(
    plan.derive(load.default()).env("dev"),
    budgets=Budgets(
        env=Budget(hour_eur=Decimal("0.10"), day_eur=Decimal("0.15")),
        bu=Budget(hour_eur=Decimal("0.065")),
        key=Budget(day_eur=Decimal("0.05")),
    ),
    rates=Rates(),
    total_s=30.0,
)
AROUND = booking.around
FAULTS = st.sampled_from(["", "", "before", "after"])


@dataclass
class Asked:
    """A request that is in."""

    process: Process
    hold: Hold
    begun: bool = False


@dataclass(eq=False)
class Process:
    money: RedisMoney
    books: Books
    fault: str = ""
    asleep: bool = False
    """It does not look up for a while, such as one whose machine is paused."""
    asked: dict[str, Asked] = field(default_factory=dict)


class Money(RuleBasedStateMachine):
    server: Server

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.ledger = MemoryLedger(zone=ENV.timezone)
        self.processes: list[Process] = []
        self.ahead_s = 0.0
        self.runs = self.requests = self.opened = 0
        self.actual: dict[str, int] = {}
        """What was really spent, in micro-euros."""
        self.begun_by_the_dead: set[str] = set()
        self.unknowable: set[str] = set()
        """Nobody is left who knows: the process died, and Redis was flushed before it noticed."""
        self.ceilings: dict[str, int] = {}
        booking.around = lambda now, zone: AROUND(now + timedelta(seconds=self.ahead_s), zone)

    @initialize()
    def begin_with_two(self) -> None:
        self.server.flush()
        for _ in range(2):
            self.start()
        self.open()

    def start(self) -> None:
        self.opened += 1
        name = f"p{self.opened}"
        money = RedisMoney(self.server.url, env=ENV, namespace="n", instance=name, offset_us=self.offset_us)
        process = Process(money, Books(money.outbox, self.ledger, instance=name, zone=ENV.timezone))
        original = money._till.script

        async def script(name: str, *args: Any) -> Any:
            fault, process.fault = process.fault, ""
            if fault == "before":
                raise Transient("never sent")
            reply = await original(name, *args)
            if fault == "after":
                raise Transient("not answered")
            return reply

        money._till.script = script  # type: ignore[method-assign]
        self.processes.append(process)
        self.do(money.ping())
        self.renumber(process)

    def kill(self, n: int) -> None:
        process = self.processes.pop(n % len(self.processes))
        begun = {name for name, asked in process.asked.items() if asked.begun}
        self.begun_by_the_dead |= begun
        self.unknowable |= {
            name for name in begun | {*process.money._till._stranded} if not self.do(self.is_known(process, name))
        }
        self.do(self.drop(process.money))

    @rule(
        n=st.integers(0, 3),
        ceiling=st.sampled_from([21_000, 5_000]),
        many=st.integers(1, 4),
        bu=st.sampled_from(["a", "b"]),
        key=st.sampled_from([None, None, "k"]),
        fault=FAULTS,
    )
    def admit(self, *, n: int, ceiling: int, many: int, bu: str, key: str | None, fault: str) -> None:
        for _ in range(many):
            self.admit_one(self.process(n), ceiling, bu, key, fault)

    def admit_one(self, process: Process, ceiling: int, bu: str, key: str | None, fault: str) -> None:
        self.requests += 1
        name = f"r{self.requests}"
        request = Request(id=name, plane="online", bu=bu, key=key, ceilings=(ceiling,))
        process.fault = fault
        with suppress(Transient, Limited):
            admitted = self.do(process.money.admission.admit(request))
            assert admitted.hold.micro == ceiling
            process.asked[name] = Asked(process, admitted.hold)
            self.ceilings[name] = ceiling
        process.fault = ""

    @rule(n=st.integers(0, 3), many=st.integers(1, 3))
    def begin(self, n: int, many: int = 1) -> None:
        process = self.process(n)
        for asked in [asked for asked in process.asked.values() if not asked.begun][:many]:
            asked.begun = True
            with suppress(Transient):
                self.do(self.say_begun(process, asked.hold))

    @rule(
        n=st.integers(0, 3),
        part=st.sampled_from([1, 2, 21_000]),
        fault=FAULTS,
        ledger=st.sampled_from(["up", "up", "up", "down"]),
    )
    def settle(self, n: int, part: int, fault: str, ledger: str) -> None:
        process = self.process(n)
        asked = next((asked for asked in process.asked.values() if asked.begun), None)
        if asked is None:
            return
        del process.asked[asked.hold.id]
        event = self.event(asked.hold, -(-asked.hold.micro // part))
        process.fault = fault
        try:
            self.do(process.money.admission.settle(asked.hold, event))
        except Transient:
            process.fault = ""
            if ledger == "up":
                self.do(self.ledger.append(event))
            else:  # only the process knows it now
                self.begun_by_the_dead.add(event.id)

    @rule(n=st.integers(0, 3), fault=FAULTS)
    def release(self, n: int, fault: str) -> None:
        process = self.process(n)
        asked = next((asked for asked in process.asked.values() if not asked.begun), None)
        if asked:
            del process.asked[asked.hold.id]
            process.fault = fault
            with suppress(Transient):
                self.do(process.money.admission.release(asked.hold))
            process.fault = ""

    @rule(seconds=st.sampled_from([1.0, 40.0, 100.0, 1800.0, 3600.0]))
    def wait(self, seconds: float) -> None:
        self.ahead_s += seconds
        if seconds > booking.LEASE_S:
            assert self.server.say("DEL", "{n}:leader")
        for process in self.processes:
            process.money._till.offset_us = self.offset_us
            process.money._till._skew_us += int(seconds * 1e6)
        if seconds >= 30 + 60:  # a living process spends nothing on a hold that has ended
            for process in self.processes:
                process.asked = {name: asked for name, asked in process.asked.items() if asked.begun}

    def skew(self, n: int, seconds: int) -> None:
        self.process(n).money._till._skew_us += seconds * 1_000_000

    def flush(self) -> None:
        self.server.flush()
        self.unknowable |= self.begun_by_the_dead

    def restart(self) -> None:
        """As one does that keeps its data: it has another run id."""
        self.runs += 1
        for process in self.processes:
            self.renumber(process)

    def sleep(self, n: int) -> None:
        process = self.process(n)
        process.asleep = all(asked.begun for asked in process.asked.values())

    @rule(n=st.integers(0, 3), fault=FAULTS)
    def turn(self, n: int, fault: str) -> None:
        process = self.process(n)
        with suppress(Transient):
            self.join()
            process.fault = fault
            self.do(process.books.turn())
        process.fault = ""

    def look_again(self, n: int) -> None:
        """What the audit does where it finds the counters wrong."""
        self.do(self.process(n).money.outbox.unseed())

    @rule(n=st.integers(0, 3), many=st.integers(1, 4))
    def turns(self, n: int, many: int) -> None:
        for more in range(many):
            self.turn(n + more, "")

    @rule(
        n=st.integers(0, 3), what=st.sampled_from(["kill", "flush", "restart", "sleep", "unseed", "start", "skew", "skew back"])
    )
    def disaster(self, n: int, what: str) -> None:
        match what:
            case "kill" if len(self.processes) > 1:
                self.kill(n)
            case "flush":
                self.flush()
            case "restart":
                self.restart()
            case "sleep":
                self.sleep(n)
            case "unseed":
                self.look_again(n)
            case "start" if len(self.processes) < 4:
                self.start()
            case "skew" | "skew back":
                self.skew(n, 7200 if what == "skew" else -50)

    @invariant()
    def never_over_a_limit(self) -> None:
        if self.processes:
            money = self.processes[0].money
            if self.do(money._till.wire.run("standing", money._till.meter, 0))[0]:
                for one in self.do(money.outbox.spending()):
                    assert one.limit is None or one.spent + one.held <= one.limit, one
                    assert one.spent >= 0
                    assert one.held >= 0

    def teardown(self) -> None:
        try:
            if self.processes:
                self.end_well()
        finally:
            for process in self.processes:
                self.do(process.money.close())
            self.runner.close()
            booking.around = AROUND

    def end_well(self) -> None:
        for n, process in enumerate(self.processes):
            process.asleep = False
            self.begin(n, len(process.asked))
            for _ in range(len(process.asked)):
                self.settle(n, 2, "", "up")
        self.open()
        self.wait(91.0)
        for _ in range(40):
            self.turn(0, "")
            for process in self.processes:
                self.do(book_all(process.money.outbox, self.ledger))
        money = self.processes[0].money
        assert self.do(money.outbox.epoch())
        assert self.do(money.outbox.waiting()) == 0
        windows = booking.around(datetime.now(UTC), ENV.timezone)
        counters = {(one.scope, one.span.id): (one.spent, one.held) for one in self.do(money.outbox.spending(windows))}
        due = {(one.scope, one.span.id): (one.spent, 0) for one in self.do(self.ledger.spent(windows))}
        assert counters == {place: sums for place, sums in due.items() if sums != (0, 0)}
        assert not self.ledger.not_counted
        for name, spent in self.actual.items():
            booked = micro_up(self.ledger.rows[name].cost_eur) if name in self.ledger.rows else None
            assert booked in {spent, self.ceilings[name]} or name in self.unknowable, name
        for name in self.begun_by_the_dead - self.unknowable:
            assert name in self.ledger.rows

    @property
    def offset_us(self) -> int:
        return int(self.ahead_s * 1e6)

    def process(self, n: int) -> Process:
        found = self.processes[n % len(self.processes)]
        found.asleep = False
        return found

    def renumber(self, process: Process) -> None:
        line = process.money._till.wire._line
        assert line
        line.run = f"run {self.runs}"

    def join(self) -> None:
        """All processes that are awake say their holds in time."""
        for process in self.processes:
            if not process.asleep:
                self.do(process.money.outbox.epoch())
                if process.money._till.epoch is None:
                    self.do(process.money.outbox.rejoin())

    def open(self) -> None:
        for _ in range(20):
            for n in range(len(self.processes)):
                self.turn(n, "")
                if self.do(self.processes[n].money.outbox.is_seeded()):
                    return
            self.wait(6.0)
        raise AssertionError("never opened")

    def event(self, hold: Hold, micro: int) -> CostEvent:
        self.actual[hold.id] = micro
        return CostEvent(
            id=hold.id, at=hold.at, env="dev", plane=hold.plane, bu=hold.bu, kind="answer", subject=hold.id, model="m", usage={},
            cost_eur=Decimal(micro) / 1_000_000, price_book="b", fx=None, priced=True, key=hold.key,
        )  # fmt: skip

    def do(self, call: Awaitable[Any]) -> Any:
        async def done() -> Any:
            return await call

        return self.runner.run(done())

    async def is_known(self, process: Process, name: str) -> bool:
        """Whether anything but this process knows of a request: not where Redis was flushed and it had no time to say it again."""
        money = process.money
        waiting = {event.id for _, event in await money.outbox.read(limit=1000)}
        kept = [await money._till.wire.call("HEXISTS", f"{{n}}:{where}", name) for where in ("holds", "unclaimed")]
        return any(kept) or name in waiting or name in self.ledger.rows

    async def say_begun(self, process: Process, hold: Hold) -> None:
        process.money.admission.begin(hold)
        await process.money.ping()

    async def drop(self, money: RedisMoney) -> None:
        money._till.holds.clear()
        await money.close()


def test_money_is_exact_under_every_fault(shared: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(till, "GRACE_S", 0.0)
    monkeypatch.setattr(booking, "BATCH", 3)
    monkeypatch.setattr(booking, "LONGEST_WAIT_S", 0.0)
    monkeypatch.setattr(Money, "server", shared, raising=False)
    run_state_machine_as_test(
        Money,
        settings=settings(
            max_examples=40,
            stateful_step_count=50,
            deadline=None,
            phases=[Phase.generate],  # to shrink a failure takes minutes: ask for it by hand
            suppress_health_check=list(HealthCheck),
        ),
    )
