from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotis.derive.budget import NO_LIMIT, WINDOWS, Budget, Budgets, Span, micro_up, scopes, spans

PARIS = "Europe/Paris"
ZONES = st.sampled_from(
    [PARIS, "UTC", "Asia/Kolkata", "Asia/Kathmandu", "America/New_York", "America/St_Johns", "America/Havana", "Africa/Cairo"]
)
MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - the strategy adds it


def at(text: str, zone: str = PARIS, *, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold)


def hours(span: Span) -> float:
    return (span.ends - span.starts) / timedelta(hours=1)


@given(MOMENTS, ZONES)
def test_a_moment_lies_in_its_spans_and_they_follow_one_another(moment: datetime, zone: str) -> None:
    found = spans(moment, zone)
    assert tuple(span.window for span in found) == WINDOWS
    for position, span in enumerate(found):
        assert span.starts <= moment < span.ends
        assert spans(span.starts, zone)[position] == span
        assert spans(span.ends - timedelta(microseconds=1), zone)[position] == span
        assert spans(span.ends, zone)[position].starts == span.ends
        assert span.starts.utcoffset() == timedelta(0)


@given(MOMENTS, ZONES)
def test_spans_begin_where_clocks_and_calendars_do(moment: datetime, zone: str) -> None:
    hour, day, month = (span.starts.astimezone(ZoneInfo(zone)) for span in spans(moment, zone))
    assert (hour.minute, hour.second, hour.microsecond) == (0, 0, 0)
    assert day.date() == moment.astimezone(ZoneInfo(zone)).date()
    assert month.day == 1


@pytest.mark.parametrize(("day", "length"), [("2026-03-28", 24), ("2026-03-29", 23), ("2026-10-25", 25), ("2026-10-26", 24)])
def test_a_day_in_which_clocks_are_set_is_shorter_or_longer(day: str, length: int) -> None:
    assert hours(spans(at(f"{day}T12:30"), PARIS)[1]) == length


def test_the_hour_that_comes_twice_is_two_hours() -> None:
    first, second = (spans(at("2026-10-25T02:30", fold=fold), PARIS) for fold in (0, 1))
    assert first[0].starts == datetime(2026, 10, 25, 0, tzinfo=UTC)
    assert second[0].starts == first[0].ends == datetime(2026, 10, 25, 1, tzinfo=UTC)
    assert first[1] == second[1]


def test_the_hour_after_the_one_that_is_left_out() -> None:
    hour = spans(at("2026-03-29T01:59"), PARIS)[0]
    assert hour.ends == datetime(2026, 3, 29, 1, tzinfo=UTC)
    assert hour.ends.astimezone(ZoneInfo(PARIS)).hour == 3


def test_where_clocks_are_half_an_hour_off() -> None:
    hour, day, month = spans(at("2026-05-01T00:10", "Asia/Kolkata"), "Asia/Kolkata")
    assert hour.starts == day.starts == month.starts == datetime(2026, 4, 30, 18, 30, tzinfo=UTC)
    assert hour.ends == datetime(2026, 4, 30, 19, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("moment", "starts", "ends"),
    [
        ("2026-01-31T23:59:59", "2026-01-01", "2026-02-01"),
        ("2028-02-29T12:00", "2028-02-01", "2028-03-01"),
        ("2026-12-31T23:59:59.999999", "2026-12-01", "2027-01-01"),
        ("2027-01-01T00:00", "2027-01-01", "2027-02-01"),
        ("2026-10-31T12:00", "2026-10-01", "2026-11-01"),
    ],
)
def test_months_are_those_of_the_calendar(moment: str, starts: str, ends: str) -> None:
    month = spans(at(moment), PARIS)[2]
    assert (month.starts, month.ends) == (at(starts), at(ends))


def test_a_month_of_the_zone_is_not_one_of_utc() -> None:
    month = spans(datetime(2026, 6, 30, 22, 30, tzinfo=UTC), PARIS)[2]
    assert month.id == f"month:{int(datetime(2026, 6, 30, 22, tzinfo=UTC).timestamp())}"


def test_a_moment_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        spans(datetime(2026, 1, 1), PARIS)  # noqa: DTZ001 - this is what is refused


@given(st.decimals(0, 10**9, places=12))
def test_micro_euros_are_rounded_up_and_by_less_than_one(eur: Decimal) -> None:
    micro = micro_up(eur)
    assert 0 <= micro - eur * 1_000_000 < 1


@pytest.mark.parametrize(
    ("eur", "micro"), [("0", 0), ("0.000000000001", 1), ("0.000001", 1), ("0.000001000001", 2), ("16.5", 16_500_000)]
)
def test_micro_euros(eur: str, micro: int) -> None:
    assert micro_up(Decimal(eur)) == micro


def test_whose_spending_a_request_counts_for() -> None:
    assert scopes(plane="online", bu="R&D", key="k1") == ("env", "plane:online", "bu:R&D", "key:k1")
    assert scopes(plane="batch", bu="sales", key=None) == ("env", "plane:batch", "bu:sales")


def test_a_budget_of_its_own_takes_the_place_of_the_general_one() -> None:
    small, large, own = (Budget(day_eur=Decimal(amount)) for amount in (1, 50, 7))
    budgets = Budgets(env=large, bu=small, bus={"sales": large}, key=small)
    sales = budgets.apply(plane="online", bu="sales", key="k1", own=own)
    assert sales == {"env": large, "plane:online": NO_LIMIT, "bu:sales": large, "key:k1": own}
    other = budgets.apply(plane="online", bu="other", key="k1")
    assert (other["bu:other"], other["key:k1"]) == (small, small)
    assert "key:k1" not in budgets.apply(plane="batch", bu="other", key=None)
    assert set(other) == set(scopes(plane="online", bu="other", key="k1"))
