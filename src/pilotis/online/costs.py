"""What was spent, summed up; and what the same work would have cost with other models."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from zoneinfo import ZoneInfo

from pilotis.derive.cost import Usage
from pilotis.errors import Invalid
from pilotis.ports import CostEvent, Ledger

PAGE = 2000

Reprice = Callable[[tuple[Usage, ...], date], tuple[Decimal, bool]]
"""From the calls of a request and its day to what they would have cost, and whether every price is known."""

_FIELDS = frozenset(Usage.__dataclass_fields__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a report. Shares are of requests, from 0 to 1."""

    key: tuple[str, ...]
    requests: int = 0
    cost_eur: Decimal = Decimal(0)
    input_tokens: int = 0
    output_tokens: int = 0
    unpriced: int = 0
    """Requests some of whose calls have no known price."""
    estimated: int = 0
    """Requests some of whose tokens were counted here because nobody reported them."""
    as_if_eur: Decimal | None = None
    """With the other models; None where that was not asked."""
    as_if_unpriced: int = 0
    as_booked: int = 0
    """Requests that left no record of their calls, taken at what was booked: those of a process that died."""

    @property
    def eur_per_1k(self) -> Decimal:
        return self.cost_eur * 1000 / self.requests if self.requests else Decimal(0)

    @property
    def difference_eur(self) -> Decimal | None:
        """What it would have cost more; negative for less."""
        return None if self.as_if_eur is None else self.as_if_eur - self.cost_eur


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Costs of a period. `until` is not in it."""

    by: tuple[str, ...]
    since: datetime
    until: datetime
    bu: str | None
    rows: tuple[Row, ...]
    total: Row


async def report(
    ledger: Ledger,
    by: Sequence[str],
    *,
    since: datetime,
    until: datetime,
    bu: str | None,
    zone: str = "UTC",
    reprice: Reprice | None = None,
) -> Report:
    """Sums by the keys of `KEYS`; with `reprice` every request of the period is priced again, call by call.

    Raises Invalid for a key that there is not.
    """
    if unknown := [name for name in by if name not in KEYS]:
        raise Invalid(f"costs cannot be grouped by {unknown[0]!r}", remedy=f"use any of: {', '.join(KEYS)}")
    lines = await ledger.report(by, since=since, until=until, bu=bu)
    rows = {
        line.key: Row(
            key=line.key,
            requests=line.requests,
            cost_eur=line.cost_eur,
            input_tokens=line.input_tokens,
            output_tokens=line.output_tokens,
            unpriced=line.unpriced,
            estimated=line.estimated,
        )
        for line in lines
    }
    if reprice:
        rows = await _repriced(ledger, by, since=since, until=until, bu=bu, zone=zone, reprice=reprice)
    ordered = tuple(rows[key] for key in sorted(rows))
    return Report(by=tuple(by), since=since, until=until, bu=bu, rows=ordered, total=_total(ordered))


KEYS: Mapping[str, Callable[[CostEvent, ZoneInfo], str]] = {
    "hour": lambda event, zone: f"{event.at.astimezone(zone):%Y-%m-%d %H:00}",
    "day": lambda event, zone: f"{event.at.astimezone(zone):%Y-%m-%d}",
    "month": lambda event, zone: f"{event.at.astimezone(zone):%Y-%m}",
    "env": lambda event, _: event.env,
    "plane": lambda event, _: event.plane,
    "bu": lambda event, _: event.bu,
    "kind": lambda event, _: event.kind,
    "model": lambda event, _: event.model,
    "key": lambda event, _: event.key or "",
    "step": lambda event, _: event.step,
    "instance": lambda event, _: event.instance or "",
}
"""What costs can be grouped by, as a ledger does it."""


def calls_of(event: CostEvent) -> tuple[Usage, ...]:
    """The model calls of a request, as they were booked."""
    calls = event.usage.get("calls", ())
    return tuple(Usage(**{name: value for name, value in call.items() if name in _FIELDS}) for call in calls)


async def _repriced(
    ledger: Ledger, by: Sequence[str], *, since: datetime, until: datetime, bu: str | None, zone: str, reprice: Reprice
) -> dict[tuple[str, ...], Row]:
    """Both columns come from the same lines, so that what is booked meanwhile is in both or in neither."""
    priced = lru_cache(maxsize=4096)(reprice)
    calendar = ZoneInfo(zone)
    rows: dict[tuple[str, ...], Row] = {}
    async for event in _all(ledger, since=since, until=until, bu=bu):
        key = tuple(KEYS[name](event, calendar) for name in by)
        calls = calls_of(event)
        other, known = priced(calls, event.at.astimezone(calendar).date()) if calls else (event.cost_eur, event.priced)
        row = rows.get(key) or Row(key=key, as_if_eur=Decimal(0))
        rows[key] = _plus(
            row,
            Row(
                key=key,
                requests=1,
                cost_eur=event.cost_eur,
                input_tokens=sum(max(0, call.input_tokens) for call in calls),
                output_tokens=sum(max(0, call.output_tokens) for call in calls),
                unpriced=not event.priced,
                estimated=event.estimated,
                as_if_eur=other,
                as_if_unpriced=not known,
                as_booked=not calls,
            ),
        )
    return rows


async def _all(ledger: Ledger, *, since: datetime, until: datetime, bu: str | None) -> AsyncIterator[CostEvent]:
    last: CostEvent | None = None
    while page := await ledger.events(since=since, until=until, bu=bu, after=last, limit=PAGE):
        for event in page:
            yield event
        last = page[-1]


def _total(rows: Sequence[Row]) -> Row:
    total = Row(key=())
    for row in rows:
        total = _plus(total, row)
    return total


def _plus(one: Row, other: Row) -> Row:
    as_if = None if one.as_if_eur is None and other.as_if_eur is None else (one.as_if_eur or 0) + (other.as_if_eur or 0)
    return replace(
        one,
        requests=one.requests + other.requests,
        cost_eur=one.cost_eur + other.cost_eur,
        input_tokens=one.input_tokens + other.input_tokens,
        output_tokens=one.output_tokens + other.output_tokens,
        unpriced=one.unpriced + other.unpriced,
        estimated=one.estimated + other.estimated,
        as_if_eur=None if as_if is None else Decimal(as_if),
        as_if_unpriced=one.as_if_unpriced + other.as_if_unpriced,
        as_booked=one.as_booked + other.as_booked,
    )
