"""The books: every settled cost goes from the outbox to the ledger exactly once, and the counters of the budgets agree with it.

An event is settled into the counters and the outbox's stream in one step; from there it goes to the ledger, which knows it by its
id. One that could not be settled there went to the ledger directly, `uncounted`, and is added to the counters from there. When the
counters are lost, they are made again from the ledger: each time under a new epoch, which tells what was counted before from what
was counted since. A process may end between any two steps of this, and the next turn, of any process, goes on from there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta

from pilotis.derive.budget import Span, spans
from pilotis.errors import Permanent, PilotisError, Transient
from pilotis.ports import CostEvent, Ledger, Meter, Outbox

log = logging.getLogger(__name__)

BATCH = 400
LEASE_S = 5.0
LONGEST_PAUSE_S = 10.0
STEP_DOWN_S = 0.5
LONGEST_WAIT_S = 0.25
"""How long a process waits for the others' holds before it says its own again and renews its lease."""

Announce = Callable[[], Awaitable[object]]


async def keep_books(
    outbox: Outbox,
    ledger: Ledger,
    meter: Meter,
    *,
    instance: str,
    zone: str,
    every_s: float = 0.25,
    announce: Announce | None = None,
) -> None:
    """Turn after turn until it is cancelled, in every process; one of them leads, the others watch.

    `announce` is called before the counters are opened again: what admission has to know besides them, such as the guardrail's
    levels. What fails is logged and tried again, more and more slowly.
    """
    books = Books(outbox, ledger, instance=instance, zone=zone, announce=announce)
    pause_s = every_s
    try:
        while True:
            try:
                moved = await books.turn()
                meter.count("rag_holds_lost_total", books.lost)
                books.lost = 0
                meter.gauge("rag_outbox_events", await outbox.waiting())
                pause_s = every_s
            except PilotisError as error:
                log.warning("the books wait: %s", error.message)
                moved, pause_s = 0, min(2 * pause_s, LONGEST_PAUSE_S)
            except Exception:  # the books are kept for as long as the process lives
                log.exception("the books wait")
                moved, pause_s = 0, min(2 * pause_s, LONGEST_PAUSE_S)
            if moved < BATCH:
                await asyncio.sleep(pause_s)
    finally:
        await _step_down(outbox, instance)


async def open_books(
    outbox: Outbox,
    ledger: Ledger,
    *,
    instance: str,
    zone: str,
    announce: Announce | None = None,
    timeout_s: float = 30.0,
) -> None:
    """Return once the counters are made, by this process or another: then budgets can be kept. Raises Transient after `timeout_s`."""
    books = Books(outbox, ledger, instance=instance, zone=zone, announce=announce)
    try:
        async with asyncio.timeout(timeout_s):
            while not await outbox.is_seeded():
                await books.reopen()
        await _step_down(outbox, instance)
    except TimeoutError:
        raise Transient(
            f"the budgets could not be rebuilt from the ledger in {timeout_s:.0f} s", remedy="try again; see: pilotis doctor"
        ) from None


async def book_all(outbox: Outbox, ledger: Ledger) -> int:
    """Bring everything that was settled until now to the ledger, and of the ledger to the counters; return how many were new.

    For programs that end, and before reports. It needs no lease: whatever two processes do at once here is done once.
    """
    epoch = await outbox.epoch()
    new = 0
    while batch := await outbox.read(limit=BATCH):
        new += await _move(batch, outbox, ledger, epoch=epoch)
    for event in await outbox.unconfirmed():
        await ledger.append(event)
    while epoch and await _count(outbox, ledger, epoch=epoch) == BATCH:
        pass
    return new


async def gauge_budgets(outbox: Outbox, meter: Meter, shown: set[tuple[str, str]]) -> None:
    """Set the gauges of what is spent, held and allowed in the windows of now, of the env, its planes and its business units.

    `shown` is the caller's memory from one call to the next: a counter that ended with its window is shown as 0.
    """
    try:
        found = [one for one in await outbox.spending() if not one.scope.startswith("key:")]
    except PilotisError as error:
        log.warning("budgets are unknown: %s", error.message)
        return
    for one in found:
        place = {"scope": one.scope, "window": one.span.window}
        meter.gauge("rag_budget_spent_eur", one.spent / 1e6, **place)
        meter.gauge("rag_budget_held_eur", one.held / 1e6, **place)
        if one.limit is not None:
            meter.gauge("rag_budget_limit_eur", one.limit / 1e6, **place)
    now: set[tuple[str, str]] = {(one.scope, one.span.window) for one in found}
    for scope, window in shown - now:
        meter.gauge("rag_budget_spent_eur", 0, scope=scope, window=window)
        meter.gauge("rag_budget_held_eur", 0, scope=scope, window=window)
    shown |= now


class Books:
    """What one process does for them, turn by turn."""

    def __init__(self, outbox: Outbox, ledger: Ledger, *, instance: str, zone: str, announce: Announce | None = None) -> None:
        self._outbox, self._ledger = outbox, ledger
        self._instance, self._zone, self._announce = instance, zone, announce
        self._seen: str | None = None
        """The epoch of the last turn."""
        self.lost = 0
        """Holds moved since somebody last looked whose process died, and which count as spent."""

    async def turn(self) -> int:
        """One step on; return how many events were moved, BATCH where more are likely to wait."""
        epoch = await self._outbox.epoch()
        if epoch is None:
            await self.reopen()
            return 0
        if epoch != self._seen:
            # The counters may have been lost and made again while this process looked elsewhere: its events may be gone with them.
            await self._rescue()
            self._seen = epoch
        if not await self._outbox.lead(self._instance, ttl_s=LEASE_S):
            return 0
        if await self._ledger.epoch() != epoch:
            # Two processes summed, one after the other, and the sums of the first were seeded: they lack what the second one marked.
            await self._outbox.unseed()
            return BATCH
        batch = await self._outbox.read(limit=BATCH)
        await _move(batch, self._outbox, self._ledger, epoch=epoch)
        self.lost += sum("lost" in event.usage for _, event in batch)
        return max(len(batch), await _count(self._outbox, self._ledger, epoch=epoch))

    async def reopen(self) -> None:
        """The counters are lost: save what only this process knows, and make them again if it leads. Returns after a short wait else."""
        await self._rescue()
        grace_s = await self._outbox.rejoin()
        if not await self._outbox.lead(self._instance, ttl_s=LEASE_S):
            await asyncio.sleep(LONGEST_WAIT_S)
            return
        # No counters were ever made from this ledger: nobody was admitted yet, so nobody holds anything.
        if grace_s > 0 and await self._ledger.epoch() is not None:
            await asyncio.sleep(min(grace_s, LONGEST_WAIT_S))
            return
        async with self._leading():
            while batch := await self._outbox.read(limit=BATCH):
                await _move(batch, self._outbox, self._ledger, epoch=None)
            if self._announce:
                await self._announce()
            epoch, spent = await self._ledger.recount(around(datetime.now(UTC), self._zone))
            if await self._outbox.seed(spent, epoch=epoch, instance=self._instance):
                log.info("the counters of the budgets were made from the ledger: %d sums", len(spent))

    async def _rescue(self) -> None:
        for event in await self._outbox.unconfirmed():
            await self._ledger.append(event)

    @asynccontextmanager
    async def _leading(self) -> AsyncIterator[None]:
        """Renew the lease for as long as the block lasts: the ledger may be long."""

        async def renew() -> None:
            while True:
                await asyncio.sleep(LEASE_S / 3)
                with suppress(PilotisError):
                    await self._outbox.lead(self._instance, ttl_s=LEASE_S)

        task = asyncio.create_task(renew())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


def around(now: datetime, zone: str) -> tuple[Span, ...]:
    """The windows whose counters are made: those of now and the ones before them, and those of an hour ago and of in an hour.

    So whatever is being settled is in them, by clocks that disagree a little, and an audit finds the last window whole.
    """
    current = spans(now, zone)
    before = [spans(span.starts - timedelta(seconds=1), zone)[n] for n, span in enumerate(current)]
    beside = [span for hours in (-1, 1) for span in spans(now + timedelta(hours=hours), zone)]
    return tuple({span.id: span for span in (*current, *before, *beside)}.values())


async def _step_down(outbox: Outbox, instance: str) -> None:
    """Whoever leads next need not wait until the lease has run out."""
    with suppress(PilotisError, TimeoutError):
        async with asyncio.timeout(STEP_DOWN_S):
            await outbox.lead(instance, ttl_s=0.001)


async def _move(batch: Sequence[tuple[str, CostEvent]], outbox: Outbox, ledger: Ledger, *, epoch: str | None) -> int:
    """From the stream to the ledger. `epoch` was read before the batch."""
    if not batch:
        return 0
    lost = [event for _, event in batch if event.usage.get("lost")]
    new = await _book([event for _, event in batch if not event.usage.get("lost")], ledger, epoch=epoch)
    if lost:
        # Whether the process that died had its cost booked, the ledger knows: its line is what counts, and the hold has then had its day.
        new += await _book(lost, ledger, epoch=None)
        while epoch and await _count(outbox, ledger, epoch=epoch) == BATCH:
            pass
        await outbox.free([event.id for event in lost])
    await outbox.remove(batch[-1][0])
    return new


async def _book(events: Sequence[CostEvent], ledger: Ledger, *, epoch: str | None) -> int:
    if not events:
        return 0
    try:
        return await ledger.book(events, epoch=epoch)
    except Permanent:
        return sum([await _book_alone(event, ledger, epoch=epoch) for event in events])


async def _book_alone(event: CostEvent, ledger: Ledger, *, epoch: str | None) -> int:
    try:
        return await ledger.book([event], epoch=epoch)
    except Permanent as error:
        # One event that cannot be stored must not keep all others from it; `cost audit` shows what is missing.
        log.error("the ledger refuses %r: %s", event, error.message)  # noqa: TRY400 - the event says it all
        return 0


async def _count(outbox: Outbox, ledger: Ledger, *, epoch: str) -> int:
    """From the ledger to the counters. `epoch` was read before the events, so whoever summed them since is noticed."""
    events = await ledger.uncounted(limit=BATCH)
    for event in events:
        await outbox.count(event, epoch=epoch)
    if events:
        await ledger.counted([event.id for event in events])
    return len(events)
