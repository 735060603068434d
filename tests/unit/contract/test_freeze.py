"""Windows in which nothing is released: by the clocks of the contract's zone, over the week's end, on days of the calendar."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from pilotis.contract import freeze
from pilotis.contract.load import ContractFaults, parse

WEEKEND = "fri 16:00-mon 08:00"


@pytest.mark.parametrize(
    ("at", "frozen"),
    [
        ("2026-11-20T14:59:59+00:00", False),  # a Friday, 15:59:59 in Paris
        ("2026-11-20T15:00:00+00:00", True),
        ("2026-11-22T23:59:00+00:00", True),  # Monday has begun in Paris
        ("2026-11-23T06:59:59+00:00", True),
        ("2026-11-23T07:00:00+00:00", False),
        ("2026-07-03T14:00:00+00:00", True),  # summer time: 16:00 in Paris
        ("2026-07-03T13:59:00+00:00", False),
    ],
)
def test_a_weekly_window_goes_by_the_clocks_of_the_zone(at: str, frozen: bool) -> None:
    assert bool(freeze.in_force([WEEKEND], datetime.fromisoformat(at), zone="Europe/Paris")) is frozen


def test_of_days_both_are_in_it() -> None:
    windows = ["tue 00:00-tue 01:00", "2026-12-24/2027-01-02"]
    for day, frozen in (("2026-12-23", ""), ("2026-12-24", windows[1]), ("2027-01-02", windows[1]), ("2027-01-03", "")):
        assert freeze.in_force(windows, datetime.fromisoformat(f"{day}T12:00:00+01:00"), zone="Europe/Paris") == frozen


@pytest.mark.parametrize(
    "text", ["fri 16:00", "fri 24:00-mon 08:00", "fri 16:00-fri 16:00", "2026-12-24", "2027-01-02/2026-12-24", ""]
)
def test_what_is_no_window_is_refused_with_the_way_to_write_it(text: str) -> None:
    with pytest.raises(ContractFaults, match="is no window of time") as refused:
        parse(f'[deploy]\nfreeze = ["{text}"]\n', Path("pilotis.toml"))
    assert "deploy.freeze[0]" in refused.value.message
    assert "fri 16:00-mon 08:00" in str(refused.value.faults[0])
