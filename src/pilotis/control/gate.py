"""What a release is held to: the objectives of the contract and the release that it would replace, gate by gate.

Each comparison with stable has three ends. It fails once the evidence of harm is certain and the harm is one that matters; it passes once
a harm of the size stated in `Gates` is as good as excluded; between these it is inconclusive, and more requests tell. An objective is
missed once that is certain, and met where the figures speak for it rather than against it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pilotis.contract.model import Contract
from pilotis.control import slowness
from pilotis.control.sequential import exceeds, exceeds_mean, fisher, harmed, harmed_mean, least
from pilotis.derive.plan import Env
from pilotis.ports.releases import LATENCY_BOUNDS_MS, Outcome, Traffic
from pilotis.rag.statistics import enough_for_share

Name = Literal["errors", "latency", "cost", "quality", "saturation"]
FALSE_ALARMS = 0.05
"""Of whole rollouts of releases that do no harm, the part that may be called back, at most."""
COMPARISONS = 8
"""Those that could raise one: errors, latency, cost and quality, each against stable and against its objective."""
OVERLOOKED = math.log(0.05)
"""A harm of the stated size counts as excluded where it is less likely than none by this ratio."""
ALIKE = 0.05
"""Two arms whose saturation differs by less share the machine that is saturated."""
BURN_IN = 50
"""Answers an arm must have paid for before the mean of their costs is taken for normal."""
FEWEST_QUESTIONS = enough_for_share(0.95)
"""Golden questions of which not one may be lost to show that under 5 in 100 are."""
DOUBLED = 2
"""Errors that are proven more, but not so many times as many, are no reason to go back."""
LARGEST_FIGURE = 1e12


@dataclass(frozen=True, slots=True, kw_only=True)
class Gates:
    """What the contract asks of a release. None where it states no such objective."""

    min_sample: int = 200
    """Requests of each arm below which nothing passes."""
    stages: int = 3
    rolls_back: bool = True
    """Whether a failure sends the release back by itself; the verdict is the same either way."""
    error_rate: float = 0.01
    p95_ms: int | None = None
    hit_at_5: float | None = None
    eur_per_req: float | None = None
    cpu: float = 0.7
    ram: float = 0.7
    worse_errors: float = 0.04
    """A harm: so much more of all requests fail than with stable, 0.04 for 4 in 100."""
    slower: float = 1.5
    """A harm: P95 times this."""
    dearer: float | None = 1.3
    """A harm: the cost of a paid answer times this. None where a higher price was agreed to: then only the objective counts."""
    missed: float = 0.05
    """A harm: so much less hit@5."""

    @property
    def certainty(self) -> float:
        """Natural logarithm of the likelihood ratio that is proof of what begins anew at each stage: all share the false alarms."""
        return math.log(COMPARISONS * self.stages / FALSE_ALARMS)

    @property
    def certainty_once(self) -> float:
        """That of what is asked once a rollout: the golden questions."""
        return math.log(COMPARISONS / FALSE_ALARMS)


def gates(env: Env, contract: Contract) -> Gates:
    """What `[slo]` and `[deploy]` say for this env."""
    slo, deploy = contract.slo, contract.deploy
    limit = slo.eur_per_req or env.guardrail_eur_per_req
    return Gates(
        min_sample=deploy.min_sample,
        stages=len(deploy.stages),
        rolls_back=deploy.rollback_on == "slo_breach",
        error_rate=float(slo.error_rate),
        p95_ms=slo.p95_ms,
        hit_at_5=None if slo.hit_at_5 is None else float(slo.hit_at_5),
        eur_per_req=None if limit is None else float(limit),
        cpu=float(slo.cpu),
        ram=float(slo.ram),
        worse_errors=min(0.04, max(0.005, 4 * float(slo.error_rate))),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one gate says, in a sentence with its figures and units."""

    name: Name
    kind: Literal["absolute", "relative"]
    outcome: Outcome
    reason: str
    figures: Mapping[str, Any]
    """Plain JSON values. `evidence` is a likelihood ratio to 1, `needed` the one that is proof."""


def by_objectives(candidate: Traffic, stable: Traffic | None, by: Gates) -> Iterator[Finding]:
    """The candidate against the contract; `stable` only tells whether a saturated machine is one that both share."""
    yield _errors(candidate, by)
    if by.p95_ms is not None:
        yield _p95(candidate, by.p95_ms, by)
    if by.eur_per_req is not None:
        yield _price(candidate, by.eur_per_req, by)
    if by.hit_at_5 is not None:
        yield _hits(candidate, by.hit_at_5, by)
    if candidate.saturation is not None:
        yield _saturation(candidate, candidate.saturation, stable, by)


def by_comparison(candidate: Traffic, stable: Traffic, by: Gates) -> Iterator[Finding]:
    """The candidate against the release that serves, in the same window."""
    yield _more_errors(candidate, stable, by)
    yield _slower(candidate, stable, by)
    if by.dearer is not None:
        yield _dearer(candidate, stable, by.dearer, by)
    if candidate.asked or by.hit_at_5 is not None:
        yield _missed(candidate, stable, by)


def _errors(candidate: Traffic, by: Gates) -> Finding:
    errors, requests, limit = candidate.errors, candidate.requests, by.error_rate
    evidence = exceeds(errors, requests, limit)
    usual = min(max(limit, 1e-6), 0.9)
    excluded = harmed(errors, requests, usual, usual + min(by.worse_errors, (1 - usual) / 2)) <= OVERLOOKED
    fine = evidence <= 0 and (excluded or limit >= 0.9)
    lowest = least(errors, requests, by.certainty)
    said = f"{_of(errors, requests)} requests failed; the objective is at most {_percent(limit)}"
    outcome = _outcome(evidence >= by.certainty, fine)
    tail = {
        "fail": f", and at least {_percent(lowest)} is certain",
        "pass": _by_chance(errors > limit * requests),
        "inconclusive": ": too few to tell",
    }[outcome]
    figures = {"errors": errors, "requests": requests, "limit": limit, "least": lowest} | _evidence(evidence, by.certainty)
    return Finding(name="errors", kind="absolute", outcome=outcome, reason=said + tail, figures=figures)


def _more_errors(candidate: Traffic, stable: Traffic, by: Gates) -> Finding:
    mine, others = (candidate.errors, candidate.requests), (stable.errors, stable.requests)
    both = candidate.requests + stable.requests
    evidence = exceeds(mine[0], mine[0] + others[0], candidate.requests / both) if both else 0.0
    doubled = mine[0] * others[1] >= DOUBLED * others[0] * mine[1]
    usual = (others[0] + 0.5) / (others[1] + 1)
    harm = usual + min(by.worse_errors, (1 - usual) / 2)
    fine = others[1] > 0 and harmed(*mine, usual, harm) <= OVERLOOKED
    outcome = _outcome(evidence >= by.certainty and doubled, fine)
    said = f"{_of(*mine)} requests failed, {_of(*others)} of stable's"
    tail = {
        "fail": f": more, at {_odds(evidence)}",
        "pass": f": {_percent(by.worse_errors)} more is excluded",
        "inconclusive": f": neither more nor under {_percent(by.worse_errors)} more is shown",
    }[outcome]
    figures = {"candidate": _share(*mine), "stable": _share(*others), "fisher_p": _p(mine, others)} | _evidence(
        evidence, by.certainty
    )
    return Finding(name="errors", kind="relative", outcome=outcome, reason=said + tail, figures=figures)


def _p95(candidate: Traffic, limit_ms: int, by: Gates) -> Finding:
    counts = candidate.latency
    measured, slow = sum(counts), slowness.surely_slower(counts, limit_ms)
    p95 = slowness.quantile_ms(counts, 1 - slowness.SLOW)
    evidence = exceeds(slow, measured, slowness.SLOW)
    fine = exceeds(slowness.slower(counts, limit_ms), measured, slowness.SLOW) <= 0 and measured >= by.min_sample
    outcome = _outcome(evidence >= by.certainty, fine)
    shown = f"over {LATENCY_BOUNDS_MS[-1]:,} ms" if p95 is None else f"about {p95:.0f} ms"
    said = f"P95 is {shown} over {measured:,} requests" if measured else "no latency was measured"
    said += f"; the objective is {limit_ms:,} ms"
    if outcome == "fail":
        said += f", and {_of(slow, measured)} took longer for certain, at {_odds(evidence)}"
    elif outcome == "inconclusive" and measured:
        said += ": that is no certainty yet"
    elif outcome == "pass":
        said += _by_chance(p95 is None or p95 > limit_ms)
    figures = {"p95_ms": p95, "limit_ms": limit_ms, "slower": slow, "measured": measured} | _evidence(evidence, by.certainty)
    return Finding(name="latency", kind="absolute", outcome=outcome, reason=said, figures=figures)


def _slower(candidate: Traffic, stable: Traffic, by: Gates) -> Finding:
    mine, others = candidate.latency, stable.latency
    evidence = slowness.slower_than(mine, others)
    ratios = {
        name: slowness.ratio(slowness.quantile_ms(mine, share), slowness.quantile_ms(others, share))
        for name, share in (("p50", 0.5), ("p95", 1 - slowness.SLOW))
    }
    matters = max(ratios.values()) >= math.sqrt(by.slower)
    fine = slowness.slowed(mine, others, by.slower) <= OVERLOOKED
    outcome = _outcome(evidence >= by.certainty and matters, fine)
    said = (
        f"P50 is {ratios['p50']:.2f} and P95 {ratios['p95']:.2f} times stable's, over {sum(mine):,} and {sum(others):,} requests"
        if sum(mine) and sum(others)
        else "no latency was measured on one of the arms"
    )
    tail = {
        "fail": f": slower, at {_odds(evidence)}",
        "pass": f": P95 × {by.slower:g} is excluded",
        "inconclusive": f": neither slower nor under × {by.slower:g} is shown",
    }[outcome]
    figures = {
        "p50_ratio": ratios["p50"],
        "p95_ratio": ratios["p95"],
        "measured": [sum(mine), sum(others)],
    } | _evidence(evidence, by.certainty)
    return Finding(name="latency", kind="relative", outcome=outcome, reason=said + tail, figures=figures)


def _price(candidate: Traffic, limit: float, by: Gates) -> Finding:
    paid, mean, spread = _costs(candidate)
    certain = paid >= BURN_IN
    evidence = exceeds_mean(mean - limit, math.sqrt(_floored(spread, limit) / paid), limit) if certain else 0.0
    free = mean == 0 and candidate.requests >= by.min_sample
    outcome = _outcome(evidence >= by.certainty, free or (certain and evidence <= 0))
    said = f"a paid answer costs {mean:.6f} EUR on average, over {paid:,}; the objective is at most {limit:.6f} EUR"
    if free:
        said = "nothing had to be paid for its answers"
    elif outcome == "fail":
        said += f": dearer, at {_odds(evidence)}"
    elif outcome == "inconclusive":
        said += ": no certainty yet" if certain else f": it takes {BURN_IN} to tell"
    else:
        said += _by_chance(mean > limit)
    figures = {"mean_eur": mean, "paid": paid, "limit_eur": limit} | _evidence(evidence, by.certainty)
    return Finding(name="cost", kind="absolute", outcome=outcome, reason=said, figures=figures)


def _dearer(candidate: Traffic, stable: Traffic, dearer: float, by: Gates) -> Finding:
    (paid, mean, spread), (others, usual, other_spread) = _costs(candidate), _costs(stable)
    figures: dict[str, Any] = {"mean_eur": mean, "stable_mean_eur": usual, "paid": [paid, others]}
    certain, evidence, fine = min(paid, others) >= BURN_IN, 0.0, False
    if mean == usual == 0 and (certain or min(candidate.requests, stable.requests) >= by.min_sample):
        figures |= _evidence(evidence, by.certainty)
        return Finding(
            name="cost", kind="relative", outcome="pass", reason="neither arm's answers cost anything", figures=figures
        )
    if certain:
        unit, rise = usual or mean, mean - usual
        # Both the spread that the arms show together and that of each: a few dear answers on a small arm are no proof.
        pooled = (paid * spread + others * other_spread) / (paid + others)
        own = spread / paid + other_spread / others
        error = math.sqrt(max(own, _floored(pooled, unit) * (1 / paid + 1 / others)))
        evidence = exceeds_mean(rise, error, unit) if rise > 0 else 0.0
        fine = harmed_mean(rise, error, (dearer - 1) * unit) <= OVERLOOKED
    outcome = _outcome(evidence >= by.certainty and mean >= usual * math.sqrt(dearer), fine)
    said = f"a paid answer costs {mean:.6f} EUR over {paid:,}, stable's {usual:.6f} EUR over {others:,}"
    tail = {
        "fail": f": dearer, at {_odds(evidence)}",
        "pass": f": × {dearer:g} is excluded",
        "inconclusive": f": it takes {BURN_IN} of each to tell"
        if not certain
        else f": neither dearer nor under × {dearer:g} is shown",
    }[outcome]
    figures |= {"ratio": mean / usual if usual else None} | _evidence(evidence, by.certainty)
    return Finding(name="cost", kind="relative", outcome=outcome, reason=said + tail, figures=figures)


def _hits(candidate: Traffic, limit: float, by: Gates) -> Finding:
    hits, asked = candidate.hits, candidate.asked
    evidence = exceeds(asked - hits, asked, 1 - limit)
    outcome = _outcome(evidence >= by.certainty_once, asked >= FEWEST_QUESTIONS and evidence <= 0)
    said = f"hit@5 is {_of(hits, asked)} golden questions; the objective is {_percent(limit)}"
    if outcome == "fail":
        said += f": worse, at {_odds(evidence)}"
    elif outcome == "inconclusive":
        said += f": {_too_few(asked)}"
    else:
        said += _by_chance(hits < limit * asked)
    figures = {"hits": hits, "asked": asked, "limit": limit} | _evidence(evidence, by.certainty_once)
    return Finding(name="quality", kind="absolute", outcome=outcome, reason=said, figures=figures)


def _missed(candidate: Traffic, stable: Traffic, by: Gates) -> Finding:
    asked, won, lost = candidate.asked, candidate.won, stable.won
    evidence = exceeds(lost, lost + won, 0.5)
    usual = ((lost + won) / 2 + 0.5) / (asked + 1)
    fine = asked >= FEWEST_QUESTIONS and harmed(lost, asked, usual, usual + by.missed * (1 - usual)) <= OVERLOOKED
    matters = lost - won >= by.missed / 2 * asked
    outcome = _outcome(evidence >= by.certainty_once and matters, fine)
    said = f"of {asked:,} golden questions {lost:,} lost their document among the first five and {won:,} won it"
    points = f"{100 * by.missed:g} points less hit@5"
    tail = {
        "fail": f": worse, at {_odds(evidence)}",
        "pass": f": {points} is excluded",
        "inconclusive": f": {_too_few(asked)}",
    }[outcome]
    figures = {"asked": asked, "lost": lost, "won": won, "points": 100 * (won - lost) / asked if asked else None}
    return Finding(
        name="quality",
        kind="relative",
        outcome=outcome,
        reason=said + tail,
        figures=figures | _evidence(evidence, by.certainty_once),
    )


def _saturation(candidate: Traffic, used: float, stable: Traffic | None, by: Gates) -> Finding:
    low, high = sorted((by.cpu, by.ram))
    beside = None if stable is None else stable.saturation
    said = f"processor or memory were in use to {_percent(used)}; healthy is up to {_percent(low)}"
    outcome: Outcome
    if used <= low:
        outcome = "pass"
    elif used <= high:
        outcome, said = "inconclusive", f"{said} of one and {_percent(high)} of the other, and which it is was not measured"
    elif candidate.requests < by.min_sample:
        outcome, said = "inconclusive", f"{said}: a peak, or more, over only {candidate.requests:,} requests"
    elif beside is not None and used < beside + ALIKE:
        outcome, said = "inconclusive", f"{said}: stable's are at {_percent(beside)}, so that it is not this release"
    else:
        outcome = "fail"
    figures = {"saturation": used, "stable": beside, "limit": low}
    return Finding(name="saturation", kind="absolute", outcome=outcome, reason=said, figures=figures)


def _outcome(failed: bool, fine: bool) -> Literal["fail", "pass", "inconclusive"]:
    return "fail" if failed else "pass" if fine else "inconclusive"


def _costs(arm: Traffic) -> tuple[int, float, float]:
    """How many answers were paid, the mean of their costs (EUR) and their variance (EUR²)."""
    if not arm.paid:
        return 0, 0.0, 0.0
    mean = arm.cost_eur / arm.paid
    return arm.paid, float(mean), max(0.0, float((arm.cost_sq - arm.cost_eur * mean) / max(1, arm.paid - 1)))


def _floored(spread: float, unit: float) -> float:
    """A variance that is never 0: answers that all cost the same are taken to differ by a twentieth."""
    return max(spread, (unit / 20) ** 2)


def _by_chance(beyond: bool) -> str:
    return ", and chance alone explains that" if beyond else ""


def _too_few(asked: int) -> str:
    if asked < FEWEST_QUESTIONS:
        return f"so few questions can never tell, it takes {FEWEST_QUESTIONS} at least"
    return "neither worse nor as good is shown"


def _evidence(log_ratio: float, certainty: float) -> dict[str, float]:
    return {"evidence": round(_ratio(log_ratio), 3), "needed": round(math.exp(certainty), 3)}


def _ratio(log_ratio: float) -> float:
    return math.exp(min(log_ratio, math.log(LARGEST_FIGURE)))


def _odds(log_ratio: float) -> str:
    return f"{_ratio(log_ratio):,.0f} to 1"


def _p(mine: tuple[int, int], others: tuple[int, int]) -> float:
    return round(fisher(*mine, *others), 6)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _of(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,}" + (f" ({_percent(part / whole)})" if whole else "")


def _percent(share: float) -> str:
    return f"{100 * share:.4g} %"
