from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from pilotis.derive.budget import Budget
from pilotis.derive.keys import EVERY_BU, check, expiry, require_good, seconds, successor_ends
from pilotis.errors import Invalid, Unauthorised

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"), [("30s", 30), ("15m", 900), ("24h", 86_400), (" 90d ", 7_776_000), ("2w", 1_209_600), ("0s", 0)]
)
def test_durations(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "90", "d", "-1d", "1.5h", "1y", "٩d", "99999999d", "1d1h"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(Invalid, match="not a duration"):
        seconds(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90d", NOW + timedelta(days=90)),
        ("2026-06-30", datetime(2026, 6, 30, 22, tzinfo=UTC)),  # the whole of that day in Paris
        ("2026-12-31", datetime(2026, 12, 31, 23, tzinfo=UTC)),
        ("2026-06-30T12:00:00+02:00", datetime(2026, 6, 30, 10, tzinfo=UTC)),
        ("2026-06-01", datetime(2026, 6, 1, 22, tzinfo=UTC)),  # today is not past
    ],
)
def test_when_a_key_ends(text: str, expected: datetime) -> None:
    assert expiry(text, now=NOW, zone="Europe/Paris") == expected


@pytest.mark.parametrize("text", ["2026-05-31", "0d", "2026-06-01T11:59:59Z"])
def test_an_end_that_is_past(text: str) -> None:
    with pytest.raises(Invalid, match="past"):
        expiry(text, now=NOW, zone="Europe/Paris")


@pytest.mark.parametrize("text", ["soon", "", "2026-02-30", "9999-12-31", "2026-06-30T12:00:00", "999999w", "2026-6-30"])
def test_what_is_no_date(text: str) -> None:
    with pytest.raises(Invalid, match="neither a duration nor a date"):
        expiry(text, now=NOW, zone="Europe/Paris")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"bu": ""}, "business unit ''"),
        ({"bu": "a\nb"}, "business unit"),
        ({"name": "x" * 101}, "key name"),
        ({"name": EVERY_BU}, "key name"),
        ({"rights": ["ask", "root"]}, "'root' is no right"),
        ({"rights": []}, "good for nothing"),
        ({"bu": EVERY_BU, "rights": ["ask", "admin"]}, "admin alone"),
        ({"budget": Budget(day_eur=Decimal(-1))}, "budget of -1"),
        ({"budget": Budget(hour_eur=Decimal("NaN"))}, "budget of NaN"),
        ({"budget": Budget(month_eur=Decimal("1e12"))}, "month"),
    ],
)
def test_keys_that_cannot_be_made(changed: dict[str, object], said: str) -> None:
    given: dict[str, object] = {"bu": "sales", "name": "ci", "rights": ["ask"], "budget": None} | changed
    with pytest.raises(Invalid, match=said):
        check(**given)  # type: ignore[arg-type]


def test_keys_that_can() -> None:
    check(bu="Ventes & Été".replace("&", "-"), name="a.b_c@d/e", rights=["ask"], budget=Budget(day_eur=Decimal(0)))
    check(bu=EVERY_BU, name="ops", rights=["admin"], budget=None)


def test_a_key_is_good_until_its_last_moment() -> None:
    require_good(prefix="plt_x", revoked_at=None, expires_at=NOW, now=NOW - timedelta(microseconds=1))
    with pytest.raises(Unauthorised, match="expired on 2026-06-01"):
        require_good(prefix="plt_x", revoked_at=None, expires_at=NOW, now=NOW)
    with pytest.raises(Unauthorised, match="revoked on 2026-06-01"):
        require_good(prefix="plt_x", revoked_at=NOW, expires_at=None, now=NOW - timedelta(days=1))


def test_a_successor_lives_as_long_as_the_key_was_made_for() -> None:
    assert successor_ends(NOW - timedelta(days=80), NOW + timedelta(days=10), NOW) == NOW + timedelta(days=90)
    assert successor_ends(NOW, None, NOW) is None
