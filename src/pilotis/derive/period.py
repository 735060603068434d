"""Periods as people write them, in calendar time of the contract's zone: `today`, `7d`, `2026-06`. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from pilotis.derive.budget import spans
from pilotis.errors import Invalid

_LAST = re.compile(r"(\d{1,4})([hdw])", re.ASCII)
_HOURS = {"h": 1, "d": 24, "w": 168}
_DAY = re.compile(r"(\d{4})-(\d{2})-(\d{2})", re.ASCII)
_MONTH = re.compile(r"(\d{4})-(\d{2})", re.ASCII)
_YEAR = re.compile(r"\d{4}", re.ASCII)

REMEDY = "write today, yesterday, month, 24h, 7d, 2026, 2026-06, 2026-06-15 or 2026-06-15T08:00"


def period(text: str, zone: str, now: datetime) -> tuple[datetime, datetime]:
    """From when until when, in UTC; the end is not in it. `7d` are the last seven times 24 hours, `month` is this one.

    Raises Invalid for what is no period.
    """
    _, day, month = spans(now, zone)
    if text == "today":
        return day.starts, day.ends
    if text == "yesterday":
        before = spans(day.starts - timedelta(hours=1), zone)[1]
        return before.starts, before.ends
    if text == "month":
        return month.starts, month.ends
    if last := _LAST.fullmatch(text):
        return now.astimezone(UTC) - timedelta(hours=int(last[1]) * _HOURS[last[2]]), now.astimezone(UTC)
    try:
        return _named(text, zone)
    except (ValueError, OverflowError):
        raise Invalid(f"{text!r} is no period", remedy=REMEDY) from None


def between(chosen: str | None, since: str | None, until: str | None, *, zone: str, now: datetime) -> tuple[datetime, datetime]:
    """From the start of `since` to the end of `until`, or the period `chosen`; this month where nothing is said.

    Raises Invalid for what is no period, for two ways of saying it at once, and where the end comes before the start.
    """
    if chosen and (since or until):
        raise Invalid("a period and since or until say the same thing twice", remedy="leave one of them out")
    if chosen or not (since or until):
        return period(chosen or "month", zone, now)
    starts = period(since, zone, now)[0] if since else datetime.fromtimestamp(0, UTC)
    ends = period(until, zone, now)[1] if until else now.astimezone(UTC) + timedelta(hours=1)
    if ends <= starts:
        raise Invalid(f"the period ends ({until}) before it starts ({since})", remedy="exchange them")
    return starts, ends


def _named(text: str, zone: str) -> tuple[datetime, datetime]:
    if _YEAR.fullmatch(text):
        first, last = _at(f"{text}-01-01", zone), _at(f"{text}-12-31", zone)
        return spans(first, zone)[2].starts, spans(last, zone)[2].ends
    if _MONTH.fullmatch(text):
        month = spans(_at(f"{text}-01", zone), zone)[2]
        return month.starts, month.ends
    if _DAY.fullmatch(text):
        day = spans(_at(text, zone), zone)[1]
        return day.starts, day.ends
    moment = _at(text, zone).astimezone(UTC)
    return moment, moment


def _at(text: str, zone: str) -> datetime:
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=ZoneInfo(zone))
