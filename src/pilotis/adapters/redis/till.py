"""What one process knows of its money: the holds it has, the events it settled, the time by Redis' clock."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from typing import Any

from pydantic_core import to_json

from pilotis.adapters.redis.client import Wire
from pilotis.derive.budget import Span, spans
from pilotis.derive.plan import Env
from pilotis.errors import Transient
from pilotis.ports import CostEvent, Hold

log = logging.getLogger(__name__)

GRACE_S = 2.0
"""After a restart of Redis, how long the processes have to say their holds again before the counters are made."""
REJOIN_S = 0.2
FLIGHT_S = 20.0
"""How long others wait for the answer of a process that died; a living one renews its flights."""
STRANDED_S = 6 * 3600.0

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True, kw_only=True)
class Held:
    """A hold of this process as Redis knows it."""

    hold: Hold
    expires_us: int
    flight: str
    kind: str
    step: str
    begun: bool = False

    def record(self, instance: str) -> dict[str, Any]:
        hold = self.hold
        return {
            "id": hold.id,
            "micro": hold.micro,
            "begun": self.begun,
            "at": microseconds(hold.at),
            "plane": hold.plane,
            "bu": hold.bu,
            "key": hold.key or False,
            "spans": [span.id for span in hold.spans],
            "kind": self.kind,
            "step": self.step,
            "instance": instance,
            "flight": self.flight,
            "expires": self.expires_us,
        }


class Till:
    """Shared by the admission, the cache and the outbox of one process. `offset_us` shifts the clock, for tests."""

    def __init__(self, wire: Wire, *, env: Env, namespace: str, instance: str, offset_us: int = 0) -> None:
        self.wire, self.env, self.instance = wire, env, instance
        self.prefix = f"{{{namespace}}}:"
        self.offset_us = offset_us
        self.epoch: str | None = None
        self.asked_us = 0
        """When the epoch was last asked for, by Redis' clock."""
        self.holds: dict[str, Held] = {}
        self.given_up: dict[str, Held] = {}
        """Holds whose settlement failed: their cost goes to the ledger directly, and what becomes of the hold is decided there."""
        self.orphans: dict[str, str] = {}
        """Requests, with their flights, whose admission or release was not answered: they may hold money that nobody will settle."""
        self.joins: bytes = b"0"
        """How often processes had said that holds are settled in the ledger, when this one last said its own."""
        self._events: dict[str, tuple[CostEvent, tuple[int, int]]] = {}
        self._stranded: dict[str, tuple[CostEvent, float]] = {}
        # Until Redis says its time, the clock of this machine has to do.
        self._skew_us = (time.time_ns() - time.monotonic_ns()) // 1000
        self._trimmed: bytes | None = None
        self._task: asyncio.Task[None] | None = None
        self._renew_at = 0.0
        self._joined: str | None = None
        """The counters that hold what this process holds."""
        wire.on_lost = self._rejoin_soon

    @property
    def meter(self) -> str:
        return self.prefix + "meter"

    async def script(self, name: str, *args: str | bytes | int) -> Any:
        return await self.wire.run(name, self.meter, self.offset_us, *args)

    def tell(self, name: str, *args: str | bytes | int) -> asyncio.Future[Any] | None:
        return self.wire.tell(name, self.meter, self.offset_us, *args)

    def now_us(self) -> int:
        """Redis' time as far as it is known here."""
        return time.monotonic_ns() // 1000 + self._skew_us

    def tell_time(self, told: bytes | str) -> None:
        self._skew_us = int(told) - time.monotonic_ns() // 1000

    def notice(self, epoch: bytes | None, trimmed: bytes | None) -> None:
        """Take in what a reply says of the counters. Others than before may not hold what this process has."""
        found = epoch.decode() if epoch else None
        if found != self.epoch:
            now = time.monotonic()
            self._stranded |= {id: (event, now) for id, (event, _) in self._events.items()}  # noqa: A001 - their own field
            self._events.clear()
            self.epoch = found
        if trimmed and trimmed != self._trimmed:
            self._trimmed = trimmed
            upto = place(trimmed)
            # In the order in which they went into the stream.
            while self._events and self._events[first := next(iter(self._events))][1] <= upto:
                del self._events[first]
        if found and found != self._joined and self.holds:
            self._rejoin_soon()

    def remember(self, event: CostEvent, where: bytes | None) -> None:
        """Keep a settled event until it is known to be in the ledger; `where` is None where it may not be in the stream."""
        if where is not None and self.epoch:
            self._events[event.id] = event, place(where)
        else:
            self._stranded[event.id] = event, time.monotonic()

    def stranded(self) -> list[CostEvent]:
        """Events that a lost stream may have lost."""
        return [event for event, _ in self._stranded.values()]

    def is_settled(self, event_id: str) -> bool:
        return event_id in self._events

    def is_stranded(self, event_id: str) -> bool:
        return event_id in self._stranded

    async def rejoin(self, ended: Collection[str] = ()) -> float:
        """Say again which holds this process has; return for how many seconds others may still have to.

        Those `ended` are settled in the ledger, so that they need not be said where its sums are yet to be made.
        """
        ended = [id for id in ended if id in self.given_up]  # noqa: A001 - their own field
        mine = [held for held in (*self.holds.values(), *self.given_up.values()) if held.hold.micro > 0]
        said = to_json([held.record(self.instance) for held in mine if held.hold.id not in ended])
        told = await self.script("rejoin", said, int(GRACE_S * 1e6), int(FLIGHT_S * 1000), *ended)
        _, now, wait_us, epoch, self.joins = told
        self.tell_time(now)
        if epoch and ended:
            return await self.rejoin()
        for each in ended:
            self.given_up.pop(each, None)
        self._joined = epoch.decode() if epoch else None
        self.notice(epoch, None)
        return int(wait_us) / 1e6

    async def refresh(self) -> str | None:
        """Ask for the epoch; where it is another one, say the holds again first."""
        epoch, trimmed, now = await self.script("standing", *self._flights())
        self.tell_time(now)
        self.asked_us = int(now)
        self.notice(epoch, trimmed)
        if self.epoch and self.epoch != self._joined:
            await self.rejoin()
        if self.orphans:
            await self._release_orphans()
        return self.epoch

    async def close(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.wire.close()

    def _flights(self) -> list[str | int]:
        """The flights of this process, which end soon where nobody renews them, and for how many milliseconds they are renewed."""
        now = time.monotonic()
        if now < self._renew_at:
            return []
        self._renew_at = now + FLIGHT_S / 6
        self._sweep()
        mine = [(held.flight, held.hold.id) for held in self.holds.values() if held.flight]
        return [int(FLIGHT_S * 1000), *(part for pair in mine for part in pair)] if mine else []

    async def _release_orphans(self) -> None:
        for orphan in list(self.orphans):
            flight = self.orphans.get(orphan)
            if flight is not None:  # else its caller tries again
                await self.script("release", orphan, flight)
                self.orphans.pop(orphan, None)

    def _sweep(self) -> None:
        now_us, old = self.now_us(), time.monotonic() - STRANDED_S
        for mine in (self.holds, self.given_up):
            for ended in [id for id, held in mine.items() if held.expires_us <= now_us]:  # noqa: A001 - their own field
                del mine[ended]
        for event_id in [id for id, (_, since) in self._stranded.items() if since < old]:  # noqa: A001
            del self._stranded[event_id]

    def _rejoin_soon(self) -> None:
        """Also where the connection was lost: a Redis that restarts waits for this process' holds only for a moment."""
        if self.holds and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._until_joined())

    async def _until_joined(self) -> None:
        while self.holds:
            try:
                await self.rejoin()
            except Transient:
                await asyncio.sleep(REJOIN_S)
            else:
                return


def microseconds(at: datetime) -> int:
    """Since 1970, exactly."""
    return (at - EPOCH) // timedelta(microseconds=1)


def moment(us: int | bytes | str) -> datetime:
    return EPOCH + timedelta(microseconds=int(us))


def place(told: bytes) -> tuple[int, int]:
    """A place in the stream, so that two can be compared."""
    ms, _, n = told.partition(b"-")
    return int(ms), int(n or 0)


@lru_cache(maxsize=64)
def windows(hour: int, zone: str) -> tuple[Span, Span, Span]:
    """The windows in which the quarter of an hour `hour` lies: zones differ by whole quarters."""
    return spans(EPOCH + timedelta(seconds=hour * 900), zone)


def windows_at(us: int, zone: str) -> tuple[Span, Span, Span]:
    return windows(us // 900_000_000, zone)


@lru_cache(maxsize=4096)
def tag(bu: str) -> str:
    """A business unit as it is part of a key: whatever its name is made of, two are never the same."""
    return sha256(bu.encode("utf-8", "surrogatepass")).hexdigest()[:32]
