from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotis.contract.deploy import Deploy
from pilotis.contract.model import Slo
from pilotis.contract.presets import default
from pilotis.control.gate import COMPARISONS, FALSE_ALARMS, FEWEST_QUESTIONS
from pilotis.control.judge import Finding, Gates, Verdict, gates, judge
from pilotis.derive.plan import derive
from pilotis.ports.releases import LATENCY_BOUNDS_MS, Traffic

NOW = datetime(2026, 11, 24, tzinfo=UTC)
BY = Gates(p95_ms=1600, hit_at_5=0.8, eur_per_req=0.02)
BUCKETS = len(LATENCY_BOUNDS_MS) + 1


def traffic(requests: int = 0, errors: int = 0, **more: Any) -> Traffic:
    return Traffic(since=NOW, until=NOW, requests=requests, errors=errors, **more)


def latency(requests: int, *, slow: float = 0.05, factor_up: int = 0) -> tuple[int, ...]:
    found, tail = [0] * BUCKETS, round(slow * requests)
    found[8 + factor_up], found[10 + factor_up] = requests - tail, tail
    return tuple(found)


def costs(paid: int, eur: str, spread: float = 0.5) -> Mapping[str, Any]:
    """So many answers at this mean, whose standard deviation is `spread` of it."""
    total = paid * Decimal(eur)
    return {"paid": paid, "cost_eur": total, "cost_sq": total * Decimal(eur) * Decimal(1 + spread**2)}


def golden(asked: int, both: int, won: int) -> Mapping[str, Any]:
    return {"asked": asked, "hits": both + won, "won": won}


def arm(requests: int, *, errors: float = 0.01, eur: str = "0.01", won: int = 0, **more: Any) -> Traffic:
    done = {"latency": latency(requests), **costs(requests * 7 // 10, eur), **golden(300, 270, won), **more}
    return traffic(requests, round(errors * requests), saturation=0.4, **done)


GOOD, STABLE = arm(200), arm(3800)


def of(verdict: Verdict, name: str, kind: str) -> Finding:
    return next(one for one in verdict.findings if (one.name, one.kind) == (name, kind))


def test_a_release_as_good_as_stable_passes_with_every_reason() -> None:
    verdict = judge(GOOD, STABLE, BY)

    assert verdict.outcome == "pass"
    assert {(one.name, one.kind) for one in verdict.findings} == {
        (name, kind) for name in ("errors", "latency", "cost", "quality") for kind in ("absolute", "relative")
    } | {("saturation", "absolute")}
    assert len(verdict.reasons) == len(verdict.findings)


@pytest.mark.parametrize(
    ("worse", "gate"),
    [
        (arm(200, errors=0.06), "errors"),
        (arm(200, latency=latency(200, slow=0.25)), "latency"),
        (arm(200, latency=latency(200, factor_up=1)), "latency"),
        (arm(200, eur="0.014"), "cost"),
        (arm(200, eur="0.03"), "cost"),
    ],
)
def test_a_worse_release_fails_by_the_gate_that_it_is_worse_in(worse: Traffic, gate: str) -> None:
    verdict = judge(worse, STABLE, BY)

    assert verdict.outcome == "fail"
    assert all(reason.startswith(gate) for reason in verdict.reasons)


def test_lost_golden_questions_fail_and_won_ones_do_not() -> None:
    lost = replace(STABLE, **golden(300, 270, 15))
    assert judge(GOOD, lost, BY).outcome == "fail"
    assert "lost" in judge(GOOD, lost, BY).reasons[0]

    won = judge(arm(200, won=15), STABLE, BY)
    assert won.outcome == "pass"


def test_one_error_in_twenty_is_no_proof() -> None:
    verdict = judge(traffic(20, 1), traffic(380, 0), Gates())

    found = of(verdict, "errors", "relative")
    assert verdict.outcome == found.outcome == "inconclusive"
    assert found.figures["fisher_p"] == pytest.approx(0.05)
    assert found.figures["evidence"] < found.figures["needed"] / 10


def test_a_burst_of_errors_fails_long_before_the_floor() -> None:
    verdict = judge(traffic(6, 6), traffic(114, 1), Gates())

    assert verdict.outcome == "fail"
    assert "6 of 6 (100 %) requests failed" in verdict.reasons[0]


@pytest.mark.parametrize(("mine", "others"), [(199, 3800), (200, 199)])
def test_below_the_floor_nothing_passes(mine: int, others: int) -> None:
    verdict = judge(arm(mine, errors=0), arm(others, errors=0), BY)

    assert verdict.outcome == "inconclusive"
    assert "of the 200 requests that a verdict needs" in verdict.reasons[0]


def test_a_full_sample_that_shows_neither_is_no_pass() -> None:
    verdict = judge(arm(200, errors=0.025), STABLE, BY)

    assert verdict.outcome == "inconclusive"
    assert "neither more nor under 4 % more is shown" in of(verdict, "errors", "relative").reason


def test_what_is_certain_and_does_not_matter_passes() -> None:
    by = replace(BY, error_rate=0.05)
    slightly = judge(arm(100_000, errors=0.013), arm(100_000), by)

    found = of(slightly, "errors", "relative")
    assert slightly.outcome == found.outcome == "pass"
    assert found.figures["evidence"] > found.figures["needed"]
    assert judge(arm(100_000, errors=0.021), arm(100_000), by).outcome == "fail"


def test_a_saturated_machine_is_no_excuse_beside_a_broken_stable() -> None:
    assert judge(replace(GOOD, saturation=0.95), replace(STABLE, saturation=0.95), BY, hard=True).outcome == "fail"


def test_nobody_could_say_is_an_error() -> None:
    assert judge(None, STABLE, BY).outcome == judge(GOOD, None, BY).outcome == "error"
    assert judge(None, None, BY, hard=True).outcome == "error"
    assert judge(GOOD, None, BY, hard=True).outcome == "pass"


def test_where_stable_is_broken_only_the_objectives_count() -> None:
    broken = traffic(3800, 3800)
    dear = arm(200, eur="0.018")

    assert judge(dear, STABLE, BY).outcome == "fail"
    verdict = judge(dear, broken, BY, hard=True)
    assert verdict.outcome == "pass"
    assert all(one.kind == "absolute" for one in verdict.findings)
    assert judge(arm(200, errors=0.06), broken, BY, hard=True).outcome == "fail"
    assert judge(arm(100), broken, BY, hard=True).outcome == "inconclusive"


def test_a_better_release_than_a_broken_stable_passes() -> None:
    assert judge(GOOD, arm(3800, errors=0.5), BY).outcome == "pass"


def test_a_cold_cache_is_no_dearer_answer() -> None:
    cold = arm(200, **costs(200, "0.01"))

    found = of(judge(cold, STABLE, BY), "cost", "relative")
    assert found.outcome == "pass"


def test_where_nothing_costs_anything_the_cost_passes() -> None:
    free = [replace(one, paid=0, cost_eur=Decimal(0), cost_sq=Decimal(0)) for one in (GOOD, STABLE)]
    verdict = judge(free[0], free[1], BY)

    assert verdict.outcome == "pass"
    assert "neither arm's answers cost anything" in of(verdict, "cost", "relative").reason


def test_answers_that_cost_where_stables_were_free_fail_unless_that_was_agreed() -> None:
    free = replace(STABLE, cost_eur=Decimal(0), cost_sq=Decimal(0))

    assert judge(GOOD, free, BY).outcome == "fail"
    assert judge(GOOD, free, replace(BY, dearer=None)).outcome == "pass"


def test_few_paid_answers_tell_nothing_of_the_cost() -> None:
    dear = arm(200, **costs(10, "0.5"))

    verdict = judge(dear, STABLE, BY)
    assert verdict.outcome == "inconclusive"
    assert "it takes 50" in of(verdict, "cost", "relative").reason


def test_three_golden_questions_can_never_tell() -> None:
    few = golden(3, 3, 0)
    verdict = judge(replace(GOOD, **few), replace(STABLE, **few), BY)

    assert verdict.outcome == "inconclusive"
    assert "can never tell" in of(verdict, "quality", "relative").reason
    assert FEWEST_QUESTIONS == 59


def test_no_golden_question_asked_is_no_pass_where_the_contract_has_an_objective() -> None:
    none = [replace(one, asked=0, hits=0) for one in (GOOD, STABLE)]

    assert judge(none[0], none[1], BY).outcome == "inconclusive"
    assert judge(none[0], none[1], replace(BY, hit_at_5=None)).outcome == "pass"


def test_a_p95_beyond_the_last_bound_is_not_met() -> None:
    slow = replace(GOOD, latency=(0,) * (BUCKETS - 1) + (200,))

    assert judge(slow, STABLE, BY).outcome == "fail"
    assert of(judge(slow, STABLE, replace(BY, p95_ms=60_000)), "latency", "absolute").outcome == "inconclusive"


@pytest.mark.parametrize(
    ("used", "beside", "outcome"),
    [(0.6, 0.6, "pass"), (0.95, 0.4, "fail"), (0.95, 0.93, "inconclusive"), (0.8, 0.4, "inconclusive"), (0.95, None, "fail")],
)
def test_saturation_is_the_releases_own(used: float, beside: float | None, outcome: str) -> None:
    verdict = judge(replace(GOOD, saturation=used), replace(STABLE, saturation=beside), replace(BY, cpu=0.7, ram=0.9))

    assert of(verdict, "saturation", "absolute").outcome == verdict.outcome == outcome


@pytest.mark.parametrize(
    "wrong",
    [
        replace(GOOD, errors=201),
        replace(GOOD, requests=-1, errors=-2),
        replace(GOOD, latency=(200,)),
        replace(GOOD, cost_eur=Decimal("NaN")),
        replace(GOOD, saturation=math.nan),
        replace(GOOD, paid=0),
        replace(GOOD, hits=301),
        replace(GOOD, hits=269),
        replace(GOOD, asked=299),
    ],
)
def test_figures_that_contradict_each_other_are_an_error(wrong: Traffic) -> None:
    verdict = judge(wrong, STABLE, BY)

    assert verdict.outcome == "error"
    assert verdict.reasons


def test_the_gates_are_those_of_the_contract() -> None:
    plan = derive(
        default().model_copy(
            update={
                "slo": Slo(error_rate=Decimal("0.002"), p95_ms=900, hit_at_5=Decimal("0.85")),
                "deploy": Deploy(stages=(10, 100), min_sample=500, rollback_on="never"),
            }
        )
    )
    found = gates(plan.env("prod"), plan.contract)

    assert (found.min_sample, found.stages, found.rolls_back) == (500, 2, False)
    assert (found.error_rate, found.p95_ms, found.hit_at_5) == (0.002, 900, 0.85)
    assert found.eur_per_req == 0.02  # the guardrail
    assert found.worse_errors == pytest.approx(0.008)
    assert math.exp(found.certainty) == pytest.approx(COMPARISONS * 2 / FALSE_ALARMS)


counts = st.integers(0, 3000)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Traffic, Traffic]:
    asked = draw(st.integers(0, 500))
    both = draw(st.integers(0, asked))
    won = draw(st.integers(0, asked - both))
    lost = draw(st.integers(0, asked - both - won))

    def one(more: int) -> Traffic:
        requests, paid = draw(counts), draw(counts)
        eur = Decimal(draw(st.sampled_from(["0", "0.000001", "0.01", "1", "100000"])))
        return traffic(
            requests,
            draw(st.integers(0, requests)),
            latency=tuple(draw(st.lists(st.integers(0, 400), min_size=BUCKETS, max_size=BUCKETS))),
            paid=paid,
            cost_eur=eur * paid,
            cost_sq=eur * eur * paid * draw(st.sampled_from([1, 2, 50])),
            saturation=draw(st.none() | st.floats(0, 2)),
            **golden(asked, both, more),
        )

    return one(won), one(lost)


any_gates = st.builds(
    Gates,
    min_sample=st.integers(1, 1000),
    error_rate=st.sampled_from([0.0, 0.001, 0.01, 0.5, 1.0]),
    p95_ms=st.none() | st.integers(1, 20_000),
    hit_at_5=st.sampled_from([None, 0.0, 0.8, 1.0]),
    eur_per_req=st.sampled_from([None, 1e-9, 0.02, 1e6]),
    dearer=st.sampled_from([None, 1.3]),
)


@settings(max_examples=150, deadline=None)
@given(pairs(), any_gates, st.booleans())
def test_every_figure_is_a_plain_finite_number(arms: tuple[Traffic, Traffic], by: Gates, hard: bool) -> None:
    verdict = judge(*arms, by, hard=hard)

    assert verdict.outcome != "error"
    assert verdict.reasons
    assert "nan" not in json.dumps(verdict.figures(), allow_nan=False).lower()


@settings(max_examples=100, deadline=None)
@given(pairs(), any_gates, st.integers(1, 3000), st.booleans())
def test_more_errors_never_make_a_verdict_better(arms: tuple[Traffic, Traffic], by: Gates, more: int, hard: bool) -> None:
    candidate, stable = arms
    worse = replace(candidate, errors=min(candidate.requests, candidate.errors + more))
    order = ("fail", "inconclusive", "pass")

    before, after = judge(candidate, stable, by, hard=hard).outcome, judge(worse, stable, by, hard=hard).outcome
    assert order.index(after) <= order.index(before)


@settings(max_examples=100, deadline=None)
@given(pairs(), any_gates)
def test_two_arms_that_did_exactly_the_same_never_fail_by_comparison(arms: tuple[Traffic, Traffic], by: Gates) -> None:
    one = replace(arms[0], hits=arms[0].hits - arms[0].won, won=0)

    assert all(found.outcome != "fail" for found in judge(one, one, by).findings if found.kind == "relative")


@settings(max_examples=60, deadline=None)
@given(pairs(), any_gates)
def test_no_data_never_passes(arms: tuple[Traffic, Traffic], by: Gates) -> None:
    for nothing in (traffic(), traffic(by.min_sample - 1)):
        assert judge(nothing, nothing, by).outcome != "pass"
        assert judge(nothing, nothing, by, hard=True).outcome != "pass"
        alone = replace(arms[0], asked=0, hits=0, won=0)
        assert judge(alone, nothing, by).outcome != "pass"
        assert judge(nothing, alone, by).outcome != "pass"


def ended(chance: np.random.Generator, *, errors: float = 0.01, slower: float = 1.0, dearer: float = 1.0) -> str:
    """One stage at 25 per cent with a look after every 25 requests of the candidate, to 1,500."""
    seen: dict[str, list[np.ndarray[Any, Any]]] = {"mine": [], "others": []}
    for _ in range(60):
        for name, n, rate, ms, eur in (("mine", 25, errors, slower, dearer), ("others", 75, 0.01, 1.0, 1.0)):
            seen[name].append(
                np.column_stack(
                    (chance.random(n) < rate, 400 * ms * chance.lognormal(0, 0.6, n), 0.01 * eur * chance.lognormal(0, 0.6, n))
                )
            )
        mine, others = (_traffic(np.concatenate(rows)) for rows in seen.values())
        outcome = judge(mine, others, Gates()).outcome
        if outcome != "inconclusive":
            return outcome
    return "held"


def _traffic(rows: np.ndarray[Any, Any]) -> Traffic:
    histogram = np.bincount(np.searchsorted(LATENCY_BOUNDS_MS, rows[:, 1]), minlength=BUCKETS)
    return traffic(
        len(rows),
        int(rows[:, 0].sum()),
        latency=tuple(int(n) for n in histogram),
        paid=len(rows),
        cost_eur=Decimal(float(rows[:, 2].sum())),
        cost_sq=Decimal(float((rows[:, 2] ** 2).sum())),
    )


@pytest.mark.parametrize(
    ("worse", "outcome"),
    [({}, "pass"), ({"errors": 0.05}, "fail"), ({"slower": 1.5}, "fail"), ({"dearer": 1.3}, "fail")],
)
def test_stages_end_as_they_should_nearly_always(worse: Mapping[str, float], outcome: str) -> None:
    runs = [ended(np.random.default_rng(seed), **worse) for seed in range(40)]

    assert runs.count(outcome) >= 37
