"""Sizes: the specification's rows exactly, the next row between them, in proportion beyond, and by Little's law from a measurement."""

from __future__ import annotations

import itertools
from decimal import Decimal

import pytest

from pilotis.derive.sizing import MATRIX, bill, measured, size
from pilotis.errors import Invalid


@pytest.mark.parametrize(("rps", "row"), [(10, (2, "0.5", 2, "S", 1)), (50, (4, "1", 6, "M", 2)), (200, (8, "2", 16, "L", 3))])
def test_the_rows_of_the_specification(rps: int, row: tuple[int, str, int, str, int]) -> None:
    found = size(Decimal(rps))
    assert (found.api_pods, str(found.api_vcpu), found.workers, found.cache, found.shards) == row


def test_between_takes_the_next_row_and_beyond_grows_in_proportion() -> None:
    assert (size(Decimal("10.1")).api_pods, size(Decimal("10.1")).cache) == (4, "M")
    beyond = size(Decimal(500))
    assert (beyond.api_pods, beyond.workers, beyond.shards, beyond.vcpu) == (20, 40, 8, Decimal(40))


def test_more_requests_never_need_less_nor_cost_less() -> None:
    sizes = [size(Decimal(rps)) for rps in (1, 10, 11, 50, 51, 200, 201, 1000)]
    for one, other in itertools.pairwise(sizes):
        assert one.vcpu <= other.vcpu
        assert one.workers <= other.workers
        assert bill(one).total_eur <= bill(other).total_eur


def test_a_measured_capacity_gives_the_pods() -> None:
    # 120 x 1/10 s = 12 busy vCPUs; / 0.70 = 17.14; pods of 2 vCPUs: 9
    assert measured(Decimal(120), Decimal(10), Decimal("0.70")).api_pods == 9
    assert measured(Decimal(1), Decimal(1000)).api_pods == 2
    for capacity, share in (("0", "0.7"), ("-1", "0.7"), ("10", "0"), ("10", "1.1")):
        with pytest.raises(Invalid):
            measured(Decimal(1), Decimal(capacity), Decimal(share))


def test_a_pod_is_one_process_and_serves_no_more_than_that() -> None:
    # 120 / (9 x 0.70) = 19.05 pods, where 9 pods have the vCPUs; a process that serves 100/s changes nothing
    assert measured(Decimal(120), Decimal(10), Decimal("0.70"), rps_per_pod=Decimal(9)).api_pods == 20
    assert measured(Decimal(120), Decimal(10), Decimal("0.70"), rps_per_pod=Decimal(100)).api_pods == 9
    with pytest.raises(Invalid):
        measured(Decimal(1), Decimal(10), rps_per_pod=Decimal(0))


def test_a_month_of_the_first_row() -> None:
    # 1 + 2 vCPUs x 0.045 + 4 GiB x 0.005 = 0.155 EUR/h; 730 hours
    found = bill(MATRIX[0])
    assert (str(found.compute_eur), str(found.database_eur), str(found.cache_eur)) == ("113.15", "65.70", "58.40")
    assert bill(MATRIX[0], replicated=True).total_eur == Decimal("113.15") + 2 * (Decimal("65.70") + Decimal("58.40"))
    assert MATRIX[0].connections(50) == (2 + 2 + 2) * 50
