from __future__ import annotations

from datetime import UTC, datetime

import pytest

from pilotis.derive.period import between, period
from pilotis.errors import Invalid

ZONE = "Europe/Paris"
NOW = datetime(2026, 6, 30, 22, 30, tzinfo=UTC)  # 00:30 on the first of July in Paris


def shown(pair: tuple[datetime, datetime]) -> tuple[str, str]:
    return tuple(moment.strftime("%Y-%m-%dT%H:%M") for moment in pair)  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("text", "starts", "ends"),
    [
        ("today", "2026-06-30T22:00", "2026-07-01T22:00"),
        ("yesterday", "2026-06-29T22:00", "2026-06-30T22:00"),
        ("month", "2026-06-30T22:00", "2026-07-31T22:00"),
        ("24h", "2026-06-29T22:30", "2026-06-30T22:30"),
        ("7d", "2026-06-23T22:30", "2026-06-30T22:30"),
        ("2w", "2026-06-16T22:30", "2026-06-30T22:30"),
        ("2026", "2025-12-31T23:00", "2026-12-31T23:00"),
        ("2026-06", "2026-05-31T22:00", "2026-06-30T22:00"),
        ("2026-12", "2026-11-30T23:00", "2026-12-31T23:00"),
        ("2026-03-29", "2026-03-28T23:00", "2026-03-29T22:00"),  # a day of 23 hours
        ("2026-10-25", "2026-10-24T22:00", "2026-10-25T23:00"),  # one of 25
        ("2026-06-15T08:00", "2026-06-15T06:00", "2026-06-15T06:00"),
        ("2026-06-15T08:00+00:00", "2026-06-15T08:00", "2026-06-15T08:00"),
    ],
)
def test_periods_are_those_of_the_zone(text: str, starts: str, ends: str) -> None:
    assert shown(period(text, ZONE, NOW)) == (starts, ends)


@pytest.mark.parametrize("text", ["", "June", "2026-13", "2026-02-30", "7", "d", "-1d", "99999d ", "0000", "9999-12", "١٢d"])
def test_what_is_no_period_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="is no period"):
        period(text, ZONE, NOW)


def test_since_is_a_start_and_until_an_end() -> None:
    assert shown(between(None, "2026-05", "2026-06", zone=ZONE, now=NOW)) == ("2026-04-30T22:00", "2026-06-30T22:00")
    assert shown(between(None, "7d", None, zone=ZONE, now=NOW)) == ("2026-06-23T22:30", "2026-06-30T23:30")
    assert shown(between(None, None, "2026-01", zone=ZONE, now=NOW)) == ("1970-01-01T00:00", "2026-01-31T23:00")
    assert between(None, None, None, zone=ZONE, now=NOW) == period("month", ZONE, NOW)
    assert between("2026-06", None, None, zone=ZONE, now=NOW) == period("2026-06", ZONE, NOW)


def test_what_contradicts_itself_is_refused() -> None:
    with pytest.raises(Invalid, match="twice"):
        between("today", "7d", None, zone=ZONE, now=NOW)
    with pytest.raises(Invalid, match="before it starts"):
        between(None, "2026-06", "2026-05", zone=ZONE, now=NOW)
