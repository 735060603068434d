from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from pilotis.control.slowness import quantile_ms, ratio, slowed, slower, slower_than, surely_slower
from pilotis.ports.releases import LATENCY_BOUNDS_MS as BOUNDS

NOTHING = (0,) * (len(BOUNDS) + 1)


def histogram(found: Mapping[int, int]) -> tuple[int, ...]:
    """Requests by the upper bound of their bucket; 0 for the one beyond the last."""
    return tuple(found.get(bound, 0) for bound in (*BOUNDS, 0))


def drawn(seed: int, size: int, median_ms: float, sigma: float = 0.6) -> tuple[int, ...]:
    ms = np.random.default_rng(seed).lognormal(np.log(median_ms), sigma, size)
    return tuple(int(n) for n in np.bincount(np.searchsorted(BOUNDS, ms), minlength=len(BOUNDS) + 1))


def test_quantiles_lie_within_their_bucket() -> None:
    found = histogram({200: 50, 300: 45, 400: 5})

    assert quantile_ms(found, 0.5) == pytest.approx(200)
    assert quantile_ms(found, 0.95) == pytest.approx(300)
    assert 150 < (quantile_ms(found, 0.25) or 0) < 200


def test_what_cannot_be_known_is_not_made_up() -> None:
    assert quantile_ms(NOTHING, 0.5) is None
    assert quantile_ms(histogram({BOUNDS[-1]: 90, 0: 10}), 0.95) is None
    assert slower_than(NOTHING, NOTHING) == slowed(NOTHING, NOTHING, 1.5) == 0
    assert slower_than(histogram({100: 5}), NOTHING) == 0
    assert ratio(None, None) == 1


@pytest.mark.parametrize("median_ms", [30, 400, 2000])
def test_quantiles_of_a_known_distribution(median_ms: int) -> None:
    found = drawn(1, 20_000, median_ms)

    assert quantile_ms(found, 0.5) == pytest.approx(median_ms, rel=0.06)
    assert quantile_ms(found, 0.95) == pytest.approx(median_ms * np.exp(0.6 * 1.645), rel=0.1)


def test_shares_beyond_a_time() -> None:
    found = histogram({200: 10, 300: 20, 0: 5})

    assert slower(found, 200) == surely_slower(found, 200) == 25
    assert slower(found, 250) == pytest.approx(5 + 20 * np.log(300 / 250) / np.log(300 / 200))
    assert surely_slower(found, 250) == 5
    assert slower(found, 1) == pytest.approx(35)


def test_the_slower_arm_is_told_and_the_same_one_is_not() -> None:
    stable = drawn(2, 3800, 400)

    assert slower_than(drawn(3, 200, 600), stable) > 6
    assert slower_than(drawn(4, 200, 400), stable) < 1
    assert slower_than(stable, stable) <= 0
    assert slower_than(drawn(5, 200, 250), stable) < 0


def test_a_slow_tail_is_told_where_the_middle_is_the_same() -> None:
    stable = histogram({200: 3600, 400: 200})

    assert slower_than(histogram({200: 170, 400: 30}), stable) > 6


def test_half_as_long_again_is_excluded_by_the_same_times_only() -> None:
    stable = drawn(2, 3800, 400)

    assert slowed(drawn(4, 200, 400), stable, 1.5) < -3 < 0 < slowed(drawn(3, 200, 600), stable, 1.5)


def test_all_in_one_bucket_show_nothing_to_tell_them_by() -> None:
    assert slower_than(histogram({200: 100}), histogram({200: 300})) == 0
