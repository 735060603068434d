"""Windows of time in which nothing is released: weekly ones, and days of the calendar."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, datetime
from zoneinfo import ZoneInfo

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MINUTES_A_DAY = 24 * 60
_WEEKLY = re.compile(rf"({'|'.join(DAYS)}) ([01][0-9]|2[0-3]):([0-5][0-9])-({'|'.join(DAYS)}) ([01][0-9]|2[0-3]):([0-5][0-9])")


def is_window(text: str) -> bool:
    """Whether it is "fri 16:00-mon 08:00", which may go over the end of the week, or "2026-12-24/2027-01-02"."""
    weekly = _WEEKLY.fullmatch(text)
    if weekly:
        return _minute(*weekly.groups()[:3]) != _minute(*weekly.groups()[3:])
    days = _days(text)
    return days is not None and days[0] <= days[1]


def in_force(windows: Sequence[str], now: datetime, *, zone: str) -> str:
    """The first of the windows that `now` lies in, as it is written, by the clocks of `zone`; empty where there is none.

    A weekly window begins with its first minute and ends before its last; of days, both are in it.
    """
    local = now.astimezone(ZoneInfo(zone))
    minute = local.weekday() * MINUTES_A_DAY + local.hour * 60 + local.minute
    return next((window for window in windows if _holds(window, local.date(), minute)), "")


def _holds(window: str, day: date, minute: int) -> bool:
    weekly = _WEEKLY.fullmatch(window)
    if weekly:
        begins, ends = _minute(*weekly.groups()[:3]), _minute(*weekly.groups()[3:])
        return begins <= minute < ends if begins < ends else minute >= begins or minute < ends
    days = _days(window)
    return days is not None and days[0] <= day <= days[1]


def _minute(day: str, hour: str, minute: str) -> int:
    return DAYS.index(day) * MINUTES_A_DAY + int(hour) * 60 + int(minute)


def _days(text: str) -> tuple[date, date] | None:
    first, slash, last = text.partition("/")
    try:
        return (date.fromisoformat(first), date.fromisoformat(last)) if slash else None
    except ValueError:
        return None
