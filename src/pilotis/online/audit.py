"""Do the ledger, the counters of the budgets and the metrics of the processes say the same, to the micro-euro?

What is settled meanwhile is in one of them before it is in the other. So the ledger is read before and after the others, each time
with all that is settled booked: a figure has to be the ledger's, or between its two where that one has moved.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal

from pilotis.derive.budget import Span, spans
from pilotis.online.booking import book_all
from pilotis.ports import Ledger, Outbox

TRIES, PAUSE_S = 4, 0.3
KEPT = timedelta(days=2)
"""A window that ended longer ago is not compared: its counters may be gone."""
MICRO = Decimal("0.000001")

Series = tuple[str, str, str]
"""plane, business unit, model: the labels of `rag_cost_eur_total`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What one process says of itself: its metrics."""

    url: str
    instance: str
    serves: tuple[str, str] | None
    """The contract's name and the env."""
    costs: Mapping[Series, Decimal]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One figure of the ledger beside that of another. `reason` is empty where they agree."""

    what: Literal["counter", "metric"]
    place: str
    """`bu:sales month` or `host:4711 online sales gpt-5-mini`."""
    ledger_eur: Decimal
    other_eur: Decimal
    moving: bool = False
    """Costs were settled between the two readings of the ledger; the other figure lies between them."""
    reason: str = ""

    @property
    def difference_eur(self) -> Decimal:
        return self.other_eur - self.ledger_eur


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What was compared with the ledger."""

    at: datetime
    compared: tuple[Compared, ...]
    elsewhere: Mapping[str, Decimal]
    """What the ledger has this month of processes whose metrics were not read, by instance: gone, workers, commands."""

    @property
    def differences(self) -> tuple[Compared, ...]:
        return tuple(one for one in self.compared if one.reason)


async def audit(
    outbox: Outbox,
    ledger: Ledger,
    pages: Callable[[], Awaitable[Sequence[Page]]],
    *,
    now: datetime,
    zone: str,
    pause_s: float = PAUSE_S,
) -> Audit:
    """Compare; what disagrees is looked at again a few times first, because it may have been on its way."""
    found: Audit | None = None
    for turn in range(TRIES):
        if turn:
            await asyncio.sleep(pause_s)
        found = await _look(outbox, ledger, pages, now=now, zone=zone)
        if not found.differences:
            break
    assert found is not None
    return found


async def _look(
    outbox: Outbox, ledger: Ledger, pages: Callable[[], Awaitable[Sequence[Page]]], *, now: datetime, zone: str
) -> Audit:
    current = spans(now, zone)
    before = tuple(spans(span.starts - timedelta(seconds=1), zone)[n] for n, span in enumerate(current))
    previous = tuple(span for span in before if span.ends > now - KEPT)
    wanted = tuple({span.id: span for span in (*current, *previous)}.values())
    await book_all(outbox, ledger)
    sums, lines = await _sums(ledger, wanted), await _lines(ledger, before[2].starts)
    read = await pages()
    counters = {(one.scope, one.span.id): one.spent for one in await outbox.spending(wanted)}
    await book_all(outbox, ledger)
    sums_after, lines_after = await _sums(ledger, wanted), await _lines(ledger, before[2].starts)
    left = len(await ledger.uncounted(limit=1))
    return Audit(
        at=now,
        compared=(
            *_counters(current, previous, sums, counters, sums_after, uncounted=bool(left)),
            *_metrics(read, lines, lines_after),
        ),
        elsewhere=_elsewhere(read, lines_after),
    )


Sums = Mapping[tuple[str, str], int]
Lines = Mapping[tuple[str, Series], Decimal]


async def _sums(ledger: Ledger, wanted: Sequence[Span]) -> Sums:
    return {(one.scope, one.span.id): one.spent for one in await ledger.spent(wanted)}


async def _lines(ledger: Ledger, since: datetime) -> Lines:
    found = await ledger.report(["instance", "plane", "bu", "model"], since=since)
    return {(line.key[0], (line.key[1], line.key[2], line.key[3])): line.cost_eur for line in found}


def _counters(
    current: Sequence[Span], previous: Sequence[Span], before: Sums, counters: Sums, after: Sums, *, uncounted: bool
) -> list[Compared]:
    kept = {span_id for _, span_id in counters}
    by_id = {span.id: span for span in previous if span.id in kept} | {span.id: span for span in current}
    found = []
    for scope, span_id in sorted(before.keys() | counters.keys() | after.keys()):
        if span_id not in by_id:
            continue
        span = by_id[span_id]
        low, high = before.get((scope, span_id), 0), after.get((scope, span_id), 0)
        counted = counters.get((scope, span_id), 0)
        name = f"{scope} {span.window}" if span in current else f"{scope} {span.window} before"
        reason = "" if low <= counted <= high else _why_counter(counted, high, uncounted=uncounted, is_past=span not in current)
        found.append(
            Compared(
                what="counter",
                place=name,
                ledger_eur=high * MICRO,
                other_eur=counted * MICRO,
                moving=low != high,
                reason=reason,
            )
        )
    return found


def _why_counter(counted: int, booked: int, *, uncounted: bool, is_past: bool) -> str:
    if counted > booked:
        return "the counter has what the ledger has not: lines were removed, or the ledger refused an event (see the API's log)"
    if is_past:
        return "the counter of a window that has ended has less than the ledger: Redis has dropped some, or they were removed"
    if uncounted:
        return "the ledger has events that are not counted yet"
    return "the counter has less than the ledger: something was removed from Redis; --repair makes it anew"


def _metrics(pages: Sequence[Page], before: Lines, after: Lines) -> list[Compared]:
    found = []
    for page in pages:
        ours = {series for instance, series in before.keys() | after.keys() if instance == page.instance}
        for series in sorted(ours | page.costs.keys()):
            low = before.get((page.instance, series), Decimal(0))
            high = after.get((page.instance, series), Decimal(0))
            counted = page.costs.get(series, Decimal(0))
            if not high and not counted:
                continue
            agrees = low - MICRO / 2 <= counted <= high + MICRO / 2  # a float's sum, hence the half
            reason = ""
            if not agrees:
                reason = (
                    "counted by the process, and not in the ledger"
                    if counted > high
                    else "in the ledger under this process, and not in its metrics: it settled them for another or was started again"
                )
            found.append(
                Compared(
                    what="metric",
                    place=f"{page.instance} {' '.join(series)}",
                    ledger_eur=high,
                    other_eur=counted,
                    moving=low != high,
                    reason=reason,
                )
            )
    return found


def _elsewhere(pages: Sequence[Page], lines: Lines) -> dict[str, Decimal]:
    read = {page.instance for page in pages}
    found: dict[str, Decimal] = {}
    for (instance, _), cost in lines.items():
        if instance not in read and cost:
            found[instance] = found.get(instance, Decimal(0)) + cost
    return found
