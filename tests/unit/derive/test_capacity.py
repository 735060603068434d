"""The knee of a measured rate, Little's law at it, and what is kept of it."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from pilotis.derive.capacity import Capacity, Step, knee


def steps(*rates: float, vcpu_s: float | None = None, processes: int | None = None) -> tuple[Step, ...]:
    return tuple(
        Step(callers=2**n, rps=rate, p50_ms=1, p95_ms=2, vcpu_s=vcpu_s, processes=processes) for n, rate in enumerate(rates)
    )


def capacity(*measured: Step) -> Capacity:
    return Capacity(
        date="2026-11-24T09:00:00+00:00", version="0.1.0", cores=2, url="http://[::1]:80", found=True, steps=measured
    )


@pytest.mark.parametrize(
    ("rates", "callers"),
    [
        ((50,), 1),
        ((50, 90, 92), 2),
        ((50, 52.5, 55.1), 2),
        ((50, 52.4, 90), 1),
        ((50, 90, 160), 4),
        ((50, 30), 1),
    ],
)
def test_the_knee_is_the_last_step_before_the_rate_grew_by_less_than_a_twentieth(
    rates: tuple[float, ...], callers: int
) -> None:
    assert knee(steps(*rates)).callers == callers


def test_there_is_no_knee_of_nothing() -> None:
    with pytest.raises(ValueError, match="no step"):
        knee(())


def test_littles_law_gives_the_time_in_service() -> None:
    # 4 callers, 160 answers a second: each is inside for 25 ms
    assert capacity(*steps(50, 90, 160)).knee.in_service_s == pytest.approx(0.025)


def test_a_vcpu_serves_by_the_processor_time_of_the_api_where_it_tells() -> None:
    told = capacity(*steps(50, 90, 92, vcpu_s=0.0125, processes=2))
    assert (told.rps_per_vcpu, told.rps_per_process, told.basis) == (Decimal(80), Decimal(45), "the API's own processor time")


def test_it_serves_by_all_vcpus_of_the_machine_where_not() -> None:
    silent = capacity(*steps(50, 90, 92))
    assert (silent.rps_per_vcpu, silent.rps_per_process, silent.basis) == (Decimal(45), None, "all 2 vCPUs of the machine")


def test_what_is_kept_comes_back() -> None:
    for found in (capacity(*steps(50, 90, vcpu_s=0.01, processes=1)), capacity(*steps(50))):
        assert Capacity.from_document(json.loads(json.dumps(found.document()))) == found


@pytest.mark.parametrize(
    "change",
    [
        {"steps": []},
        {"steps": [{"callers": 1}]},
        {"steps": [{"callers": 1, "rps": 0, "p50_ms": 1, "p95_ms": 1}]},
        {"cores": "x"},
    ],
)
def test_what_was_not_kept_is_refused(change: dict[str, object]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        Capacity.from_document(capacity(*steps(50)).document() | change)
