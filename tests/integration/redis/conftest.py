"""A Redis of one's own, which may be killed, frozen and flushed; and processes that use it."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pilotis.adapters.redis import RedisMoney
from pilotis.contract import load
from pilotis.derive import plan
from pilotis.derive.budget import Budget, Budgets, Rates, spans
from pilotis.derive.plan import Env
from pilotis.embedded import binaries
from pilotis.errors import Transient
from pilotis.online.booking import Books
from pilotis.ports import CostEvent, Hold, Request
from pilotis.testing.ledger import MemoryLedger

CEILING = 21_000
COST = 16_500

_numbers = itertools.count(1)


def _env() -> Env:
    budgets = Budgets(env=Budget(hour_eur=Decimal(1)))
    return replace(plan.derive(load.default()).env("dev"), budgets=budgets, rates=Rates())


@dataclass
class Server:
    """redis-server as the embedded stack configures it."""

    folder: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.folder}/redis.sock"

    def start(self) -> None:
        options = {
            "port": "0", "unixsocket": str(self.folder / "redis.sock"), "dir": str(self.folder), "appendonly": "yes",
            "appendfsync": "always", "save": "", "maxmemory": "256mb", "maxmemory-policy": "volatile-lru",
        }  # fmt: skip
        argv = [str(binaries.find(None).redis), *(part for name, value in options.items() for part in (f"--{name}", value))]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(argv, stdout=log, stderr=log)
        deadline = time.monotonic() + 10
        while self.say("PING") != b"+PONG":
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.01)

    def say(self, *words: str) -> bytes:
        """One command over a connection of its own; the first line of the reply."""
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(5)
            try:
                line.connect(str(self.folder / "redis.sock"))
                line.sendall((" ".join(words) + "\r\n").encode())
                return line.recv(1 << 16).split(b"\r\n")[0]
            except OSError:
                return b""

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        assert self.process
        self.process.send_signal(how)
        if how in {signal.SIGKILL, signal.SIGTERM}:
            self.process.wait(10)

    def restart(self) -> None:
        self.kill()
        self.start()

    def flush(self) -> None:
        assert self.say("FLUSHALL") == b"+OK"


@pytest.fixture(autouse=True)
def _within_the_hour() -> None:
    """A test that looks at this hour's budget must not see it end."""
    now = datetime.now(UTC)
    left_s = 3600 - now.minute * 60 - now.second
    if left_s < 20:
        time.sleep(left_s)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for tests that leave it as it was."""
    server = Server(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """One that a test may hurt."""
    made = Server(tmp_path)
    made.start()
    yield made
    assert made.process
    made.process.send_signal(signal.SIGCONT)
    made.kill()


@dataclass
class World:
    """Processes over one Redis and one ledger."""

    server: Server
    env: Env
    ledger: MemoryLedger
    namespace: str = field(default_factory=lambda: f"n{os.getpid()}:{next(_numbers)}")
    opened: list[RedisMoney] = field(default_factory=list)

    def process(self, env: Env | None = None) -> RedisMoney:
        name = f"p{len(self.opened)}"
        self.opened.append(RedisMoney(self.server.url, env=env or self.env, namespace=self.namespace, instance=name))
        return self.opened[-1]

    def books(self, money: RedisMoney) -> Books:
        return Books(money.outbox, self.ledger, instance=money._till.instance, zone=self.env.timezone)

    async def open(self, *processes: RedisMoney) -> None:
        """Turn after turn until requests are admitted, as each process' loop does."""
        books = [self.books(money) for money in processes]
        async with asyncio.timeout(10):
            seeded = False
            while not seeded:
                with suppress(Transient):
                    await asyncio.gather(*(one.turn() for one in books))
                    seeded = all([await money.outbox.is_seeded() for money in processes])

    def asks(self, name: str, ceiling: int = CEILING, **fields: Any) -> Request:
        return Request(**({"id": name, "plane": "online", "bu": "legal", "ceilings": (ceiling,) * 6} | fields))

    def cost(self, hold: Hold, micro: int = COST) -> CostEvent:
        return CostEvent(
            id=hold.id,
            at=hold.at,
            env="dev",
            plane=hold.plane,
            bu=hold.bu,
            kind="answer",
            subject=hold.id,
            model="m",
            usage={"calls": []},
            cost_eur=Decimal(micro) / 1_000_000,
            price_book="b",
            fx=None,
            priced=True,
            key=hold.key,
        )

    async def settle(self, money: RedisMoney, hold: Hold, micro: int = COST) -> None:
        """As a request does: what cannot be settled goes to the ledger directly."""
        event = self.cost(hold, micro)
        try:
            await money.admission.settle(hold, event)
        except Transient:
            await self.ledger.append(event)

    async def agree(self, *processes: RedisMoney) -> None:
        """Turn until the counters say what the ledger says, in every scope and window, and nothing is held."""
        books = [self.books(money) for money in processes]
        async with asyncio.timeout(10):
            while True:
                for one in books:
                    await one.turn()
                windows = spans(datetime.now(UTC), self.env.timezone)
                held = {(one.scope, one.span.id): (one.spent, one.held) for one in await processes[0].outbox.spending(windows)}
                due = {(one.scope, one.span.id): (one.spent, 0) for one in await self.ledger.spent(windows)}
                if held == due and not await processes[0].outbox.waiting():
                    return

    async def spent(self, money: RedisMoney) -> tuple[int, int]:
        """Spent and held by the env, in the hour."""
        found = [one for one in await money.outbox.spending() if (one.scope, one.span.window) == ("env", "hour")]
        return (found[0].spent, found[0].held) if found else (0, 0)


@pytest.fixture
async def world(shared: Server) -> AsyncIterator[World]:
    made = World(shared, _env(), MemoryLedger(zone="Europe/Paris"))
    yield made
    for money in made.opened:
        await money.close()


@pytest.fixture
async def own(server: Server) -> AsyncIterator[World]:
    made = World(server, _env(), MemoryLedger(zone="Europe/Paris"))
    yield made
    for money in made.opened:
        await money.close()
