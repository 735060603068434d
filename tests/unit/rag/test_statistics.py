"""Intervals that hold what they promise, and a test that finds a difference where there is one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from pilotis.rag.statistics import bootstrap, enough_for_share, paired


def test_the_same_figures_give_the_same_interval() -> None:
    values = [(n * 37 % 101) / 101 for n in range(100)]
    assert bootstrap(values) == bootstrap(values)
    assert bootstrap(values, seed=1) != bootstrap(values)


def test_the_interval_of_a_share_is_the_textbook_one() -> None:
    found = bootstrap([1.0] * 80 + [0.0] * 20, resamples=20_000)
    half = 1.96 * (0.8 * 0.2 / 100) ** 0.5
    assert (found.value, found.n) == (0.8, 100)
    assert found.low == pytest.approx(0.8 - half, abs=0.011)
    assert found.high == pytest.approx(0.8 + half, abs=0.011)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(7)
    samples = random.random((300, 60)) < 0.7
    intervals = [bootstrap([float(one) for one in sample], resamples=500) for sample in samples]
    covered = sum(one.low <= 0.7 <= one.high for one in intervals)
    assert 0.90 <= covered / 300 <= 0.98


def test_a_quantile_has_an_interval_too() -> None:
    found = bootstrap([float(n) for n in range(1, 201)], share=0.95)
    assert found.value == pytest.approx(190.05)
    assert 180 < found.low < found.value < found.high <= 200


def test_a_long_run_does_not_need_long_memory() -> None:
    found = bootstrap([0.0, 1.0] * 50_000, resamples=100)
    assert found.low < 0.5 < found.high


def test_few_differences_are_tested_exactly() -> None:
    before, after = [0.0] * 5 + [1.0] * 4, [1.0] * 5 + [1.0] * 4
    found = paired(before, after)
    assert (found.up, found.down, found.n) == (5, 0, 9)
    assert found.effect == pytest.approx(5 / 9)
    assert found.p == 2 / 2**5  # only all up and all down are so large


def test_uneven_differences_are_tested_exactly() -> None:
    differences = [0.5, -0.25, 0.125, 0.75]
    found = paired([0.0] * 4, differences)
    seen = abs(sum(differences))
    signs = itertools.product((1, -1), repeat=4)
    as_large = sum(abs(sum(s * d for s, d in zip(row, differences, strict=True))) >= seen for row in signs)
    assert found.p == as_large / 16


def test_two_runs_alike_do_not_differ() -> None:
    found = paired([0.3, 0.4, 1.0], [0.3, 0.4, 1.0])
    assert (found.effect, found.low, found.high, found.p, found.up, found.down) == (0, 0, 0, 1, 0, 0)


def test_chance_alone_is_seldom_called_a_difference() -> None:
    random = np.random.default_rng(3)
    called = 0
    for _ in range(100):
        both = random.random((2, 40))
        called += paired(both[0].tolist(), both[1].tolist()).p < 0.05
    assert called <= 11


def test_a_real_difference_is_found_and_p_is_never_zero() -> None:
    random = np.random.default_rng(4)
    before = random.random(200)
    found = paired(before.tolist(), (before + 0.2 + 0.1 * random.random(200)).tolist())
    assert 0 < found.p < 0.001
    assert 0.2 < found.low < found.effect < found.high < 0.3


@pytest.mark.parametrize("given", [([], []), ([1.0], [1.0, 2.0]), ([float("nan")], [1.0])])
def test_figures_that_make_no_sense(given: tuple[list[float], list[float]]) -> None:
    with pytest.raises(ValueError, match=r"no values|figures|finite"):
        paired(*given)


@pytest.mark.parametrize(("limit", "needed"), [(0.9, 29), (0.95, 59), (0.5, 5), (0.99, 299), (0, 1)])
def test_how_many_questions_it_takes(limit: float, needed: int) -> None:
    assert enough_for_share(limit) == needed
    assert limit**needed <= 0.05
    assert limit == 0 or limit ** (needed - 1) > 0.05


def test_no_number_of_questions_shows_perfection() -> None:
    with pytest.raises(ValueError, match="is 1"):
        enough_for_share(1)
