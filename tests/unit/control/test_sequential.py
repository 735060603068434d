from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotis.control.sequential import exceeds, exceeds_mean, fisher, harmed, harmed_mean, least, mean

SHARES = (0.01, 0.05, 0.25, 0.5, 0.9)


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("trials", [1, 7, 60])
def test_where_nothing_is_worse_the_ratio_is_1_on_average(share: float, trials: int) -> None:
    ratio = sum(
        math.comb(trials, hits) * share**hits * (1 - share) ** (trials - hits) * math.exp(exceeds(hits, trials, share))
        for hits in range(trials + 1)
    )

    assert ratio == pytest.approx(1)


@pytest.mark.parametrize(("mine", "others", "events"), [(20, 380, 5), (50, 50, 30), (10, 30, 12)])
def test_it_is_1_at_most_where_the_events_were_dealt_to_two_arms(mine: int, others: int, events: int) -> None:
    deals = math.comb(mine + others, events)
    ratio = sum(
        math.comb(mine, hits)
        * math.comb(others, events - hits)
        / deals
        * math.exp(exceeds(hits, events, mine / (mine + others)))
        for hits in range(events + 1)
    )

    assert ratio <= 1 + 1e-9


def test_looking_after_every_request_raises_few_false_alarms() -> None:
    import numpy as np

    share, looks, proof = 0.05, 2000, 20
    runs = (np.random.default_rng(1).random((200, looks)) < share).cumsum(axis=1)
    rose = sum(any(exceeds(int(run[n]), n + 1, share) > math.log(proof) for n in range(0, looks, 10)) for run in runs)

    # A test at 5 % that is made anew at each look is wrong in a third of such runs.
    assert rose / len(runs) <= 1 / proof


@given(st.integers(0, 500), st.integers(1, 500), st.floats(0.001, 0.999))
def test_more_hits_are_stronger_evidence(hits: int, more: int, share: float) -> None:
    trials = hits + more

    assert exceeds(hits + 1, trials, share) > exceeds(hits, trials, share)
    assert exceeds(hits + 1, trials + 1, share) > exceeds(hits, trials, share)


@given(st.integers(0, 300), st.integers(0, 300))
def test_the_lowest_share_is_one_that_is_just_not_refuted(hits: int, misses: int) -> None:
    certainty, trials = math.log(480), hits + misses
    found = least(hits, trials, certainty)

    assert 0 <= found <= (hits / trials if trials else 0)
    if found > 0:
        assert exceeds(hits, trials, found) == pytest.approx(certainty, abs=1e-6)


def test_nothing_to_go_by_says_nothing() -> None:
    assert exceeds(0, 0, 0.5) == 0
    assert exceeds(3, 3, 1) == 0
    assert exceeds(0, 3, 0) == 0
    assert exceeds(1, 3, 0) == math.inf
    assert least(0, 0, 6) == 0


def test_the_mean_of_ratios_is_taken_without_overflow() -> None:
    assert mean([0.0, math.log(3)]) == pytest.approx(math.log(2))
    assert mean([5000.0, 0.0]) == pytest.approx(5000 - math.log(2))
    assert mean([math.inf, 0.0]) == math.inf


def test_fisher_as_it_is_known() -> None:
    assert fisher(1, 20, 0, 380) == pytest.approx(0.05)
    assert fisher(3, 4, 1, 4) == pytest.approx(17 / 70)  # the lady tasting tea
    assert fisher(0, 10, 5, 10) == pytest.approx(1)
    assert fisher(0, 0, 0, 0) == 1
    assert 0 < fisher(3000, 100_000, 2500, 100_000) < 1e-9


def test_harm_is_told_from_none_in_both_directions() -> None:
    assert harmed(2, 200, 0.01, 0.05) < math.log(0.05) < 0 < harmed(10, 200, 0.01, 0.05)
    assert harmed_mean(0.0, 0.1, 0.3) == pytest.approx(-4.5)
    assert harmed_mean(0.3, 0.1, 0.3) == pytest.approx(4.5)
    assert exceeds_mean(0.3, 0.05, 1.0) > 10
    assert exceeds_mean(0.0, 0.05, 1.0) < 0
