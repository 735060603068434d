"""Budgets and rates: who may spend how much in which window, in calendar time of the contract's zone. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from functools import lru_cache
from typing import Literal
from zoneinfo import ZoneInfo

Window = Literal["hour", "day", "month"]
WINDOWS: tuple[Window, ...] = ("hour", "day", "month")

MICRO = Decimal(1_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What one scope may spend, in euros; None where a window has no limit."""

    hour_eur: Decimal | None = None
    day_eur: Decimal | None = None
    month_eur: Decimal | None = None

    def limit(self, window: Window) -> Decimal | None:
        """Euros of that window."""
        found: Decimal | None = getattr(self, f"{window}_eur")
        return found


NO_LIMIT = Budget()


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgets:
    """The budgets of one env. A request has to fit into all that apply to it."""

    env: Budget = NO_LIMIT
    planes: Mapping[str, Budget] = field(default_factory=dict)
    """By plane: online, batch."""
    bu: Budget = NO_LIMIT
    """Of each business unit that is not named in `bus`."""
    bus: Mapping[str, Budget] = field(default_factory=dict)
    key: Budget = NO_LIMIT
    """Of each API key that has none of its own."""

    def apply(self, *, plane: str, bu: str, key: str | None, own: Budget | None = None) -> Mapping[str, Budget]:
        """The budgets of a request by scope, see `scopes`; `own` is that of its key."""
        found = {"env": self.env, f"plane:{plane}": self.planes.get(plane, NO_LIMIT), f"bu:{bu}": self.bus.get(bu, self.bu)}
        return found if key is None else {**found, f"key:{key}": own or self.key}


def scopes(*, plane: str, bu: str, key: str | None) -> tuple[str, ...]:
    """Everyone whose spending a request counts for: `env`, `plane:NAME`, `bu:NAME` and, where it came with one, `key:ID`."""
    return ("env", f"plane:{plane}", f"bu:{bu}", *(() if key is None else (f"key:{key}",)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """Requests a second in the long run, and how many may come at once. The generic cell rate algorithm (ITU-T I.371) keeps it."""

    per_s: Decimal
    burst: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """The rate limits of one env; None where there is none."""

    env: Rate | None = None
    ip: Rate | None = None
    """Of each address; for IPv6, of each /64."""
    bu: Rate | None = None
    """Of each business unit that is not named in `bus`."""
    bus: Mapping[str, Rate] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One window at one time: this hour, this day, this month. `starts` is in it, `ends` is not; both in UTC."""

    window: Window
    starts: datetime
    ends: datetime

    @property
    def id(self) -> str:
        """`hour:1763913600`: the window and when it starts, in seconds since 1970."""
        return f"{self.window}:{int(self.starts.timestamp())}"


def spans(at: datetime, zone: str) -> tuple[Span, Span, Span]:
    """The hour, the day and the calendar month in which `at` lies, as clocks and calendars of `zone` have them.

    Raises ValueError for an `at` without a time zone.
    """
    if at.tzinfo is None:
        raise ValueError("at must know its time zone")
    local = at.astimezone(_zone(zone))
    hour = at.astimezone(UTC) - timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
    day = datetime(local.year, local.month, local.day, tzinfo=local.tzinfo)
    next_day = datetime.combine(day.date() + timedelta(days=1), day.time(), tzinfo=local.tzinfo)
    month = day.replace(day=1)
    next_month = month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1)
    return (
        Span(window="hour", starts=hour, ends=hour + timedelta(hours=1)),
        Span(window="day", starts=day.astimezone(UTC), ends=next_day.astimezone(UTC)),
        Span(window="month", starts=month.astimezone(UTC), ends=next_month.astimezone(UTC)),
    )


def micro_up(eur: Decimal) -> int:
    """Whole micro-euros, rounded up: the unit in which budgets are counted."""
    return int((eur * MICRO).to_integral_value(rounding=ROUND_CEILING))


@lru_cache
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)
